"""Counters."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from pyres.store.keys import Keys


def integer(value: bytes | None) -> int:
    """The value of a counter; 0 for a value that is not an integer."""
    return int(value) if value and value.removeprefix(b"-").isdigit() else 0


class Stats:
    """Resque's named counters."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def get(self, name: str) -> int:
        return self.get_many([name])[0]

    def get_many(self, names: Sequence[str]) -> list[int]:
        """Several counters in one round trip; 0 for a value that is not an integer."""
        values = self.client.mget([self.keys.stat(name) for name in names]) if names else []
        return list(map(integer, values))

    def count(self, name: str) -> None:
        """incr(); a counter that cannot be incremented is left unchanged."""
        with contextlib.suppress(ResponseError):
            self.incr(name)

    def incr(self, name: str, by: int = 1) -> None:
        self.client.incrby(self.keys.stat(name), by)

    def decr(self, name: str, by: int = 1) -> None:
        self.client.decrby(self.keys.stat(name), by)

    def clear(self, name: str) -> None:
        self.client.delete(self.keys.stat(name))
