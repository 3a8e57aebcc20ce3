"""Builds, encodes and reads payloads, and the placeholders that are shown for malformed ones."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyres import json_parser, nesting
from pyres.exceptions import UndecodableError, UnencodableError
from pyres.json_spans import values

#: The class of a placeholder, for a malformed payload or one that Ruby could not retry.
UNDECODABLE = "<undecodable>"

#: Characters of a malformed payload that are shown; all its bytes are in base64 beside them.
SHOWN = 4096


def build(name: str, args: Sequence[Any], **more: Any) -> dict[str, Any]:
    """The payload of a job, with its fields in the order that Ruby's byte-exact matches rely on.
    Raises UnencodableError for arguments that are nested too deep.
    """
    nesting.check_depth(args)
    return {"class": name, "args": list(args), **more}


def parse(raw: bytes | str) -> dict[str, Any]:
    """The payload in these bytes. Raises UndecodableError if they are not a JSON object."""
    payload = json_parser.loads(raw)
    if not isinstance(payload, dict):
        kind = type(payload).__name__
        raise UndecodableError(
            f"expected a JSON object with class and args, got a {kind}: {_shown(raw)!r}"
        )
    return payload


def undecodable(raw: bytes | str) -> dict[str, Any]:
    """The placeholder for a payload: its text, to be shown, and its bytes, to be pushed again. The
    bytes are also in the arguments, since a requeue by Ruby keeps only class and arguments.
    """
    octets = raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogateescape")
    encoded = base64.b64encode(octets).decode()
    return {"class": UNDECODABLE, "args": [_shown(raw), encoded], "raw": encoded}


def original(raw: bytes) -> bytes:
    """The payload's bytes; for a placeholder those of the original payload."""
    # A placeholder that was pushed to a queue may be inside another one.
    with contextlib.suppress(UnencodableError):
        while (inner := bytes_in(raw)) is not None:
            raw = inner
    return raw


def bytes_in(raw: bytes) -> bytes | None:
    """The original bytes of the placeholder in these bytes; None if they are not a placeholder.
    Raises UnencodableError for an invalid one.
    """
    if b"undecodable" not in raw:
        return None
    try:
        payload = json_parser.loads(raw)
    except UndecodableError:
        return None
    return bytes_of(payload) if stands_for_bytes(payload) else None


def show(raw: bytes) -> dict[str, Any]:
    """The payload in these bytes, or a placeholder for it."""
    raw = original(raw)
    try:
        return parse(raw)
    except UndecodableError:
        return undecodable(raw)


def look(raw: bytes) -> dict[str, Any]:
    """show() for display only: also decodes a payload that is not UTF-8."""
    payload = show(raw)
    if not _is_placeholder(payload):
        return payload
    try:
        lenient = json_parser.loads(original(raw).decode("utf-8", "surrogateescape"))
    except UndecodableError:
        return payload
    return lenient if isinstance(lenient, dict) else payload


def unpacked(payload: Any, read: Callable[[bytes], dict[str, Any]] = show) -> Any:
    """The original payload of a placeholder, read by `read`; any other payload unchanged, also an
    invalid placeholder.
    """
    if not stands_for_bytes(payload):
        return payload
    try:
        return read(bytes_of(payload))
    except UnencodableError:
        return payload


def encode(payload: Any) -> bytes:
    """The bytes to push to a queue; for a placeholder those of the original payload.

    Raises UnencodableError for values that JSON does not have, and for an invalid placeholder.
    """
    return bytes_of(payload) if stands_for_bytes(payload) else json_parser.encode(payload)


def encode_again(payload: Any) -> bytes:
    """encode() of a payload that was read from JSON, whatever its values."""
    is_placeholder = stands_for_bytes(payload)
    return bytes_of(payload) if is_placeholder else json_parser.encode_again(payload)


def pushable(raw: bytes) -> dict[str, Any]:
    """The payload for a subclass's push(); a placeholder if push() could not encode it."""
    try:
        payload = parse(raw)
        json_parser.encode(payload)
    except (UndecodableError, UnencodableError):
        return undecodable(raw)
    return payload


def stands_for_bytes(payload: Any) -> bool:
    """Whether this is a placeholder that has, or should have, the bytes of the original payload."""
    if not _is_placeholder(payload):
        return False
    args = payload.get("args")
    return "raw" in payload or (isinstance(args, list) and len(args) == 2)


def bytes_of(placeholder: dict[str, Any]) -> bytes:
    """The original bytes of a placeholder. Raises UnencodableError for an invalid one."""
    encoded = placeholder["raw"] if "raw" in placeholder else placeholder["args"][1]
    try:
        return base64.b64decode(encoded, validate=True)
    except (TypeError, ValueError):
        raise UnencodableError(
            f"invalid bytes {repr(encoded)[:80]} of an {UNDECODABLE} job: expected base64"
        ) from None


def recordable(payload: Any, raw: bytes | None) -> Any:
    """The payload for a failure record: the payload itself if it can be encoded as JSON and Ruby
    can retry it, else a placeholder.
    """
    if raw is not None and _is_placeholder(payload):
        return undecodable(raw)
    try:
        encoded = json_parser.encode(payload)
    except UnencodableError:
        return undecodable(repr(payload) if raw is None else raw)
    return payload if _is_ruby_safe(payload) else undecodable(encoded if raw is None else raw)


def _is_ruby_safe(payload: Any) -> bool:
    """Whether a record of this payload does not stop Ruby's "retry all"."""
    if not isinstance(payload, dict) or payload.get("class") in (None, ""):
        return False
    return not nesting.is_too_deep(payload, nesting.MAX_DEPTH + 1)


def own_bytes(payload: Any, raw: bytes | None) -> bytes | None:
    """The bytes that a payload was read from, for its failure record; None if they do not decode to
    it, or if the record has a placeholder.
    """
    if raw is None or recordable(payload, raw) is not payload:
        return None
    try:
        # As a field, to check that a record with these bytes can be decoded too.
        record = json_parser.loads(b'{"payload":%b}' % raw)
        return raw if record == {"payload": payload} else None
    except (UndecodableError, RecursionError):
        return None


def encode_like(payload: dict[str, Any], raw: bytes | None) -> bytes:
    """The payload as JSON; a field that has the same value in these bytes is copied from them."""
    parts = fields_of(raw or b"")
    former = parse(raw) if raw and parts else {}
    return joined(
        {
            name: parts[name].strip()
            if name in parts and former[name] == value
            else json_parser.encode_again(value)
            for name, value in payload.items()
        }
    )


def fields_of(raw: bytes) -> dict[str, bytes]:
    """The fields of a JSON object as their bytes; none if it is not an object."""
    try:
        return values(raw)
    except ValueError:
        return {}


def text_of(raw: bytes, name: str) -> str:
    """The string in a field of a payload, also if other fields cannot be decoded; "" if it has
    none.
    """
    try:
        value = json_parser.loads(
            fields_of(raw).get(name, b'""').decode("utf-8", "surrogateescape")
        )
    except UndecodableError:
        return ""
    return value if isinstance(value, str) else ""


def joined(fields: Mapping[str, bytes]) -> bytes:
    """The JSON object of these fields, whose values are JSON already."""
    members = (json_parser.encode(name) + b":" + value for name, value in fields.items())
    return b"{" + b",".join(members) + b"}"


def _is_placeholder(payload: Any) -> bool:
    return isinstance(payload, dict) and payload.get("class") == UNDECODABLE


def _shown(raw: bytes | str) -> str:
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    return text.encode("utf-8", "replace").decode()[:SHOWN]
