"""Byte spans of the members of a JSON object, to edit one without re-encoding the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import simplejson

_decode = simplejson.JSONDecoder().raw_decode
_blanks = re.compile(r"[ \t\n\r]*").match
_brackets = re.compile(r'[][{}]|"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL).finditer


class Member(NamedTuple):
    """One `"key":value`, its span in the text, and the span of its value with the white space
    around it.
    """

    key: str
    value: Any
    start: int
    end: int
    value_start: int
    value_end: int


def members(text: str) -> list[Member]:
    """The members of the object that is the whole text, in order. ValueError if it is not one."""
    return _members(text, _decode)


def _members(text: str, decode: Callable[[str, int], tuple[Any, int]]) -> list[Member]:
    found_members: list[Member] = []
    at = _past(text, _skip(text, 0), "{")
    if text[at : at + 1] == "}":
        _check_end(text, at + 1)
        return found_members
    while True:
        start = at
        if text[start : start + 1] != '"':
            raise ValueError(f"a key is missing at character {start}")
        key, at = _decode(text, start)
        colon = _skip(text, at)
        value, end = decode(text, _past(text, colon, ":"))
        at = _skip(text, end)
        found_members.append(Member(key, value, start, end, colon + 1, at))
        if text[at : at + 1] == "}":
            _check_end(text, at + 1)
            return found_members
        at = _past(text, at, ",")


def values(raw: bytes) -> dict[str, bytes]:
    """The values of the object that is the whole text, each as its bytes with the white space
    around it, also if it is not UTF-8 or nested too deep to be decoded. ValueError for other bytes.
    """
    text = raw.decode("utf-8", "surrogateescape")
    return {
        member.key: text[member.value_start : member.value_end].encode("utf-8", "surrogateescape")
        for member in _members(text, _passed)
    }


def have_blanks(values: Mapping[str, bytes]) -> bool:
    """Whether these values come from a program that writes a space before each value: then the
    white space around a value is not part of it.
    """
    return next(iter(values.values()))[:1].isspace()


def _passed(text: str, at: int) -> tuple[None, int]:
    """The end of the value that begins at a character."""
    try:
        return None, _decode(text, at)[1]
    except RecursionError:
        return None, _closed(text, at)


def _closed(text: str, at: int) -> int:
    """The end of the list or object that begins at a character."""
    depth = 0
    for match in _brackets(text, at):
        depth += (match[0] in "[{") - (match[0] in "]}")
        if not depth:
            return match.end()
    raise ValueError(f"the value at character {at} has no end")


def _skip(text: str, at: int) -> int:
    match = _blanks(text, at)
    assert match  # it also matches the empty text
    return match.end()


def _past(text: str, at: int, sign: str) -> int:
    if text[at : at + 1] != sign:
        raise ValueError(f"{sign!r} is missing at character {at}")
    return _skip(text, at + 1)


def _check_end(text: str, at: int) -> None:
    if _skip(text, at) != len(text):
        raise ValueError(f"more than one value: something follows at character {at}")
