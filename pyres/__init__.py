"""pyres: the Resque-compatible job queue for Python. This module only re-exports public names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

# `pyres.job` is pyres 1.5's module, which can also be called as the decorator. It is imported now,
# so that `job` is the same object before and after the first import of a worker.
import pyres.job  # noqa: F401
from pyres.client import ResQ
from pyres.exceptions import PyresError
from pyres.former_names import former_names
from pyres.loading import my_import, safe_str_to_class, str_to_class
from pyres.logs import get_logging_handler, setup_logging, special_log_file
from pyres.process.pidfile import PidFile
from pyres.stat import Stat
from pyres.version import __version__

if TYPE_CHECKING:
    from pyres.decorators import job

__all__ = [
    "PidFile",
    "PyresError",
    "ResQ",
    "Stat",
    "__version__",
    "get_logging_handler",
    "job",
    "my_import",
    "safe_str_to_class",
    "setup_logging",
    "setup_pidfile",
    "special_log_file",
    "str_to_class",
]


def setup_pidfile(path: str | os.PathLike[str] | None) -> None:
    """Write this process's pid to a file and create missing folders; without a path do nothing."""
    if path:
        PidFile(path).create()


__getattr__ = former_names(
    __name__,
    {
        "Redis": "pyres.store:Redis",
        "json": "pyres.json_parser",
        "logger": "pyres.logs:PACKAGE_LOGGER",
        "string_types": "pyres.former_names:string_types",
    },
)
