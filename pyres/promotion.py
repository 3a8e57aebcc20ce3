"""The payload of a delayed job, as it is pushed onto its queue when it is due."""

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
    """The queue and the payload of a delayed job. The queue is the one in the payload, else that of
    its class in `queue_for`, else that of the class itself if that is imported here.

    The payload loses that field and keeps all others byte for byte; `enqueued` (epoch seconds)
    becomes its enqueue_timestamp. Raises UndecodableError for what no worker could perform.
    """
    try:
        text = raw.decode("utf-8", "surrogateescape")
        fields = members(text)
    except (ValueError, RecursionError) as error:
        raise UndecodableError(f"invalid delayed job {raw[:80]!r}: {error}") from None
    queue = _queue_of({member.key: member.value for member in fields}, raw, queue_for)
    kept = [_kept(text, member, enqueued) for member in fields if member.key != "queue"]
    if enqueued is not None and not any(member.key == "enqueue_timestamp" for member in fields):
        kept.append(_stamp(enqueued))
    return queue, f"{{{','.join(kept)}}}".encode("utf-8", "surrogateescape")


def _queue_of(fields: dict[str, object], raw: bytes, queue_for: Mapping[str, str]) -> str:
    name = fields.get("class")
    if not isinstance(name, str):
        raise UndecodableError(f"invalid delayed job {raw[:80]!r}: expected the name of a class")
    queue = fields.get("queue")
    if queue is None:
        queue = queue_for.get(name) or loading.queue_of(name)
    if not isinstance(queue, str) or not queue or not json_parser.is_unicode(queue):
        raise UndecodableError(
            f"invalid queue name {queue!r} of the delayed job {raw[:80]!r}: expected a non-empty "
            "string"
        )
    return queue


def _kept(text: str, member: Member, enqueued: float | None) -> str:
    if member.key == "enqueue_timestamp" and enqueued is not None:
        return _stamp(enqueued)
    return text[member.start : member.end]


def _stamp(enqueued: float) -> str:
    return f'"enqueue_timestamp":{json_parser.dumps(enqueued)}'
