"""A page = one question to each server, answered as the data of one template (and of the API)."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from werkzeug.exceptions import BadRequest, NotFound

from pyres.failure.records import FailureFilter, printable
from pyres.inspector import Inspector, Page, WorkerRow, WrongKeyRow, name_of, url_id
from resweb import failures
from resweb.actions import Tasks
from resweb.filters import path, row, when
from resweb.sampler import Sampler
from resweb.servers import Answer, Server, Servers

#: Where a server has no more: past every end.
PAST = 2**70

#: Rows a page, as in resque-web; of workers more, since they are short.
ROWS, WORKERS = 20, 100

#: In the query of a page that asks by itself, and the failures that are looked at for one then.
POLLED, NEAR = "polled", 1000

Query = dict[str, str]
Data = dict[str, Any]


AlsoKeys = Callable[[Inspector, Any], dict[str, Any]]


def _no_keys(inspector: Inspector, value: Any) -> dict[str, Any]:
    return {}


def _worker_keys(inspector: Inspector, value: Any) -> dict[str, Any]:
    return {"worker_ids": inspector.worker_ids()}


#: The sources of schedule entries that pyres' schedulers fire under a lock of their own.
STATIC = ("code", "file")


class Pages:
    """Each method is a page: the query in, its data out."""

    def __init__(self, servers: Servers, tasks: Tasks, sampler: Sampler | None) -> None:
        self.servers = servers
        self.tasks = tasks
        self.sampler = sampler
        self._where = {id(server.inspector): server.position for server in servers.all}

    def _ask(
        self, query: Query, question: Callable[[Inspector], Any], also: AlsoKeys | None = _no_keys
    ) -> tuple[list[Answer], Data]:
        """Those that answered, and what the page says of those that did not, and of keys that are
        not what they should be: among all, and among those that the page looks at besides.
        """
        name = query.get("server", "")
        if not self.servers.chosen(name):
            raise NotFound(f"no server is named {name[:100]!r}")

        def question_and_keys(inspector: Inspector) -> tuple[Any, list[WrongKeyRow]]:
            value = question(inspector)
            return value, inspector.wrong_keys(**also(inspector, value)) if also else []

        answers = self.servers.ask(question_and_keys, name)
        data = {
            "down": [{"server": a.server.name, "error": a.error} for a in answers if a.is_down],
            "unreadable": [found for answer in answers for found in _unreadable(answer)],
        }
        good = [answer for answer in answers if not answer.error]
        return [dataclasses.replace(answer, value=answer.value[0]) for answer in good], data

    def overview(self, query: Query) -> Data:
        def question(inspector: Inspector) -> Any:
            return inspector.queues(), inspector.failure_count(), inspector.working()

        answers, data = self._ask(query, question, _worker_keys)
        data |= _queues([(a.server, a.value[0], a.value[1]) for a in answers])
        busy = [_worker(w, a.server) for a in answers for w in a.value[2]]
        return data | _working(busy, ROWS) | {"tasks": self.tasks.running()}

    def queues(self, query: Query) -> Data:
        answers, data = self._ask(query, lambda i: (i.queues(oldest=True), i.failure_count()))
        return data | _queues([(a.server, *a.value) for a in answers])

    def queue(self, query: Query, name: str) -> Data:
        starts, known = _Starts(query, self._where), name_of(name)
        answers, data = self._ask(
            query, lambda i: i.queue_page(known, starts.of(i), ROWS), lambda *_: {"queue": known}
        )
        named = {"name": printable(known), "handle": name, "path": path(name)}
        return data | starts.merge(answers) | named

    def working(self, query: Query) -> Data:
        answers, data = self._ask(query, lambda i: (i.working(), i.worker_count()), _worker_keys)
        busy = [_worker(w, a.server) for a in answers for w in a.value[0]]
        return data | _working(busy, WORKERS) | {"workers": sum(a.value[1] for a in answers)}

    def workers(self, query: Query, host: str = "") -> Data:
        start = _number(query.get("start", "0"))
        answers, data = self._ask(query, lambda i: (i.workers(), i.khans()), _worker_keys)
        found = [(a.server, worker) for a in answers for worker in a.value[0]]
        hosts = Counter(worker.host for _, worker in found)
        rows = [one for one in found if host in ("", one[1].host)]
        if host and not rows and _is_whole(data):
            raise NotFound(f"no worker of a host {host[:200]!r} is registered")
        khans = [row(khan, a.server) for a in answers for khan in a.value[1]]
        khans = [khan for khan in khans if host in ("", khan["host"])]
        return data | {
            "rows": [_worker(worker, server) for server, worker in rows[start : start + WORKERS]],
            "total": len(rows),
            "host": host,
            "hosts": [
                {"host": name, "path": path(name), "workers": count, "chosen": name == host}
                for name, count in sorted(hosts.items())
                if ":" not in name and name not in ("", "all")
            ],
            "several_hosts": len(hosts) > 1,
            "khans": khans,
            "has_khans": bool(khans),
            **_following(start + WORKERS if start + WORKERS < len(rows) else None),
            **_span(start, len(rows[start : start + WORKERS]), len(rows), WORKERS),
        }

    def worker(self, query: Query, worker_id: str) -> Data:
        """One worker; of a host's name, or of `all`, which no id can be, all those workers."""
        if worker_id == "all":
            return self.workers(query)
        if ":" not in worker_id:
            return self.workers(query, worker_id)
        known = name_of(worker_id)
        answers, data = self._ask(
            query, lambda i: i.worker(known), lambda *_: {"worker_ids": [known]}
        )
        rows = [_worker(a.value, a.server) for a in answers if a.value]
        if not rows and _is_whole(data):
            raise NotFound(f"no worker {printable(known)[:200]!r} is registered; it may have ended")
        return data | {"rows": rows, "name": printable(known)}

    def failed(self, query: Query, name: str = "") -> Data:
        chosen, known = filter_of(query), name_of(name)
        order = query.get("order") or "desc"
        if order not in ("asc", "desc"):
            raise BadRequest(f"order is {order[:50]!r}; it is asc or desc")
        rising = order == "asc"
        starts = failures.Starts(query.get("start", ""), self._where, rising)
        lists = [known] if known else []

        def question(inspector: Inspector) -> Any:
            counts = inspector.failure_counts()
            position = starts.of(inspector, counts)
            page = inspector.failures_page(ROWS, chosen, position, lists, oldest_first=rising)
            return page, counts, inspector.failure_kinds(lists)

        answers, data = self._ask(query, question)
        counts = {(a.server.name, list_): n for a in answers for list_, n in a.value[1].items()}
        if known and _is_whole(data) and not any(list_ == known for _, list_ in counts):
            raise NotFound(f"no server has a failure list {printable(known)[:200]!r}")
        rows, following = failures.merged([(a.server, a.value[0]) for a in answers], ROWS, rising)
        total = sum(a.value[0].total for a in answers)
        passed = sum(sum(a.value[0].positions[0].values()) for a in answers)
        passed = passed if rising else total - passed
        spanned = {} if chosen else _span(passed, len(rows), total)
        if len(answers) > 1 or any(len(a.value[0].end) > 1 for a in answers):
            spanned.pop("before", None)
        fields = ("queue", "klass", "exception", "text")
        return data | {
            "rows": rows,
            "total": total,
            **_following(following),
            **spanned,
            "list": printable(known),
            "list_handle": name,
            "lists": [
                {
                    "server": server,
                    "server_url": path(server),
                    "name": printable(list_),
                    "size": n,
                    "path": path(url_id(list_)),
                }
                for (server, list_), n in sorted(counts.items())
            ],
            "several_lists": len({list_ for _, list_ in counts}) > 1,
            **failures.kinds([a.value[2] for a in answers]),
            "filter": {field: getattr(chosen, field) or "" for field in fields}
            | {"retried": query.get("retried", "")},
            "oldest_first": rising,
            "filtered": bool(chosen),
            "tasks": self.tasks.shown()[:3],
        }

    def failure(self, query: Query, name: str, digest: str) -> Data:
        """One failure, by the URL that names it for good."""
        known = name_of(name)
        hint = _number(query["at"]) if query.get("at") else None
        limit = {"searched": NEAR} if hint is not None and query.get(POLLED) else {}

        def question(inspector: Inspector) -> Any:
            there = known in inspector.failure_lists()
            return inspector.failure_at(known, digest, hint, **limit) if there else None

        answers, data = self._ask(query, question)
        rows = [failures.shown(a.value, a.server) for a in answers if a.value]
        if not rows and _is_whole(data):
            raise NotFound(
                f"this failure is gone from the list {printable(known)[:200]!r}: it was retried, "
                "deleted or cleared. If many before it were, it may have moved far: reload the "
                "page to search for it"
            )
        return data | {
            "rows": rows,
            "name": printable(known),
            "list_path": path(name),
            "digest": digest,
        }

    def delayed(self, query: Query) -> Data:
        starts = _Starts(query, self._where)
        answers, data = self._ask(
            query,
            lambda i: i.delayed_page(starts.of(i), ROWS),
            lambda _, page: {"timestamps": [row.timestamp for row in page.rows]},
        )
        data |= starts.merge(answers)
        data["rows"].sort(key=lambda found: found["timestamp"])
        return data

    def timestamp(self, query: Query, timestamp: int) -> Data:
        starts = _Starts(query, self._where)
        answers, data = self._ask(
            query,
            lambda i: i.delayed_jobs(timestamp, starts.of(i), ROWS),
            lambda *_: {"timestamps": [timestamp]},
        )
        due = when(timestamp, answers[0].server.now() if answers else time.time())
        return data | starts.merge(answers) | {"timestamp": timestamp, "due": due}

    def schedule(self, query: Query) -> Data:
        answers, data = self._ask(query, lambda i: (i.schedule(), i.master(), i.static_master()))
        rows = [row(entry, a.server) for a in answers for entry in a.value[0]]
        masters = [
            {
                "server": a.server.name,
                "master": a.value[1],
                "static_master": a.value[2],
                "unfired": not a.value[2] and any(e.source in STATIC for e in a.value[0]),
            }
            for a in answers
        ]
        return data | {"rows": rows, "masters": masters}

    def stats(self, query: Query) -> Data:
        answers, data = self._ask(query, lambda i: (i.stats(), i.queues()))
        rows = [row(a.value[0], a.server, where=a.server.where) for a in answers]
        fields = ("pending", "processed", "failed", "failures", "workers", "working")
        total = {name: sum(found[name] for found in rows) for name in fields}
        sizes: Counter[str] = Counter()
        for answer in answers:
            sizes.update({queue.name: queue.size for queue in answer.value[1]})
        # A queue of two servers is one queue.
        total["queues"] = len(sizes)
        return data | {"rows": rows, "total": total, "sizes": sizes, "several": len(rows) > 1}

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
        answers, data = self._ask({"server": name}, lambda i: i.keys_page(cursor, 100), None)
        after, found = answers[0].value if answers else (0, [])
        rows = [row(key, answers[0].server) for key in found]
        return data | {"rows": rows} | _following(after or None)

    def key(self, query: Query, name: str) -> Data:
        starts, known = _Starts(query, self._where), name_of(name)

        def question(inspector: Inspector) -> Any:
            start = starts.of(inspector)
            return None if start == PAST else inspector.key(known, start, ROWS)

        # Here the types of keys are shown, and that of a key that is looked for alone.
        answers, data = self._ask(query, question, None)
        found = [a for a in answers if a.value and a.value[0].kind != "none"]
        rows = [row(a.value[0], a.server, elements=a.value[1].rows) for a in found]
        follow = starts.following({a.server.position: a.value[1].following for a in found})
        return data | {"rows": rows, "name": printable(known), "handle": name} | follow

    def samples(self, query: Query) -> Data:
        seconds = _number(query.get("seconds", "3600"))
        if not self.sampler:
            return {"samples": []}
        server, queue = query.get("server", ""), query.get("queue", "")
        return {"samples": self.sampler.since(seconds, server, queue)}

    def all_tasks(self, query: Query) -> Data:
        return {"tasks": self.tasks.shown()}


class _Starts:
    """Where a page starts on each server: `?start=20`, or `20,x,40` in the servers' order."""

    def __init__(self, query: Query, where: dict[int, int]) -> None:
        self._given = query.get("start", "0").split(",")
        self._positions: dict[int, int | None] = {}
        for at, text in enumerate(self._given):
            self._positions[at] = None if text == "x" else _number(text, 20)
        self._where = where
        self._alone = len(where) == 1 or bool(query.get("server"))

    def of(self, inspector: Inspector) -> int:
        at = self._where[id(inspector)] if len(self._given) > 1 else 0
        found = self._positions.get(at)
        return PAST if found is None else found

    def merge(self, answers: list[Answer]) -> Data:
        """The rows of all pages, their totals, and where the next page starts."""
        pages: list[Page] = [a.value for a in answers]
        rows = [row(found, a.server) for a in answers for found in a.value.rows]
        ends = {a.server.position: a.value.following for a in answers}
        return {
            "rows": rows,
            "total": sum(page.total for page in pages),
            **self.following(ends),
            **self._spanned(pages),
        }

    def following(self, ends: dict[int, int | None]) -> Data:
        """Where the next page starts, of where each server's ended by its position."""
        width = max(ends, default=0) + 1
        each = ["x" if ends.get(at) is None else str(ends[at]) for at in range(width)]
        if all(end is None for end in ends.values()):
            return _following(None)
        return _following(each[-1] if self._alone else ",".join(each))

    def _spanned(self, pages: list[Page]) -> Data:
        """Where in the list this is, and the page before; of one server only: of several nobody
        knows how far each had come.
        """
        if len(pages) != 1:
            return {}
        (page,) = pages
        return _span(page.start, len(page.rows), page.total)


def _unreadable(answer: Answer) -> list[dict[str, str]]:
    """The keys of another type, or why the server refused to be asked."""
    server = answer.server.name
    if answer.is_down:
        return []
    if answer.error:
        return [{"server": server, "key": "", "error": answer.error}]
    return [{"server": server, **dataclasses.asdict(key)} for key in answer.value[1]]


def _is_whole(data: Data) -> bool:
    """Whether every server answered what was asked."""
    return not data["down"] and all(one["key"] for one in data["unreadable"])


def filter_of(query: Query) -> FailureFilter:
    """The filter that a query or a form names."""
    queue, klass, exception, text = (
        query.get(name) or None for name in ("queue", "class", "exception", "text")
    )
    retried = query.get("retried") or None
    if retried not in (None, "yes", "no"):
        raise BadRequest(f"retried is {retried[:50]!r}; it is yes or no")
    marked = None if retried is None else retried == "yes"
    return FailureFilter(queue, klass, exception, text, marked)


def _following(following: Any) -> Data:
    return {"following": following, "has_following": following is not None}


def _span(start: int, count: int, total: int, step: int = ROWS) -> Data:
    """Which of how many are shown, and where the page before and the last page start."""
    shown = {"first": start + 1, "last": start + count, "of": total} if count else None
    return {
        "span": shown,
        "before": str(max(0, start - step)) if 0 < start <= total else None,
    }


def _worker(worker: WorkerRow, server: Server) -> Data:
    return row(worker, server, queue_path=path(worker.queue_handle))


def _number(text: str, digits: int = 12) -> int:
    if text.isascii() and text.isdigit() and len(text) <= digits:
        return int(text)
    raise BadRequest(f"{text[:50]!r} is no number from 0")


def _queues(found: list[tuple[Server, list[Any], int]]) -> Data:
    rows = [row(queue, server) for server, queues, _ in found for queue in queues]
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
