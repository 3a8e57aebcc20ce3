"""A job's payload: how it is built, read, and stood in for when it cannot be read."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from pyres import json_parser
from pyres.exceptions import UndecodableError, UnencodableError

#: The class that a failure record shows for a payload that is no job.
UNDECODABLE = "<undecodable>"

#: Characters of an unreadable payload that are shown; all its bytes travel in `raw`.
SHOWN = 4096


def build(name: str, args: Sequence[Any], **more: Any) -> dict[str, Any]:
    """The payload of a job, its fields in the order that Ruby's byte-exact matches rely on."""
    return {"class": name, "args": list(args), **more}


def parse(raw: bytes | str) -> dict[str, Any]:
    """The payload in these bytes. Raises UndecodableError for what is not a JSON object."""
    payload = json_parser.loads(raw)
    if not isinstance(payload, dict):
        kind = type(payload).__name__
        raise UndecodableError(
            f"a job is a JSON object with class and args, not a {kind}: {_shown(raw)!r}"
        )
    return payload


def undecodable(raw: bytes | str) -> dict[str, Any]:
    """The stand-in for a payload that cannot be read: its text to look at, its bytes to
    push again.
    """
    octets = raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogateescape")
    encoded = base64.b64encode(octets).decode()
    return {"class": UNDECODABLE, "args": [_shown(raw)], "raw": encoded}


def show(raw: bytes | str) -> dict[str, Any]:
    """The payload in these bytes, or its stand-in."""
    try:
        return parse(raw)
    except UndecodableError:
        return undecodable(raw)


def encode(payload: Any) -> bytes:
    """The bytes that go onto a queue; for a stand-in those that it stands for.

    UnencodableError for what JSON cannot say, and for a stand-in that is a false one.
    """
    if not stands_for_bytes(payload):
        return json_parser.encode(payload)
    try:
        return base64.b64decode(payload["raw"], validate=True)
    except (TypeError, ValueError):
        shown = repr(payload["raw"])[:80]
        raise UnencodableError(
            f"the bytes of an {UNDECODABLE} job are {shown}, not base64"
        ) from None


def stands_for_bytes(payload: Any) -> bool:
    """Whether this is a stand-in, which encode() makes the bytes of that it stands for."""
    return _is_stand_in(payload) and "raw" in payload


def recordable(payload: Any, raw: bytes | None) -> Any:
    """The payload as a failure record can hold it: itself if JSON can say it and Resque's pages
    read it.
    """
    if raw is not None and (not isinstance(payload, dict) or _is_stand_in(payload)):
        return undecodable(raw)
    try:
        json_parser.encode(payload)
    except UnencodableError:
        return undecodable(repr(payload) if raw is None else raw)
    return payload


def own_bytes(payload: Any, raw: bytes | None) -> bytes | None:
    """The bytes that a payload was read from; None if they do not say it, or are no JSON."""
    if raw is None or not isinstance(payload, dict) or _is_stand_in(payload):
        return None
    try:
        # As a field, so that a record which holds them can be read, too.
        said = json_parser.loads(b'{"payload":%b}' % raw)
        return raw if said == {"payload": payload} else None
    except (UndecodableError, RecursionError):
        return None


def _is_stand_in(payload: Any) -> bool:
    return isinstance(payload, dict) and payload.get("class") == UNDECODABLE


def _shown(raw: bytes | str) -> str:
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    return text.encode("utf-8", "replace").decode()[:SHOWN]
