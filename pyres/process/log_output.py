"""Log handlers that never raise and never wait for long: what cannot be written is left out."""

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

#: Milliseconds that a line waits for a reader that does not read. Later lines do not wait at all,
#: until it reads again.
PATIENCE = 1000

#: The most that a pipe which poll() calls writable takes without blocking.
CHUNK = getattr(select, "PIPE_BUF", 512)

#: Seconds that syslog gets to take a line.
SYSLOG_PATIENCE = 0.2

_poll: Any = native("select", "poll") if hasattr(select, "poll") else None


class StreamOutput(logging.StreamHandler[Any]):
    """Lines to stderr or stdout; those that its reader does not take are left out and counted."""

    _left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        line = formatted(self, record)
        if line is not None:
            self.write(line + self.terminator)

    def write(self, text: str) -> None:
        """Write this, if that is possible now."""
        fd = _descriptor(self.stream)
        if fd is None:
            # A stand-in for a stream, or None where the descriptor is closed.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                self.stream.write(text)
                self.stream.flush()
            return
        if self._left_out:
            text = (
                notice(self, "%d lines are left out here: nobody read them", self._left_out) + text
            )
        with contextlib.suppress(OSError):
            # Past the buffer of the stream, which would keep what cannot be written.
            done = _write(fd, _encoded(self.stream, text), 0 if self._left_out else PATIENCE)
            self._left_out = 0 if done else self._left_out + 1


class FileOutput(logging.handlers.WatchedFileHandler):
    """Lines to a file, which is opened again when it was moved away; while it cannot be opened or
    written, they go to stderr.
    """

    def __init__(self, filename: str) -> None:
        # A payload may hold text that is no UTF-8; its line must not be lost for that.
        super().__init__(filename, encoding="utf-8", errors="backslashreplace", delay=True)
        self._stderr = StreamOutput(sys.stderr)
        self._lines_elsewhere = 0

    def open(self) -> Any:
        """Open the file now, and not with the first line; its stream. Raises OSError."""
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
        if self._lines_elsewhere:
            text = notice(self, "%d lines are not here but on stderr", self._lines_elsewhere) + text
        data = text.encode(self.encoding or "utf-8", "backslashreplace")
        while data:
            # Past the buffer of the stream, which would write it again when there is room.
            data = data[os.write(stream.fileno(), data) :]
        self._lines_elsewhere = 0

    def _is_moved(self) -> bool:
        try:
            found = os.stat(self.baseFilename)
        except PermissionError:
            return False  # of the folder; the file is open, and still takes lines
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != (self.dev, self.ino)

    def _drop_stream(self) -> None:
        stream, self.stream = self.stream, None
        with contextlib.suppress(OSError):
            if stream is not None:
                stream.close()

    def _write_to_stderr(self, text: str, error: OSError) -> None:
        if not self._lines_elsewhere:
            message = "The log file %s cannot be written (%s): its lines go to stderr until it can"
            text = notice(self, message, self.baseFilename, error.strerror or error) + text
        self._lines_elsewhere += 1
        self._stderr.write(text)


class SyslogOutput(logging.handlers.SysLogHandler):
    """Lines to syslog; those that it does not take go to stderr."""

    socket: Any

    def createSocket(self) -> None:  # noqa: N802 - logging's name
        super().createSocket()
        self._limit_wait()

    def _connect_unixsocket(self, address: str) -> None:
        super()._connect_unixsocket(address)  # type: ignore[misc]
        self._limit_wait()

    def _limit_wait(self) -> None:
        if getattr(self, "socket", None) is not None:
            self.socket.settimeout(SYSLOG_PATIENCE)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)
        elif (line := formatted(self, record)) is not None:
            StreamOutput(sys.stderr).write(line + "\n")


def formatted(handler: logging.Handler, record: logging.LogRecord) -> str | None:
    """The record as the handler formats it; None where that fails, which logging then reports."""
    try:
        return handler.format(record)
    except Exception:  # noqa: BLE001 - as in every handler of logging: what is logged ends nothing
        logging.Handler.handleError(handler, record)
        return None


def notice(handler: logging.StreamHandler[Any], message: str, *args: Any) -> str:
    """A line of the handler's own, formatted as the others are."""
    record = logging.LogRecord("pyres.logs", logging.WARNING, __file__, 0, message, args, None)
    return (formatted(handler, record) or "") + handler.terminator


def _open_at_once(path: str, flags: int) -> int:
    # Else a pipe without a reader would be waited for.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)


def _descriptor(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def _encoded(stream: Any, text: str) -> bytes:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace")


def _write(fd: int, data: bytes, patience: int) -> bool:
    """Whether the other end took all of it in time."""
    if _poll is None or stat.S_ISREG(os.fstat(fd).st_mode):
        # In one piece: others may write to the same file.
        return os.write(fd, data) == len(data)
    while data:
        poll = _poll()
        poll.register(fd, select.POLLOUT)
        if not poll.poll(patience):
            return False
        data = data[os.write(fd, data[:CHUNK]) :]
    return True
