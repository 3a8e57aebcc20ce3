"""Log handlers that never raise and never wait long: what cannot be written is dropped."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import select
import stat
import sys
from typing import Any

from pyres.process.native import native

#: Milliseconds for which a line waits for a reader that does not read. Later lines do not wait,
#: until it reads again.
WRITE_TIMEOUT_MS = 1000

#: Bytes that can be written to a pipe without blocking once poll() reports it writable.
CHUNK = getattr(select, "PIPE_BUF", 512)

#: Seconds for which a line waits for syslog.
SYSLOG_TIMEOUT = 0.2

_poll: Any = native("select", "poll") if hasattr(select, "poll") else None


class StreamOutput(logging.StreamHandler[Any]):
    """Lines to stderr or stdout; lines that the reader does not read are dropped and counted."""

    _dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        line = formatted(self, record)
        if line is not None:
            self.write(line + self.terminator)

    def write(self, text: str) -> None:
        """Write the text, if that is possible now."""
        fd = _descriptor(self.stream)
        if fd is None:
            # A substitute for a stream, or None where the descriptor is closed.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                self.stream.write(text)
                self.stream.flush()
            return
        if self._dropped:
            text = (
                notice(self, "%d lines were dropped here: not read in time", self._dropped) + text
            )
        with contextlib.suppress(OSError):
            # Not through the buffer of the stream, which would keep what cannot be written.
            timeout = 0 if self._dropped else WRITE_TIMEOUT_MS
            is_written = _write(fd, _encoded(self.stream, text), timeout)
            self._dropped = 0 if is_written else self._dropped + 1


class FileOutput(logging.handlers.WatchedFileHandler):
    """Lines to a file, which is opened again after it was moved; to stderr while it cannot be
    opened or written.
    """

    def __init__(self, filename: str) -> None:
        # A line with text that is not UTF-8, such as a payload's, must not get lost.
        super().__init__(filename, encoding="utf-8", errors="backslashreplace", delay=True)
        self._stderr = StreamOutput(sys.stderr)
        self._lines_on_stderr = 0

    def open(self) -> Any:
        """Open the file now, not with the first line; its stream. Raises OSError."""
        self.stream = self._open()
        self._statstream()
        return self.stream

    def _open(self) -> Any:
        return open(  # noqa: SIM115 - it is closed by close()
            self.baseFilename, "a", encoding=self.encoding, errors=self.errors, opener=_open_at_once
        )

    def emit(self, record: logging.LogRecord) -> None:
        line = formatted(self, record)
        if line is None:
            return
        try:
            self._write_to_file(line + self.terminator)
        except OSError as error:
            self._drop_stream()
            self._write_to_stderr(line + self.terminator, error)

    def _write_to_file(self, text: str) -> None:
        if self.stream is not None and self._is_moved():
            self._drop_stream()
        stream = self.stream or self.open()
        if self._lines_on_stderr:
            text = notice(self, "%d lines were written to stderr", self._lines_on_stderr) + text
        data = text.encode(self.encoding or "utf-8", "backslashreplace")
        while data:
            # Not through the buffer of the stream, which would write it again when there is room.
            data = data[os.write(stream.fileno(), data) :]
        self._lines_on_stderr = 0

    def _is_moved(self) -> bool:
        try:
            status = os.stat(self.baseFilename)
        except PermissionError:
            return False  # of the folder; the file is open, and can still be written
        except OSError:
            return True
        return (status.st_dev, status.st_ino) != (self.dev, self.ino)

    def _drop_stream(self) -> None:
        stream, self.stream = self.stream, None
        with contextlib.suppress(OSError):
            if stream is not None:
                stream.close()

    def _write_to_stderr(self, text: str, error: OSError) -> None:
        if not self._lines_on_stderr:
            message = "The log file %s cannot be written (%s): logging to stderr meanwhile"
            text = notice(self, message, self.baseFilename, error.strerror or error) + text
        self._lines_on_stderr += 1
        self._stderr.write(text)


class SyslogOutput(logging.handlers.SysLogHandler):
    """Lines to syslog; to stderr those that it does not accept."""

    socket: Any

    def createSocket(self) -> None:  # noqa: N802 - logging's name
        super().createSocket()
        self._set_timeout()

    def _connect_unixsocket(self, address: str) -> None:
        super()._connect_unixsocket(address)  # type: ignore[misc]
        self._set_timeout()

    def _set_timeout(self) -> None:
        if getattr(self, "socket", None) is not None:
            self.socket.settimeout(SYSLOG_TIMEOUT)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)
        elif (line := formatted(self, record)) is not None:
            StreamOutput(sys.stderr).write(line + "\n")


def formatted(handler: logging.Handler, record: logging.LogRecord) -> str | None:
    """The record as the handler formats it; None if that fails, which logging then reports."""
    try:
        return handler.format(record)
    except Exception:  # noqa: BLE001 - as in every handler of logging: a log call must not raise
        logging.Handler.handleError(handler, record)
        return None


def notice(handler: logging.StreamHandler[Any], message: str, *args: Any) -> str:
    """A line from the handler itself, formatted as the others are."""
    record = logging.LogRecord("pyres.logs", logging.WARNING, __file__, 0, message, args, None)
    return (formatted(handler, record) or "") + handler.terminator


def _open_at_once(path: str, flags: int) -> int:
    # Otherwise opening a pipe would wait for a reader.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)


def _descriptor(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def _encoded(stream: Any, text: str) -> bytes:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace")


def _write(fd: int, data: bytes, timeout_ms: int) -> bool:
    """Write the data; whether all of it could be written in time."""
    if _poll is None or stat.S_ISREG(os.fstat(fd).st_mode):
        # In one write: other processes may write to the same file.
        return os.write(fd, data) == len(data)
    while data:
        poll = _poll()
        poll.register(fd, select.POLLOUT)
        if not poll.poll(timeout_ms):
            return False
        data = data[os.write(fd, data[:CHUNK]) :]
    return True
