"""The data of each page, for its template and the API, from one query on each server."""

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

#: A start after the end of every list, for a server whose rows were all shown.
PAST_END = 2**70

#: Rows per page, as in resque-web; more of workers, since their rows are short.
PAGE_ROWS, PAGE_WORKERS = 20, 100

#: In the query of a page that updates itself, and the failures that are searched for one then.
POLLED, POLL_SCAN_LIMIT = "polled", 1000

Query = dict[str, str]
Data = dict[str, Any]


AlsoKeys = Callable[[Inspector, Any], dict[str, Any]]


def _no_keys(inspector: Inspector, value: Any) -> dict[str, Any]:
    return {}


def _worker_keys(inspector: Inspector, value: Any) -> dict[str, Any]:
    return {"worker_ids": inspector.worker_ids()}


#: The sources of schedule entries that pyres' schedulers fire under the static lock.
STATIC = ("code", "file")


class Pages:
    """Each method is a page: it takes the query and returns the page's data."""

    def __init__(self, servers: Servers, tasks: Tasks, sampler: Sampler | None) -> None:
        self.servers = servers
        self.tasks = tasks
        self.sampler = sampler
        self._where = {id(server.inspector): server.position for server in servers.all}

    def _ask(
        self, query: Query, question: Callable[[Inspector], Any], also: AlsoKeys | None = _no_keys
    ) -> tuple[list[Answer], Data]:
        """The answers of the servers, and the page's data about servers that are down and about
        keys of an unexpected type, also among the keys that `also` returns.
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
            "unreadable": [error for answer in answers for error in _unreadable(answer)],
        }
        good = [answer for answer in answers if not answer.error]
        return [dataclasses.replace(answer, value=answer.value[0]) for answer in good], data

    def overview(self, query: Query) -> Data:
        def question(inspector: Inspector) -> Any:
            return inspector.queues(), inspector.failure_count(), inspector.working()

        answers, data = self._ask(query, question, _worker_keys)
        data |= _queues([(a.server, a.value[0], a.value[1]) for a in answers])
        busy = [_worker(w, a.server) for a in answers for w in a.value[2]]
        return data | _working(busy, PAGE_ROWS) | {"tasks": self.tasks.running()}

    def queues(self, query: Query) -> Data:
        answers, data = self._ask(query, lambda i: (i.queues(oldest=True), i.failure_count()))
        return data | _queues([(a.server, *a.value) for a in answers])

    def queue(self, query: Query, name: str) -> Data:
        starts, queue = _Starts(query, self._where), name_of(name)
        answers, data = self._ask(
            query,
            lambda i: i.queue_page(queue, starts.of(i), PAGE_ROWS),
            lambda *_: {"queue": queue},
        )
        names = {"name": printable(queue), "handle": name, "path": path(name)}
        return data | starts.merge(answers) | names

    def working(self, query: Query) -> Data:
        answers, data = self._ask(query, lambda i: (i.working(), i.worker_count()), _worker_keys)
        busy = [_worker(w, a.server) for a in answers for w in a.value[0]]
        return data | _working(busy, PAGE_WORKERS) | {"workers": sum(a.value[1] for a in answers)}

    def workers(self, query: Query, host: str = "") -> Data:
        start = _number(query.get("start", "0"))
        answers, data = self._ask(query, lambda i: (i.workers(), i.khans()), _worker_keys)
        workers = [(a.server, worker) for a in answers for worker in a.value[0]]
        hosts = Counter(worker.host for _, worker in workers)
        rows = [(server, worker) for server, worker in workers if host in ("", worker.host)]
        if host and not rows and _is_complete(data):
            raise NotFound(f"no worker on host {host[:200]!r} is registered")
        khans = [row(khan, a.server) for a in answers for khan in a.value[1]]
        khans = [khan for khan in khans if host in ("", khan["host"])]
        page = rows[start : start + PAGE_WORKERS]
        return data | {
            "rows": [_worker(worker, server) for server, worker in page],
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
            **_following(start + PAGE_WORKERS if start + PAGE_WORKERS < len(rows) else None),
            **_span(start, len(page), len(rows), PAGE_WORKERS),
        }

    def worker(self, query: Query, worker_id: str) -> Data:
        """One worker; or the workers of a host, or `all`: neither can be a worker's id."""
        if worker_id == "all":
            return self.workers(query)
        if ":" not in worker_id:
            return self.workers(query, worker_id)
        full_id = name_of(worker_id)
        answers, data = self._ask(
            query, lambda i: i.worker(full_id), lambda *_: {"worker_ids": [full_id]}
        )
        rows = [_worker(a.value, a.server) for a in answers if a.value]
        if not rows and _is_complete(data):
            raise NotFound(
                f"no worker {printable(full_id)[:200]!r} is registered; it may have ended"
            )
        return data | {"rows": rows, "name": printable(full_id)}

    def failed(self, query: Query, name: str = "") -> Data:
        chosen, only_list = filter_of(query), name_of(name)
        order = query.get("order") or "desc"
        if order not in ("asc", "desc"):
            raise BadRequest(f"invalid order {order[:50]!r}: expected asc or desc")
        oldest_first = order == "asc"
        starts = failures.Starts(query.get("start", ""), self._where, oldest_first)
        lists = [only_list] if only_list else []

        def question(inspector: Inspector) -> Any:
            counts = inspector.failure_counts()
            position = starts.of(inspector, counts)
            page = inspector.failures_page(
                PAGE_ROWS, chosen, position, lists, oldest_first=oldest_first
            )
            return page, counts, inspector.failure_kinds(lists)

        answers, data = self._ask(query, question)
        counts = {(a.server.name, list_): n for a in answers for list_, n in a.value[1].items()}
        if only_list and _is_complete(data) and not any(list_ == only_list for _, list_ in counts):
            raise NotFound(f"no server has a failure list {printable(only_list)[:200]!r}")
        pages = [(a.server, a.value[0]) for a in answers]
        rows, following = failures.merged(pages, PAGE_ROWS, oldest_first)
        total = sum(a.value[0].total for a in answers)
        skipped = sum(sum(a.value[0].positions[0].values()) for a in answers)
        skipped = skipped if oldest_first else total - skipped
        span = {} if chosen else _span(skipped, len(rows), total)
        if len(answers) > 1 or any(len(a.value[0].end) > 1 for a in answers):
            span.pop("before", None)
        fields = ("queue", "klass", "exception", "text")
        return data | {
            "rows": rows,
            "total": total,
            **_following(following),
            **span,
            "list": printable(only_list),
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
            "oldest_first": oldest_first,
            "filtered": bool(chosen),
            "tasks": self.tasks.recent()[:3],
        }

    def failure(self, query: Query, name: str, digest: str) -> Data:
        """One failure, by its permanent URL."""
        list_name = name_of(name)
        hint = _number(query["at"]) if query.get("at") else None
        limit = {"searched": POLL_SCAN_LIMIT} if hint is not None and query.get(POLLED) else {}

        def question(inspector: Inspector) -> Any:
            exists = list_name in inspector.failure_lists()
            return inspector.failure_at(list_name, digest, hint, **limit) if exists else None

        answers, data = self._ask(query, question)
        rows = [failures.with_path(a.value, a.server) for a in answers if a.value]
        if not rows and _is_complete(data):
            raise NotFound(
                f"this failure is no longer in the list {printable(list_name)[:200]!r}: it was "
                "retried, deleted or cleared. If many failures before it were, it may have moved "
                "far: reload the page to search for it"
            )
        return data | {
            "rows": rows,
            "name": printable(list_name),
            "list_path": path(name),
            "digest": digest,
        }

    def delayed(self, query: Query) -> Data:
        starts = _Starts(query, self._where)
        answers, data = self._ask(
            query,
            lambda i: i.delayed_page(starts.of(i), PAGE_ROWS),
            lambda _, page: {"timestamps": [row.timestamp for row in page.rows]},
        )
        data |= starts.merge(answers)
        data["rows"].sort(key=lambda row: row["timestamp"])
        return data

    def timestamp(self, query: Query, timestamp: int) -> Data:
        starts = _Starts(query, self._where)
        answers, data = self._ask(
            query,
            lambda i: i.delayed_jobs(timestamp, starts.of(i), PAGE_ROWS),
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
        total = {name: sum(row[name] for row in rows) for name in fields}
        sizes: Counter[str] = Counter()
        for answer in answers:
            sizes.update({queue.name: queue.size for queue in answer.value[1]})
        # A queue on two servers is one queue.
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
        # SCAN has a cursor per server, so only one server's keys are shown.
        name = query.get("server") or self.servers.all[0].name
        cursor = _number(query.get("start", "0"), 20)
        answers, data = self._ask({"server": name}, lambda i: i.keys_page(cursor, 100), None)
        next_cursor, keys = answers[0].value if answers else (0, [])
        rows = [row(key, answers[0].server) for key in keys]
        return data | {"rows": rows} | _following(next_cursor or None)

    def key(self, query: Query, name: str) -> Data:
        starts, key = _Starts(query, self._where), name_of(name)

        def question(inspector: Inspector) -> Any:
            start = starts.of(inspector)
            return None if start == PAST_END else inspector.key(key, start, PAGE_ROWS)

        # Without the check for unexpected types: this page shows the key's type itself.
        answers, data = self._ask(query, question, None)
        existing = [a for a in answers if a.value and a.value[0].kind != "none"]
        rows = [row(a.value[0], a.server, elements=a.value[1].rows) for a in existing]
        follow = starts.following({a.server.position: a.value[1].following for a in existing})
        return data | {"rows": rows, "name": printable(key), "handle": name} | follow

    def samples(self, query: Query) -> Data:
        seconds = _number(query.get("seconds", "3600"))
        if not self.sampler:
            return {"samples": []}
        server, queue = query.get("server", ""), query.get("queue", "")
        return {"samples": self.sampler.since(seconds, server, queue)}

    def all_tasks(self, query: Query) -> Data:
        return {"tasks": self.tasks.recent()}


class _Starts:
    """Where a page starts on each server: `?start=20`, or `20,x,40` in the servers' order."""

    def __init__(self, query: Query, where: dict[int, int]) -> None:
        self._parts = query.get("start", "0").split(",")
        self._starts: dict[int, int | None] = {}
        for at, text in enumerate(self._parts):
            self._starts[at] = None if text == "x" else _number(text, 20)
        self._where = where
        self._is_one_server = len(where) == 1 or bool(query.get("server"))

    def of(self, inspector: Inspector) -> int:
        at = self._where[id(inspector)] if len(self._parts) > 1 else 0
        start = self._starts.get(at)
        return PAST_END if start is None else start

    def merge(self, answers: list[Answer]) -> Data:
        """The rows of all pages, their totals, and where the next page starts."""
        pages: list[Page] = [a.value for a in answers]
        rows = [row(value, a.server) for a in answers for value in a.value.rows]
        ends = {a.server.position: a.value.following for a in answers}
        return {
            "rows": rows,
            "total": sum(page.total for page in pages),
            **self.following(ends),
            **self._span(pages),
        }

    def following(self, ends: dict[int, int | None]) -> Data:
        """Where the next page starts, from the end of each server's page by server position."""
        width = max(ends, default=0) + 1
        starts = ["x" if ends.get(at) is None else str(ends[at]) for at in range(width)]
        if all(end is None for end in ends.values()):
            return _following(None)
        return _following(starts[-1] if self._is_one_server else ",".join(starts))

    def _span(self, pages: list[Page]) -> Data:
        """Which rows these are, and where the previous page starts; only for one server: with
        several, the starts of the previous page are not known.
        """
        if len(pages) != 1:
            return {}
        (page,) = pages
        return _span(page.start, len(page.rows), page.total)


def _unreadable(answer: Answer) -> list[dict[str, str]]:
    """The keys of an unexpected type, or why the server refused the query."""
    server = answer.server.name
    if answer.is_down:
        return []
    if answer.error:
        return [{"server": server, "key": "", "error": answer.error}]
    return [{"server": server, **dataclasses.asdict(key)} for key in answer.value[1]]


def _is_complete(data: Data) -> bool:
    """Whether every server has answered the query."""
    return not data["down"] and all(error["key"] for error in data["unreadable"])


def filter_of(query: Query) -> FailureFilter:
    """The filter in a query or a form."""
    queue, klass, exception, text = (
        query.get(name) or None for name in ("queue", "class", "exception", "text")
    )
    retried = query.get("retried") or None
    if retried not in (None, "yes", "no"):
        raise BadRequest(f"invalid retried {retried[:50]!r}: expected yes or no")
    is_retried = None if retried is None else retried == "yes"
    return FailureFilter(queue, klass, exception, text, is_retried)


def _following(following: Any) -> Data:
    return {"following": following, "has_following": following is not None}


def _span(start: int, count: int, total: int, step: int = PAGE_ROWS) -> Data:
    """Which rows of how many these are, and where the previous page starts."""
    span = {"first": start + 1, "last": start + count, "of": total} if count else None
    return {
        "span": span,
        "before": str(max(0, start - step)) if 0 < start <= total else None,
    }


def _worker(worker: WorkerRow, server: Server) -> Data:
    return row(worker, server, queue_path=path(worker.queue_handle))


def _number(text: str, digits: int = 12) -> int:
    if text.isascii() and text.isdigit() and len(text) <= digits:
        return int(text)
    raise BadRequest(f"invalid number {text[:50]!r}: expected an integer from 0")


def _queues(answers: list[tuple[Server, list[Any], int]]) -> Data:
    rows = [row(queue, server) for server, queues, _ in answers for queue in queues]
    rows.sort(key=lambda queue: (queue["name"], queue["server"]))
    return {
        "queues": rows,
        "pending": sum(queue["size"] for queue in rows),
        "failed": sum(failures for _, _, failures in answers),
    }


def _working(busy: list[Data], limit: int) -> Data:
    busy.sort(key=lambda worker: worker["run_at"] or 0)
    more = max(0, len(busy) - limit)
    return {"working": busy[:limit], "working_count": len(busy), "working_more": more}
