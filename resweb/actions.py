"""The actions of buttons: on one row, found by its place and bytes, or on all that match."""

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

#: Failures that a button processes in its own request; more are processed in the background.
MAX_FOREGROUND = 2000


class BadForm(PyresError, ValueError):  # noqa: N818 - named like werkzeug's BadRequest
    """The form is incomplete."""


#: Attempts to find a row, since it may move before it is removed.
MAX_TRIES = 5


class Place(NamedTuple):
    """A row as identified by a form: its payload token, and its position if the form has it."""

    token: str
    position: int | None = None
    failure_list: str = ""


def retry_one(server: Server, place: Place) -> str | None:
    """Move one record's payload to its queue; returns its name, or None if it is not there."""

    def retry(failure: tuple[str, Any]) -> int:
        name, row = failure
        target = destination(row.raw)
        if target is None:
            raise BadForm("this record has no queue, so it cannot be retried")
        return retry_row(server.resq, name, row.index, row.raw, *target)

    failure = _on_one(lambda: _failure(server, place), retry)
    return _failure_name(server, failure[1].raw) if failure else None


def delete_one(server: Server, place: Place) -> str | None:
    """Delete one record; returns its name, or None if it is not there."""

    def delete(failure: tuple[str, Any]) -> int:
        name, row = failure
        return delete_row(server.resq, name, row.index, row.raw)

    failure = _on_one(lambda: _failure(server, place), delete)
    return _failure_name(server, failure[1].raw) if failure else None


def delete_job(server: Server, queue: str, place: Place) -> str | None:
    """Delete one job of a queue; returns its name, or None if it is not there."""
    deleted = _on_one(
        lambda: server.inspector.find_job(queue, place.token, place.position),
        lambda row: server.resq.delete_job(queue, row.raw, row.index),
    )
    return _job_name(deleted.raw) if deleted else None


def promote_one(server: Server, timestamp: int, place: Place) -> str | None:
    """Move one delayed job to its queue; returns its name, or None if it is not there."""
    return _on_delayed(server, timestamp, place, server.resq.promote_job)


def cancel_one(server: Server, timestamp: int, place: Place) -> str | None:
    """Remove one delayed job; returns its name, or None if it is not there."""
    return _on_delayed(server, timestamp, place, server.resq.cancel_delayed)


def _on_delayed(
    server: Server, timestamp: int, place: Place, act: Callable[[int, bytes, int], int]
) -> str | None:
    job = _on_one(
        lambda: server.inspector.find_delayed(timestamp, place.token, place.position),
        lambda row: act(timestamp, row.raw, row.index),
    )
    return _job_name(job.raw) if job else None


def _on_one(find: Callable[[], T | None], act: Callable[[T], int]) -> T | None:
    """The row that was acted on, or None; it is searched again if it moved before the action."""
    for _ in range(MAX_TRIES):
        row = find()
        if row is None:
            return None
        if act(row):
            return row
    return None


def _failure(server: Server, place: Place) -> tuple[str, Any] | None:
    return server.inspector.find_failure(place.token, place.failure_list, place.position)


def _failure_name(server: Server, raw: bytes) -> str:
    row = server.inspector.failure(raw)
    return f"{row.klass} {row.digest}"


def _job_name(raw: bytes) -> str:
    row = job_row(raw)
    return f"{row.klass} {row.args}"


#: The errors that stop a task and are shown on the page.
REPORTED_ERRORS: tuple[type[Exception], ...] = (*UNAVAILABLE, PyresError)


class Selection(NamedTuple):
    """The failures of a button: those that match, in every list or in one."""

    matching: FailureFilter
    name: str = ""


class Task:
    """One action on many failures. It continues when the browser's tab is closed."""

    numbers = itertools.count(1)

    def __init__(self, kind: str, servers: list[Server], selection: Selection) -> None:
        self.number = next(self.numbers)
        self.kind = kind
        self._servers = servers
        self._selection = selection
        self._sizes = [self._size(server) for server in servers]
        self.total = self.left = sum(self._sizes)
        self.done = 0
        self.error = ""
        self.running = True
        self.started = time.time()

    def _size(self, server: Server) -> int:
        counts = server.inspector.failure_counts()
        return counts.get(self._selection.name, 0) if self._selection.name else sum(counts.values())

    def run(self) -> None:
        """Process all servers. Each page is one step: if interrupted, the rest is unchanged."""
        later = self.total
        try:
            for server, size in zip(self._servers, self._sizes, strict=True):
                later -= size
                self._work(server, later)
                self.left = later
        except REPORTED_ERRORS as error:
            self.error = f"{type(error).__name__}: {error}"[:300]
        finally:
            self.running = False
            logger.info(
                "%s all, task %d: %d failures done, %d left%s",
                self.kind.capitalize(),
                self.number,
                self.done,
                self.left,
                f"; stopped early: {self.error}" if self.error else "",
            )

    def _work(self, server: Server, later: int) -> None:
        name = self._selection.name
        if name and name not in server.inspector.failure_lists():
            return
        backend = single_list(name) if name else EveryList
        process = backend.retry_each if self.kind == "retry" else backend.delete_each
        for batch in process(server.resq, self._selection.matching):
            self.done += batch.gone
            self.left = batch.left + later

    def as_json(self) -> dict[str, Any]:
        """Its progress."""
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
    """The last ten tasks of this app."""

    def __init__(self) -> None:
        self._tasks: list[Task] = []

    def start(self, kind: str, servers: list[Server], selection: Selection) -> Task:
        """Run a task now if it is small, else in the background."""
        task = Task(kind, servers, selection)
        self._tasks = [*self._tasks[-9:], task]
        if task.total <= MAX_FOREGROUND:
            task.run()
        else:
            threading.Thread(target=task.run, name=f"resweb-{kind}", daemon=True).start()
        return task

    def recent(self) -> list[dict[str, Any]]:
        """The last tasks, newest first."""
        return [task.as_json() for task in reversed(self._tasks)]

    def running(self) -> list[dict[str, Any]]:
        """The tasks that are running or were stopped by an error."""
        return [task for task in self.recent() if task["running"] or task["error"]]
