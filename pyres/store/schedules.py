"""The schedulers' locks, the schedule entries, and when each was fired."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pyres.store import scripts
from pyres.store.errors import or_nothing
from pyres.store.keys import Keys
from pyres.store.text import text

#: Seconds the master's lock lives without renewal (resque-scheduler's LOCK_TIMEOUT).
LOCK_TIMEOUT = 180.0

#: Seconds by which a fired moment that is in no range may lie ahead of now.
MAX_AHEAD = 60


class Range(NamedTuple):
    """A first and a last moment (epoch seconds), between which all moments of an entry were fired;
    `doubted` if that was by a clock that was ahead.
    """

    first: int
    last: int
    doubted: bool = False


class Run(NamedTuple):
    """Since when an entry is active (epoch seconds), and how often it was fired."""

    begun: int
    fired: int


#: Names popped from `schedules_changed` at a time.
CHANGES = 1000


#: The longest TTL of another scheduler's lock that is accepted, as a multiple of the usual one.
LOCK_TIMEOUTS = 2


_RUN = re.compile(rb"([0-9a-f]+) (\d+) (\d+)")
_RANGE = re.compile(rb"(\d+)\.\.(\d+)(\??)")


class Lock(NamedTuple):
    """The holder of the lock, and the seconds until it expires. `corrected` says what was wrong
    with the expiry that the lock had before, or is "".
    """

    ours: bool
    holder: str
    seconds: float
    corrected: str = ""


class SchedulerLock:
    """A lock that one scheduler at a time holds, until it releases it or stops renewing it."""

    def __init__(self, client: Any, key: str) -> None:
        self.client = client
        self.key = key

    def acquire(self, holder: str, seconds: float) -> Lock:
        """Acquire or renew the lock for N seconds, if it is not held by another scheduler; the lock
        as it is then.
        """
        script = scripts.load(self.client, "scheduler_lock")
        ms, longest = round(seconds * 1000), round(max(seconds, LOCK_TIMEOUT) * 1000)
        args = [holder, ms, LOCK_TIMEOUTS * longest]
        ours, holds, ttl, former = script(keys=[self.key], args=args)
        wrong = "has no expiry" if former == -1 else f"expires in {former / 1000:.0f} s"
        return Lock(
            bool(ours), text(holds), max(0, ttl) / 1000, wrong if former not in (ttl, -2) else ""
        )

    def release(self, holder: str) -> bool:
        """Release the lock; False when `holder` does not hold it."""
        script = scripts.load(self.client, "scheduler_unlock")
        return bool(script(keys=[self.key], args=[holder]))

    def holder(self) -> str:
        """The holder of the lock, or ""."""
        holder: bytes | None = or_nothing(lambda: self.client.get(self.key), None)
        return text(holder or b"")


class Schedules:
    """resque-scheduler's keys for schedules, and pyres' keys for the moments fired."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def master_lock(self, prefix: str = "") -> SchedulerLock:
        """The lock that resque-scheduler and pyres share: delayed jobs and entries in Redis."""
        return SchedulerLock(self.client, self.keys.scheduler_lock(prefix))

    def static_lock(self, prefix: str = "") -> SchedulerLock:
        """The lock of pyres' schedulers only: entries from code and files."""
        return SchedulerLock(self.client, self.keys.static_lock(prefix))

    def put(self, name: str, config: bytes) -> None:
        """Write an entry, and announce that it changed."""
        pipe = self.client.pipeline(transaction=True)
        pipe.hset(self.keys.persistent_schedules, name, config)
        self._announce(pipe, name)

    def remove(self, name: str) -> None:
        """Remove an entry, and announce that it changed."""
        pipe = self.client.pipeline(transaction=True)
        pipe.hdel(self.keys.persistent_schedules, name)
        self._announce(pipe, name)

    def _announce(self, pipe: Any, name: str) -> None:
        """Send a change of an entry, which also clears its run and its fault."""
        pipe.hdel(self.keys.schedule_runs, name)
        pipe.hdel(self.keys.schedule_faults, name)
        pipe.sadd(self.keys.schedules_changed, name)
        pipe.execute()

    def all(self) -> dict[str, bytes]:
        """Every entry by name, as JSON."""
        entries = self._fields(self.keys.persistent_schedules)
        return {text(name): config for name, config in entries.items()}

    def some(self, names: Sequence[str]) -> dict[str, bytes]:
        """Those of these entries that exist in Redis, by name, as JSON."""
        if not names:
            return {}
        configs: list[bytes | None] = or_nothing(
            lambda: self.client.hmget(self.keys.persistent_schedules, names), []
        )
        return {name: raw for name, raw in zip(names, configs, strict=False) if raw is not None}

    def all_afresh(self) -> dict[str, bytes]:
        """all(), and discard the changes announced until now."""
        # In this order: an entry that changes in between is announced, and so read twice.
        self.client.delete(self.keys.schedules_changed)
        return self.all()

    def pop_changes(self) -> list[str]:
        """The names of the entries that changed since the last call."""
        names: list[bytes] = or_nothing(
            lambda: self.client.spop(self.keys.schedules_changed, CHANGES), []
        )
        return [text(name) for name in names]

    def _fields(self, key: str) -> dict[bytes, bytes]:
        return or_nothing(lambda: self.client.hgetall(key), {})

    def last_enqueued_at(self) -> dict[str, str]:
        """When each entry was last enqueued, as it was written: `2026-11-23 16:03:45 +0000`."""
        times = self._fields(self.keys.last_enqueued_at)
        return {text(name): text(when) for name, when in times.items()}

    def fired(self) -> dict[str, int]:
        """The last moment (epoch seconds) of each entry that was fired by pyres."""
        moments = self._fields(self.keys.schedule_fired)
        return {text(name): int(moment) for name, moment in moments.items() if moment.isdigit()}

    def fired_ranges(self) -> dict[str, list[Range]]:
        """The moments of each entry that were fired, as ranges; the last one is still extended."""
        ranges_by_name = self.client.hgetall(self.keys.schedule_ranges)
        return {
            text(name): [
                Range(int(first), int(last), mark == b"?")
                for first, last, mark in _RANGE.findall(ranges)
            ]
            for name, ranges in ranges_by_name.items()
        }

    def doubt_ranges(self, name: str, latest: int) -> None:
        """Mark the ranges of an entry that begin after `latest` as fired by a clock ahead."""
        script = scripts.load(self.client, "doubt_ranges")
        script(keys=[self.keys.schedule_ranges], args=[latest, name])

    def run(self, name: str, digest: str, now: int) -> Run:
        """The run of an entry with the timing of this digest; if there is none, one begins now."""
        match = _RUN.fullmatch(self.client.hget(self.keys.schedule_runs, name) or b"")
        if match and match[1] == digest.encode():
            return Run(int(match[2]), int(match[3]))
        self.client.hset(self.keys.schedule_runs, name, f"{digest} {now} 0")
        return Run(now, 0)

    def end_runs(self, names: Sequence[str]) -> None:
        """Remove the runs of these entries, so that new ones begin."""
        self.client.hdel(self.keys.schedule_runs, *names)

    def publish(self, entries: Mapping[str, bytes], removed: Sequence[str] = ()) -> None:
        """Publish a change of the active schedule: these entries are new or changed, those are no
        longer active.
        """
        self._change(self.keys.active_schedule, entries, removed)

    def publish_faults(self, faults: Mapping[str, bytes], removed: Sequence[str] = ()) -> None:
        """Publish why entries are not active: these faults are new or changed, those have ended."""
        self._change(self.keys.schedule_faults, faults, removed)

    def _change(self, key: str, fields: Mapping[str, bytes], removed: Sequence[str]) -> None:
        pipe = self.client.pipeline(transaction=True)
        if removed:
            pipe.hdel(key, *removed)
        if fields:
            pipe.hset(key, mapping=dict(fields))
        pipe.execute()

    def faults(self) -> dict[str, bytes]:
        """The faults that publish_faults() published, by entry name."""
        faults = self._fields(self.keys.schedule_faults)
        return {text(name): fault for name, fault in faults.items()}

    def published(self) -> dict[str, bytes]:
        """The active entries that publish() published, by name."""
        entries = self._fields(self.keys.active_schedule)
        return {text(name): entry for name, entry in entries.items()}

    def anchor(self, name: str, moment: int) -> int:
        """The moment from which an entry's interval counts: the last one fired; if there is none,
        this moment, which is stored.
        """
        pipe = self.client.pipeline(transaction=True)
        pipe.hsetnx(self.keys.schedule_fired, name, moment)
        pipe.hget(self.keys.schedule_fired, name)
        last: bytes = pipe.execute()[1]
        return int(last) if last.isdigit() else moment

    def fire(self, firing: Firing) -> int:
        """Enqueue the job of a moment. 1: enqueued; 0: this moment was fired before; 2: skipped as
        a duplicate of a unique job; 3: the entry was fired as often as it may be.
        """
        script = scripts.load(self.client, "fire")
        keys: Iterable[Any] = [
            self.keys.schedule_fired,
            self.keys.last_enqueued_at,
            self.keys.queues,
            self.keys.queue(firing.queue),
            self.keys.unique(firing.digest),
            self.keys.schedule_ranges,
            self.keys.schedule_runs,
            self.keys.unique_job(firing.digest),
        ]
        args: list[Any] = [firing.name, firing.moment, firing.limit, firing.when, firing.queue]
        args += [firing.payload]
        args += [firing.lock, firing.lock_ms, firing.before, firing.now, MAX_AHEAD]
        args += [int(firing.made_up), firing.run, firing.times, *firing.locked]
        return int(script(keys=keys, args=args))


class Firing(NamedTuple):
    """One entry and one moment, as arguments for fire.lua."""

    name: str
    moment: int
    limit: int
    when: str
    queue: str
    payload: bytes
    before: int
    now: int
    made_up: bool
    digest: str = ""
    lock: str = ""
    lock_ms: int = 0
    #: The digest of the run that counts how often it is fired, and how often it may be.
    run: str = ""
    times: int = 0
    #: The fields of the lock's job.
    locked: Sequence[Any] = ()
