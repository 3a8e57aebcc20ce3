"""What the buttons do: each one call on the server that its row names, and a word about it."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any, NamedTuple

from pyres.exceptions import PyresError
from pyres.failure.everywhere import EveryList, only
from pyres.failure.records import FailureFilter
from pyres.inspector import DOWN
from resweb.servers import Server

#: More failures than this are worked through behind the page, which shows how far it is.
AT_ONCE = 2000


class BadForm(PyresError, ValueError):  # noqa: N818 - a form, told to its sender
    """The form is incomplete."""


def retry_one(server: Server, record: str) -> int:
    """Move one record's payload to its queue; 0 when it is gone."""
    raw = server.inspector.find_failure(record)
    if raw is None:
        return 0
    queue = server.inspector.failure(raw).queue
    if not queue:
        raise BadForm("this record names no queue, so it cannot be retried")
    return EveryList.retry(server.resq, queue, raw)


def delete_one(server: Server, record: str) -> int:
    """Delete one record; 0 when it is gone."""
    raw = server.inspector.find_failure(record)
    return 0 if raw is None else EveryList.delete(server.resq, raw)


#: What ends a task early, and is shown.
FAULTS: tuple[type[Exception], ...] = (*DOWN, PyresError)


class Chosen(NamedTuple):
    """Which failures a button means: those that match, in every list or in one."""

    matching: FailureFilter
    name: str = ""


class Task:
    """One action on many failures; lives as long as the app, not as the tab."""

    numbers = itertools.count(1)

    def __init__(self, kind: str, servers: list[Server], chosen: Chosen) -> None:
        self.number = next(self.numbers)
        self.kind = kind
        self._servers = servers
        self._chosen = chosen
        self._sizes = [self._size(server) for server in servers]
        self.total = self.left = sum(self._sizes)
        self.done = 0
        self.error = ""
        self.running = True
        self.started = time.time()

    def _size(self, server: Server) -> int:
        counts = server.inspector.failure_counts()
        return counts.get(self._chosen.name, 0) if self._chosen.name else sum(counts.values())

    def run(self) -> None:
        """Work through all servers. Each page moves whole: cut short, the rest still stands."""
        later = self.total
        try:
            for server, size in zip(self._servers, self._sizes, strict=True):
                later -= size
                self._work(server, later)
                self.left = later
        except FAULTS as error:
            self.error = f"{type(error).__name__}: {error}"[:300]
        finally:
            self.running = False

    def _work(self, server: Server, later: int) -> None:
        name = self._chosen.name
        if name and name not in server.inspector.failure_lists():
            return
        backend = only(name) if name else EveryList
        each = backend.retry_each if self.kind == "retry" else backend.delete_each
        for batch in each(server.resq, self._chosen.matching):
            self.done += batch.gone
            self.left = batch.left + later

    def as_json(self) -> dict[str, Any]:
        """How far it is."""
        return {
            "number": self.number,
            "kind": self.kind,
            "total": self.total,
            "done": self.done,
            "left": self.left,
            "running": self.running,
            "error": self.error,
            "percent": (self.total - self.left) * 100 // self.total if self.total else 100,
        }


class Tasks:
    """The tasks of this app, the last few remembered."""

    def __init__(self) -> None:
        self._tasks: list[Task] = []

    def start(self, kind: str, servers: list[Server], chosen: Chosen) -> Task:
        """Do it now if that is quick, else behind the page."""
        task = Task(kind, servers, chosen)
        self._tasks = [*self._tasks[-9:], task]
        if task.total <= AT_ONCE:
            task.run()
        else:
            threading.Thread(target=task.run, name=f"resweb-{kind}", daemon=True).start()
        return task

    def shown(self) -> list[dict[str, Any]]:
        """All that are remembered, newest first."""
        return [task.as_json() for task in reversed(self._tasks)]

    def running(self) -> list[dict[str, Any]]:
        """Those that are not done."""
        return [shown for shown in self.shown() if shown["running"] or shown["error"]]
