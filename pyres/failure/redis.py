"""Failures in the list that Resque reads."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pyres import json_parser, payload
from pyres.exceptions import BadOptionError, UndecodableError
from pyres.failure.base import BaseBackend

if TYPE_CHECKING:
    from pyres.client import ResQ

#: Records that are retried or deleted in one round trip.
BATCH = 500


class RedisBackend(BaseBackend):
    """Resque's own backend: the list `failed`, oldest record first."""

    def save(self, resq: ResQ | None = None) -> None:
        """Append the record. Raises what redis-py raises."""
        resq = resq or self._worker.resq
        resq.store.failed.push(self.encoded(resq))

    def encoded(self, resq: ResQ) -> bytes:
        """The record as it stands in Redis."""
        return json_parser.encode(self.record(resq._current_time()))

    @classmethod
    def lists(cls, resq: ResQ, queue: str | None = None) -> list[str]:
        """The names of the failure lists that this backend keeps, for one queue or for all."""
        return ["failed"]

    @classmethod
    def count(cls, resq: ResQ, queue: str | None = None, klass: str | None = None) -> int:
        """How many records there are, of one queue or one class if given."""
        if queue is None and klass is None:
            return sum(resq.store.failed.count(name) for name in cls.lists(resq))
        return sum(1 for _ in cls.matching(resq, queue, klass))

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
            found_raw = (raw for _, raw in cls.matching(resq, queue, klass))
            end = None if count < 0 else start + count
            return [shown(raw) for raw in itertools.islice(found_raw, start, end)]
        found: list[dict[str, Any]] = []
        for name in cls.lists(resq, queue):
            size = resq.store.failed.count(name)
            wanted = -1 if count < 0 else count - len(found)
            found += (
                [shown(raw) for raw in resq.store.failed.page(start, wanted, name)]
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
        return cls._in_batches(resq, queue, klass, cls._delete_batch)

    @classmethod
    def delete(cls, resq: ResQ, record: bytes | str) -> int:
        """Remove one record, raw or as `redis_value`; 0 when it is gone already."""
        raw = raw_record(record)
        return int(any(resq.store.failed.delete(raw, name) for name in cls._lists_of(resq, raw)))

    @classmethod
    def retry(cls, resq: ResQ, queue: str, record: bytes | str) -> int:
        """Move one record's payload to a queue: both or neither. 0 when it is gone already."""
        raw = raw_record(record)
        encoded = payload.encode(_payload_of(raw))
        lists = cls._lists_of(resq, raw)
        return int(any(resq.store.failed.retry(raw, queue, encoded, name) for name in lists))

    @classmethod
    def retry_all(
        cls,
        resq: ResQ,
        queue: str | None = None,
        klass: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Retry every record, or those of one queue or class; how many were moved.

        Works through a page at a time, so that a million need no memory; `progress` is told how
        many were moved so far after each batch. Cut short, what was moved is moved and the rest
        stands.
        """
        return cls._in_batches(resq, queue, klass, cls._retry_batch, progress)

    @classmethod
    def requeue_at(cls, resq: ResQ, index: int, record: bytes | str, name: str = "failed") -> bool:
        """Resque's requeue: push the payload again and mark the record with `retried_at`.

        The record must still be the one at `index`; False, and nothing done, when another is.
        """
        raw = raw_record(record)
        found = _record_of(raw)
        stamp = resq._current_time().astimezone().strftime(cls._retried_at_format())
        marked = json_parser.encode({**found, "retried_at": stamp})
        encoded = payload.encode(found["payload"])
        return resq.store.failed.requeue(index, raw, marked, found["queue"], encoded, name)

    @classmethod
    def _retried_at_format(cls) -> str:
        return "%Y/%m/%d %H:%M:%S %Z"

    @classmethod
    def matching(
        cls, resq: ResQ, queue: str | None = None, klass: str | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """(list, raw record) of those of a queue or class, oldest first, a page at a time."""
        for name in cls.lists(resq, queue):
            for raw in resq.store.failed.walk(name):
                if _matches(raw, queue, klass):
                    yield name, raw

    @classmethod
    def _lists_of(cls, resq: ResQ, raw: bytes) -> list[str]:
        return cls.lists(resq, shown(raw)["queue"])

    @classmethod
    def _in_batches(
        cls,
        resq: ResQ,
        queue: str | None,
        klass: str | None,
        act: Callable[[ResQ, str, list[bytes]], tuple[int, int]],
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Do something to every record that matches, from the head, where removing costs
        nothing.
        """
        done = 0
        for name in cls.lists(resq, queue):
            left, start = resq.store.failed.count(name), 0
            while left > 0 and (records := resq.store.failed.page(start, min(BATCH, left), name)):
                left -= len(records)
                chosen = [raw for raw in records if _matches(raw, queue, klass)]
                acted, left_alone = act(resq, name, chosen)
                # What was left standing is not looked at again; what somebody else took meanwhile
                # stands no more.
                start += len(records) - len(chosen) + left_alone
                done += acted
                if progress:
                    progress(done)
        return done

    @classmethod
    def _delete_batch(cls, resq: ResQ, name: str, records: list[bytes]) -> tuple[int, int]:
        return resq.store.failed.delete_many(records, name) if records else 0, 0

    @classmethod
    def _retry_batch(cls, resq: ResQ, name: str, records: list[bytes]) -> tuple[int, int]:
        moves = [move for raw in records if (move := _move_of(raw))]
        moved = resq.store.failed.retry_many(moves, name) if moves else 0
        return moved, len(records) - len(moves)


def shown(raw: bytes) -> dict[str, Any]:
    """A record for a reader, with `redis_value`; one that is no record is shown as a record about
    itself.
    """
    try:
        record = json_parser.loads(raw)
    except UndecodableError as error:
        record = _stand_in(raw, str(error))
    if not isinstance(record, dict):
        record = _stand_in(raw, "this element of the failure list is no failure record")
    for field, default in DEFAULTS.items():
        record.setdefault(field, default)
    record["redis_value"] = base64.b64encode(raw).decode()
    return record


#: What a record without a field is shown with: other programs leave some of them out.
DEFAULTS: dict[str, Any] = {
    "failed_at": "",
    "payload": {},
    "exception": "",
    "error": "",
    "backtrace": [],
    "worker": "",
    "queue": "",
}


def _stand_in(raw: bytes, error: str) -> dict[str, Any]:
    return {"payload": payload.undecodable(raw), "exception": "UndecodableError", "error": error}


def raw_record(record: bytes | str) -> bytes:
    """The exact bytes of a record that is given raw or as `redis_value` (base64). BadOptionError if
    neither.
    """
    octets = record.encode("utf-8", "surrogateescape") if isinstance(record, str) else record
    if octets[:1] in (b"{", b""):
        return octets
    try:
        return base64.b64decode(octets, validate=True)
    except ValueError:
        raise BadOptionError(
            f"{octets[:60]!r} is no failure record: give its bytes or its redis_value"
        ) from None


def _record_of(raw: bytes) -> dict[str, Any]:
    record = shown(raw)
    del record["redis_value"]
    return record


def _move_of(raw: bytes) -> tuple[bytes, str, bytes] | None:
    """The record, its queue and its payload; None for what cannot be retried and so stays."""
    record = _record_of(raw)
    queue = record["queue"]
    if not isinstance(queue, str) or not queue:
        return None
    try:
        queue.encode("utf-8")
        return raw, queue, payload.encode(record["payload"])
    except ValueError:
        return None


def _payload_of(raw: bytes) -> Any:
    return _record_of(raw)["payload"]


def _matches(raw: bytes, queue: str | None, klass: str | None) -> bool:
    if queue is None and klass is None:
        return True
    record = shown(raw)
    return queue in (None, record["queue"]) and klass in (None, _class_of(record))


def _class_of(record: dict[str, Any]) -> Any:
    found = record["payload"]
    return found.get("class") if isinstance(found, dict) else None
