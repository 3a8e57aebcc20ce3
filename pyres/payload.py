"""A job's payload: how it is built, read, and what stands for it where it cannot be read."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyres import json_parser, nesting
from pyres.exceptions import UndecodableError, UnencodableError
from pyres.json_spans import values

#: The class of a placeholder: of a payload that is no job, or that Ruby could not retry.
UNDECODABLE = "<undecodable>"

#: Characters of an unreadable payload that are shown; all its bytes travel in base64.
SHOWN = 4096


def build(name: str, args: Sequence[Any], **more: Any) -> dict[str, Any]:
    """The payload of a job, its fields in the order that Ruby's byte-exact matches rely on.
    UnencodableError for arguments that are nested too deep.
    """
    nesting.check_depth(args)
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
    """The placeholder of a payload: its text to look at, and its bytes to push again. These stand
    in the arguments too, since a requeue of Ruby's keeps only class and arguments.
    """
    octets = raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogateescape")
    encoded = base64.b64encode(octets).decode()
    return {"class": UNDECODABLE, "args": [_shown(raw), encoded], "raw": encoded}


def original(raw: bytes) -> bytes:
    """The payload's bytes; of a placeholder those that it stands for."""
    # A placeholder that went through a queue may have become the content of another.
    with contextlib.suppress(UnencodableError):
        while (inner := bytes_in(raw)) is not None:
            raw = inner
    return raw


def bytes_in(raw: bytes) -> bytes | None:
    """What the placeholder in these bytes stands for; None where they are none. UnencodableError
    for a false one.
    """
    if b"undecodable" not in raw:
        return None
    try:
        found = json_parser.loads(raw)
    except UndecodableError:
        return None
    return bytes_of(found) if stands_for_bytes(found) else None


def show(raw: bytes) -> dict[str, Any]:
    """The payload in these bytes, or its placeholder."""
    raw = original(raw)
    try:
        return parse(raw)
    except UndecodableError:
        return undecodable(raw)


def look(raw: bytes) -> dict[str, Any]:
    """show() for a reader: also the class and arguments of one that is not UTF-8."""
    found = show(raw)
    if not _is_placeholder(found):
        return found
    try:
        seen = json_parser.loads(original(raw).decode("utf-8", "surrogateescape"))
    except UndecodableError:
        return found
    return seen if isinstance(seen, dict) else found


def unpacked(payload: Any, read: Callable[[bytes], dict[str, Any]] = show) -> Any:
    """The job that a placeholder stands for, where `read` can read it; else the same again."""
    if not stands_for_bytes(payload):
        return payload
    try:
        return read(bytes_of(payload))
    except UnencodableError:
        return payload


def encode(payload: Any) -> bytes:
    """The bytes that go onto a queue; for a placeholder those that it stands for.

    UnencodableError for what JSON cannot say, and for a placeholder that is a false one.
    """
    return bytes_of(payload) if stands_for_bytes(payload) else json_parser.encode(payload)


def encode_again(payload: Any) -> bytes:
    """encode() of a payload that was read, whatever it holds."""
    is_placeholder = stands_for_bytes(payload)
    return bytes_of(payload) if is_placeholder else json_parser.encode_again(payload)


def pushable(raw: bytes) -> dict[str, Any]:
    """The payload for a push() of a subclass: its placeholder where that could not encode it."""
    try:
        found = parse(raw)
        json_parser.encode(found)
    except (UndecodableError, UnencodableError):
        return undecodable(raw)
    return found


def stands_for_bytes(payload: Any) -> bool:
    """Whether this is a placeholder that says for which bytes, or tries to."""
    if not _is_placeholder(payload):
        return False
    args = payload.get("args")
    return "raw" in payload or (isinstance(args, list) and len(args) == 2)


def bytes_of(placeholder: dict[str, Any]) -> bytes:
    """The bytes that a placeholder stands for. UnencodableError for a false one."""
    encoded = placeholder["raw"] if "raw" in placeholder else placeholder["args"][1]
    try:
        return base64.b64decode(encoded, validate=True)
    except (TypeError, ValueError):
        raise UnencodableError(
            f"the bytes of an {UNDECODABLE} job are {repr(encoded)[:80]}, not base64"
        ) from None


def recordable(payload: Any, raw: bytes | None) -> Any:
    """The payload as a failure record can hold it: itself if JSON can say it and Ruby can retry it,
    else its placeholder.
    """
    if raw is not None and _is_placeholder(payload):
        return undecodable(raw)
    try:
        encoded = json_parser.encode(payload)
    except UnencodableError:
        return undecodable(repr(payload) if raw is None else raw)
    return payload if _is_ruby_safe(payload) else undecodable(encoded if raw is None else raw)


def _is_ruby_safe(payload: Any) -> bool:
    """Whether Ruby's "retry all" gets past a record of this payload."""
    if not isinstance(payload, dict) or payload.get("class") in (None, ""):
        return False
    return not nesting.is_too_deep(payload, nesting.MAX_DEPTH + 1)


def own_bytes(payload: Any, raw: bytes | None) -> bytes | None:
    """The bytes that a payload was read from, for its failure record; None if they do not say it,
    or the record has a placeholder.
    """
    if raw is None or recordable(payload, raw) is not payload:
        return None
    try:
        # As a field, so that a record which holds them can be read, too.
        said = json_parser.loads(b'{"payload":%b}' % raw)
        return raw if said == {"payload": payload} else None
    except (UndecodableError, RecursionError):
        return None


def encode_like(payload: dict[str, Any], raw: bytes | None) -> bytes:
    """The payload as JSON; each field that these bytes have with the same value as it is there."""
    parts = fields_of(raw or b"")
    said = parse(raw) if raw and parts else {}
    return joined(
        {
            name: parts[name].strip()
            if name in parts and said[name] == value
            else json_parser.encode_again(value)
            for name, value in payload.items()
        }
    )


def fields_of(raw: bytes) -> dict[str, bytes]:
    """The fields of a JSON object as their bytes; none of what is no object."""
    try:
        return values(raw)
    except ValueError:
        return {}


def text_of(raw: bytes, name: str) -> str:
    """The text in a field of a payload, also of one that cannot be read; "" where it has none."""
    try:
        found = json_parser.loads(
            fields_of(raw).get(name, b'""').decode("utf-8", "surrogateescape")
        )
    except UndecodableError:
        return ""
    return found if isinstance(found, str) else ""


def joined(fields: Mapping[str, bytes]) -> bytes:
    """The JSON object of these fields, each value as it is."""
    members = (json_parser.encode(name) + b":" + value for name, value in fields.items())
    return b"{" + b",".join(members) + b"}"


def _is_placeholder(payload: Any) -> bool:
    return isinstance(payload, dict) and payload.get("class") == UNDECODABLE


def _shown(raw: bytes | str) -> str:
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    return text.encode("utf-8", "replace").decode()[:SHOWN]
