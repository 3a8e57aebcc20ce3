"""A failed list for each queue, as Resque's FAILURE_BACKEND=redis_multi_queue keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyres.failure.redis import RedisBackend

if TYPE_CHECKING:
    from pyres.client import ResQ


class RedisMultiQueueBackend(RedisBackend):
    """Failures of queue `q` in the list `q_failed`; `failed_queues` names the lists."""

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
    def _must_look(cls, queue: str | None, klass: str | None) -> bool:
        return klass is not None

    @classmethod
    def count(cls, resq: ResQ, queue: str | None = None, klass: str | None = None) -> int:
        """How many records there are, of one queue or one class if given."""
        if klass is None:
            return sum(resq.store.failed.count(name) for name in cls.lists(resq, queue))
        return super().count(resq, queue, klass)

    @classmethod
    def clear(cls, resq: ResQ, queue: str | None = None, klass: str | None = None) -> int:
        """Forget every record, or those of one queue or class; how many that was."""
        if klass is None:
            return sum(resq.store.failed.clear(name) for name in cls.lists(resq, queue))
        return super().clear(resq, queue, klass)

    @classmethod
    def _retried_at_format(cls) -> str:
        # Resque's multi-queue backend leaves the zone out, and its readers expect that.
        return "%Y/%m/%d %H:%M:%S"
