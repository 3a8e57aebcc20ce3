"""Cron expressions in the syntax of fugit, which resque-scheduler uses.

The reference is fugit 1.5.2. A wrapping range of weekdays with a step, and a list that names a
weekday twice, are read as in fugit 1.12, which fixed them.
"""

from __future__ import annotations

import calendar
import dataclasses
import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from typing import NamedTuple

from pyres.exceptions import BadScheduleError
from pyres.times import MONTHS

#: The expressions for the special words.
ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@noon": "0 12 * * *",
    "@hourly": "0 * * * *",
}

#: How many years ahead a matching day is searched: a 29th of February that is the fifth of its
#: weekday comes every 28 years, or after 40 where a century has no leap day.
SEARCHED_YEARS = 45

#: `mon%2` counts weeks from here, as et-orbi does.
FIRST_WEEK = date(2019, 1, 1)

WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

_DAY = timedelta(days=1)
_BLANKS = re.compile(r"[ \t]+")
_ZONE = re.compile(
    r"[A-Z][a-zA-Z0-9+\-]+(?:/[A-Z][a-zA-Z0-9+\-_]+){0,2}|[-+]\d\d?(?::?\d\d)?", re.ASCII
)


class InvalidFieldError(Exception):
    """A field of an expression is invalid."""


class Element(NamedTuple):
    """One of the parts of a field that commas separate: `*`, `5`, `1-5`, `*/2`, `/2`, `1-5/2`."""

    first: int | None
    last: int | None
    step: int | None


class Field:
    """The syntax of one field of an expression; `least` and `greatest` are its limits."""

    def __init__(
        self, least: int, greatest: int, value: str, expected: str, names: Sequence[str] = ()
    ) -> None:
        self.least = least
        self.greatest = greatest
        self.expected = expected
        self._numbers = {name: least + index for index, name in enumerate(names)}
        value = "|".join([value, *names])
        self._element = re.compile(
            rf"(?:\*|({value})(?:-({value}))?)?(?:/(\d\d?))?", re.ASCII | re.IGNORECASE
        )

    def elements(self, text: str) -> list[Element]:
        """The elements of a list. Raises InvalidFieldError for an invalid one."""
        return [self.element(part) for part in text.split(",")]

    def element(self, text: str) -> Element:
        """The element that a text represents. Raises InvalidFieldError for an invalid text."""
        match = self._element.fullmatch(text) if text else None
        if match is None:
            raise InvalidFieldError
        first, last, step = match.groups()
        return Element(self.number(first), self.number(last), None if step is None else int(step))

    def number(self, text: str | None) -> int | None:
        """The number of a value, a name or `last`."""
        if text is None:
            return None
        text = text.lower()
        if text.startswith("l"):
            return -1
        return self._numbers[text] if text in self._numbers else int(text)

    def values(self, text: str) -> tuple[int, ...] | None:
        """All values that a list names, in order; None if it names all, as `*` does."""
        numbers: set[int] = set()
        names_all = False
        for element in self.elements(text):
            values = self._values(element)
            names_all = names_all or values is None
            numbers.update(values or ())
        return None if names_all else tuple(sorted(numbers))

    def _values(self, element: Element) -> Iterable[int] | None:
        first, last, step = element
        if step == 0:
            raise InvalidFieldError
        if (step or 1) == 1 and last is None:
            return None if first is None else self._walk(first, first)
        first = self.least if first is None else first
        last = self.greatest if last is None or last < 0 < first else last
        if (first < 0) != (last < 0):
            raise InvalidFieldError
        return self._walk(first, last)[:: step or 1]

    def _walk(self, first: int, last: int) -> list[int]:
        """The values from first to last, wrapping at the end of the field."""
        if self.greatest < first != last:
            # fugit counts hour 24 in addition to the hour 0 that follows.
            return [self.least, *self._walk(self.least, last)]
        size = self.greatest - self.least + 1
        low = -self.greatest if first < 0 else self.least
        count = last - first + 1 + (size if last < first else 0)
        return [(first - low + index) % size + low for index in range(count)]


SECOND = Field(0, 59, r"[0-5]?\d", "a second from 0 to 59")
MINUTE = Field(0, 59, r"[0-5]?\d", "a minute from 0 to 59, like 5, 0-29 or */15")
HOUR = Field(0, 23, r"2[0-4]|[01]?\d", "an hour from 0 to 24, like 5, 9-17 or */2")
MONTHDAY = Field(
    1,
    31,
    r"-?(?:3[01]|[12]\d|0?[1-9])|last|l",
    "a day of the month, like 1, 1-15, */2, -1 or last",
)
MONTH = Field(1, 12, r"1[0-2]|0?[1-9]", "a month, like 1, jan, 3-5 or */3", MONTHS)
WEEKDAY = Field(
    0, 6, r"[0-7]", "a weekday, like 1, mon, mon-fri, mon#2, mon#-1 or mon%2+1", WEEKDAYS
)
_NTH_OR_WEEKS = re.compile(
    r"(?P<day>[^#%]*)(?:#(?P<nth>-?[1-5]|last|l)|%(?P<weeks>\d+)(?:\+(?P<offset>\d+))?)",
    re.ASCII | re.IGNORECASE,
)


class Weekday(NamedTuple):
    """A day of the week: every one, the `nth` of a month (-1 is the last), or the one of every N
    `weeks`, counted from FIRST_WEEK plus an offset.
    """

    number: int
    nth: int | None = None
    weeks: int | None = None
    offset: int = 0

    def is_on(self, day: date) -> bool:
        """Whether it includes this day."""
        if day.isoweekday() % 7 != self.number:
            return False
        if self.nth is not None:
            return self.nth in _nths(day)
        if self.weeks is not None:
            week = (day - FIRST_WEEK).days // 7 + 1
            return (week + self.offset) % self.weeks == 0
        return True


@dataclasses.dataclass(frozen=True, slots=True)
class Expression:
    """The days and the times of day that an expression names, and the zone after them.

    None means all. `each_hour`: whether its hours begin with a star.
    """

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    monthdays: tuple[int, ...] | None
    months: tuple[int, ...] | None
    weekdays: tuple[Weekday, ...] | None
    each_hour: bool
    zone: str | None

    def next_after(self, wall: datetime) -> datetime | None:
        """The first local time after this one, without regard to any zone; None if there is none
        within SEARCHED_YEARS.
        """
        if self._has(wall.date()) and (later := self._time_after(wall.time())):
            return datetime.combine(wall, later)
        first = time(self.hours[0], self.minutes[0], self.seconds[0])
        day = self._next_day(wall.date())
        return None if day is None else datetime.combine(day, first)

    def _time_after(self, clock: time) -> time | None:
        if clock.hour in self.hours:
            if clock.minute in self.minutes:
                second = _above(clock.second, self.seconds)
                if second is not None:
                    return time(clock.hour, clock.minute, second)
            minute = _above(clock.minute, self.minutes)
            if minute is not None:
                return time(clock.hour, minute, self.seconds[0])
        hour = _above(clock.hour, self.hours)
        return None if hour is None else time(hour, self.minutes[0], self.seconds[0])

    def _next_day(self, day: date) -> date | None:
        end = day.year + SEARCHED_YEARS
        day += _DAY
        while day.year <= end:
            if self._has(day):
                return day
            is_month = self.months is None or day.month in self.months
            day = day + _DAY if is_month else _next_month(day)
        return None

    def _has(self, day: date) -> bool:
        if self.months is not None and day.month not in self.months:
            return False
        if self.monthdays is None:
            return self._has_weekday(day)
        # With both restrictions, a day that meets either one matches, as in every cron.
        return self._has_monthday(day) or (self.weekdays is not None and self._has_weekday(day))

    def _has_weekday(self, day: date) -> bool:
        return self.weekdays is None or any(weekday.is_on(day) for weekday in self.weekdays)

    def _has_monthday(self, day: date) -> bool:
        days = self.monthdays or ()
        return day.day in days or day.day - _days_of_month(day) - 1 in days


def read(text: str) -> Expression:
    """The expression that a text represents. Raises BadScheduleError with what was expected."""
    fields, zone = _split(text)
    second, minute, hour, monthday, month, weekday = fields
    months, monthdays = _months_and_days(
        _values(text, MONTH, month), _values(text, MONTHDAY, monthday)
    )
    if months == () or monthdays == ():
        raise _invalid(text, "a day that its months have")
    return Expression(
        _values(text, SECOND, second) or tuple(range(60)),
        _values(text, MINUTE, minute) or tuple(range(60)),
        _values(text, HOUR, hour) or tuple(range(24)),
        monthdays,
        months,
        _weekdays(text, weekday),
        any(part[0] in "*/" for part in hour.split(",")),
        zone,
    )


def _split(text: str) -> tuple[list[str], str | None]:
    """The six fields, and the zone after them if there is one."""
    parts = _BLANKS.split(text.strip())
    parts = [*ALIASES.get(parts[0], parts[0]).split(), *parts[1:]]
    zone = None
    if len(parts) > 5 and _ZONE.fullmatch(parts[-1]) and not _is_weekday(parts[-1]):
        zone = parts.pop()
    if len(parts) not in (5, 6):
        raise _invalid(text, "5 fields, or 6 with the seconds first, and optionally a time zone")
    return (parts if len(parts) == 6 else ["0", *parts]), zone


def _is_weekday(text: str) -> bool:
    try:
        _weekday_list(text)
    except InvalidFieldError:
        return False
    return True


def _values(text: str, field: Field, part: str) -> tuple[int, ...] | None:
    try:
        return field.values(part)
    except InvalidFieldError:
        raise _invalid(text, f"{field.expected}, instead of {part!r}") from None


def _weekdays(text: str, part: str) -> tuple[Weekday, ...] | None:
    try:
        return tuple(_weekday_list(part)) or None
    except InvalidFieldError:
        raise _invalid(text, f"{WEEKDAY.expected}, instead of {part!r}") from None


def _weekday_list(text: str) -> list[Weekday]:
    return [weekday for part in text.split(",") for weekday in _weekday_element(part)]


def _weekday_element(text: str) -> Iterable[Weekday]:
    if match := _NTH_OR_WEEKS.fullmatch(text):
        return [_special_weekday(match)]
    first, last, step = WEEKDAY.element(text)
    if step is None and first is None:
        return []
    if last is None:
        last = 6 if first is None else first
    first = first or 0
    last = last + 7 if first > last else last
    return [Weekday(number % 7) for number in range(first, last + 1, max(1, step or 1))]


def _special_weekday(match: re.Match[str]) -> Weekday:
    day, last, step = WEEKDAY.element(match["day"])
    weeks = int(match["weeks"] or 1)
    if day is None or last is not None or step is not None or weeks == 0:
        raise InvalidFieldError
    if match["nth"]:
        return Weekday(day % 7, nth=WEEKDAY.number(match["nth"]))
    return Weekday(day % 7, weeks=weeks, offset=int(match["offset"] or 0))


def _months_and_days(
    months: tuple[int, ...] | None, days: tuple[int, ...] | None
) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """The months that have at least one of the days, and the days that at least one month has."""
    if months is None or days is None:
        return months, days
    longest = max(LONGEST_MONTHS[month - 1] for month in months)
    return (
        tuple(month for month in months if min(days) <= LONGEST_MONTHS[month - 1]),
        tuple(day for day in days if day <= longest),
    )


def _invalid(text: str, expected: str) -> BadScheduleError:
    return BadScheduleError(f"invalid cron {text!r}: expected {expected}")


def _above(value: int, values: Iterable[int]) -> int | None:
    return next((number for number in values if number > value), None)


def _next_month(day: date) -> date:
    return (day.replace(day=28) + 4 * _DAY).replace(day=1)


def _days_of_month(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def _nths(day: date) -> tuple[int, int]:
    """Which one of its weekday in the month a day is: from the start, and from the end as -1."""
    return (day.day - 1) // 7 + 1, -((_days_of_month(day) - day.day) // 7 + 1)
