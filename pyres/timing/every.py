"""Intervals, in the format of fugit, which resque-scheduler uses."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from pyres.exceptions import BadScheduleError

MINUTE, HOUR, DAY = 60, 3600, 86400
WEEK, MONTH, YEAR = 7 * DAY, 30 * DAY, 365 * DAY

#: The shortest interval that rufus-scheduler accepts and the longest that pyres does, in seconds.
SHORTEST, LONGEST = 0.3, 100 * YEAR

#: `M` is a month and `m` a minute; case does not matter in the other units.
_PART = re.compile(
    r"""
    (?P<between> (?:[ \t,]+|(?i:and))* ) (?P<sign>[-+]?) (?P<number>\d+\.\d*|(?:\d*\.)?\d+)
    (?: [ ]* (?:
        (?P<years>(?i:y(?:ears?)?)) | (?P<months>M|months?) | (?P<weeks>(?i:w(?:eeks?)?))
        | (?P<days>(?i:d(?:ays?)?)) | (?P<hours>(?i:h(?:ours?)?)) | (?P<minutes>m(?:in(?:ute)?s?)?)
        | (?P<seconds>(?i:s(?:ec(?:ond)?)?s?))
    ) | (?P<bare>\Z) )
    """,
    re.ASCII | re.VERBOSE,
)
_PART_SECONDS = {
    "years": YEAR,
    "months": MONTH,
    "weeks": WEEK,
    "days": DAY,
    "hours": HOUR,
    "minutes": MINUTE,
    "seconds": 1,
    "bare": 1,
}

#: ISO 8601, also with its parts in another order, or negative.
_ISO = re.compile(r"P((?:-?\d+[YMWD])*)(?:T((?:-?\d+[HM]|-?(?:\d*\.)?\d+S)+))?", re.ASCII)
_ISO_PART = re.compile(r"(-?[\d.]+)([A-Z])")
_ISO_DATE_SECONDS = {"Y": YEAR, "M": MONTH, "W": WEEK, "D": DAY}
_ISO_TIME_SECONDS = {"H": HOUR, "M": MINUTE, "S": 1}


@dataclasses.dataclass(frozen=True, slots=True)
class Every:
    """An interval in milliseconds, counted from the moment it last fired or was first seen.

    Its moments are whole seconds: 1.5 s fires after 1 s and 2 s in turn, less than a second fires
    every second.
    """

    milliseconds: int
    first_in: int
    anchor: int = 0

    @classmethod
    def read(cls, value: Any, first_in: Any = None) -> Every:
        """From `30s`, `1 hour`, `PT1H` or seconds; `first_in`: until the first moment."""
        seconds = duration(value, SHORTEST)
        every = cls(round(seconds * 1000), 0)
        first = every.step if first_in is None else int(duration(first_in))
        return dataclasses.replace(every, first_in=first)

    def __str__(self) -> str:
        seconds, milliseconds = divmod(self.milliseconds, 1000)
        return f"every {self.milliseconds / 1000 if milliseconds else seconds} s"

    @property
    def step(self) -> int:
        """The least seconds between two of its moments."""
        return max(1, self.milliseconds // 1000)

    def with_anchor(self, fired: int) -> Every:
        """The same interval, counted from `fired`."""
        return dataclasses.replace(self, anchor=fired)

    def first_anchor(self, now: int) -> int:
        """The moment to count from for an interval first seen now."""
        return now + self.first_in - self.step

    def next_after(self, second: int) -> int:
        """The first moment after `second`, other than the anchor itself."""
        anchor = self._anchor(second)
        return self._moment(anchor, self._count(anchor, second))

    def latest(self, after: int, until: int) -> int | None:
        """The last moment after `after` and not after `until`, or None."""
        anchor = self._anchor(until)
        last = self._moment(anchor, self._count(anchor, until) - 1)
        return last if after < last <= until else None

    def _anchor(self, second: int) -> int:
        # An anchor in the future (from a wrong clock) must not keep it from firing until then.
        return self.anchor if self.anchor <= second + self.first_in else second

    def _count(self, anchor: int, second: int) -> int:
        """The number of the first moment after `second` and the anchor; the anchor is number 0."""
        return -(-(max(0, second - anchor) + 1) * 1000 // self.milliseconds)

    def _moment(self, anchor: int, number: int) -> int:
        return anchor + number * self.milliseconds // 1000


def duration(value: Any, shortest: float = 0) -> float:
    """Seconds in a number, or in a text like `1h30m`, `1 hour and 5 minutes`, `1h+5m` or `PT1H`."""
    seconds = value if _is_number(value) else _seconds(str(value).strip())
    if seconds is None or not shortest <= seconds <= LONGEST:
        raise BadScheduleError(
            f"invalid duration {value!r}: expected one like 30s, 1h30m, 1 hour, PT1H or a number "
            f"of seconds, from {shortest} s to 100 years"
        )
    return float(seconds)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _seconds(text: str) -> float | None:
    """The seconds of a duration as text, or None."""
    plain = _plain_seconds(text)
    return _iso_seconds(text.upper()) if plain is None else plain


def _plain_seconds(text: str) -> float | None:
    total, sign, at = 0.0, 1, 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None or (at == 0 and part["between"]):
            return None
        # A sign also applies to the parts that follow it without a space.
        if part["between"] or part["sign"]:
            sign = -1 if part["sign"] == "-" else 1
        total += sign * float(part["number"]) * _PART_SECONDS[part.lastgroup or "bare"]
        at = part.end()
    return total if text else None


def _iso_seconds(text: str) -> float | None:
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    return _sum(match[1], _ISO_DATE_SECONDS) + _sum(match[2] or "", _ISO_TIME_SECONDS)


def _sum(parts: str, units: dict[str, int]) -> float:
    return sum(float(number) * units[unit] for number, unit in _ISO_PART.findall(parts))
