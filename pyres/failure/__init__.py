"""Which backend keeps the failures, and the questions one can ask of it.

`pyres.failure.backend = MyBackend` puts another in place, at any time, also from inside a job
module.
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

#: The class that keeps failures; set it to change that.
backend: Any = RedisBackend


def create(exp: BaseException | str, queue: str, payload: Any, worker: Any = None) -> Any:
    """A failure of the backend in force, not yet saved."""
    return backend(exp, queue, payload, worker)


def count(resq: ResQ, **chosen: Any) -> int:
    """How many failures are kept; `queue=` and `klass=` narrow it, as for those below."""
    return backend.count(resq, **chosen)


def all(resq: ResQ, start: int, count: int, **chosen: Any) -> list[dict[str, Any]]:  # noqa: A001 - 1.5's name
    """`count` failure records from index `start`, oldest first."""
    return backend.all(resq, start, count, **chosen)


def clear(resq: ResQ, **chosen: Any) -> int:
    """Forget the failures; how many there were."""
    return backend.clear(resq, **chosen)


def requeue(resq: ResQ, failure_object: BaseBackend) -> None:
    """Push the payload of a failure (as create() made it) to its queue again."""
    resq.push(failure_object._queue, failure_object._payload)


def retry(resq: ResQ, queue: str, payload: bytes | str) -> int:
    """Move the payload of a raw record (or `redis_value`) to a queue and delete the record, or
    neither.

    0 when the record is gone already: another operator was quicker, and nothing is done twice.
    """
    return _keeper().retry(resq, queue, payload)


def delete(resq: ResQ, payload: bytes | str) -> int:
    """Delete a raw record (or `redis_value`); 0 when it is gone already."""
    return _keeper().delete(resq, payload)


def retry_all(
    resq: ResQ,
    queue: str | None = None,
    klass: str | None = None,
    progress: Callable[[int], None] | None = None,
    retried: bool | None = False,
) -> int:
    """Retry all records, or those of one queue or class, in batches; how many were moved.

    Those that a requeue of Resque's has marked as retried stay; `retried`: True for those only,
    None for all.
    """
    # A backend of the application's may know no `retried`.
    more = {} if retried is False else {"retried": retried}
    return _keeper().retry_all(resq, queue=queue, klass=klass, progress=progress, **more)


def _keeper() -> Any:
    """The backend whose records stand in Redis: of several the first that can retry one."""
    chosen = backend.reader() if hasattr(backend, "reader") else backend
    return chosen if hasattr(chosen, "retry") else RedisBackend
