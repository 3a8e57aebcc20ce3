"""What the buttons do with rows: with one, found by its place and bytes, or with all that match."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from pyres.exceptions import PyresError
from pyres.failure.everywhere import EveryList, delete_row, retry_row, single_list
from pyres.failure.records import FailureFilter, destination
from pyres.inspector import UNAVAILABLE, job_row
from resweb.servers import Server

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: More failures than this are worked through behind the page, which shows how far it is.
AT_ONCE = 2000


class BadForm(PyresError, ValueError):  # noqa: N818 - a form, told to its sender
    """The form is incomplete."""


#: Times that a row is looked for anew because it moved before it was removed.
TRIES = 5


class Place(NamedTuple):
    """A row as a form names it: its bytes, and where it stood if the form says so."""

    mark: str
    position: int | None = None
    failure_list: str = ""


def retry_one(server: Server, place: Place) -> str | None:
    """Move one record's payload to its queue; which one it was, or None when it is gone."""

    def retry(found: tuple[str, Any]) -> int:
        name, row = found
        to = destination(row.raw)
        if to is None:
            raise BadForm("this record names no queue, so it cannot be retried")
        return retry_row(server.resq, name, row.index, row.raw, *to)

    found = _on_one(lambda: _failure(server, place), retry)
    return _failure_name(server, found[1].raw) if found else None


def delete_one(server: Server, place: Place) -> str | None:
    """Delete one record; which one it was, or None when it is gone."""

    def delete(found: tuple[str, Any]) -> int:
        name, row = found
        return delete_row(server.resq, name, row.index, row.raw)

    found = _on_one(lambda: _failure(server, place), delete)
    return _failure_name(server, found[1].raw) if found else None


def delete_job(server: Server, queue: str, place: Place) -> str | None:
    """Delete one job of a queue; which one it was, or None when it is gone."""
    found = _on_one(
        lambda: server.inspector.find_job(queue, place.mark, place.position),
        lambda row: server.resq.delete_job(queue, row.raw, row.index),
    )
    return _job_name(found.raw) if found else None


def promote_one(server: Server, timestamp: int, place: Place) -> str | None:
    """Move one job that waits at a timestamp to its queue; which one it was, or None."""
    return _on_delayed(server, timestamp, place, server.resq.promote_job)


def cancel_one(server: Server, timestamp: int, place: Place) -> str | None:
    """Remove one job that waits at a timestamp; which one it was, or None when it is gone."""
    return _on_delayed(server, timestamp, place, server.resq.cancel_delayed)


def _on_delayed(
    server: Server, timestamp: int, place: Place, act: Callable[[int, bytes, int], int]
) -> str | None:
    found = _on_one(
        lambda: server.inspector.find_delayed(timestamp, place.mark, place.position),
        lambda row: act(timestamp, row.raw, row.index),
    )
    return _job_name(found.raw) if found else None


def _on_one(find: Callable[[], T | None], act: Callable[[T], int]) -> T | None:
    """What was found and acted on; found anew when it had moved away before that."""
    for _ in range(TRIES):
        found = find()
        if found is None:
            return None
        if act(found):
            return found
    return None


def _failure(server: Server, place: Place) -> tuple[str, Any] | None:
    return server.inspector.find_failure(place.mark, place.failure_list, place.position)


def _failure_name(server: Server, raw: bytes) -> str:
    row = server.inspector.failure(raw)
    return f"{row.klass} {row.digest}"


def _job_name(raw: bytes) -> str:
    row = job_row(raw)
    return f"{row.klass} {row.args}"


#: What ends a task early, and is shown.
FAULTS: tuple[type[Exception], ...] = (*UNAVAILABLE, PyresError)


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
            logger.info(
                "%s all, task %d: %d failures done, %d left%s",
                self.kind.capitalize(),
                self.number,
                self.done,
                self.left,
                f"; it ended early: {self.error}" if self.error else "",
            )

    def _work(self, server: Server, later: int) -> None:
        name = self._chosen.name
        if name and name not in server.inspector.failure_lists():
            return
        backend = single_list(name) if name else EveryList
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
