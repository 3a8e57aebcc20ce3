"""The titles that daemons show in `ps`, and how to find daemons by them.

Resque prunes every worker of its host whose process title does not contain `resque-<digit>`, so a
worker's title is part of the protocol.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterable, Iterator

import setproctitle

from pyres.process import system
from pyres.process.children import alive
from pyres.version import __version__

#: The text by which Ruby's prune recognises the title of a live worker.
RESQUE_MARK = f"resque-{__version__}"

#: Bytes of a title at most.
_MAX_TITLE = 4096

_PYTHON_WORKER = re.compile(r"pyres_(worker-|minion:)")
#: Resque's own pattern, which it applies to each line of `ps`.
_RUBY_WORKER = re.compile(r"resque:work|resque:\sStarting|resque-[0-9]")


def set_title(title: str) -> None:
    """Show this title in `ps` for this process, whatever characters it has.

    If there is no room for all of it, it is cut before Resque's mark at its end.
    """
    if len(title) > _room() or not title.isascii() or "\0" in title:
        title = _fitted(title)
    setproctitle.setproctitle(title)


def _fitted(title: str) -> str:
    raw = title.replace("\0", "?").encode("utf-8", "replace")
    end = f" ({RESQUE_MARK})".encode() if title.endswith(f" ({RESQUE_MARK})") else b""
    if len(raw) > _room():
        raw = raw[: max(0, _room() - len(end))] + end
    return raw.decode("utf-8", "ignore")


@functools.cache
def _room() -> int:
    """How many bytes of a title `ps` shows.

    A title overwrites the arguments and the environment that the process was started with: about
    140 bytes for a service with three variables.
    """
    setproctitle.setproctitle("pyres".ljust(_MAX_TITLE))
    return len(setproctitle.getproctitle().encode("utf-8", "surrogateescape"))


def worker_title(queues: Iterable[str], state: str) -> str:
    return f"pyres_worker-{__version__} [{','.join(queues)}]: {state} ({RESQUE_MARK})"


def minion_title(parent: int, state: str) -> str:
    return f"pyres_minion:{parent}: {state} ({RESQUE_MARK})"


def manager_title(state: str) -> str:
    return f"pyres_manager: {state}"


def is_manager(pid: int) -> bool:
    """Whether this pid is a live manager on this machine."""
    return _title(pid).startswith("pyres_manager") and alive(pid)


def scheduler_title(state: str) -> str:
    return f"pyres_scheduler-{__version__}: {state}"


def web_title(state: str) -> str:
    return f"pyres_web: {state}"


def is_worker(pid: int) -> bool:
    """Whether this pid is a live worker or minion, of Python or of Ruby, on this machine."""
    return _is_workers(_title(pid)) and alive(pid)


def is_readable(pid: int) -> bool:
    """Whether this process has the right to read the title of that one."""
    if not system.has_proc():
        return bool(system.ps("pid", pid=pid))
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            file.read(1)
    except OSError:
        return False
    return True


def worker_pids() -> list[int]:
    """The pids of all live workers and minions on this machine, of Python or of Ruby."""
    return [pid for pid, title in _processes() if _is_workers(title) and alive(pid)]


def _is_workers(title: str) -> bool:
    if _PYTHON_WORKER.match(title):
        return True
    return bool(_RUBY_WORKER.search(title)) and "resque-web" not in title and "pyres_" not in title


def _title(pid: int) -> str:
    if not system.has_proc():
        return system.ps("command", pid=pid)
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            raw = file.read()
    except OSError:
        return ""
    return raw.replace(b"\0", b" ").decode("utf-8", "replace").strip()


def _processes() -> Iterator[tuple[int, str]]:
    if system.has_proc():
        for name in os.listdir("/proc"):
            if name.isdigit():
                yield int(name), _title(int(name))
        return
    for line in system.ps("pid", "command").splitlines():
        pid, _, title = line.strip().partition(" ")
        with contextlib.suppress(ValueError):  # a line without a process
            yield int(pid), title
