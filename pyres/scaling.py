"""How large a pool should be: larger while jobs wait too long, smaller when hands are idle."""

from __future__ import annotations

from typing import NamedTuple

#: Seconds between two changes upwards, so that the new minions' work is seen before more are asked.
GROW_PAUSE = 4.0

#: How much the newest look counts in the rate of jobs, beside all former ones.
NEWEST = 0.5


class LoadSample(NamedTuple):
    """What stands in Redis at one moment: jobs in the queues, jobs ever finished by this pool (or
    by its like), and how many of its hands are empty.
    """

    waiting: int
    finished: int
    idle: int


class Scale:
    """Decides for a pool of `least` to `most` minions.

    Jobs wait too long when the queues hold more than the pool finishes in `wait` seconds. A pool is
    too large when for `calm` seconds nothing waited and some minions were idle all the time: so
    many are then let go. Between the two it stays as it is.
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
        """Let the range reach to a size that somebody asked for; one that is no range moves."""
        if self.least == self.most:
            self.least = self.most = size
        self.least, self.most = min(self.least, size), max(self.most, size)

    def expected_wait(self, waiting: int, now: float) -> float:
        """Seconds that a job enqueued now has before it, as far as can be known."""
        if not waiting or self._waits_since is None:
            return 0.0
        # Where nothing has been finished yet nobody knows more than how long it has been so.
        return waiting / self._rate if self._rate > 0 else now - self._waits_since

    def size(self, present: int, sample: LoadSample, now: float) -> int:
        """How many minions there should be, at a monotonic time `now`."""
        self._learn(sample, now)
        wanted = max(self.least, min(present, self.most))
        if self.expected_wait(sample.waiting, now) > self.wait:
            return max(wanted, self._larger(wanted, sample, now))
        return min(wanted, max(self.least, self._smaller(wanted, sample, now)))

    def _learn(self, sample: LoadSample, now: float) -> None:
        if self._last is not None and now > self._last[0]:
            # A minion that ended has taken its counter along.
            done = max(0, sample.finished - self._last[1])
            self._rate += NEWEST * (done / (now - self._last[0]) - self._rate)
        self._last = (now, sample.finished)
        if not sample.waiting:
            self._waits_since = None
        elif self._waits_since is None:
            self._waits_since = now

    def _larger(self, present: int, sample: LoadSample, now: float) -> int:
        """As many as the wait wants, at most twice as many; none while new ones have just come or
        some are idle, which no further one would help.
        """
        self._calm_since = None
        if now - self._grown_at < GROW_PAUSE or sample.idle > 0:
            return present
        self._grown_at = now
        times = min(2.0, self.expected_wait(sample.waiting, now) / self.wait)
        return min(self.most, max(present + 1, round(present * times)))

    def _smaller(self, present: int, sample: LoadSample, now: float) -> int:
        if sample.waiting or not sample.idle:
            self._calm_since = None
            return present
        if self._calm_since is None:
            self._calm_since, self._always_idle = now, sample.idle
        self._always_idle = min(self._always_idle, sample.idle)
        if now - self._calm_since < self.calm:
            return present
        self._calm_since = None
        return present - self._always_idle
