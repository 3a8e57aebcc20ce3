"""A minion performs jobs without forking for each, or several at once on gevent.

A job that succeeds costs one call to Redis, which counts the last job and fetches the next.
"""

from __future__ import annotations

import copy
import gc
import importlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Any, ClassVar

from pyres import logs
from pyres.client import LONGEST_POP
from pyres.job import Job
from pyres.overrides import overridden, own_methods
from pyres.performer import Performer
from pyres.process import exit_work, title
from pyres.process.children import (
    Children,
    Exit,
    alive,
    die_with_parent,
    resident_megabytes,
)
from pyres.process.green import GreenSignals, green_alarm, run_together
from pyres.process.job_effects import LIMITS_EVERY, ProcessState, reseed_numpy
from pyres.process.messages import BUSY, DONE, IDLE, PROCESS_ENDS, Reports, WakeupPipe
from pyres.process.signals import Signals
from pyres.wakeups import QueueWatcher

logger = logging.getLogger(__name__)

#: Jobs between two collections of young garbage. Small jobs leave so few objects behind that the
#: interpreter collects only after hundreds of them, and each may hold a socket open.
COLLECT_EVERY = 50

#: How often a minion that stops tries to write what must be written.
LAST_TRIES = 3


class Minion(Performer):
    """One process that fetches and performs jobs, one after the other. From pyres 1.5.

    It has what users of 1.5's multiprocessing.Process call: start(), run(), join(), is_alive(),
    terminate(), kill(), close(), pid, ident, name, exitcode and daemon.

    `interval`: seconds of one wait for a job; `max_jobs` (0: no limit) and `max_memory` in
    megabytes (0: no limit) end it between two jobs, and the manager starts a new one. With
    `greenlets` above 1 it performs that many jobs at once on gevent, each in its own slot.
    """

    minion = True

    #: The number of this slot among the process's slots.
    number = 0

    #: Whether its process has reported that it ends.
    ended = False

    #: Seconds that threads and atexit hooks of jobs get at the end of its process.
    grace = 10.0

    #: The state of the process before its first job.
    _state: ProcessState | None = None
    _next_check = 0.0

    #: Called by start() before the fork; the manager sets it while it starts a minion, so that one
    #: made by a subclass's own _add_minion() becomes its child, too.
    before_start: ClassVar[Callable[[Minion], None] | None] = None

    #: As in multiprocessing.Process; a minion ends with its parent whatever the value.
    daemon = False
    name = "Minion"

    #: Set by run() when its process logs to a file of its own.
    log_file: str | None = None

    #: For subclasses that log. From pyres 1.5.
    logger = logging.getLogger(__name__)

    def __init__(
        self,
        queues: str | Iterable[str],
        server: Any = "localhost:6379",
        password: str | None = None,
        log_level: int | str = logging.INFO,
        log_path: str | None = None,
        interval: float = 5,
        concat_logs: bool = False,
        max_jobs: int = 0,
        *,
        timeout: float | None = None,
        blocking_pop: bool | None = None,
        watch_pop: bool = False,
        reinit_gevent: bool = False,
        max_memory: float = 0,
        greenlets: int = 1,
        require: Sequence[str] = (),
        allow: Sequence[str] = (),
        json_logs: bool = False,
        log_arguments: bool = False,
        run_at_exit_hooks: bool = False,
        heartbeat_interval: float | None = None,
        prune_interval: float | None = None,
    ) -> None:
        super().__init__(
            queues,
            server,
            password,
            timeout,
            blocking_pop=blocking_pop,
            watch_pop=watch_pop,
            reinit_gevent=reinit_gevent,
            allow=allow,
            log_arguments=log_arguments,
            run_at_exit_hooks=run_at_exit_hooks,
            heartbeat_interval=heartbeat_interval,
            prune_interval=prune_interval,
        )
        self.server = server
        self.log_level = log_level
        self.log_path = log_path
        self.interval = interval
        self.concat_logs = concat_logs
        self.max_jobs = max_jobs
        self.max_memory = max_memory
        self.greenlets = greenlets
        self.require = require
        self.json_logs = json_logs
        self.reports: Reports | None = None
        self.wakeup_pipe: WakeupPipe | None = None
        #: What the parent has open and this process must close.
        self.inherited: Sequence[QueueWatcher | WakeupPipe] = ()
        self.children = Children(Signals({}))
        self.exit: Exit | None = None
        self.born = 0.0
        self._slots = [self]
        self._jobs_done = 0
        self._working = 0
        self._guarded = False
        self._parent = 0
        self._reported_timeout: float | None = None
        self._is_idle = False
        self._shown = ""

    def __str__(self) -> str:
        # At the end, as a name that no queue has: Ruby's pruning reads host and pid at the start.
        return super().__str__() + (f",~{self.number}" if self.number else "")

    @property
    def ends_itself(self) -> bool:
        """Whether a subclass overrides process(), which may then end the process by os._exit(0)
        after its job, as in pyres 1.5.
        """
        return self.greenlets == 1 and bool(overridden(self, _OWN_PROCESS))

    @property
    def ids(self) -> list[str]:
        """The worker ids of all slots of this process."""
        return [str(self), *[f"{self},~{number}" for number in range(1, self.greenlets)]]

    # As a process

    def start(self) -> None:
        """Fork the minion's process."""
        if Minion.before_start is not None:
            Minion.before_start(self)
        self._parent = os.getpid()
        self.born = time.monotonic()
        self.pid = self.children.fork(self._live)

    def terminate(self) -> None:
        """Ask its process to end after its running job."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End its process now."""
        self._signal(signal.SIGKILL)

    def _signal(self, signum: int) -> None:
        # Only a child that is not reaped yet: after that the pid may belong to any process.
        if int(self.pid) in self.children:
            self.children.kill(signum, int(self.pid))

    def wake(self, number: int = 0) -> None:
        """Wake one of its slots."""
        if self.wakeup_pipe:
            self.wakeup_pipe.wake(number)

    def close(self) -> None:
        """Close what the manager kept open for it, once it has ended."""
        if self.wakeup_pipe:
            self.wakeup_pipe.close()
            self.wakeup_pipe = None

    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self.exit is None and int(self.pid) in self.children and alive(int(self.pid))

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end of its process, at most `timeout` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        # In a loop: a signal that this process handles ends one wait.
        while self.exit is None and int(self.pid) in self.children:
            remaining = None if end is None else max(0.0, end - time.monotonic())
            self.exit = self.children.wait(int(self.pid), remaining)
            if remaining == 0:
                return

    @property
    def ident(self) -> int | str:
        """The pid, by the other name that multiprocessing has for it."""
        return self.pid

    @property
    def exitcode(self) -> int | None:
        """The exit code of its process, negative for a signal; None while it runs."""
        self.join(0)
        return None if self.exit is None else self.exit.code

    def _live(self) -> int:
        """What the forked process does: its exit code."""
        self.pid = os.getpid()
        self._renew_gevent()
        reseed_numpy()
        for inherited in self.inherited:
            inherited.abandon()
        self._drop_inherited_hooks()
        self.run()
        if exit_work.is_left():
            exit_work.finish(self.grace)
        return 0

    def run(self) -> None:
        """Log to the minion's own file, import the modules of `require`, and work; start() calls it
        in the new process.
        """
        self._title("starting")
        self._log_to_own_file()
        for module in self.require:
            importlib.import_module(module)
        self.work(self.interval)

    def _log_to_own_file(self) -> None:
        if self.log_path is None:
            return
        if logs.special_log_file(self.log_path):
            self.log_file = self.log_path
        else:
            name = "minion.log" if self.concat_logs else f"minion-{self.pid}.log"
            self.log_file = os.path.join(self.log_path, name)
        logs.setup_child_logging("pyres_minion", self.log_level, self.log_file, self.json_logs)

    def clear_logger(self) -> None:
        """Remove the log handler that pyres has installed in this process."""
        logs.clear_logging()

    # Signals

    def register_signal_handlers(self) -> None:
        """Install the handlers, in place of all of the manager's."""
        stop = self.schedule_shutdown
        self.signals = self.signals.replace(
            dict.fromkeys((signal.SIGTERM, signal.SIGINT, signal.SIGQUIT), stop)
        )

    def schedule_shutdown(self, signum: int, frame: FrameType | None) -> None:
        """TERM, INT, QUIT: end after the running job. The manager enforces the grace."""
        self._stop_all()

    def _stop_all(self) -> None:
        for slot in self._slots:
            slot._shutdown = True

    # Work

    def startup(self) -> None:
        """Install the handlers and register; called at the beginning of work()."""
        self._found_overrides = None
        self.register_signal_handlers()
        self._log_overrides()
        self._begin()
        self._log_start()

    def work(self, interval: float | None = None) -> None:
        """Fetch and perform jobs until a signal stops the minion, or a limit is reached."""
        self._in_child = True
        if self._parent:
            self._guarded = die_with_parent(self._parent)
        self._title("starting")
        # Lasting errors at the start have already ended the manager; a minion retries instead.
        self._has_started = bool(self._parent)
        self.startup()
        self._state = ProcessState(self.signals)
        wait = (self.interval if interval is None else interval) or LONGEST_POP
        if self.greenlets > 1:
            self._work_in_slots(wait)
        else:
            self._work_until_stopped(wait)
        if self.reports:
            self.reports.send(self._jobs_done, PROCESS_ENDS)
        logger.info("Minion %s has stopped", self.pid)
        if not self._parent:
            self._end()

    def _end(self) -> None:
        """Close everything, in a process that goes on; a process of its own just ends."""
        for connected in (self._fetcher, self._queue_watcher):
            if connected is not None:
                connected.close()
        if self._state is not None:
            self._state.close()
        self.signals.restore()

    def _begin(self) -> None:
        self._reconnecting(self._announce)
        self._next_beat = time.monotonic() + self.pace.heartbeat

    def _announce(self) -> None:
        self._prune_at_start(self.prune_dead_workers)
        self.register_minion()
        self._announced = True

    def prune_dead_workers(self) -> None:
        """Do nothing, as in pyres 1.5: the manager prunes. For subclasses; startup() calls it."""

    def _work_until_stopped(self, interval: float) -> None:
        try:
            while not self._shutdown:
                self._run_once(interval)
                self._note_started()
        finally:
            self._reconnecting(self._finish_and_unregister, always=True)

    def _work_in_slots(self, interval: float) -> None:
        """Run each slot in its own greenlet, until all have stopped."""
        self._slots += [self._new_slot(number) for number in range(1, self.greenlets)]
        for slot in self._slots[1:]:
            slot._begin()
        process_signals, self.signals = self.signals, GreenSignals()
        self._alarm = green_alarm
        loops = [slot._slot_loop(interval) for slot in self._slots]
        run_together(loops, lambda: self._dispatch_wakeups(process_signals))

    def _new_slot(self, number: int) -> Minion:
        slot = copy.copy(self)
        slot.number = number
        slot.signals = GreenSignals()
        slot._alarm = green_alarm
        return slot

    def _slot_loop(self, interval: float) -> Any:
        def work() -> None:
            try:
                self._work_until_stopped(interval)
            finally:
                # When one slot ends, all end: after a limit, a signal, or a job's side effects.
                self._stop_all()
                for slot in self._slots:
                    slot.signals.wake()

        return work

    def _dispatch_wakeups(self, process_signals: Signals) -> None:
        """In a greenlet of its own: wake all slots after a signal, and single ones by the pipe."""
        signals = GreenSignals.of(process_signals)
        while True:
            signals.wait((self.wakeup_pipe.reader,) if self.wakeup_pipe else ())
            slots = self._slots if signals.signalled else []
            numbers = self.wakeup_pipe.woken_slots() if self.wakeup_pipe else []
            for slot in [*slots, *[self._slots[number] for number in numbers]]:
                slot.signals.wake()

    def register_minion(self) -> None:
        """Register this minion in Redis, as a worker and as a minion."""
        self.registry.register()

    def unregister_minion(self) -> None:
        """Remove this minion's registration from Redis."""
        self.registry.unregister()

    def _run_once(self, interval: float) -> None:
        """Perform one job, or wait once for one."""
        reserves = "reserve" in self._overrides
        job = (
            self._reserve_by_subclass(interval)
            if reserves
            else self._reconnecting(self._fetch_next)
        )
        if job is None:
            if not (self._shutdown or reserves):
                self._wait(interval)
        elif self._shutdown:
            self._reconnecting(lambda: self._put_back(job), always=True)
        else:
            self._do(job)

    def _reserve_by_subclass(self, interval: float) -> Job | None:
        """The job of an overridden reserve(), which in pyres 1.5 takes no argument."""
        if self._is_orphan():
            self._stop_all()
            return None
        if self._finished:
            # Count it now, not with the next fetch: an override may never fetch.
            self._reconnecting(self._finish_last, always=True)
        return self._reserved(lambda: self.reserve(), interval)

    def _call_done_working(self, job: Job) -> None:
        # In pyres 1.5 a minion's done_working() takes no argument.
        self.done_working()

    def _do(self, job: Job) -> None:
        if self._is_idle:
            self._report(BUSY)
            self._is_idle = False
        first = self._slots[0]
        first._working += 1
        try:
            self._title(f"processing {job._queue} since {int(time.time())} [{job.shown_name}]")
            self.process(job)
        finally:
            first._working -= 1
            first._tidy_up(others=first._working)
        self._finished = not (self._unrecorded or self._counts_itself)
        if self._reported_timeout is not None:
            self._reported_timeout = None
            self._report(DONE)
        first._jobs_done += 1
        if first._jobs_done % COLLECT_EVERY == 0:
            gc.collect(1)
        if first._is_spent():
            self._stop_all()

    def _perform(self, job: Job) -> Any:
        try:
            return super()._perform(job)
        except Exception:
            # Before the failure is recorded, which may take long: an alarm that the job has set
            # would interrupt that.
            self._slots[0]._tidy_up(others=self._slots[0]._working - 1, failed=True)
            raise

    def _tidy_up(self, others: int, failed: bool = False) -> None:
        """After a job: restore the process's state, or let it end. `others`: jobs still running."""
        if self._state is None:
            return
        if not others:
            problems = [*self._state.restore(), *self._state.exhausted(failed)]
            self._next_check = time.monotonic() + LIMITS_EVERY
        else:
            problems = self._problems_beside_others(self._state)
        if self._is_orphan():
            problems.append("its manager has died")
        for problem in problems:
            logger.warning("Minion %s ends after its job: %s", self.pid, problem)
        if problems:
            self._stop_all()

    def _problems_beside_others(self, state: ProcessState) -> list[str]:
        """While other jobs run: check at intervals, and restore nothing that a running job may
        have set on purpose.
        """
        if time.monotonic() < self._next_check:
            return []
        self._next_check = time.monotonic() + LIMITS_EVERY
        return state.problems()

    def _is_spent(self) -> bool:
        """Whether `max_jobs` or `max_memory` is reached, so that a new minion must replace this."""
        if self.max_jobs and self._jobs_done >= self.max_jobs:
            logger.info("Minion %s has done its %d jobs", self.pid, self._jobs_done)
            return True
        if self.max_memory and (used := resident_megabytes()) > self.max_memory:
            logger.info("Minion %s uses %.0f MB, more than its limit", self.pid, used)
            return True
        return False

    def _report(self, value: float) -> None:
        if self.reports:
            self.reports.send(value, self.number)

    def _timeout_of(self, job: Job) -> float | None:
        seconds = super()._timeout_of(job)
        if seconds:
            # So that the manager can kill a job that its own timeout alarm does not interrupt.
            self._reported_timeout = seconds
            self._report(seconds)
        return seconds

    def _is_orphan(self) -> bool:
        """Whether the parent has died; a job may have ignored the signal that this sends."""
        return bool(self._parent) and os.getppid() != self._parent

    def _wait(self, interval: float) -> None:
        self._show_wait(self.fetcher.paused)
        if self._is_orphan():
            self._stop_all()
            return
        if self._parent and not self._guarded:
            # So that the parent is checked every second.
            interval = min(interval, 1.0)
        job = self._wait_for_job(interval)
        if job is not None:
            self._do(job)

    def _show_wait(self, paused: bool) -> None:
        waits = f"waiting for job on: [{','.join(self._queue_list.names)}]"
        self._title("paused" if paused else waits)

    def _wait_for_push(self, interval: float) -> None:
        """With a manager, wait for its wake-up: it watches the queues for all of its minions."""
        if self.wakeup_pipe is None:
            super()._wait_for_push(interval)
            return
        fds: tuple[int, ...] = ()
        if len(self._slots) == 1:
            # Drop wake-ups from before this report of IDLE: a fetch has come after them.
            self.wakeup_pipe.woken_slots()
            fds = (self.wakeup_pipe.reader,)
        self._is_idle = True
        self._report(IDLE)
        self.signals.wait(fds, interval)

    def _finish_and_unregister(self) -> None:
        # Put back first: unregistering deletes the in-flight record, and with it a fetched job.
        self._finish_and_put_back()
        self.unregister_minion()

    def _stop_clock(self) -> None:
        if self._reported_timeout is not None:
            self._report(DONE)

    def _has_parent(self) -> bool:
        return bool(self._parent) and not self._is_orphan()

    def _gives_up(self, always: bool, tries: int) -> bool:
        # A few tries reopen a connection that was cut. A stopping minion does not wait longer for a
        # disconnected server: the manager records its in-flight job.
        stops = self._shutdown or self._is_orphan()
        return stops and (not always or tries >= LAST_TRIES)

    def _beat(self) -> None:
        if self.number:
            self.registry.beat()
        else:
            super()._beat()

    def _title(self, state: str) -> None:
        if self.greenlets > 1:
            state = f"processing {self._slots[0]._working} of {self.greenlets} jobs"
        # Setting a title costs; small jobs of one class within a second have the same one.
        if state != self._slots[0]._shown:
            self._slots[0]._shown = state
            title.set_title(title.minion_title(self._parent or os.getppid(), state))


#: pyres' own process(), to detect an override.
_OWN_PROCESS = own_methods(Minion, ["process"])
