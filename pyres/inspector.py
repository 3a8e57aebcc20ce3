"""THE READING SIDE: what is in Redis now, as frozen values, a page at a time. It writes nothing."""

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
from pyres.failure.records import FailureFilter, job_in, plain, shown
from pyres.schedule import STORED, Entry, PublishedEntry
from pyres.schedule_faults import EntryFault
from pyres.store import CONNECTION_ERRORS, SEARCHED, ResponseError, Row, Wanted, refusal
from pyres.times import moment

#: What a server raises that cannot be asked, or refuses; is_down() tells which.
DOWN: tuple[type[Exception], ...] = (*CONNECTION_ERRORS, ResponseError, BadDSNError)


def is_down(error: Exception) -> bool:
    """Whether the server cannot serve at all now; else it answers, and refused this one request."""
    return isinstance(error, (*CONNECTION_ERRORS, BadDSNError)) or refusal(str(error)) is not None


#: Seconds by which a published next time of an entry may have passed.
OVERDUE = 60

#: Characters of arguments, errors and the like that a row carries.
LONG = 4000

#: What a digest in the place of bytes begins with; no base64 holds a colon.
DIGEST = "sha256:"

#: Failure records that a filter looks at for one page.
FILTER_SCAN_LIMIT = 20_000

#: Failure records whose kinds are counted, and how many bytes of them.
NEWEST, NEWEST_BYTES = 200, 4 * 2**20


@dataclasses.dataclass(frozen=True, slots=True)
class QueueRow:
    """By its `handle` (see handle()) an action finds a queue, worker, key and the like again."""

    name: str
    size: int
    handle: str
    oldest: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class JobRow:
    """A payload; by `raw` (see mark()) and its `index` from the head an action finds it again."""

    klass: str
    args: str
    raw: str
    enqueued: float | None
    readable: bool
    queue: str = ""
    index: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerRow:
    """Times are epoch seconds, or None for what could not be read, whose text is then in the
    field that ends in `_text`; `queue` is "" when idle.
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
    """A failure record; by `record` (see mark()) and its place an action finds it again.

    It stands in the list `of` at `index` from the head; list and `digest` name it for good.
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
    """An entry; `source` says where it stands, and is "" for one that is in force no more."""

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
    """A key of another type than its name says, with the namespace, and what is wrong with it."""

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
    """Some rows; `following` is where the next page starts, or None."""

    rows: list[Any]
    total: int
    start: int
    following: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class FailurePage:
    """Failures, newest first or oldest first. A position is an index in each list, below which (or
    from which on, of the oldest first) is to be read: what comes in later does not move it.

    `positions` has one more than rows: before the first, and after each; `end` is after all that
    was looked at, and `horizon` is when the last of those failed; `complete` says that there is no
    more to look at.
    """

    rows: list[FailureRow]
    positions: list[dict[str, int]]
    end: dict[str, int]
    total: int
    horizon: float
    complete: bool


@dataclasses.dataclass(frozen=True, slots=True)
class FailureKinds:
    """How often each class and exception is among some failures, and how many were retried."""

    classes: dict[str, int]
    exceptions: dict[str, int]
    retried: int


@dataclasses.dataclass(frozen=True, slots=True)
class FailureCount:
    """How many of the `looked_at` newest failures are meant, and how many there are in all."""

    matching: int
    scanned: int
    total: int


class Inspector:
    """Answers what is there now. Raises what is in DOWN when the server cannot be asked."""

    def __init__(self, resq: ResQ) -> None:
        self.resq = resq
        self._store = resq.store

    def ping(self) -> None:
        """Ask the server for nothing but an answer."""
        self._store.client.ping()

    def wrong_keys(
        self, *, queue: str = "", timestamps: Sequence[int] = (), worker_ids: Sequence[str] = ()
    ) -> list[WrongKeyRow]:
        """The keys of another type than expected, also of this queue, these timestamps and workers;
        none where the user may not look.
        """
        keys = self._store.keys
        also: dict[Any, str] = {keys.delayed(timestamp): "list" for timestamp in timestamps}
        also |= {keys.worker(worker_id): "string" for worker_id in worker_ids}
        also |= {keys.queue(queue): "list"} if queue else {}
        try:
            found = self._store.key_types.wrong(also)
        except ResponseError as error:
            if is_down(error):
                raise
            return []
        return [WrongKeyRow(plain(one.key), plain(str(one))) for one in found]

    def worker_ids(self) -> list[str]:
        """The ids of every registered worker and minion."""
        return self._store.workers.ids()

    def queues(self, oldest: bool = False) -> list[QueueRow]:
        """Every queue with its size, by name; if wanted, when the job at its head was enqueued,
        where it says so.
        """
        sizes = self._store.queues.sizes()
        heads = self._store.queues.heads(list(sizes)) if oldest else {}
        return [
            QueueRow(plain(name), size, handle(name), _enqueued(heads.get(name)))
            for name, size in sizes.items()
        ]

    def queue_size(self, name: str) -> int:
        """How many jobs wait on a queue."""
        return self._store.queues.size(name)

    def queue_page(self, name: str, start: int, count: int) -> Page:
        """Jobs of a queue, oldest first."""
        raws = self._store.queues.peek(name, start, count)
        return _page(_jobs(raws, start), self._store.queues.size(name), start)

    def worker_count(self) -> int:
        """How many workers and minions are registered."""
        return len(self.worker_ids())

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
        found = zip(ids, self._store.views.worker_states(ids), strict=True)
        return [
            _worker(worker_id, state, beats.get(worker_id, ""), worker_id in minions)
            for worker_id, state in found
        ]

    def khans(self) -> list[KhanRow]:
        """Managers of minions, with their pools."""
        rows = [(khan, _split(khan)) for khan in self._store.workers.khan_ids()]
        return [KhanRow(plain(khan), *parts, handle(khan)) for khan, parts in rows]

    def failure_lists(self) -> list[str]:
        """The lists that hold failures: Resque's one, and those of the multi-queue backend."""
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
        """Up to `count` failures from a position on, or from the first one; of these lists, or of
        all.

        Several lists are merged by when each failed. A filter reads at most FILTER_SCAN_LIMIT
        records for one page.
        """
        chosen = chosen or FailureFilter()
        sizes = self.failure_counts()
        sizes = {name: sizes.get(name, 0) for name in lists} if lists else sizes
        given = position or {}
        ends = dict.fromkeys(sizes, 0)
        walk, first, last = (self._up, ends, sizes) if oldest_first else (self._down, sizes, ends)
        at = {name: min(size, given.get(name, first[name])) for name, size in sizes.items()}
        rows: list[FailureRow] = []
        positions = [dict(at)]
        horizon = math.inf
        step = 100 if chosen else count
        walks = (walk(name, at[name], step) for name in at)
        merged = heapq.merge(*walks, key=_oldest_first if oldest_first else _newest_first)
        for _ in range(FILTER_SCAN_LIMIT):
            found = next(merged, None)
            if found is None:
                break
            failed_at, name, index, raw = found
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
        """How many failures of these lists, or of all, match; at most FILTER_SCAN_LIMIT records are
        looked at.
        """
        there = self.failure_counts()
        sizes = {name: size for name, size in there.items() if name in lists or not lists}
        total = sum(sizes.values())
        if not chosen:
            return FailureCount(total, total, total)
        found = (raw for name, size in sizes.items() for *_, raw in self._down(name, size, 100))
        matches = [chosen.matches(raw) for raw in itertools.islice(found, FILTER_SCAN_LIMIT)]
        return FailureCount(sum(matches), len(matches), total)

    def failure_kinds(self, lists: Sequence[str] = ()) -> FailureKinds:
        """What the newest NEWEST failures of these lists, or of all, are; of large ones fewer."""
        there = self.failure_counts()
        sizes = {name: size for name, size in there.items() if name in lists or not lists}
        each = max(10, NEWEST // max(1, len(sizes)))
        classes: Counter[str] = Counter()
        exceptions: Counter[str] = Counter()
        retried = octets = 0
        for name, size in sizes.items():
            for _, _, _, raw in itertools.islice(self._down(name, size, each), each):
                octets += len(raw)
                if octets > NEWEST_BYTES:
                    break
                record = shown(raw)
                classes[_short(job_in(record["payload"])[0])] += 1
                exceptions[_short(record["exception"] or "")] += 1
                retried += bool(record.get("retried_at"))
        return FailureKinds(dict(classes), dict(exceptions), retried)

    def _down(self, name: str, start: int, step: int) -> Iterator[tuple[float, str, int, bytes]]:
        """(when, list, index, record) below an index, the newest first."""
        for low, records in self._store.failed.pages_down(start, step, name):
            for index in range(len(records) - 1, -1, -1):
                raw = records[index]
                yield failed_at(raw), name, low + index, raw

    def _up(self, name: str, start: int, step: int) -> Iterator[tuple[float, str, int, bytes]]:
        """The same from an index on, the oldest first."""
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
        """The record of a list by its row's `digest`; None when it is gone, or not among the
        `searched` that were looked at, from index `hint` on down or from the newest.

        A record only ever moves down, when one before it is taken.
        """
        key = self._store.keys.failure_list(name)
        wanted = Wanted(None, lambda raw: digest_of(raw) == digest)
        start = self._store.failed.count(name) - 1 if hint is None else hint
        found = self._store.rows.find(key, wanted, start, searched)
        return _failure(found.raw, name, found.index) if found else None

    def find_failure(
        self, marked: str, name: str = "", index: int | None = None
    ) -> tuple[str, Row] | None:
        """The list and the place now of the record that a row's `record` stands for, or None.

        With the list and the `index` that the row had little is looked at; else the lists from the
        newest on.
        """
        wanted = _wanted(marked)
        lists = [one for one in self.failure_lists() if name in ("", one)]
        for one in lists if wanted else ():
            key = self._store.keys.failure_list(one)
            if found := self._find(key, wanted, index, newest_first=True):
                return one, found
        return None

    def find_job(self, queue: str, marked: str, index: int | None = None) -> Row | None:
        """The place now of the payload on a queue that a row's `raw` stands for, or None."""
        return self._find(self._store.keys.queue(queue), _wanted(marked), index)

    def find_delayed(self, timestamp: int, marked: str, index: int | None = None) -> Row | None:
        """The place now of the payload at a timestamp that a row's `raw` stands for, or None."""
        return self._find(self._store.keys.delayed(timestamp), _wanted(marked), index)

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
        """Timestamps at which jobs wait, earliest first."""
        timestamps = self._store.delayed.timestamps(start, count)
        sizes = self._store.delayed.sizes(timestamps) if timestamps else []
        rows = [DelayedRow(*pair) for pair in zip(timestamps, sizes, strict=True)]
        return _page(rows, self._store.delayed.timestamp_count(), start)

    def delayed_jobs(self, timestamp: int, start: int, count: int) -> Page:
        """Jobs that wait at a timestamp."""
        raws = self._store.delayed.peek(timestamp, start, count)
        return _page(_jobs(raws, start), self._store.delayed.size(timestamp), start)

    def schedule(self) -> list[ScheduleRow]:
        """Entries that stand in Redis, those that schedulers have in force, those that they cannot
        follow, and those that were fired once and are known no more; with their last and next run.
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
            row = _published_row(name, entry) if entry else _past(name)
            # Without a master what it told is old, and what stands in Redis may be newer. So it is
            # with one of Ruby, which tells nothing.
            if name in stored and not (entry and master and entry.next > now - OVERDUE):
                entry, row = None, _entry(name, stored[name], now)
            if entry is None and name in faults:
                row = _faulty(row, faults[name])
            rows.append(dataclasses.replace(row, last=last.get(name)))
        return rows

    def master(self) -> str:
        """The scheduler that holds the master's lock, or ""."""
        return plain(self._store.schedules.master_lock().holder())

    def static_master(self) -> str:
        """The scheduler that fires the entries of code and files, or ""."""
        return plain(self._store.schedules.static_lock().holder())

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
        return after, [KeyRow(plain(name), kind, size, handle(name)) for name, kind, size in rows]

    def key(self, name: str, start: int, count: int) -> tuple[KeyRow, Page]:
        """A key, and some of its elements as text; `start` is 0 or a page's `following`."""
        found = self._store.views.key(name, start, count)
        following = found.following or None
        page = Page([plain(value) for value in found.elements], found.size, start, following)
        return KeyRow(plain(name), found.kind, found.size, handle(name)), page


#: What a name begins with that is spelt in base64, as one of those that no URL can hold.
SPELT = "b64:"


def handle(name: str) -> str:
    """A name as a URL's path and a form can carry it back; most names are their own handle."""
    plain_enough = not name.startswith(SPELT) and all(
        piece not in ("", ".", "..") for piece in name.split("/")
    )
    try:
        octets = name.encode()
    except UnicodeEncodeError:
        octets, plain_enough = name.encode("utf-8", "surrogateescape"), False
    if plain_enough and name.isprintable():
        return name
    return SPELT + base64.urlsafe_b64encode(octets).decode()


def name_of(given: str) -> str:
    """The name that a handle stands for. Raises BadOptionError for one that stands for none."""
    if not given.startswith(SPELT):
        return given
    try:
        octets = base64.b64decode(given.removeprefix(SPELT), b"-_", validate=True)
    except ValueError:
        raise BadOptionError(f"{given[:100]!r} is no name: behind {SPELT} stands base64") from None
    return octets.decode("utf-8", "surrogateescape")


def _page(rows: list[Any], total: int, start: int) -> Page:
    following = start + len(rows)
    return Page(rows, total, start, following if rows and following < total else None)


def mark(raw: bytes) -> str:
    """The bytes in base64, or of very many a digest, so that a page of them stays a page."""
    if len(raw) <= LONG:
        return base64.b64encode(raw).decode()
    return DIGEST + hashlib.sha256(raw).hexdigest()


def _wanted(marked: str) -> Wanted | None:
    """What a mark() stands for, or None for what is none."""
    if marked.startswith(DIGEST):
        return Wanted(None, lambda raw: len(raw) > LONG and mark(raw) == marked)
    try:
        raw = base64.b64decode(marked, validate=True)
    except ValueError:
        return None
    return Wanted(raw, lambda found: found == raw)


def _short(value: object) -> str:
    found = plain(value)
    return found if len(found) <= LONG else f"{found[:LONG]}… ({len(found)} characters)"


def _enqueued(raw: bytes | None) -> float | None:
    return moment(payload.show(raw).get("enqueue_timestamp")) if raw else None


def _jobs(raws: Sequence[bytes], start: int) -> list[JobRow]:
    return [job_row(raw, index) for index, raw in enumerate(raws, start)]


def job_row(raw: bytes, index: int = 0) -> JobRow:
    """A payload as a row."""
    item = payload.show(raw)
    readable = item.get("class") != payload.UNDECODABLE
    item = item if readable else payload.look(raw)
    klass, args = _of(item)
    when = moment(item.get("enqueue_timestamp"))
    return JobRow(klass, args, mark(raw), when, readable, plain(item.get("queue") or ""), index)


def _of(item: object) -> tuple[str, str]:
    klass, args = job_in(item)
    return _short(klass), _short(args)


_SLOT_NUMBER = re.compile(r",~\d+\Z")


def _split(worker_id: str) -> tuple[str, str, str]:
    """host, pid and the rest of an id."""
    host, _, rest = plain(worker_id).partition(":")
    pid, _, more = rest.partition(":")
    # What comes behind the queues tells the hands of one process apart, and is no queue.
    return host, pid, _SLOT_NUMBER.sub("", more)


def _worker(worker_id: str, state: Any, beat: str, minion: bool) -> WorkerRow:
    host, pid, queues = _split(worker_id)
    queue = klass = args = ""
    run_at: object = None
    if state.in_flight is not None:
        queue, klass, args, run_at = _running_job(state.in_flight)
    return WorkerRow(
        plain(worker_id),
        host,
        pid,
        queues,
        "idle" if state.in_flight is None else "working",
        moment(state.started),
        moment(beat),
        plain(state.processed or "0"),
        plain(state.failed or "0"),
        plain(queue),
        klass,
        args,
        moment(run_at),
        minion,
        handle(worker_id),
        handle(queue) if queue else "",
        _unread(state.started),
        _unread(beat),
        _unread(run_at),
    )


def _unread(written: object) -> str:
    """A time as it stands, where it cannot be read; else ""."""
    return _short(written) if written and moment(written) is None else ""


def _running_job(raw: bytes) -> tuple[str, str, str, object]:
    """Queue, class and arguments of the job that a worker runs, and since when, as it stands."""
    found = in_flight.read(raw)
    if found is None:
        return "", payload.UNDECODABLE, _short(raw.decode("utf-8", "replace")), None
    return found.queue, *_of(payload.look(found.payload)), found.run_at


_FAILED_AT = re.compile(rb'"failed_at": ?"([^"\\]{1,60})"')


def failed_at(raw: bytes) -> float:
    """When a record says it failed, found without reading all of it; one that does not say so is
    taken for new, so that it does not hold up a list.
    """
    found = _FAILED_AT.search(raw)
    when = moment(found[1].decode("utf-8", "replace")) if found else None
    return math.inf if when is None else when


def _newest_first(found: tuple[float, str, int, bytes]) -> float:
    return -found[0]


def _oldest_first(found: tuple[float, str, int, bytes]) -> float:
    return -math.inf if found[0] == math.inf else found[0]


def digest_of(raw: bytes) -> str:
    """Which record it is, short enough for a URL."""
    return hashlib.sha256(raw).hexdigest()[:32]


def _failure(raw: bytes, name: str = "", index: int = 0) -> FailureRow:
    record = shown(raw)
    klass, args = _of(payload.unpacked(record["payload"], payload.look))
    trace = record["backtrace"]
    lines = trace if isinstance(trace, list) else [trace] if trace else []
    return FailureRow(
        _short(record["queue"] or ""),
        klass,
        args,
        _short(record["exception"] or ""),
        _short(record["error"] or ""),
        _short("\n".join(map(plain, lines))),
        _short(record["worker"] or ""),
        moment(record["failed_at"]),
        _short(record["failed_at"] or ""),
        _short(record.get("retried_at") or ""),
        mark(raw),
        name,
        index,
        digest_of(raw),
    )


def _published_row(name: str, entry: PublishedEntry) -> ScheduleRow:
    return ScheduleRow(
        plain(name),
        _short(entry.klass),
        _short(entry.queue),
        _short(entry.args),
        _short(entry.timing),
        _short(entry.description),
        None,
        moment(entry.next),
        "",
        _short(entry.source),
        handle(name),
    )


def _past(name: str) -> ScheduleRow:
    nothing = ("", "", "", "", "")
    return ScheduleRow(plain(name), *nothing, None, None, "", "", handle(name))


def _entry(name: str, raw: bytes, now: int) -> ScheduleRow:
    try:
        entry = Entry.read_stored(name, raw)
        upcoming = moment(entry.limits.bound(entry.timing, now).next_after(now))
    except PyresError as error:
        return dataclasses.replace(_past(name), fault=_short(str(error)), source=STORED)
    row = ScheduleRow(
        plain(name),
        entry.klass,
        entry.queue or "",
        _short(entry.args),
        _short(entry.when),
        entry.description,
        None,
        upcoming,
        "",
        STORED,
        handle(name),
    )
    try:
        entry.check_supported()
    except PyresError as error:
        return _faulty(row, EntryFault(str(error), STORED))
    return row


def _faults(published: dict[str, bytes], stored: Collection[str]) -> dict[str, EntryFault]:
    """What is wrong with entries that are there."""
    found = {name: EntryFault.read(raw) for name, raw in published.items()}
    return {
        name: fault
        for name, fault in found.items()
        if fault and (fault.source != STORED or name in stored)
    }


def _faulty(row: ScheduleRow, fault: EntryFault) -> ScheduleRow:
    source = _short(fault.source)
    return dataclasses.replace(row, fault=_short(fault.text), source=source, next=None)
