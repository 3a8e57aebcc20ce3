"""Shortens long texts: to the beginning of a value's repr, or to both ends of a text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def shortened(value: Any, limit: int) -> str:
    """repr(value), or its first `limit` characters and "..."."""
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
    """The text in at most `limit` bytes: a longer one is cut to both ends, with the number of bytes
    left out between them.
    """
    octets = text.encode("utf-8", "replace")
    if len(octets) <= limit:
        return text
    # 64 for the text between the two ends.
    kept = (limit - 64) // 2
    head, tail = (part.decode("utf-8", "ignore") for part in (octets[:kept], octets[-kept:]))
    left_out = len(octets) - len(head.encode()) - len(tail.encode())
    return f"{head} ... ({left_out} bytes left out) ... {tail}"
