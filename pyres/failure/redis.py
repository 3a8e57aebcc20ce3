"""Failures in the list that Resque reads."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pyres import json_parser, payload
from pyres.failure.base import BaseBackend
from pyres.failure.records import (
    FailureFilter,
    destination,
    payload_bytes,
    raw_record,
    record_of,
    shown,
    with_field,
)
from pyres.former_names import former_names
from pyres.store import Failed, Removal, Removed

if TYPE_CHECKING:
    from pyres.client import ResQ

logger = logging.getLogger(__name__)

#: Records that are retried or deleted in one step, of PAGE_BYTES at most.
BATCH = 500


class Batch(NamedTuple):
    """What one step did: how many records went, and how many are still to be looked at."""

    gone: int
    left: int


class RedisBackend(BaseBackend):
    """Resque's own backend: the list `failed`, oldest record first."""

    def save(self, resq: ResQ | None = None) -> None:
        """Append the record. Raises what redis-py raises."""
        resq = resq or self._worker.resq
        resq.store.failed.push(self.encoded(resq))

    def encoded(self, resq: ResQ) -> bytes:
        """The record as it stands in Redis, with the payload's own bytes."""
        record = self.record(datetime.fromtimestamp(resq.estimated_time()))
        # A subclass may have put other values into the same payload, such as to hide a password.
        own = payload.own_bytes(record.get("payload"), self.raw_payload)
        if own is None:
            return json_parser.encode(record)
        fields = {name: json_parser.encode(value) for name, value in record.items()}
        return payload.joined({**fields, "payload": own})

    @classmethod
    def lists(cls, resq: ResQ, queue: str | None = None) -> list[str]:
        """The names of the failure lists that this backend keeps, for one queue or for all."""
        return ["failed"]

    @classmethod
    def count(cls, resq: ResQ, queue: str | None = None, klass: str | None = None) -> int:
        """How many records there are, of one queue or one class if given."""
        if queue is None and klass is None:
            return sum(resq.store.failed.count(name) for name in cls.lists(resq))
        return sum(1 for _ in cls.matching(resq, FailureFilter(queue, klass)))

    @classmethod
    def all(
        cls,
        resq: ResQ,
        start: int = 0,
        count: int = 1,
        queue: str | None = None,
        klass: str | None = None,
    ) -> list[dict[str, Any]]:
        """`count` records from index `start`, oldest first, each with its `redis_value`.

        Of one queue or one class if given. `redis_value` is the raw record in base64, by which
        retry and delete find it again.
        """
        if cls._must_look(queue, klass):
            found_raw = cls.matching(resq, FailureFilter(queue, klass))
            end = None if count < 0 else start + count
            return [shown(raw) for raw in itertools.islice(found_raw, start, end)]
        found: list[dict[str, Any]] = []
        for name in cls.lists(resq, queue):
            size = resq.store.failed.count(name)
            wanted = -1 if count < 0 else count - len(found)
            found += (
                [shown(raw) for raw in resq.store.failed.peek(start, wanted, name)]
                if wanted
                else []
            )
            start = max(0, start - size)
        return found

    @classmethod
    def _must_look(cls, queue: str | None, klass: str | None) -> bool:
        """Whether the records have to be looked at to know which are meant."""
        return queue is not None or klass is not None

    @classmethod
    def clear(cls, resq: ResQ, queue: str | None = None, klass: str | None = None) -> int:
        """Forget every record, or those of one queue or class; how many that was."""
        if queue is None and klass is None:
            return sum(resq.store.failed.clear(name) for name in cls.lists(resq))
        return sum(batch.gone for batch in cls.delete_each(resq, FailureFilter(queue, klass)))

    @classmethod
    def delete(cls, resq: ResQ, record: bytes | str) -> int:
        """Remove one record, raw or as `redis_value`; 0 when it is gone already."""
        raw = raw_record(record)
        return int(any(resq.store.failed.delete(raw, name) for name in cls._lists_of(resq, raw)))

    @classmethod
    def retry(cls, resq: ResQ, queue: str, record: bytes | str) -> int:
        """Move one record's payload to a queue: both or neither. 0 when it is gone already."""
        raw = raw_record(record)
        encoded = payload_bytes(raw)
        lists = cls._lists_of(resq, raw)
        if resq.overrides_push:
            return cls._retry_by_push(resq, queue, raw, encoded)
        return int(any(resq.store.failed.retry(raw, queue, encoded, name) for name in lists))

    @classmethod
    def _retry_by_push(cls, resq: ResQ, queue: str, raw: bytes, encoded: bytes) -> int:
        """As pyres 1.5, whose push() a subclass overrides: remove the record, then push."""
        if not cls.delete(resq, raw):
            return 0
        push_removed(resq, queue, encoded, raw, cls._lists_of(resq, raw)[0])
        return 1

    @classmethod
    def retry_all(
        cls,
        resq: ResQ,
        queue: str | None = None,
        klass: str | None = None,
        progress: Callable[[int], None] | None = None,
        retried: bool | None = False,
    ) -> int:
        """Retry every record, or those of one queue or class; how many were moved. One that a
        requeue of Resque's has marked with `retried_at` stays, since its job was pushed; `retried`:
        True for those only, None for all.

        Works through a page at a time, each in one step, so that a million need no memory;
        `progress` is told how many were moved so far after each. Cut short, what was moved is
        moved and the rest stands.
        """
        moved = 0
        for batch in cls.retry_each(resq, FailureFilter(queue, klass, retried=retried)):
            moved += batch.gone
            if progress:
                progress(moved)
        return moved

    @classmethod
    def requeue_at(cls, resq: ResQ, index: int, record: bytes | str, name: str = "failed") -> bool:
        """Resque's requeue: push the payload again and mark the record with `retried_at`.

        The record must still be the one at `index`; False, and nothing done, when another is.
        """
        raw = raw_record(record)
        now = datetime.fromtimestamp(resq.estimated_time()).astimezone()
        stamp = now.strftime(cls._retried_at_format())
        marked, queue = with_field(raw, "retried_at", stamp), record_of(raw)["queue"]
        return resq.store.failed.requeue(index, raw, marked, queue, payload_bytes(raw), name)

    @classmethod
    def _retried_at_format(cls) -> str:
        return "%Y/%m/%d %H:%M:%S %Z"

    @classmethod
    def matching(cls, resq: ResQ, chosen: FailureFilter) -> Iterator[bytes]:
        """The raw records that are meant, oldest first of each list, a page at a time."""
        for name in cls.lists(resq, chosen.queue):
            yield from filter(chosen.matches, resq.store.failed.walk(name))

    @classmethod
    def _lists_of(cls, resq: ResQ, raw: bytes) -> list[str]:
        return cls.lists(resq, shown(raw)["queue"])

    @classmethod
    def retry_each(cls, resq: ResQ, chosen: FailureFilter) -> Iterator[Batch]:
        """Retry every record that is meant, a page a step; what cannot be retried stays."""
        return cls._in_batches(resq, chosen, destination)

    @classmethod
    def delete_each(cls, resq: ResQ, chosen: FailureFilter) -> Iterator[Batch]:
        """Delete every record that is meant, a page a step."""
        return cls._in_batches(resq, chosen, lambda raw: (None, b""))

    @classmethod
    def _in_batches(
        cls,
        resq: ResQ,
        chosen: FailureFilter,
        destined: Callable[[bytes], tuple[str | None, bytes] | None],
    ) -> Iterator[Batch]:
        """From the head on, a page of each list after the other, each page in one step."""
        sizes = resq.store.failed.counts(cls.lists(resq, chosen.queue))
        later = sum(sizes.values())
        for name, size in sizes.items():
            later -= size
            for batch in cls._in_list(resq.store.failed, name, size, chosen, destined):
                yield Batch(batch.gone, batch.left + later)

    @classmethod
    def _in_list(
        cls,
        failed: Failed,
        name: str,
        end: int,
        chosen: FailureFilter,
        destined: Callable[[bytes], tuple[str | None, bytes] | None],
    ) -> Iterator[Batch]:
        start, before = 0, b""
        logged: set[str] = set()
        while start < end:
            # With another one than the last that was left alone there, somebody took some from
            # before it: all has moved towards the head, and is looked at again.
            if start and failed.page(start - 1, 1, name) != [before]:
                start = 0
                continue
            records = failed.page(start, min(BATCH, end - start), name)
            if not records:
                break
            removals = _removals(filter(chosen.matches, records), destined)
            removed = failed.remove_many(start, start + len(records) - 1, removals, name)
            _log_refused(removed, logged)
            # What comes in behind the end is left for another time.
            end -= removed.number
            gone = [one.element for one in removals if one.queue not in removed.refused]
            start = start + len(records) - removed.number if removed.number == len(gone) else 0
            before = _last_but(records, set(gone), before)
            yield Batch(removed.number, max(0, end - start))


def push_removed(resq: ResQ, queue: str, encoded: bytes, record: bytes, name: str) -> None:
    """Push the payload of a record that was removed from a list; the record is put back there when
    an overridden push() raises.
    """
    try:
        resq.push(queue, payload.pushable(encoded))
    except BaseException:
        resq.store.failed.push(record, name)
        raise


def _removals(
    records: Iterable[bytes],
    destined: Callable[[bytes], tuple[str | None, bytes] | None],
) -> list[Removal]:
    return [Removal(raw, *where) for raw in records if (where := destined(raw))]


def _log_refused(removed: Removed, logged: set[str]) -> None:
    """Log once why failures cannot be retried."""
    for queue, error in removed.refused.items():
        if queue not in logged:
            logged.add(queue)
            logger.error("failures of queue %s cannot be retried and stay: %s", queue, error)


def _last_but(records: Sequence[bytes], gone: Container[bytes], before: bytes) -> bytes:
    """The last of these records that is not gone, or the one before them."""
    return next((raw for raw in reversed(records) if raw not in gone), before)


__getattr__ = former_names(
    __name__,
    {
        "ResQ": "pyres.client:ResQ",
    },
)
