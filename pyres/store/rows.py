"""One element of a list by its place and its bytes; no call reads a whole list."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable
from typing import Any, NamedTuple

from pyres.store import scripts
from pyres.store.delayed import Move
from pyres.store.errors import or_nothing
from pyres.store.keys import Key, Keys
from pyres.store.queues import page
from pyres.store.text import spelt

#: Elements and bytes that one request looks at.
STEP, STEP_BYTES = 1000, 2**20

#: Elements behind a place that are looked at too: what was put back at the head moves it there.
BEHIND = 1000

#: Elements that are looked at for one that is known by less than its bytes, or by its place.
SEARCHED = 200_000


class Wanted(NamedTuple):
    """An element: its bytes, or if only less is known, whether some bytes are those."""

    raw: bytes | None
    matches: Callable[[bytes], bool]


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """Where an element stands in its list, from the head, and what it is."""

    index: int
    raw: bytes


class Rows:
    """Elements of lists of this namespace: queues, failures, what waits at a timestamp."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def find(self, key: Key, wanted: Wanted, index: int, searched: int = SEARCHED) -> Row | None:
        """The element that was at this index, now there, nearest before, or shortly behind it."""
        before = self._down(key, wanted, index, searched)
        return before or self._up(key, wanted, index + 1, BEHIND)

    def first(self, key: Key, wanted: Wanted) -> Row | None:
        """The first such element of a list, wherever it is."""
        size = self._size(key)
        return self._up(key, wanted, 0, SEARCHED if wanted.raw is None else size)

    def last(self, key: Key, wanted: Wanted) -> Row | None:
        """The last such element of a list, wherever it is."""
        size = self._size(key)
        return self._down(key, wanted, size - 1, SEARCHED if wanted.raw is None else size)

    def delete(self, key: Key, row: Row) -> int:
        """Remove one element; 0 when it is not there any more."""
        script = scripts.load(self.client, "delete_row")
        return int(script(keys=[key], args=[row.index, row.raw, _mark()]))

    def cancel(self, timestamp: int, row: Row) -> int:
        """Remove one payload that waits at a timestamp; 0 when it is not there any more."""
        script = scripts.load(self.client, "cancel_delayed_row")
        name = self.keys.delayed_name(timestamp)
        args = [row.index, row.raw, _mark(), timestamp, name]
        return int(script(keys=self._delayed_keys(timestamp, row.raw), args=args))

    def promote(self, timestamp: int, row: Row, move: Move) -> int:
        """Move one payload that waits at a timestamp to its queue; 0 when it is not there."""
        assert move.queue is not None
        script = scripts.load(self.client, "promote_delayed_row")
        keys = [
            *self._delayed_keys(timestamp, row.raw),
            self.keys.queues,
            self.keys.queue(move.queue),
        ]
        name = self.keys.delayed_name(timestamp)
        args = [row.index, row.raw, _mark(), timestamp, name, move.pushed, spelt(move.queue)]
        return int(script(keys=keys, args=args))

    def _delayed_keys(self, timestamp: int, payload: bytes) -> list[Key]:
        return [
            self.keys.delayed(timestamp),
            self.keys.delayed_schedule,
            self.keys.timestamps(payload),
        ]

    def _size(self, key: Key) -> int:
        return or_nothing(lambda: int(self.client.llen(key)), 0)

    def _down(self, key: Key, wanted: Wanted, start: int, count: int) -> Row | None:
        """The last such element of so many up to an index."""
        lowest, steps = max(0, start - count + 1), _Steps()
        while start >= lowest:
            first = max(lowest, start - steps.size + 1)
            found = self._look(key, wanted, first, start, steps, "last")
            if found:
                return found
            start = first - 1
        return None

    def _up(self, key: Key, wanted: Wanted, start: int, count: int) -> Row | None:
        """The first such element of so many from an index on."""
        end, steps = start + count, _Steps()
        while start < end:
            last = min(end, start + steps.size) - 1
            found = self._look(key, wanted, start, last, steps, "first")
            if found or not steps.looked_at:
                return found
            start = last + 1
        return None

    def _look(
        self, key: Key, wanted: Wanted, first: int, last: int, steps: _Steps, which: str
    ) -> Row | None:
        if wanted.raw is not None:
            script = scripts.load(self.client, "find_row")
            args = [first, last, wanted.raw, which]
            found, count, octets = or_nothing(lambda: script(keys=[key], args=args), [-1, 0, 0])
            steps.note(count, octets)
            return Row(found, wanted.raw) if found >= 0 else None
        raws = page(self.client, key, first, last - first + 1)
        steps.note(len(raws), sum(map(len, raws)))
        rows = [Row(index, raw) for index, raw in enumerate(raws, first) if wanted.matches(raw)]
        return (rows[-1] if which == "last" else rows[0]) if rows else None


class _Steps:
    """How many elements the next request looks at: few first, then as many as bytes allow."""

    def __init__(self) -> None:
        self.size = 1
        self.looked_at = 0

    def note(self, count: int, octets: int) -> None:
        self.looked_at = count
        average = octets // count + 1 if count else 1
        self.size = max(1, min(STEP, self.size * 10, STEP_BYTES // average))


def _mark() -> str:
    return f"taken:{secrets.token_hex(16)}"
