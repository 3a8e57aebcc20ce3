"""Whether a scheduler may become the master, and which entries do not fire with this master."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from pyres import schedule, times
from pyres.active_schedule import ActiveSchedule
from pyres.mastership import Mastership
from pyres.schedule import STORED
from pyres.schedule_faults import EntryFault
from pyres.schedule_gaps import Gaps
from pyres.store import SERVER_ERRORS, Schedules
from pyres.timing import Cron, Every, Limits

logger = logging.getLogger(__name__)

#: When a scheduler becomes the master: whenever the lock is free; only while that keeps no entry
#: from firing; never.
ALWAYS, ABLE, NEVER = TAKE_LOCK = ("always", "able", "never")

#: Seconds between two checks where the result does not change who is the master.
RARELY = 30.0

#: Seconds after its due time within which the master must have fired an entry.
GRACE = 60

#: The most reasons in one line of the log.
SHOWN = 10


class Candidate:
    """Decides by `take_lock` whether a scheduler may be the master; logs and publishes the entries
    that would not fire.

    Checks them every `interval` seconds, or every 30 s where the result does not matter.
    """

    def __init__(
        self, take_lock: str, mastership: Mastership, gaps: Gaps, interval: float, late: float
    ) -> None:
        self._take_lock = take_lock
        self._mastership = mastership
        self._gaps = gaps
        self._interval = interval
        self._late = late
        self._next_check = 0.0
        #: The entries that would not fire, with the reason.
        self._unfired: dict[str, str] = {}
        #: Whether those are published, and the last error of publishing.
        self._is_published, self._refused = True, ""
        #: Since when no scheduler has held the lock (monotonic), or None.
        self._vacant: float | None = None

    def may_lead(self, now: float, static: ActiveSchedule, dynamic: ActiveSchedule) -> bool:
        """Whether this scheduler may acquire or keep the lock."""
        if self.never_leads:
            return False
        if self._take_lock == ABLE or self._mastership.held:
            self._check(now, static, dynamic)
        return self._take_lock == ALWAYS or not self._unfired

    @property
    def never_leads(self) -> bool:
        """Whether the lock is for others only."""
        return self._take_lock == NEVER

    @property
    def state(self) -> str:
        """The process title's text for one that may not be the master, or ""."""
        if self.never_leads:
            return "Firing its own entries"
        blocked = self._take_lock == ABLE and self._unfired
        return f"Standing by for {len(self._unfired)} entries" if blocked else ""

    def _check(self, now: float, static: ActiveSchedule, dynamic: ActiveSchedule) -> None:
        if time.monotonic() < self._next_check:
            return
        pause = self._interval if self._take_lock == ABLE else RARELY
        self._next_check = time.monotonic() + pause
        unfired = self._gaps.find(now, static.static_names)
        before, self._unfired = self._unfired, unfired
        if unfired != before:
            self._log(unfired)
            self._is_published = False
        if not self._is_published:
            self._publish(dynamic)
        if unfired and self._take_lock == ABLE:
            self._watch_lock()

    def _log(self, unfired: Mapping[str, str]) -> None:
        reasons = _listed(list(unfired.values()))
        if self._take_lock == ALWAYS and unfired:
            logger.warning("Entries that do not fire with this master: %s", reasons)
        elif unfired:
            logger.error("Not becoming the master, since entries would not fire: %s", reasons)
        else:
            logger.info("All entries can fire here now")

    def _publish(self, dynamic: ActiveSchedule) -> None:
        if self._mastership.held and dynamic.dynamic:
            self._is_published = True
            return  # the active schedule publishes its own faults
        unable = self._gaps.unable
        dynamic.faults.begin({name: EntryFault(text, STORED) for name, text in unable.items()})
        try:
            dynamic.faults.publish()
        except SERVER_ERRORS as error:
            # Only readers need it.
            if str(error) != self._refused:
                logger.warning("Could not publish the faults of entries: %s", error)
            self._refused = str(error)
        else:
            self._is_published, self._refused = True, ""

    def _watch_lock(self) -> None:
        """Log once when no scheduler has been the master for longer than a takeover takes."""
        if self._mastership.another_holds():
            self._vacant = None
        elif self._vacant is None:
            self._vacant = time.monotonic()
        elif 0 <= self._vacant < time.monotonic() - self._late:
            self._vacant = -1.0
            logger.error("No scheduler is the master: delayed jobs and entries in Redis wait")


class Comparison:
    """Logs which entries from code and files are missing in another scheduler that fires those.

    Two checks in a row must find one, since a scheduler that just started has not published yet.
    """

    def __init__(self, schedules: Schedules, interval: float) -> None:
        self._schedules = schedules
        self._interval = interval
        self._next_check = 0.0
        self._before: list[str] = []
        self._logged: list[str] = []

    def check(self, active_schedule: ActiveSchedule, holder: str) -> None:
        """Compare the entries, when due."""
        if time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + self._interval
        before, self._before = self._before, active_schedule.unknown_to(self._schedules.published())
        if self._before == before and before != self._logged:
            self._logged = before
            if before:
                logger.warning(
                    "%d entries from code and files here are unknown to %s, or differ there, and "
                    "do not fire as here: %s",
                    len(before),
                    holder,
                    _listed(before),
                )


class Overdue:
    """Logs which entries in Redis are due but not fired by the master, such as a Ruby one that is
    not dynamic. An entry's moments count from when it was first seen here.
    """

    def __init__(self, active_schedule: ActiveSchedule) -> None:
        self._active_schedule = active_schedule
        self._schedules = active_schedule.resq.store.schedules
        self._next_check = 0.0
        self._seen: dict[str, tuple[bytes, int]] = {}
        self._logged: list[str] = []

    def check(self, now: float, master: str) -> None:
        """Check what was fired, when due."""
        if time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + RARELY
        overdue = self._find(int(now))
        if overdue and overdue != self._logged:
            logger.warning(
                "Entries in Redis that the master %s does not fire: %s", master, _listed(overdue)
            )
        self._logged = overdue

    def _find(self, now: int) -> list[str]:
        stored = self._schedules.all()
        self._seen = {
            name: self._seen[name] if self._seen.get(name, (b"", 0))[0] == raw else (raw, now)
            for name, raw in stored.items()
        }
        noted, fired = self._schedules.last_enqueued_at(), self._schedules.fired()
        return sorted(
            name
            for name, entry in schedule.from_redis(stored).entries.items()
            if entry.is_for(self._active_schedule.environment)
            and entry.limits == Limits()
            and max(times.moment(noted.get(name)) or 0, fired.get(name, 0))
            < _last_due(entry.timing, self._seen[name][1], now - GRACE)
        )


def _last_due(timing: Cron | Every, seen: int, now: int) -> int:
    """The epoch second since which the entry must have fired, or 0 if it need not have."""
    if isinstance(timing, Cron):
        return timing.latest(seen, now) or 0
    # Another scheduler may count intervals from another moment.
    return now - timing.step if now - timing.step > seen + timing.step else 0


def _listed(texts: list[str]) -> str:
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return "; ".join(texts[:SHOWN]) + more
