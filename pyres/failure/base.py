"""The base class of failure backends."""

from __future__ import annotations

import functools
import inspect
import logging
import sys
import traceback
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pyres import payload as payloads
from pyres.shortening import cut

if TYPE_CHECKING:
    from pyres.client import ResQ

logger = logging.getLogger(__name__)

#: Frames of these files, between the worker and the job's own code, are left out of a backtrace.
OWN_FILES = tuple(
    f"pyres{sep}{name}.py"
    for name in ("job", "performer", "worker", "process/alarm")
    for sep in "/\\"
)


#: Bytes of a record's error and of its backtrace; a longer text is cut in the middle.
MAX_ERROR_BYTES, MAX_BACKTRACE_BYTES = 8000, 64000


class BaseBackend:
    """One failure of one job. Subclasses implement save(), and the class methods count(), all() and
    clear().

    `exp` is the exception; with a traceback or a text it is the exception being handled. `payload`
    is the job's dict; `worker` anything whose str() is a worker's id. `exception` is the exception;
    as in pyres 1.5 `_exception` is its class and `_traceback` its formatted text. `raw_payload` are
    the payload's bytes on its queue, if they are JSON, and `retried` is how often the job was
    retried.
    """

    raw_payload: bytes | None = None
    retried = 0

    def __init__(
        self,
        exp: BaseException | TracebackType | str,
        queue: str,
        payload: Any,
        worker: Any = None,
    ) -> None:
        self.exception = _exception_of(exp)
        self._exception: Any = type(self.exception)
        self._worker = worker
        self._queue = queue
        self._payload = payload

    @functools.cached_property
    def _traceback(self) -> str:
        """The exception as Python prints it, with its traceback."""
        try:
            return "".join(traceback.format_exception(self.exception))
        except Exception:  # noqa: BLE001 - a broken __loader__ must not cost the record
            return self._parse_message(self.exception)

    def _parse_traceback(self, trace: Any) -> list[str]:
        """The lines of a text (pyres 1.5), or of a traceback's frames: innermost last, without the
        worker's own frames at the top.
        """
        if trace is None or isinstance(trace, str):
            return (trace or "").splitlines()
        try:
            frames = traceback.extract_tb(trace)
        except Exception:  # noqa: BLE001 - a broken __loader__ must not cost the record
            return []
        while frames and frames[0].filename.endswith(OWN_FILES):
            del frames[0]
        return [
            line for frame in traceback.format_list(frames) for line in frame.rstrip().split("\n")
        ]

    def _parse_message(self, exc: Any) -> str:
        """`Name: text` of an exception, or of this failure's where `exc` is `_exception`."""
        error = self.exception if exc is self._exception else exc
        return f"{exception_name(error)}: {exception_text(error)}"

    def _backtrace(self) -> list[str]:
        """The record's backtrace; from a text if a subclass overrides 1.5's _parse_traceback()."""
        own = inspect.getattr_static(BaseBackend, "_parse_traceback")
        if inspect.getattr_static(type(self), "_parse_traceback") is not own:
            return self._parse_traceback(self._traceback)
        if _has_context(self.exception):
            return _readable_lines(self._traceback)
        return self._parse_traceback(self.exception.__traceback__)

    def record(self, failed_at: datetime) -> dict[str, Any]:
        """Resque's failure record, its fields in Resque's order. `failed_at` is local time."""
        return {
            "failed_at": failed_at.astimezone().strftime("%Y/%m/%d %H:%M:%S %Z"),
            "payload": payloads.recordable(self._payload, None),
            "exception": exception_name(self.exception),
            "error": cut(exception_text(self.exception), MAX_ERROR_BYTES) + self._tries_text(),
            "backtrace": _cut_lines(self._backtrace()),
            "worker": "" if self._worker is None else readable(str(self._worker)),
            "queue": readable(self._queue),
        }

    def _tries_text(self) -> str:
        """How often the job was tried, if more than once; Resque's record has no field for it."""
        own = self._payload.get("retry_attempt") if isinstance(self._payload, dict) else None
        retried = max(self.retried, own if isinstance(own, int) else 0)
        return f" (tried {retried + 1} times)" if retried > 0 else ""

    def save(self, resq: ResQ | None = None) -> None:
        """Store this failure."""
        raise NotImplementedError(f"{type(self).__name__} must implement save()")

    @classmethod
    def count(cls, resq: ResQ) -> int:
        """How many failures are stored."""
        return 0

    @classmethod
    def all(cls, resq: ResQ, start: int = 0, count: int = 1) -> list[dict[str, Any]]:
        """`count` failures from index `start`."""
        return []

    @classmethod
    def clear(cls, resq: ResQ) -> int:
        """Delete every failure; returns how many."""
        return 0


def _has_context(error: BaseException) -> bool:
    """Whether Python prints more than its frames: a cause, a context, a group's members, notes."""
    context = None if error.__suppress_context__ else error.__context__
    notes = getattr(error, "__notes__", None)
    # Compared with None, since an exception may be a container and then be false when empty.
    is_there = (extra is not None for extra in (error.__cause__, context, notes))
    return isinstance(error, BaseExceptionGroup) or any(is_there)


def _readable_lines(text: str) -> list[str]:
    """The lines, in characters that JSON can hold."""
    return text.encode("utf-8", "replace").decode().splitlines()


def _cut_lines(lines: list[str]) -> list[str]:
    text = "\n".join(lines)
    shortened = cut(text, MAX_BACKTRACE_BYTES)
    return lines if shortened is text else shortened.split("\n")


def _exception_of(exp: BaseException | TracebackType | str) -> BaseException:
    """The exception itself, or the one being handled; else one made of the traceback or text."""
    if isinstance(exp, BaseException):
        return exp
    if (handled := sys.exc_info()[1]) is not None:
        return handled
    if isinstance(exp, TracebackType):
        return Exception("unknown error").with_traceback(exp)
    return Exception(exp)


def readable(name: str) -> str:
    """A name as JSON and mail can hold it: a queue's may be bytes that are not UTF-8."""
    return name.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def exception_name(error: BaseException) -> str:
    """The class name of an exception, as in a failure record."""
    return type(error).__name__


def exception_text(error: BaseException) -> str:
    """str(error), or a placeholder if that itself raises; always text that JSON can hold."""
    try:
        text = str(error)
    except BaseException as second:  # noqa: BLE001 - __str__ is the job author's code and may do anything
        text = f"<{type(error).__name__}, whose str() raised {type(second).__name__}>"
    return text.encode("utf-8", "replace").decode()
