"""Scheduler: promotes delayed jobs that are due and fires recurring jobs, under Resque's lock."""

from __future__ import annotations

import functools
import logging
import os
import platform
import time
from collections.abc import Collection, Iterator, Mapping
from types import FrameType
from typing import Any

from pyres import payload, starting, version
from pyres.active_schedule import ActiveSchedule
from pyres.client import as_resq
from pyres.clock_jumps import ClockJumps
from pyres.exceptions import BadOptionError, JobError, UndecodableError
from pyres.failure.redis import RedisBackend
from pyres.former_names import former_names
from pyres.mastership import Mastership
from pyres.process import title
from pyres.process.signals import Signals, existing
from pyres.promotion import promoted
from pyres.reconnecting import FIRST_PAUSE, LONGEST_PAUSE, PrimaryCheck, ServerState
from pyres.schedule_gaps import Gaps
from pyres.standby import ALWAYS, TAKE_LOCK, Candidate, Comparison, Overdue
from pyres.store import (
    CONNECTION_ERRORS,
    LOCK_TIMEOUT,
    REFUSAL_ERRORS,
    SERVER_ERRORS,
    Move,
    Moved,
    Reading,
    ResponseError,
    described,
    elapsed,
    is_lasting,
)

logger = logging.getLogger(__name__)

#: Payloads that one call moves on the server; more would block other clients for longer.
BATCH = 500

#: Seconds spent on a backlog before the lock is renewed and the schedule is checked again.
PROMOTION_LIMIT = 0.5

#: Due timestamps read at a time.
TIMESTAMPS = 100

#: Seconds between two checks that the active entries are still published.
CHECK_INTERVAL = 30.0

#: Methods a subclass may override to choose what is promoted, at the cost of a call for each job.
GENERATORS = ("next_timestamp", "next_item")


class Scheduler:
    """Promotes delayed jobs when they are due, and fires recurring ones. From pyres 1.5.

    Any number may run, of Python and of Ruby: the one that holds the lock works, the others are on
    standby. `interval`: seconds between two tries to acquire the lock; `lock_timeout`: seconds
    until the lock of a master that died expires. Due jobs are checked every second. `schedule` is a
    file of entries, `dynamic` adds those in Redis, `catch_up` fires late the last moment that was
    missed while no scheduler ran, `front` pushes due jobs to the head of their queues. `queue_for`
    has the queues of classes that are not known here, for entries and delayed jobs without a queue.
    `take_lock` is "always", "able" (on standby while an entry would stop that another scheduler
    fires) or "never" (fire only entries of code and file).
    """

    def __init__(
        self,
        server: Any = "localhost:6379",
        password: str | None = None,
        *,
        interval: float = 5,
        lock_timeout: float = LOCK_TIMEOUT,
        lock_prefix: str = "",
        schedule: str | None = None,
        dynamic: bool = False,
        catch_up: bool = False,
        front: bool = False,
        environment: str | None = None,
        queue_for: Mapping[str, str] | None = None,
        take_lock: str = ALWAYS,
    ) -> None:
        if take_lock not in TAKE_LOCK:
            raise BadOptionError(
                f"invalid take_lock {take_lock!r}: expected one of {', '.join(TAKE_LOCK)}"
            )
        self.resq = as_resq(server, password)
        self.interval = interval
        self.lock_timeout = lock_timeout
        self.lock_prefix = lock_prefix
        self.front = front
        self._queue_for = dict(queue_for or {})
        self.hostname = platform.node()
        self.pid = os.getpid()
        active_schedule = functools.partial(
            ActiveSchedule,
            self.resq,
            schedule,
            catch_up=catch_up,
            environment=environment,
            queue_for=queue_for,
            late=lock_timeout + interval,
        )
        self.static = active_schedule(yields=dynamic)
        self.dynamic = active_schedule(static=False, dynamic=dynamic)
        self._set_up_locks(take_lock)
        self.signals = Signals({})
        self._shutdown = False
        self._reload = False
        self._print = False
        self._connected = False
        self._primary = PrimaryCheck(self.resq.store)
        self._server_state = ServerState("trying again, after longer and longer pauses")
        self._shown = ""
        self._logged: set[str] = set()
        self._next_check = 0.0
        self._jumps = ClockJumps()

    def __str__(self) -> str:
        return f"{self.hostname}:{self.pid}"

    def _set_up_locks(self, take_lock: str) -> None:
        schedules = self.resq.store.schedules
        hold = functools.partial(
            Mastership, name=str(self), timeout=self.lock_timeout, interval=self.interval
        )
        self._mastership = hold(
            schedules.master_lock(self.lock_prefix), lock_name="master's lock", duty="is the master"
        )
        self._static_mastership = hold(
            schedules.static_lock(self.lock_prefix),
            lock_name="lock for static entries",
            duty="fires the entries of code and files",
        )
        self._candidate = Candidate(
            take_lock, self._mastership, Gaps(self.dynamic), self.interval, self.lock_timeout
        )
        self._comparison = Comparison(schedules, self.interval)
        self._overdue = Overdue(self.dynamic)

    @property
    def master(self) -> bool:
        """Whether it moves delayed jobs and fires the entries in Redis."""
        return self._mastership.held

    # Signals: a handler only sets a flag; the loop acts on it

    def register_signal_handlers(self) -> None:
        """Install the handlers: TERM, INT, QUIT stop; USR1 logs the schedule, USR2 reads it."""
        self.signals = self.signals.replace(
            existing(
                SIGTERM=self.schedule_shutdown,
                SIGINT=self.schedule_shutdown,
                SIGQUIT=self.schedule_shutdown,
                SIGBREAK=self.schedule_shutdown,  # Ctrl-Break of Windows
                SIGUSR1=self.print_schedule,
                SIGUSR2=self.reload_schedule,
            )
        )

    def schedule_shutdown(self, signal: int, frame: FrameType | None) -> None:
        """TERM, INT, QUIT: finish the current batch, release the lock and stop."""
        self._shutdown = True

    def print_schedule(self, signum: int, frame: FrameType | None) -> None:
        """USR1: log the active entries."""
        self._print = True

    def reload_schedule(self, signum: int, frame: FrameType | None) -> None:
        """USR2: read the schedule again."""
        self._reload = True

    # Starting, working, stopping

    @classmethod
    def run(cls, server: Any, password: str | None = None, **more: Any) -> None:
        """Schedule until a signal stops the scheduler."""
        cls(server, password, **more)()

    def __call__(self) -> None:
        """Schedule until a signal stops the scheduler. BadScheduleError for an invalid file."""
        self.register_signal_handlers()
        if self._overrides(*GENERATORS):
            logger.warning(
                "%s overrides %s: due jobs are promoted one by one, in two calls each; a kill "
                "between the two loses a job",
                type(self).__name__,
                " or ".join(GENERATORS),
            )
        try:
            self._title("Starting")
            self.static.load()
            logger.info(
                "Started the scheduler %s with pyres %s: promotes due jobs on %s, and checks the "
                "lock every %g s",
                self,
                version.__version__,
                self.resq.dsn,
                self.interval,
            )
            if self._candidate.never_leads and not self.static.has_static:
                logger.warning("%s has nothing to do: no entries, and never the master", self)
            pause = FIRST_PAUSE
            while not self._shutdown:
                pause = self._run_once_or_wait(pause)
            self._fire_last()
            self._release()
        finally:
            self.signals.restore()
        logger.info("%s has stopped", self)

    def _run_once_or_wait(self, pause: float) -> float:
        """Run once; while the server is disconnected, pause instead. Returns the next pause, which
        is twice as long.
        """
        try:
            seconds = self._run_once()
        except SERVER_ERRORS as error:
            if is_lasting(error) and not self._connected:
                raise
            self._server_state.failed(error)
            self._sleep(pause)
            return min(pause * 2, LONGEST_PAUSE)
        self._server_state.succeeded()
        self._connected = True
        starting.finish()
        self._sleep(seconds)
        return FIRST_PAUSE

    def _sleep(self, seconds: float) -> None:
        if not self._shutdown and seconds > 0:
            self.signals.sleep(seconds)

    def _run_once(self) -> float:
        """Do all that is due now; the seconds until there may be more."""
        self._primary.leave_old()
        jumped = self._check_clock()
        self._act_on_signals()
        pauses = [self._lead(jumped), self._fire_static(jumped)]
        self._publish_again()
        self._title(self._state())
        if self.master or self._static_mastership.held:
            # Jobs are due on whole seconds, and any client may delay one until this second.
            pauses.append(1.001 - self._now() % 1)
        return min(pauses)

    def _lead(self, jumped: bool) -> float:
        """Do the master's work, if it may be the master; the seconds until there may be more."""
        if not self._candidate.may_lead(self._now(), self.static, self.dynamic):
            if self.master:
                self._mastership.release()
            return self.interval
        pause = self._follow(self._mastership, self.dynamic, jumped)
        if self._mastership.holder and self.dynamic.dynamic:
            self._overdue.check(self._now(), self._mastership.holder)
        return pause if not self.master or self._move_due() else 0

    def _fire_static(self, jumped: bool) -> float:
        """Fire the due entries from code and files; the seconds until there may be more.

        A scheduler without such entries leaves their lock to those that have some.
        """
        if self.static.has_static:
            pause = self._follow(self._static_mastership, self.static, jumped)
            if self._static_mastership.holder:
                self._comparison.check(self.static, self._static_mastership.holder)
            return pause
        if self._static_mastership.held:
            self._static_mastership.release()
        return self.interval

    def _follow(
        self, mastership: Mastership, active_schedule: ActiveSchedule, jumped: bool
    ) -> float:
        """Acquire or renew the lock, and with it fire the due entries; the seconds until the lock
        is to be checked again.
        """
        pause = mastership.renew(self._now())
        if mastership.since is not None:
            active_schedule.start(mastership.since)
            mastership.since = None
        if mastership.held:
            active_schedule.refresh()
            active_schedule.fire(self._now(), jumped)
        return pause

    def _state(self) -> str:
        """The state that the process title shows."""
        if self._candidate.state:
            return self._candidate.state
        if self.master or not self._mastership.holder:
            return "Waiting"
        waiting = f"Waiting for the lock of {self._mastership.holder}"
        return f"{waiting}, firing entries" if self._static_mastership.held else waiting

    def _publish_again(self) -> None:
        """Every 30 s, publish entries that Redis has lost, such as by FLUSHALL or a restart."""
        if time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + CHECK_INTERVAL
        if self.master:
            self.dynamic.publish_again()
        if self._static_mastership.held:
            self.static.publish_again()

    def _check_clock(self) -> bool:
        """Whether the server's clock was set forward since the last call."""
        if self.resq.has_own_clock:
            before, now = elapsed(), self._now()
            reading = Reading(now, before, elapsed())
        else:
            reading = self.resq.store.clock.read()
        jumped = self._jumps.forward(*reading)
        if jumped:
            logger.warning(
                "The clock went forward: each schedule entry fires at most once for that time"
            )
        return jumped

    def _act_on_signals(self) -> None:
        if self._reload:
            self._reload = False
            self.static.reload(self._static_mastership.held)
            self.dynamic.reload(self.master)
        if self._print:
            self._print = False
            self._log_schedule()

    def _log_schedule(self) -> None:
        for mastership, active_schedule in (
            (self._mastership, self.dynamic),
            (self._static_mastership, self.static),
        ):
            if mastership.held:
                lines = "; ".join(active_schedule.lines()) or "none"
                logger.info("%s %s; active entries: %s", self, mastership.duty, lines)
            elif mastership.holder:
                logger.info("%s %s", mastership.holder, mastership.duty)

    def _fire_last(self) -> None:
        """Fire the due entries in Redis before stopping: a Ruby master would not fire them late."""
        if not self.master:
            return
        try:
            self._follow(self._mastership, self.dynamic, jumped=False)
        except SERVER_ERRORS as error:
            logger.warning("%s before the last due entries were fired", described(error))

    def _release(self) -> None:
        self._mastership.release()
        if self.static.has_static:
            self._static_mastership.release()

    def _now(self) -> float:
        return self.resq.server_time().timestamp()

    def _title(self, state: str) -> None:
        if state != self._shown:
            title.set_title(title.scheduler_title(state))
            self._shown = state

    # Delayed jobs

    def next_timestamp(self) -> Iterator[str]:
        """Yields each timestamp that is due; the caller must empty it before the next."""
        while timestamp := self.resq.next_delayed_timestamp():
            yield timestamp

    def next_item(self, timestamp: int | str) -> Iterator[Any]:
        """Yields each item due at a timestamp, after removing it."""
        while (item := self.resq.next_item_for_timestamp(timestamp)) is not None:
            yield item

    def handle_delayed_items(self) -> None:
        """Promote all due jobs now, whichever scheduler holds the lock."""
        if self._overrides(*GENERATORS) or self.resq.overrides_push:
            self._move_by_generators()
            return
        while not self._promote(time.monotonic() + PROMOTION_LIMIT) and not self._shutdown:
            pass

    def _overrides(self, *names: str) -> bool:
        """Whether a subclass has its own method of one of these names."""
        return any(getattr(type(self), name) is not getattr(Scheduler, name) for name in names)

    def _move_due(self) -> bool:
        """Promote due jobs for up to 0.5 s; whether all that can be promoted are."""
        if self._overrides("handle_delayed_items", *GENERATORS) or self.resq.overrides_push:
            self.handle_delayed_items()
            return True
        return self._promote(time.monotonic() + PROMOTION_LIMIT)

    def _move_by_generators(self) -> None:
        """As in pyres 1.5: each item is removed in one call and pushed in another."""
        for timestamp in self.next_timestamp():
            for item in self.next_item(timestamp):
                self._push(self._move(payload.encode(item)))
            if self._shutdown:
                return

    def _push(self, move: Move) -> None:
        if move.queue is not None:
            self.resq.push(move.queue, payload.pushable(move.pushed))
            return
        self.resq.store.failed.push(move.pushed)
        self.resq.store.stats.incr("failed")

    def _promote(self, end: float) -> bool:
        """Promote due jobs until `end` (monotonic); whether all that can be promoted are."""
        delayed, stuck = self.resq.store.delayed, 0
        # Skip timestamps that cannot be emptied: they stay the earliest, and later ones are due.
        while timestamps := delayed.due_timestamps(self._now(), TIMESTAMPS + stuck)[stuck:]:
            emptied = [self._empty(timestamp, end) for timestamp in timestamps]
            if self._shutdown or time.monotonic() >= end:
                return False
            stuck += emptied.count(False)
        return True

    def _empty(self, timestamp: int, end: float) -> bool:
        """Promote the jobs of a timestamp, a batch in each call; whether it is empty now."""
        delayed, start, refused = self.resq.store.delayed, 0, set[str | None]()
        while not self._shutdown and time.monotonic() < end:
            try:
                payloads, complete = delayed.page(timestamp, start, BATCH)
                moves = [self._move(raw, timestamp, refused) for raw in payloads]
                last = start + len(payloads) - 1
                moved = delayed.promote(timestamp, moves, self.front, start, last)
            except (*CONNECTION_ERRORS, *REFUSAL_ERRORS):
                raise
            except ResponseError as error:
                self._log_once(
                    f"delayed:{timestamp}", f"cannot promote the jobs due at {timestamp}: {error}"
                )
                return False
            logger.debug("Promoted %d jobs that were due at %d", moved.number, timestamp)
            self._log_refused(timestamp, moved)
            if queues := moved.refused.keys() - {None}:
                # Read the page again: now the jobs of these queues become failures.
                refused |= queues
                continue
            # Skip what cannot be recorded as a failure either.
            start += sum(move.queue in moved.refused for move in moves)
            if complete:
                return not start
        return False

    def _log_refused(self, timestamp: int, moved: Moved) -> None:
        for queue in moved.refused:
            key = "failed" if queue is None else f"queue:{queue}"
            self._log_once(key, _not_a_list(timestamp, key))

    def _log_once(self, key: str, text: str) -> None:
        """Log an error of a key once, not every second."""
        if key not in self._logged:
            self._logged.add(key)
            logger.error(text)

    def _move(self, raw: bytes, timestamp: int = 0, refused: Collection[str | None] = ()) -> Move:
        """The queue and payload for a due job; a malformed one, or one whose queue is not a list,
        becomes a failure.
        """
        now = self._now() if self.resq.enqueue_timestamp else None
        try:
            move = Move(raw, *promoted(raw, now, self._queue_for))
        except UndecodableError as error:
            logger.error("Recording a delayed job as a failure: %s", error)
            return self._failure(raw, error)
        if move.queue in refused:
            return self._failure(raw, JobError(_not_a_list(timestamp, f"queue:{move.queue}")))
        return move

    def _failure(self, raw: bytes, error: Exception) -> Move:
        recorded = payload.recordable(payload.show(raw), raw)
        failed = RedisBackend(error, payload.text_of(raw, "queue"), recorded)
        failed.raw_payload = payload.own_bytes(payload.show(raw), raw)
        return Move(raw, None, failed.encoded(self.resq))


def _not_a_list(timestamp: int, key: str) -> str:
    return f"cannot promote a job due at {timestamp}: the key {key} is not a list"


__getattr__ = former_names(
    __name__,
    {
        "ResQ": "pyres.client:ResQ",
        "__version__": "pyres.version:__version__",
        "setproctitle": "setproctitle:setproctitle",
        "string_types": "pyres.former_names:string_types",
    },
)


if __name__ == "__main__":
    from pyres.scripts import pyres_scheduler

    raise SystemExit(pyres_scheduler())
