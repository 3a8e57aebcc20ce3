"""What it means, in redis-py's exceptions, that the server is gone or cannot serve now."""

from __future__ import annotations

from redis import exceptions as redis_exceptions


class CannotWriteNow(redis_exceptions.ConnectionError):  # noqa: N818 - a state, that passes
    """The server answers and refuses writes: out of memory, a replica, no disk, no quorum."""


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
)
