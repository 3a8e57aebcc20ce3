"""Removes from a program what macOS does not have. Runs at its start, from PYTHONPATH."""

from __future__ import annotations

import builtins
import os
import resource
import select
import signal
import sys
import sysconfig
import urllib.request  # noqa: F401

# As the import above, by the name of the system that this Python was built for.
sysconfig.get_config_vars()

MISSING = {
    os: ("pipe2", "pidfd_open", "eventfd", "memfd_create", "sched_getaffinity", "getrandom"),
    select: ("epoll",),
    signal: ("pidfd_send_signal", "sigtimedwait", "sigwaitinfo", "SIGPOLL", "SIGPWR", "SIGCLD"),
}


def without_proc(function):
    def wrapped(path, *args, **kwargs):
        if str(path).startswith("/proc"):
            raise FileNotFoundError(2, "there is no /proc on macOS", path)
        return function(path, *args, **kwargs)

    return wrapped


class Usage:
    """The one field of getrusage() that is read, in bytes."""

    def __init__(self, who):
        self.ru_maxrss = measured(who).ru_maxrss * 1024


measured, resource.getrusage = resource.getrusage, Usage

for module, names in MISSING.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)

builtins.open = without_proc(open)
os.listdir = without_proc(os.listdir)
os.stat = without_proc(os.stat)
sys.platform = "darwin"
