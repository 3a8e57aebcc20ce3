"""When something that recurs is due: by cron, in a time zone, or every so many seconds.

Moments are whole epoch seconds, and always arguments: nothing here reads a clock.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
import zoneinfo
from datetime import UTC, datetime, timedelta
from typing import Any

from pyres.exceptions import BadOptionError, BadScheduleError

#: What a word stands for, as in every cron.
ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

#: Seconds of each unit in rufus' durations, `1h30m`.
UNITS = {"y": 31536000, "M": 2592000, "w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}

#: How far back a missed moment is looked for, in ever larger steps, seconds.
LOOK_BACK = (60, 3600, 86400, 32 * 86400, 400 * 86400)

_SECOND = timedelta(seconds=1)
_PART = re.compile(r"(\d+(?:\.\d+)?)([yMwdhms])")


def cron_library() -> Any:
    """croniter, or a BadOptionError that says how to get it."""
    try:
        return importlib.import_module("croniter")
    except ModuleNotFoundError:
        raise BadOptionError(
            "cron entries need croniter; it comes with: pip install 'pyres[cron]'"
        ) from None


class Cron:
    """Five fields (or six: seconds first) and a zone, which may stand behind them; else local time.

    When the clocks go forward, an hour named in the text that does not exist comes when the clock
    has jumped; when they go back, it comes once, the first time. `*` hours follow the time that
    passes.
    """

    #: A moment that is not later than the last one fired by this many seconds is the same one.
    step = 1

    def __init__(self, text: str, timezone: str | None = None) -> None:
        fields, zone = _zone_behind(ALIASES.get(text.strip(), text).split())
        self.text = text
        self._library = cron_library()
        self._zone = _zone(zone or timezone)
        self._fields = " ".join(fields)
        self._with_seconds = len(fields) == 6
        if len(fields) not in (5, 6):
            raise BadScheduleError(
                f"cron {text!r} has {len(fields)} fields; it needs 5, or 6 with seconds first"
            )
        self._every_hour = fields[-4].startswith("*")
        try:
            self.next_after(0)
        except (ValueError, KeyError, ArithmeticError) as error:
            raise BadScheduleError(f"cron {text!r} means nothing: {error}") from None

    def __str__(self) -> str:
        return f"cron {self.text}"

    def anchored(self, fired: int) -> Cron:
        """The same: a cron does not depend on when it began."""
        return self

    def next_after(self, second: int) -> int:
        """The first moment after `second`."""
        moment = datetime.fromtimestamp(second, UTC)
        offset = self._offset(moment)
        wall = _wall(moment, offset)
        while True:
            wall = self._next_wall(wall)
            found = (wall - offset).replace(tzinfo=UTC)
            if self._offset(found) == offset:
                if self._every_hour or not self._is_second_time(wall, found):
                    return int(found.timestamp())
                continue
            moment = self._change(moment, found, offset)
            offset = self._offset(moment)
            if wall < _wall(moment, offset) and not self._every_hour:
                return int(moment.timestamp())
            wall = _wall(moment, offset) - _SECOND

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

    def _next_wall(self, wall: datetime) -> datetime:
        times = self._library.croniter(self._fields, wall, second_at_beginning=self._with_seconds)
        found: datetime = times.get_next(datetime)
        return found

    def _offset(self, moment: datetime) -> timedelta:
        offset = moment.astimezone(self._zone).utcoffset()
        assert offset is not None
        return offset

    def _is_second_time(self, wall: datetime, found: datetime) -> bool:
        """Whether the clock on the wall has shown this time before."""
        first = wall.replace(tzinfo=self._zone) if self._zone else wall
        return first.astimezone(UTC) != found

    def _change(self, early: datetime, late: datetime, offset: timedelta) -> datetime:
        """The second at which the clocks change from `offset`."""
        while late - early > _SECOND:
            middle = early + timedelta(seconds=int((late - early).total_seconds()) // 2)
            if self._offset(middle) == offset:
                early = middle
            else:
                late = middle
        return late


@dataclasses.dataclass(frozen=True, slots=True)
class Every:
    """Every `step` seconds, counted from the moment it was last fired, or first seen."""

    step: int
    first_in: int
    anchor: int = 0

    @classmethod
    def read(cls, value: Any, first_in: Any = None) -> Every:
        """From `30s`, `1h30m` or seconds; `first_in` is how long until the first time."""
        step = duration(value)
        return cls(step, step if first_in is None else duration(first_in))

    def __str__(self) -> str:
        return f"every {self.step} s"

    def anchored(self, fired: int) -> Every:
        """The same, counted from `fired`."""
        return dataclasses.replace(self, anchor=fired)

    def begun(self, now: int) -> int:
        """The anchor of one that is first seen now."""
        return now + self.first_in - self.step

    def next_after(self, second: int) -> int:
        """The first moment after `second` that is not the one it is counted from."""
        # A last time that lies in the future (a clock was wrong) must not silence it until then.
        anchor = self.anchor if self.anchor <= second + self.first_in else second
        return anchor + max(1, (second - anchor) // self.step + 1) * self.step

    def latest(self, after: int, until: int) -> int | None:
        """The last moment after `after` and not after `until`, or None."""
        found = self.next_after(until) - self.step
        return found if after < found <= until else None


def duration(value: Any) -> int:
    """Whole seconds, at least 1, in a number or in rufus' `1w`, `2d`, `1h30m`, `10s`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        text = str(value).replace(" ", "")
        if text.replace(".", "", 1).isdecimal():
            text += "s"
        if not text or _PART.sub("", text):
            raise BadScheduleError(
                f"{value!r} is no duration; it is like 30s, 5m, 1h30m, 2d or a number of seconds"
            )
        seconds = sum(float(number) * UNITS[unit] for number, unit in _PART.findall(text))
    if not 1 <= seconds <= 100 * UNITS["y"]:
        raise BadScheduleError(
            f"{value!r} is no duration: it must be a second or more, and under 100 years"
        )
    return int(seconds)


def _wall(moment: datetime, offset: timedelta) -> datetime:
    """What a clock on the wall shows then."""
    return moment.replace(tzinfo=None) + offset


def _zone_behind(fields: list[str]) -> tuple[list[str], str | None]:
    """The fields, and the name of the zone if one stands behind them."""
    last = fields[-1] if len(fields) > 5 else ""
    if last[:1].isalpha() and ("/" in last or _known(last)):
        return fields[:-1], last
    return fields, None


def _known(name: str) -> bool:
    try:
        _zone(name)
    except BadScheduleError:
        return False
    return True


def _zone(name: str | None) -> zoneinfo.ZoneInfo | None:
    """The zone of this name; None, which is this machine's, for none."""
    if name is None:
        return None
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        raise BadScheduleError(
            f"{name!r} is no time zone; it is like Europe/Berlin or UTC"
        ) from None
