"""The failure lists, as raw records."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from pyres.store import scripts
from pyres.store.errors import lengths, or_nothing
from pyres.store.keys import Keys
from pyres.store.queues import PAGE, page
from pyres.store.text import spelt, text

#: How many of the newest records are looked at for the one of a job that ended well after all.
NEWEST = 1000

#: Milliseconds that the note of such a record lasts.
DAY = 86_400_000


class Going(NamedTuple):
    """A record that leaves its list: its place on the page, and where its payload goes, if
    anywhere.
    """

    place: int
    record: bytes
    queue: str | None = None
    payload: bytes = b""


class Failed:
    """Lists of failure records; `name` is `failed`, or `<queue>_failed` of the multi-queue
    backend.
    """

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        #: The list and the record of the last push.
        self.pushed: tuple[str, bytes] | None = None

    def push(self, record: bytes, name: str = "failed") -> None:
        """Append a record; where the list's key is of another type, to a list of pyres."""
        self._push(name, record, announced="")

    def push_for_queue(self, queue: str, record: bytes) -> None:
        """Append to the queue's own failure list, and announce that list."""
        name = self.keys.failed_name(queue)
        self._push(name, record, announced=name)

    def _push(self, name: str, record: bytes, announced: str) -> None:
        self.pushed = (name, record)
        elsewhere = self.keys.failed_elsewhere
        keys = [
            self.keys.failure_list(name),
            self.keys.failed_queues,
            self.keys.failure_list(elsewhere),
        ]
        script = scripts.load(self.client, "push_failure")
        script(keys=keys, args=[record, spelt(announced), elsewhere])

    def names(self) -> list[str]:
        """The failure lists of the multi-queue backend."""
        names: Iterable[bytes] = or_nothing(
            lambda: self.client.smembers(self.keys.failed_queues), ()
        )
        return [text(name) for name in sorted(names)]

    def count(self, name: str = "failed") -> int:
        return or_nothing(lambda: int(self.client.llen(self.keys.failure_list(name))), 0)

    def counts(self, names: Sequence[str]) -> dict[str, int]:
        """How many records each list holds, in one round trip; what is no list holds none."""
        pipe = self.client.pipeline(transaction=False)
        for name in names:
            pipe.llen(self.keys.failure_list(name))
        return dict(zip(names, lengths(pipe.execute(raise_on_error=False)), strict=True))

    def page(self, start: int, count: int, name: str = "failed") -> list[bytes]:
        """`count` records from index `start`, oldest first."""
        return page(self.client, self.keys.failure_list(name), start, count)

    def walk(self, name: str = "failed") -> Iterator[bytes]:
        """Every record, oldest first, a page at a time; not a snapshot."""
        for start in range(0, self.count(name), PAGE):
            yield from self.page(start, PAGE, name)

    def delete(self, record: bytes, name: str = "failed") -> int:
        """Remove one record by its exact value; 0 when it is gone already."""
        return int(self.client.lrem(self.keys.failure_list(name), 1, record))

    def clear(self, name: str = "failed") -> int:
        """Forget a whole list; how many records it held."""
        pipe = self.client.pipeline(transaction=True)
        pipe.llen(self.keys.failure_list(name))
        pipe.delete(self.keys.failure_list(name))
        return int(pipe.execute()[0])

    def declare_dead(self, worker_id: str, hand: bytes) -> None:
        """Note which record was pushed last, for the worker that may live and end its job."""
        if self.pushed is None:
            return
        name, record = self.pushed
        key = self.keys.declared_dead(worker_id)
        self.client.hset(key, mapping={"hand": hand, "list": spelt(name), "record": record})
        self.client.pexpire(key, DAY)

    def take_back(self, worker_id: str, hand: bytes) -> bool | None:
        """Remove the failure record of a job that was declared dead and ended well; False when it
        is not among the newest any more, None when there was none.
        """
        key = self.keys.declared_dead(worker_id)
        (name,) = or_nothing(lambda: self.client.hmget(key, "list"), [None])
        if name is None:
            return None
        keys = [
            key,
            self.keys.failure_list(text(name)),
            self.keys.stat("failed"),
            self.keys.stat("processed"),
        ]
        found = scripts.load(self.client, "take_back")(keys=keys, args=[hand, NEWEST])
        return None if found < 0 else bool(found)

    def retry(self, record: bytes, queue: str, payload: bytes, name: str = "failed") -> bool:
        """Move a record's payload to a queue: both or neither. False when the record is gone."""
        script = scripts.load(self.client, "retry_failed")
        keys = [self.keys.failure_list(name), self.keys.queue(queue), self.keys.queues]
        return bool(script(keys=keys, args=[record, payload, spelt(queue)]))

    def take_many(self, start: int, going: Sequence[Going], name: str = "failed") -> int:
        """Take these records of the page from index `start` on out of the list, and put the
        payloads of those that have a queue there: all in one step; how many went.

        By the place and not by the value alone, so that the cost does not grow with the records
        before them; one that no longer stands in its place stays.
        """
        queues = list(dict.fromkeys(one.queue for one in going if one.queue is not None))
        script = scripts.load(self.client, "take_failed")
        keys = [self.keys.failure_list(name), self.keys.queues, *map(self.keys.queue, queues)]
        numbers = {queue: number for number, queue in enumerate(queues, 1)}
        last = start + max(one.place for one in going)
        args: list[Any] = [start, last, f"taken:{secrets.token_hex(16)}", *map(spelt, queues)]
        for one in going:
            digest = hashlib.sha1(one.record, usedforsecurity=False).hexdigest()
            number = 0 if one.queue is None else numbers[one.queue]
            args += [one.place, digest, number, one.payload]
        return int(script(keys=keys, args=args))

    def requeue(
        self,
        index: int,
        record: bytes,
        marked: bytes,
        queue: str,
        payload: bytes,
        name: str = "failed",
    ) -> bool:
        """Resque's requeue: mark the record at `index` and push its payload, if it still stands
        there.
        """
        script = scripts.load(self.client, "requeue_failed")
        keys = [self.keys.failure_list(name), self.keys.queue(queue), self.keys.queues]
        return bool(script(keys=keys, args=[index, record, marked, payload, spelt(queue)]))
