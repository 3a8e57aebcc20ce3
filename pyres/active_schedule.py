"""Which schedule entries are in force, when each is due, and firing each moment just once."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from pyres import schedule, times, unique
from pyres.client import ResQ
from pyres.exceptions import BadScheduleError, PyresError
from pyres.schedule import STORED, Entry, PublishedEntry
from pyres.schedule_faults import Destinations, EntryFault, Faults
from pyres.store import CONNECTION_ERRORS, MAX_AHEAD, Firing, Range, ResponseError
from pyres.timing import NEVER, Bounded, Cron, Every, digest

logger = logging.getLogger(__name__)

#: What fire() of the store says.
FIRED, DROPPED, OVER = 1, 2, 3


@dataclasses.dataclass(slots=True)
class ActiveEntry:
    """An entry in force: where it goes, and the next moment it is due; none of its moments lies
    between `before` and that.
    """

    entry: Entry
    queue: str
    target: Any
    timing: Cron | Every | Bounded
    #: How often it may still be fired.
    left: float = math.inf
    due: int = 0
    before: int = 0
    #: The moment that is fired though its time has passed; all others come in their turn.
    made_up: int = 0


class ActiveSchedule:
    """The entries from code and from the file at `path`, if `static`, and from Redis, if `dynamic`.

    With `yields`, an entry is left out while Redis has one of its name, which others follow.

    A moment that comes up more than `late` seconds too late is missed; with `catch_up` the last one
    that an entry missed is made up. `environment` is what entries' rails_env is held against.
    """

    def __init__(
        self,
        resq: ResQ,
        path: str | None = None,
        *,
        static: bool = True,
        dynamic: bool = False,
        yields: bool = False,
        catch_up: bool = False,
        environment: str | None = None,
        queue_for: Mapping[str, str] | None = None,
        late: float = 60,
    ) -> None:
        self.resq = resq
        self.path = path
        self.static = static
        self.dynamic = dynamic
        self.yields = yields
        self.catch_up = catch_up
        #: The error that was logged last of each entry that cannot be enqueued now.
        self._refused: dict[str, str] = {}
        self.environment = environment
        self.destinations = Destinations(queue_for)
        self.faults = Faults(resq.store.schedules, stored=dynamic or not static, static=static)
        self._static_faults: dict[str, EntryFault] = {}
        self.late = int(late)
        self._static: dict[str, Entry] = {}
        self._filed: frozenset[str] = frozenset()
        self._dynamic: dict[str, Entry] = {}
        #: The entries in Redis, as JSON, to which ours of the same names yield.
        self._overriding: dict[str, bytes] = {}
        self._active: dict[str, ActiveEntry] = {}
        self._looked = 0
        #: The latest moment that is believed of a firing.
        self._latest = 0
        self._jumped = False

    @property
    def has_static(self) -> bool:
        """Whether code or file has entries, even if none of them can be followed."""
        return bool(self._static or self._static_faults)

    @property
    def static_names(self) -> list[str]:
        """The names of the entries from code and file."""
        return list(self._static)

    def unknown_to(self, published: Mapping[str, bytes]) -> list[str]:
        """Entries from code and file that are not published as they are here."""
        return sorted(
            name
            for name, entry in self._static.items()
            if not entry.is_as(PublishedEntry.read(published.get(name, b"")))
        )

    def load(self) -> None:
        """Read code and file. Raises BadOptionError or BadScheduleError for a file that is none."""
        if not self.static:
            return
        coded = schedule.from_code()
        filed = schedule.from_file(self.path) if self.path else schedule.Schedule({}, [])
        self._static = self._log_faults(coded) | self._log_faults(filed)
        self._filed = frozenset(filed.entries)
        faults = _faults(coded, "code") | _faults(filed, "file")
        self._static_faults = {
            name: fault for name, fault in faults.items() if name not in self._static
        }

    def _log_faults(self, found: schedule.Schedule) -> dict[str, Entry]:
        """The entries; the faults go to the log."""
        for fault in found.faults:
            logger.error("%s", fault)
        return {
            name: entry for name, entry in found.entries.items() if entry.is_for(self.environment)
        }

    def start(self, since: int) -> None:
        """Begin to be the one who fires: what was due until `since` is not ours, or missed."""
        self._looked = since
        faults = self._static_faults
        if self.dynamic:
            found = schedule.from_redis(self.resq.store.schedules.all_afresh())
            self._dynamic = self._log_faults(found)
            faults = faults | _faults(found, STORED)
        if self.yields:
            self._overriding = self._stored()
        self.faults.begin(faults)
        self._active = {}
        self._arrange(self._entries())
        self._publish(self._active, self._published() - set(self._active))

    def _entries(self) -> dict[str, Entry]:
        """What is to be followed."""
        entries = self._static | self._dynamic
        return {name: entry for name, entry in entries.items() if name not in self._overriding}

    def _stored(self) -> dict[str, bytes]:
        """The entries in Redis that have the names of ours, and can be followed."""
        found = self.resq.store.schedules.some(list(self._static))
        entries = schedule.from_redis(found).entries
        return {name: found[name] for name in entries if entries[name].is_for(self.environment)}

    def _published(self) -> set[str]:
        """The names that are published of entries that are ours to follow."""
        found = self.resq.store.schedules.published()
        entries = {name: PublishedEntry.read(raw) for name, raw in found.items()}
        return {name for name, entry in entries.items() if entry is None or self._is_ours(entry)}

    def _is_ours(self, entry: PublishedEntry) -> bool:
        # One that follows nothing removes what is published of Redis: nobody follows that now.
        stored = self.dynamic or not self.static
        return stored if entry.source == STORED else self.static

    def reload(self, follows: bool = True) -> None:
        """Read all again; what was due until the last look stays done."""
        try:
            self.load()
        except PyresError as error:
            logger.error("The schedule stays as it was: %s", error)
        if follows:
            self.start(self._looked)

    def refresh(self) -> None:
        """Take up what changed in Redis since it was last looked at."""
        if self.yields:
            self._yield()
        if self.dynamic:
            self._pop_changes()

    def _yield(self) -> None:
        """Leave out the entries that Redis has too, and follow those again that it has no more."""
        before, self._overriding = self._overriding, self._stored()
        changed = before.keys() ^ self._overriding.keys()
        if changed:
            for name in changed:
                self._active.pop(name, None)
            self._follow(changed)

    def _follow(self, changed: Collection[str]) -> None:
        """Follow of these entries those that are to be followed now."""
        entries = self._entries()
        self._arrange({name: entries[name] for name in changed if name in entries})
        self._publish(changed, self._published() & set(changed) - self._active.keys())

    def _pop_changes(self) -> None:
        changed = self.resq.store.schedules.pop_changes()
        if not changed:
            return
        logger.info("Schedule entries changed: %s", ", ".join(sorted(changed)))
        self.resq.store.schedules.end_runs(changed)
        stored = self.resq.store.schedules.all()
        found = schedule.from_redis({name: stored[name] for name in changed if name in stored})
        self.faults.change(changed, _faults(found, STORED))
        for name in changed:
            self._dynamic.pop(name, None)
            self._active.pop(name, None)
        self._dynamic |= self._log_faults(found)
        self._follow(changed)

    def _arrange(self, entries: dict[str, Entry]) -> None:
        """Give each entry its slot."""
        if not entries:
            return
        # The last look at it may be long ago: that of a master which died.
        now = int(self.resq.server_time().timestamp())
        self._latest = max(self._looked, now) + MAX_AHEAD
        fired = self._fired()
        for name, entry in entries.items():
            try:
                target, queue = self.destinations.of(entry)
            except BadScheduleError as error:
                logger.error("%s", error)
                self.faults.change([], {name: EntryFault(str(error), self._source(name))})
                continue
            active = ActiveEntry(entry, queue, target, entry.timing)
            self._place(active, fired.get(name, []))
            self._active[name] = active

    def _fired(self) -> dict[str, list[Range]]:
        """Which moments of each entry were fired, by pyres or by Ruby, who notes only the time."""
        schedules = self.resq.store.schedules
        fired, last = schedules.fired_ranges(), schedules.fired()
        for name, moment in last.items():
            ranges = fired.setdefault(name, [])
            if all(moment != known.last for known in ranges):
                ranges.append(self._up_to(moment))
        for name, when in schedules.last_enqueued_at().items():
            if name in last and name not in self._dynamic:
                continue  # Ruby's own entry of this name, which is none of those that fire here
            moment, ours = int(times.moment(when) or 0), last.get(name, 0)
            # Our own firing notes it too, also by a clock that is ahead.
            if not self._looked < ours <= moment <= ours + self.late:
                fired.setdefault(name, []).append(self._up_to(moment))
        return fired

    def _up_to(self, moment: int) -> Range:
        """The range that a moment ends whose beginning nobody noted."""
        # A clock that was wrong must not silence the entry.
        soon = self._looked < moment <= self._latest
        return Range(self._looked if soon else moment, moment, moment > self._latest)

    def _place(self, active: ActiveEntry, fired: list[Range]) -> None:
        """Find the next moment of an entry, which fired in these ranges."""
        fired = self._doubt(active.entry.name, fired)
        ended = [moments.last for moments in fired if moments.last <= self._looked]
        past = max(ended, default=None)
        self._bound(active, past)
        active.before, active.due = self._looked, _next_unfired(active.timing, self._looked, fired)
        if active.left <= 0:
            active.due = NEVER
        if past is None or active.left <= 0:
            return
        missed = active.timing.latest(past, self._looked) if self.catch_up else None
        if missed is not None:
            active.before, active.due, active.made_up = missed - 1, missed, missed
        elif active.timing.next_after(past) == active.due:
            active.before = past

    def _bound(self, active: ActiveEntry, past: int | None) -> None:
        """Count the entry's moments from the last one that was fired, within its limits."""
        entry, limits, schedules = active.entry, active.entry.limits, self.resq.store.schedules
        timing, begun = entry.timing, 0
        if limits.have_begin:
            run = schedules.run(entry.name, digest(timing, limits), self._looked + 1)
            begun = run.begun
            active.left = math.inf if limits.times is None else limits.times - run.fired
        if isinstance(timing, Every):
            first = limits.first.seconds if limits.first else None
            if past is None or past < (first or 0):
                past = first or schedules.anchor(entry.name, timing.begun(self._looked + 1))
            timing = timing.anchored(past)
        active.timing = limits.bound(timing, begun)

    def _doubt(self, name: str, fired: list[Range]) -> list[Range]:
        """The ranges, marked where a clock that was ahead must have fired them."""
        latest = self._latest
        if any(moments.first > latest and not moments.doubted for moments in fired):
            logger.warning("%s was fired by a clock that was ahead: that is not believed", name)
            self.resq.store.schedules.doubt_ranges(name, latest)
        return [
            moments._replace(doubted=moments.doubted or moments.first > latest) for moments in fired
        ]

    def fire(self, now: float, jumped: bool = False) -> int:
        """Enqueue all that is due; how many jobs that made. `jumped`: the clock was set forward, so
        that an entry makes up one moment at most.
        """
        second, made = int(now), 0
        self._jumped = self._jumped or jumped
        if second < self._looked:
            self._go_back(second)
        due = [active for active in self._active.values() if active.due <= now]
        for active in due:
            made += sum(self._fire(active, moment, now) for moment in self._moments(active, second))
        self._looked, self._jumped = second, False
        self._publish(active.entry.name for active in due)
        return made

    def publish_again(self) -> None:
        """Publish what is in force, where somebody has removed it: an entry fires rarely."""
        self.faults.publish_again()
        lost = self._active.keys() - self.resq.store.schedules.published().keys()
        if lost:
            self._publish(sorted(lost))

    def _go_back(self, second: int) -> None:
        """Find the next moment of each entry by a clock that was set back to `second`."""
        logger.warning(
            "The clock went back by %d s: the next moment of each schedule entry is found anew",
            self._looked - second,
        )
        self._looked = second - 1
        self._arrange({name: active.entry for name, active in self._active.items()})
        self._publish(list(self._active))

    def _publish(self, names: Iterable[str], gone: Iterable[str] = ()) -> None:
        """Tell readers, who can neither see the code nor the file, what is in force."""
        entries = {
            name: self._published_entry(self._active[name]).encoded()
            for name in names
            if name in self._active
        }
        lost = sorted(gone)
        try:
            self.faults.publish()
            if entries or lost:
                self.resq.store.schedules.publish(entries, lost)
        except CONNECTION_ERRORS:
            raise
        except ResponseError as error:
            # It is for those who look, and no reason to fire nothing.
            logger.warning("What is in force could not be told to the web page: %s", error)

    def _published_entry(self, active: ActiveEntry) -> PublishedEntry:
        entry = active.entry
        seconds = getattr(active.target, "unique_for", None)
        return PublishedEntry(
            entry.klass,
            active.queue,
            entry.args,
            entry.when,
            active.due,
            entry.description,
            self._source(entry.name),
            seconds.total_seconds() if isinstance(seconds, timedelta) else seconds,
            unique.stage_of(active.target, entry.klass),
        )

    def _source(self, name: str) -> str:
        """Where an entry stands."""
        if name in self._dynamic:
            return STORED
        return "file" if name in self._filed else "code"

    def _moments(self, active: ActiveEntry, now: int) -> Iterator[int]:
        """The moments that are to be fired, oldest first; then the slot knows its next one."""
        moments = self._last_moment if self._jumped else self._each_moment
        for moment in moments(active, now):
            yield moment
            if active.left <= 0:
                break
        if active.left <= 0:
            active.due = NEVER

    def _each_moment(self, active: ActiveEntry, now: int) -> Iterator[int]:
        if now - active.due > self.late:
            last = active.timing.latest(active.due - 1, now) if self.catch_up else None
            if last is not None:
                active.before, active.due, active.made_up = last - 1, last, last
                yield last
            active.before = last or now - self.late - 1
            active.due = active.timing.next_after(active.before)
        while active.due <= now:
            yield active.due
            active.before, active.due = active.due, active.timing.next_after(active.due)

    def _last_moment(self, active: ActiveEntry, now: int) -> Iterator[int]:
        """_each_moment() where only the last is to be fired."""
        earliest = active.due - 1 if self.catch_up else max(active.due - 1, now - self.late - 1)
        last = active.timing.latest(earliest, now)
        if last is not None:
            active.before, active.due, active.made_up = last - 1, last, last
            yield last
        active.before = now if last is None else last
        active.due = active.timing.next_after(now)

    def _fire(self, active: ActiveEntry, moment: int, now: float) -> bool:
        entry = active.entry
        lock = unique.lock_for(active.target, entry.klass, entry.args, now)
        job = unique.job(active.queue, self.resq._recurring_payload(entry, now))
        firing = Firing(
            entry.name,
            moment,
            moment - active.timing.step,
            datetime.fromtimestamp(now).astimezone().strftime("%Y-%m-%d %H:%M:%S %z"),
            job.queue,
            job.payload,
            active.before,
            int(now),
            moment == active.made_up,
            *(lock or unique.UniqueLock("", "", 0)),
            run=digest(entry.timing, entry.limits) if entry.limits.times is not None else "",
            times=entry.limits.times or 0,
            locked=job.fields() if lock else (),
        )
        try:
            outcome = self.resq.store.schedules.fire(firing)
            if lock and outcome == DROPPED and self.resq.store.unique.push(*lock, job, now):
                # Others had removed the job that was locked.
                outcome = FIRED
        except CONNECTION_ERRORS:
            raise
        except ResponseError as error:
            if self._refused.get(entry.name) != str(error):
                self._refused[entry.name] = str(error)
                logger.error("%s could not be enqueued to %s: %s", entry.name, active.queue, error)
            return False
        self._refused.pop(entry.name, None)
        active.left = 0 if outcome == OVER else active.left - (outcome in (FIRED, DROPPED))
        if outcome == FIRED:
            logger.info("Enqueued %s to %s for %s", entry.name, active.queue, _shown(moment))
        elif outcome == DROPPED:
            logger.warning("Dropped %s: a job like it was enqueued, and one is enough", entry.name)
        return outcome == FIRED

    def lines(self) -> list[str]:
        """What is in force, a line each, soonest first."""
        return [
            f"{active.entry.name}: {active.entry.when} to {active.queue}, "
            f"next at {_shown(active.due)}"
            for active in sorted(self._active.values(), key=lambda active: active.due)
        ]


def _faults(found: schedule.Schedule, source: str) -> dict[str, EntryFault]:
    return {name: EntryFault(text, source) for name, text in found.left_out.items()}


def _covering(moment: int, step: int, fired: list[Range]) -> int | None:
    """The last moment of a range of those fired in which this moment lies, or None."""
    lasts = [
        moments.last
        for moments in fired
        if moments.first <= moment < moments.last + step and not moments.doubted
    ]
    return max(lasts, default=None)


def _next_unfired(timing: Cron | Every | Bounded, since: int, fired: list[Range]) -> int:
    """The first moment after `since` that was not fired."""
    moment = timing.next_after(since)
    while (last := _covering(moment, timing.step, fired)) is not None:
        moment = timing.next_after(max(last, moment))
    return moment


def _shown(moment: int) -> str:
    return datetime.fromtimestamp(moment).astimezone().isoformat(" ")
