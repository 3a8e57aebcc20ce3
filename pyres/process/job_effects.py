"""Restores a process after a job that has changed it."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import contextlib
import os
import sys
import time
from typing import Any

from pyres.process.native import close
from pyres.process.signals import Signals

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

#: Descriptors and limits are checked after this many jobs, or this many seconds.
LIMITS_EVERY_JOBS, LIMITS_EVERY = 100, 10.0

#: A process that uses more than this share of a limit retires.
NEAR_LIMIT = 0.9

#: The timers, each with its signal, which ends a process that does not handle it.
_TIMERS: dict[Any, Any] = {
    getattr(_signal, timer, None): getattr(_signal, signum, None)
    for timer, signum in (
        ("ITIMER_REAL", "SIGALRM"),
        ("ITIMER_VIRTUAL", "SIGVTALRM"),
        ("ITIMER_PROF", "SIGPROF"),
    )
}
_STREAMS = ("stdin", "stdout", "stderr")

_getsignal, _set_handler = _signal.getsignal, _signal.signal
_sigmask: Any = getattr(_signal, "pthread_sigmask", None)


class ProcessState:
    """The state of a process before its first job; restore() restores it, within some µs.

    Descriptors that a job has left open stay open, and the environment stays as the job left it.
    """

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._mask = _sigmask(_signal.SIG_BLOCK, ())
        #: A timer that runs already belongs to a profiler, and is left alone.
        self._timers = {
            timer: (signum, _getsignal(signum))
            for timer, signum in _TIMERS.items()
            if not _signal.getitimer(timer)[0]
        }
        self._folder = _folder()
        self._streams = [getattr(sys, name) for name in _STREAMS]
        self._copies = [_copy(fd) for fd in range(3)]
        self._files = [_file(fd) for fd in range(3)]
        self._limits = _limits()
        self._jobs, self._next_check = 0, time.monotonic() + LIMITS_EVERY

    def close(self) -> None:
        """Close the descriptors that were kept for restore()."""
        for fd in self._copies:
            if fd is not None:
                close(fd)
        self._copies = [None] * 3

    def restore(self) -> list[str]:
        """Undo what a job did to the process; a text for each thing that could not be undone."""
        return [
            *self._signals.reassert(),
            *self._restore_timers(),
            *self._restore_mask(),
            *self._restore_folder(),
            *self._restore_streams(),
        ]

    def _restore_timers(self) -> list[str]:
        for timer, (signum, handler) in self._timers.items():
            # Reading the handler is cheaper than the timer, and the other two timers are rare.
            if timer == _signal.ITIMER_REAL:
                runs = _signal.getitimer(timer)[0]
            else:
                runs = _getsignal(signum) is not handler
            if runs:
                self._stop_timer(timer)
        return []

    def _stop_timer(self, timer: Any) -> None:
        signum, handler = self._timers[timer]
        _signal.setitimer(timer, 0)
        _set_handler(signum, _signal.SIG_DFL if handler is None else handler)

    def _restore_mask(self) -> list[str]:
        if _sigmask(_signal.SIG_BLOCK, ()) != self._mask:
            # After the handlers: the blocked signals come now, to the restored handlers.
            _sigmask(_signal.SIG_SETMASK, self._mask)
        return []

    def _restore_folder(self) -> list[str]:
        if self._folder is None or _folder() == self._folder:
            return []
        try:
            os.chdir(self._folder)
        except OSError as error:
            return [f"its working directory cannot be restored ({error})"]
        return []

    def _restore_streams(self) -> list[str]:
        """Put back sys.stdin, sys.stdout and sys.stderr."""
        problems = []
        for number, former in enumerate(self._streams):
            if getattr(sys, _STREAMS[number], None) is not former:
                setattr(sys, _STREAMS[number], former)
            if former is not None and getattr(former, "closed", False):
                problems.append(self._reopen(number))
        return problems

    def _reopen(self, number: int) -> str:
        self._restore_file(number)
        return f"a job has closed {_STREAMS[number]}"

    def _restore_file(self, number: int) -> bool:
        """Restore a standard descriptor that was replaced; whether it was."""
        copy = self._copies[number]
        if _file(number) == self._files[number] or copy is None:
            return False
        with contextlib.suppress(OSError):
            os.dup2(copy, number)
        return True

    # What is checked only every LIMITS_EVERY_JOBS jobs or LIMITS_EVERY seconds

    def exhausted(self, now: bool = False) -> list[str]:
        """A text for each reason why the process should end soon; checked from time to time, or
        `now`.
        """
        self._jobs += 1
        moment = time.monotonic()
        if not now and self._jobs < LIMITS_EVERY_JOBS and moment < self._next_check:
            return []
        self._jobs, self._next_check = 0, moment + LIMITS_EVERY
        for timer in self._timers:
            _signal.setitimer(timer, 0)
        return [*self._changed_files(), *self._changed_limits(), *near_limits()]

    def problems(self) -> list[str]:
        """A text for each thing that has changed; restores nothing."""
        changed = ["a job has replaced its signal handlers"] if self._signals.replaced() else []
        return [*changed, *self._changed_limits(), *near_limits()]

    def _changed_files(self) -> list[str]:
        return [
            f"a job has replaced {_STREAMS[number]}"
            for number in range(3)
            if self._restore_file(number)
        ]

    def _changed_limits(self) -> list[str]:
        return [
            f"a job has changed the limit {name} from {former} to {limit}"
            for (name, former), limit in zip(self._limits.items(), _limits().values(), strict=True)
            if former != limit
        ]


def _folder() -> bytes | None:
    try:
        return os.getcwdb()
    except OSError:  # it was removed
        return None


def _copy(fd: int) -> int | None:
    try:
        return os.dup(fd)
    except OSError:
        return None


def _file(fd: int) -> tuple[int, int, int] | None:
    """The identity of a descriptor's file; None if it is closed."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_rdev


_LIMITS = ("RLIMIT_NOFILE", "RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_CPU", "RLIMIT_FSIZE")


def _limits() -> dict[str, int]:
    """The limits of this process, -1 for none."""
    if resource is None:
        return {}
    names = [name for name in _LIMITS if hasattr(resource, name)]
    return {name: resource.getrlimit(getattr(resource, name))[0] for name in names}


def near_limits() -> list[str]:
    """A text for each limit that this process has almost reached."""
    used = {
        "RLIMIT_NOFILE": (_count_files(), "open files"),
        "RLIMIT_AS": (_address_space(), "bytes of memory"),
        "RLIMIT_CPU": (int(time.process_time()), "seconds of CPU time"),
    }
    limits = _limits()
    return [
        f"it uses {amount} of {limits[name]} {unit}"
        for name, (amount, unit) in used.items()
        if 0 <= limits.get(name, -1) * NEAR_LIMIT < amount
    ]


def _count_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except FileNotFoundError:  # no /proc
        return 0
    except OSError:  # no descriptor left
        return sys.maxsize


def _address_space() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def reseed_numpy() -> None:
    """In a new process: reseed numpy.random, if numpy is loaded."""
    if random := sys.modules.get("numpy.random"):
        seed = getattr(random, "seed", None)
        if callable(seed):
            seed()
