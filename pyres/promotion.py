"""A payload that was put off, as it goes onto its queue when its time has come."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pyres import json_parser, loading
from pyres.exceptions import UndecodableError
from pyres.json_spans import Member, members

NO_QUEUES: Mapping[str, str] = MappingProxyType({})


def promoted(
    raw: bytes, enqueued: float | None = None, queue_for: Mapping[str, str] = NO_QUEUES
) -> tuple[str, bytes]:
    """The queue that a delayed payload names, else that of its class in `queue_for`, or where the
    class is known here; and the payload without that field.

    What else it holds stays as it is, byte for byte; `enqueued` (epoch seconds) becomes its
    enqueue_timestamp. Raises UndecodableError for what no worker could perform.
    """
    try:
        text = raw.decode("utf-8", "surrogateescape")
        found = members(text)
    except (ValueError, RecursionError) as error:
        raise UndecodableError(f"{raw[:80]!r} is no delayed job: {error}") from None
    queue = _queue_of({member.key: member.value for member in found}, raw, queue_for)
    kept = [_kept(text, member, enqueued) for member in found if member.key != "queue"]
    if enqueued is not None and not any(member.key == "enqueue_timestamp" for member in found):
        kept.append(_stamp(enqueued))
    return queue, f"{{{','.join(kept)}}}".encode("utf-8", "surrogateescape")


def _queue_of(fields: dict[str, object], raw: bytes, queue_for: Mapping[str, str]) -> str:
    name = fields.get("class")
    if not isinstance(name, str):
        raise UndecodableError(f"{raw[:80]!r} is no delayed job: it names no class")
    queue = fields.get("queue")
    if queue is None:
        queue = queue_for.get(name) or loading.queue_of(name)
    if not isinstance(queue, str) or not queue or not _is_unicode(queue):
        raise UndecodableError(f"{raw[:80]!r} cannot be enqueued: {queue!r} is no queue")
    return queue


def _is_unicode(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _kept(text: str, member: Member, enqueued: float | None) -> str:
    if member.key == "enqueue_timestamp" and enqueued is not None:
        return _stamp(enqueued)
    return text[member.start : member.end]


def _stamp(enqueued: float) -> str:
    return f'"enqueue_timestamp":{json_parser.dumps(enqueued)}'
