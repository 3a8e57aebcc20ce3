"""What a test can leave behind in its process, read from the process itself. Linux only."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import setproctitle

from tests import servers

#: pytest's own, which differs from one phase of a test to the next.
OWN_ENVIRONMENT = {"PYTEST_CURRENT_TEST", "PYTEST_VERSION"}

#: The loggers whose settings are those of the whole process.
LOGGERS = ("", "pyres")

TIMERS = {"real": signal.ITIMER_REAL, "virtual": signal.ITIMER_VIRTUAL, "prof": signal.ITIMER_PROF}


#: Of the limits of a process, those that a test may set for itself.
LIMITS = [name for name in dir(resource) if name.startswith("RLIMIT_")]


class Resource(NamedTuple):
    """Something that is opened and closed; the key distinguishes two of one kind."""

    kind: str
    key: tuple[Any, ...]


def resources() -> dict[Resource, str]:
    """All that is open in this process or was started by it, each with what it is."""
    return {**_descriptors(), **_threads(), **_servers(), **_children(), **STRAYS.processes()}


def settings() -> dict[str, Any]:
    """What a test can change for those after it, by name."""
    of_the_process = {**_signals(), **_environment(), **_process()}
    return {**of_the_process, **_logging(), **_interpreter(), **_pyres()}


def _descriptors() -> dict[Resource, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that reads this very folder
            target = os.readlink(f"/proc/self/fd/{name}")
            found[Resource("descriptor", (int(name), target))] = f"descriptor {name}: {target}"
    return found


def more_about(found: Resource) -> str:
    """The two ends of an open socket."""
    number = found.key[0]
    if found.kind != "descriptor":
        return ""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.fstat(number).st_mode):
            with socket.socket(fileno=os.dup(number)) as copy:
                return f" ({_end(copy.getsockname)} to {_end(copy.getpeername)})"
    return ""


def _end(name: Any) -> str:
    try:
        return repr(name())
    except OSError:
        return "nobody"


def _threads() -> dict[Resource, str]:
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    found = {}
    for name in os.listdir("/proc/self/task"):
        number = int(name)
        what = names.get(number, "not of Python")
        found[Resource("thread", (number,))] = f"thread {number}: {what}"
    return found


def _servers() -> dict[Resource, str]:
    return {
        Resource("server", (id(server),)): f"server {server.binary} on port {server.port}"
        for server in servers.STARTED
    }


def _children() -> dict[Resource, str]:
    ours = {server.pid for server in servers.STARTED}
    pids: set[int] = set()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            pids |= {*map(int, Path(f"/proc/self/task/{task}/children").read_text().split())}
    return {_process_of(pid): _shown(pid) for pid in pids - ours}


def _process_of(pid: int) -> Resource:
    return Resource("process", (pid,))


def _shown(pid: int) -> str:
    state = servers.state_of(pid)
    what = "ended, but nobody waited for it" if state == "Z" else servers.title_of(pid)
    return f"process {pid}: {what}"


class Strays:
    """Processes that are no longer children of this one, but write to the folders of its tests."""

    def __init__(self) -> None:
        #: The folder of the tests of this process; "" until it is known.
        self.folder = ""
        self._others: set[int] = set()

    def processes(self) -> dict[Resource, str]:
        pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        self._others &= pids
        ours = {pid for pid in pids - self._others if self._writes_here(pid)}
        self._others |= pids - ours
        known = {server.pid for server in servers.STARTED}
        return {_process_of(pid): _shown(pid) for pid in ours - known if servers.alive(pid)}

    def _writes_here(self, pid: int) -> bool:
        return bool(self.folder) and any(
            _target(pid, number).startswith(self.folder) for number in (1, 2)
        )


def _target(pid: int, descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{descriptor}")
    except OSError:
        return ""


STRAYS = Strays()


def _signals() -> dict[str, Any]:
    found: dict[str, Any] = {
        f"handler of {signum.name if isinstance(signum, signal.Signals) else signum}":
        signal.getsignal(signum)
        for signum in signal.valid_signals()
    }  # fmt: skip
    found["blocked signals"] = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    found["signal.set_wakeup_fd"] = _wakeup_descriptor()
    for name, timer in TIMERS.items():
        found[f"{name} timer"] = "armed" if any(signal.getitimer(timer)) else "not armed"
    return found


def _wakeup_descriptor() -> int:
    number = signal.set_wakeup_fd(-1)
    if number != -1:
        signal.set_wakeup_fd(number)
    return number


def _environment() -> dict[str, Any]:
    return {
        f"environment variable {name}": value
        for name, value in os.environ.items()
        if name not in OWN_ENVIRONMENT
    }


def _logging() -> dict[str, Any]:
    found: dict[str, Any] = {
        "logging.disable": logging.root.manager.disable,
        "logging.lastResort": logging.lastResort,
        "logging.basicConfig": logging.basicConfig,
        "logging.captureWarnings": bool(logging._warnings_showwarning),  # type: ignore[attr-defined]
    }
    for name in LOGGERS:
        logger = logging.getLogger(name)
        shown = f"logger {name or 'root'}"
        found[f"handlers of {shown}"] = [h for h in logger.handlers if not _of_pytest(h)]
        found[f"level of {shown}"] = logging.getLevelName(logger.level)
        found[f"filters of {shown}"] = [*logger.filters]
        found[f"switches of {shown}"] = (logger.propagate, logger.disabled)
    return found


def _of_pytest(handler: logging.Handler) -> bool:
    return type(handler).__module__ == "_pytest.logging"


def _process() -> dict[str, Any]:
    umask = os.umask(0o022)
    os.umask(umask)
    found: dict[str, Any] = {
        "umask": oct(umask),
        "current folder": os.getcwd(),
        "process title": setproctitle.getproctitle(),
        "time zone": time.tzname,
    }
    for name in LIMITS:
        found[name] = resource.getrlimit(getattr(resource, name))
    return found


def _interpreter() -> dict[str, Any]:
    return {
        "sys.path": [*sys.path],
        "sys.argv": [*sys.argv],
        "sys.excepthook": sys.excepthook,
        "gc.isenabled": gc.isenabled(),
        "socket.getdefaulttimeout": socket.getdefaulttimeout(),
    }


#: The globals of pyres: module, and a path of names in it.
PYRES = (
    ("pyres.failure", "backend"),
    ("pyres.client", "ResQ._current_time"),
    ("pyres.job", "_bindings"),
)


def _pyres() -> dict[str, Any]:
    """Of modules that are imported already; to import one here would be a change in itself."""
    found: dict[str, Any] = {}
    for module, path in PYRES:
        value = sys.modules.get(module)
        for name in path.split(".") if value else ():
            value = getattr(value, name, None)
        if value:
            found[f"{module}.{path}"] = value
    jobs = getattr(sys.modules.get("pyres.loading"), "_registered", {})
    # Those of a module were opened at its import, which happens once.
    local = [name for name, target in jobs.items() if "<locals>" in target.__qualname__]
    found["jobs registered by a test"] = local
    entries = getattr(sys.modules.get("pyres.schedule"), "_registered", {})
    found["schedule entries registered by a test"] = [
        name for name in entries if "<locals>" in name or name in local
    ]
    return found
