"""The failure backend that writes the list `failed`, as Resque does."""

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
    for_display,
    payload_bytes,
    raw_record,
    record_of,
    with_field,
)
from pyres.former_names import former_names
from pyres.store import Failed, Removal, Removed

if TYPE_CHECKING:
    from pyres.client import ResQ

logger = logging.getLogger(__name__)

#: Records that are retried or deleted in one step, up to PAGE_BYTES.
BATCH = 500


class Batch(NamedTuple):
    """What one step did: how many records it removed, and how many are still to be checked."""

    gone: int
    left: int


class RedisBackend(BaseBackend):
    """Resque's own backend: the list `failed`, oldest record first."""

    def save(self, resq: ResQ | None = None) -> None:
        """Append the record. Raises what redis-py raises."""
        resq = resq or self._worker.resq
        resq.store.failed.push(self.encoded(resq))

    def encoded(self, resq: ResQ) -> bytes:
        """The record as stored in Redis, with the payload's own bytes."""
        record = self.record(datetime.fromtimestamp(resq.estimated_time()))
        # A subclass may have changed values of the payload, for instance to hide a password.
        own = payload.own_bytes(record.get("payload"), self.raw_payload)
        if own is None:
            return json_parser.encode(record)
        fields = {name: json_parser.encode(value) for name, value in record.items()}
        return payload.joined({**fields, "payload": own})

    @classmethod
    def lists(cls, resq: ResQ, queue: str | None = None) -> list[str]:
        """The names of this backend's failure lists, for one queue or for all."""
        return ["failed"]

    @classmethod
    def count(cls, resq: ResQ, queue: str | None = None, klass: str | None = None) -> int:
        """How many records there are, optionally of one queue or class."""
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
        """`count` records from index `start`, oldest first, each with its `redis_value`;
        optionally of one queue or class.

        `redis_value` is the raw record in base64, by which retry() and delete() find it again.
        """
        if cls._must_filter(queue, klass):
            matching = cls.matching(resq, FailureFilter(queue, klass))
            end = None if count < 0 else start + count
            return [for_display(raw) for raw in itertools.islice(matching, start, end)]
        records: list[dict[str, Any]] = []
        for name in cls.lists(resq, queue):
            size = resq.store.failed.count(name)
            wanted = -1 if count < 0 else count - len(records)
            records += (
                [for_display(raw) for raw in resq.store.failed.peek(start, wanted, name)]
                if wanted
                else []
            )
            start = max(0, start - size)
        return records

    @classmethod
    def _must_filter(cls, queue: str | None, klass: str | None) -> bool:
        """Whether the records must be read to know which match."""
        return queue is not None or klass is not None

    @classmethod
    def clear(cls, resq: ResQ, queue: str | None = None, klass: str | None = None) -> int:
        """Delete every record, or those of one queue or class; returns how many."""
        if queue is None and klass is None:
            return sum(resq.store.failed.clear(name) for name in cls.lists(resq))
        return sum(batch.gone for batch in cls.delete_each(resq, FailureFilter(queue, klass)))

    @classmethod
    def delete(cls, resq: ResQ, record: bytes | str) -> int:
        """Remove one record, raw or as `redis_value`; 0 if it is no longer there."""
        raw = raw_record(record)
        return int(any(resq.store.failed.delete(raw, name) for name in cls._lists_of(resq, raw)))

    @classmethod
    def retry(cls, resq: ResQ, queue: str, record: bytes | str) -> int:
        """Push one record's payload to a queue and delete the record, in one step; 0 if it is no
        longer there.
        """
        raw = raw_record(record)
        encoded = payload_bytes(raw)
        lists = cls._lists_of(resq, raw)
        if resq.overrides_push:
            return cls._retry_by_push(resq, queue, raw, encoded)
        return int(any(resq.store.failed.retry(raw, queue, encoded, name) for name in lists))

    @classmethod
    def _retry_by_push(cls, resq: ResQ, queue: str, raw: bytes, encoded: bytes) -> int:
        """Remove the record, then push, as in pyres 1.5, because a subclass overrides push()."""
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
        """Retry every record, or those of one queue or class; returns how many. Records that
        Resque's requeue has marked with `retried_at` stay, because their jobs were pushed;
        `retried`: True for only these, None for all.

        Works a page at a time, each in one step, so that a million records need little memory;
        `progress` is called after each with the number of records retried so far. If interrupted,
        the remaining records stay.
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

        False, and nothing done, if the record is no longer at `index`.
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
        """The raw records that match, each list oldest first, a page at a time."""
        for name in cls.lists(resq, chosen.queue):
            yield from filter(chosen.matches, resq.store.failed.walk(name))

    @classmethod
    def _lists_of(cls, resq: ResQ, raw: bytes) -> list[str]:
        return cls.lists(resq, for_display(raw)["queue"])

    @classmethod
    def retry_each(cls, resq: ResQ, chosen: FailureFilter) -> Iterator[Batch]:
        """Retry every record that matches, a page per step; what cannot be retried stays."""
        return cls._in_batches(resq, chosen, destination)

    @classmethod
    def delete_each(cls, resq: ResQ, chosen: FailureFilter) -> Iterator[Batch]:
        """Delete every record that matches, a page per step."""
        return cls._in_batches(resq, chosen, lambda raw: (None, b""))

    @classmethod
    def _in_batches(
        cls,
        resq: ResQ,
        chosen: FailureFilter,
        destination_of: Callable[[bytes], tuple[str | None, bytes] | None],
    ) -> Iterator[Batch]:
        """Process the lists one after the other from the head on, each page in one step."""
        sizes = resq.store.failed.counts(cls.lists(resq, chosen.queue))
        later = sum(sizes.values())
        for name, size in sizes.items():
            later -= size
            for batch in cls._in_list(resq.store.failed, name, size, chosen, destination_of):
                yield Batch(batch.gone, batch.left + later)

    @classmethod
    def _in_list(
        cls,
        failed: Failed,
        name: str,
        end: int,
        chosen: FailureFilter,
        destination_of: Callable[[bytes], tuple[str | None, bytes] | None],
    ) -> Iterator[Batch]:
        start, before = 0, b""
        logged: set[str] = set()
        while start < end:
            # If the last record that stayed is not at its place any more, records before it were
            # removed: all have moved towards the head, and are checked again from there.
            if start and failed.page(start - 1, 1, name) != [before]:
                start = 0
                continue
            records = failed.page(start, min(BATCH, end - start), name)
            if not records:
                break
            removals = _removals(filter(chosen.matches, records), destination_of)
            removed = failed.remove_many(start, start + len(records) - 1, removals, name)
            _log_refused(removed, logged)
            # Records that arrive meanwhile, after `end`, are not processed.
            end -= removed.number
            elements = [
                removal.element for removal in removals if removal.queue not in removed.refused
            ]
            start = start + len(records) - removed.number if removed.number == len(elements) else 0
            before = _last_kept(records, set(elements), before)
            yield Batch(removed.number, max(0, end - start))


def push_removed(resq: ResQ, queue: str, encoded: bytes, record: bytes, name: str) -> None:
    """Push the payload of a record that was removed from a list; if an overridden push() raises,
    the record is put back.
    """
    try:
        resq.push(queue, payload.pushable(encoded))
    except BaseException:
        resq.store.failed.push(record, name)
        raise


def _removals(
    records: Iterable[bytes],
    destination_of: Callable[[bytes], tuple[str | None, bytes] | None],
) -> list[Removal]:
    return [Removal(raw, *where) for raw in records if (where := destination_of(raw))]


def _log_refused(removed: Removed, logged: set[str]) -> None:
    """Log once per queue why its failures cannot be retried."""
    for queue, error in removed.refused.items():
        if queue not in logged:
            logged.add(queue)
            logger.error("Cannot retry failures of queue %s; they stay: %s", queue, error)


def _last_kept(records: Sequence[bytes], removed: Container[bytes], before: bytes) -> bytes:
    """The last of these records that was not removed, or the one before them."""
    return next((raw for raw in reversed(records) if raw not in removed), before)


__getattr__ = former_names(
    __name__,
    {
        "ResQ": "pyres.client:ResQ",
    },
)
