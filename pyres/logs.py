"""Where the log goes, and how a line of it looks."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import sys
from datetime import UTC, datetime

from pyres.exceptions import BadOptionError

#: 2026-11-23 16:01:08  1234 INFO     message
LINE = "%(asctime)s %(process)5d %(levelname)-8s %(message)s"
TIME = "%Y-%m-%d %H:%M:%S"

_MARK = "_pyres"


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "pid": record.process,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
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

    BadOptionError for a facility that syslog does not have or a file that cannot be opened.
    """
    where = filename or "stderr"
    line = LINE
    handler: logging.Handler
    if where in ("stderr", "stdout"):
        handler = logging.StreamHandler(getattr(sys, where))
    elif special_log_file(where):
        handler = _syslog(where)
        ident = f"{procname}({namespace})" if namespace else procname
        line = f"{ident}[%(process)d]: %(levelname)s %(message)s"
    else:
        handler = _file(where)
    handler.setFormatter(JsonFormatter() if json_logs else logging.Formatter(line, TIME))
    return handler


def _syslog(where: str) -> logging.Handler:
    facility = where.partition(":")[2] or "user"
    names = logging.handlers.SysLogHandler.facility_names
    if facility not in names:
        raise BadOptionError(
            f"syslog has no facility {facility!r}; it is one of {', '.join(sorted(names))}"
        )
    address = (
        "/dev/log"
        if os.path.exists("/dev/log")
        else ("localhost", logging.handlers.SYSLOG_UDP_PORT)
    )
    return logging.handlers.SysLogHandler(address, names[facility])


def _file(where: str) -> logging.Handler:
    try:
        # A payload may hold text that is no UTF-8; its line must not be lost for that.
        return logging.handlers.WatchedFileHandler(
            where, encoding="utf-8", errors="backslashreplace"
        )
    except OSError as error:
        raise BadOptionError(f"the log file {where} cannot be opened: {error.strerror}") from None


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


def setup_logging(
    procname: str,
    log_level: int | str = logging.INFO,
    filename: str | None = None,
    json_logs: bool = False,
) -> None:
    """Send the log of this process somewhere; a second call replaces what the first one set up."""
    level = level_number(log_level)
    handler = get_logging_handler(filename, procname, json_logs=json_logs)
    setattr(handler, _MARK, True)
    clear_logging()
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)


def clear_logging() -> None:
    """Remove what setup_logging() has set up, and no other handler."""
    root = logging.getLogger()
    for former in [handler for handler in root.handlers if hasattr(handler, _MARK)]:
        root.removeHandler(former)
        former.close()
