"""THE READING SIDE: what is in Redis now, as frozen values, a page at a time. It writes nothing."""

from __future__ import annotations

import base64
import calendar
import contextlib
import dataclasses
import email.utils
import hashlib
import re
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from pyres import json_parser, payload
from pyres.client import ResQ
from pyres.exceptions import BadDSNError, PyresError, UndecodableError
from pyres.failure.redis import shown
from pyres.schedule import Entry
from pyres.store import ConnectionLost, ResponseError

#: What a server that cannot be asked raises; the caller shows it as down.
DOWN: tuple[type[Exception], ...] = (*ConnectionLost, ResponseError, BadDSNError)

#: Characters of arguments, errors and the like that a row carries.
LONG = 4000

#: What a digest in the place of bytes begins with; no base64 holds a colon.
DIGEST = "sha256:"

#: Failure records that a filter looks at for one page.
LOOKED_AT = 20_000


@dataclasses.dataclass(frozen=True, slots=True)
class QueueRow:
    name: str
    size: int


@dataclasses.dataclass(frozen=True, slots=True)
class JobRow:
    """A payload; by `raw` (see mark()) an action finds it again."""

    klass: str
    args: str
    raw: str
    enqueued: float | None
    readable: bool
    queue: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerRow:
    """Times are epoch seconds, or None for what could not be read; `queue` is "" when idle."""

    id: str
    host: str
    pid: str
    queues: str
    state: str
    started: float | None
    heartbeat: float | None
    processed: str
    failed: str
    queue: str
    klass: str
    args: str
    run_at: float | None
    minion: bool


@dataclasses.dataclass(frozen=True, slots=True)
class FailureRow:
    """A failure record; by `record` (see mark()) an action finds it again."""

    queue: str
    klass: str
    args: str
    exception: str
    error: str
    backtrace: str
    worker: str
    failed_at: float | None
    failed_at_text: str
    retried_at: str
    record: str


@dataclasses.dataclass(frozen=True, slots=True)
class DelayedRow:
    timestamp: int
    size: int


@dataclasses.dataclass(frozen=True, slots=True)
class ScheduleRow:
    name: str
    klass: str
    queue: str
    args: str
    timing: str
    description: str
    last: float | None
    next: float | None
    fault: str


@dataclasses.dataclass(frozen=True, slots=True)
class KhanRow:
    id: str
    host: str
    pid: str
    pool: str


@dataclasses.dataclass(frozen=True, slots=True)
class KeyRow:
    name: str
    kind: str
    size: int


@dataclasses.dataclass(frozen=True, slots=True)
class Stats:
    pending: int
    processed: int
    failed: int
    failures: int
    queues: int
    workers: int
    working: int
    delayed_timestamps: int
    paused: bool


@dataclasses.dataclass(frozen=True, slots=True)
class FailureFilter:
    """Which failures; an empty field matches all."""

    queue: str = ""
    klass: str = ""
    exception: str = ""
    text: str = ""

    def __bool__(self) -> bool:
        return any((self.queue, self.klass, self.exception, self.text))

    def matches(self, row: FailureRow, raw: bytes) -> bool:
        """Whether a record is meant; `text` is looked for in its bytes and its message."""
        return (
            self.queue in ("", row.queue)
            and self.klass in ("", row.klass)
            and self.exception in ("", row.exception)
            and (not self.text or self.text.encode() in raw or self.text in row.error)
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """Some rows; `following` is where the next page starts, or None."""

    rows: list[Any]
    total: int
    start: int
    following: int | None


class Inspector:
    """Answers what is there now. Raises what is in DOWN when the server cannot be asked."""

    def __init__(self, resq: ResQ) -> None:
        self.resq = resq
        self._store = resq.store

    def queues(self) -> list[QueueRow]:
        """Every queue with its size, by name."""
        return [QueueRow(_plain(name), size) for name, size in self._store.queues.sizes().items()]

    def queue_page(self, name: str, start: int, count: int) -> Page:
        """Jobs of a queue, oldest first."""
        raws = self._store.queues.peek(name, start, count)
        return _page([_job(raw) for raw in raws], self._store.queues.size(name), start)

    def oldest(self, name: str) -> float | None:
        """When the job at the head of a queue was enqueued, where it says so."""
        head = self._store.queues.peek(name, 0, 1)
        return _job(head[0]).enqueued if head else None

    def workers(self) -> list[WorkerRow]:
        """Every registered worker and minion."""
        return self._worker_rows(self._store.workers.ids())

    def worker(self, worker_id: str) -> WorkerRow | None:
        """One worker, or None when none of this id is registered."""
        known = self._store.workers.exists(worker_id)
        return self._worker_rows([worker_id])[0] if known else None

    def working(self) -> list[WorkerRow]:
        """Workers with a job in hand, the longest at it first."""
        busy = [row for row in self.workers() if row.state == "working"]
        return sorted(busy, key=lambda row: row.run_at or 0)

    def _worker_rows(self, ids: list[str]) -> list[WorkerRow]:
        if not ids:
            return []
        beats = self._store.workers.heartbeats()
        minions = set(self._store.workers.minion_ids())
        found = zip(ids, self._store.views.standings(ids), strict=True)
        return [
            _worker(worker_id, standing, beats.get(worker_id, ""), worker_id in minions)
            for worker_id, standing in found
        ]

    def khans(self) -> list[KhanRow]:
        """Managers of minions, with their pools."""
        rows = [(khan, _split(khan)) for khan in self._store.workers.khan_ids()]
        return [KhanRow(_plain(khan), *parts) for khan, parts in rows]

    def failure_lists(self) -> list[str]:
        """The lists that hold failures: Resque's one, and those of the multi-queue backend."""
        return list(dict.fromkeys(["failed", *self._store.failed.names()]))

    def failure_count(self) -> int:
        """How many failure records there are."""
        return sum(self._store.failed.count(name) for name in self.failure_lists())

    def failures_page(self, start: int, count: int, chosen: FailureFilter | None = None) -> Page:
        """Failures, newest first; a filter looks at no more than LOOKED_AT records a page."""
        chosen = chosen or FailureFilter()
        total = self.failure_count()
        rows: list[FailureRow] = []
        at = start
        for raw in self._newest(start, min(total, start + (LOOKED_AT if chosen else count))):
            row = _failure(raw)
            at += 1
            if chosen.matches(row, raw):
                rows.append(row)
                if len(rows) == count:
                    break
        return Page(rows, total, start, at if at < total else None)

    def failure(self, record: bytes) -> FailureRow:
        """A raw record as a row."""
        return _failure(record)

    def find_failure(self, marked: str) -> bytes | None:
        """The raw record that a row's `record` stands for, or None."""
        lists = self.failure_lists()
        return _unmark(marked, (raw for name in lists for raw in self._store.failed.walk(name)))

    def find_job(self, queue: str, marked: str) -> bytes | None:
        """The payload on a queue that a row's `raw` stands for, or None."""
        return _unmark(marked, self._store.queues.walk(queue))

    def find_delayed(self, timestamp: int, marked: str) -> bytes | None:
        """The payload at a timestamp that a row's `raw` stands for, or None."""
        return _unmark(marked, self._store.delayed.peek(timestamp, 0, -1))

    def schedule_entry(self, name: str) -> Entry:
        """An entry of the schedule in Redis. Raises BadScheduleError where there is none."""
        return Entry.read(name, self.resq.get_schedule(name))

    def _newest(self, start: int, end: int) -> Iterator[bytes]:
        """Records start..end, counted from the newest of each list."""
        passed = 0
        for name in self.failure_lists():
            size = self._store.failed.count(name)
            low, high = max(start - passed, 0), min(end - passed, size)
            passed += size
            while low < high:
                step = min(100, high - low)
                page = self._store.failed.page(size - low - step, step, name)
                yield from reversed(page)
                low += step

    def delayed_page(self, start: int, count: int) -> Page:
        """Timestamps at which jobs wait, earliest first."""
        timestamps = self._store.delayed.timestamps(start, count)
        sizes = self._store.delayed.sizes(timestamps) if timestamps else []
        rows = [DelayedRow(*pair) for pair in zip(timestamps, sizes, strict=True)]
        return _page(rows, self._store.delayed.timestamp_count(), start)

    def delayed_jobs(self, timestamp: int, start: int, count: int) -> Page:
        """Jobs that wait at a timestamp."""
        raws = self._store.delayed.peek(timestamp, start, count)
        return _page([_job(raw) for raw in raws], self._store.delayed.size(timestamp), start)

    def schedule(self) -> list[ScheduleRow]:
        """Entries of the schedule in Redis, with their last and next run."""
        last = self._store.schedules.last_enqueued_at()
        now = int(self.resq._current_time().timestamp())
        stored = sorted(self._store.schedules.all().items())
        return [_entry(name, raw, last.get(name, ""), now) for name, raw in stored]

    def stats(self) -> Stats:
        """The totals of resque-web's table."""
        sizes = self._store.queues.sizes()
        ids = self._store.workers.ids()
        summary = self._store.views.summary()
        busy = sum(hand is not None for hand in self._store.workers.hands(ids))
        return Stats(
            sum(sizes.values()),
            summary.processed,
            summary.failed,
            self.failure_count(),
            len(sizes),
            len(ids),
            busy,
            summary.timestamps,
            summary.paused,
        )

    def server(self) -> dict[str, Any]:
        """Redis INFO."""
        return self._store.views.server()

    def keys_page(self, cursor: int, count: int) -> tuple[int, list[KeyRow]]:
        """About `count` keys, and the cursor of the next page; 0 after the last."""
        after, rows = self._store.views.keys_page(cursor, count)
        return after, [KeyRow(_plain(name), kind, size) for name, kind, size in rows]

    def key(self, name: str, start: int, count: int) -> tuple[KeyRow, list[str]]:
        """A key, and some of its elements as text."""
        kind, size, found = self._store.views.key(name, start, count)
        return KeyRow(_plain(name), kind, size), [_plain(value) for value in found]


def _page(rows: list[Any], total: int, start: int) -> Page:
    following = start + len(rows)
    return Page(rows, total, start, following if rows and following < total else None)


def mark(raw: bytes) -> str:
    """The bytes in base64, or of very many a digest, so that a page of them stays a page."""
    if len(raw) <= LONG:
        return base64.b64encode(raw).decode()
    return DIGEST + hashlib.sha256(raw).hexdigest()


def _unmark(marked: str, among: Iterable[bytes]) -> bytes | None:
    if not marked.startswith(DIGEST):
        try:
            return base64.b64decode(marked, validate=True)
        except ValueError:
            return None
    return next((raw for raw in among if len(raw) > LONG and mark(raw) == marked), None)


def _plain(value: object) -> str:
    """Text that any output can hold: what was no UTF-8 shows as a mark."""
    found = value if isinstance(value, str) else _dumped(value)
    return found.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _dumped(value: object) -> str:
    try:
        return json_parser.dumps(value)
    except (TypeError, ValueError):
        return repr(value)


def _short(value: object) -> str:
    found = _plain(value)
    return found if len(found) <= LONG else f"{found[:LONG]}… ({len(found)} characters)"


def _job(raw: bytes) -> JobRow:
    item = payload.show(raw)
    klass, args = _of(item)
    enqueued = item.get("enqueue_timestamp")
    when = float(enqueued) if isinstance(enqueued, int | float) else None
    readable = item.get("class") != payload.UNDECODABLE
    return JobRow(klass, args, mark(raw), when, readable, _plain(item.get("queue") or ""))


def _of(item: object) -> tuple[str, str]:
    """Class and arguments; of ActiveJob's wrapper those within."""
    if not isinstance(item, dict):
        return "<no job>", _short(item)
    name, args = item.get("class", "<no class>"), item.get("args", [])
    inner = args[0] if isinstance(args, list) and args and isinstance(args[0], dict) else {}
    if isinstance(name, str) and name.endswith("::JobWrapper") and "job_class" in inner:
        name, args = inner["job_class"], inner.get("arguments", [])
    return _short(name), _short(args)


_HAND_NUMBER = re.compile(r",~\d+\Z")


def _split(worker_id: str) -> tuple[str, str, str]:
    """host, pid and the rest of an id."""
    host, _, rest = _plain(worker_id).partition(":")
    pid, _, more = rest.partition(":")
    # What comes behind the queues tells the hands of one process apart, and is no queue.
    return host, pid, _HAND_NUMBER.sub("", more)


def _worker(worker_id: str, standing: Any, beat: str, minion: bool) -> WorkerRow:
    host, pid, queues = _split(worker_id)
    queue = klass = args = ""
    run_at = None
    if standing.hand is not None:
        queue, klass, args, run_at = _hand(standing.hand)
    return WorkerRow(
        _plain(worker_id),
        host,
        pid,
        queues,
        "idle" if standing.hand is None else "working",
        moment(standing.started),
        moment(beat),
        _plain(standing.processed or "0"),
        _plain(standing.failed or "0"),
        queue,
        klass,
        args,
        run_at,
        minion,
    )


def _hand(raw: bytes) -> tuple[str, str, str, float | None]:
    try:
        hand = payload.parse(raw)
    except UndecodableError:
        return "", payload.UNDECODABLE, _short(raw.decode("utf-8", "replace")), None
    klass, args = _of(hand.get("payload"))
    return _plain(hand.get("queue") or ""), klass, args, moment(hand.get("run_at"))


def _failure(raw: bytes) -> FailureRow:
    record = shown(raw)
    klass, args = _of(record["payload"])
    trace = record["backtrace"]
    lines = trace if isinstance(trace, list) else [trace] if trace else []
    return FailureRow(
        _short(record["queue"] or ""),
        klass,
        args,
        _short(record["exception"] or ""),
        _short(record["error"] or ""),
        _short("\n".join(map(_plain, lines))),
        _short(record["worker"] or ""),
        moment(record["failed_at"]),
        _short(record["failed_at"] or ""),
        _short(record.get("retried_at") or ""),
        mark(raw),
    )


def _entry(name: str, raw: bytes, last: str, now: int) -> ScheduleRow:
    try:
        config = json_parser.loads(raw)
        entry = Entry.read(name, config)
        upcoming = float(entry.timing.next_after(now))
    except PyresError as error:
        return ScheduleRow(_plain(name), "", "", "", "", "", moment(last), None, _short(str(error)))
    return ScheduleRow(
        _plain(name),
        entry.klass,
        entry.queue or "",
        _short(entry.args),
        str(entry.timing),
        entry.description,
        moment(last),
        upcoming,
        "",
    )


FORMS = (
    "%Y/%m/%d %H:%M:%S %Z",
    "%Y/%m/%d %H:%M:%S",
    "%Y-%m-%d %H:%M:%S %z",
    "%a %b %d %Y %H:%M:%S GMT%z",
)


def moment(value: object) -> float | None:
    """Epoch seconds of a time as Ruby, node-resque or pyres writes it, or None."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if 0 <= value < 1e11 else None
    if isinstance(value, datetime):
        return value.timestamp()
    if not isinstance(value, str) or len(value) > 100:
        return None
    with contextlib.suppress(ValueError):  # no number; tried as a date below
        return moment(float(value))
    with contextlib.suppress(ValueError, OverflowError):  # no ISO date; the others below
        return datetime.fromisoformat(value).timestamp()
    return _by_form(value.partition(" (")[0])


def _by_form(value: str) -> float | None:
    for form in FORMS:
        with contextlib.suppress(ValueError, OverflowError):  # the next form may fit
            found = datetime.strptime(value, form)
            if "%Z" in form and value.endswith(("UTC", "GMT")):
                return float(calendar.timegm(found.timetuple()))
            return found.timestamp()
    # Zone names of America, which strptime knows only where they are local.
    head, _, zone = value.rpartition(" ")
    offset = email.utils.parsedate_tz(f"1 Jan 2000 00:00:00 {zone}") if head else None
    with contextlib.suppress(ValueError, TypeError, OverflowError):  # no date at all: None
        wall = calendar.timegm(time.strptime(head, "%Y/%m/%d %H:%M:%S"))
        return float(wall - (offset[9] or 0)) if offset else None
    return None
