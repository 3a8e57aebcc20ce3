"""The failure lists, as raw records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pyres.store import scripts
from pyres.store.keys import Keys
from pyres.store.queues import PAGE, page
from pyres.store.text import spelt, text


class Failed:
    """Lists of failure records; `name` is `failed`, or `<queue>_failed` of the multi-queue
    backend.
    """

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def push(self, record: bytes, name: str = "failed") -> None:
        self.client.rpush(self.keys.failure_list(name), record)

    def push_for_queue(self, queue: str, record: bytes) -> None:
        """Append to the queue's own failure list, and announce that list."""
        name = self.keys.failed_name(queue)
        pipe = self.client.pipeline(transaction=True)
        pipe.sadd(self.keys.failed_queues, spelt(name))
        pipe.rpush(self.keys.failure_list(name), record)
        pipe.execute()

    def names(self) -> list[str]:
        """The failure lists of the multi-queue backend."""
        return [text(name) for name in sorted(self.client.smembers(self.keys.failed_queues))]

    def count(self, name: str = "failed") -> int:
        return int(self.client.llen(self.keys.failure_list(name)))

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

    def delete_many(self, records: Sequence[bytes], name: str = "failed") -> int:
        """Remove each of these records once; how many were still there."""
        pipe = self.client.pipeline(transaction=False)
        for record in records:
            pipe.lrem(self.keys.failure_list(name), 1, record)
        return sum(pipe.execute())

    def clear(self, name: str = "failed") -> int:
        """Forget a whole list; how many records it held."""
        pipe = self.client.pipeline(transaction=True)
        pipe.llen(self.keys.failure_list(name))
        pipe.delete(self.keys.failure_list(name))
        return int(pipe.execute()[0])

    def retry(self, record: bytes, queue: str, payload: bytes, name: str = "failed") -> bool:
        """Move a record's payload to a queue: both or neither. False when the record is gone."""
        return bool(self.retry_many([(record, queue, payload)], name))

    def retry_many(self, moves: Sequence[tuple[bytes, str, bytes]], name: str = "failed") -> int:
        """retry() of several (record, queue, payload) in one round trip; how many were moved."""
        pipe = self.client.pipeline(transaction=False)
        script = scripts.load(self.client, "retry_failed")
        for record, queue, payload in moves:
            keys = [self.keys.failure_list(name), self.keys.queue(queue), self.keys.queues]
            script(keys=keys, args=[record, payload, spelt(queue)], client=pipe)
        return sum(pipe.execute())

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
