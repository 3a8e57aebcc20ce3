"""Scheduler: under Resque's lock, moves what is due to its queue and fires what recurs."""

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

#: Payloads that one step on the server moves; more would keep others waiting for longer.
BATCH = 500

#: Seconds of one go at a backlog, before the lock and the schedule have their turn.
ONE_GO = 0.5

#: Due timestamps read at a time.
TIMESTAMPS = 100

#: Seconds between two looks at whether the entries in force are still published.
CHECK_INTERVAL = 30.0

#: What a subclass may override to choose what is moved, at the cost of a step for each item.
GENERATORS = ("next_timestamp", "next_item")


class Scheduler:
    """The one who moves delayed jobs when they are due. From pyres 1.5.

    Any number may run, of Python and of Ruby: who holds the lock works, the others stand by.
    `interval` seconds between two looks at the lock, `lock_timeout` seconds until that of a master
    that died is free. What is due is looked for every second. `schedule` is a file of entries,
    `dynamic` adds those in Redis, `catch_up` makes up the last moment missed while none ran,
    `front` puts what is due before what waits on its queue already. `queue_for` has the queues of
    classes that are not known here, for entries and delayed jobs that name none. `take_lock` is
    "always", "able" (stand by while an entry would stop that another scheduler follows) or "never"
    (only entries of code and file).
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
        self._tell = False
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

    # Signals: each handler notes, the loop acts

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
        """TERM, INT, QUIT: finish the batch in hand, release the lock and stop."""
        self._shutdown = True

    def print_schedule(self, signum: int, frame: FrameType | None) -> None:
        """USR1: log what is in force."""
        self._tell = True

    def reload_schedule(self, signum: int, frame: FrameType | None) -> None:
        """USR2: read the schedule again."""
        self._reload = True

    # Life

    @classmethod
    def run(cls, server: Any, password: str | None = None, **more: Any) -> None:
        """Schedule until a signal says stop."""
        cls(server, password, **more)()

    def __call__(self) -> None:
        """Schedule until a signal says stop. Raises BadScheduleError for a file that is none."""
        self.register_signal_handlers()
        if self._overrides(*GENERATORS):
            logger.warning(
                "%s overrides %s: due jobs move one by one, and one that is between two steps is "
                "lost when this process is killed",
                type(self).__name__,
                " or ".join(GENERATORS),
            )
        try:
            self._title("Starting")
            self.static.load()
            logger.info(
                "Started the scheduler %s with pyres %s: moves due jobs on %s, and looks at the "
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
                pause = self._turn_or_wait(pause)
            self._fire_last()
            self._release()
        finally:
            self.signals.restore()
        logger.info("%s has stopped", self)

    def _turn_or_wait(self, pause: float) -> float:
        """One turn; while the server is gone a pause, each twice as long as the one before."""
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
        """All there is to do now; the seconds until there may be more."""
        self._primary.leave_old()
        jumped = self._look_at_clock()
        self._heed_signals()
        pauses = [self._lead(jumped), self._fire_static(jumped)]
        self._publish_again()
        self._title(self._state())
        if self.master or self._static_mastership.held:
            # Jobs are due on whole seconds, and anybody may put one off for this very moment.
            pauses.append(1.001 - self._now() % 1)
        return min(pauses)

    def _lead(self, jumped: bool) -> float:
        """What the master has to do now; the seconds until there may be more."""
        if not self._candidate.may_lead(self._now(), self.static, self.dynamic):
            if self.master:
                self._mastership.release()
            return self.interval
        pause = self._follow(self._mastership, self.dynamic, jumped)
        if self._mastership.holder and self.dynamic.dynamic:
            self._overdue.look(self._now(), self._mastership.holder)
        return pause if not self.master or self._move_due() else 0

    def _fire_static(self, jumped: bool) -> float:
        """What is due of the entries from code and files; the seconds until there may be more.

        Who has none leaves the lock to those that have some.
        """
        if self.static.has_static:
            pause = self._follow(self._static_mastership, self.static, jumped)
            if self._static_mastership.holder:
                self._comparison.look(self.static, self._static_mastership.holder)
            return pause
        if self._static_mastership.held:
            self._static_mastership.release()
        return self.interval

    def _follow(
        self, mastership: Mastership, active_schedule: ActiveSchedule, jumped: bool
    ) -> float:
        """Fire what is due of these entries if the lock is ours; the seconds until the next look
        at it.
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
        """What the process title says."""
        if self._candidate.state:
            return self._candidate.state
        if self.master or not self._mastership.holder:
            return "Waiting"
        waiting = f"Waiting for the lock of {self._mastership.holder}"
        return f"{waiting}, firing entries" if self._static_mastership.held else waiting

    def _publish_again(self) -> None:
        """Now and then, for after FLUSHALL or on an empty server nobody else knows the entries."""
        if time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + CHECK_INTERVAL
        if self.master:
            self.dynamic.publish_again()
        if self._static_mastership.held:
            self.static.publish_again()

    def _look_at_clock(self) -> bool:
        """Ask the server for its time, once a turn; whether its clock was set forward."""
        if self.resq.has_own_clock:
            before, now = elapsed(), self._now()
            reading = Reading(now, before, elapsed())
        else:
            reading = self.resq.store.clock.read()
        jumped = self._jumps.forward(*reading)
        if jumped:
            logger.warning(
                "The clock went forward: each schedule entry makes up one moment at most"
            )
        return jumped

    def _heed_signals(self) -> None:
        if self._reload:
            self._reload = False
            self.static.reload(self._static_mastership.held)
            self.dynamic.reload(self.master)
        if self._tell:
            self._tell = False
            self._log_schedule()

    def _log_schedule(self) -> None:
        for mastership, active_schedule in (
            (self._mastership, self.dynamic),
            (self._static_mastership, self.static),
        ):
            if mastership.held:
                lines = "; ".join(active_schedule.lines()) or "no entry"
                logger.info("%s %s; in force: %s", self, mastership.duty, lines)
            elif mastership.holder:
                logger.info("%s %s", mastership.holder, mastership.duty)

    def _fire_last(self) -> None:
        """Fire what is due now of the entries in Redis: Ruby, who may follow, makes up nothing."""
        if not self.master:
            return
        try:
            self._follow(self._mastership, self.dynamic, jumped=False)
        except SERVER_ERRORS as error:
            logger.warning("%s before the last moments were fired", described(error))

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
        """Each timestamp that has come, as long as there is one: whoever asks for it empties it."""
        while timestamp := self.resq.next_delayed_timestamp():
            yield timestamp

    def next_item(self, timestamp: int | str) -> Iterator[Any]:
        """Each item due at a timestamp, removed from it as it is given."""
        while (item := self.resq.next_item_for_timestamp(timestamp)) is not None:
            yield item

    def handle_delayed_items(self) -> None:
        """Move all that is due to its queue now, whoever holds the lock."""
        if self._overrides(*GENERATORS) or self.resq.overrides_push:
            self._move_by_generators()
            return
        while not self._promote(time.monotonic() + ONE_GO) and not self._shutdown:
            pass

    def _overrides(self, *names: str) -> bool:
        """Whether a subclass has its own method of one of these names."""
        return any(getattr(type(self), name) is not getattr(Scheduler, name) for name in names)

    def _move_due(self) -> bool:
        """One go at what is due; whether nothing that can be moved is left."""
        if self._overrides("handle_delayed_items", *GENERATORS) or self.resq.overrides_push:
            self.handle_delayed_items()
            return True
        return self._promote(time.monotonic() + ONE_GO)

    def _move_by_generators(self) -> None:
        """As pyres 1.5: each item is removed in one step and pushed in another."""
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
        """Move what is due until `end` (monotonic); whether nothing that can be moved is left."""
        delayed, stuck = self.resq.store.delayed, 0
        # Timestamps that cannot be emptied stay the earliest; those behind them are due as well.
        while timestamps := delayed.due_timestamps(self._now(), TIMESTAMPS + stuck)[stuck:]:
            emptied = [self._empty(timestamp, end) for timestamp in timestamps]
            if self._shutdown or time.monotonic() >= end:
                return False
            stuck += emptied.count(False)
        return True

    def _empty(self, timestamp: int, end: float) -> bool:
        """Move what waits at a timestamp, a batch in one step; whether it is empty now."""
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
            logger.debug("Moved %d jobs that were due at %d", moved.number, timestamp)
            self._log_refused(timestamp, moved)
            if queues := moved.refused.keys() - {None}:
                # Their jobs become failures when they are read again.
                refused |= queues
                continue
            # What cannot be recorded as a failure either has to stay.
            start += sum(move.queue in moved.refused for move in moves)
            if complete:
                return not start
        return False

    def _log_refused(self, timestamp: int, moved: Moved) -> None:
        for queue in moved.refused:
            key = "failed" if queue is None else f"queue:{queue}"
            self._log_once(key, _not_a_list(timestamp, key))

    def _log_once(self, key: str, text: str) -> None:
        """Log what is wrong with a key once, not each second."""
        if key not in self._logged:
            self._logged.add(key)
            logger.error(text)

    def _move(self, raw: bytes, timestamp: int = 0, refused: Collection[str | None] = ()) -> Move:
        """What becomes of a payload that is due; one that is no job, or whose queue is not a list,
        becomes a failure.
        """
        now = self._now() if self.resq.enqueue_timestamp else None
        try:
            move = Move(raw, *promoted(raw, now, self._queue_for))
        except UndecodableError as error:
            logger.error("A delayed job becomes a failure: %s", error)
            return self._failure(raw, error)
        if move.queue in refused:
            return self._failure(raw, JobError(_not_a_list(timestamp, f"queue:{move.queue}")))
        return move

    def _failure(self, raw: bytes, error: Exception) -> Move:
        shown = payload.recordable(payload.show(raw), raw)
        failed = RedisBackend(error, payload.text_of(raw, "queue"), shown)
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
