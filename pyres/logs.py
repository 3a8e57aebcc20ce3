"""Where the log goes, and how a line of it looks."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import logging
import logging.handlers
import os
import sys
from datetime import UTC, datetime
from typing import Any

from pyres.exceptions import BadOptionError
from pyres.process.log_output import FileOutput, StreamOutput, SyslogOutput
from pyres.shortening import cut

#: 2026-11-23 16:01:08  1234 INFO     message
LINE = "%(asctime)s %(process)5d %(levelname)-8s %(message)s"
TIME = "%Y-%m-%d %H:%M:%S"

#: An attribute of the log record of a job's end: what a JSON line says of it.
JOB = "job"

#: Where syslog listens on Linux, and on macOS.
SYSLOG_SOCKETS = ("/dev/log", "/var/run/syslog")

#: pyres' own logger, of which each module has a child.
PACKAGE_LOGGER = logging.getLogger("pyres")

#: What reports a handler that raises, as every handler of logging does for itself.
_NO_HANDLER = logging.NullHandler()

#: An attribute of our handlers: the level that the root logger had before.
_MARK = "_pyres_root_level"


#: Bytes of a traceback in the log; what is longer is cut in the middle.
MAX_TRACEBACK_BYTES = 64000


class _Formatter(logging.Formatter):
    """Lines of text, with tracebacks of a limited length."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        return cut(super().formatException(ei), MAX_TRACEBACK_BYTES)


class JsonFormatter(_Formatter):
    """One JSON object a line; of the end of a job with its class, queue, outcome and seconds."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "pid": record.process,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if job := getattr(record, JOB, None):
            line[JOB] = job
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def special_log_file(filename: str) -> bool:
    """Whether this names no file: stderr, stdout, syslog or syslog:<facility>."""
    return filename in ("stderr", "stdout", "syslog") or filename.startswith("syslog:")


def get_logging_handler(
    filename: str | None, procname: str, namespace: str | None = None, json_logs: bool = False
) -> logging.Handler:
    """The handler for a log's name; a file is opened again when it was rotated away.

    BadOptionError for a facility that syslog does not have or a file that cannot be opened. Later
    it raises nothing: while the file cannot be written its lines go to stderr.
    """
    handler = _handler(filename, procname, namespace, json_logs)
    try:
        _open(handler)
    except OSError as error:
        text = f"the log file {filename} cannot be opened: {error.strerror}"
        raise BadOptionError(text) from None
    return handler


def _open(handler: logging.Handler) -> None:
    """Open the file of a handler that has one. Raises OSError."""
    if isinstance(handler, FileOutput):
        handler.open()


def _handler(
    filename: str | None, procname: str, namespace: str | None, json_logs: bool
) -> logging.Handler:
    where = filename or "stderr"
    line = LINE
    handler: logging.Handler
    if where in ("stderr", "stdout"):
        handler = StreamOutput(getattr(sys, where))
    elif special_log_file(where):
        handler = _syslog(where)
        ident = f"{procname}({namespace})" if namespace else procname
        line = f"{ident}[%(process)d]: %(levelname)s %(message)s"
    else:
        handler = FileOutput(where)
    handler.setFormatter(JsonFormatter() if json_logs else _Formatter(line, TIME))
    return handler


def _syslog(where: str) -> logging.Handler:
    facility = where.partition(":")[2] or "user"
    names = logging.handlers.SysLogHandler.facility_names
    if facility not in names:
        raise BadOptionError(
            f"syslog has no facility {facility!r}; it is one of {', '.join(sorted(names))}"
        )
    network = ("localhost", logging.handlers.SYSLOG_UDP_PORT)
    address = next((path for path in SYSLOG_SOCKETS if os.path.exists(path)), network)
    return SyslogOutput(address, names[facility])


def level_number(level: int | str) -> int:
    """A level by number or by name in any case. BadOptionError for another."""
    if isinstance(level, int):
        return level
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise BadOptionError(
            f"{level!r} is no log level; it is one of debug, info, warning, error, critical"
        )
    return number


class _OwnLogger(logging.Logger):
    """A logger of pyres: an application that sets up its own logging does not silence it."""

    # dictConfig() disables every logger that it does not name, unless it is told not to.
    @property
    def disabled(self) -> bool:
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass

    def callHandlers(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        try:
            super().callHandlers(record)
        except Exception:  # noqa: BLE001 - a handler of the application raised: no job pays for that
            _NO_HANDLER.handleError(record)

    # Where _Onward is, that passes the records on. dictConfig() may take it away again.
    @property
    def propagate(self) -> bool:
        return self.__dict__["propagate"] and not any(map(_is_ours, self.handlers))

    @propagate.setter
    def propagate(self, value: bool) -> None:
        self.__dict__["propagate"] = value


class _Onward(logging.Handler):
    """Passes pyres' own records to the application's handlers on the root logger, but for those
    that write where `own` has written them.
    """

    def __init__(self, own: logging.Handler) -> None:
        super().__init__()
        self.own = own

    def handle(self, record: logging.LogRecord) -> bool:
        """Without the lock, which a handler that logs to pyres itself would wait for."""
        for handler in logging.getLogger().handlers:
            if record.levelno >= handler.level and not _same_place(handler, self.own):
                handler.handle(record)
        return True


def _same_place(one: logging.Handler, other: logging.Handler) -> bool:
    if isinstance(one, logging.FileHandler) and isinstance(other, logging.FileHandler):
        return one.baseFilename == other.baseFilename
    stream = getattr(one, "stream", None)
    return one is other or (stream is not None and stream is getattr(other, "stream", None))


def _is_ours(handler: logging.Handler) -> bool:
    return hasattr(handler, _MARK)


def setup_logging(
    procname: str,
    log_level: int | str = logging.INFO,
    filename: str | None = None,
    json_logs: bool = False,
) -> None:
    """Send pyres' log somewhere, and what the application logs too while it sets up nothing itself.

    A second call replaces what the first one set up; nothing for the level NOTSET, as in pyres 1.5.
    """
    level = level_number(log_level)
    if level != logging.NOTSET:
        _use(get_logging_handler(filename, procname, json_logs=json_logs), level)


def setup_child_logging(
    procname: str, log_level: int | str, filename: str | None, json_logs: bool
) -> None:
    """setup_logging() in a process that must not end for its log: a file that cannot be opened is
    tried again with each line.
    """
    level = level_number(log_level)
    if level == logging.NOTSET:
        return
    handler = _handler(filename, procname, None, json_logs)
    with contextlib.suppress(OSError):
        _open(handler)
    _use(handler, level)


def _use(handler: logging.Handler, level: int) -> None:
    root = logging.getLogger()
    on_root = [former for former in root.handlers if _is_ours(former)]
    root_level = getattr(on_root[0], _MARK) if on_root else root.level
    for ours in (handler, onward := _Onward(handler)):
        setattr(ours, _MARK, root_level)
    clear_logging()
    _protect_own_loggers()
    PACKAGE_LOGGER.setLevel(level)
    PACKAGE_LOGGER.addHandler(handler)
    PACKAGE_LOGGER.addHandler(onward)
    if on_root or not root.handlers:
        root.addHandler(handler)
        root.setLevel(level)
    _let_basic_config_through()


def clear_logging() -> None:
    """Remove the handlers that setup_logging() has added, and no other."""
    for logger in (logging.getLogger(), PACKAGE_LOGGER):
        _remove_ours(logger)
    if hasattr(logging.basicConfig, _MARK):
        logging.basicConfig = inspect.unwrap(logging.basicConfig)


def _remove_ours(logger: logging.Logger) -> None:
    for former in [handler for handler in logger.handlers if _is_ours(handler)]:
        logger.removeHandler(former)
        former.close()


def _protect_own_loggers() -> None:
    for name, logger in logging.getLogger().manager.loggerDict.items():
        if f"{name}.".startswith("pyres.") and isinstance(logger, logging.Logger):
            logger.__class__ = _OwnLogger


def _let_basic_config_through() -> None:
    """Have logging.basicConfig() of an application work as if our handler were not on the root.

    It does nothing where the root logger has a handler. Without ours there, logging.info() would
    set up one of its own for stderr, and a library's logger with a NullHandler would be silent.
    """
    original = logging.basicConfig
    if hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def basic_config(**options: Any) -> None:
        root = logging.getLogger()
        ours = [handler for handler in root.handlers if _is_ours(handler)]
        for handler in ours:
            root.removeHandler(handler)
        try:
            original(**options)
        except BaseException:
            root.handlers[:] = ours or root.handlers
            raise
        if not root.handlers:
            root.handlers.extend(ours)
        elif ours and "level" not in options:
            root.setLevel(getattr(ours[0], _MARK))

    setattr(basic_config, _MARK, True)
    logging.basicConfig = basic_config


def horde_setup_logging(
    procname: str,
    namespace: str = "",
    log_level: int | str = logging.INFO,
    log_file: str | None = None,
) -> logging.Logger:
    """setup_logging() as pyres 1.5 had it in pyres.horde; gives the logger."""
    setup_logging(f"{procname}({namespace})" if namespace else procname, log_level, log_file)
    return PACKAGE_LOGGER
