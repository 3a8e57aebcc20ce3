"""What the buttons do: each one call on the server that its row names, and a word about it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

from pyres import failure
from pyres.exceptions import PyresError
from pyres.failure.redis_multi_queue import RedisMultiQueueBackend
from pyres.inspector import DOWN, FailureFilter, FailureRow
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
    moved = failure.retry(server.resq, queue, raw)
    return moved or RedisMultiQueueBackend.retry(server.resq, queue, raw)


def delete_one(server: Server, record: str) -> int:
    """Delete one record; 0 when it is gone."""
    raw = server.inspector.find_failure(record)
    if raw is None:
        return 0
    return failure.delete(server.resq, raw) or RedisMultiQueueBackend.delete(server.resq, raw)


#: What ends a task early, and is shown.
FAULTS: tuple[type[Exception], ...] = (*DOWN, PyresError)


class Task:
    """One action on many failures; lives as long as the app, not as the tab."""

    numbers = itertools.count(1)

    def __init__(self, kind: str, servers: list[Server], chosen: FailureFilter) -> None:
        self.number = next(self.numbers)
        self.kind = kind
        self.total = sum(server.inspector.failure_count() for server in servers)
        self.done = 0
        self.passed = 0
        self.error = ""
        self.running = True
        self.started = time.time()
        self._servers = servers
        self._chosen = chosen

    def run(self) -> None:
        """Work through all servers. Each record moves whole: cut short, the rest still stands."""
        try:
            for server in self._servers:
                self._work(server)
        except FAULTS as error:
            self.error = f"{type(error).__name__}: {error}"[:300]
        finally:
            self.running = False

    def _work(self, server: Server) -> None:
        chosen = self._chosen
        before = self.done
        simple = not (chosen.exception or chosen.text)
        if self.kind == "retry" and simple:
            backend = RedisMultiQueueBackend if _is_multi(server) else failure
            narrowed: Any = {"queue": chosen.queue or None, "klass": chosen.klass or None}

            def progress(moved: int) -> None:
                self.done = before + moved

            backend.retry_all(server.resq, progress=progress, **narrowed)
            if backend is RedisMultiQueueBackend:
                before = self.done
                failure.retry_all(server.resq, progress=progress, **narrowed)
            return
        self._one_by_one(server, retry_one if self.kind == "retry" else delete_one)

    def _one_by_one(self, server: Server, act: Callable[[Server, str], int]) -> None:
        at: int | None = 0
        while at is not None:
            page = server.inspector.failures_page(at, 100, self._chosen)
            # What cannot be retried stays in the list and is passed over.
            gone = sum(_try(act, server, row) for row in page.rows)
            self.done += gone
            at = None if page.following is None else max(0, page.following - gone)

    def as_json(self) -> dict[str, Any]:
        """How far it is."""
        return {
            "number": self.number,
            "kind": self.kind,
            "total": self.total,
            "done": self.done,
            "running": self.running,
            "error": self.error,
            "percent": min(100, self.done * 100 // self.total) if self.total else 100,
        }


def _is_multi(server: Server) -> bool:
    return len(server.inspector.failure_lists()) > 1


def _try(act: Callable[[Server, str], int], server: Server, row: FailureRow) -> int:
    try:
        return act(server, row.record)
    except PyresError:
        return 0


class Tasks:
    """The tasks of this app, the last few remembered."""

    def __init__(self) -> None:
        self._tasks: list[Task] = []

    def start(self, kind: str, servers: list[Server], chosen: FailureFilter) -> Task:
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
