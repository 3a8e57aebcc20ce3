"""The JSON of plain values by msgspec, if it is installed: the same as by simplejson, but faster.

msgspec also encodes types that pyres refuses (bytes, UUID, Enum), writes NaN as null, and writes
other digits than Ruby for large and small floats. So each exact type is checked first, and
simplejson handles every value that is not plain, or for which msgspec raises an error.
"""

from __future__ import annotations

from typing import Any

try:
    import msgspec
except ImportError:  # the extra `fast` is not installed
    msgspec = None  # type: ignore[assignment]

#: Nesting up to which msgspec is used: far below Python's recursion limit, near which the two
#: libraries fail at slightly different depths.
MAX_DEPTH = 500

#: Floats between these, and 0, have the same digits in msgspec, Python and Ruby.
MIN_PLAIN_FLOAT, MAX_PLAIN_FLOAT = 1e-4, 1e15

_LEAVES = frozenset({str, int, bool, type(None)})
_KEYS = frozenset({str})

#: msgspec's functions, or None: then simplejson does everything.
encoder = msgspec.json.Encoder().encode if msgspec else None
decoder = msgspec.json.Decoder().decode if msgspec else None


def encode(values: Any) -> bytes | None:
    """The JSON of plain values; None if simplejson has to encode them."""
    if encoder is None:
        return None
    try:
        return encoder(values) if _is_plain(values, MAX_DEPTH) else None
    except (ValueError, RuntimeError):  # a lone surrogate, an int of 5,000 digits, no stack left
        return None


def decode(text: str) -> tuple[Any] | None:
    """The value in some JSON, in a tuple; None if simplejson has to decode it."""
    if decoder is None or type(text) is not str:
        return None
    if text.count("[") + text.count("{") > MAX_DEPTH:  # an upper bound of its nesting, and fast
        return None
    try:
        return (decoder(text),)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _is_plain(value: Any, depth: int) -> bool:
    """Whether msgspec writes this value with the same bytes as simplejson does."""
    kind = type(value)
    if kind is dict:
        if not _KEYS.issuperset(map(type, value)):
            return False
        items = value.values()
    elif kind is list or kind is tuple:
        items = value
    else:
        return kind in _LEAVES or (kind is float and _is_plain_float(value))
    if not depth:
        return False
    for item in items:  # noqa: SIM110 - all() over a generator takes longer
        if type(item) not in _LEAVES and not _is_plain(item, depth - 1):
            return False
    return True


def _is_plain_float(value: float) -> bool:
    return MIN_PLAIN_FLOAT <= abs(value) < MAX_PLAIN_FLOAT or value == 0
