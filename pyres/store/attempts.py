"""How often jobs were tried that wait for another attempt: kept beside their payloads, since
resque-scheduler and node-resque keep only class and arguments of what they promote.
"""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

from pyres.store import scripts
from pyres.store.errors import or_nothing
from pyres.store.keys import Keys
from pyres.store.text import spelt, text

#: Seconds that an attempt is known after the longest time that it may wait.
MARGIN = 86_400

#: Bytes of a delayed payload up to which it is kept, to see whether it waits.
MAX_PAYLOAD = 4096


class Earlier(NamedTuple):
    """An attempt that is known: how often the job was tried by then, and since when."""

    token: str
    attempts: int
    first: int


class Attempts:
    """One hash with a deadline for each class and arguments; `digest` says which."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def hold(
        self, digest: str, worker: str, now: float, attempts: int | None, first: int | None
    ) -> Earlier | None:
        """The attempt before the one that a worker has made, which stays known as that one's until
        drop(); `attempts` and `first` where the payload says so.
        """
        found = self._call("hold", digest, worker, now, attempts, first)
        return None if found is None else Earlier(text(found[0]), int(found[1]), int(found[2]))

    def end(
        self, digest: str, worker: str, now: float, attempts: int | None, first: int | None
    ) -> None:
        """Forget what hold() would find."""
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
        known = ["" if number is None else number for number in (attempts, first)]
        name = self.keys.delayed_name_prefix
        prefixes = [self.keys.timestamps_prefix, self.keys.prefix + name, name]
        args = [what, spelt(worker), int(now), *known, *prefixes]
        return scripts.load(self.client, "attempts")(keys=[self.keys.attempts(digest)], args=args)

    def due(self, digest: str) -> list[int]:
        """The timestamps, sorted, at which attempts that are known wait or have waited."""
        found: dict[bytes, bytes] = or_nothing(
            lambda: self.client.hgetall(self.keys.attempts(digest)), {}
        )
        known = (value.split(b" ", 3) for token, value in found.items() if b":" not in token)
        return sorted({int(fields[2]) for fields in known if len(fields) == 4})

    def drop(self, digest: str, token: str) -> None:
        """Forget an attempt."""
        self.client.hdel(self.keys.attempts(digest), token, f"{token}:by")

    def keep(
        self, digest: str, attempts: int, first: int, due: int, payload: bytes, longest: float
    ) -> None:
        """Remember how often a job was tried whose payload waits until `due`. `longest` are the
        seconds that one of its class may wait.
        """
        waiting = payload if len(payload) <= MAX_PAYLOAD else b""
        known = b"%d %d %d %b" % (attempts, first, due, waiting)
        args = [secrets.token_hex(8), known, int(longest) + MARGIN]
        scripts.load(self.client, "keep_attempt")(keys=[self.keys.attempts(digest)], args=args)
