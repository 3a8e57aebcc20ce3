"""Reading times as Ruby, Node, PHP, Go, Java and pyres write them into Redis."""

from __future__ import annotations

import contextlib
import functools
import re
import time
from datetime import UTC, datetime, timedelta, timezone, tzinfo

#: The hours from UTC of zone names. For a name that several countries use it is the one that Ruby's
#: Date uses, unless this machine's own zone has that name.
ZONES = {
    "WET": 0,
    "WEST": 1,
    "BST": 1,
    "CET": 1,
    "MET": 1,
    "WAT": 1,
    "CEST": 2,
    "MEST": 2,
    "EET": 2,
    "CAT": 2,
    "SAST": 2,
    "EEST": 3,
    "EAT": 3,
    "IDT": 3,
    "MSK": 3,
    "IRST": 3.5,
    "MSD": 4,
    "PKT": 5,
    "IST": 5.5,
    "NPT": 5.75,
    "ICT": 7,
    "WIB": 7,
    "AWST": 8,
    "HKT": 8,
    "MYT": 8,
    "PHT": 8,
    "SGT": 8,
    "WITA": 8,
    "JST": 9,
    "KST": 9,
    "WIT": 9,
    "ACST": 9.5,
    "AEST": 10,
    "CHST": 10,
    "ACDT": 10.5,
    "AEDT": 11,
    "NZST": 12,
    "NZDT": 13,
    "BRST": -2,
    "ADT": -3,
    "ART": -3,
    "BRT": -3,
    "CLST": -3,
    "UYT": -3,
    "NDT": -2.5,
    "NST": -3.5,
    "AST": -4,
    "CLT": -4,
    "EDT": -4,
    "VET": -4,
    "CDT": -5,
    "COT": -5,
    "EST": -5,
    "PET": -5,
    "CST": -6,
    "MDT": -6,
    "MST": -7,
    "PDT": -7,
    "AKDT": -8,
    "PST": -8,
    "AKST": -9,
    "HDT": -9,
    "HST": -10,
    "SST": -11,
}

#: The names that mean UTC, whatever the machine's own zone is called.
UNIVERSAL = ("Z", "UTC", "UT", "GMT")

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

#: The most characters of a text that can be a time.
LONGEST_TEXT = 100

#: Numbers from here on are not epoch seconds (but milliseconds, for instance).
END_OF_TIME = 1e11

_DIGITS = r"(?P<year>\d{4})[-/](?P<month>\d\d?)[-/](?P<day>\d\d?)"
_WORDS = r"[A-Z][a-z]{2} (?P<name>[A-Z][a-z]{2}) {1,2}(?P<day>\d\d?)"
_YEAR = r"(?P<year>\d{4})"
_DAY_FIRST = r"(?P<day>\d\d?) (?P<name>[A-Z][a-z]{2})"
_CLOCK = r"(?P<hour>\d\d?):(?P<minute>\d\d):(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?"
_ZONE = r"(?P<zone>(?:GMT|UTC)?[-+]\d\d(?::?\d\d)?|[A-Za-z]+)"
#: After the offset, Go writes the zone's name, and the reading of its monotonic clock.
_GO = r"(?:(?<=[-+]\d{4}) (?:[A-Za-z]+|[-+]\d\d(?:\d\d)?))?(?: m=[-+][\d.]+)?"
_FORMS = tuple(
    re.compile(form, re.ASCII)
    for form in (
        # Ruby, jesque and goworker: 2026/11/25 10:00:00 CET, 2026-11-25 10:00:00.5 +0100 CET m=+0.1
        rf"{_DIGITS}[ T]{_CLOCK}(?: ?{_ZONE}{_GO})?",
        # php-resque, jesque and C: Wed Nov 25 10:00:00 UTC 2026
        rf"{_WORDS} {_CLOCK}(?: {_ZONE})? {_YEAR}",
        # JavaScript: Wed Nov 25 2026 10:00:00 GMT+0100 (Central European Standard Time)
        rf"{_WORDS} {_YEAR} {_CLOCK}(?: {_ZONE})?(?: \(.*\))?",
        # RFC 2822: Wed, 25 Nov 2026 10:00:00 GMT
        rf"(?:[A-Z][a-z]{{2}}, )?{_DAY_FIRST} {_YEAR} {_CLOCK}(?: {_ZONE})?",
    )
)
#: The name of a zone at the end, alone or before php's year.
_NAMED_ZONE = re.compile(r" (?!(?:UTC|GMT|UT|Z)\b)[A-Za-z]+(?: \d{4})?\Z", re.ASCII)
_OFFSET = re.compile(r"([-+])(\d\d):?(\d\d)?\Z", re.ASCII)


def moment(value: object) -> float | None:
    """Epoch seconds of a time in any of these forms; None for anything else, or an unknown zone.

    A time without a zone is in this machine's zone.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if 0 <= value < END_OF_TIME else None
    if isinstance(value, datetime):
        return value.timestamp()
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        return None
    return _of_text(value, time.tzname)


def certain_moment(value: object) -> float | None:
    """moment(), but None where only a zone's name gives the offset: several countries use the same
    names, and a mistake would make a live worker look dead.
    """
    return None if isinstance(value, str) and _NAMED_ZONE.search(value) else moment(value)


@functools.lru_cache(maxsize=4096)
def _of_text(text: str, local: tuple[str, str]) -> float | None:
    """moment() of a text. Cached, since many records of a page have the same second; `local` is
    part of the key because the result depends on the machine's zone.
    """
    with contextlib.suppress(ValueError):  # not a number: try a date
        return moment(float(text))
    with contextlib.suppress(ValueError, OverflowError):  # not an ISO date: try the other forms
        return datetime.fromisoformat(text).timestamp()
    with contextlib.suppress(ValueError, OverflowError):  # no such day, or no such zone
        return _by_form(text.strip())
    return None


def _by_form(text: str) -> float:
    """The moment of a text in one of the forms, else ValueError."""
    match = next(filter(None, (form.fullmatch(text) for form in _FORMS)), None)
    if match is None:
        raise ValueError(text)
    part = match.groupdict()
    name = part.get("name")
    wall = datetime(
        int(part["year"]),
        MONTHS.index(name.lower()) + 1 if name else int(part["month"]),
        int(part["day"]),
        int(part["hour"]),
        int(part["minute"]),
        int(part["second"]),
        int((part["fraction"] or "0")[:6].ljust(6, "0")),
    )
    return (wall.replace(tzinfo=_zone(part["zone"])) if part["zone"] else wall).timestamp()


def _zone(text: str) -> tzinfo:
    """The zone of an offset or a name, else ValueError."""
    if offset := _OFFSET.search(text):
        # Two digits are hours, as Ruby and C write zones without a name.
        east = timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
        return timezone(-east if offset[1] == "-" else east)
    name = text.upper()
    if name in UNIVERSAL:
        return UTC
    if name in time.tzname:
        west = time.altzone if time.daylight and name == time.tzname[1] else time.timezone
        return timezone(timedelta(seconds=-west))
    if name not in ZONES:
        raise ValueError(text)
    return timezone(timedelta(hours=ZONES[name]))
