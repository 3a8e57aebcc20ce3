"""Counts the watchers of each queue, so that not all of them check it after each push."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyres.store import scripts
from pyres.store.keys import Keys
from pyres.store.text import spelt


class Watchers:
    """The watchers, by the name or wildcard of the queues that they watch."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def announce(
        self, watcher: str, patterns: Sequence[str], seconds: int, least: int
    ) -> list[int]:
        """Count this watcher for N seconds; how many watch each pattern, including this one.

        An empty list, and nothing counted, if fewer than `least` workers and managers are
        registered.
        """
        script = scripts.load(self.client, "announce_watcher")
        registered = [self.keys.workers, self.keys.minions, self.keys.khans]
        keys = [*registered, *[self.keys.watchers(pattern) for pattern in patterns]]
        return [int(count) for count in script(keys=keys, args=[spelt(watcher), seconds, least])]

    def withdraw(self, watcher: str, patterns: Sequence[str]) -> None:
        """Stop counting this watcher."""
        with self.client.pipeline(transaction=False) as pipe:
            for pattern in patterns:
                pipe.zrem(self.keys.watchers(pattern), spelt(watcher))
            pipe.execute()
