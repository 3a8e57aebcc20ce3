"""Reads for the inspector, one round trip each; nothing here writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from pyres.store import elements
from pyres.store.keys import Key, Keys
from pyres.store.stats import integer
from pyres.store.text import spelt, text

#: Characters shown of one value.
SHOWN = 2000


class WorkerState(NamedTuple):
    """A worker's state in Redis."""

    in_flight: bytes | None
    started: str
    processed: str
    failed: str


class Summary(NamedTuple):
    """The counts of a server, read by one pipeline."""

    processed: int
    failed: int
    failures: int
    timestamps: int
    paused: bool


class Elements(NamedTuple):
    """Some elements of a key; `following` is the `start` of the next ones, or 0."""

    kind: str
    size: int
    following: int
    elements: list[str]


class Views:
    """Reads that touch several tables."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def worker_states(self, worker_ids: Sequence[str]) -> list[WorkerState]:
        """In-flight record, start time and counters of many workers."""
        keys = [self.keys.worker(worker_id) for worker_id in worker_ids]
        records = elements.read_strings(self.client, keys)
        pipe = self.client.pipeline(transaction=False)
        for worker_id in worker_ids:
            pipe.get(self.keys.started(worker_id))
            pipe.get(self.keys.stat(f"processed:{worker_id}"))
            pipe.get(self.keys.stat(f"failed:{worker_id}"))
        replies = pipe.execute(raise_on_error=False)
        texts = [text(value) if isinstance(value, bytes) else "" for value in replies]
        return [
            WorkerState(record, *texts[3 * number : 3 * number + 3])
            for number, record in enumerate(records)
        ]

    def summary(self) -> Summary:
        """The counts that can be read without walking a list."""
        pipe = self.client.pipeline(transaction=False)
        pipe.get(self.keys.stat("processed"))
        pipe.get(self.keys.stat("failed"))
        pipe.llen(self.keys.failed)
        pipe.zcard(self.keys.delayed_schedule)
        pipe.get(self.keys.pause)
        processed, failed, failures, timestamps, paused = (
            None if isinstance(value, ResponseError) else value for value in pipe.execute(False)
        )
        return Summary(
            integer(processed),
            integer(failed),
            failures or 0,
            timestamps or 0,
            text(paused or b"").strip().lower() == "true",
        )

    def server(self) -> dict[str, Any]:
        """The server's INFO."""
        return dict(self.client.info())

    def keys_page(self, cursor: int, count: int) -> tuple[int, list[tuple[str, str, int]]]:
        """The next cursor of SCAN (0 at the end), and about `count` keys from a cursor on, as (name
        without namespace, type, size).
        """
        after, names = self.client.scan(cursor, match=f"{self.keys.prefix}*", count=count)
        pipe = self.client.pipeline(transaction=False)
        for name in names:
            pipe.type(name)
        types = [text(kind) for kind in pipe.execute()]
        sizes = self._sizes(names, types)
        rows = zip(map(self._without_prefix, names), types, sizes, strict=True)
        return int(after), sorted(rows)

    def key(self, name: str, start: int, count: int) -> Elements:
        """Type, size and some elements of one key, whose name is passed without the namespace.

        `start` is the `following` of the page before: an index, a cursor of SSCAN or HSCAN, or a
        byte offset.
        """
        key = spelt(f"{self.keys.prefix}{name}")
        kind = text(self.client.type(key))
        (size,) = self._sizes([key], [kind])
        following, values = self._elements(key, kind, start, count)
        if kind in ("list", "zset", "string"):
            following = following if following < size else 0
        return Elements(kind, size, following, [text(value[:SHOWN]) for value in values])

    def _elements(self, key: Key, kind: str, start: int, count: int) -> tuple[int, list[bytes]]:
        if kind == "string":
            return start + SHOWN, [self.client.getrange(key, start, start + SHOWN - 1)]
        if kind == "list":
            page = elements.page(self.client, key, start, count)
            return start + len(page), page
        if kind == "zset":
            scored = self.client.zrange(key, start, start + count - 1, withscores=True)
            return start + count, [b"%b = %.17g" % pair for pair in scored]
        # Redis returns a small set or hash whole, whatever the count; all of it must be passed on.
        if kind == "set":
            following, members = self.client.sscan(key, start, count=count)
            return int(following), list(members)
        if kind == "hash":
            following, pairs = self.client.hscan(key, start, count=count)
            return int(following), [b"%b = %b" % pair for pair in pairs.items()]
        return 0, []

    def _sizes(self, names: Sequence[Key], types: Sequence[str]) -> list[int]:
        pipe = self.client.pipeline(transaction=False)
        commands = {
            "string": pipe.strlen,
            "list": pipe.llen,
            "set": pipe.scard,
            "zset": pipe.zcard,
            "hash": pipe.hlen,
        }
        for name, kind in zip(names, types, strict=True):
            commands.get(kind, pipe.exists)(name)
        return [size if isinstance(size, int) else 0 for size in pipe.execute(False)]

    def _without_prefix(self, key: bytes) -> str:
        return self.keys.without_prefix(text(key))
