"""The active schedule: which entries are active, when each is due, and firing each time once."""

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
from pyres.store import CONNECTION_ERRORS, MAX_AHEAD, Firing, Range, ResponseError, UniqueJob
from pyres.timing import NEVER, Bounded, Cron, Every, digest

logger = logging.getLogger(__name__)

#: What the store's fire() returns.
FIRED, DROPPED, OVER = 1, 2, 3


@dataclasses.dataclass(slots=True)
class ActiveEntry:
    """An active entry: the queue and class of its jobs, and the next moment it is due. None of its
    moments lies between `before` and `due`.
    """

    entry: Entry
    queue: str
    target: Any
    timing: Cron | Every | Bounded
    #: How often it may still be fired.
    remaining: float = math.inf
    due: int = 0
    before: int = 0
    #: The missed moment that is fired late (`catch_up`); 0: none.
    made_up: int = 0

    def make_up(self, moment: int) -> None:
        """Make a moment due whose time has passed."""
        self.before, self.due, self.made_up = moment - 1, moment, moment


class ActiveSchedule:
    """The entries from code and from the file at `path`, if `static`, and from Redis, if `dynamic`.

    With `yields`, an entry is left out while Redis has one of the same name, which takes priority.

    A moment that is more than `late` seconds overdue counts as missed; with `catch_up` the last
    moment that an entry has missed is fired late. `environment` selects entries by their rails_env.
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
        #: For each entry that cannot be enqueued now, the error that was logged last.
        self._refused: dict[str, str] = {}
        self.environment = environment
        self.destinations = Destinations(queue_for)
        self.faults = Faults(resq.store.schedules, stored=dynamic or not static, static=static)
        self._static_faults: dict[str, EntryFault] = {}
        self.late = int(late)
        self._static: dict[str, Entry] = {}
        self._filed: frozenset[str] = frozenset()
        self._dynamic: dict[str, Entry] = {}
        #: The entries in Redis, as JSON, that replace those of code or file with the same names.
        self._overriding: dict[str, bytes] = {}
        self._active_entries: dict[str, ActiveEntry] = {}
        #: The epoch second up to which everything due has been fired.
        self._checked_until = 0
        #: The latest moment at which a firing is plausible; a later one is from a wrong clock.
        self._latest = 0
        self._jumped = False

    @property
    def has_static(self) -> bool:
        """Whether code or file has entries, even if all of them are invalid here."""
        return bool(self._static or self._static_faults)

    @property
    def static_names(self) -> list[str]:
        """The names of the entries from code and file."""
        return list(self._static)

    def unknown_to(self, published: Mapping[str, bytes]) -> list[str]:
        """The names of entries from code and file that are not published as they are here."""
        return sorted(
            name
            for name, entry in self._static.items()
            if not entry.is_as(PublishedEntry.read(published.get(name, b"")))
        )

    def load(self) -> None:
        """Read code and file. Raises BadOptionError or BadScheduleError for an invalid file."""
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

    def _log_faults(self, entries: schedule.Schedule) -> dict[str, Entry]:
        """The entries for this environment, by name; logs the faults."""
        for fault in entries.faults:
            logger.error("%s", fault)
        return {
            name: entry for name, entry in entries.entries.items() if entry.is_for(self.environment)
        }

    def start(self, since: int) -> None:
        """Start to fire entries; what was due up to `since` is left to others, or was missed."""
        self._checked_until = since
        faults = self._static_faults
        if self.dynamic:
            stored = schedule.from_redis(self.resq.store.schedules.all_afresh())
            self._dynamic = self._log_faults(stored)
            faults = faults | _faults(stored, STORED)
        if self.yields:
            self._overriding = self._stored()
        self.faults.begin(faults)
        self._active_entries = {}
        self._arrange(self._entries())
        self._publish(self._active_entries, self._published() - set(self._active_entries))

    def _entries(self) -> dict[str, Entry]:
        """The entries to be active."""
        entries = self._static | self._dynamic
        return {name: entry for name, entry in entries.items() if name not in self._overriding}

    def _stored(self) -> dict[str, bytes]:
        """The valid entries in Redis with the name of one from code or file, as JSON."""
        stored = self.resq.store.schedules.some(list(self._static))
        entries = schedule.from_redis(stored).entries
        return {name: stored[name] for name in entries if entries[name].is_for(self.environment)}

    def _published(self) -> set[str]:
        """The published names of the entries that this active schedule is responsible for."""
        published = self.resq.store.schedules.published()
        entries = {name: PublishedEntry.read(raw) for name, raw in published.items()}
        return {name for name, entry in entries.items() if entry is None or self._is_ours(entry)}

    def _is_ours(self, entry: PublishedEntry) -> bool:
        # A master that is not dynamic removes the published entries of Redis: none is active now.
        stored = self.dynamic or not self.static
        return stored if entry.source == STORED else self.static

    def reload(self, follows: bool = True) -> None:
        """Read all entries again; what was due up to the last check is not fired again."""
        try:
            self.load()
        except PyresError as error:
            logger.error("Keeping the previous schedule: %s", error)
        if follows:
            self.start(self._checked_until)

    def refresh(self) -> None:
        """Apply what has changed in Redis since the last call."""
        if self.yields:
            self._yield()
        if self.dynamic:
            self._pop_changes()

    def _yield(self) -> None:
        """Leave out the entries that Redis has, too, and activate those that it has no longer."""
        before, self._overriding = self._overriding, self._stored()
        changed = before.keys() ^ self._overriding.keys()
        if changed:
            for name in changed:
                self._active_entries.pop(name, None)
            self._activate(changed)

    def _activate(self, changed: Collection[str]) -> None:
        """Activate those of these entries that are to be active now, and publish the change."""
        entries = self._entries()
        self._arrange({name: entries[name] for name in changed if name in entries})
        self._publish(changed, self._published() & set(changed) - self._active_entries.keys())

    def _pop_changes(self) -> None:
        changed = self.resq.store.schedules.pop_changes()
        if not changed:
            return
        logger.info("Schedule entries changed: %s", ", ".join(sorted(changed)))
        self.resq.store.schedules.end_runs(changed)
        stored = self.resq.store.schedules.all()
        entries = schedule.from_redis({name: stored[name] for name in changed if name in stored})
        self.faults.change(changed, _faults(entries, STORED))
        for name in changed:
            self._dynamic.pop(name, None)
            self._active_entries.pop(name, None)
        self._dynamic |= self._log_faults(entries)
        self._activate(changed)

    def _arrange(self, entries: dict[str, Entry]) -> None:
        """Make these entries active, each with its next moment."""
        if not entries:
            return
        # The last check may be long ago: that of a master which died.
        now = int(self.resq.server_time().timestamp())
        self._latest = max(self._checked_until, now) + MAX_AHEAD
        fired = self._fired()
        for name, entry in entries.items():
            try:
                target, queue = self.destinations.of(entry)
            except BadScheduleError as error:
                logger.error("%s", error)
                self.faults.change([], {name: EntryFault(str(error), self._source(name))})
                continue
            active_entry = ActiveEntry(entry, queue, target, entry.timing)
            self._place(active_entry, fired.get(name, []))
            self._active_entries[name] = active_entry

    def _fired(self) -> dict[str, list[Range]]:
        """The moments of each entry that were fired, by pyres or by Ruby (which notes the last)."""
        schedules = self.resq.store.schedules
        fired, last = schedules.fired_ranges(), schedules.fired()
        for name, moment in last.items():
            ranges = fired.setdefault(name, [])
            if all(moment != moments.last for moments in ranges):
                ranges.append(self._up_to(moment))
        for name, when in schedules.last_enqueued_at().items():
            if name in last and name not in self._dynamic:
                continue  # from Ruby's own entry of this name, which does not fire here
            moment, ours = int(times.moment(when) or 0), last.get(name, 0)
            # Skip the time that pyres itself has noted, also by a clock that is ahead.
            if not self._checked_until < ours <= moment <= ours + self.late:
                fired.setdefault(name, []).append(self._up_to(moment))
        return fired

    def _up_to(self, moment: int) -> Range:
        """The fired range that ends with this moment, where its start was not noted."""
        # A clock that was wrong must not keep the entry from firing.
        soon = self._checked_until < moment <= self._latest
        return Range(self._checked_until if soon else moment, moment, moment > self._latest)

    def _place(self, active_entry: ActiveEntry, fired: list[Range]) -> None:
        """Set the next moment of an entry that has fired in these ranges."""
        fired = self._doubt(active_entry.entry.name, fired)
        ended = [moments.last for moments in fired if moments.last <= self._checked_until]
        past = max(ended, default=None)
        self._bound(active_entry, past)
        active_entry.before = self._checked_until
        active_entry.due = _next_unfired(active_entry.timing, self._checked_until, fired)
        if active_entry.remaining <= 0:
            active_entry.due = NEVER
        if past is None or active_entry.remaining <= 0:
            return
        missed = active_entry.timing.latest(past, self._checked_until) if self.catch_up else None
        if missed is not None:
            active_entry.make_up(missed)
        elif active_entry.timing.next_after(past) == active_entry.due:
            active_entry.before = past

    def _bound(self, active_entry: ActiveEntry, past: int | None) -> None:
        """Set the entry's timing, counted from the last moment fired, within its limits."""
        entry, schedules = active_entry.entry, self.resq.store.schedules
        limits = entry.limits
        timing, begun = entry.timing, 0
        if limits.have_begin:
            run = schedules.run(entry.name, digest(timing, limits), self._checked_until + 1)
            begun = run.begun
            active_entry.remaining = math.inf if limits.times is None else limits.times - run.fired
        if isinstance(timing, Every):
            first = limits.first.seconds if limits.first else None
            if past is None or past < (first or 0):
                past = first or schedules.anchor(
                    entry.name, timing.first_anchor(self._checked_until + 1)
                )
            timing = timing.with_anchor(past)
        active_entry.timing = limits.bound(timing, begun)

    def _doubt(self, name: str, fired: list[Range]) -> list[Range]:
        """The ranges, with those marked as doubted that a clock that was ahead must have fired."""
        latest = self._latest
        if any(moments.first > latest and not moments.doubted for moments in fired):
            logger.warning("Ignoring a firing of %s in the future, by a clock that was ahead", name)
            self.resq.store.schedules.doubt_ranges(name, latest)
        return [
            moments._replace(doubted=moments.doubted or moments.first > latest) for moments in fired
        ]

    def fire(self, now: float, jumped: bool = False) -> int:
        """Enqueue all that is due; returns the number of jobs. `jumped`: the clock was set forward,
        so that each entry fires at most once for the time skipped.
        """
        second, count = int(now), 0
        self._jumped = self._jumped or jumped
        if second < self._checked_until:
            self._go_back(second)
        due = [
            active_entry
            for active_entry in self._active_entries.values()
            if active_entry.due <= now
        ]
        for active_entry in due:
            moments = self._moments(active_entry, second)
            count += sum(self._fire(active_entry, moment, now) for moment in moments)
        self._checked_until, self._jumped = second, False
        self._publish(active_entry.entry.name for active_entry in due)
        return count

    def publish_again(self) -> None:
        """Publish active entries again that were removed from Redis, without waiting until they
        fire.
        """
        self.faults.publish_again()
        lost = self._active_entries.keys() - self.resq.store.schedules.published().keys()
        if lost:
            self._publish(sorted(lost))

    def _go_back(self, second: int) -> None:
        """Set the next moment of each entry again, after the clock was set back to `second`."""
        logger.warning(
            "The clock went back by %d s: finding the next moment of each schedule entry again",
            self._checked_until - second,
        )
        self._checked_until = second - 1
        self._arrange(
            {name: active_entry.entry for name, active_entry in self._active_entries.items()}
        )
        self._publish(list(self._active_entries))

    def _publish(self, names: Iterable[str], removed: Iterable[str] = ()) -> None:
        """Publish these active entries, for readers that cannot see the code and the file, and
        delete the `removed` ones.
        """
        entries = {
            name: self._published_entry(self._active_entries[name]).encoded()
            for name in names
            if name in self._active_entries
        }
        deleted = sorted(removed)
        try:
            self.faults.publish()
            if entries or deleted:
                self.resq.store.schedules.publish(entries, deleted)
        except CONNECTION_ERRORS:
            raise
        except ResponseError as error:
            # Only readers need it: entries are fired all the same.
            logger.warning("Could not publish the active schedule to Redis: %s", error)

    def _published_entry(self, active_entry: ActiveEntry) -> PublishedEntry:
        entry = active_entry.entry
        seconds = getattr(active_entry.target, "unique_for", None)
        return PublishedEntry(
            entry.klass,
            active_entry.queue,
            entry.args,
            entry.when,
            active_entry.due,
            entry.description,
            self._source(entry.name),
            seconds.total_seconds() if isinstance(seconds, timedelta) else seconds,
            unique.stage_of(active_entry.target, entry.klass),
        )

    def _source(self, name: str) -> str:
        """The source of an entry: code, file or Redis."""
        if name in self._dynamic:
            return STORED
        return "file" if name in self._filed else "code"

    def _moments(self, active_entry: ActiveEntry, now: int) -> Iterator[int]:
        """Yields the moments to fire, oldest first, and then sets the entry's next moment."""
        moments = self._last_moment if self._jumped else self._each_moment
        for moment in moments(active_entry, now):
            yield moment
            if active_entry.remaining <= 0:
                break
        if active_entry.remaining <= 0:
            active_entry.due = NEVER

    def _each_moment(self, active_entry: ActiveEntry, now: int) -> Iterator[int]:
        if now - active_entry.due > self.late:
            last = active_entry.timing.latest(active_entry.due - 1, now) if self.catch_up else None
            if last is not None:
                active_entry.make_up(last)
                yield last
            active_entry.before = last or now - self.late - 1
            active_entry.due = active_entry.timing.next_after(active_entry.before)
        while active_entry.due <= now:
            yield active_entry.due
            active_entry.before, active_entry.due = (
                active_entry.due,
                active_entry.timing.next_after(active_entry.due),
            )

    def _last_moment(self, active_entry: ActiveEntry, now: int) -> Iterator[int]:
        """_each_moment(), but only the last moment."""
        earliest = (
            active_entry.due - 1
            if self.catch_up
            else max(active_entry.due - 1, now - self.late - 1)
        )
        last = active_entry.timing.latest(earliest, now)
        if last is not None:
            active_entry.make_up(last)
            yield last
        active_entry.before = now if last is None else last
        active_entry.due = active_entry.timing.next_after(now)

    def _fire(self, active_entry: ActiveEntry, moment: int, now: float) -> bool:
        entry = active_entry.entry
        lock = unique.lock_for(active_entry.target, entry.klass, entry.args, now)
        job = unique.job(active_entry.queue, self.resq._recurring_payload(entry, now))
        firing = _firing(active_entry, moment, now, job, lock)
        try:
            outcome = self.resq.store.schedules.fire(firing)
            if lock and outcome == DROPPED and self.resq.store.unique.push(*lock, job, now):
                # Another process had removed the job that held the lock.
                outcome = FIRED
        except CONNECTION_ERRORS:
            raise
        except ResponseError as error:
            if self._refused.get(entry.name) != str(error):
                self._refused[entry.name] = str(error)
                logger.error(
                    "%s could not be enqueued to %s: %s", entry.name, active_entry.queue, error
                )
            return False
        self._refused.pop(entry.name, None)
        active_entry.remaining = (
            0 if outcome == OVER else active_entry.remaining - (outcome in (FIRED, DROPPED))
        )
        if outcome == FIRED:
            logger.info("Enqueued %s to %s for %s", entry.name, active_entry.queue, _shown(moment))
        elif outcome == DROPPED:
            logger.warning("Skipped duplicate of unique job %s", entry.name)
        return outcome == FIRED

    def lines(self) -> list[str]:
        """The active entries as text, one line each, soonest first."""
        return [
            f"{active_entry.entry.name}: {active_entry.entry.when} to {active_entry.queue}, "
            f"next at {_shown(active_entry.due)}"
            for active_entry in sorted(
                self._active_entries.values(), key=lambda active_entry: active_entry.due
            )
        ]


def _firing(
    active_entry: ActiveEntry,
    moment: int,
    now: float,
    job: UniqueJob,
    lock: unique.UniqueLock | None,
) -> Firing:
    entry = active_entry.entry
    return Firing(
        entry.name,
        moment,
        moment - active_entry.timing.step,
        datetime.fromtimestamp(now).astimezone().strftime("%Y-%m-%d %H:%M:%S %z"),
        job.queue,
        job.payload,
        active_entry.before,
        int(now),
        moment == active_entry.made_up,
        *(lock or unique.UniqueLock("", "", 0)),
        run=digest(entry.timing, entry.limits) if entry.limits.times is not None else "",
        times=entry.limits.times or 0,
        locked=job.fields() if lock else (),
    )


def _faults(entries: schedule.Schedule, source: str) -> dict[str, EntryFault]:
    return {name: EntryFault(text, source) for name, text in entries.left_out.items()}


def _covering(moment: int, step: int, fired: list[Range]) -> int | None:
    """The last moment of the fired range that contains this moment, or None."""
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
