"""The failure backend with a list per queue, as Resque's FAILURE_BACKEND=redis_multi_queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyres.failure.redis import RedisBackend

if TYPE_CHECKING:
    from pyres.client import ResQ


class RedisMultiQueueBackend(RedisBackend):
    """Writes failures of queue `q` to the list `q_failed`; the lists are in `failed_queues`."""

    def save(self, resq: ResQ | None = None) -> None:
        """Append the record to its queue's list. Raises what redis-py raises."""
        resq = resq or self._worker.resq
        resq.store.failed.push_for_queue(self._queue, self.encoded(resq))

    @classmethod
    def lists(cls, resq: ResQ, queue: str | None = None) -> list[str]:
        """The lists that exist, or the one of a queue."""
        if queue is None:
            return resq.store.failed.names()
        return [resq.store.keys.failed_name(queue)]

    @classmethod
    def _must_filter(cls, queue: str | None, klass: str | None) -> bool:
        return klass is not None

    @classmethod
    def count(cls, resq: ResQ, queue: str | None = None, klass: str | None = None) -> int:
        """How many records there are, optionally of one queue or class."""
        if klass is None:
            return sum(resq.store.failed.count(name) for name in cls.lists(resq, queue))
        return super().count(resq, queue, klass)

    @classmethod
    def clear(cls, resq: ResQ, queue: str | None = None, klass: str | None = None) -> int:
        """Delete every record, or those of one queue or class; returns how many."""
        if klass is None:
            return sum(resq.store.failed.clear(name) for name in cls.lists(resq, queue))
        return super().clear(resq, queue, klass)

    @classmethod
    def _retried_at_format(cls) -> str:
        # Without the zone, as Resque's multi-queue backend writes it and its readers expect.
        return "%Y/%m/%d %H:%M:%S"
