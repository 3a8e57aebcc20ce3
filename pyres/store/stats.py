"""Counters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyres.store.keys import Keys


class Stats:
    """Resque's named counters."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def get(self, name: str) -> int:
        return int(self.client.get(self.keys.stat(name)) or 0)

    def get_many(self, names: Sequence[str]) -> list[int]:
        """Several counters in one round trip."""
        return [int(value or 0) for value in self.client.mget([self.keys.stat(n) for n in names])]

    def incr(self, name: str, by: int = 1) -> None:
        self.client.incrby(self.keys.stat(name), by)

    def decr(self, name: str, by: int = 1) -> None:
        self.client.decrby(self.keys.stat(name), by)

    def clear(self, name: str) -> None:
        self.client.delete(self.keys.stat(name))
