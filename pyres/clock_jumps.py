"""Detecting that a clock was set: its time is compared with that of a monotonic clock."""

from __future__ import annotations

#: Seconds by which a clock may run ahead of the elapsed time.
TOLERANCE = 2.0


class ClockJumps:
    """Compares each reading of a clock with the previous one. `now` is in epoch seconds of that
    clock; `before` and `after` are monotonic times just before and after the reading.
    """

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None

    def forward(self, now: float, before: float, after: float) -> bool:
        """Whether the clock has moved forward since the last call by more than the elapsed time."""
        last, self._last = self._last, (now, before)
        if last is None:
            return False
        last_now, last_before = last
        return now - last_now > after - last_before + TOLERANCE
