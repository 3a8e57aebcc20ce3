"""Python values to the JSON that Ruby reads and back; dates as pyres 1.5 wrote them.

A datetime is written as the string `@D:2026-11-23T16:01:08`, followed by its microseconds and time
zone if it has them, so that it is read back equal. A user's string that looks like one is written
with the prefix twice, and read with one prefix removed: an old reader keeps it a string.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import re
import sys
from collections.abc import Callable
from typing import Any

import simplejson

from pyres import plain_json
from pyres.exceptions import UndecodableError, UnencodableError
from pyres.former_names import former_names

DATE_FORMAT = "%Y-%m-%dT%H:%M:%S"
DATE_PREFIX = "@D:"

_DATE = re.compile(
    r"@D:(\d{1,4})(-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:[+-]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)?)\Z"
)
_ESCAPED = DATE_PREFIX + DATE_PREFIX

#: Where Ruby's digits may differ from Python's: an exponent, or sixteen digits before the point.
#: Each pattern begins with a rare character and a look-behind: one that begins with a digit is
#: tried at each character, which takes longer than the encoding.
_EXPONENT = re.compile(r"e[-+](?<=\d..)\d")
_LONG_WHOLE = re.compile(r"\.(?<=\d{16}.)")

#: The white space of JSON; the scanner skips it inside a value, but not before it.
_BLANKS = " \t\n\r"

#: Levels of nesting that are searched for the value that cannot be encoded; more are an error.
DEEPEST = 200


class CustomJSONEncoder(simplejson.JSONEncoder):
    """simplejson's encoder, set to Resque's wire format; a public name of pyres 1.5."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
            encoding=None,  # type: ignore[arg-type] # bytes are refused
            use_decimal=False,
            namedtuple_as_object=False,
            for_json=False,
        )

    def default(self, o: Any) -> Any:
        """A datetime as its text."""
        if isinstance(o, datetime.datetime):
            return _date_text(o)
        raise TypeError(f"{type(o).__name__} is not JSON")

    def encode(self, o: Any) -> str:
        """The JSON of a value. Raises UnencodableError, which names what cannot be encoded, and
        where.
        """
        return dumps(o)


class CustomJSONDecoder(simplejson.JSONDecoder):
    """simplejson's decoder that also restores dates; a public name of pyres 1.5."""

    def decode(self, s: str | bytes, *_args: Any, **_kwargs: Any) -> Any:
        return loads(s)


_encode = super(CustomJSONEncoder, CustomJSONEncoder()).encode
_ascii_encode = simplejson.JSONEncoder(
    separators=(",", ":"), default=CustomJSONEncoder().default
).encode
_decoder = simplejson.JSONDecoder()


def dumps(values: Any) -> str:
    """Values as compact JSON with raw UTF-8, as Ruby's json writes them.

    Raises UnencodableError, which names the place, for NaN, bytes, sets, objects and the like.
    """
    try:
        text: str = _encode(values)
        # Payloads with a date, or a float that Ruby writes in another way, are rare; a search of
        # the text is faster than a walk over the values.
        if '"@D:' in text or _ruby_may_differ(text):
            text = _encode(_wire(values))
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise _unencodable(values, error) from None
    return text


def encode(values: Any) -> bytes:
    """dumps() as bytes, for Redis."""
    raw = plain_json.encode(values)
    if raw is not None and b'"@D:' not in raw:
        return raw
    try:
        return dumps(values).encode()
    except UnicodeEncodeError as error:
        raise _unencodable(values, error) from None


def is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogate: neither one from JSON nor a byte that is not UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def encode_again(values: Any) -> bytes:
    """encode() of what loads() returned, also of values that encode() refuses: half of a surrogate
    pair, and numbers beyond floats.
    """
    try:
        return encode(values)
    except UnencodableError:
        text: str = _ascii_encode(_with_infinities(_wire(values)))
        return text.encode()


def _with_infinities(value: Any) -> Any:
    if isinstance(value, float):
        return simplejson.RawJSON("1e400" if value > 0 else "-1e400")
    if isinstance(value, dict):
        return {key: _with_infinities(item) for key, item in value.items()}
    return [_with_infinities(item) for item in value] if isinstance(value, list) else value


def loads(string: str | bytes) -> Any:
    """The value in some JSON, dates restored. Raises UndecodableError."""
    return _read(string, _restored)


def plain(string: str | bytes) -> Any:
    """The value in some JSON, dates as the strings in it. Raises UndecodableError."""
    return _read(string, None)


def _read(string: str | bytes, restore: Callable[[Any], Any] | None) -> Any:
    try:
        text = string.decode() if isinstance(string, bytes | bytearray) else string
        values = _decoded(text)
        if restore and '"@D:' in text:
            values = restore(values)
    except (ValueError, RecursionError, TypeError) as error:
        reason = "too deeply nested" if isinstance(error, RecursionError) else error
        raise UndecodableError(f"{string[:80]!r} is not JSON: {reason}") from None
    return values


def _decoded(text: str) -> Any:
    """The same as simplejson's decode(), nearly always by one call of C."""
    if plain := plain_json.decode(text):
        return plain[0]
    start = len(text) - len(text.lstrip(_BLANKS)) if text[:1] in _BLANKS else 0
    try:
        value, end = _decoder.scan_once(text, start)
    except StopIteration:
        return _decoder.decode(text)
    return value if end == len(text) else _decoder.decode(text)


def _ruby_may_differ(text: str) -> bool:
    if ("e-" in text or "e+" in text) and _EXPONENT.search(text):
        return True
    return bool(_LONG_WHOLE.search(text))


def ruby_float(value: float) -> str:
    """A finite float with the digits that Ruby's json 2.6.1 writes: 1.0e+20, 0.1, -0.0."""
    sign = "-" if math.copysign(1, value) < 0 else ""
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).strip("0") if value else ""
    if not digits:
        return f"{sign}0.0"
    stripped = len(whole + fraction) - len((whole + fraction).lstrip("0"))
    point = len(whole) + int(exponent or 0) - stripped
    if 0 < point <= 15 or (point == 16 and len(digits) == 17):
        return f"{sign}{digits[:point].ljust(point, '0')}.{digits[point:] or '0'}"
    if -4 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    return f"{sign}{digits[0]}.{digits[1:] or '0'}e{point - 1:+03d}"


def _date_text(moment: datetime.datetime) -> str:
    return DATE_PREFIX + moment.isoformat(
        timespec="microseconds" if moment.microsecond else "seconds"
    )


def _wire(value: Any) -> Any:
    """The same value with its floats as Ruby writes them, and strings that look like dates marked
    with a second prefix.
    """
    if isinstance(value, str):
        marked = _DATE.match(value) or value.startswith(_ESCAPED)
        return DATE_PREFIX + value if marked else value
    if isinstance(value, float) and math.isfinite(value):
        return simplejson.RawJSON(ruby_float(value))
    if isinstance(value, dict):
        return {key: _wire(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_wire(item) for item in value]
    return value


def _restored(value: Any) -> Any:
    """The same value with its dates as datetimes."""
    if isinstance(value, str):
        return _date_or_text(value) if value.startswith(DATE_PREFIX) else value
    if isinstance(value, dict):
        return {key: _restored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_restored(item) for item in value]
    return value


def _date_or_text(value: str) -> datetime.datetime | str:
    if value.startswith(_ESCAPED):
        return value.removeprefix(DATE_PREFIX)
    if match := _DATE.match(value):
        with contextlib.suppress(ValueError):  # the 30th of February remains a string
            return datetime.datetime.fromisoformat(match[1].zfill(4) + match[2])
    return value


def _unencodable(values: Any, error: Exception) -> UnencodableError:
    """The error that names the first value that cannot be encoded, and its place."""
    fault = _fault(values, "", 0)
    return UnencodableError(fault or f"{type(values).__name__} cannot be written as JSON: {error}")


def _fault(value: Any, place: str, depth: int) -> str | None:
    if depth > DEEPEST:
        return f"{place[:60]}… is nested deeper than {DEEPEST} levels, or contains itself"
    if isinstance(value, dict):
        return _fault_in_dict(value, place, depth)
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if fault := _fault(item, f"{place}[{index}]", depth + 1):
                return fault
        return None
    return _fault_of_leaf(value, place or "the value")


def _fault_in_dict(value: dict[Any, Any], place: str, depth: int) -> str | None:
    for key, item in value.items():
        if not (key is None or isinstance(key, str | int | float)):
            kind, shown = type(key).__name__, _safe_repr(key)
            return f"{place or 'the value'} has the key {shown} of type {kind}: expected a str"
        if fault := _fault_of_leaf(key, f"a key of {place or 'the value'}"):
            return fault
        inner = f"{place}[{key!r}]" if place else str(key)
        if fault := _fault(item, inner, depth + 1):
            return fault
    return None


#: What to pass in place of a value that JSON cannot represent.
_INSTEAD = {
    "bytes": "decode it, or base64 it",
    "Decimal": "str(value) keeps its digits",
    "date": "pass a datetime, or str(value)",
    "time": "pass a datetime, or str(value)",
    "timedelta": "value.total_seconds() is a number",
    "UUID": "str(value)",
    "set": "list(value)",
    "frozenset": "list(value)",
}


def _fault_of_leaf(value: Any, place: str) -> str | None:
    if value is None or isinstance(value, datetime.datetime):
        return None
    if isinstance(value, int):
        return _fault_of_int(value, place)
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{place} is {value}: expected a finite number"
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return f"{place} is not valid Unicode (a lone surrogate at {error.start})"
        return None
    kind = type(value).__name__
    instead = _INSTEAD.get(kind, "pass str, int, float, bool, None, list, dict or datetime")
    return f"{place} is {_safe_repr(value)} of type {kind}, which JSON does not have: {instead}"


def _fault_of_int(value: int, place: str) -> str | None:
    try:
        int.__repr__(value)
    except ValueError:
        limit = sys.get_int_max_str_digits()
        return f"{place} is an int of more than {limit} digits: hex(value) keeps its digits"
    return None


def _safe_repr(value: Any) -> str:
    try:
        return repr(value)[:60]
    except Exception:  # noqa: BLE001 - __repr__ is the application's code
        return "something"


__getattr__ = former_names(
    __name__,
    {
        "string_types": "pyres.former_names:string_types",
    },
)
