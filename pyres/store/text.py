"""Names as Redis holds them (bytes, perhaps not UTF-8) and as Python does."""

from __future__ import annotations


def text(value: bytes | str) -> str:
    """The name as str; bytes that are no UTF-8 survive the way back."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def spelt(name: str) -> str | bytes:
    """The name as redis-py can send it: one that was no UTF-8 goes out with the bytes it
    came with.
    """
    return name if name.isascii() else name.encode("utf-8", "surrogateescape")
