"""@job refuses what it cannot make a job of, and options that nothing would read."""

from __future__ import annotations

import ast
import functools
import math
from collections.abc import Callable
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest

from pyres import decorators, job, schedule
from pyres.exceptions import BadOptionError, NotAJobError
from pyres.job_settings import SETTINGS, check
from tests.servers import ROOT


def plain() -> None: ...


class Performs:
    @staticmethod
    def perform() -> None: ...


class Strict:
    queue = "mail"
    timeout = "1m"

    @staticmethod
    def perform() -> None: ...


def fresh() -> Callable[[], None]:
    """A function that no other test has made a job."""

    def function() -> None: ...

    return function


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("retry_limt", "retry_limit"),
        ("tiemout", "timeout"),
        ("retries_every", "retry_every"),
        ("unique", "unique_for"),
        ("backof_strategy", "backoff_strategy"),
        ("befor_perform", "before_perform"),
        ("on_failur", "on_failure"),
        ("crn", "cron"),
        ("queues", "queue"),
    ],
)
def test_a_misspelt_option_is_refused_with_the_closest_one(option, meant):
    with pytest.raises(
        BadOptionError, match=f"^invalid option '{option}' of @job: did you mean '{meant}'\\?$"
    ):
        job(queue="mail", **{option: 3})


def test_an_unknown_option_is_refused_with_all_that_exist():
    with pytest.raises(BadOptionError, match="'xyz' of @job: expected one of timeout, .*queue, "):
        job(queue="mail", xyz=1)


BAD = {
    "timeout": ["1m", -1, math.nan, -math.inf, [1], timedelta(seconds=1), True],
    "retry_every": ["5", -1],
    "retry_timeout": ["1h", -2],
    "retry_limit": ["3", 2.5, True],
    "retry_delay": ["1", -1],
    "retry_jitter": ["1", -1],
    "backoff_strategy": ["60", 60, [1, "2"], [1, -2]],
    "retry_exceptions": ["ValueError", [int], 5, ("ValueError",)],
    "fatal_exceptions": [ValueError(), [object]],
    "retry_dirty_exit": ["yes", 2],
    "unique_for": ["60", 0, -1, True, timedelta(0), math.nan],
    "unique_until": ["end", 5, []],
}

GOOD = {
    "timeout": [0, 1.5, 60, False, Fraction(1, 2)],
    "retry_every": [0, 5, 0.5],
    "retry_timeout": [0, 30],
    "retry_limit": [-1, 0, 5],
    "retry_delay": [0, 2.5],
    "retry_jitter": [0, 3],
    "backoff_strategy": [[], [0, 1.5], (60, 600), range(1, 4)],
    "retry_exceptions": [ValueError, [ValueError, OSError], (), {KeyError}],
    "fatal_exceptions": [KeyboardInterrupt, (ValueError,)],
    "retry_dirty_exit": [True, False],
    "unique_for": [1, 0.5, timedelta(minutes=1)],
    "unique_until": ["", "start", "done"],
}


@pytest.mark.parametrize(
    ("setting", "value"), [(name, value) for name in BAD for value in BAD[name]]
)
def test_a_value_that_a_setting_cannot_have_is_refused_by_name(setting, value):
    with pytest.raises(BadOptionError) as refused:
        job(queue="mail", **{setting: value})
    assert str(refused.value) == f"invalid {setting} {value!r}: expected {SETTINGS[setting][0]}"

    with pytest.raises(BadOptionError, match=f"^app.Mail: invalid {setting} "):
        check(setting, value, "app.Mail")


@pytest.mark.parametrize(
    ("setting", "value"), [(name, value) for name in GOOD for value in [*GOOD[name], None]]
)
def test_a_value_that_a_setting_can_have_becomes_an_attribute(setting, value):
    target = job(queue="mail", **{setting: value})(fresh())

    assert getattr(target, setting) == value


def test_the_text_of_a_refusal_says_what_was_expected():
    with pytest.raises(BadOptionError) as refused:
        job(queue="mail", timeout="1m")
    assert str(refused.value) == "invalid timeout '1m': expected a number of seconds, 0 or more"


def test_every_setting_is_tested_good_and_bad():
    assert SETTINGS.keys() == GOOD.keys() == BAD.keys()


def test_every_attribute_that_is_read_of_a_job_class_is_a_setting():
    """So that @job knows what a newer part of pyres reads."""
    others = {"queue", "perform", "wire_name", "resq", "before_perform", "after_perform"}

    assert _read_attributes() - others == SETTINGS.keys()


def _read_attributes() -> set[str]:
    """The names in `getattr(target, "name", ...)` and the like, of all of pyres."""
    names = set()
    for file in ROOT.glob("pyres/**/*.py"):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr":
                whose = ast.unparse(node.args[0])
                name = node.args[1]
                if whose in WHOSE and isinstance(name, ast.Constant):
                    names.add(name.value)
    return {name for name in names if not name.startswith("__")}


#: What pyres calls a job's class where it reads attributes of it.
WHOSE = {"target", "klass", "self._target", "job.load()", "loading.loaded(name)"}


def test_settings_of_the_class_itself_are_checked_too():
    with pytest.raises(BadOptionError, match="invalid timeout '1m': expected a number"):
        job()(Strict)


def test_hooks_may_be_passed_and_must_be_functions():
    called: list[Any] = []
    target = job(queue="mail", on_failure_tell=called.append, before_enqueue=called.append)(fresh())

    assert target.on_failure_tell == target.before_enqueue == called.append
    with pytest.raises(BadOptionError, match="invalid after_perform_log 'x': expected a function"):
        job(queue="mail", after_perform_log="x")


def test_job_without_parentheses_is_an_error_that_says_so():
    for bare in (plain, Performs, lambda: None):
        with pytest.raises(TypeError, match=r'@job needs parentheses: @job\(queue="..."\)'):
            job(bare)
        with pytest.raises(TypeError, match="@job needs parentheses"):
            decorators.job(bare)
    assert not hasattr(plain, "perform")


@pytest.mark.parametrize("queue", ["", 5, ["mail"], b"mail"])
def test_an_invalid_queue_name_is_refused(queue):
    with pytest.raises(BadOptionError, match="invalid queue .*: expected a name"):
        job(queue=queue)


@pytest.mark.parametrize("name", ["", 5, b"Mail", plain])
def test_an_invalid_name_is_refused(name):
    with pytest.raises(BadOptionError, match="invalid name .*: expected a name"):
        job(queue="mail", name=name)


@pytest.mark.parametrize("options", [{}, {"timeout": 5}, {"every": "1h", "name": "Hourly"}])
def test_a_job_that_names_no_queue_is_refused_where_it_is_decorated(options):
    for target in (fresh(), type("Job", (Performs,), {})):
        with pytest.raises(BadOptionError, match="invalid queue None of .*: expected a name"):
            job(**options)(target)
        assert "wire_name" not in vars(target)


@pytest.mark.usefixtures("own_jobs")
def test_a_queue_of_the_class_or_a_name_to_enqueue_by_is_sufficient():
    class WithQueue(Performs):
        queue = "mail"

    assert job()(WithQueue).queue == "mail"
    assert job(name="ForRuby")(fresh()).wire_name == "ForRuby"


@pytest.mark.parametrize(
    "target",
    [
        functools.partial(plain),
        Performs(),
        Performs().perform.__call__,
        staticmethod(plain),
        classmethod(plain),
        type("NoPerform", (), {}),
        [].append,
        "app.jobs.send",
        None,
    ],
)
def test_what_cannot_be_made_a_job_is_refused(target):
    with pytest.raises(NotAJobError, match="^invalid job "):
        job(queue="mail")(target)


@pytest.mark.usefixtures("own_jobs")
def test_a_recurring_job_that_no_worker_can_find_is_refused(monkeypatch):
    monkeypatch.setattr(schedule, "_registered", {})

    for timing in ({"every": "1h"}, {"cron": "* * * * *"}):
        with pytest.raises(NotAJobError, match="<locals>.function: expected a class or function"):
            job(queue="mail", **timing)(fresh())
    assert schedule._registered == {}
    assert job(queue="mail", name="Nightly", every="1h")(fresh())
