"""Payload bytes by the epoch second they are due. The clock is the caller's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pyres.store import scripts
from pyres.store.errors import lengths, or_nothing
from pyres.store.keys import Keys
from pyres.store.queues import PAGE, page

#: Timestamps whose first page is read in one round trip.
TIMESTAMPS = 100


class Move(NamedTuple):
    """A payload that waits, and what is pushed in its place; a failure where `queue` is None."""

    payload: bytes
    queue: str | None
    pushed: bytes


class Delayed:
    """resque-scheduler's three structures: a list a second, their schedule, and the way back."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def put_off(self, timestamp: int, payload: bytes) -> None:
        """Lay a payload by until `timestamp`; the three writes happen together or not at all."""
        name = self.keys.delayed_name(timestamp)
        keys = [
            self.keys.delayed(timestamp),
            self.keys.timestamps(payload),
            self.keys.delayed_schedule,
        ]
        scripts.load(self.client, "delay")(keys=keys, args=[timestamp, name, payload])

    def due_timestamp(self, now: float) -> int | None:
        """The earliest timestamp that has come, or None."""
        return next(iter(self.due_timestamps(now, 1)), None)

    def due_timestamps(self, now: float, count: int = PAGE) -> list[int]:
        """Up to `count` timestamps that have come, earliest first."""
        found: list[int] = []
        for start in itertools.count(0, count):
            members = self._due_members(now, start, count)
            found += _numbers(members)
            if len(found) >= count or len(members) < count:
                break
        return found[:count]

    def _due_members(self, now: float, start: int, count: int) -> list[bytes]:
        return or_nothing(
            lambda: self.client.zrangebyscore(
                self.keys.delayed_schedule, "-inf", int(now), start=start, num=count
            ),
            [],
        )

    def next_timestamp(self) -> int | None:
        """The earliest timestamp at all, or None."""
        return next(iter(self.timestamps(0, 1)), None)

    def promote(
        self, timestamp: int, moves: Sequence[Move], front: bool = False, skip: int = 0
    ) -> int:
        """Move the payloads of a timestamp to their queues, all in one step.

        They go to the end of each queue, or to its `front`, there too in their order.

        `moves` are the payloads behind the first `skip`, as they were seen, in order. One that is
        there no longer, or whose queue is no list, is not moved, nor what comes after it. How many
        were moved. Without moves only an empty timestamp goes.
        """
        targets: dict[str | None, int] = {None: 0}
        for move in moves:
            targets.setdefault(move.queue, len(targets))
        queues = [queue for queue in targets if queue is not None]
        keys = [
            self.keys.delayed(timestamp),
            self.keys.delayed_schedule,
            self.keys.queues,
            self.keys.stat("failed"),
            self.keys.failed,
            *map(self.keys.queue, queues),
        ]
        name, push = self.keys.delayed_name(timestamp), "LPUSH" if front else "RPUSH"
        args = [timestamp, self.keys.timestamps_prefix, name, push, skip, *queues]
        for move in moves:
            args += (move.payload, targets[move.queue], move.pushed)
        return int(scripts.load(self.client, "promote")(keys=keys, args=args))

    def hasten(self, timestamp: int, move: Move) -> int:
        """Move every copy of a payload at a timestamp to its queue, due or not; how many."""
        assert move.queue is not None
        script = scripts.load(self.client, "hasten_delayed")
        keys = [
            self.keys.delayed(timestamp),
            self.keys.delayed_schedule,
            self.keys.timestamps(move.payload),
            self.keys.queues,
            self.keys.queue(move.queue),
        ]
        name = self.keys.delayed_name(timestamp)
        return int(script(keys=keys, args=[timestamp, name, move.payload, move.pushed, move.queue]))

    def forget(self, timestamp: int) -> int:
        """Remove all that waits at a timestamp; how much that was."""
        script = scripts.load(self.client, "forget_delayed")
        keys = [self.keys.delayed(timestamp), self.keys.delayed_schedule]
        args = [timestamp, self.keys.timestamps_prefix, self.keys.delayed_name(timestamp)]
        return int(script(keys=keys, args=args))

    def walk(self) -> Iterator[tuple[int, bytes]]:
        """Every (timestamp, payload), earliest first; not a snapshot."""
        for start in range(0, self.timestamp_count(), TIMESTAMPS):
            timestamps = self.timestamps(start, TIMESTAMPS)
            pipe = self.client.pipeline(transaction=False)
            for timestamp in timestamps:
                pipe.lrange(self.keys.delayed(timestamp), 0, PAGE - 1)
            for timestamp, found in zip(timestamps, pipe.execute(False), strict=True):
                payloads, seen = found if isinstance(found, list) else [], 0
                while payloads:
                    yield from ((timestamp, payload) for payload in payloads)
                    seen += len(payloads)
                    payloads = self.peek(timestamp, seen, PAGE) if len(payloads) == PAGE else []

    def take_due(self, timestamp: int) -> bytes | None:
        """Remove and return the oldest payload due then; the last takes the timestamp with it."""
        script = scripts.load(self.client, "take_due")
        keys = [self.keys.delayed(timestamp), self.keys.delayed_schedule]
        name = self.keys.delayed_name(timestamp)
        taken: bytes | None = script(keys=keys, args=[timestamp, self.keys.timestamps_prefix, name])
        return taken

    def cancel(self, payload: bytes, timestamp: int | None = None) -> int:
        """Remove every copy of the payload, at one timestamp or at all; how many there were."""
        script = scripts.load(self.client, "cancel_delayed")
        keys = [self.keys.timestamps(payload), self.keys.delayed_schedule]
        name = "" if timestamp is None else self.keys.delayed_name(timestamp)
        return int(script(keys=keys, args=[payload, self.keys.prefix, name]))

    def timestamps(self, start: int, count: int) -> list[int]:
        """`count` timestamps from `start`, earliest first; a negative count asks for the rest."""
        if count == 0:
            return []
        end = -1 if count < 0 else start + count - 1
        return _numbers(
            or_nothing(lambda: self.client.zrange(self.keys.delayed_schedule, start, end), [])
        )

    def timestamp_count(self) -> int:
        return or_nothing(lambda: int(self.client.zcard(self.keys.delayed_schedule)), 0)

    def size(self, timestamp: int) -> int:
        return or_nothing(lambda: int(self.client.llen(self.keys.delayed(timestamp))), 0)

    def sizes(self, timestamps: Sequence[int]) -> list[int]:
        """How many payloads wait at each timestamp, in one round trip."""
        pipe = self.client.pipeline(transaction=False)
        for timestamp in timestamps:
            pipe.llen(self.keys.delayed(timestamp))
        return lengths(pipe.execute(raise_on_error=False))

    def peek(self, timestamp: int, start: int, count: int) -> list[bytes]:
        """`count` payloads due then, from index `start`."""
        return page(self.client, self.keys.delayed(timestamp), start, count)


def _numbers(members: Sequence[bytes]) -> list[int]:
    """The timestamps among members of the schedule; what else was left there is passed over."""
    return [int(member) for member in members if member.removeprefix(b"-").isdigit()]
