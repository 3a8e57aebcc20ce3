"""Removes from a program what Windows does not have. Runs at its start, from PYTHONPATH.

The name of the system stays, since Python's library depends on it; so what the library itself needs
is imported first.
"""

from __future__ import annotations

import _signal
import _socket
import sys

# Without it the socket module uses the pair of TCP sockets that it has for Windows.
del _socket.socketpair

import asyncio  # noqa: E402, F401
import logging.handlers  # noqa: E402, F401
import multiprocessing  # noqa: E402, F401
import os  # noqa: E402
import platform  # noqa: E402
import select  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import subprocess  # noqa: E402, F401
import tempfile  # noqa: E402, F401
import uuid  # noqa: E402, F401

platform.node()

SIGNALS = {"SIGINT", "SIGTERM", "SIGABRT", "SIGFPE", "SIGILL", "SIGSEGV"}

MISSING = {
    os: """fork forkpty fchmod getpgid getuid geteuid getgid killpg nice openpty pidfd_open pipe2
        posix_spawn register_at_fork setsid sysconf uname wait wait3 wait4 waitid
        WNOHANG""",
    select: "epoll poll POLLIN POLLOUT",
    signal: """alarm pause pthread_sigmask setitimer siginterrupt sigpending sigtimedwait sigwait
        ITIMER_REAL""",
    _signal: "alarm pause pthread_sigmask setitimer siginterrupt ITIMER_REAL",
    socket: "AF_UNIX",
}

for module, names in MISSING.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)

for module in (signal, _signal):
    for name in [name for name in vars(module) if name.startswith("SIG") and name.isupper()]:
        if name not in {*SIGNALS, "SIG_DFL", "SIG_IGN"}:
            delattr(module, name)

for name in ("fcntl", "grp", "pwd", "resource", "syslog", "termios"):
    sys.modules[name] = None  # type: ignore[assignment]
