"""Why a scheduler stands by, and which entries do not fire because of who is the master."""

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

#: Whether a scheduler becomes the master: whenever the lock is free, while no entry stops by that,
#: or never.
ALWAYS, ABLE, NEVER = TAKE_LOCK = ("always", "able", "never")

#: Seconds between two looks of one that is the master anyway.
RARELY = 30.0

#: Seconds after its time in which the master must have fired an entry.
GRACE = 60

#: Reasons that one line of the log has.
SHOWN = 10


class Candidate:
    """Whether a scheduler may be the master, by `take_lock`; it says which entries would not fire.

    Looks at them every `interval` seconds, or more rarely where that changes nothing.
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
        self._found: dict[str, str] = {}
        #: Whether those are published, and the last error of that.
        self._is_published, self._refused = True, ""
        #: Since when nobody has held the lock (monotonic), or None.
        self._vacant: float | None = None

    def may_lead(self, now: float, static: ActiveSchedule, dynamic: ActiveSchedule) -> bool:
        """Whether the lock may be ours."""
        if self.never_leads:
            return False
        if self._take_lock == ABLE or self._mastership.held:
            self._check(now, static, dynamic)
        return self._take_lock == ALWAYS or not self._found

    @property
    def never_leads(self) -> bool:
        """Whether the lock is for others only."""
        return self._take_lock == NEVER

    @property
    def state(self) -> str:
        """What the process title says of one that may not be the master, or ""."""
        if self.never_leads:
            return "Firing its own entries"
        blocked = self._take_lock == ABLE and self._found
        return f"WorkerState by for {len(self._found)} entries" if blocked else ""

    def _check(self, now: float, static: ActiveSchedule, dynamic: ActiveSchedule) -> None:
        if time.monotonic() < self._next_check:
            return
        pause = self._interval if self._take_lock == ABLE else RARELY
        self._next_check = time.monotonic() + pause
        found = self._gaps.find(now, static.static_names)
        before, self._found = self._found, found
        if found != before:
            self._log(found)
            self._is_published = False
        if not self._is_published:
            self._publish(dynamic)
        if found and self._take_lock == ABLE:
            self._watch_lock()

    def _log(self, found: Mapping[str, str]) -> None:
        reasons = _listed(list(found.values()))
        if self._take_lock == ALWAYS and found:
            logger.warning("Entries that do not fire with this master: %s", reasons)
        elif found:
            logger.error("Stands by, to stop no entry that cannot be followed here: %s", reasons)
        else:
            logger.info("All entries can be followed here now")

    def _publish(self, dynamic: ActiveSchedule) -> None:
        if self._mastership.held and dynamic.dynamic:
            self._is_published = True
            return  # it knows and publishes the faults of what it follows
        unable = self._gaps.unable
        dynamic.faults.begin({name: EntryFault(text, STORED) for name, text in unable.items()})
        try:
            dynamic.faults.publish()
        except SERVER_ERRORS as error:
            # It is for those who look, and changes nothing here.
            if str(error) != self._refused:
                logger.warning("The faults of entries cannot be published now: %s", error)
            self._refused = str(error)
        else:
            self._is_published, self._refused = True, ""

    def _watch_lock(self) -> None:
        """Log once when nobody has been the master for longer than a takeover takes."""
        if self._mastership.another_holds():
            self._vacant = None
        elif self._vacant is None:
            self._vacant = time.monotonic()
        elif 0 <= self._vacant < time.monotonic() - self._late:
            self._vacant = -1.0
            logger.error("Nobody is the master: delayed jobs and entries in Redis wait for one")


class Comparison:
    """Says which entries from code and files another scheduler, which fires those, does not have.

    Two looks in a row must find them, since one that has just started has not published its own.
    """

    def __init__(self, schedules: Schedules, interval: float) -> None:
        self._schedules = schedules
        self._interval = interval
        self._next_check = 0.0
        self._before: list[str] = []
        self._logged: list[str] = []

    def look(self, active_schedule: ActiveSchedule, holder: str) -> None:
        """Compare the entries, if it is time to."""
        if time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + self._interval
        before, self._before = self._before, active_schedule.unknown_to(self._schedules.published())
        if self._before == before and before != self._logged:
            self._logged = before
            if before:
                logger.warning(
                    "%d entries from code and files here are unknown to %s, or others there, and "
                    "do not fire as here: %s",
                    len(before),
                    holder,
                    _listed(before),
                )


class Overdue:
    """Says which entries in Redis the master does not fire though they are due, as a Ruby one does
    that is not dynamic. It counts from when an entry was seen here first.
    """

    def __init__(self, active_schedule: ActiveSchedule) -> None:
        self._active_schedule = active_schedule
        self._schedules = active_schedule.resq.store.schedules
        self._next_check = 0.0
        self._seen: dict[str, tuple[bytes, int]] = {}
        self._logged: list[str] = []

    def look(self, now: float, master: str) -> None:
        """Look at what was fired, if it is time to."""
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
    """The second since which the entry must have fired, or 0 if it need not have."""
    if isinstance(timing, Cron):
        return timing.latest(seen, now) or 0
    # Another scheduler may count from another moment.
    return now - timing.step if now - timing.step > seen + timing.step else 0


def _listed(texts: list[str]) -> str:
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return "; ".join(texts[:SHOWN]) + more
