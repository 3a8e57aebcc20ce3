"""@job: a function, or a class, as a job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyres import schedule
from pyres.loading import name_of, register


def job(
    queue: str | None = None,
    name: str | None = None,
    *,
    cron: str | None = None,
    timezone: str | None = None,
    every: str | float | None = None,
    **options: Any,
) -> Callable[[Any], Any]:
    """Make a function a job on `queue`; it stays callable as it was.

    `name` is the word on the wire in place of `module.function`, so that a Ruby class `Archive` and
    a Python function can stand for each other. `cron` (in `timezone`, else local time) or `every`
    ("30s", "1h30m", seconds) enqueue it again and again, without arguments, wherever a
    `pyres_scheduler --require` has imported its module. `options` become attributes, as a job class
    has them: timeout, retry_every, retry_timeout and the like.
    """
    timing = {"cron": cron, "timezone": timezone, "every": every}
    timing = {field: value for field, value in timing.items() if value is not None}

    def decorate(target: Any) -> Any:
        if queue is not None:
            target.queue = queue
        if not hasattr(target, "perform"):
            target.perform = target
        if name is not None:
            target.wire_name = name
            register(name, target)
        for option, value in options.items():
            setattr(target, option, value)
        if timing:
            wire_name = name_of(target)
            whose = {"class": wire_name, "queue": getattr(target, "queue", None)}
            schedule.register(wire_name, {**timing, **whose})
        return target

    return decorate
