"""Payload bytes by the epoch second they are due. The clock is the caller's: `now` is an argument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyres.store import scripts
from pyres.store.keys import Keys
from pyres.store.queues import page


class Delayed:
    """resque-scheduler's three structures: a list a second, their schedule, and the way back."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def put_off(self, timestamp: int, payload: bytes) -> None:
        """Lay a payload by until `timestamp`; the three writes happen together or not at all."""
        pipe = self.client.pipeline(transaction=True)
        self.put_off_into(pipe, timestamp, payload)
        pipe.execute()

    def put_off_into(self, pipe: Any, timestamp: int, payload: bytes) -> None:
        """The commands of put_off, for a pipeline of the caller's."""
        pipe.rpush(self.keys.delayed(timestamp), payload)
        pipe.sadd(self.keys.timestamps(payload), self.keys.delayed_name(timestamp))
        pipe.zadd(self.keys.delayed_schedule, {str(timestamp): timestamp})

    def due_timestamp(self, now: float) -> int | None:
        """The earliest timestamp that has come, or None."""
        found = self.client.zrangebyscore(self.keys.delayed_schedule, "-inf", int(now), start=0, num=1)
        return int(found[0]) if found else None

    def next_timestamp(self) -> int | None:
        """The earliest timestamp at all, or None."""
        found = self.client.zrange(self.keys.delayed_schedule, 0, 0)
        return int(found[0]) if found else None

    def take_due(self, timestamp: int) -> bytes | None:
        """Remove and return the oldest payload due then; the last one takes the timestamp with it."""
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
        """`count` timestamps from index `start`, earliest first; a negative count asks for the rest."""
        if count == 0:
            return []
        end = -1 if count < 0 else start + count - 1
        return [int(found) for found in self.client.zrange(self.keys.delayed_schedule, start, end)]

    def timestamp_count(self) -> int:
        return int(self.client.zcard(self.keys.delayed_schedule))

    def size(self, timestamp: int) -> int:
        return int(self.client.llen(self.keys.delayed(timestamp)))

    def sizes(self, timestamps: Sequence[int]) -> list[int]:
        """How many payloads wait at each timestamp, in one round trip."""
        pipe = self.client.pipeline(transaction=False)
        for timestamp in timestamps:
            pipe.llen(self.keys.delayed(timestamp))
        return [int(size) for size in pipe.execute()]

    def peek(self, timestamp: int, start: int, count: int) -> list[bytes]:
        """`count` payloads due then, from index `start`."""
        return page(self.client, self.keys.delayed(timestamp), start, count)

    def found_at(self, payload: bytes) -> list[int]:
        """The timestamps under which exactly this payload waits, sorted."""
        members = self.client.smembers(self.keys.timestamps(payload))
        return sorted(int(member.rpartition(b":")[2]) for member in members)
