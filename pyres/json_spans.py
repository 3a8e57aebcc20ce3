"""Where each member of a JSON object stands in its text, to cut one out or keep it as it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import simplejson

_decode = simplejson.JSONDecoder().raw_decode
_blanks = re.compile(r"[ \t\n\r]*").match
_brackets = re.compile(r'[][{}]|"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL).finditer


class Member(NamedTuple):
    """One `"key":value`, the span of the text that holds it, and the span between its colon and
    the next mark, which is the value with the blanks around it.
    """

    key: str
    value: Any
    start: int
    end: int
    value_start: int
    value_end: int


def members(text: str) -> list[Member]:
    """The members of the object that is the whole text, in order. ValueError for another text."""
    return _members(text, _decode)


def _members(text: str, decode: Callable[[str, int], tuple[Any, int]]) -> list[Member]:
    found: list[Member] = []
    at = _past(text, _skip(text, 0), "{")
    if text[at : at + 1] == "}":
        _check_end(text, at + 1)
        return found
    while True:
        start = at
        if text[start : start + 1] != '"':
            raise ValueError(f"a key is missing at character {start}")
        key, at = _decode(text, start)
        colon = _skip(text, at)
        value, end = decode(text, _past(text, colon, ":"))
        at = _skip(text, end)
        found.append(Member(key, value, start, end, colon + 1, at))
        if text[at : at + 1] == "}":
            _check_end(text, at + 1)
            return found
        at = _past(text, at, ",")


def values(raw: bytes) -> dict[str, bytes]:
    """The values of the object that is the whole text, each as its bytes with the blanks around it:
    also one that is no UTF-8, or nested too deep to be decoded. ValueError for other bytes.
    """
    text = raw.decode("utf-8", "surrogateescape")
    return {
        member.key: text[member.value_start : member.value_end].encode("utf-8", "surrogateescape")
        for member in _members(text, _passed)
    }


def have_blanks(values: Mapping[str, bytes]) -> bool:
    """Whether a program wrote these values of an object that puts a blank before each: then the
    blanks around one are not its own.
    """
    return next(iter(values.values()))[:1].isspace()


def _passed(text: str, at: int) -> tuple[None, int]:
    """Where the value that begins at a character ends."""
    try:
        return None, _decode(text, at)[1]
    except RecursionError:
        return None, _closed(text, at)


def _closed(text: str, at: int) -> int:
    """Where the bracket that opens at a character is closed."""
    depth = 0
    for found in _brackets(text, at):
        depth += (found[0] in "[{") - (found[0] in "]}")
        if not depth:
            return found.end()
    raise ValueError(f"the value at character {at} has no end")


def _skip(text: str, at: int) -> int:
    match = _blanks(text, at)
    assert match  # it matches nothing at all, too
    return match.end()


def _past(text: str, at: int, sign: str) -> int:
    if text[at : at + 1] != sign:
        raise ValueError(f"{sign!r} is missing at character {at}")
    return _skip(text, at + 1)


def _check_end(text: str, at: int) -> None:
    if _skip(text, at) != len(text):
        raise ValueError(f"more than one value: something follows at character {at}")
