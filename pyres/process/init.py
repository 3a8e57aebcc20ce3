"""A minimal init: the parent of a daemon that is started as process 1, as in a container."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable
from typing import Any, NoReturn

from pyres.process.children import EXIT_SOFTWARE, flush
from pyres.process.native import is_patched, make_gevent_anew, native
from pyres.process.title import set_title

logger = logging.getLogger(__name__)

_fork: Any = native("os", "fork") if hasattr(os, "fork") else None
_waitpid: Callable[[int, int], tuple[int, int]] = native("os", "waitpid")

#: The process that becomes the parent of the orphans of its container.
INIT_PID = 1

#: Signals of a fault in the process itself, which are not forwarded.
_FAULTS = ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS")


def run_under_init(name: str) -> None:
    """As process 1, return only in a child; the init shows `name` in `ps`. Does nothing in another
    process.

    Process 1 forwards each signal to the child, reaps every process that ends, and ends as the
    child does: with its status, or with 128 + n for the signal n.
    """
    if os.getpid() != INIT_PID or _fork is None:
        return
    # A launcher may have set it to be ignored, and then the kernel would keep no exit status.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    former = signal.pthread_sigmask(signal.SIG_BLOCK, _waited_for())
    flush()
    try:
        pid = _fork()
    except OSError as error:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
        logger.warning("%s stays process 1 and reaps no orphans: %s", name, error)
        return
    if pid == 0:
        _become_daemon(former)
        return
    _be_init(pid, name)


def _waited_for() -> set[signal.Signals]:
    faults = {getattr(signal, fault, None) for fault in _FAULTS}
    return {signum for signum in signal.valid_signals() if signum not in faults}


def _become_daemon(former: set[int]) -> None:
    """In the child: use a process group of its own, so that Ctrl-C is not received twice."""
    with contextlib.suppress(OSError):  # no terminal, or not in its foreground
        in_foreground = os.tcgetpgrp(0) == os.getpgrp()
        os.setpgid(0, 0)
        if in_foreground:
            os.tcsetpgrp(0, os.getpid())
    signal.pthread_sigmask(signal.SIG_SETMASK, former)
    if is_patched():
        make_gevent_anew()


def _be_init(pid: int, name: str) -> NoReturn:
    """All that process 1 does from now on."""
    code = EXIT_SOFTWARE
    try:
        set_title(f"pyres_init: {name}")
        code = _serve(pid)
    finally:
        os._exit(code)


def _serve(daemon: int) -> int:
    """Forward signals and reap processes until the daemon ends; the status to exit with."""
    waited_for = _waited_for()
    while True:
        for pid, status in _ended():
            if pid == daemon:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        signum = signal.sigwait(waited_for)
        if signum != signal.SIGCHLD:
            os.kill(daemon, signum)


def _ended() -> list[tuple[int, int]]:
    """Reap the processes that have ended; the pid and status of each."""
    ended = []
    with contextlib.suppress(ChildProcessError):  # there are no more children
        while (pid_and_status := _waitpid(-1, os.WNOHANG))[0]:
            ended.append(pid_and_status)
    return ended
