"""Names in Redis (bytes, possibly not UTF-8) and in Python (str)."""

from __future__ import annotations


def text(value: bytes | str) -> str:
    """The name as str; spelt() restores bytes that are not UTF-8."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def spelt(name: str) -> str | bytes:
    """The name for redis-py to send: with its original bytes, even if these are not UTF-8."""
    return name if name.isascii() else name.encode("utf-8", "surrogateescape")
