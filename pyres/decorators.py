"""@job: a function, or a class, as a job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyres.loading import register


def job(queue: str | None = None, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
    """Make a function a job on `queue`; it stays callable as it was.

    `name` is the word on the wire in place of `module.function`, so that a Ruby class `Archive` and a
    Python function can stand for each other. `options` become attributes, as a job class has them:
    timeout, retry_every, retry_timeout and the like.
    """

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
        return target

    return decorate
