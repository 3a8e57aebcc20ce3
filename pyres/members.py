"""Where each member of a JSON object stands in its text, to cut one out or keep it as it is."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import simplejson

_decode = simplejson.JSONDecoder().raw_decode
_blanks = re.compile(r"[ \t\n\r]*").match


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
        value, end = _decode(text, _past(text, colon, ":"))
        at = _skip(text, end)
        found.append(Member(key, value, start, end, colon + 1, at))
        if text[at : at + 1] == "}":
            _check_end(text, at + 1)
            return found
        at = _past(text, at, ",")


def values(raw: bytes) -> dict[str, bytes]:
    """The values of the object that is the whole text, each as its bytes with the blanks around it.
    ValueError or RecursionError for other bytes.
    """
    text = raw.decode()
    return {
        member.key: text[member.value_start : member.value_end].encode() for member in members(text)
    }


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
