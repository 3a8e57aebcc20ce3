"""The master scheduler's lock, and what recurs: its entries, and when each was fired."""

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


#: Names taken from `schedules_changed` at a time.
CHANGES = 1000


#: The longest time to live of another's lock that is believed, as a multiple of the usual one.
LOCK_TIMEOUTS = 2


_RANGE = re.compile(rb"(\d+)\.\.(\d+)(\??)")


class Lock(NamedTuple):
    """Whose the lock is, and for how many seconds still. `corrected` says what is wrong with the
    end that it had before it got this one, or is "".
    """

    ours: bool
    holder: str
    seconds: float
    corrected: str = ""


class Schedules:
    """resque-scheduler's keys for schedules, and our own note of the moments fired."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def lock(self, holder: str, seconds: float, prefix: str = "") -> Lock:
        """Take the master's lock for so many seconds, or renew it; it may be somebody else's."""
        script = scripts.load(self.client, "scheduler_lock")
        keys = [self.keys.scheduler_lock(prefix)]
        ms, longest = round(seconds * 1000), round(max(seconds, LOCK_TIMEOUT) * 1000)
        args = [holder, ms, LOCK_TIMEOUTS * longest]
        ours, whose, left, found = script(keys=keys, args=args)
        wrong = "has no expiry" if found == -1 else f"expires in {found / 1000:.0f} s"
        return Lock(
            bool(ours), text(whose), max(0, left) / 1000, wrong if found not in (left, -2) else ""
        )

    def unlock(self, holder: str, prefix: str = "") -> bool:
        """Release the master's lock; False when it is not ours."""
        script = scripts.load(self.client, "scheduler_unlock")
        return bool(script(keys=[self.keys.scheduler_lock(prefix)], args=[holder]))

    def put(self, name: str, config: bytes) -> None:
        """Write an entry, and say that it changed."""
        pipe = self.client.pipeline(transaction=True)
        pipe.hset(self.keys.persistent_schedules, name, config)
        pipe.sadd(self.keys.schedules_changed, name)
        pipe.execute()

    def remove(self, name: str) -> None:
        """Remove an entry, and say that it changed."""
        pipe = self.client.pipeline(transaction=True)
        pipe.hdel(self.keys.persistent_schedules, name)
        pipe.sadd(self.keys.schedules_changed, name)
        pipe.execute()

    def all(self) -> dict[str, bytes]:
        """Every entry by name, as JSON."""
        found = self._fields(self.keys.persistent_schedules)
        return {text(name): config for name, config in found.items()}

    def all_afresh(self) -> dict[str, bytes]:
        """all(), and what had changed until now is no longer announced."""
        # In this order: what changes in between is announced again, and read twice.
        self.client.delete(self.keys.schedules_changed)
        return self.all()

    def take_changes(self) -> list[str]:
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

    def publish(self, entries: Mapping[str, bytes], gone: Sequence[str] = ()) -> None:
        """Tell readers which entries are in force: these changed, and those are so no more."""
        pipe = self.client.pipeline(transaction=True)
        if gone:
            pipe.hdel(self.keys.schedule_in_force, *gone)
        if entries:
            pipe.hset(self.keys.schedule_in_force, mapping=dict(entries))
        pipe.execute()

    def in_force(self) -> dict[str, bytes]:
        """What publish() told, by name."""
        found = self._fields(self.keys.schedule_in_force)
        return {text(name): entry for name, entry in found.items()}

    def master(self, prefix: str = "") -> str:
        """Who holds the master's lock, or "" when nobody does."""
        return text(self.client.mget([self.keys.scheduler_lock(prefix)])[0] or b"")

    def anchor(self, name: str, moment: int) -> int:
        """Where an entry begins to count: when it was last fired, else from now on this moment."""
        pipe = self.client.pipeline(transaction=True)
        pipe.hsetnx(self.keys.schedule_fired, name, moment)
        pipe.hget(self.keys.schedule_fired, name)
        found: bytes = pipe.execute()[1]
        return int(found) if found.isdigit() else moment

    def fire(self, firing: Firing) -> int:
        """Enqueue for a moment: 1; 0 when that was done already; 2 when a like job was enough."""
        script = scripts.load(self.client, "fire")
        keys: Iterable[Any] = [
            self.keys.schedule_fired,
            self.keys.last_enqueued_at,
            self.keys.queues,
            self.keys.queue(firing.queue),
            self.keys.unique(firing.digest),
            self.keys.schedule_ranges,
            self.keys.unique_job(firing.digest),
        ]
        args: list[Any] = [firing.name, firing.moment, firing.limit, firing.when, firing.queue]
        args += [firing.payload]
        args += [firing.claim, firing.claim_ms, firing.before, firing.now, MAX_AHEAD]
        args.append(int(firing.made_up))
        args += firing.locked
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
    claim: str = ""
    claim_ms: int = 0
    locked: Sequence[Any] = ()
