"""How large a pool should be: larger while jobs wait too long, smaller when minions are idle."""

from __future__ import annotations

from typing import NamedTuple

#: Seconds between two enlargements, so that the effect of new minions shows before more are added.
GROW_PAUSE = 4.0

#: The weight of the newest sample in the rate of jobs, against all earlier ones.
NEWEST = 0.5


class LoadSample(NamedTuple):
    """The load at one moment: jobs in the queues, jobs ever finished by this pool, and how many of
    its minions are idle.
    """

    waiting: int
    finished: int
    idle: int


class Scale:
    """Decides for a pool of `least` to `most` minions.

    Jobs wait too long when the queues hold more than the pool finishes in `wait` seconds. The pool
    is too large when for `calm` seconds no job waited and some minions were idle all the time: that
    many are then retired. Between the two the size stays as it is.
    """

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least}..{self.most}"

    def __init__(self, least: int, most: int, wait: float = 5.0, calm: float = 30.0) -> None:
        self.least = least
        self.most = most
        self.wait = wait
        self.calm = calm
        self._last: tuple[float, int] | None = None
        self._rate = 0.0
        self._waits_since: float | None = None
        self._grown_at = float("-inf")
        self._calm_since: float | None = None
        self._always_idle = 0

    def include(self, size: int) -> None:
        """Widen the range to a size that was requested; a fixed size becomes that size."""
        if self.least == self.most:
            self.least = self.most = size
        self.least, self.most = min(self.least, size), max(self.most, size)

    def expected_wait(self, waiting: int, now: float) -> float:
        """Seconds that a job enqueued now is expected to wait, as an estimate."""
        if not waiting or self._waits_since is None:
            return 0.0
        # With nothing finished yet, the only estimate is how long jobs have waited so far.
        return waiting / self._rate if self._rate > 0 else now - self._waits_since

    def size(self, current: int, sample: LoadSample, now: float) -> int:
        """How many minions there should be, at a monotonic time `now`."""
        self._learn(sample, now)
        size = max(self.least, min(current, self.most))
        if self.expected_wait(sample.waiting, now) > self.wait:
            return max(size, self._larger(size, sample, now))
        return min(size, max(self.least, self._smaller(size, sample, now)))

    def _learn(self, sample: LoadSample, now: float) -> None:
        if self._last is not None and now > self._last[0]:
            # The sum may shrink: the counter of a minion is deleted when it ends.
            finished = max(0, sample.finished - self._last[1])
            self._rate += NEWEST * (finished / (now - self._last[0]) - self._rate)
        self._last = (now, sample.finished)
        if not sample.waiting:
            self._waits_since = None
        elif self._waits_since is None:
            self._waits_since = now

    def _larger(self, current: int, sample: LoadSample, now: float) -> int:
        """The size for the expected wait, at most doubled; unchanged while minions were just added
        or some are idle, since more would not help then.
        """
        self._calm_since = None
        if now - self._grown_at < GROW_PAUSE or sample.idle > 0:
            return current
        self._grown_at = now
        factor = min(2.0, self.expected_wait(sample.waiting, now) / self.wait)
        return min(self.most, max(current + 1, round(current * factor)))

    def _smaller(self, current: int, sample: LoadSample, now: float) -> int:
        if sample.waiting or not sample.idle:
            self._calm_since = None
            return current
        if self._calm_since is None:
            self._calm_since, self._always_idle = now, sample.idle
        self._always_idle = min(self._always_idle, sample.idle)
        if now - self._calm_since < self.calm:
            return current
        self._calm_since = None
        return current - self._always_idle
