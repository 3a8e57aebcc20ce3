"""Read-only queries for the web page, metrics and command line: frozen rows, a page at a time."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import heapq
import itertools
import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pyres import in_flight, payload
from pyres.client import ResQ
from pyres.exceptions import BadDSNError, BadOptionError, PyresError
from pyres.failure.records import FailureFilter, class_and_args, for_display, printable
from pyres.schedule import STORED, Entry, PublishedEntry
from pyres.schedule_faults import EntryFault
from pyres.store import CONNECTION_ERRORS, SEARCHED, ResponseError, Row, Wanted, refusal
from pyres.times import moment

#: The errors of a server that is unreachable or refuses a request; is_down() tells which.
UNAVAILABLE: tuple[type[Exception], ...] = (*CONNECTION_ERRORS, ResponseError, BadDSNError)


def is_down(error: Exception) -> bool:
    """Whether the server cannot serve at all now; else it answers, but refused this request."""
    return isinstance(error, (*CONNECTION_ERRORS, BadDSNError)) or refusal(str(error)) is not None


#: Seconds after its published next run for which a published entry is still shown.
MAX_OVERDUE = 60

#: Characters of each text field of a row, such as arguments and errors.
MAX_FIELD_CHARS = 4000

#: The prefix of a digest used instead of bytes in base64; base64 contains no colon.
DIGEST_PREFIX = "sha256:"

#: Failure records that a filter reads for one page.
FILTER_SCAN_LIMIT = 20_000

#: The newest failure records whose classes and exceptions are counted, and their bytes at most.
KINDS_SAMPLE, KINDS_SAMPLE_BYTES = 200, 4 * 2**20


@dataclasses.dataclass(frozen=True, slots=True)
class QueueRow:
    """A queue. A row's `handle` is the url_id() by which an action finds its object again."""

    name: str
    size: int
    handle: str
    oldest: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class JobRow:
    """A payload. By `raw`, its payload_token(), and its `index` from the head an action finds it
    again.
    """

    klass: str
    args: str
    raw: str
    enqueued: float | None
    readable: bool
    queue: str = ""
    index: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker or minion. Times are epoch seconds, or None if they could not be parsed: then their
    text is in the field that ends in `_text`. `queue` is "" when idle.
    """

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
    handle: str
    queue_handle: str
    started_text: str = ""
    heartbeat_text: str = ""
    run_at_text: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class FailureRow:
    """A failure record. By `record`, its payload_token(), and its place an action finds it again.

    It is in the list `of` at `index` from the head; list and `digest` identify it permanently.
    """

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
    of: str = ""
    index: int = 0
    digest: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class DelayedRow:
    timestamp: int
    size: int


@dataclasses.dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A schedule entry; `source` is where it is defined, or "" if it is no longer active."""

    name: str
    klass: str
    queue: str
    args: str
    timing: str
    description: str
    last: float | None
    next: float | None
    fault: str
    source: str
    handle: str


@dataclasses.dataclass(frozen=True, slots=True)
class KhanRow:
    id: str
    host: str
    pid: str
    pool: str
    handle: str


@dataclasses.dataclass(frozen=True, slots=True)
class KeyRow:
    name: str
    kind: str
    size: int
    handle: str


@dataclasses.dataclass(frozen=True, slots=True)
class WrongKeyRow:
    """A key of an unexpected type, with the namespace, and the error."""

    key: str
    error: str


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
class Page:
    """A page of rows; `following` is where the next page starts, or None."""

    rows: list[Any]
    total: int
    start: int
    following: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class FailurePage:
    """Failures, newest first or oldest first. A position is an index in each list: records below it
    (oldest first: from it on) are still to be read, so later failures do not move it.

    `positions` has one more than rows: before the first, and after each row. `end` is after the
    last record read, and `horizon` is when that one failed. `complete`: no record is left to read.
    """

    rows: list[FailureRow]
    positions: list[dict[str, int]]
    end: dict[str, int]
    total: int
    horizon: float
    complete: bool


@dataclasses.dataclass(frozen=True, slots=True)
class FailureKinds:
    """Counts of each class and exception among some failures, and how many were retried."""

    classes: dict[str, int]
    exceptions: dict[str, int]
    retried: int


@dataclasses.dataclass(frozen=True, slots=True)
class FailureCount:
    """How many of the `scanned` newest failures match, and how many failures there are in all."""

    matching: int
    scanned: int
    total: int


class Inspector:
    """The queries. Raise one of UNAVAILABLE if the server is unreachable or refuses."""

    def __init__(self, resq: ResQ) -> None:
        self.resq = resq
        self._store = resq.store

    def ping(self) -> None:
        """Send PING to the server."""
        self._store.client.ping()

    def wrong_keys(
        self, *, queue: str = "", timestamps: Sequence[int] = (), worker_ids: Sequence[str] = ()
    ) -> list[WrongKeyRow]:
        """The keys of an unexpected type, also those of this queue, these timestamps and workers;
        an empty list if the Redis user has no right to check.
        """
        keys = self._store.keys
        also: dict[Any, str] = {keys.delayed(timestamp): "list" for timestamp in timestamps}
        also |= {keys.worker(worker_id): "string" for worker_id in worker_ids}
        also |= {keys.queue(queue): "list"} if queue else {}
        try:
            errors = self._store.key_types.wrong(also)
        except ResponseError as error:
            if is_down(error):
                raise
            return []
        return [WrongKeyRow(printable(error.key), printable(str(error))) for error in errors]

    def worker_ids(self) -> list[str]:
        """The ids of all registered workers and minions."""
        return self._store.workers.ids()

    def queues(self, oldest: bool = False) -> list[QueueRow]:
        """Every queue with its size, by name; with `oldest` also when the job at its head was
        enqueued, if its payload has that.
        """
        sizes = self._store.queues.sizes()
        heads = self._store.queues.heads(list(sizes)) if oldest else {}
        return [
            QueueRow(printable(name), size, url_id(name), _enqueued(heads.get(name)))
            for name, size in sizes.items()
        ]

    def queue_size(self, name: str) -> int:
        """How many jobs are on a queue."""
        return self._store.queues.size(name)

    def queue_page(self, name: str, start: int, count: int) -> Page:
        """Jobs of a queue, oldest first."""
        raws = self._store.queues.peek(name, start, count)
        return _page(_jobs(raws, start), self._store.queues.size(name), start)

    def worker_count(self) -> int:
        """How many workers and minions are registered."""
        return len(self.worker_ids())

    def workers(self) -> list[WorkerRow]:
        """All registered workers and minions."""
        return self._worker_rows(self._store.workers.ids())

    def worker(self, worker_id: str) -> WorkerRow | None:
        """One worker, or None if no worker with this id is registered."""
        exists = self._store.workers.exists(worker_id)
        return self._worker_rows([worker_id])[0] if exists else None

    def working(self) -> list[WorkerRow]:
        """Workers with a job in flight, the longest running first."""
        busy = [row for row in self.workers() if row.state == "working"]
        return sorted(busy, key=lambda row: row.run_at or 0)

    def _worker_rows(self, ids: list[str]) -> list[WorkerRow]:
        if not ids:
            return []
        beats = self._store.workers.heartbeats()
        minions = set(self._store.workers.minion_ids())
        states = zip(ids, self._store.views.worker_states(ids), strict=True)
        return [
            _worker(worker_id, state, beats.get(worker_id, ""), worker_id in minions)
            for worker_id, state in states
        ]

    def khans(self) -> list[KhanRow]:
        """The managers, with their pool sizes."""
        rows = [(khan, _split(khan)) for khan in self._store.workers.khan_ids()]
        return [KhanRow(printable(khan), *parts, url_id(khan)) for khan, parts in rows]

    def failure_lists(self) -> list[str]:
        """The failure lists: Resque's `failed`, and those of the multi-queue backend."""
        return list(dict.fromkeys(["failed", *self._store.failed.names()]))

    def failure_count(self) -> int:
        """How many failure records there are."""
        return sum(self.failure_counts().values())

    def failure_counts(self) -> dict[str, int]:
        """How many records each failure list holds."""
        return self._store.failed.counts(self.failure_lists())

    def failures_page(
        self,
        count: int,
        chosen: FailureFilter | None = None,
        position: Mapping[str, int] | None = None,
        lists: Sequence[str] = (),
        *,
        oldest_first: bool = False,
    ) -> FailurePage:
        """Up to `count` failures of these lists, or of all, from a position on, or from the first
        one.

        Several lists are merged by the time of failure. A filter reads at most FILTER_SCAN_LIMIT
        records for one page.
        """
        chosen = chosen or FailureFilter()
        sizes = self.failure_counts()
        sizes = {name: sizes.get(name, 0) for name in lists} if lists else sizes
        position = position or {}
        ends = dict.fromkeys(sizes, 0)
        walk, first, last = (self._up, ends, sizes) if oldest_first else (self._down, sizes, ends)
        at = {name: min(size, position.get(name, first[name])) for name, size in sizes.items()}
        rows: list[FailureRow] = []
        positions = [dict(at)]
        horizon = math.inf
        step = 100 if chosen else count
        walks = (walk(name, at[name], step) for name in at)
        merged = heapq.merge(*walks, key=_oldest_first if oldest_first else _newest_first)
        for _ in range(FILTER_SCAN_LIMIT):
            record = next(merged, None)
            if record is None:
                break
            failed_at, name, index, raw = record
            at[name], horizon = index + oldest_first, failed_at
            if chosen.matches(raw):
                rows.append(_failure(raw, name, index))
                positions.append(dict(at))
                if len(rows) == count:
                    break
        return FailurePage(rows, positions, at, sum(sizes.values()), horizon, at == last)

    def count_failures(
        self, chosen: FailureFilter | None = None, lists: Sequence[str] = ()
    ) -> FailureCount:
        """How many failures of these lists, or of all, match; reads at most FILTER_SCAN_LIMIT
        records.
        """
        counts = self.failure_counts()
        sizes = {name: size for name, size in counts.items() if name in lists or not lists}
        total = sum(sizes.values())
        if not chosen:
            return FailureCount(total, total, total)
        records = (raw for name, size in sizes.items() for *_, raw in self._down(name, size, 100))
        matches = [chosen.matches(raw) for raw in itertools.islice(records, FILTER_SCAN_LIMIT)]
        return FailureCount(sum(matches), len(matches), total)

    def failure_kinds(self, lists: Sequence[str] = ()) -> FailureKinds:
        """The kinds of the newest KINDS_SAMPLE failures of these lists, or of all; of fewer if the
        records are large.
        """
        counts = self.failure_counts()
        sizes = {name: size for name, size in counts.items() if name in lists or not lists}
        per_list = max(10, KINDS_SAMPLE // max(1, len(sizes)))
        classes: Counter[str] = Counter()
        exceptions: Counter[str] = Counter()
        retried = octets = 0
        for name, size in sizes.items():
            for _, _, _, raw in itertools.islice(self._down(name, size, per_list), per_list):
                octets += len(raw)
                if octets > KINDS_SAMPLE_BYTES:
                    break
                record = for_display(raw)
                classes[_short(class_and_args(record["payload"])[0])] += 1
                exceptions[_short(record["exception"] or "")] += 1
                retried += bool(record.get("retried_at"))
        return FailureKinds(dict(classes), dict(exceptions), retried)

    def _down(self, name: str, start: int, step: int) -> Iterator[tuple[float, str, int, bytes]]:
        """(time of failure, list, index, record) below an index, newest first."""
        for low, records in self._store.failed.pages_down(start, step, name):
            for index in range(len(records) - 1, -1, -1):
                raw = records[index]
                yield failed_at(raw), name, low + index, raw

    def _up(self, name: str, start: int, step: int) -> Iterator[tuple[float, str, int, bytes]]:
        """The same from an index on, oldest first."""
        while records := self._store.failed.page(start, step, name):
            for index, raw in enumerate(records, start):
                yield failed_at(raw), name, index, raw
            start += len(records)

    def failure(self, record: bytes) -> FailureRow:
        """A raw record as a row."""
        return _failure(record)

    def failure_at(
        self, name: str, digest: str, hint: int | None = None, searched: int = SEARCHED
    ) -> FailureRow | None:
        """The record of a list by its row's `digest`; None if it was removed, or is not among the
        `searched` records below index `hint` or, without it, the newest ones.

        A record's index only ever decreases, when one before it is removed.
        """
        key = self._store.keys.failure_list(name)
        wanted = Wanted(None, lambda raw: digest_of(raw) == digest)
        start = self._store.failed.count(name) - 1 if hint is None else hint
        row = self._store.rows.find(key, wanted, start, searched)
        return _failure(row.raw, name, row.index) if row else None

    def find_failure(
        self, token: str, name: str = "", index: int | None = None
    ) -> tuple[str, Row] | None:
        """The current list and place of the record with this payload_token(), or None.

        With the list and `index` of its row few records are read; else each list from the newest
        record on.
        """
        wanted = _wanted(token)
        lists = [list_name for list_name in self.failure_lists() if name in ("", list_name)]
        for list_name in lists if wanted else ():
            key = self._store.keys.failure_list(list_name)
            if row := self._find(key, wanted, index, newest_first=True):
                return list_name, row
        return None

    def find_job(self, queue: str, token: str, index: int | None = None) -> Row | None:
        """The current place on a queue of the payload with this payload_token(), or None."""
        return self._find(self._store.keys.queue(queue), _wanted(token), index)

    def find_delayed(self, timestamp: int, token: str, index: int | None = None) -> Row | None:
        """The current place at a timestamp of the payload with this payload_token(), or None."""
        return self._find(self._store.keys.delayed(timestamp), _wanted(token), index)

    def _find(
        self, key: Any, wanted: Wanted | None, index: int | None, *, newest_first: bool = False
    ) -> Row | None:
        rows = self._store.rows
        if wanted is None:
            return None
        if index is not None:
            return rows.find(key, wanted, index)
        return rows.last(key, wanted) if newest_first else rows.first(key, wanted)

    def delayed_page(self, start: int, count: int) -> Page:
        """The timestamps of delayed jobs, earliest first."""
        timestamps = self._store.delayed.timestamps(start, count)
        sizes = self._store.delayed.sizes(timestamps) if timestamps else []
        rows = [DelayedRow(*pair) for pair in zip(timestamps, sizes, strict=True)]
        return _page(rows, self._store.delayed.timestamp_count(), start)

    def delayed_jobs(self, timestamp: int, start: int, count: int) -> Page:
        """The jobs delayed until a timestamp."""
        raws = self._store.delayed.peek(timestamp, start, count)
        return _page(_jobs(raws, start), self._store.delayed.size(timestamp), start)

    def schedule(self) -> list[ScheduleRow]:
        """The schedule entries that are stored in Redis, active, invalid, or fired once but no
        longer known; with their last and next run.
        """
        schedules = self._store.schedules
        stored, published = schedules.all(), schedules.published()
        faults = _faults(schedules.faults(), stored)
        master = schedules.master_lock().holder()
        last = {name: float(fired) for name, fired in schedules.fired().items()}
        for name, when in schedules.last_enqueued_at().items():
            last[name] = max(last.get(name, 0), moment(when) or 0)
        now = int(self.resq.estimated_time())
        rows = []
        for name in sorted({*stored, *published, *last, *faults}):
            entry = PublishedEntry.read(published[name]) if name in published else None
            row = _published_row(name, entry) if entry else _unknown_row(name)
            # Without a master the published entry is out of date, and the one stored in Redis may
            # be newer. The same with a master in Ruby, which publishes nothing.
            if name in stored and not (entry and master and entry.next > now - MAX_OVERDUE):
                entry, row = None, _stored_row(name, stored[name], now)
            if entry is None and name in faults:
                row = _faulty(row, faults[name])
            rows.append(dataclasses.replace(row, last=last.get(name)))
        return rows

    def master(self) -> str:
        """The scheduler that has the master lock, or ""."""
        return printable(self._store.schedules.master_lock().holder())

    def static_master(self) -> str:
        """The scheduler that fires the entries of code and files, or ""."""
        return printable(self._store.schedules.static_lock().holder())

    def stats(self) -> Stats:
        """The totals of resque-web's table."""
        sizes = self._store.queues.sizes()
        ids = self._store.workers.ids()
        summary = self._store.views.summary()
        busy = sum(self._store.workers.have_jobs(ids))
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
        return after, [
            KeyRow(printable(name), kind, size, url_id(name)) for name, kind, size in rows
        ]

    def key(self, name: str, start: int, count: int) -> tuple[KeyRow, Page]:
        """A key, and some of its elements as text; `start` is 0 or a page's `following`."""
        elements = self._store.views.key(name, start, count)
        following = elements.following or None
        page = Page(
            [printable(value) for value in elements.elements], elements.size, start, following
        )
        return KeyRow(printable(name), elements.kind, elements.size, url_id(name)), page


#: The prefix of a url_id() in base64, for a name that cannot be in a URL.
BASE64_PREFIX = "b64:"


def url_id(name: str) -> str:
    """An identifier of the name for URLs and forms: the name itself, or base64 if that cannot be
    in a URL.
    """
    is_safe = not name.startswith(BASE64_PREFIX) and all(
        piece not in ("", ".", "..") for piece in name.split("/")
    )
    try:
        octets = name.encode()
    except UnicodeEncodeError:
        octets, is_safe = name.encode("utf-8", "surrogateescape"), False
    if is_safe and name.isprintable():
        return name
    return BASE64_PREFIX + base64.urlsafe_b64encode(octets).decode()


def name_of(identifier: str) -> str:
    """The name of a url_id(). Raises BadOptionError for an invalid one."""
    if not identifier.startswith(BASE64_PREFIX):
        return identifier
    try:
        octets = base64.b64decode(identifier.removeprefix(BASE64_PREFIX), b"-_", validate=True)
    except ValueError:
        raise BadOptionError(
            f"invalid name {identifier[:100]!r}: expected base64 after {BASE64_PREFIX}"
        ) from None
    return octets.decode("utf-8", "surrogateescape")


def _page(rows: list[Any], total: int, start: int) -> Page:
    following = start + len(rows)
    return Page(rows, total, start, following if rows and following < total else None)


def payload_token(raw: bytes) -> str:
    """The bytes in base64, or a digest of them if there are many, so that a page stays small."""
    if len(raw) <= MAX_FIELD_CHARS:
        return base64.b64encode(raw).decode()
    return DIGEST_PREFIX + hashlib.sha256(raw).hexdigest()


def _wanted(token: str) -> Wanted | None:
    """The element with this payload_token(); None for an invalid token."""
    if token.startswith(DIGEST_PREFIX):
        return Wanted(None, lambda raw: len(raw) > MAX_FIELD_CHARS and payload_token(raw) == token)
    try:
        raw = base64.b64decode(token, validate=True)
    except ValueError:
        return None
    return Wanted(raw, lambda element: element == raw)


def _short(value: object) -> str:
    text = printable(value)
    if len(text) <= MAX_FIELD_CHARS:
        return text
    return f"{text[:MAX_FIELD_CHARS]}… ({len(text)} characters)"


def _enqueued(raw: bytes | None) -> float | None:
    return moment(payload.show(raw).get("enqueue_timestamp")) if raw else None


def _jobs(raws: Sequence[bytes], start: int) -> list[JobRow]:
    return [job_row(raw, index) for index, raw in enumerate(raws, start)]


def job_row(raw: bytes, index: int = 0) -> JobRow:
    """A payload as a row."""
    item = payload.show(raw)
    readable = item.get("class") != payload.UNDECODABLE
    item = item if readable else payload.look(raw)
    klass, args = _short_class_and_args(item)
    when, queue = moment(item.get("enqueue_timestamp")), printable(item.get("queue") or "")
    return JobRow(klass, args, payload_token(raw), when, readable, queue, index)


def _short_class_and_args(item: object) -> tuple[str, str]:
    klass, args = class_and_args(item)
    return _short(klass), _short(args)


_SLOT_NUMBER = re.compile(r",~\d+\Z")


def _split(worker_id: str) -> tuple[str, str, str]:
    """Host, pid and queues of a worker's id, or host, pid and pool size of a manager's."""
    host, _, rest = printable(worker_id).partition(":")
    pid, _, last = rest.partition(":")
    # After the queues the id of a greenlet has its slot number.
    return host, pid, _SLOT_NUMBER.sub("", last)


def _worker(worker_id: str, state: Any, beat: str, minion: bool) -> WorkerRow:
    host, pid, queues = _split(worker_id)
    queue = klass = args = ""
    run_at: object = None
    if state.in_flight is not None:
        queue, klass, args, run_at = _running_job(state.in_flight)
    return WorkerRow(
        printable(worker_id),
        host,
        pid,
        queues,
        "idle" if state.in_flight is None else "working",
        moment(state.started),
        moment(beat),
        printable(state.processed or "0"),
        printable(state.failed or "0"),
        printable(queue),
        klass,
        args,
        moment(run_at),
        minion,
        url_id(worker_id),
        url_id(queue) if queue else "",
        _invalid_time(state.started),
        _invalid_time(beat),
        _invalid_time(run_at),
    )


def _invalid_time(written: object) -> str:
    """The text of a time that cannot be parsed, else ""."""
    return _short(written) if written and moment(written) is None else ""


def _running_job(raw: bytes) -> tuple[str, str, str, object]:
    """Queue, class, arguments and start (as written) of the job in an in-flight record."""
    job = in_flight.read(raw)
    if job is None:
        return "", payload.UNDECODABLE, _short(raw.decode("utf-8", "replace")), None
    return job.queue, *_short_class_and_args(payload.look(job.payload)), job.run_at


_FAILED_AT = re.compile(rb'"failed_at": ?"([^"\\]{1,60})"')


def failed_at(raw: bytes) -> float:
    """When a record says it failed, found without decoding it; infinity, as the newest, for one
    without that, so that it does not hold up a merged list.
    """
    match = _FAILED_AT.search(raw)
    when = moment(match[1].decode("utf-8", "replace")) if match else None
    return math.inf if when is None else when


def _newest_first(record: tuple[float, str, int, bytes]) -> float:
    return -record[0]


def _oldest_first(record: tuple[float, str, int, bytes]) -> float:
    return -math.inf if record[0] == math.inf else record[0]


def digest_of(raw: bytes) -> str:
    """A digest that identifies a record, short enough for a URL."""
    return hashlib.sha256(raw).hexdigest()[:32]


def _failure(raw: bytes, name: str = "", index: int = 0) -> FailureRow:
    record = for_display(raw)
    klass, args = _short_class_and_args(payload.unpacked(record["payload"], payload.look))
    trace = record["backtrace"]
    lines = trace if isinstance(trace, list) else [trace] if trace else []
    return FailureRow(
        _short(record["queue"] or ""),
        klass,
        args,
        _short(record["exception"] or ""),
        _short(record["error"] or ""),
        _short("\n".join(map(printable, lines))),
        _short(record["worker"] or ""),
        moment(record["failed_at"]),
        _short(record["failed_at"] or ""),
        _short(record.get("retried_at") or ""),
        payload_token(raw),
        name,
        index,
        digest_of(raw),
    )


def _published_row(name: str, entry: PublishedEntry) -> ScheduleRow:
    return ScheduleRow(
        printable(name),
        _short(entry.klass),
        _short(entry.queue),
        _short(entry.args),
        _short(entry.timing),
        _short(entry.description),
        None,
        moment(entry.next),
        "",
        _short(entry.source),
        url_id(name),
    )


def _unknown_row(name: str) -> ScheduleRow:
    nothing = ("", "", "", "", "")
    return ScheduleRow(printable(name), *nothing, None, None, "", "", url_id(name))


def _stored_row(name: str, raw: bytes, now: int) -> ScheduleRow:
    try:
        entry = Entry.read_stored(name, raw)
        upcoming = moment(entry.limits.bound(entry.timing, now).next_after(now))
    except PyresError as error:
        return dataclasses.replace(_unknown_row(name), fault=_short(str(error)), source=STORED)
    row = ScheduleRow(
        printable(name),
        entry.klass,
        entry.queue or "",
        _short(entry.args),
        _short(entry.when),
        entry.description,
        None,
        upcoming,
        "",
        STORED,
        url_id(name),
    )
    try:
        entry.check_supported()
    except PyresError as error:
        return _faulty(row, EntryFault(str(error), STORED))
    return row


def _faults(published: dict[str, bytes], stored: Collection[str]) -> dict[str, EntryFault]:
    """The published faults of entries that still exist."""
    faults = {name: EntryFault.read(raw) for name, raw in published.items()}
    return {
        name: fault
        for name, fault in faults.items()
        if fault and (fault.source != STORED or name in stored)
    }


def _faulty(row: ScheduleRow, fault: EntryFault) -> ScheduleRow:
    source = _short(fault.source)
    return dataclasses.replace(row, fault=_short(fault.text), source=source, next=None)
