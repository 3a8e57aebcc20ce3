"""What no worker could perform is refused where it is enqueued, by name, and nothing is sent."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pyres import ResQ
from pyres.decorators import job
from pyres.exceptions import NoQueueError, NotAJobError
from pyres.job import Job

MOMENT = datetime(2026, 11, 23, 16, 1, 9, tzinfo=UTC)


class Mail:
    queue = "mail"

    @classmethod
    def perform(cls, *args: Any) -> None: ...


class Queueless:
    @staticmethod
    def perform(*args: Any) -> None: ...


class NoPerform:
    queue = "mail"


@job(queue="mail")
def send(*args: Any) -> None: ...


def plain(*args: Any) -> None: ...


unnamed = job(queue="mail")(lambda *args: None)


def nested() -> Any:
    @job(queue="mail")
    def inner() -> None: ...

    return inner


def nested_class() -> type:
    class Inner(Mail):
        pass

    return Inner


class Meta(type):
    """As an ORM's metaclass: classes are compared by what they describe, and have no hash."""

    def __eq__(cls, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class Unhashable(Mail, metaclass=Meta):
    pass


def traced(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


def enqueue(resq: ResQ, target: Any) -> Any:
    return resq.enqueue(target, 1)


def enqueue_to(resq: ResQ, target: Any) -> Any:
    return resq.enqueue_to("mail", target, 1)


def enqueue_many(resq: ResQ, target: Any) -> Any:
    return resq.enqueue_many([(Mail, 1), (target, 1)])


def enqueue_at(resq: ResQ, target: Any) -> Any:
    return resq.enqueue_at(MOMENT, target, 1)


def enqueue_in(resq: ResQ, target: Any) -> Any:
    return resq.enqueue_in(timedelta(seconds=5), target, 1)


def delay_or_enqueue_in(resq: ResQ, target: Any) -> Any:
    return resq.delay_or_enqueue_in(5, target, 1)


def in_a_pipeline(resq: ResQ, target: Any) -> Any:
    with resq.pipeline() as batch:
        return batch.enqueue(target, 1)


def from_string(resq: ResQ, target: Any) -> Any:
    return resq.enqueue_from_string(target, "mail", 1)


def at_from_string(resq: ResQ, target: Any) -> Any:
    return resq.enqueue_at_from_string(MOMENT, target, "mail", 1)


OF_A_TARGET = [
    enqueue,
    enqueue_to,
    enqueue_many,
    enqueue_at,
    enqueue_in,
    delay_or_enqueue_in,
    in_a_pipeline,
]

Call = Callable[[ResQ, Any], Any]


@pytest.mark.parametrize(
    "call",
    [
        lambda resq: resq.enqueue_at(MOMENT, Mail, 1, subject="x"),
        lambda resq: resq.enqueue_at(MOMENT, Mail, first_attempt=MOMENT, subject="x"),
        lambda resq: resq.enqueue_at(MOMENT, Queueless, subject="x"),
        lambda resq: resq.enqueue_at_from_string(MOMENT, "app.Mail", "mail", 1, subject="x"),
        lambda resq: resq.enqueue_from_string("app.Mail", "mail", 1, subject="x"),
        lambda resq: resq.enqueue(Mail, 1, subject="x"),
        lambda resq: resq.enqueue_to("mail", Mail, 1, subject="x"),
        lambda resq: resq.enqueue_in(5, Mail, 1, subject="x"),
    ],
)
def test_a_keyword_that_would_not_be_passed_to_the_job_is_refused_by_name(resq, redis, call):
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'subject'"):
        call(resq)
    assert redis.keys() == []


@pytest.mark.parametrize("call", OF_A_TARGET)
@pytest.mark.parametrize(
    ("target", "shown"),
    [
        (nested(), "nested.<locals>.inner: expected a class or function at the top of a module"),
        (nested_class(), "nested_class.<locals>.Inner: expected a class or function at the top"),
        (unnamed, "<lambda>: expected a class or function at the top of a module"),
        (Mail.perform, "Mail.perform: expected the class, or a function of a module"),
        (NoPerform, r"NoPerform: expected a class with perform\(\)"),
        (functools.partial(send, 1), "functools.partial.*: expected a class with"),
        (Mail(), "Mail object.*: expected a class with"),
        (None, "None: expected a class with"),
        ([].append, "built-in method append.*: expected a class with"),
    ],
)
def test_what_no_worker_can_find_or_perform_is_refused_by_name(
    resq: ResQ, redis: Any, call: Call, target: Any, shown: str
) -> None:
    with pytest.raises(NotAJobError, match=f"^invalid job .*{shown}") as refused:
        call(resq, target)

    assert isinstance(refused.value, TypeError)
    assert redis.keys() == []


def test_a_function_without_job_is_refused_whatever_queue_is_named(resq, redis):
    with pytest.raises(NotAJobError, match=r"test_refusals\.plain: expected a function with @job"):
        resq.enqueue_to("mail", plain, 1)
    assert redis.keys() == []


@pytest.mark.parametrize("call", [call for call in OF_A_TARGET if call is not enqueue_to])
@pytest.mark.parametrize("target", [plain, f"{__name__}.plain", f"{__name__}.Queueless"])
def test_a_function_or_a_dotted_name_without_a_queue_is_refused(resq, redis, call, target):
    with pytest.raises(NoQueueError, match="has no attribute 'queue'"):
        call(resq, target)
    assert redis.keys() == []


@pytest.mark.parametrize("call", [enqueue_many, enqueue_in, delay_or_enqueue_in])
def test_a_class_without_a_queue_is_refused_by_the_calls_that_1_5_did_not_have(resq, redis, call):
    with pytest.raises(NoQueueError, match="Queueless has no attribute 'queue'"):
        call(resq, Queueless)
    assert redis.keys() == []


@pytest.mark.parametrize("call", [enqueue, enqueue_at])
def test_a_class_without_a_queue_stays_a_warning_where_1_5_had_one(resq, redis, caplog, call):
    assert call(resq, Queueless) is False
    assert call(resq, type("Made", (), {})) is False

    assert "Queueless: it has no attribute 'queue'" in caplog.text
    assert redis.keys() == []


@pytest.mark.parametrize("call", [enqueue_to, from_string, at_from_string, enqueue])
@pytest.mark.parametrize(
    "name", ["", " ", "a b", ".x", "x.", "a..b", "::A", "A::", "a\nb", "f.<locals>.g", "m.<lambda>"]
)
def test_a_text_that_names_nothing_is_refused(resq, redis, call, name):
    with pytest.raises(NotAJobError, match="^invalid job .*: expected a dotted name") as refused:
        call(resq, name)
    assert repr(name) in str(refused.value)
    assert redis.keys() == []


@pytest.mark.parametrize("call", [from_string, at_from_string])
@pytest.mark.parametrize("name", [None, 7, b"app.Mail", Mail, ["app.Mail"]])
def test_a_value_that_is_not_a_str_is_refused_where_a_str_is_expected(resq, redis, call, name):
    with pytest.raises(NotAJobError, match="^invalid job .*: expected a dotted name"):
        call(resq, name)
    assert redis.keys() == []


@pytest.mark.parametrize("call", [enqueue_to, from_string, at_from_string])
@pytest.mark.parametrize("name", ["Archive", "A::B", "a.b.C.D", "add", "user-signup", "été.Job"])
def test_the_names_of_other_languages_stay_good(resq, redis, call, name):
    call(resq, name)
    assert redis.keys() != []


@pytest.mark.usefixtures("own_jobs")
def test_a_job_name_may_be_any_text_and_be_passed_anywhere(resq):
    target = job(queue="mail", name="send it all")(lambda: None)

    for call in OF_A_TARGET:
        assert call(resq, target)
    assert resq.enqueue_from_string("send it all", "mail") is None
    assert resq.enqueue_to("mail", "send it all")


def test_a_name_that_leads_to_something_else_now_is_refused(resq, redis, monkeypatch):
    def shadow() -> None: ...

    for target, name in ((send, "send"), (Mail, "Mail")):
        # A copy, of which no settings are cached yet.
        copy = (
            types.FunctionType(send.__code__, {}) if target is send else type("Mail", (Mail,), {})
        )
        copy.__qualname__, copy.__module__ = name, __name__
        copy.queue, copy.perform = "mail", print
        monkeypatch.setattr(sys.modules[__name__], name, shadow)
        with pytest.raises(
            NotAJobError, match=rf"{name}: expected the object of this name.*shadow"
        ):
            resq.enqueue(copy)
    assert redis.keys() == []


def test_a_decorator_left_off_by_the_name_is_refused(resq):
    """The worker would perform send() without it."""
    with pytest.raises(NotAJobError, match="send: expected the object of this name"):
        resq.enqueue(traced(send))


def test_a_decorated_or_replaced_module_function_still_leads_to_what_is_in_it(resq, monkeypatch):
    module = types.ModuleType("refusals_elsewhere")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    inner = types.FunctionType(plain.__code__, {})
    inner.__module__, inner.__qualname__ = module.__name__, "charge"
    inner = job(queue="mail")(inner)

    module.charge = traced(traced(inner))  # type: ignore[attr-defined]
    assert resq.enqueue(module.charge)  # type: ignore[attr-defined]
    assert resq.enqueue(inner)


def test_what_is_not_certainly_lost_is_enqueued(resq):
    made = type("Made", (Mail,), {"__module__": __name__})
    abroad = type("Abroad", (Mail,), {"__module__": "not_imported_here.jobs"})

    for target in (made, abroad, Unhashable):
        assert resq.enqueue(target, 1)
        assert resq.enqueue_to("other", target, 1)


def test_a_class_without_a_hash_is_enqueued_and_performed(resq, monkeypatch):
    performed: list[Any] = []
    monkeypatch.setattr(Unhashable, "perform", lambda *args: performed.append(args))
    with pytest.raises(TypeError):
        hash(Unhashable)

    assert resq.enqueue(Unhashable, 1)
    found = Job.reserve("mail", resq)
    assert found is not None
    found.perform()

    assert performed == [(1,)]


def test_a_refused_job_stays_refused_and_a_valid_one_is_checked_once(resq, monkeypatch):
    looked: list[Any] = []
    monkeypatch.setattr("pyres.job_names.check_place", looked.append)
    fresh = type("Fresh", (Mail,), {"__module__": __name__})

    for _ in range(3):
        assert resq.enqueue(fresh)
    assert looked == [fresh]
    monkeypatch.undo()
    for _ in range(2):
        with pytest.raises(NotAJobError):
            resq.enqueue(unnamed)


def test_a_job_that_is_refused_leaves_the_delayed_ones_alone(resq, monkeypatch):
    """delay_or_enqueue_in() removes first, and would have nothing to put in their place."""
    resq.enqueue_at(MOMENT, Mail, 1)
    monkeypatch.setattr(Mail, "queue", None)

    with pytest.raises(NoQueueError):
        resq.delay_or_enqueue_in(5, Mail, 1)
    assert resq.delayed_queue_schedule_size() == 1


def test_what_is_refused_can_still_be_removed(resq, redis):
    """Such jobs may have been enqueued before, or by another program."""
    inner = nested()
    resq.push("mail", {"class": f"{inner.__module__}.{inner.__qualname__}", "args": []})
    resq.push("mail", {"class": "a b", "args": []})

    assert resq.dequeue(inner) == 1
    assert resq.dequeue_from("mail", "a b") == 1
    assert redis.llen("resque:queue:mail") == 0
