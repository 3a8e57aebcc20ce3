"""The failure backend, and functions that call it.

`pyres.failure.backend = MyBackend` replaces it, at any time, also inside a module of jobs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyres.failure.base import BaseBackend
from pyres.failure.multiple import MultipleBackend
from pyres.failure.redis import RedisBackend
from pyres.failure.redis_multi_queue import RedisMultiQueueBackend

if TYPE_CHECKING:
    from pyres.client import ResQ

__all__ = [
    "BaseBackend",
    "MultipleBackend",
    "RedisBackend",
    "RedisMultiQueueBackend",
    "all",
    "backend",
    "clear",
    "count",
    "create",
    "delete",
    "requeue",
    "retry",
    "retry_all",
]

#: The class that stores failures; set it to another one to replace it.
backend: Any = RedisBackend


def create(exp: BaseException | str, queue: str, payload: Any, worker: Any = None) -> Any:
    """A failure of the current backend, not yet saved."""
    return backend(exp, queue, payload, worker)


def count(resq: ResQ, **chosen: Any) -> int:
    """How many failures are stored; `queue=` and `klass=` filter them, here and below."""
    return backend.count(resq, **chosen)


def all(resq: ResQ, start: int, count: int, **chosen: Any) -> list[dict[str, Any]]:  # noqa: A001 - 1.5's name
    """`count` failure records from index `start`, oldest first."""
    return backend.all(resq, start, count, **chosen)


def clear(resq: ResQ, **chosen: Any) -> int:
    """Delete the failures; returns how many."""
    return backend.clear(resq, **chosen)


def requeue(resq: ResQ, failure_object: BaseBackend) -> None:
    """Push the payload of a failure, as returned by create(), to its queue again."""
    resq.push(failure_object._queue, failure_object._payload)


def retry(resq: ResQ, queue: str, payload: bytes | str) -> int:
    """Move the payload of a raw record (or `redis_value`) to a queue and delete the record, in one
    step.

    0, and nothing done, if the record is no longer there: for instance, another operator retried
    it.
    """
    return _record_backend().retry(resq, queue, payload)


def delete(resq: ResQ, payload: bytes | str) -> int:
    """Delete a raw record (or `redis_value`); 0 if it is no longer there."""
    return _record_backend().delete(resq, payload)


def retry_all(
    resq: ResQ,
    queue: str | None = None,
    klass: str | None = None,
    progress: Callable[[int], None] | None = None,
    retried: bool | None = False,
) -> int:
    """Retry all records, or those of one queue or class, in batches; returns how many.

    Records that Resque's requeue has marked as retried stay; `retried`: True for only these, None
    for all.
    """
    # The application's own backend may lack the parameter `retried`.
    options = {} if retried is False else {"retried": retried}
    return _record_backend().retry_all(resq, queue=queue, klass=klass, progress=progress, **options)


def _record_backend() -> Any:
    """The backend whose records can be retried and deleted; else RedisBackend."""
    chosen = backend.reader() if hasattr(backend, "reader") else backend
    return chosen if hasattr(chosen, "retry") else RedisBackend
