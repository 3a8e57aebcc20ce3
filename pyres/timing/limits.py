"""When a recurring job starts and ends, by rufus-scheduler's options: first, last, times."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from pyres import times
from pyres.exceptions import BadScheduleError
from pyres.timing.cron import NEVER, Cron
from pyres.timing.every import Every, duration
from pyres.timing.zones import zone

#: The names of each option; the first one that is set counts.
FIRST = ("first", "first_time", "first_at", "first_in")
LAST = ("last", "last_at", "last_in")

_NUMBER = re.compile(r"[-+]?[\d.]+(?:e[-+]?\d+)?", re.ASCII)

#: Ruby's symbols for an immediate first time.
AT_ONCE = ("now", "immediately")


class Point(NamedTuple):
    """An epoch second or, if `relative`, seconds after an entry first became active."""

    seconds: int
    relative: bool

    def moment(self, begun: int) -> int:
        """The epoch second, for an entry first active at `begun`."""
        return self.seconds + begun if self.relative else self.seconds


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """The first moment, the time from which there are no more moments, and how many there are."""

    first: Point | None = None
    last: Point | None = None
    times: int | None = None
    text: str = ""

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> Limits:
        """From the options after `cron` or `every`. Raises BadScheduleError for an invalid one."""
        count = options.get("times")
        if count is not None and (isinstance(count, bool) or not isinstance(count, int)):
            raise BadScheduleError(f"invalid times {count!r}: expected a whole number")
        names = (*FIRST, *LAST, "times")
        texts = [f"{name} {options[name]}" for name in names if options.get(name) is not None]
        return cls(_point(options, FIRST), _point(options, LAST), count, ", ".join(texts))

    def __str__(self) -> str:
        return f" ({self.text})" if self.text else ""

    @property
    def first_in(self) -> int | None:
        """Seconds until the first moment, if it is relative."""
        return self.first.seconds if self.first and self.first.relative else None

    def after_first_in(self) -> Limits:
        """The limits of an Every, which handles a relative first moment itself."""
        return self if self.first_in is None else dataclasses.replace(self, first=None)

    @property
    def have_begin(self) -> bool:
        """Whether they depend on when the entry first became active, or how often it has fired."""
        points = (self.first, self.last)
        return self.times is not None or any(point and point.relative for point in points)

    def bound(self, timing: Cron | Every, begun: int) -> Cron | Every | Bounded:
        """The timing within these limits, for an entry first active at `begun`."""
        if self.first is None and self.last is None:
            return timing
        return Bounded(
            timing,
            None if self.first is None else self.first.moment(begun),
            None if self.last is None else self.last.moment(begun),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Bounded:
    """A timing whose first moment is `first`, and which has no moments from `last` on."""

    timing: Cron | Every
    first: int | None
    last: int | None

    @property
    def step(self) -> int:
        """The least seconds between two of its moments."""
        return self.timing.step

    def __str__(self) -> str:
        return str(self.timing)

    def next_after(self, second: int) -> int:
        """The first moment after `second`; NEVER where there is none."""
        is_early = self.first is not None and second < self.first
        moment = (
            self.first if is_early and self.first is not None else self.timing.next_after(second)
        )
        return NEVER if self.last is not None and moment >= self.last else moment

    def latest(self, after: int, until: int) -> int | None:
        """The last moment after `after` and not after `until`, or None."""
        until = until if self.last is None else min(until, self.last - 1)
        if self.first is None:
            return self.timing.latest(after, until)
        if until < self.first:
            return None
        last = self.timing.latest(max(after, self.first), until)
        return self.first if last is None and after < self.first else last


def digest(timing: Cron | Every, limits: Limits) -> str:
    """A digest of a timing with its limits; equal ones have the same."""
    text = f"{timing}{limits}".encode()
    return hashlib.sha1(text, usedforsecurity=False).hexdigest()[:16]


def _point(options: Mapping[str, Any], names: tuple[str, ...]) -> Point | None:
    for name in names:
        value = options.get(name)
        if value is not None and value is not False:
            return _read_point(name, value)
    return None


def _read_point(name: str, value: Any) -> Point:
    if isinstance(value, str) and value.strip().lstrip(":") in AT_ONCE:
        return Point(0, relative=True)
    moment = _moment(value)
    if moment is not None:
        return Point(int(moment), relative=False)
    try:
        return Point(int(duration(value)), relative=True)
    except BadScheduleError:
        raise BadScheduleError(
            f"invalid {name} {value!r}: expected a time like 2026-11-30 10:00:00 +0100, or a "
            "duration like 30s"
        ) from None


def _moment(value: Any) -> float | None:
    """The epoch second of a time, or None for anything else: a number is a duration."""
    if isinstance(value, datetime):
        # In YAML, times without a zone are in UTC.
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day).astimezone().timestamp()
    if not isinstance(value, str) or _NUMBER.fullmatch(value.strip()):
        return None
    return _zoned(value.strip()) or times.moment(value.strip())


def _zoned(text: str) -> float | None:
    """The epoch second of a time with a zone's name: `2026-11-30 10:00 Asia/Tokyo`."""
    wall, _, name = text.rpartition(" ")
    named = zone(name) if "/" in name else None
    if named is None:
        return None
    try:
        return datetime.fromisoformat(wall).replace(tzinfo=named).timestamp()
    except ValueError:
        return None
