"""How often the jobs that wait for an automatic retry were tried. That is not only in their
payloads, since resque-scheduler and node-resque keep only the class and arguments of the payloads
that they promote.
"""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

from pyres.store import scripts
from pyres.store.errors import or_nothing
from pyres.store.keys import Keys
from pyres.store.text import spelt, text

#: Seconds for which an attempt is kept beyond the longest time that it may wait.
MARGIN = 86_400

#: Bytes of a delayed payload up to which it is kept, to check whether it is still delayed.
MAX_PAYLOAD = 4096


class Earlier(NamedTuple):
    """A recorded attempt: how often the job had been tried, and its first attempt (epoch
    seconds).
    """

    token: str
    attempts: int
    first: int


class Attempts:
    """One hash with a TTL for each class and arguments, of which `digest` is made."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def hold(
        self, digest: str, worker: str, now: float, attempts: int | None, first: int | None
    ) -> Earlier | None:
        """The recorded attempt before the one that a worker makes now, which is reserved for this
        worker until drop(). `attempts` and `first` are those in the payload, if any.
        """
        earlier = self._call("hold", digest, worker, now, attempts, first)
        if earlier is None:
            return None
        return Earlier(text(earlier[0]), int(earlier[1]), int(earlier[2]))

    def end(
        self, digest: str, worker: str, now: float, attempts: int | None, first: int | None
    ) -> None:
        """Remove the attempt that hold() would return."""
        self._call("end", digest, worker, now, attempts, first)

    def _call(
        self,
        what: str,
        digest: str,
        worker: str,
        now: float,
        attempts: int | None,
        first: int | None,
    ) -> Any:
        in_payload = ["" if number is None else number for number in (attempts, first)]
        name = self.keys.delayed_name_prefix
        prefixes = [self.keys.timestamps_prefix, self.keys.prefix + name, name]
        args = [what, spelt(worker), int(now), *in_payload, *prefixes]
        return scripts.load(self.client, "attempts")(keys=[self.keys.attempts(digest)], args=args)

    def due(self, digest: str) -> list[int]:
        """The timestamps, sorted, at which the recorded attempts are or were due."""
        by_token: dict[bytes, bytes] = or_nothing(
            lambda: self.client.hgetall(self.keys.attempts(digest)), {}
        )
        records = (value.split(b" ", 3) for token, value in by_token.items() if b":" not in token)
        return sorted({int(fields[2]) for fields in records if len(fields) == 4})

    def drop(self, digest: str, token: str) -> None:
        """Remove an attempt."""
        self.client.hdel(self.keys.attempts(digest), token, f"{token}:by")

    def keep(
        self, digest: str, attempts: int, first: int, due: int, payload: bytes, longest: float
    ) -> None:
        """Record how often a job was tried whose payload is delayed until `due`. `longest` is how
        many seconds a job of its class may wait.
        """
        delayed = payload if len(payload) <= MAX_PAYLOAD else b""
        record = b"%d %d %d %b" % (attempts, first, due, delayed)
        args = [secrets.token_hex(8), record, int(longest) + MARGIN]
        scripts.load(self.client, "keep_attempt")(keys=[self.keys.attempts(digest)], args=args)
