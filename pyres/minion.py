"""A minion takes and performs jobs without forking for each, or several at once on gevent.

What it sends for a job that goes well is one call to Redis, which counts the last job and takes the
next.
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

#: Jobs between two looks for young garbage. Small jobs leave so few objects behind that the
#: interpreter's own look comes after hundreds of them, and a socket may hang in each.
COLLECT_EVERY = 50

#: How often a minion that stops tries to write what must be written.
LAST_TRIES = 3


class Minion(Performer):
    """One process that takes and performs jobs, one after the other. From pyres 1.5.

    It has what users of 1.5's multiprocessing.Process call: start(), run(), join(), is_alive(),
    terminate(), kill(), close(), pid, ident, name, exitcode and daemon.

    `interval` seconds is one wait for a job; `max_jobs` (0: no limit) and `max_memory` megabytes
    (0: no limit) end it between two jobs, and Khan starts a fresh one. With `greenlets` above 1 it
    performs so many jobs at once on gevent, each in a hand of its own.
    """

    minion = True

    #: Which of the process's hands this is.
    number = 0

    #: Whether its process has reported that it ends.
    ended = False

    #: Seconds that threads and atexit hooks of jobs get at the end of its process.
    grace = 10.0

    #: What the process was before its first job.
    _state: ProcessState | None = None
    _next_check = 0.0

    #: Called by start() before the fork; a Khan sets it while it has a minion started, so that one
    #: from a subclass's own _add_minion() is its child too.
    before_start: ClassVar[Callable[[Minion], None] | None] = None

    #: multiprocessing's; a minion ends with its parent whatever this is.
    daemon = False
    name = "Minion"

    #: Set by run() when its process logs to a file of its own.
    log_file: str | None = None

    #: 1.5's, for subclasses that log.
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
        #: What of the parent's must not stay open in this process.
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
        # A name that no queue has, behind the queues: Ruby's pruning reads host and pid in front.
        return super().__str__() + (f",~{self.number}" if self.number else "")

    @property
    def ends_itself(self) -> bool:
        """Whether a subclass has a process() of its own, which may end the process by os._exit(0)
        when its job is done, as in pyres 1.5.
        """
        return self.greenlets == 1 and bool(overridden(self, _OWN_PROCESS))

    @property
    def ids(self) -> list[str]:
        """The worker ids of all the hands of this process."""
        return [str(self), *[f"{self},~{number}" for number in range(1, self.greenlets)]]

    # As a process

    def start(self) -> None:
        """Fork the process that works."""
        if Minion.before_start is not None:
            Minion.before_start(self)
        self._parent = os.getpid()
        self.born = time.monotonic()
        self.pid = self.children.fork(self._live)

    def terminate(self) -> None:
        """Ask its process to end after the job that it performs."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End its process now."""
        self._signal(signal.SIGKILL)

    def _signal(self, signum: int) -> None:
        # Only a child that has not been waited for: another pid may be anybody's by now.
        if int(self.pid) in self.children:
            self.children.kill(signum, int(self.pid))

    def wake(self, number: int = 0) -> None:
        """Wake one of its hands."""
        if self.wakeup_pipe:
            self.wakeup_pipe.wake(number)

    def close(self) -> None:
        """What Khan kept open for it, when it has ended."""
        if self.wakeup_pipe:
            self.wakeup_pipe.close()
            self.wakeup_pipe = None

    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self.exit is None and int(self.pid) in self.children and alive(int(self.pid))

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end of its process, at most `timeout` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        # More than once: a signal that this process handles ends one wait.
        while self.exit is None and int(self.pid) in self.children:
            left = None if end is None else max(0.0, end - time.monotonic())
            self.exit = self.children.wait(int(self.pid), left)
            if left == 0:
                return

    @property
    def ident(self) -> int | str:
        """The pid, by multiprocessing's other name."""
        return self.pid

    @property
    def exitcode(self) -> int | None:
        """What its process ended with, negative for a signal; None while it runs."""
        self.join(0)
        return None if self.exit is None else self.exit.code

    def _live(self) -> int:
        """The process's whole life."""
        self.pid = os.getpid()
        self._renew_gevent()
        reseed_numpy()
        for parents in self.inherited:
            parents.abandon()
        self._drop_inherited_hooks()
        self.run()
        if exit_work.is_left():
            exit_work.finish(self.grace)
        return 0

    def run(self) -> None:
        """Log to the minion's own file, import what `require` names, and work; start() calls it in
        the new process.
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
        """Remove the handler that pyres has set up for the log of this process."""
        logs.clear_logging()

    # Signals

    def register_signal_handlers(self) -> None:
        """Install the handlers; none of Khan's is left."""
        stop = self.schedule_shutdown
        self.signals = self.signals.replace(
            dict.fromkeys((signal.SIGTERM, signal.SIGINT, signal.SIGQUIT), stop)
        )

    def schedule_shutdown(self, signum: int, frame: FrameType | None) -> None:
        """TERM, INT, QUIT: end after the job in hand. Khan sees to it that this does not last."""
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
        """Take and perform jobs until a signal says stop, or a limit is reached."""
        self._in_child = True
        if self._parent:
            self._guarded = die_with_parent(self._parent)
        self._title("starting")
        # What ends a pool at its start its manager has met; one that starts later waits.
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
        """Leave nothing open in a process that goes on; in one of its own it all ends with that."""
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
        """Nothing, as in pyres 1.5: the manager prunes. For subclasses; startup() calls it."""

    def _work_until_stopped(self, interval: float) -> None:
        try:
            while not self._shutdown:
                self._run_once(interval)
                self._note_started()
        finally:
            self._reconnecting(self._finish_and_unregister, always=True)

    def _work_in_slots(self, interval: float) -> None:
        """Each hand in a greenlet of its own, until all have stopped."""
        self._slots += [self._new_slot(number) for number in range(1, self.greenlets)]
        for slot in self._slots[1:]:
            slot._begin()
        real, self.signals = self.signals, GreenSignals()
        self._alarm = green_alarm
        works = [slot._work_green(interval) for slot in self._slots]
        run_together(works, lambda: self._pass_on(real))

    def _new_slot(self, number: int) -> Minion:
        slot = copy.copy(self)
        slot.number = number
        slot.signals = GreenSignals()
        slot._alarm = green_alarm
        return slot

    def _work_green(self, interval: float) -> Any:
        def work() -> None:
            try:
                self._work_until_stopped(interval)
            finally:
                # One that ends ends all: a limit is reached, a signal came, or a job wants it.
                self._stop_all()
                for slot in self._slots:
                    slot.signals.wake()

        return work

    def _pass_on(self, real: Signals) -> None:
        """Beside the hands: what comes to the process ends the wait of those it is for."""
        waits = GreenSignals.of(real)
        while True:
            waits.wait((self.wakeup_pipe.reader,) if self.wakeup_pipe else ())
            called = self._slots if waits.signalled else []
            rung = self.wakeup_pipe.woken_slots() if self.wakeup_pipe else []
            for slot in [*called, *[self._slots[number] for number in rung]]:
                slot.signals.wake()

    def register_minion(self) -> None:
        """Announce this minion in Redis, as a worker and as a minion."""
        self.registry.register()

    def unregister_minion(self) -> None:
        """Forget this minion in Redis."""
        self.registry.unregister()

    def _run_once(self, interval: float) -> None:
        """One job, or one wait for it."""
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
            # Now, and not with the next fetch: an override may not come to that.
            self._reconnecting(self._finish_last, always=True)
        return self._reserved(lambda: self.reserve(), interval)

    def _call_done_working(self, job: Job) -> None:
        # In pyres 1.5 a minion's takes no argument.
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
            # Before the failure is recorded, which may take long: an alarm of the job's would end
            # that.
            self._slots[0]._tidy_up(others=self._slots[0]._working - 1, failed=True)
            raise

    def _tidy_up(self, others: int, failed: bool = False) -> None:
        """After a job: make the process what it was before it, or let it end. `others` run here."""
        if self._state is None:
            return
        if not others:
            problems = [*self._state.restore(), *self._state.exhausted(failed)]
            self._next_check = time.monotonic() + LIMITS_EVERY
        else:
            problems = self._problems_beside_others(self._state)
        if self._is_orphan():
            problems.append("its manager is gone")
        for problem in problems:
            logger.warning("Minion %s ends after its job: %s", self.pid, problem)
        if problems:
            self._stop_all()

    def _problems_beside_others(self, state: ProcessState) -> list[str]:
        """Where jobs never pause: what a running one may mean to do is not undone under it."""
        if time.monotonic() < self._next_check:
            return []
        self._next_check = time.monotonic() + LIMITS_EVERY
        return state.problems()

    def _is_spent(self) -> bool:
        """Whether a limit says that a fresh minion is to take over."""
        if self.max_jobs and self._jobs_done >= self.max_jobs:
            logger.info("Minion %s has done its %d jobs", self.pid, self._jobs_done)
            return True
        if self.max_memory and (used := resident_megabytes()) > self.max_memory:
            logger.info("Minion %s uses %.0f MB, more than it may", self.pid, used)
            return True
        return False

    def _report(self, what: float) -> None:
        if self.reports:
            self.reports.send(what, self.number)

    def _timeout_of(self, job: Job) -> float | None:
        seconds = super()._timeout_of(job)
        if seconds:
            # Khan is told, so that a job which no alarm reaches is ended from outside.
            self._reported_timeout = seconds
            self._report(seconds)
        return seconds

    def _is_orphan(self) -> bool:
        """Whether the parent has died; its signal may have come while a job ignored it."""
        return bool(self._parent) and os.getppid() != self._parent

    def _wait(self, interval: float) -> None:
        self._show_wait(self.fetcher.paused)
        if self._is_orphan():
            self._stop_all()
            return
        if self._parent and not self._guarded:
            # So the parent is looked for each second.
            interval = min(interval, 1.0)
        job = self._wait_for_job(interval)
        if job is not None:
            self._do(job)

    def _show_wait(self, paused: bool) -> None:
        waits = f"waiting for job on: [{','.join(self._queue_list.names)}]"
        self._title("paused" if paused else waits)

    def _wait_for_push(self, interval: float) -> None:
        """Where there is a Khan, he looks at the queues for all of us, and rings."""
        if self.wakeup_pipe is None:
            super()._wait_for_push(interval)
            return
        fds: tuple[int, ...] = ()
        if len(self._slots) == 1:
            # Rung before we said that we wait, it was for a job that has been looked for since.
            self.wakeup_pipe.woken_slots()
            fds = (self.wakeup_pipe.reader,)
        self._is_idle = True
        self._report(IDLE)
        self.signals.wait(fds, interval)

    def _finish_and_unregister(self) -> None:
        # In one: who is unregistered has no hand any more, and what stood in it is gone.
        self._finish_and_put_back()
        self.unregister_minion()

    def _stop_clock(self) -> None:
        if self._reported_timeout is not None:
            self._report(DONE)

    def _has_parent(self) -> bool:
        return bool(self._parent) and not self._is_orphan()

    def _gives_up(self, always: bool, tries: int) -> bool:
        # A connection that was cut is made anew; but for a server that is gone a minion that stops
        # does not wait: what is in its hand Khan records.
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
        # Many small jobs of a class show the same text, since the time in it has whole seconds.
        if state != self._slots[0]._shown:
            self._slots[0]._shown = state
            title.set_title(title.minion_title(self._parent or os.getppid(), state))


#: The step as pyres has it, to find what overrides it.
_OWN_PROCESS = own_methods(Minion, ["process"])
