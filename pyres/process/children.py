"""Births, deaths and orderly ends of child processes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pyres.process import system
from pyres.process.native import close, native, require_fork
from pyres.process.signals import Signals

_fork: Any = native("os", "fork") if hasattr(os, "fork") else None
_waitpid: Callable[[int, int], tuple[int, int]] = native("os", "waitpid")

#: What a child leaves with when an exception got out of it (EX_SOFTWARE of sysexits.h).
EXIT_SOFTWARE = 70

#: PR_SET_PDEATHSIG of linux/prctl.h.
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Exit:
    """How a child ended; `code` is negative for a signal, as in subprocess."""

    pid: int
    code: int

    @property
    def clean(self) -> bool:
        return self.code == 0

    @property
    def signal(self) -> str | None:
        """The name of the signal that killed it, or None."""
        if self.code >= 0:
            return None
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"signal {-self.code}"

    def __str__(self) -> str:
        if self.signal:
            return f"was killed by {self.signal}"
        return "ended cleanly" if self.clean else f"exited with status {self.code}"


class EarlyExit(Exit):
    """The end of a child that left well before it had done what it was for."""

    @property
    def clean(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"exited with status {self.code} before the job ended"


class Children:
    """The children of one daemon, in order of birth.

    A daemon with several children handles SIGCHLD in its Signals (with `wake`), so that a death
    ends its wait. One that waits for a lone child needs no handler at all.
    """

    def __init__(self, signals: Signals) -> None:
        self.signals = signals
        self.pids: list[int] = []
        self._leaving: list[int] = []

    def __len__(self) -> int:
        return len(self.pids)

    def __contains__(self, pid: int) -> bool:
        return pid in self.pids

    def fork(self, run: Callable[[], int | None]) -> int:
        """Start a child that does `run` and leaves with what that returns; its pid.

        What the parent has buffered for stdout is written before, or both would write it.
        """
        require_fork("A child process")
        flush()
        self.collect()
        # Held, so that no signal falls where the parent does not know its child yet, or the child
        # still has the parent's handlers.
        former = self.signals.hold()
        try:
            pid: int = _fork()
        except BaseException:
            # No process to be had: a parent that then stays deaf could not even be stopped.
            self.signals.release(former)
            raise
        if pid == 0:
            self._live(run, former)
        self.pids.append(pid)
        self.signals.release(former)
        return pid

    def _live(self, run: Callable[[], int | None], former: set[int]) -> NoReturn:
        """The child's whole life. Whatever happens, nothing of the parent's code runs after it."""
        code = EXIT_SOFTWARE
        try:
            self.pids, self._leaving = [], []
            self.signals.reset_in_child()
            self.signals.release(former)
            code = int(run() or 0)
        except SystemExit as error:
            code = exit_code(error)
        except KeyboardInterrupt:
            # A terminal sends it to all of us, also to a child that had nothing to do yet: so
            # without a word. A job that it ended has been logged.
            code = EXIT_SOFTWARE
        except BaseException:  # noqa: BLE001 - the end of a forked child (rule 8)
            traceback.print_exc()
        finally:
            try:
                flush()
            finally:
                os._exit(code & 0xFF)

    def wait(self, pid: int, timeout: float | None = None, fds: Sequence[int] = ()) -> Exit | None:
        """The end of one child; None when `timeout` passed, a signal came or one of `fds` can be
        read.
        """
        if timeout is None and not fds and not self.signals.installed:
            return self._end_of(pid)
        watched = _pidfd(pid)
        if watched is None:
            return self._wait_polling(pid, timeout, fds)
        try:
            ready = self.signals.wait((watched, *fds), timeout)
        finally:
            close(watched)
        return self._end_of(pid) if watched in ready else None

    def _wait_polling(self, pid: int, timeout: float | None, fds: Sequence[int]) -> Exit | None:
        """wait() where the kernel has no pidfd: looks again after growing pauses of at
        most 0.05 s.
        """
        end = None if timeout is None else time.monotonic() + timeout
        pause = 0.0005
        while True:
            if exit := self._end_of(pid, os.WNOHANG):
                return exit
            left = pause if end is None else min(pause, end - time.monotonic())
            if left <= 0 or self.signals.wait(fds, left) or self.signals.signalled:
                return None
            pause = min(pause * 2, 0.05)

    def _end_of(self, pid: int, options: int = 0) -> Exit | None:
        """How the child ended, which it has then left behind; None while it lives, if WNOHANG."""
        try:
            found, status = _waitpid(pid, options)
        except ChildProcessError:
            # Somebody in this process waited for it in our place, so how it ended is not known.
            exit = Exit(pid, EXIT_SOFTWARE)
        else:
            if not found:
                return None
            exit = Exit(pid, os.waitstatus_to_exitcode(status))
        self.pids.remove(pid)
        return exit

    def detach(self, pid: int) -> Exit:
        """Take a child's word that it is done: its exit goes on beside us, and is collected later.

        The kernel takes as long to take a process down as to make one, and the parent has the next
        job to fetch meanwhile: measured, that is a fifth of the time a no-op job takes.
        """
        self.pids.remove(pid)
        self._leaving.append(pid)
        return Exit(pid, 0)

    def collect(self, block: bool = False) -> None:
        """Reap those that were let go and have left; `block`: wait until the last one has."""
        for pid in list(self._leaving):
            with contextlib.suppress(ChildProcessError):  # somebody else here has waited for it
                if not _waitpid(pid, 0 if block else os.WNOHANG)[0]:
                    continue
            self._leaving.remove(pid)

    def reap(self) -> list[Exit]:
        """All of ours that have ended; never anybody else's children, which their owner
        waits for.
        """
        ended = [self._end_of(pid, os.WNOHANG) for pid in list(self.pids)]
        return [exit for exit in ended if exit]

    def kill(self, signum: int, pid: int | None = None) -> None:
        """Send a signal to one child or to all."""
        for each in list(self.pids) if pid is None else [pid]:
            with contextlib.suppress(ProcessLookupError):  # it ended by itself in the meantime
                os.kill(each, signum)


def alive(pid: int) -> bool:
    """Whether a process has this pid and is no zombie."""
    if pid <= 0:  # which kill() takes for a group, or for everybody
        return False
    if system.WINDOWS:
        return system.runs_on_windows(pid)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return not system.state(pid).startswith("Z")


def send(pid: int, signum: int) -> bool:
    """Send a signal to any process; whether there was one."""
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return False
    return True


def die_with_parent(parent: int, signum: int = signal.SIGTERM) -> bool:
    """Ask the kernel for a signal when the parent dies; False where it cannot be asked.

    `parent` is the pid that the parent had before the fork: if it is gone already, the signal is
    sent here and now.
    """
    if not sys.platform.startswith("linux"):
        return False
    asked = bool(ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signum), 0, 0, 0) == 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signum)
    return asked


def resident_megabytes() -> float:
    """This process's resident memory in MiB: now, or its peak on a system without /proc."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return system.peak_megabytes()
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _pidfd(pid: int) -> int | None:
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # an old kernel, or a sandbox that forbids it
        return None


def exit_code(error: SystemExit) -> int:
    """The status that a process leaves with for this."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code
    print(error.code, file=sys.stderr)  # noqa: T201 - what Python itself does with sys.exit("text")
    return 1


def leave(code: int) -> NoReturn:
    """End this process here: its parent finds out, and nothing of its own is run any more."""
    flush()
    os._exit(code)


def flush() -> None:
    """Write out what is buffered for stdout and stderr, as far as they can be written to."""
    for stream in (sys.stdout, sys.stderr):
        # The reader may be gone, it may be closed, and a job may have put anything there.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
