"""Moves payload bytes in and out of the queues, without decoding them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pyres.store import elements, scripts
from pyres.store.elements import PAGE, PAGE_BYTES, Removal
from pyres.store.errors import lengths, or_nothing
from pyres.store.keys import Keys
from pyres.store.text import spelt, text
from pyres.store.transaction import execute_tolerantly

#: Milliseconds for which a move of jobs to another queue is recorded: a week.
MOVES_KNOWN = 7 * 86_400_000


class Queues:
    """The lists of waiting jobs and the set that names them."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def push(self, queue: str, payloads: Sequence[bytes]) -> None:
        """Append payloads, all or none. The queue is added to the set of queues each time, since
        another process may have removed it.
        """
        self.push_many({queue: payloads})

    def push_many(self, by_queue: Mapping[str, Sequence[bytes]]) -> None:
        """push() to several queues in one step."""
        args: list[Any] = []
        for queue, payloads in by_queue.items():
            args += (spelt(queue), len(payloads), *payloads)
        keys = [self.keys.queues, *map(self.keys.queue, by_queue)]
        scripts.load(self.client, "push")(keys=keys, args=args)

    def watch(self, queue: str) -> None:
        """Add a queue to the set of queues."""
        self.client.sadd(self.keys.queues, spelt(queue))

    def pop(self, queues: Sequence[str]) -> tuple[str, bytes] | None:
        """Remove and return the oldest payload of the first queue that has one, without an
        in-flight record.
        """
        for queue in queues:
            payload = self.client.lpop(self.keys.queue(queue))
            if payload is not None:
                return queue, payload
        return None

    def pop_blocking(self, queues: Sequence[str], timeout: float) -> tuple[str, bytes] | None:
        """The same; wait up to `timeout` seconds for a payload."""
        reply = self.client.blpop([self.keys.queue(queue) for queue in queues], timeout)
        if reply is None:
            return None
        return self.name_of(reply[0]), reply[1]

    def name_of(self, key: bytes) -> str:
        """The name of the queue with this key."""
        return text(key).removeprefix(f"{self.keys.prefix}queue:")

    def put_back(self, worker_id: str, queue: str, payload: bytes, in_flight: bytes = b"") -> bool:
        """Put a payload back at the head of its queue; with `in_flight`, only if that is still the
        worker's in-flight record. Whether it was put back.
        """
        script = scripts.load(self.client, "put_back")
        keys = [self.keys.worker(worker_id), self.keys.queue(queue), self.keys.queues]
        return bool(script(keys=keys, args=[payload, spelt(queue), in_flight]))

    def names(self) -> list[str]:
        """Every queue in the set of queues, sorted by bytes as Resque does."""
        names: Iterable[bytes] = or_nothing(lambda: self.client.smembers(self.keys.queues), ())
        return [text(name) for name in sorted(names)]

    def size(self, queue: str) -> int:
        return or_nothing(lambda: int(self.client.llen(self.keys.queue(queue))), 0)

    def sizes(self, names: Sequence[str] | None = None) -> dict[str, int]:
        """Each queue's length, in one round trip after the names; 0 if its key is not a list."""
        names = self.names() if names is None else names
        pipe = self.client.pipeline(transaction=False)
        for name in names:
            pipe.llen(self.keys.queue(name))
        return dict(zip(names, lengths(pipe.execute(raise_on_error=False)), strict=True))

    def heads(self, names: Sequence[str]) -> dict[str, bytes | None]:
        """The oldest payload of each queue, in steps that are bounded by bytes."""
        heads = elements.read_heads(self.client, [self.keys.queue(name) for name in names])
        return dict(zip(names, heads, strict=True))

    def peek(self, queue: str, start: int, count: int) -> list[bytes]:
        """`count` payloads from `start`, oldest first; a negative count means all."""
        return elements.peek(self.client, self.keys.queue(queue), start, count)

    def walk(self, queue: str) -> Iterator[bytes]:
        """Every payload, read page by page; not a snapshot."""
        return elements.walk(self.client, self.keys.queue(queue))

    def delete(self, queue: str, payload: bytes) -> bool:
        """Remove one element equal to the payload; False when there is none."""
        key = self.keys.queue(queue)
        return elements.remove_one(self.client, self.keys, key, Removal(payload))

    def delete_at(self, queue: str, index: int, payload: bytes) -> int:
        """Remove one payload, which was read at an index of a queue; 0 when it is no longer
        there.
        """
        key = self.keys.queue(queue)
        return elements.remove_at(self.client, self.keys, key, index, Removal(payload))

    def delete_each(
        self, queue: str, chosen: Callable[[bytes], bool]
    ) -> Iterator[tuple[int, list[bytes]]]:
        """Remove every payload that is `chosen`, a page in one step: for each page how many were
        removed, and the payloads.

        From the end towards the head, so that none is missed while others are fetched.
        """
        key = self.keys.queue(queue)
        for start, payloads in elements.pages_down(self.client, key, self.size(queue)):
            removals = [Removal(payload) for payload in payloads if chosen(payload)]
            if removals:
                last = start + len(payloads) - 1
                count = elements.remove_all(self.client, self.keys, key, start, last, removals)
                yield count, [removal.element for removal in removals]

    def move(self, source: str, target: str) -> int:
        """Move the payloads that a queue has now to the end of another, a batch in one step; how
        many.

        If that is interrupted, the rest is still on the first queue.
        """
        script = scripts.load(self.client, "move")
        keys = [self.keys.queue(source), self.keys.queue(target), self.keys.queues]
        moved, waiting = 0, self.size(source)
        if waiting:
            self._note_move(source, target)
        while moved < waiting:
            args = [spelt(target), min(PAGE, waiting - moved), PAGE_BYTES]
            count = int(script(keys=keys, args=args))
            if not count:
                break
            moved += count
        return moved

    def _note_move(self, source: str, target: str) -> None:
        """Record where jobs that have a unique lock were moved to."""
        pipe = self.client.pipeline(transaction=False)
        pipe.hset(self.keys.moves, spelt(source), spelt(target))
        pipe.pexpire(self.keys.moves, MOVES_KNOWN)
        # If that key has the wrong type, no unique lock is ended, so the jobs can still be moved.
        execute_tolerantly(pipe)

    def remove(self, queue: str) -> int:
        """Remove a queue and its payloads; how many these were."""
        keys = [self.keys.queue(queue), self.keys.queues]
        return int(scripts.load(self.client, "remove_list")(keys=keys, args=[spelt(queue)]))


class CollectedQueues(Queues):
    """Queues of a batch, whose keys are checked when the batch is sent."""

    def push_many(self, by_queue: Mapping[str, Sequence[bytes]]) -> None:
        for queue, payloads in by_queue.items():
            self.client.sadd(self.keys.queues, spelt(queue))
            self.client.rpush(self.keys.queue(queue), *payloads)
