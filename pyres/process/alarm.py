"""Raises an exception in the running code after a timeout."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

#: Seconds of the longest alarm, some 30 years: the kernel's timer has no infinity.
LONGEST_ALARM = 1e9


def _can_raise() -> bool:
    in_main = threading.current_thread() is threading.main_thread()
    return in_main and hasattr(signal, "setitimer")


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Pause the timer of an alarm() during the block."""
    if not _can_raise():
        yield
        return
    remaining, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, remaining)


@contextlib.contextmanager
def alarm(seconds: float | None, error: BaseException) -> Iterator[None]:
    """Raise `error` in the block when it takes longer than N seconds. It uses SIGALRM.

    For a process that performs one job at a time. C code is not interrupted: the parent kills such
    a process. No alarm without seconds, outside the main thread, or on Windows.
    """
    if not seconds or not _can_raise():
        yield
        return

    def raise_timeout(_signum: int, _frame: FrameType | None) -> NoReturn:
        raise error

    former = signal.signal(signal.SIGALRM, raise_timeout)
    signal.setitimer(signal.ITIMER_REAL, min(seconds, LONGEST_ALARM))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if former is None else former)
