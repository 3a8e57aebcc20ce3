"""Which of redis-py's exceptions mean "disconnected", "refused" or "cannot serve now"."""

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

#: How the replies begin with which a server refuses a command for now; nothing was executed.
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
    # The reply to a blocked client when the server becomes a replica.
    "UNBLOCKED",
    "max number of clients",
)


class CannotWriteNow(redis_exceptions.ConnectionError):  # noqa: N818 - a temporary state
    """The server replies and refuses writes: out of memory, a replica, no disk, no quorum."""


def is_full(*errors: BaseException | None) -> bool:
    """Whether one of the errors says that the server is out of memory."""
    return any("maxmemory" in str(error) for error in errors)


class Moved(CannotWriteNow):
    """A node of a Redis Cluster names the node that has the namespace's slot now; nothing was
    executed.
    """

    def __init__(self, address: Address) -> None:
        host, port = address
        super().__init__(f"the slot of the namespace is at {host}:{port} now")
        self.address = address


class NotTrusted(redis_exceptions.ConnectionError):  # noqa: N818 - a state of the server
    """TLS: one side does not trust the certificate of the other."""


class Denied(redis_exceptions.ConnectionError):  # noqa: N818 - as NotTrusted
    """The server is in protected mode: without a password it accepts local clients only."""


class NotRedis(redis_exceptions.ConnectionError):  # noqa: N818 - as NotTrusted
    """The peer does not speak the Redis protocol: it is another service, or expects TLS."""


class WrongServer(BadDSNError, redis_exceptions.ConnectionError):  # noqa: N818 - as NotTrusted
    """The server is of another kind than the DSN says: a node of a Redis Cluster, or not one."""


class NotRegistered(Exception):  # noqa: N818 - a temporary state, until the worker registers
    """A worker that is not registered fetches nothing: its job could not be recovered."""


#: The server is unreachable or cannot serve now. Caught where the caller can wait and retry.
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

#: The server was reached and denies access: waiting does not help.
REFUSAL_ERRORS: tuple[type[Exception], ...] = (
    redis_exceptions.AuthenticationError,
    redis_exceptions.AuthorizationError,
    redis_exceptions.NoPermissionError,
    NotTrusted,
    Denied,
    NotRedis,
    WrongServer,
)

#: All errors of a request to a server, unknown error replies included: a daemon that has started
#: waits until they pass.
SERVER_ERRORS: tuple[type[Exception], ...] = (*CONNECTION_ERRORS, redis_exceptions.ResponseError)

#: Characters of an error reply that are shown.
MAX_REPLY_CHARS = 300

#: The errno values that mean a lack of this process, not of the server: files, memory, rights.
OWN_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES})

#: The errno in redis-py's text about a failed connection or name lookup.
_NUMBER = re.compile(r"\bError (-?\d+) ")

#: Errors of a name lookup, whose cause may be that no file could be opened or no memory was left.
_NO_NAME = frozenset({socket.EAI_AGAIN, socket.EAI_NONAME, getattr(socket, "EAI_SYSTEM", None)})


#: How Redis 6.2 wraps the reply to a command inside a script.
_IN_SCRIPT = re.compile(r"Error running script .*@user_script: ?\d+: -?(.*)", re.DOTALL)


#: How a reply begins that says that this user lacks a right: for a command; inside a script in
#: Redis 7 and Valkey; inside a script in Redis 6.
LACKS_RIGHT = ("NOPERM", "ACL failure in script", "The user executing the script can't run")


def _words(text: str) -> str:
    """The text of an error reply, without what a script adds around it."""
    text = text.removeprefix("ERR ")
    match = _IN_SCRIPT.match(text)
    return match[1] if match else text


def refusal(text: str) -> str | None:
    """The text of an error reply that says that the server cannot serve now, else None."""
    words = _words(text)
    return words if words.startswith(CANNOT_WRITE) else None


def lacking_right(text: str) -> str | None:
    """The text of an error reply that says that this user lacks a right, else None."""
    words = _words(text)
    return words.removeprefix("NOPERM ") if words.startswith(LACKS_RIGHT) else None


def denial(text: str) -> Exception | None:
    """The exception for a reply that denies access to this user or its host, else None."""
    if text.removeprefix("ERR ").startswith("DENIED"):
        return Denied(text.partition(". ")[0])
    words = lacking_right(text)
    return None if words is None else redis_exceptions.NoPermissionError(words)


def own_error(error: BaseException) -> int | None:
    """The errno (one of OWN_ERRORS) if a lack of this process made the request fail, else None."""
    # Not __context__: the request may have been made while a job's own error was being handled.
    number = _number(error) or _number(error.__cause__)
    if number in _NO_NAME:
        number = _lacks_descriptors()
    return number if number in OWN_ERRORS else None


def _number(error: BaseException | None) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    match = _NUMBER.search(str(error))
    return int(match[1]) if match else None


def _lacks_descriptors() -> int | None:
    """The errno of opening a file now, or None when a file can be opened."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno
    return None


def described(error: BaseException) -> str:
    """What is wrong with the server, as a text for the log."""
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
        return "Redis denied access"
    if isinstance(error, CannotWriteNow | redis_exceptions.BusyLoadingError):
        return "Redis cannot serve now"
    return "Redis is unreachable"


def is_answered(error: BaseException) -> bool:
    """Whether the server has replied, and refuses this command or all writes."""
    return isinstance(error, CannotWriteNow | redis_exceptions.ResponseError)


def cuts_connection(error: BaseException) -> bool:
    """Whether the server was reached, and then the connection was lost."""
    refuses = is_answered(error) or isinstance(error, REFUSAL_ERRORS)
    return not refuses and _NUMBER.search(str(error)) is None


def is_lasting(error: BaseException) -> bool:
    """Whether the error ends a daemon that is starting, since it may not pass by itself."""
    return isinstance(error, REFUSAL_ERRORS) or not isinstance(error, CONNECTION_ERRORS)


def or_nothing(read: Callable[[], T], nothing: T) -> T:
    """What `read` returns; `nothing` where the key has the wrong type, written by another
    program.
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
    """What `call` returns; None where the key has the wrong type, which is logged once."""
    try:
        return call()
    except redis_exceptions.ResponseError as error:
        if "WRONGTYPE" not in str(error):
            raise
        log_wrong_types([key])
        return None


def log_wrong_types(keys: Iterable[Any]) -> None:
    """Log once for each of these keys that it has the wrong type."""
    for key in keys:
        name = key.decode("utf-8", "replace") if isinstance(key, bytes) else key
        if name not in _logged:
            _logged.add(name)
            logger.error("the key %s has the wrong type, and is left unchanged", name)


#: The keys of the wrong type that were logged.
_logged: set[str] = set()


def lengths(replies: Sequence[Any]) -> list[int]:
    """The lengths of lists, from the replies to a pipeline of LLENs; 0 for a key of the wrong type.
    Any other error is raised.
    """
    for reply in replies:
        if isinstance(reply, Exception) and not str(reply).startswith("WRONGTYPE"):
            raise reply
    return [0 if isinstance(reply, Exception) else int(reply) for reply in replies]
