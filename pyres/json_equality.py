"""The one comparison of jobs by their JSON values.

`true` is not equal to 1. The order of an object's keys does not matter, nor how a string is
escaped. 1 and 1.0 are different, as in Ruby, except in a payload that JavaScript may have written:
that has one kind of number, and writes 1.0 as 1. It is one that does not begin with class and args,
as those of pyres and Ruby do. A date is compared as its string.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import simplejson

from pyres import json_parser
from pyres.exceptions import UndecodableError, UnencodableError

#: The members of a payload that node-resque wrote, or promoted, in its order.
JAVASCRIPT_MEMBERS = ["class", "queue", "args"]

#: The first members of a payload that pyres or Ruby wrote.
FIRST_MEMBERS = ["class", "args"]

_written = simplejson.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, sort_keys=True, allow_nan=True
).encode


#: JSON of all values that can be read from a payload, also of numbers beyond floats.
_lenient = simplejson.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, allow_nan=True, default=json_parser.dumps
).encode


def _whole_as_int(digits: str) -> int | float:
    value = float(digits)
    return int(value) if value.is_integer() else value


#: JSON decoders that read -0.0 as 0.0; the second also reads whole numbers as ints.
_read = simplejson.JSONDecoder(
    parse_float=lambda digits: float(digits) or 0.0, allow_nan=True
).decode
_read_as_javascript = simplejson.JSONDecoder(parse_float=_whole_as_int, allow_nan=True).decode


def canonical(value: Any, javascript: bool = False) -> bytes:
    """The same text for all equal values of json_parser.plain(); with `javascript` those are equal
    that JavaScript writes in the same way.
    """
    text = _written(value)
    if javascript and ("." in text or "e" in text):
        text = _written(_read_as_javascript(text))
    elif "-0.0" in text:
        text = _written(_read(text))
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Two adjacent halves of a surrogate pair are one character.
        joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        return joined.encode("utf-8", "surrogatepass")


def are_equal(first: bytes, second: bytes) -> bool:
    """Whether two payloads are equal; if they are not JSON, whether their bytes are the same."""
    try:
        return canonical(json_parser.plain(first)) == canonical(json_parser.plain(second))
    except (UndecodableError, RecursionError):
        return first == second


def digest(name: str, args: Sequence[Any], javascript: bool = False) -> str:
    """The same text for equal classes and arguments. Raises UnencodableError for arguments that no
    payload can have.
    """
    try:
        values = json_parser.plain(json_parser.dumps([name, list(args)]))
    except UnencodableError:
        values = _beyond_json([name, list(args)])
    return hashlib.sha1(canonical(values, javascript), usedforsecurity=False).hexdigest()


def _beyond_json(values: Any) -> Any:
    """The values with numbers beyond floats, such as 1e400, as read from JSON; UnencodableError for
    other values.
    """
    try:
        return _read(_lenient(values))
    except (TypeError, ValueError, RecursionError):
        raise UnencodableError(f"invalid {type(values).__name__}: expected JSON") from None


def job_filter(
    name: str, args: Sequence[Any] | None, queue: str | None = None
) -> Callable[[bytes], bool]:
    """A function that checks whether a payload is a job of this class, with these arguments and
    this queue unless they are None.

    Raises UnencodableError for arguments that no payload can have.
    """
    arguments = None if args is None else _Arguments(args)
    # Only payloads that contain the name are decoded, unless JSON may escape the name.
    part = name.encode() if name.isascii() and "/" not in name else b""

    def chosen(raw: bytes) -> bool:
        if part not in raw:
            return False
        try:
            item = json_parser.plain(raw)
        except UndecodableError:
            return False
        return (
            isinstance(item, dict)
            and item.get("class") == name
            and queue in (None, item.get("queue"))
            and (arguments is None or arguments.are_those_of(item))
        )

    return chosen


class _Arguments:
    """The arguments of jobs to find."""

    def __init__(self, args: Sequence[Any]) -> None:
        values = json_parser.plain(json_parser.dumps(list(args)))
        self._exact, self._javascript = canonical(values), canonical(values, javascript=True)

    def are_those_of(self, item: dict[str, Any]) -> bool:
        """Whether a payload has equal arguments."""
        args = item.get("args")
        by_javascript = list(item)[:2] != FIRST_MEMBERS
        expected = self._javascript if by_javascript else self._exact
        try:
            return canonical([] if args is None else args, by_javascript) == expected
        except RecursionError:
            return False
