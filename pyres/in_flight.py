"""Parses an in-flight record (`worker:<id>`) of pyres, Ruby or node-resque."""

from __future__ import annotations

from typing import Any, NamedTuple

from pyres import json_parser
from pyres.json_spans import have_blanks, values


class InFlight(NamedTuple):
    """The queue and the payload of a running job, byte for byte, and its start time as written."""

    queue: str
    payload: bytes
    run_at: Any


def read(record: bytes) -> InFlight | None:
    """A parsed record, whose fields may have any order; None for a malformed one."""
    try:
        fields = values(record)
    except ValueError:
        return _around_malformed_payload(record)
    payload = fields.get("payload")
    if payload is not None and have_blanks(fields):
        payload = payload.strip()
    return _in_flight(fields, payload)


def _around_malformed_payload(record: bytes) -> InFlight | None:
    """A record of pyres, which has its payload last, if only the payload is not valid JSON."""
    head, marker, rest = record.partition(b',"payload":')
    try:
        return _in_flight(values(head + b"}"), rest[:-1]) if marker else None
    except ValueError:
        return None


def _in_flight(fields: dict[str, bytes], payload: bytes | None) -> InFlight | None:
    queue, run_at = _decoded(fields.get("queue")), _decoded(fields.get("run_at"))
    if payload is None or not isinstance(queue, str):
        return None
    return InFlight(queue, payload, run_at)


def _decoded(value: bytes | None) -> Any:
    return None if value is None else json_parser.loads(value.decode("utf-8", "surrogateescape"))
