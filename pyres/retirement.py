"""A minion that was asked to end after its job: when to ask again, and when to kill it."""

from __future__ import annotations

import time
from collections.abc import Sequence

#: Seconds between two checks of a minion that was asked to end.
CHECK_INTERVAL = 1.0


class Retirement:
    """The state of one minion since it was asked to end, judged by its in-flight records."""

    def __init__(self, grace: float) -> None:
        self.next_check = time.monotonic() + min(CHECK_INTERVAL, grace)
        self._grace = grace
        self._records: list[bytes | None] | None = None
        self._idle_since: float | None = None

    def is_due(self) -> bool:
        """Whether it is time to check its in-flight records."""
        if time.monotonic() < self.next_check:
            return False
        self.next_check = time.monotonic() + CHECK_INTERVAL
        return True

    def has_new_jobs(self, records: Sequence[bytes | None]) -> bool:
        """Whether a job has started or ended since the last check, or there is none."""
        former, self._records = self._records, list(records)
        return not any(records) or (former is not None and former != self._records)

    def is_over(self, records: Sequence[bytes | None]) -> bool:
        """Whether it has had no job for as long as the grace."""
        if any(records):
            self._idle_since = None
            return False
        now = time.monotonic()
        self._idle_since = now if self._idle_since is None else self._idle_since
        return now >= self._idle_since + self._grace
