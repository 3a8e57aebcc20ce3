"""Finds keys of the wrong type, which another program must have written."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pyres.store import scripts
from pyres.store.errors import or_nothing
from pyres.store.keys import Key, Keys
from pyres.store.text import text

#: Keys that are checked in one round trip.
STEP = 1000


class WrongKey(NamedTuple):
    """A key, its type (`a string`; for a counter its value), and the type that is expected."""

    key: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.key} is {self.found}: expected {_with_article(self.expected)}"


class KeyTypes:
    """Checks the types of the keys of a namespace."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def wrong(self, also: Mapping[Key, str] | None = None) -> list[WrongKey]:
        """The keys of the wrong type among the fixed ones, every queue and failure list, and the
        keys in `also` with their types.
        """
        expected = self._fixed()
        queues = self._members(self.keys.queues)
        expected |= {self.keys.queue(name): "list" for name in queues}
        lists = self._members(self.keys.failed_queues)
        expected |= {self.keys.failure_list(name): "list" for name in lists}
        return list(self._check({**expected, **(also or {})}))

    def _fixed(self) -> dict[Key, str]:
        keys = self.keys
        return {
            **dict.fromkeys((keys.queues, keys.workers, keys.minions, keys.khans), "set"),
            **dict.fromkeys((keys.failed_queues, keys.schedules_changed), "set"),
            **dict.fromkeys((keys.heartbeats, keys.last_enqueued_at), "hash"),
            **dict.fromkeys((keys.persistent_schedules, keys.schedule_fired), "hash"),
            **dict.fromkeys((keys.schedule_ranges, keys.active_schedule), "hash"),
            **dict.fromkeys((keys.schedule_runs, keys.schedule_faults), "hash"),
            **dict.fromkeys((keys.process_starts, keys.beats, keys.khan_heartbeats), "hash"),
            **dict.fromkeys((keys.pause, keys.prune_lock, keys.scheduler_lock()), "string"),
            keys.static_lock(): "string",
            **dict.fromkeys((keys.stat("processed"), keys.stat("failed")), "integer"),
            keys.failed: "list",
            keys.delayed_schedule: "zset",
        }

    def _members(self, key: str) -> list[str]:
        members: Iterable[bytes] = or_nothing(lambda: self.client.smembers(key), ())
        return [text(member) for member in sorted(members)]

    def _check(self, expected: Mapping[Key, str]) -> Iterator[WrongKey]:
        script, pairs = scripts.load(self.client, "check_keys"), iter(expected.items())
        while some := list(itertools.islice(pairs, STEP)):
            faults = script(keys=[key for key, _ in some], args=[kind for _, kind in some])
            for (key, kind), fault in zip(some, faults, strict=True):
                if fault:
                    yield WrongKey(text(key), text(fault), kind)


def _with_article(expected: str) -> str:
    return f"an {expected}" if expected == "integer" else f"a {expected}"
