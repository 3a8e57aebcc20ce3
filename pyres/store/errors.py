"""What it means, in redis-py's exceptions, that the server is gone or cannot serve now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from redis import exceptions as redis_exceptions

T = TypeVar("T")

Address = tuple[str, int]

#: Replies by which a server says that it is there and cannot do it just now; nothing was done.
CANNOT_WRITE = (
    "ASK ",
    "BUSY ",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "NOREPLICAS",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    # To whom blocks while the server becomes a replica.
    "UNBLOCKED",
)


class CannotWriteNow(redis_exceptions.ConnectionError):  # noqa: N818 - a state, that passes
    """The server answers and refuses writes: out of memory, a replica, no disk, no quorum."""


class Moved(CannotWriteNow):
    """A node of a Redis Cluster names the one that has our keys now; it has done nothing."""

    def __init__(self, address: Address) -> None:
        host, port = address
        super().__init__(f"the slot of the namespace is at {host}:{port} now")
        self.address = address


class NotTrusted(redis_exceptions.ConnectionError):  # noqa: N818 - the server's, or we to it
    """TLS: one side does not take the other for what it says it is."""


class NotRegistered(Exception):  # noqa: N818 - a state, that ends when the worker registers
    """A worker that is not registered fetches nothing: nobody would look for its job."""


#: Caught by whoever can wait and try again. Everything else redis-py raises is a mistake of ours.
ConnectionLost: tuple[type[Exception], ...] = (
    redis_exceptions.ConnectionError,
    redis_exceptions.TimeoutError,
    redis_exceptions.ReadOnlyError,
    redis_exceptions.OutOfMemoryError,
    redis_exceptions.ClusterDownError,
    redis_exceptions.MasterDownError,
    redis_exceptions.TryAgainError,
    OSError,
)

#: The server is there and will not have us: waiting does not mend it.
RefusedError: tuple[type[Exception], ...] = (
    redis_exceptions.AuthenticationError,
    redis_exceptions.AuthorizationError,
    redis_exceptions.NoPermissionError,
    NotTrusted,
)


def or_nothing(read: Callable[[], T], nothing: T) -> T:
    """What `read` finds; `nothing` of a key of another type, which somebody else must have put
    there.
    """
    try:
        return read()
    except redis_exceptions.ResponseError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise
        return nothing


def lengths(found: Sequence[Any]) -> list[int]:
    """What a pipeline of LLENs found. A key of another type, which somebody else must have put
    there, holds nothing; any other error is raised.
    """
    for value in found:
        if isinstance(value, Exception) and not str(value).startswith("WRONGTYPE"):
            raise value
    return [0 if isinstance(value, Exception) else int(value) for value in found]
