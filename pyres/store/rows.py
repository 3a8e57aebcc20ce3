"""Finds an element of a list by its index and its bytes; no call reads a whole list."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pyres.store import elements
from pyres.store.errors import or_nothing
from pyres.store.keys import Key, Keys

#: Elements searched behind an index: jobs that were put back at the head have moved it there.
BEHIND = 1000

#: Elements searched for one whose bytes are not known, or from its index towards the head.
SEARCHED = 200_000


class Wanted(NamedTuple):
    """An element to find: its bytes, or None; and whether some bytes match it."""

    raw: bytes | None
    matches: Callable[[bytes], bool]


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """An element's index in its list, from the head, and its bytes."""

    index: int
    raw: bytes


class Rows:
    """Finds elements of queues, failure lists and delayed timestamps."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def find(self, key: Key, wanted: Wanted, index: int, searched: int = SEARCHED) -> Row | None:
        """The element that was at this index: now there, the nearest before it, or one shortly
        behind it.
        """
        here = self._up(key, wanted, index, 1)
        before = here or self._down(key, wanted, index, searched - 1)
        return before or self._up(key, wanted, index + 1, BEHIND)

    def first(self, key: Key, wanted: Wanted) -> Row | None:
        """The first such element of a list; among the first SEARCHED if its bytes are unknown."""
        size = self._size(key)
        return self._up(key, wanted, 0, SEARCHED if wanted.raw is None else size)

    def last(self, key: Key, wanted: Wanted) -> Row | None:
        """The last such element of a list; among the last SEARCHED if its bytes are unknown."""
        size = self._size(key)
        return self._down(key, wanted, size, SEARCHED if wanted.raw is None else size)

    def _size(self, key: Key) -> int:
        return or_nothing(lambda: int(self.client.llen(key)), 0)

    def _down(self, key: Key, wanted: Wanted, below: int, count: int) -> Row | None:
        """The last such element among the `count` before an index."""
        lowest = max(0, below - count)
        if wanted.raw is not None:
            raw = wanted.raw
            index = or_nothing(lambda: elements.find(self.client, key, raw, below, lowest), None)
            return None if index is None else Row(index, raw)
        for first, raws in elements.pages_down(self.client, key, below):
            for index in range(first + len(raws) - 1, max(first, lowest) - 1, -1):
                if wanted.matches(raws[index - first]):
                    return Row(index, raws[index - first])
            if first <= lowest:
                break
        return None

    def _up(self, key: Key, wanted: Wanted, start: int, count: int) -> Row | None:
        """The first such element among the `count` from an index on."""
        for index, raw in self._from(key, start, count):
            if raw == wanted.raw if wanted.raw is not None else wanted.matches(raw):
                return Row(index, raw)
        return None

    def _from(self, key: Key, start: int, count: int) -> Iterator[tuple[int, bytes]]:
        end = start + count
        while raws := elements.page(self.client, key, start, end - start):
            yield from enumerate(raws, start)
            start += len(raws)
