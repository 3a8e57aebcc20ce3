"""Holding one of the schedulers' locks: acquire it, renew it, or be on standby."""

from __future__ import annotations

import logging
import time
from typing import NamedTuple

from pyres.store import SERVER_ERRORS, Lock, SchedulerLock, described

logger = logging.getLogger(__name__)

#: Seconds by which a lock must outlive what was expected of it to count as renewed.
TOLERANCE = 0.05


class LockState(NamedTuple):
    """The lock of another scheduler when it was read: its holder, the time (epoch seconds), and
    when it expires (monotonic seconds).
    """

    holder: str
    now: float
    expiry: float


class Mastership:
    """Whether the scheduler `name` holds a lock. In the log, `lock_name` is the lock's name, and
    `duty` is what its holder does.

    `interval`: seconds between two tries to acquire it; `timeout`: seconds after which it expires.
    """

    def __init__(
        self,
        lock: SchedulerLock,
        name: str,
        *,
        lock_name: str,
        duty: str,
        timeout: float,
        interval: float,
    ) -> None:
        self._lock = lock
        self._name = name
        self._lock_name = lock_name
        self.duty = duty
        self._timeout = timeout
        self._interval = interval
        self.held = False
        #: After the lock was acquired: the epoch second up to which its last holder did the work.
        #: None once the caller has read it.
        self.since: int | None = None
        #: The other scheduler that held the lock at the last try, or "".
        self.holder = ""
        #: When the other holder was last known to be alive, epoch seconds.
        self._others_until: float | None = None
        self._last_state: LockState | None = None
        self._next_check = 0.0
        self._corrected: set[str] = set()

    def renew(self, now: float) -> float:
        """Acquire or renew the lock when due; the seconds until the next time."""
        early = self._next_check - time.monotonic()
        if early > 0 and not self.held:
            return early
        lock = self._lock.acquire(self._name, self._timeout)
        if lock.ours:
            return self._hold(now)
        if lock.corrected:
            self._log_correction(lock.holder, lock.corrected)
        self._be_standby(lock.holder)
        # If this scheduler is next, it fires what was due since the holder's last renewal.
        self._others_until = min(now, self._last_renewal(lock, now))
        pause = min(self._interval, lock.seconds + 0.01)
        self._next_check = time.monotonic() + pause
        return pause

    def _last_renewal(self, lock: Lock, now: float) -> float:
        """When the other holder last renewed its lock; its timeout may differ from this one's."""
        last, expiry = self._last_state, time.monotonic() + lock.seconds
        self._last_state = LockState(lock.holder, now, expiry)
        by_expiry = now - max(0.0, self._timeout - lock.seconds)
        if last is None or self._others_until is None or last.holder != lock.holder:
            return by_expiry
        if expiry <= last.expiry + TOLERANCE:
            return self._others_until
        return max(by_expiry, last.now)

    def _hold(self, now: float) -> float:
        if not self.held:
            logger.info("%s %s now", self._name, self.duty)
            self.held, self.holder = True, ""
            # It is unknown what of its last second the other has fired: Ruby's checks every 0.3 s.
            self.since = int(now if self._others_until is None else self._others_until) - 1
            self._last_state = None
        return min(self._interval, self._timeout / 3)

    def _be_standby(self, holder: str) -> None:
        if self.held or self._others_until is None:
            logger.info("%s is on standby: %s %s", self._name, holder, self.duty)
        self.held, self.since, self.holder = False, None, holder

    def _log_correction(self, holder: str, fault: str) -> None:
        if holder not in self._corrected:
            self._corrected.add(holder)
            logger.error("The %s of %s %s: setting its expiry", self._lock_name, holder, fault)

    def another_holds(self) -> bool:
        """Whether another scheduler holds the lock; does not acquire it."""
        self.holder = self._lock.holder()
        return bool(self.holder)

    def release(self) -> None:
        """Release the lock at once; what is due from now on is left to the next holder."""
        self.held, self.since, self._others_until, self._next_check = False, None, None, 0.0
        self._last_state = None
        try:
            self._lock.release(self._name)
        except SERVER_ERRORS as error:
            logger.warning("%s while releasing the lock, which will expire", described(error))
