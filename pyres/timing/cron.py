"""Moments of a cron expression in a time zone, also in nights in which its clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from pyres.exceptions import BadScheduleError
from pyres.timing import expression
from pyres.timing.zones import EXPECTED, zone

#: How far back a missed moment is looked for, in ever larger steps, seconds.
LOOK_BACK = (60, 3600, 86400, 32 * 86400, 400 * 86400)

#: The moment of what has none: the beginning of the year 9999.
NEVER = 253370764800

_SECOND = timedelta(seconds=1)


class Cron:
    """Five fields (or six: seconds first) and a zone, which may stand behind them; else local time.

    When the clocks go forward, an hour named in the text that does not exist comes when the clock
    has jumped; when they go back, it comes once, the first time. `*` hours follow the time that
    passes.
    """

    #: A moment that is not later than the last one fired by this many seconds is the same one.
    step = 1

    def __init__(self, text: str, timezone: str | None = None) -> None:
        self.text = text
        self._expression = expression.read(text)
        self._zone = self._behind() or _zone_of(timezone)
        if self.next_after(0) == NEVER:
            raise BadScheduleError(f"invalid cron {text!r}: expected days that come in some year")

    def __str__(self) -> str:
        return f"cron {self.text}"

    def with_zone(self, name: str) -> str:
        """The expression with this zone behind it, unless it has one."""
        return self.text if self._expression.zone else f"{self.text} {name}"

    def anchored(self, fired: int) -> Cron:
        """The same: a cron does not depend on when it began."""
        return self

    def next_after(self, second: int) -> int:
        """The first moment after `second`; NEVER where none comes in decades."""
        moment = datetime.fromtimestamp(second, UTC)
        offset = self._offset(moment)
        before = _wall(moment, offset)
        while wall := self._expression.next_after(before):
            before, found = wall, (wall - offset).replace(tzinfo=UTC)
            if self._offset(found) == offset:
                if self._is_moment(wall, found):
                    return int(found.timestamp())
                continue
            moment = self._change(moment, found, offset)
            offset = self._offset(moment)
            if wall < _wall(moment, offset) and not self._expression.each_hour:
                return int(moment.timestamp())
            before = _wall(moment, offset) - _SECOND
        return NEVER

    def latest(self, after: int, until: int) -> int | None:
        """The last moment after `after` and not after `until`, or None."""
        for back in LOOK_BACK:
            start = max(after, until - back)
            found, moment = None, self.next_after(start)
            while moment <= until:
                found, moment = moment, self.next_after(moment)
            if found is not None or start == after:
                return found
        return None

    def _behind(self) -> tzinfo | None:
        """The zone that stands behind the fields, if one does."""
        name = self._expression.zone
        found = None if name is None else zone(name)
        if name is not None and found is None:
            raise BadScheduleError(
                f"invalid cron {self.text!r}: expected a time zone {EXPECTED} instead of {name!r}"
            )
        return found

    def _offset(self, moment: datetime) -> timedelta:
        offset = moment.astimezone(self._zone).utcoffset()
        assert offset is not None
        return offset

    def _is_moment(self, wall: datetime, found: datetime) -> bool:
        """Whether it fires here: a fixed hour does not when the clocks show it the second time."""
        first = wall.replace(tzinfo=self._zone) if self._zone else wall
        return self._expression.each_hour or first.astimezone(UTC) == found

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
    """The zone of this name; None, which is this machine's, for none."""
    found = None if name is None else zone(name)
    if name is not None and found is None:
        raise BadScheduleError(f"invalid time zone {name!r}: expected one {EXPECTED}")
    return found


def _wall(moment: datetime, offset: timedelta) -> datetime:
    """What a clock on the wall shows then."""
    return moment.replace(tzinfo=None) + offset
