"""Claims: while one stands, a job like the one it was made for is not enqueued again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyres.store import scripts
from pyres.store.keys import Keys


class Unique:
    """One key with a deadline for each class and arguments; `digest` says which, `ms` how long."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def push(
        self, digest: str, claim: str, ms: int, queue: str, payload: bytes, into: Any = None
    ) -> bool:
        """Append a payload to a queue and claim it for `ms`; False when a claim stands."""
        script = scripts.load(self.client, "push_unique")
        keys = [self.keys.unique(digest), self.keys.queues, self.keys.queue(queue)]
        # In a batch nobody knows yet.
        return bool(script(keys=keys, args=[claim, ms, queue, payload], client=into) != 0)

    def put_off(self, digest: str, claim: str, ms: int, timestamp: int, payload: bytes) -> bool:
        """Lay a payload by and claim it for `ms`; False when a claim stands."""
        script = scripts.load(self.client, "put_off_unique")
        name = self.keys.delayed_name(timestamp)
        keys = [
            self.keys.unique(digest),
            self.keys.delayed(timestamp),
            self.keys.timestamps(payload),
        ]
        args = [claim, ms, timestamp, name, payload]
        return bool(script(keys=[*keys, self.keys.delayed_schedule], args=args) != 0)

    def keep(self, digest: str, claim: str, ms: int, prolong: bool) -> None:
        """Claim what waits again; `prolong`: a claim that stands gets the new deadline too."""
        self.client.set(self.keys.unique(digest), claim, nx=True, px=ms)
        if prolong:
            self.client.pexpire(self.keys.unique(digest), ms)

    def release(self, digest: str, stage: str, enqueued: float | None) -> None:
        """End the claim of a job that has come to `stage`, unless it is that of a later job."""
        script = scripts.load(self.client, "release_unique")
        since = "" if enqueued is None else repr(enqueued)
        script(keys=[self.keys.unique(digest)], args=[stage, since])

    def forget(self, digests: Iterable[str]) -> None:
        """End claims, whosever they are."""
        names = [self.keys.unique(digest) for digest in digests]
        if names:
            self.client.delete(*names)
