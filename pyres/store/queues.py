"""Payload bytes in and out of the queues. It moves bytes and knows no JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pyres.store import scripts
from pyres.store.errors import lengths, or_nothing
from pyres.store.keys import Key, Keys
from pyres.store.text import spelt, text

#: Elements read at a time where a whole list has to be walked.
PAGE = 1000


class Queues:
    """The lists of waiting jobs and the set that names them."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def push(self, queue: str, payloads: Sequence[bytes]) -> None:
        """Append payloads, all or none; the queue is announced each time, since another process
        may have removed it.
        """
        self.push_many({queue: payloads})

    def push_many(self, by_queue: Mapping[str, Sequence[bytes]]) -> None:
        """push() to several queues in one step."""
        args: list[Any] = []
        for queue, payloads in by_queue.items():
            args += (spelt(queue), len(payloads), *payloads)
        keys = [self.keys.queues, *map(self.keys.queue, by_queue)]
        scripts.load(self.client, "push")(keys=keys, args=args)

    def is_usable(self, queue: str) -> bool:
        """Whether a queue's key is a list, or missing."""
        return self.client.type(self.keys.queue(queue)) in (b"none", b"list")

    def watch(self, queue: str) -> None:
        """Announce a queue."""
        self.client.sadd(self.keys.queues, spelt(queue))

    def pop(self, queues: Sequence[str]) -> tuple[str, bytes] | None:
        """Remove and return the oldest payload of the first queue that has one; into
        nobody's hand.
        """
        for queue in queues:
            payload = self.client.lpop(self.keys.queue(queue))
            if payload is not None:
                return queue, payload
        return None

    def pop_blocking(self, queues: Sequence[str], timeout: float) -> tuple[str, bytes] | None:
        """The same, waiting for up to `timeout` seconds."""
        reply = self.client.blpop([self.keys.queue(queue) for queue in queues], timeout)
        if reply is None:
            return None
        return self.name_of(reply[0]), reply[1]

    def name_of(self, key: bytes) -> str:
        """The queue whose key this is."""
        return text(key).removeprefix(f"{self.keys.prefix}queue:")

    def put_back(self, worker_id: str, queue: str, payload: bytes, hand: bytes = b"") -> bool:
        """Lay a payload at the head again; given the hand, only if the worker still holds it."""
        script = scripts.load(self.client, "put_back")
        keys = [self.keys.worker(worker_id), self.keys.queue(queue), self.keys.queues]
        return bool(script(keys=keys, args=[payload, spelt(queue), hand]))

    def names(self) -> list[str]:
        """Every announced queue, sorted as Resque sorts: by bytes."""
        names: Iterable[bytes] = or_nothing(lambda: self.client.smembers(self.keys.queues), ())
        return [text(name) for name in sorted(names)]

    def size(self, queue: str) -> int:
        return or_nothing(lambda: int(self.client.llen(self.keys.queue(queue))), 0)

    def sizes(self, names: Sequence[str] | None = None) -> dict[str, int]:
        """Each queue's length, in one round trip after the names; what is no list has none."""
        names = self.names() if names is None else names
        pipe = self.client.pipeline(transaction=False)
        for name in names:
            pipe.llen(self.keys.queue(name))
        return dict(zip(names, lengths(pipe.execute(raise_on_error=False)), strict=True))

    def heads(self, names: Sequence[str]) -> dict[str, bytes | None]:
        """The oldest payload of each queue, in one round trip."""
        pipe = self.client.pipeline(transaction=False)
        for name in names:
            pipe.lindex(self.keys.queue(name), 0)
        found = pipe.execute(raise_on_error=False)
        heads = [head if isinstance(head, bytes) else None for head in found]
        return dict(zip(names, heads, strict=True))

    def peek(self, queue: str, start: int, count: int) -> list[bytes]:
        """`count` payloads from `start`, oldest first."""
        return page(self.client, self.keys.queue(queue), start, count)

    def walk(self, queue: str) -> Iterator[bytes]:
        """Every payload, a page at a time; not a snapshot."""
        for start in range(0, self.size(queue), PAGE):
            yield from self.peek(queue, start, PAGE)

    def delete(self, queue: str, payload: bytes, count: int = 0) -> int:
        """Remove elements equal to the payload: `count` of them from the head, 0 for all."""
        return int(self.client.lrem(self.keys.queue(queue), count, payload))

    def delete_all(self, queue: str, payloads: Iterable[bytes]) -> int:
        """Remove every element equal to any of the payloads; how many went."""
        pipe = self.client.pipeline(transaction=False)
        for payload in payloads:
            pipe.lrem(self.keys.queue(queue), 0, payload)
        return sum(pipe.execute())

    def move(self, source: str, target: str) -> int:
        """Move what waits on a queue now to the end of another, each in one step; how many.

        Cut short, the rest still waits where it was.
        """
        moved, left = 0, self.size(source)
        while left > 0:
            pipe = self.client.pipeline(transaction=False)
            pipe.sadd(self.keys.queues, spelt(target))
            for _ in range(min(left, PAGE)):
                pipe.lmove(self.keys.queue(source), self.keys.queue(target), "LEFT", "RIGHT")
            taken = sum(payload is not None for payload in pipe.execute()[1:])
            if not taken:
                break
            moved, left = moved + taken, left - taken
        return moved

    def remove(self, queue: str) -> int:
        """Forget a queue and all that waits in it; how much that was."""
        pipe = self.client.pipeline(transaction=True)
        pipe.llen(self.keys.queue(queue))
        pipe.srem(self.keys.queues, spelt(queue))
        pipe.delete(self.keys.queue(queue))
        return int(pipe.execute()[0])


class CollectedQueues(Queues):
    """Queues of a pipeline, whose keys are checked when all of it is sent."""

    def push_many(self, by_queue: Mapping[str, Sequence[bytes]]) -> None:
        for queue, payloads in by_queue.items():
            self.client.sadd(self.keys.queues, spelt(queue))
            self.client.rpush(self.keys.queue(queue), *payloads)


def page(client: Any, key: Key, start: int, count: int) -> list[bytes]:
    """`count` elements of a list from index `start`; a negative count asks for the rest."""
    if count == 0:
        return []
    end = -1 if count < 0 else start + count - 1
    return or_nothing(lambda: list(client.lrange(key, start, end)), [])
