"""What it means, in redis-py's exceptions, that the server is gone or cannot serve now."""

from __future__ import annotations

import errno
import logging
import os
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from redis import exceptions as redis_exceptions

from pyres.exceptions import BadDSNError

T = TypeVar("T")

logger = logging.getLogger(__name__)

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
    "max number of clients",
)


class CannotWriteNow(redis_exceptions.ConnectionError):  # noqa: N818 - a state, that passes
    """The server answers and refuses writes: out of memory, a replica, no disk, no quorum."""


def is_full(*errors: BaseException | None) -> bool:
    """Whether one of them says that the server has no memory left for what was sent."""
    return any("maxmemory" in str(error) for error in errors)


class Moved(CannotWriteNow):
    """A node of a Redis Cluster names the one that has our keys now; it has done nothing."""

    def __init__(self, address: Address) -> None:
        host, port = address
        super().__init__(f"the slot of the namespace is at {host}:{port} now")
        self.address = address


class NotTrusted(redis_exceptions.ConnectionError):  # noqa: N818 - the server's, or we to it
    """TLS: one side does not take the other for what it says it is."""


class Denied(redis_exceptions.ConnectionError):  # noqa: N818 - as NotTrusted
    """The server is in protected mode: without a password it serves its own host only."""


class NotRedis(redis_exceptions.ConnectionError):  # noqa: N818 - as NotTrusted
    """What answers does not speak the protocol of Redis: another service, or TLS."""


class WrongServer(BadDSNError, redis_exceptions.ConnectionError):  # noqa: N818 - as NotTrusted
    """The server is of another kind than the DSN says: a node of a Redis Cluster, or none."""


class NotRegistered(Exception):  # noqa: N818 - a state, that ends when the worker registers
    """A worker that is not registered fetches nothing: nobody would look for its job."""


#: The server is away or cannot serve now. Caught by whoever can wait and try again.
CONNECTION_ERRORS: tuple[type[Exception], ...] = (
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
REFUSAL_ERRORS: tuple[type[Exception], ...] = (
    redis_exceptions.AuthenticationError,
    redis_exceptions.AuthorizationError,
    redis_exceptions.NoPermissionError,
    NotTrusted,
    Denied,
    NotRedis,
    WrongServer,
)

#: All that a request to a server may end with, error replies that nobody has seen among them: a
#: daemon that has started waits for each of them to pass.
SERVER_ERRORS: tuple[type[Exception], ...] = (*CONNECTION_ERRORS, redis_exceptions.ResponseError)

#: Characters of an error reply that are shown.
MAX_REPLY_CHARS = 300

#: What this process lacks or may not do, by errno: no server is to blame for it.
OWN_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES})

#: How redis-py tells the errno of what it could not open, or of a name that it could not look up.
_NUMBER = re.compile(r"\bError (-?\d+) ")

#: A name was not found since a file could not be opened, or memory was refused, or neither.
_NO_NAME = frozenset({socket.EAI_AGAIN, socket.EAI_NONAME, getattr(socket, "EAI_SYSTEM", None)})


#: How Redis 6.2 wraps the reply to a command inside a script.
_IN_SCRIPT = re.compile(r"Error running script .*@user_script: ?\d+: -?(.*)", re.DOTALL)


#: How a reply begins that says that this user lacks a right: of a command, inside a script since
#: Redis 7 and Valkey, and there in Redis 6.
LACKS_RIGHT = ("NOPERM", "ACL failure in script", "The user executing the script can't run")


def _words(text: str) -> str:
    """What an error reply says, without what a script puts around it."""
    text = text.removeprefix("ERR ")
    found = _IN_SCRIPT.match(text)
    return found[1] if found else text


def refusal(text: str) -> str | None:
    """The words of an error reply that says that the server cannot serve just now, else None."""
    words = _words(text)
    return words if words.startswith(CANNOT_WRITE) else None


def lacking_right(text: str) -> str | None:
    """The words of an error reply that says that this user lacks a right, else None."""
    words = _words(text)
    return words.removeprefix("NOPERM ") if words.startswith(LACKS_RIGHT) else None


def denial(text: str) -> Exception | None:
    """The error of a reply by which the server refuses this user or its host, else None."""
    if text.removeprefix("ERR ").startswith("DENIED"):
        return Denied(text.partition(". ")[0])
    words = lacking_right(text)
    return None if words is None else redis_exceptions.NoPermissionError(words)


def own_error(error: BaseException) -> int | None:
    """The errno of what this process lacks, when that is why it did not reach the server."""
    # Not __context__: a job's own error may be being handled while the server is asked.
    number = _number(error) or _number(error.__cause__)
    if number in _NO_NAME:
        number = _lacks_descriptors()
    return number if number in OWN_ERRORS else None


def _number(error: BaseException | None) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _NUMBER.search(str(error))
    return int(found[1]) if found else None


def _lacks_descriptors() -> int | None:
    """The errno with which the system refuses a descriptor now, or None."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno
    return None


def described(error: BaseException) -> str:
    """What is the matter, for the log, when the server was not reached."""
    number = own_error(error)
    if number is not None:
        return f"Redis cannot be reached: {os.strerror(number).lower()} in this process"
    words = str(error)[:MAX_REPLY_CHARS]
    if isinstance(error, CONNECTION_ERRORS + REFUSAL_ERRORS):
        return f"{_state(error)} ({words})"
    if isinstance(error, redis_exceptions.ResponseError):
        return f"Redis answered: {words}"
    return f"{type(error).__name__}: {words}"


def _state(error: BaseException) -> str:
    if isinstance(error, NotRedis | WrongServer):
        return "The server is not the one that the DSN names"
    if isinstance(error, REFUSAL_ERRORS):
        return "Redis refuses us"
    if isinstance(error, CannotWriteNow | redis_exceptions.BusyLoadingError):
        return "Redis cannot serve now"
    return "Redis is gone"


def is_answered(error: BaseException) -> bool:
    """Whether the server has answered, and refuses just this or all writes."""
    return isinstance(error, CannotWriteNow | redis_exceptions.ResponseError)


def cuts_connection(error: BaseException) -> bool:
    """Whether the server was reached, and then the connection was lost."""
    refuses = is_answered(error) or isinstance(error, REFUSAL_ERRORS)
    return not refuses and _NUMBER.search(str(error)) is None


def is_lasting(error: BaseException) -> bool:
    """Whether a daemon that starts ends by this, since it is not known to pass."""
    return isinstance(error, REFUSAL_ERRORS) or not isinstance(error, CONNECTION_ERRORS)


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


def or_raise(reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise reply
    return reply


def logged_once(key: Any, call: Callable[[], T]) -> T | None:
    """What `call` gives; None where the key is of another type, which is logged once."""
    try:
        return call()
    except redis_exceptions.ResponseError as error:
        if "WRONGTYPE" not in str(error):
            raise
        log_wrong_types([key])
        return None


def log_wrong_types(keys: Iterable[Any]) -> None:
    """Log once of each of these keys that it is of another type."""
    for key in keys:
        name = key.decode("utf-8", "replace") if isinstance(key, bytes) else key
        if name not in _logged:
            _logged.add(name)
            logger.error("the key %s is of another type, and is left as it is", name)


#: The keys of another type that were logged.
_logged: set[str] = set()


def lengths(found: Sequence[Any]) -> list[int]:
    """What a pipeline of LLENs found. A key of another type, which somebody else must have put
    there, holds nothing; any other error is raised.
    """
    for value in found:
        if isinstance(value, Exception) and not str(value).startswith("WRONGTYPE"):
            raise value
    return [0 if isinstance(value, Exception) else int(value) for value in found]
