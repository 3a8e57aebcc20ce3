"""The schedulers' locks, and what recurs: its entries, and when each was fired."""

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

#: Seconds by which a moment that was noted without a range may lie ahead of now.
MAX_AHEAD = 60


class Range(NamedTuple):
    """A first and a last moment (epoch seconds), between which an entry fired each of its moments;
    `doubted` when it was by a clock that was ahead.
    """

    first: int
    last: int
    doubted: bool = False


class Run(NamedTuple):
    """Since when an entry is followed (epoch seconds), and how often it was fired."""

    begun: int
    fired: int


#: Names taken from `schedules_changed` at a time.
CHANGES = 1000


#: The longest time to live of another's lock that is believed, as a multiple of the usual one.
LOCK_TIMEOUTS = 2


_RUN = re.compile(rb"([0-9a-f]+) (\d+) (\d+)")
_RANGE = re.compile(rb"(\d+)\.\.(\d+)(\??)")


class Lock(NamedTuple):
    """Whose the lock is, and for how many seconds still. `corrected` says what is wrong with the
    end that it had before it got this one, or is "".
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
        """Take the lock for so many seconds, or renew it; it may be somebody else's."""
        script = scripts.load(self.client, "scheduler_lock")
        ms, longest = round(seconds * 1000), round(max(seconds, LOCK_TIMEOUT) * 1000)
        args = [holder, ms, LOCK_TIMEOUTS * longest]
        ours, whose, left, found = script(keys=[self.key], args=args)
        wrong = "has no expiry" if found == -1 else f"expires in {found / 1000:.0f} s"
        return Lock(
            bool(ours), text(whose), max(0, left) / 1000, wrong if found not in (left, -2) else ""
        )

    def release(self, holder: str) -> bool:
        """Release the lock; False when it is not ours."""
        script = scripts.load(self.client, "scheduler_unlock")
        return bool(script(keys=[self.key], args=[holder]))

    def holder(self) -> str:
        """Who holds the lock, or "" when nobody does."""
        found: bytes | None = or_nothing(lambda: self.client.get(self.key), None)
        return text(found or b"")


class Schedules:
    """resque-scheduler's keys for schedules, and our own note of the moments fired."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def master_lock(self, prefix: str = "") -> SchedulerLock:
        """The lock that resque-scheduler and pyres share: delayed jobs and entries in Redis."""
        return SchedulerLock(self.client, self.keys.scheduler_lock(prefix))

    def static_lock(self, prefix: str = "") -> SchedulerLock:
        """The lock of pyres' schedulers alone: entries from code and files."""
        return SchedulerLock(self.client, self.keys.static_lock(prefix))

    def put(self, name: str, config: bytes) -> None:
        """Write an entry, and say that it changed."""
        pipe = self.client.pipeline(transaction=True)
        pipe.hset(self.keys.persistent_schedules, name, config)
        self._announce(pipe, name)

    def remove(self, name: str) -> None:
        """Remove an entry, and say that it changed."""
        pipe = self.client.pipeline(transaction=True)
        pipe.hdel(self.keys.persistent_schedules, name)
        self._announce(pipe, name)

    def _announce(self, pipe: Any, name: str) -> None:
        """Send a change of an entry: nothing is known of its run and faults any more."""
        pipe.hdel(self.keys.schedule_runs, name)
        pipe.hdel(self.keys.schedule_faults, name)
        pipe.sadd(self.keys.schedules_changed, name)
        pipe.execute()

    def all(self) -> dict[str, bytes]:
        """Every entry by name, as JSON."""
        found = self._fields(self.keys.persistent_schedules)
        return {text(name): config for name, config in found.items()}

    def some(self, names: Sequence[str]) -> dict[str, bytes]:
        """Those of these entries that stand in Redis."""
        if not names:
            return {}
        found: list[bytes | None] = or_nothing(
            lambda: self.client.hmget(self.keys.persistent_schedules, names), []
        )
        return {name: raw for name, raw in zip(names, found, strict=False) if raw is not None}

    def all_afresh(self) -> dict[str, bytes]:
        """all(), and what had changed until now is no longer announced."""
        # In this order: what changes in between is announced again, and read twice.
        self.client.delete(self.keys.schedules_changed)
        return self.all()

    def pop_changes(self) -> list[str]:
        """The names of entries that changed since they were last taken."""
        names: list[bytes] = or_nothing(
            lambda: self.client.spop(self.keys.schedules_changed, CHANGES), []
        )
        return [text(name) for name in names]

    def _fields(self, key: str) -> dict[bytes, bytes]:
        return or_nothing(lambda: self.client.hgetall(key), {})

    def last_enqueued_at(self) -> dict[str, str]:
        """When each entry was last enqueued, as it was written: `2026-11-23 16:03:45 +0000`."""
        found = self._fields(self.keys.last_enqueued_at)
        return {text(name): text(when) for name, when in found.items()}

    def fired(self) -> dict[str, int]:
        """The last moment (epoch seconds) of each entry that was fired by pyres."""
        found = self._fields(self.keys.schedule_fired)
        return {text(name): int(moment) for name, moment in found.items() if moment.isdigit()}

    def fired_ranges(self) -> dict[str, list[Range]]:
        """The moments of each entry that were fired, in ranges; the last one goes on."""
        found = self.client.hgetall(self.keys.schedule_ranges)
        return {
            text(name): [
                Range(int(first), int(last), mark == b"?")
                for first, last, mark in _RANGE.findall(ranges)
            ]
            for name, ranges in found.items()
        }

    def doubt_ranges(self, name: str, latest: int) -> None:
        """Mark the ranges of an entry that begin after `latest` as those of a clock ahead."""
        script = scripts.load(self.client, "doubt_ranges")
        script(keys=[self.keys.schedule_ranges], args=[latest, name])

    def run(self, name: str, digest: str, now: int) -> Run:
        """The run of an entry with this timing; it begins now if there is none of it."""
        found = _RUN.fullmatch(self.client.hget(self.keys.schedule_runs, name) or b"")
        if found and found[1] == digest.encode():
            return Run(int(found[2]), int(found[3]))
        self.client.hset(self.keys.schedule_runs, name, f"{digest} {now} 0")
        return Run(now, 0)

    def end_runs(self, names: Sequence[str]) -> None:
        """Let the runs of these entries begin anew."""
        self.client.hdel(self.keys.schedule_runs, *names)

    def publish(self, entries: Mapping[str, bytes], gone: Sequence[str] = ()) -> None:
        """Tell readers which entries are in force: these changed, and those are so no more."""
        self._change(self.keys.active_schedule, entries, gone)

    def publish_faults(self, faults: Mapping[str, bytes], gone: Sequence[str] = ()) -> None:
        """Publish why entries are not followed: these changed, and those are no faults now."""
        self._change(self.keys.schedule_faults, faults, gone)

    def _change(self, key: str, fields: Mapping[str, bytes], gone: Sequence[str]) -> None:
        pipe = self.client.pipeline(transaction=True)
        if gone:
            pipe.hdel(key, *gone)
        if fields:
            pipe.hset(key, mapping=dict(fields))
        pipe.execute()

    def faults(self) -> dict[str, bytes]:
        """What publish_faults() published, by name."""
        found = self._fields(self.keys.schedule_faults)
        return {text(name): fault for name, fault in found.items()}

    def published(self) -> dict[str, bytes]:
        """What publish() told, by name."""
        found = self._fields(self.keys.active_schedule)
        return {text(name): entry for name, entry in found.items()}

    def anchor(self, name: str, moment: int) -> int:
        """Where an entry begins to count: when it was last fired, else from now on this moment."""
        pipe = self.client.pipeline(transaction=True)
        pipe.hsetnx(self.keys.schedule_fired, name, moment)
        pipe.hget(self.keys.schedule_fired, name)
        found: bytes = pipe.execute()[1]
        return int(found) if found.isdigit() else moment

    def fire(self, firing: Firing) -> int:
        """Enqueue for a moment: 1; 0 when that was done already; 2 when a like job was enough; 3
        when it was fired as often as it may be.
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
    """One entry and one moment, as fire.lua wants them."""

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
    #: What counts how often it is fired, and how often it may be.
    run: str = ""
    times: int = 0
    #: The fields of the lock's job.
    locked: Sequence[Any] = ()
