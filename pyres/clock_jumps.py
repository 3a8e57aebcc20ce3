"""Whether a clock was set: its time is compared with the time that has passed."""

from __future__ import annotations

#: Seconds by which a clock may be ahead of the time that has passed.
TOLERANCE = 2.0


class ClockJumps:
    """Compares each reading of a clock with the one before it. Seconds are epoch seconds of the
    clock; `before` and `after` are those of a monotonic clock on both sides of the reading.
    """

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None

    def forward(self, now: float, before: float, after: float) -> bool:
        """Whether the clock went forward since the last call by more than can have passed."""
        last, self._last = self._last, (now, before)
        if last is None:
            return False
        last_now, last_before = last
        return now - last_now > after - last_before + TOLERANCE
