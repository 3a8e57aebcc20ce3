"""The failure lists, as raw records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pyres.store import elements, scripts
from pyres.store.elements import Removal, Removed
from pyres.store.errors import lengths, or_nothing
from pyres.store.keys import Keys
from pyres.store.text import spelt, text

#: How many of the newest records are searched for that of a job that succeeded after all.
NEWEST = 1000

#: Milliseconds for which it is known which record that is.
DAY = 86_400_000


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
        """Append a record; to the list `pyres:failed` where the list's key has the wrong type."""
        self._push(name, record, announced="")

    def push_for_queue(self, queue: str, record: bytes) -> None:
        """Append a record to the queue's own failure list, and add that to `failed_queues`."""
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
        """How many records each list has, in one round trip; 0 for a key that is not a list."""
        pipe = self.client.pipeline(transaction=False)
        for name in names:
            pipe.llen(self.keys.failure_list(name))
        return dict(zip(names, lengths(pipe.execute(raise_on_error=False)), strict=True))

    def peek(self, start: int, count: int, name: str = "failed") -> list[bytes]:
        """`count` records from index `start`, oldest first; a negative count means all."""
        return elements.peek(self.client, self.keys.failure_list(name), start, count)

    def page(self, start: int, count: int, name: str = "failed") -> list[bytes]:
        """As many of them as one step reads."""
        return elements.page(self.client, self.keys.failure_list(name), start, count)

    def pages_down(
        self, below: int, count: int, name: str = "failed"
    ) -> Iterator[tuple[int, list[bytes]]]:
        """The records before an index, up to `count` in a step, the newest ones first; each step
        with the index of its first record.
        """
        return elements.pages_down(self.client, self.keys.failure_list(name), below, count)

    def walk(self, name: str = "failed") -> Iterator[bytes]:
        """Every record, oldest first, a page at a time; not a snapshot."""
        return elements.walk(self.client, self.keys.failure_list(name))

    def delete(self, record: bytes, name: str = "failed") -> bool:
        """Remove one record by its exact value; False when it is no longer there."""
        key = self.keys.failure_list(name)
        return elements.remove_one(self.client, self.keys, key, Removal(record))

    def clear(self, name: str = "failed") -> int:
        """Remove a whole list; how many records it had."""
        keys = [self.keys.failure_list(name)]
        return int(scripts.load(self.client, "remove_list")(keys=keys, args=[]))

    def declare_dead(self, worker_id: str, in_flight: bytes) -> None:
        """Note the record that was pushed last as that of a worker's in-flight job, in case the
        worker is alive and finishes the job.
        """
        if self.pushed is not None:
            self.note_declared_dead(worker_id, in_flight, *self.pushed)

    def note_declared_dead(
        self, worker_id: str, in_flight: bytes, name: str, record: bytes
    ) -> None:
        """Note the failure record, and its list, of the job with this in-flight record."""
        key = self.keys.declared_dead(worker_id)
        self.client.hset(key, mapping={"hand": in_flight, "list": spelt(name), "record": record})
        self.client.pexpire(key, DAY)

    def take_back(
        self, worker_id: str, in_flight: bytes, failed: bool = True, processed: bool = True
    ) -> bool | None:
        """Remove the failure record of a job that was declared dead and then succeeded. False if it
        is not among the NEWEST records any more, None if there was none. `failed`, `processed`:
        whether the job was counted so when it was declared dead.
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
        removed = scripts.load(self.client, "take_back")(
            keys=keys, args=[in_flight, NEWEST, int(failed), int(processed)]
        )
        return None if removed < 0 else bool(removed)

    def retry(self, record: bytes, queue: str, payload: bytes, name: str = "failed") -> bool:
        """Remove a record and push its payload to a queue, in one step. False when the record is no
        longer there.
        """
        key = self.keys.failure_list(name)
        return elements.remove_one(self.client, self.keys, key, Removal(record, queue, payload))

    def remove_many(
        self, start: int, last: int, removals: Sequence[Removal], name: str = "failed"
    ) -> Removed:
        """Remove these records between two indexes from the list, and push the payloads of those
        that have a queue: all in one step.

        The cost does not depend on the number of records before them. A record that is not between
        the indexes is left.
        """
        if not removals:
            return Removed(0, {})
        key = self.keys.failure_list(name)
        return elements.remove(self.client, self.keys, key, start, last, removals)

    def remove_at(self, index: int, removal: Removal, name: str = "failed") -> int:
        """remove_many() of one record that was read at an index; 0 when it is no longer there.
        Raises ResponseError, and removes nothing, if its queue is not a list.
        """
        key = self.keys.failure_list(name)
        return elements.remove_at(self.client, self.keys, key, index, removal)

    def requeue(
        self,
        index: int,
        record: bytes,
        marked: bytes,
        queue: str,
        payload: bytes,
        name: str = "failed",
    ) -> bool:
        """Resque's requeue: mark the record at `index` and push its payload, if the record is
        still there.
        """
        script = scripts.load(self.client, "requeue_failed")
        keys = [self.keys.failure_list(name), self.keys.queue(queue), self.keys.queues]
        return bool(script(keys=keys, args=[index, record, marked, payload, spelt(queue)]))
