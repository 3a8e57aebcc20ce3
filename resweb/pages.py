"""A page = one question to each server, answered as the data of one template (and of the API)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from werkzeug.exceptions import BadRequest, NotFound

from pyres.inspector import FailureFilter, Inspector, Page
from resweb.actions import Tasks
from resweb.filters import path, row, when
from resweb.sampler import Sampler
from resweb.servers import Answer, Servers

#: Rows a page, as in resque-web; of workers more, since they are short.
ROWS, WORKERS = 20, 100

Query = dict[str, str]
Data = dict[str, Any]


class Pages:
    """Each method is a page: the query in, its data out."""

    def __init__(self, servers: Servers, tasks: Tasks, sampler: Sampler | None) -> None:
        self.servers = servers
        self.tasks = tasks
        self.sampler = sampler
        self._where = {id(server.inspector): server.position for server in servers.all}

    def _ask(self, query: Query, question: Callable[[Inspector], Any]) -> tuple[list[Answer], Data]:
        """Those that answered, and what the page says of those that did not."""
        name = query.get("server", "")
        if not self.servers.chosen(name):
            raise NotFound(f"no server is named {name[:100]!r}")
        answers = self.servers.ask(question, name)
        down = [{"server": a.server.name, "error": a.error} for a in answers if a.error]
        return [answer for answer in answers if not answer.error], {"down": down}

    def overview(self, query: Query) -> Data:
        def question(inspector: Inspector) -> Any:
            return inspector.queues(), inspector.failure_count(), inspector.working()

        answers, data = self._ask(query, question)
        data |= _queues([(a.server.name, a.value[0], a.value[1]) for a in answers])
        busy = [row(w, a.server.name, path=path(w.id)) for a in answers for w in a.value[2]]
        return data | _working(busy, ROWS) | {"tasks": self.tasks.running()}

    def queues(self, query: Query) -> Data:
        answers, data = self._ask(query, lambda i: (i.queues(), i.failure_count()))
        return data | _queues([(a.server.name, *a.value) for a in answers])

    def queue(self, query: Query, name: str) -> Data:
        starts = _Starts(query, self._where)
        answers, data = self._ask(query, lambda i: i.queue_page(name, starts.of(i), ROWS))
        return data | starts.merge(answers) | {"name": name, "path": path(name)}

    def working(self, query: Query) -> Data:
        answers, data = self._ask(query, lambda i: (i.working(), i.stats().workers))
        busy = [row(w, a.server.name, path=path(w.id)) for a in answers for w in a.value[0]]
        return data | _working(busy, WORKERS) | {"workers": sum(a.value[1] for a in answers)}

    def workers(self, query: Query) -> Data:
        start = _number(query.get("start", "0"))
        answers, data = self._ask(query, lambda i: (i.workers(), i.khans()))
        rows = [(a.server.name, worker) for a in answers for worker in a.value[0]]
        shown = [row(w, name, path=path(w.id)) for name, w in rows[start : start + WORKERS]]
        khans = [row(khan, a.server.name) for a in answers for khan in a.value[1]]
        following = start + WORKERS if start + WORKERS < len(rows) else None
        return data | {
            "rows": shown,
            "total": len(rows),
            "khans": khans,
            "has_khans": bool(khans),
            "following": following,
            "has_following": following is not None,
        }

    def worker(self, query: Query, worker_id: str) -> Data:
        answers, data = self._ask(query, lambda i: i.worker(worker_id))
        rows = [row(a.value, a.server.name, path=path(worker_id)) for a in answers if a.value]
        if not rows and not data["down"]:
            raise NotFound(f"no worker {worker_id[:200]!r} is registered; it may have ended")
        return data | {"rows": rows, "name": worker_id}

    def failed(self, query: Query) -> Data:
        starts, chosen = _Starts(query, self._where), filter_of(query)
        answers, data = self._ask(query, lambda i: i.failures_page(starts.of(i), ROWS, chosen))
        data |= starts.merge(answers)
        data["rows"].sort(key=lambda found: -(found["failed_at"] or 0))
        fields = {name: getattr(chosen, name) for name in ("queue", "klass", "exception", "text")}
        return data | {"filter": fields, "filtered": bool(chosen), "tasks": self.tasks.shown()[:3]}

    def delayed(self, query: Query) -> Data:
        starts = _Starts(query, self._where)
        answers, data = self._ask(query, lambda i: i.delayed_page(starts.of(i), ROWS))
        data |= starts.merge(answers)
        data["rows"].sort(key=lambda found: found["timestamp"])
        return data

    def timestamp(self, query: Query, timestamp: int) -> Data:
        starts = _Starts(query, self._where)
        answers, data = self._ask(query, lambda i: i.delayed_jobs(timestamp, starts.of(i), ROWS))
        return data | starts.merge(answers) | {"timestamp": timestamp, "due": when(timestamp)}

    def schedule(self, query: Query) -> Data:
        answers, data = self._ask(query, lambda i: i.schedule())
        return data | {"rows": [row(entry, a.server.name) for a in answers for entry in a.value]}

    def stats(self, query: Query) -> Data:
        answers, data = self._ask(query, lambda i: i.stats())
        rows = [row(a.value, a.server.name, where=a.server.where) for a in answers]
        fields = ("pending", "processed", "failed", "failures", "queues", "workers", "working")
        total = {name: sum(found[name] for found in rows) for name in fields}
        names = {
            found.name for a in self.servers.ask(lambda i: i.queues()) for found in a.value or []
        }
        total["queues"] = len(names) if not query.get("server") else total["queues"]
        return data | {"rows": rows, "total": total, "several": len(rows) > 1}

    def redis(self, query: Query) -> Data:
        answers, data = self._ask(query, lambda i: i.server())
        rows = [
            {"server": a.server.name, "name": str(name), "value": str(value)}
            for a in answers
            for name, value in a.value.items()
        ]
        return data | {"rows": rows}

    def keys(self, query: Query) -> Data:
        # SCAN has a cursor a server, so the keys of one server are shown at a time.
        name = query.get("server") or self.servers.all[0].name
        cursor = _number(query.get("start", "0"), 20)
        answers, data = self._ask({"server": name}, lambda i: i.keys_page(cursor, 100))
        after, found = answers[0].value if answers else (0, [])
        rows = [row(key, name, path=path(key.name)) for key in found]
        return data | {"rows": rows, "following": after or None, "has_following": bool(after)}

    def key(self, query: Query, name: str) -> Data:
        start = _number(query.get("start", "0"))
        answers, data = self._ask(query, lambda i: i.key(name, start, ROWS))
        found = [
            row(a.value[0], a.server.name, elements=a.value[1])
            for a in answers
            if a.value[0].kind != "none"
        ]
        return data | {"rows": found, "name": name}

    def samples(self, query: Query) -> Data:
        seconds = _number(query.get("seconds", "3600"))
        found = self.sampler.since(seconds, query.get("server", "")) if self.sampler else []
        return {"samples": found}

    def all_tasks(self, query: Query) -> Data:
        return {"tasks": self.tasks.shown()}


class _Starts:
    """Where a page starts on each server: `?start=20`, or `20,x,40` in the servers' order."""

    def __init__(self, query: Query, where: dict[int, int]) -> None:
        self._given = query.get("start", "0").split(",")
        self._positions: dict[int, int | None] = {}
        for at, text in enumerate(self._given):
            self._positions[at] = None if text == "x" else _number(text)
        self._where = where

    def of(self, inspector: Inspector) -> int:
        at = self._where[id(inspector)] if len(self._given) > 1 else 0
        found = self._positions.get(at)
        # Past every end: a server that has no more shows none.
        return 2**40 if found is None else found

    def merge(self, answers: list[Answer]) -> Data:
        """The rows of all pages, their totals, and where the next page starts."""
        pages: list[tuple[str, Page]] = [(a.server.name, a.value) for a in answers]
        rows = [row(found, name) for name, page in pages for found in page.rows]
        ends = {a.server.position: a.value.following for a in answers}
        width = max(ends, default=0) + 1
        following = ",".join("x" if ends.get(at) is None else str(ends[at]) for at in range(width))
        more = any(end is not None for end in ends.values())
        if width == 1:
            following = str(ends.get(0))
        elif more and len(ends) == 1:
            following = str(next(iter(ends.values())))
        return {
            "rows": rows,
            "total": sum(page.total for _, page in pages),
            "following": following if more else None,
            "has_following": more,
        }


def filter_of(query: Query) -> FailureFilter:
    """The filter that a query or a form names."""
    return FailureFilter(*(query.get(name, "") for name in ("queue", "class", "exception", "text")))


def _number(text: str, digits: int = 12) -> int:
    if text.isascii() and text.isdigit() and len(text) <= digits:
        return int(text)
    raise BadRequest(f"{text[:50]!r} is no number from 0")


def _queues(found: list[tuple[str, list[Any], int]]) -> Data:
    rows = [
        {"name": queue.name, "size": queue.size, "server": name, "path": path(queue.name)}
        for name, queues, _ in found
        for queue in queues
    ]
    rows.sort(key=lambda one: (one["name"], one["server"]))
    return {
        "queues": rows,
        "pending": sum(one["size"] for one in rows),
        "failed": sum(count for _, _, count in found),
    }


def _working(busy: list[Data], most: int) -> Data:
    busy.sort(key=lambda found: found["run_at"] or 0)
    more = max(0, len(busy) - most)
    return {"working": busy[:most], "working_count": len(busy), "working_more": more}
