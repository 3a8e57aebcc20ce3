"""Names as Redis holds them (bytes, perhaps not UTF-8) and as Python does."""

from __future__ import annotations


def text(value: bytes | str) -> str:
    """The name as str; bytes that are no UTF-8 survive the way back."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
