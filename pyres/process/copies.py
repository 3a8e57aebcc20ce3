"""The end of a copy of this process that a job has forked."""

from __future__ import annotations

import os
import traceback
from typing import NoReturn

from pyres.process.children import EXIT_SOFTWARE, exit_code, flush


def end_copy(error: BaseException | None) -> NoReturn:
    """Leave at once, with the status that `error` asks for: the connections are the original's."""
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
