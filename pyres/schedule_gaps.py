"""Which entries no scheduler fires while this one is the master."""

from __future__ import annotations

from collections.abc import Collection

from pyres import schedule, times
from pyres.active_schedule import ActiveSchedule
from pyres.exceptions import BadScheduleError

#: Seconds for which an entry fired by another scheduler is remembered: enough for a monthly one.
REMEMBERED = 32 * 86400


class Gaps:
    """Finds the entries in Redis that this active schedule cannot fire (all, without `dynamic`),
    and those that another scheduler has fired from its own code.
    """

    def __init__(self, active_schedule: ActiveSchedule) -> None:
        self._active_schedule = active_schedule
        self._schedules = active_schedule.resq.store.schedules
        self._stored: dict[str, bytes] | None = None
        #: The entries in Redis that cannot be fired here, with the reason.
        self.unable: dict[str, str] = {}

    def find(self, now: float, own: Collection[str]) -> dict[str, str]:
        """Each such entry with the reason; those with the names `own` fire in any case."""
        stored = self._schedules.all()
        if stored != self._stored:
            # Reading a class's queue may import the class, so each state is checked once.
            self.unable = self._unable_of(stored)
            self._stored = stored
        return self.unable | self._of_others(now, {*stored, *own})

    def _unable_of(self, stored: dict[str, bytes]) -> dict[str, str]:
        entries = schedule.from_redis(stored)
        unable = dict(entries.left_out)
        for name, entry in entries.entries.items():
            if not entry.is_for(self._active_schedule.environment):
                continue
            if not self._active_schedule.dynamic:
                unable[name] = f"the schedule entry {name!r} needs --dynamic"
                continue
            try:
                self._active_schedule.destinations.of(entry)
            except BadScheduleError as error:
                unable[name] = str(error)
        return unable

    def _of_others(self, now: float, known: Collection[str]) -> dict[str, str]:
        fired = self._schedules.fired()
        return {
            name: f"the schedule entry {name!r} is not known here: another scheduler enqueued it"
            for name, when in self._schedules.last_enqueued_at().items()
            if name not in known
            and name not in fired
            and (times.moment(when) or 0) > now - REMEMBERED
        }
