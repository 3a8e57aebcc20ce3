"""A part of a long text: the beginning of a value's repr, or both ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def shortened(value: Any, limit: int) -> str:
    """repr(value), or its first `limit` characters and a mark."""
    text = ""
    for piece in _pieces(value, limit + 1):
        text += piece
        if len(text) > limit:
            return text[:limit] + "..."
    return text


def _pieces(value: Any, limit: int) -> Iterator[str]:
    if type(value) is list:
        yield "["
        for number, item in enumerate(value):
            yield ", " if number else ""
            yield from _pieces(item, limit)
        yield "]"
    elif type(value) is dict:
        yield "{"
        for number, (key, item) in enumerate(value.items()):
            yield ", " if number else ""
            yield from _pieces(key, limit)
            yield ": "
            yield from _pieces(item, limit)
        yield "}"
    elif type(value) is str and len(value) > limit:
        yield repr(value[:limit])
    else:
        yield repr(value)


def cut(text: str, limit: int) -> str:
    """The text in at most so many bytes; of a longer one both ends, with how much is left out."""
    octets = text.encode("utf-8", "replace")
    if len(octets) <= limit:
        return text
    # Room for the sentence between them.
    kept = (limit - 64) // 2
    head, tail = (part.decode("utf-8", "ignore") for part in (octets[:kept], octets[-kept:]))
    left_out = len(octets) - len(head.encode()) - len(tail.encode())
    return f"{head} ... ({left_out} bytes left out) ... {tail}"
