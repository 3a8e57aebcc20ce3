"""What is equal in JSON: the one comparison of jobs by their values.

`true` is not 1. The order of an object's keys does not matter, nor how a text is escaped. 1 and 1.0
are different, as for Ruby, but in a payload that JavaScript may have written, which does not begin
with class and args as pyres' and Ruby's do: it has one kind of number, and writes 1.0 as 1. A date
is the text that stands for it.
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

#: With these a payload begins that pyres or Ruby wrote.
FIRST_MEMBERS = ["class", "args"]

_written = simplejson.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, sort_keys=True, allow_nan=True
).encode


#: JSON of all values that a payload can be read as, also of numbers beyond floats.
_lenient = simplejson.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, allow_nan=True, default=json_parser.dumps
).encode


def _whole_as_int(digits: str) -> int | float:
    value = float(digits)
    return int(value) if value.is_integer() else value


#: Readers of JSON whose -0.0 is 0.0; JavaScript's whole numbers are ints besides.
_read = simplejson.JSONDecoder(
    parse_float=lambda digits: float(digits) or 0.0, allow_nan=True
).decode
_read_as_javascript = simplejson.JSONDecoder(parse_float=_whole_as_int, allow_nan=True).decode


def canonical(value: Any, javascript: bool = False) -> bytes:
    """The one text for a value of json_parser.plain() and all that are equal to it; with
    `javascript` equal where JavaScript writes both alike.
    """
    text = _written(value)
    if javascript and ("." in text or "e" in text):
        text = _written(_read_as_javascript(text))
    elif "-0.0" in text:
        text = _written(_read(text))
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Two halves of a surrogate pair that stand side by side are one character.
        joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        return joined.encode("utf-8", "surrogatepass")


def are_equal(first: bytes, second: bytes) -> bool:
    """Whether two payloads are equal; those that are no JSON, whether they are the same bytes."""
    try:
        return canonical(json_parser.plain(first)) == canonical(json_parser.plain(second))
    except (UndecodableError, RecursionError):
        return first == second


def digest(name: str, args: Sequence[Any], javascript: bool = False) -> str:
    """A text that is the same for equal classes and arguments. UnencodableError for arguments that
    no payload can have.
    """
    try:
        values = json_parser.plain(json_parser.dumps([name, list(args)]))
    except UnencodableError:
        values = _beyond_json([name, list(args)])
    return hashlib.sha1(canonical(values, javascript), usedforsecurity=False).hexdigest()


def _beyond_json(values: Any) -> Any:
    """The values that a payload has as 1e400 and the like; UnencodableError for others."""
    try:
        return _read(_lenient(values))
    except (TypeError, ValueError, RecursionError):
        raise UnencodableError(f"invalid {type(values).__name__}: expected JSON") from None


def job_filter(
    name: str, args: Sequence[Any] | None, queue: str | None = None
) -> Callable[[bytes], bool]:
    """Whether a payload is a job of this class, and has these arguments and this queue, if given.

    UnencodableError for arguments that no queue can hold.
    """
    wanted = None if args is None else _Arguments(args)
    # What cannot hold the name is not read; a name that JSON may escape is looked for in all.
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
            and (wanted is None or wanted.are_those_of(item))
        )

    return chosen


class _Arguments:
    """Arguments that jobs are looked for by."""

    def __init__(self, args: Sequence[Any]) -> None:
        values = json_parser.plain(json_parser.dumps(list(args)))
        self._exact, self._javascript = canonical(values), canonical(values, javascript=True)

    def are_those_of(self, item: dict[str, Any]) -> bool:
        """Whether a payload has equal ones."""
        args = item.get("args")
        by_javascript = list(item)[:2] != FIRST_MEMBERS
        wanted = self._javascript if by_javascript else self._exact
        try:
            return canonical([] if args is None else args, by_javascript) == wanted
        except RecursionError:
            return False
