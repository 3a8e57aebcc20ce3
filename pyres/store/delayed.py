"""Delayed payloads by the epoch second at which they are due. The caller passes the time."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from pyres.store import elements, scripts
from pyres.store.elements import PAGE, PAGE_BYTES
from pyres.store.errors import lengths, or_nothing
from pyres.store.keys import Key, Keys
from pyres.store.text import spelt

#: Timestamps that are read in one round trip.
TIMESTAMPS = 100

#: Delayed payloads up to which a walk over all of them is fast.
WALKED_PAYLOADS = 2000

#: Targets of removed payloads besides the queues, as promote.lua numbers them.
_NOWHERE, _FAILURES = -1, 0


class Move(NamedTuple):
    """A delayed payload, and what is pushed for it: to `queue`, or as a failure if that is None."""

    payload: bytes
    queue: str | None
    pushed: bytes


class Moved(NamedTuple):
    """How many payloads were moved, and the targets (None: the failures) that could not be pushed
    to since their keys are not lists, each with the error text.
    """

    number: int
    refused: dict[str | None, str]


class Delayed:
    """resque-scheduler's three structures: a list for each second, a sorted set of these seconds,
    and for each payload a set of its seconds.
    """

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def delay(self, timestamp: int, payload: bytes) -> None:
        """Delay a payload until `timestamp`; the three writes are one step."""
        name = self.keys.delayed_name(timestamp)
        keys = [
            self.keys.delayed(timestamp),
            self.keys.timestamps(payload),
            self.keys.delayed_schedule,
        ]
        scripts.load(self.client, "delay")(keys=keys, args=[timestamp, name, payload])

    def due_timestamp(self, now: float) -> int | None:
        """The earliest timestamp that is due, or None."""
        return next(iter(self.due_timestamps(now, 1)), None)

    def due_timestamps(self, now: float, count: int = PAGE) -> list[int]:
        """Up to `count` timestamps that are due, earliest first."""
        timestamps: list[int] = []
        for start in itertools.count(0, count):
            members = self._due_members(now, start, count)
            timestamps += _numbers(members)
            if len(timestamps) >= count or len(members) < count:
                break
        return timestamps[:count]

    def _due_members(self, now: float, start: int, count: int) -> list[bytes]:
        return or_nothing(
            lambda: self.client.zrangebyscore(
                self.keys.delayed_schedule, "-inf", int(now), start=start, num=count
            ),
            [],
        )

    def next_timestamp(self) -> int | None:
        """The earliest timestamp, due or not, or None."""
        return next(iter(self.timestamps(0, 1)), None)

    def promote(
        self,
        timestamp: int,
        moves: Sequence[Move],
        front: bool = False,
        start: int = 0,
        last: int | None = None,
    ) -> Moved:
        """Move payloads of a timestamp to their queues, all in one step.

        They are pushed to the end of each queue, or to its `front`, in their order. A payload is
        moved if it is between the indexes `start` and `last` and its queue is a list. Without moves
        only an empty timestamp is removed.
        """
        targets: dict[str | None, int] = {None: _FAILURES}
        for move in moves:
            targets.setdefault(move.queue, len(targets))
        triples = [(move.payload, targets[move.queue], move.pushed) for move in moves]
        last = start + max(0, len(moves) - 1) if last is None else last
        push = "LPUSH" if front else "RPUSH"
        count, *refused = self._promote(timestamp, (start, last), push, list(targets), triples)
        kinds = dict(elements.pairs(refused))
        needed = {move.queue: targets[move.queue] for move in moves}
        return Moved(
            count,
            {
                queue: elements.not_a_list(self._target(queue), kinds[number])
                for queue, number in needed.items()
                if number in kinds
            },
        )

    def _target(self, queue: str | None) -> Key:
        return self.keys.failed if queue is None else self.keys.queue(queue)

    def _promote(
        self,
        timestamp: int,
        between: tuple[int, int],
        push: str,
        targets: Sequence[str | None],
        removals: Sequence[tuple[bytes, int, bytes]],
    ) -> list[Any]:
        keys = [
            self.keys.delayed(timestamp),
            self.keys.delayed_schedule,
            self.keys.queues,
            self.keys.stat("failed"),
            *map(self._target, targets),
        ]
        name, mark = self.keys.delayed_name(timestamp), elements.mark()
        args = [timestamp, self.keys.timestamps_prefix, name, push, *between, mark]
        args += [spelt(queue) for queue in targets if queue is not None]
        for payload, target, pushed in removals:
            args += (elements.sha(payload), target, pushed)
        reply: list[Any] = scripts.load(self.client, "promote")(keys=keys, args=args)
        return reply

    def promote_one(self, timestamp: int, move: Move) -> Moved:
        """Move every copy of a payload at a timestamp to its queue, due or not."""
        moved, refused = 0, {}
        for index in self._places(timestamp, move.payload):
            result = self.promote(timestamp, [move], start=index)
            moved, refused = moved + result.number, result.refused
            if refused:
                break
        return Moved(moved, refused)

    def cancel(self, timestamp: int, payload: bytes) -> int:
        """Remove every copy of a payload at a timestamp; how many there were."""
        places = self._places(timestamp, payload)
        return sum(self._remove(timestamp, index, index, [payload]) for index in places)

    def promote_one_at(self, timestamp: int, index: int, move: Move) -> Moved:
        """Move one payload, which was read at an index of a timestamp, to its queue."""
        moved = Moved(0, {})
        for first, last in elements.near(index):
            moved = self.promote(timestamp, [move], start=first, last=last)
            if moved.number or moved.refused:
                break
        return moved

    def cancel_at(self, timestamp: int, index: int, payload: bytes) -> int:
        """Remove one payload, which was read at an index of a timestamp; 0 when it is no longer
        there.
        """
        ranges = elements.near(index)
        return int(any(self._remove(timestamp, *between, [payload]) for between in ranges))

    def _places(self, timestamp: int, payload: bytes) -> Iterator[int]:
        return elements.places(self.client, self.keys.delayed(timestamp), payload)

    def cancel_each(
        self, timestamp: int, chosen: Callable[[bytes], bool]
    ) -> Iterator[tuple[int, list[bytes]]]:
        """Remove every payload of a timestamp that is `chosen`, a page in one step: for each page
        how many were removed, and the payloads.
        """
        pages = elements.pages_down(self.client, self.keys.delayed(timestamp), self.size(timestamp))
        for start, payloads in pages:
            removals = [payload for payload in payloads if chosen(payload)]
            if removals:
                last = start + len(payloads) - 1
                yield self._remove(timestamp, start, last, removals), removals

    def _remove(self, timestamp: int, first: int, last: int, payloads: Sequence[bytes]) -> int:
        """Remove payloads between two indexes of a timestamp; how many were removed."""
        removals = [(payload, _NOWHERE, b"") for payload in payloads]
        between = (first, last)
        return elements.repeat_removal(
            lambda: int(self._promote(timestamp, between, "RPUSH", [None], removals)[0]),
            len(removals),
        )

    def named(self, payloads: Sequence[bytes]) -> list[tuple[int, bytes]]:
        """Each (timestamp, payload) of these payloads, by the sets of their timestamps."""
        delayed = []
        for payload in payloads:
            key = self.keys.timestamps(payload)
            names: Iterable[bytes] = or_nothing(functools.partial(self.client.smembers, key), ())
            prefix = self.keys.delayed_name_prefix.encode()
            times = _numbers([name.removeprefix(prefix) for name in names])
            delayed += [(timestamp, payload) for timestamp in sorted(times)]
        return delayed

    def are_few(self) -> bool:
        """Whether so few payloads are delayed that a walk over all of them is fast."""
        if self.timestamp_count() > TIMESTAMPS:
            return False
        return sum(self.sizes(self.timestamps(0, TIMESTAMPS))) <= WALKED_PAYLOADS

    def drop(self, timestamp: int) -> Iterator[list[bytes]]:
        """Remove all payloads of a timestamp, a page with each step of the iterator."""
        script = scripts.load(self.client, "drop_delayed")
        keys = [self.keys.delayed(timestamp), self.keys.delayed_schedule]
        name = self.keys.delayed_name(timestamp)
        args = [timestamp, self.keys.timestamps_prefix, name, PAGE, PAGE_BYTES]
        while payloads := script(keys=keys, args=args):
            yield payloads

    def walk(self) -> Iterator[tuple[int, bytes]]:
        """Every (timestamp, payload), earliest first; not a snapshot."""
        for start in range(0, self.timestamp_count(), TIMESTAMPS):
            timestamps, index = self.timestamps(start, TIMESTAMPS), 0
            while timestamps:
                keys = [self.keys.delayed(timestamp) for timestamp in timestamps]
                finished, pages = elements.read_lists(self.client, keys, index)
                for timestamp, page in zip(timestamps, pages, strict=False):
                    yield from ((timestamp, payload) for payload in page)
                # A list that was read in part is continued where its page ends.
                partial = pages[finished] if finished < len(pages) else []
                index = len(partial) + (0 if finished else index)
                timestamps = timestamps[finished:]

    def pop_due(self, timestamp: int) -> bytes | None:
        """Remove and return the oldest payload of a timestamp, or None; an empty timestamp is
        removed.
        """
        script = scripts.load(self.client, "pop_due")
        keys = [self.keys.delayed(timestamp), self.keys.delayed_schedule]
        name = self.keys.delayed_name(timestamp)
        payload: bytes | None = script(
            keys=keys, args=[timestamp, self.keys.timestamps_prefix, name]
        )
        return payload

    def timestamps(self, start: int, count: int) -> list[int]:
        """`count` timestamps from `start`, earliest first; a negative count means all."""
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
        """How many payloads each timestamp has, in one round trip."""
        pipe = self.client.pipeline(transaction=False)
        for timestamp in timestamps:
            pipe.llen(self.keys.delayed(timestamp))
        return lengths(pipe.execute(raise_on_error=False))

    def peek(self, timestamp: int, start: int, count: int) -> list[bytes]:
        """`count` payloads of a timestamp from index `start`; a negative count means all."""
        return elements.peek(self.client, self.keys.delayed(timestamp), start, count)

    def page(self, timestamp: int, start: int, count: int) -> tuple[list[bytes], bool]:
        """As many of them as one step reads, and whether these are the last ones."""
        key = self.keys.delayed(timestamp)
        finished, (payloads,) = elements.read_lists(self.client, [key], start, count)
        return payloads, bool(finished)


def _numbers(members: Sequence[bytes]) -> list[int]:
    """The timestamps among members of the schedule; other members are skipped."""
    return [int(member) for member in members if member.removeprefix(b"-").isdigit()]
