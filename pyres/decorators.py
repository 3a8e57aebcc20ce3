"""@job: make a function or a class a job."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from pyres import hooks, job_names, job_settings, schedule
from pyres.exceptions import BadOptionError, NotAJobError
from pyres.loading import name_of, register

#: The parameters of @job itself.
PARAMETERS = ("queue", "name", "cron", "timezone", "every", "active_job")


def job(
    queue: str | None = None,
    name: str | None = None,
    *,
    cron: str | None = None,
    timezone: str | None = None,
    every: str | float | None = None,
    active_job: bool = False,
    **options: Any,
) -> Callable[[Any], Any]:
    """Make a function a job on `queue`; it stays callable as before.

    `name` is the name on the wire instead of `module.function`, so that a Ruby class `Archive` and
    a Python function can perform each other's jobs. `cron` (in `timezone`, else local time) or
    `every` ("30s", "1h30m", seconds) makes it a recurring job without arguments, in each
    `pyres_scheduler --require` that imports its module. With `active_job` it performs the jobs that
    Rails' ActiveJob enqueues for its class `name`. `options` become attributes, as on a job class:
    timeout, retry_every, retry_timeout and so on. Raises BadOptionError for an unknown option or an
    invalid value.
    """
    if callable(queue):
        raise TypeError('@job needs parentheses: @job(queue="...")')
    _check_text("queue", queue)
    _check_name(name, active_job)
    _check_options(options)
    timing = {"cron": cron, "timezone": timezone, "every": every}
    timing = {field: value for field, value in timing.items() if value is not None}

    def decorate(target: Any) -> Any:
        _check_target(target)
        _check_queue(target, queue, needed=name is None or bool(timing))
        if queue is not None:
            target.queue = queue
        if not hasattr(target, "perform"):
            target.perform = target
        if name is not None:
            _register(target, name, active_job)
        for option, value in options.items():
            setattr(target, option, value)
        job_settings.check_all(target)
        if timing:
            _schedule(target, timing)
        return target

    return decorate


def _schedule(target: Any, timing: dict[str, Any]) -> None:
    job_names.check_place(target)
    job_names.check_runs(target)
    job_names.warn_of_main(target)
    wire_name = name_of(target)
    schedule.register(wire_name, {**timing, "class": wire_name, "queue": target.queue})


def _check_text(parameter: str, value: Any) -> None:
    if value is None or (isinstance(value, str) and value):
        return
    raise BadOptionError(f"invalid {parameter} {value!r}: expected a name that is not empty")


def _check_name(name: str | None, active_job: bool) -> None:
    _check_text("name", name)
    if active_job not in (True, False):
        raise BadOptionError(f"invalid active_job {active_job!r}: expected True or False")
    if active_job and name is None:
        raise BadOptionError("invalid name None: active_job=True requires the name of Rails' class")


def _register(target: Any, name: str, active_job: bool) -> None:
    target.wire_name = name
    target.active_job = active_job
    register(name, target)


def _check_options(options: dict[str, Any]) -> None:
    for option, value in options.items():
        if hooks.is_hook_name(option):
            if not callable(value):
                raise BadOptionError(f"invalid {option} {value!r}: expected a function")
            continue
        job_settings.check_known(option, [*PARAMETERS, *hooks.EVERY_PREFIX])
        job_settings.check(option, value)


def _check_target(target: Any) -> None:
    """Raises NotAJobError for what cannot become a job."""
    if inspect.isclass(target):
        job_names.check_perform(target)
    elif not _is_function(target):
        raise NotAJobError(f"invalid job {target!r}: expected a function or a class under @job")


def _is_function(target: Any) -> bool:
    """Whether it is a function that can have attributes, in Python or compiled."""
    if inspect.ismethod(target) or isinstance(target, staticmethod | classmethod):
        return False
    return callable(target) and hasattr(target, "__qualname__") and hasattr(target, "__dict__")


def _check_queue(target: Any, queue: str | None, needed: bool) -> None:
    """Raises BadOptionError without a queue. A job with its own `name` needs none: perhaps only
    other programs enqueue it.
    """
    if needed and not (queue or getattr(target, "queue", None)):
        raise BadOptionError(
            f"invalid queue None of {name_of(target)}: expected a name, as in @job(queue='mail')"
        )
