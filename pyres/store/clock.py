"""The Redis server's clock, which is the time of all hosts."""

from __future__ import annotations

import logging
import time
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from pyres.store.errors import CONNECTION_ERRORS

logger = logging.getLogger(__name__)

#: Seconds for which one reply to TIME is used.
MAX_AGE = 30.0

#: Seconds by which this host's clock may differ from the server's before that is logged.
MAX_DIFFERENCE = 5.0


class Reading(NamedTuple):
    """A time (epoch seconds) and elapsed() before and after it was read."""

    now: float
    before: float
    after: float


def elapsed() -> float:
    """Seconds since this host started, independent of changes of its clock."""
    # Only on Linux; it includes the time during which the host was suspended.
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Clock:
    """The time by the server's TIME; between two replies, the last one plus elapsed()."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._last: Reading | None = None
        self._differs = False
        self._refused = False

    def now(self) -> float:
        """Epoch seconds by the server's clock, or by this host's where TIME is not allowed."""
        last = self._last
        if last is not None and elapsed() - last.after > MAX_AGE:
            return self.read().now
        return self.estimate()

    def estimate(self) -> float:
        """now() by the last reply, however old it is; the server is asked only if there is none.

        For the times written for each job. A daemon asks the server with each heartbeat.
        """
        last = self._last
        if last is not None:
            return last.now + elapsed() - last.after
        return time.time() if self._refused else self.read().now

    def read(self) -> Reading:
        """The time by a new reply of the server, or by this host's clock where TIME is refused."""
        try:
            return self.ask()
        except CONNECTION_ERRORS:
            raise
        except ResponseError as error:
            if not self._refused:
                self._refused = True
                logger.warning("This host's clock is used: the server refuses TIME (%s)", error)
            at = elapsed()
            # Not kept: this host's clock may be changed at any time.
            return Reading(time.time(), at, at)

    def ask(self) -> Reading:
        """The server's time. Raises ResponseError if the server refuses TIME."""
        before = elapsed()
        seconds, microseconds = self.client.time()
        self._last = reading = Reading(seconds + microseconds / 1e6, before, elapsed())
        self._compare(reading)
        return reading

    def _compare(self, reading: Reading) -> None:
        """Log that this host's clock is wrong: once, and again only after it was right."""
        ahead = time.time() - reading.now
        differs = abs(ahead) > MAX_DIFFERENCE + reading.after - reading.before
        if differs and not self._differs:
            logger.warning(
                "The clock of this host is %.1f s %s the Redis server's, which is used",
                abs(ahead),
                "ahead of" if ahead > 0 else "behind",
            )
        self._differs = differs
