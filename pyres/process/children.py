"""Forks child processes, waits for them, and reads how they ended."""

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

#: The exit status of a child that ended by an exception (EX_SOFTWARE of sysexits.h).
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
    """The end of a child that exited with status 0 before its job had ended."""

    @property
    def clean(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"exited with status {self.code} before the job ended"


class Children:
    """The children of one daemon, oldest first.

    A daemon with several children handles SIGCHLD in its Signals (with `wake`), so that the end of
    a child ends its wait. A daemon that waits for a single child needs no handler.
    """

    def __init__(self, signals: Signals) -> None:
        self.signals = signals
        self.pids: list[int] = []
        self._detached: list[int] = []

    def __len__(self) -> int:
        return len(self.pids)

    def __contains__(self, pid: int) -> bool:
        return pid in self.pids

    def fork(self, run: Callable[[], int | None]) -> int:
        """Fork a child that calls `run` and exits with the status that it returns; the child's pid.

        What the parent has buffered for stdout is written before, or both would write it.
        """
        require_fork("A child process")
        flush()
        self.collect()
        # Signals are held until the parent has noted the child's pid, and the child has reset the
        # parent's handlers.
        former = self.signals.hold()
        try:
            pid: int = _fork()
        except BaseException:
            # fork() failed: with its signals still held the parent could not be stopped.
            self.signals.release(former)
            raise
        if pid == 0:
            self._run_child(run, former)
        self.pids.append(pid)
        self.signals.release(former)
        return pid

    def _run_child(self, run: Callable[[], int | None], former: set[int]) -> NoReturn:
        """All that the child does. Whatever happens, none of the parent's code runs after it."""
        code = EXIT_SOFTWARE
        try:
            self.pids, self._detached = [], []
            self.signals.reset_in_child()
            self.signals.release(former)
            code = int(run() or 0)
        except SystemExit as error:
            code = exit_code(error)
        except KeyboardInterrupt:
            # A terminal sends SIGINT to all processes, also to a child without a job: no traceback.
            # If it ended a job, that was logged.
            code = EXIT_SOFTWARE
        except BaseException:  # noqa: BLE001 - the end of a forked child (rule 8)
            traceback.print_exc()
        finally:
            try:
                flush()
            finally:
                os._exit(code & 0xFF)

    def wait(self, pid: int, timeout: float | None = None, fds: Sequence[int] = ()) -> Exit | None:
        """Wait for the end of one child; None if `timeout` passed, a signal came or one of `fds`
        became readable first.
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
        """wait() on a kernel without pidfd: polls, with growing pauses of at most 0.05 s."""
        end = None if timeout is None else time.monotonic() + timeout
        pause = 0.0005
        while True:
            if exit := self._end_of(pid, os.WNOHANG):
                return exit
            remaining = pause if end is None else min(pause, end - time.monotonic())
            if remaining <= 0 or self.signals.wait(fds, remaining) or self.signals.signalled:
                return None
            pause = min(pause * 2, 0.05)

    def _end_of(self, pid: int, options: int = 0) -> Exit | None:
        """Reap the child and return how it ended; None if it still runs, with WNOHANG."""
        try:
            ended_pid, status = _waitpid(pid, options)
        except ChildProcessError:
            # Other code in this process has reaped it, so its exit status is not known.
            exit = Exit(pid, EXIT_SOFTWARE)
        else:
            if not ended_pid:
                return None
            exit = Exit(pid, os.waitstatus_to_exitcode(status))
        self.pids.remove(pid)
        return exit

    def detach(self, pid: int) -> Exit:
        """Stop waiting for a child that has reported that it finished; collect() reaps it later.

        The kernel needs as long to end a process as to fork one, and the parent can fetch the next
        job meanwhile: measured, that is a fifth of the time of a no-op job.
        """
        self.pids.remove(pid)
        self._detached.append(pid)
        return Exit(pid, 0)

    def collect(self, block: bool = False) -> None:
        """Reap the detached children that have ended; `block`: wait until all have."""
        for pid in list(self._detached):
            with contextlib.suppress(ChildProcessError):  # other code here has reaped it
                if not _waitpid(pid, 0 if block else os.WNOHANG)[0]:
                    continue
            self._detached.remove(pid)

    def reap(self) -> list[Exit]:
        """Reap the children in `pids` that have ended, and return how; other children of this
        process are left to the code that started them.
        """
        ended = [self._end_of(pid, os.WNOHANG) for pid in list(self.pids)]
        return [exit for exit in ended if exit]

    def kill(self, signum: int, pid: int | None = None) -> None:
        """Send a signal to one child or to all."""
        for child in list(self.pids) if pid is None else [pid]:
            with contextlib.suppress(ProcessLookupError):  # it ended by itself in the meantime
                os.kill(child, signum)


def alive(pid: int) -> bool:
    """Whether a process with this pid exists and is not a zombie."""
    if pid <= 0:  # for kill() a process group, or all processes
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
    """Send a signal to any process; whether it exists."""
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return False
    return True


def die_with_parent(parent: int, signum: int = signal.SIGTERM) -> bool:
    """Have the kernel send this process a signal when its parent ends; False where the kernel does
    not support that.

    `parent` is the parent's pid, read before the fork: if that process has already ended, the
    signal is sent at once.
    """
    if not sys.platform.startswith("linux"):
        return False
    is_set = bool(ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signum), 0, 0, 0) == 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signum)
    return is_set


def resident_megabytes() -> float:
    """This process's resident memory in MiB; its peak on a system without /proc."""
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
    """The exit status of a process that ends by this SystemExit."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code
    print(error.code, file=sys.stderr)  # noqa: T201 - what Python itself does with sys.exit("text")
    return 1


def leave(code: int) -> NoReturn:
    """End this process at once with this status, without exit hooks."""
    flush()
    os._exit(code)


def flush() -> None:
    """Flush stdout and stderr, if they can be written to."""
    for stream in (sys.stdout, sys.stderr):
        # Its reader may have ended, it may be closed, and a job may have replaced it by anything.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
