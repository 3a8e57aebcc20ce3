"""Sets up logging: where the log is written, and the format of its lines."""

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

#: An attribute of the log record of a job's end: the fields for its JSON line.
JOB = "job"

#: The sockets of syslog on Linux and on macOS.
SYSLOG_SOCKETS = ("/dev/log", "/var/run/syslog")

#: pyres' own logger, of which each module has a child.
PACKAGE_LOGGER = logging.getLogger("pyres")

#: Reports the exception of a handler, as logging's own handlers do.
_NO_HANDLER = logging.NullHandler()

#: An attribute of pyres' own handlers: the level that the root logger had before.
_MARK = "_pyres_root_level"


#: Bytes of a traceback in the log; a longer one is cut in the middle.
MAX_TRACEBACK_BYTES = 64000


class _Formatter(logging.Formatter):
    """Lines of text, with tracebacks of a limited length."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        return cut(super().formatException(ei), MAX_TRACEBACK_BYTES)


class JsonFormatter(_Formatter):
    """One JSON object per line; for the end of a job with its class, queue, outcome and seconds."""

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
    """Whether this is not the name of a file but stderr, stdout, syslog or syslog:<facility>."""
    return filename in ("stderr", "stdout", "syslog") or filename.startswith("syslog:")


def get_logging_handler(
    filename: str | None, procname: str, namespace: str | None = None, json_logs: bool = False
) -> logging.Handler:
    """The handler for a log's name; a file is opened again after it was rotated.

    Raises BadOptionError for an unknown syslog facility or a file that cannot be opened. The
    handler raises nothing: while the file cannot be written its lines go to stderr.
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
    name = filename or "stderr"
    line = LINE
    handler: logging.Handler
    if name in ("stderr", "stdout"):
        handler = StreamOutput(getattr(sys, name))
    elif special_log_file(name):
        handler = _syslog(name)
        ident = f"{procname}({namespace})" if namespace else procname
        line = f"{ident}[%(process)d]: %(levelname)s %(message)s"
    else:
        handler = FileOutput(name)
    handler.setFormatter(JsonFormatter() if json_logs else _Formatter(line, TIME))
    return handler


def _syslog(name: str) -> logging.Handler:
    facility = name.partition(":")[2] or "user"
    names = logging.handlers.SysLogHandler.facility_names
    if facility not in names:
        raise BadOptionError(
            f"invalid syslog facility {facility!r}: expected one of {', '.join(sorted(names))}"
        )
    network = ("localhost", logging.handlers.SYSLOG_UDP_PORT)
    address = next((path for path in SYSLOG_SOCKETS if os.path.exists(path)), network)
    return SyslogOutput(address, names[facility])


def level_number(level: int | str) -> int:
    """A level by number or by name in any case. Raises BadOptionError for any other name."""
    if isinstance(level, int):
        return level
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise BadOptionError(
            f"invalid log level {level!r}: expected debug, info, warning, error or critical"
        )
    return number


class _OwnLogger(logging.Logger):
    """A logger of pyres, which an application does not silence by its own logging setup."""

    # dictConfig() disables every logger that it does not name, unless configured not to.
    @property
    def disabled(self) -> bool:
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass

    def callHandlers(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        try:
            super().callHandlers(record)
        except Exception:  # noqa: BLE001 - a handler of the application raised: no job fails by that
            _NO_HANDLER.handleError(record)

    # False while a _ToRootHandlers passes the records on; dictConfig() may remove that again.
    @property
    def propagate(self) -> bool:
        return self.__dict__["propagate"] and not any(map(_is_own, self.handlers))

    @propagate.setter
    def propagate(self, value: bool) -> None:
        self.__dict__["propagate"] = value


class _ToRootHandlers(logging.Handler):
    """Passes pyres' own records to the application's handlers on the root logger, except those that
    write to the same place as `own`.
    """

    def __init__(self, own: logging.Handler) -> None:
        super().__init__()
        self.own = own

    def handle(self, record: logging.LogRecord) -> bool:
        """Without the lock, for which a handler that itself logs to pyres would wait."""
        for handler in logging.getLogger().handlers:
            if record.levelno >= handler.level and not _same_place(handler, self.own):
                handler.handle(record)
        return True


def _same_place(first: logging.Handler, second: logging.Handler) -> bool:
    if isinstance(first, logging.FileHandler) and isinstance(second, logging.FileHandler):
        return first.baseFilename == second.baseFilename
    stream = getattr(first, "stream", None)
    return first is second or (stream is not None and stream is getattr(second, "stream", None))


def _is_own(handler: logging.Handler) -> bool:
    return hasattr(handler, _MARK)


def setup_logging(
    procname: str,
    log_level: int | str = logging.INFO,
    filename: str | None = None,
    json_logs: bool = False,
) -> None:
    """Send pyres' log to stderr, a file or syslog, and the application's log too unless it sets up
    its own logging.

    A second call replaces what the first one set up. The level NOTSET does nothing, as in pyres
    1.5.
    """
    level = level_number(log_level)
    if level != logging.NOTSET:
        _use(get_logging_handler(filename, procname, json_logs=json_logs), level)


def setup_child_logging(
    procname: str, log_level: int | str, filename: str | None, json_logs: bool
) -> None:
    """setup_logging() for a process that must not end because of its log: it tries to open the file
    again with each line.
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
    on_root = [former for former in root.handlers if _is_own(former)]
    root_level = getattr(on_root[0], _MARK) if on_root else root.level
    to_root_handlers = _ToRootHandlers(handler)
    for own in (handler, to_root_handlers):
        setattr(own, _MARK, root_level)
    clear_logging()
    _protect_own_loggers()
    PACKAGE_LOGGER.setLevel(level)
    PACKAGE_LOGGER.addHandler(handler)
    PACKAGE_LOGGER.addHandler(to_root_handlers)
    if on_root or not root.handlers:
        root.addHandler(handler)
        root.setLevel(level)
    _let_basic_config_through()


def clear_logging() -> None:
    """Remove the handlers that setup_logging() has added, and no other."""
    for logger in (logging.getLogger(), PACKAGE_LOGGER):
        _remove_own_handlers(logger)
    if hasattr(logging.basicConfig, _MARK):
        logging.basicConfig = inspect.unwrap(logging.basicConfig)


def _remove_own_handlers(logger: logging.Logger) -> None:
    for former in [handler for handler in logger.handlers if _is_own(handler)]:
        logger.removeHandler(former)
        former.close()


def _protect_own_loggers() -> None:
    for name, logger in logging.getLogger().manager.loggerDict.items():
        if f"{name}.".startswith("pyres.") and isinstance(logger, logging.Logger):
            logger.__class__ = _OwnLogger


def _let_basic_config_through() -> None:
    """Make logging.basicConfig() of an application work as if pyres' handler were not on the root
    logger.

    It does nothing if the root logger has a handler. Without pyres' handler there, logging.info()
    would add one for stderr, and the log of a library with a NullHandler would be lost.
    """
    original = logging.basicConfig
    if hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def basic_config(**options: Any) -> None:
        root = logging.getLogger()
        own = [handler for handler in root.handlers if _is_own(handler)]
        for handler in own:
            root.removeHandler(handler)
        try:
            original(**options)
        except BaseException:
            root.handlers[:] = own or root.handlers
            raise
        if not root.handlers:
            root.handlers.extend(own)
        elif own and "level" not in options:
            root.setLevel(getattr(own[0], _MARK))

    setattr(basic_config, _MARK, True)
    logging.basicConfig = basic_config


def horde_setup_logging(
    procname: str,
    namespace: str = "",
    log_level: int | str = logging.INFO,
    log_file: str | None = None,
) -> logging.Logger:
    """setup_logging() as it was in pyres.horde of pyres 1.5; returns the logger."""
    setup_logging(f"{procname}({namespace})" if namespace else procname, log_level, log_file)
    return PACKAGE_LOGGER
