"""Moments of a cron expression in a time zone, including the nights when its clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from pyres.exceptions import BadScheduleError
from pyres.timing import expression
from pyres.timing.zones import EXPECTED, zone

#: How many seconds back the last moment is searched, in ever larger steps.
LOOK_BACK = (60, 3600, 86400, 32 * 86400, 400 * 86400)

#: Returned where there is no moment: the beginning of the year 9999.
NEVER = 253370764800

_SECOND = timedelta(seconds=1)


class Cron:
    """A cron expression: five fields (or six, with seconds first), and optionally a time zone after
    them; without one, local time.

    When the clocks go forward, an hour in the text that does not exist fires right after the
    change; when they go back, an hour fires once, the first time. With `*` as hours every hour that
    passes fires.
    """

    #: The least seconds between two moments: one that is closer to the last fired is the same.
    step = 1

    def __init__(self, text: str, timezone: str | None = None) -> None:
        self.text = text
        self._expression = expression.read(text)
        self._zone = self._own_zone() or _zone_of(timezone)
        if self.next_after(0) == NEVER:
            raise BadScheduleError(f"invalid cron {text!r}: expected days that exist in some year")

    def __str__(self) -> str:
        return f"cron {self.text}"

    def with_zone(self, name: str) -> str:
        """The expression with this zone after it, unless it has one."""
        return self.text if self._expression.zone else f"{self.text} {name}"

    def with_anchor(self, fired: int) -> Cron:
        """The same: a cron does not depend on when it was last fired."""
        return self

    def next_after(self, second: int) -> int:
        """The first moment after `second`; NEVER if there is none within decades."""
        moment = datetime.fromtimestamp(second, UTC)
        offset = self._offset(moment)
        before = _wall(moment, offset)
        while wall := self._expression.next_after(before):
            before, candidate = wall, (wall - offset).replace(tzinfo=UTC)
            if self._offset(candidate) == offset:
                if self._is_moment(wall, candidate):
                    return int(candidate.timestamp())
                continue
            moment = self._change(moment, candidate, offset)
            offset = self._offset(moment)
            if wall < _wall(moment, offset) and not self._expression.each_hour:
                return int(moment.timestamp())
            before = _wall(moment, offset) - _SECOND
        return NEVER

    def latest(self, after: int, until: int) -> int | None:
        """The last moment after `after` and not after `until`, or None."""
        for back in LOOK_BACK:
            start = max(after, until - back)
            last, moment = None, self.next_after(start)
            while moment <= until:
                last, moment = moment, self.next_after(moment)
            if last is not None or start == after:
                return last
        return None

    def _own_zone(self) -> tzinfo | None:
        """The zone after the fields of the expression, if there is one."""
        name = self._expression.zone
        own = None if name is None else zone(name)
        if name is not None and own is None:
            raise BadScheduleError(
                f"invalid cron {self.text!r}: expected a time zone {EXPECTED} instead of {name!r}"
            )
        return own

    def _offset(self, moment: datetime) -> timedelta:
        offset = moment.astimezone(self._zone).utcoffset()
        assert offset is not None
        return offset

    def _is_moment(self, wall: datetime, moment: datetime) -> bool:
        """Whether it fires: a fixed hour does not when the clocks show it for the second time."""
        first = wall.replace(tzinfo=self._zone) if self._zone else wall
        return self._expression.each_hour or first.astimezone(UTC) == moment

    def _change(self, early: datetime, late: datetime, offset: timedelta) -> datetime:
        """The second at which the clocks change from `offset`."""
        while late - early > _SECOND:
            middle = early + timedelta(seconds=int((late - early).total_seconds()) // 2)
            if self._offset(middle) == offset:
                early = middle
            else:
                late = middle
        return late


def _zone_of(name: str | None) -> tzinfo | None:
    """The zone of this name; None, for this machine's zone, without a name."""
    named = None if name is None else zone(name)
    if name is not None and named is None:
        raise BadScheduleError(f"invalid time zone {name!r}: expected one {EXPECTED}")
    return named


def _wall(moment: datetime, offset: timedelta) -> datetime:
    """The local time at a moment."""
    return moment.replace(tzinfo=None) + offset
