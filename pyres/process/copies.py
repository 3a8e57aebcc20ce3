"""Ends a copy of this process that a job has forked."""

from __future__ import annotations

import os
import traceback
from typing import NoReturn

from pyres.process.children import EXIT_SOFTWARE, exit_code, flush


def end_copy(error: BaseException | None) -> NoReturn:
    """Exit at once, with the status for `error`: the connections belong to the original process."""
    code = 0
    try:
        if isinstance(error, SystemExit):
            code = exit_code(error)
        elif error is not None:
            code = EXIT_SOFTWARE
            traceback.print_exception(error)
    finally:
        try:
            flush()
        finally:
            os._exit(code & 0xFF)
