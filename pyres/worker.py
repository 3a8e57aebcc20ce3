"""Worker: fetches a job, forks a child for it, waits for the child, and fetches the next."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import Any

from pyres import hooks, loading, payload
from pyres.client import ResQ, as_resq
from pyres.exceptions import ENDING, CrashError, JobError, TimeoutError
from pyres.former_names import former_names
from pyres.job import Job
from pyres.overrides import overridden, own_methods
from pyres.performer import (
    ALARM_MARGIN,
    CRASH_HANDLER_TIMEOUT,
    FIRST_BEAT_PAUSE,
    FIRST_IDLE,
    SLOW_STEPS,
    Performer,
    warn_of_threads,
    without_exit,
)
from pyres.process import exit_work, title
from pyres.process.children import Children, EarlyExit, Exit, flush
from pyres.process.job_effects import reseed_numpy
from pyres.process.messages import DONE, LINGERING, WRITTEN, Reports
from pyres.process.native import require_fork
from pyres.process.standby_child import StandbyChild
from pyres.reconnecting import LONGEST_PAUSE
from pyres.registry import job_in_flight, split_id
from pyres.store import parse_in_flight

logger = logging.getLogger(__name__)

#: Exit codes of the crash handler: a failure was recorded; it could not be; there was none to
#: record, since the job is retried or its outcome is recorded already.
RECORDED, UNRECORDED, NOTHING_TO_RECORD = 0, 1, 3

#: How often the process of a job tries to reach the server when its worker has died: some 6 s.
ORPHAN_TRIES = 6

#: Exit code of a job's process that has finished but could not report that, because the job has
#: closed all files.
ENDED = 79

#: The longest wait in an overridden reserve(), so that heartbeats go on.
LONGEST_RESERVE = 30.0

#: Overrides of these steps need the job to be counted before the next one is fetched.
COUNTED_AT_ONCE = frozenset({"reserve", "fork_worker", "processed", "done_working"})


class CannotStartError(OSError):
    """The system refuses to create a job's process or its pipe: nothing of the job has run."""


class Worker(Performer):
    """Resque's worker. From pyres 1.5.

    `queues` in order of priority, with wildcards and !negations; `timeout`: seconds a job may take;
    `grace`: seconds a job gets to finish after TERM or INT. `blocking_pop` selects how to wait when
    all queues are empty: None, until the server reports a push (`watch_pop=True` is the same), or
    by pauses of a second where it reports none; True, by BLPOP, which can lose a job when a host is
    cut off; False, by pauses of 1 to 8 seconds. `reinit_gevent` makes gevent's hub anew in each
    child; `allow`: the dotted prefixes of the classes that payloads may name; `log_arguments` logs
    all of a job's arguments, not only 200 characters; `run_at_exit_hooks` also runs, at the end of
    a job's process, the atexit hooks from before the fork. `heartbeat_interval` (60 s) and
    `prune_interval` (300 s) should be the same for all workers of a server.
    """

    def __init__(
        self,
        queues: str | Iterable[str] = (),
        server: Any = "localhost:6379",
        password: str | None = None,
        timeout: float | None = None,
        blocking_pop: bool | None = None,
        *,
        watch_pop: bool = False,
        grace: float = 10,
        reinit_gevent: bool = False,
        allow: Sequence[str] = (),
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
        self.grace = grace
        self.children = Children(self.signals)
        self._reports: Reports | None = None
        self._paused = False
        self._stop_at: float | None = None
        self._grace_is_over = False
        self._crashed = False
        self._learned: set[str] = set()
        self._shown = ""
        self._standby_child = StandbyChild(self.children, self._perform_assigned, self._warm_up)
        self._busy = False
        self._last_record = b""
        self._refusal = FIRST_IDLE

    #: The pid of the process that forks for jobs, and in a child the pid of its parent; 0: none.
    _parent_pid = _forked_by = 0

    #: Whether it is stopping and has no job any more.
    _is_leaving = False
    #: The pid of a job's process whose outcome is recorded, but whose threads or hooks still run.
    _ending: int | None = None

    #: The monotonic time at which the current job was handed to its process.
    _began = 0.0

    #: The id of a worker read from Redis, or one that a subclass sets; else None, and the id is
    #: made of host, pid and queues. From pyres 1.5.
    id: str | None = None

    def __str__(self) -> str:
        return self.id or super().__str__()

    # Signals: a handler only sets a flag or signals a child; the loop acts on it

    def register_signal_handlers(self) -> None:
        """Install handlers for Resque's signals, with pyres' grace for TERM and INT."""
        self.signals = self.signals.replace(
            {
                signal.SIGTERM: self.shutdown_all,
                signal.SIGINT: self.shutdown_all,
                signal.SIGQUIT: self.schedule_shutdown,
                signal.SIGUSR1: self.kill_child,
                signal.SIGUSR2: self.pause_processing,
                signal.SIGCONT: self.unpause_processing,
            }
        )
        self.children.signals = self.signals

    def shutdown_all(self, signum: int, frame: FrameType | None) -> None:
        """TERM, INT: fetch no more; the job gets its grace. A second signal kills it at once."""
        again = self._stop_at is not None
        if again:
            self.kill_child(signum, frame)
        self.schedule_shutdown(signum, frame)
        self._stop_at = time.monotonic() + (0 if again else self.grace)

    def schedule_shutdown(self, signum: int, frame: FrameType | None) -> None:
        """QUIT: finish the running job, however long it takes, then stop."""
        self._shutdown = True

    def kill_child(self, signum: int, frame: FrameType | None) -> None:
        """USR1: kill the running job, and go on."""
        # Only the running job's child: a standby child has no job to kill.
        if self.child in self.children.pids:
            self.children.kill(signal.SIGKILL, self.child)

    def pause_processing(self, signum: int, frame: FrameType | None) -> None:
        """USR2: fetch no job until CONT."""
        self._paused = True

    def unpause_processing(self, signum: int, frame: FrameType | None) -> None:
        """CONT: fetch jobs again."""
        self._paused = False

    # Starting, working, stopping

    def startup(self) -> None:
        """Install the handlers, prune dead workers, register, and set the title in `ps`."""
        require_fork("A worker")
        self._found_overrides = None
        self.register_signal_handlers()
        self._title("Starting")
        self._log_overrides(COUNTED_AT_ONCE | SLOW_STEPS)
        self._reconnecting(self._announce)
        self._log_start()
        warn_of_threads()
        # Objects alive now are long-lived: a collection in a child would touch, and so copy, them.
        gc.collect()
        gc.freeze()

    def _find_overrides(self) -> frozenset[str]:
        return super()._find_overrides() | overridden(self, _OWN_STEPS)

    def _announce(self) -> None:
        self._prune_at_start(self.prune_dead_workers)
        self.register_worker()
        self._announced = True
        self.fetcher.connect()
        self.resq.store.close_idle()
        self._next_beat = time.monotonic() + self.pace.heartbeat

    def register_worker(self) -> None:
        """Register this worker in Redis."""
        self.registry.register()

    def unregister_worker(self) -> None:
        """Remove this worker's registration from Redis."""
        self.registry.unregister()

    def prune_dead_workers(self) -> None:
        """Unregister workers that died, and record their in-flight jobs as failures."""
        self._prune()

    @property
    def started(self) -> bytes | None:
        """When the worker registered: whole epoch seconds, as the bytes in Redis (pyres 1.5).
        Setting it to a true value writes the current time, None deletes the key.
        """
        return self.resq.store.workers.started(str(self))

    @started.setter
    def started(self, value: Any) -> None:
        if value:
            now = int(self.resq.estimated_time())
            self.resq.store.workers.set_started(str(self), str(now))
        else:
            self.resq.store.workers.drop_started(str(self))

    @classmethod
    def run(
        cls,
        queues: str | Iterable[str],
        server: Any = "localhost:6379",
        password: str | None = None,
        interval: float | None = None,
        timeout: float | None = None,
        **more: Any,
    ) -> None:
        """Work on these queues until a signal stops the worker."""
        worker = cls(queues=queues, server=server, password=password, timeout=timeout, **more)
        worker.work() if interval is None else worker.work(interval)

    def work(self, interval: float = 5) -> None:
        """Fetch and perform jobs until a signal stops the worker.

        `interval`: seconds that one wait for a job lasts; 0: stop once all queues are empty.
        """
        self.startup()
        try:
            while not self._shutdown:
                self._run_once(interval)
                self._note_started()
        finally:
            self._end()

    def _end(self) -> None:
        self._is_leaving = True
        self._reconnecting(self._finish_and_unregister)
        logger.info("%s has stopped", self)
        for connected in (self._fetcher, self._queue_watcher):
            if connected is not None:
                connected.close()
        self._close_children()
        self.signals.restore()

    def _close_reports(self) -> None:
        if self._reports is not None:
            self._reports.close()
            self._reports = None

    def _finish_and_unregister(self) -> None:
        # Put back first: unregistering deletes the in-flight record, and with it a fetched job.
        self._finish_and_put_back()
        self.unregister_worker()

    def _stop_standby_child(self) -> None:
        """Without a backlog, stop the standby child, and reap all children that have ended."""
        self._busy = False
        self._standby_child.stop()
        self.children.collect()

    def _run_once(self, interval: float) -> None:
        """Perform one job, or wait once for one."""
        if self._paused:
            self._reconnecting(self._beat_if_due)
            self._wait_while_paused()
            return
        reserves = "reserve" in self._overrides
        job = (
            self._reserve_by_subclass(interval)
            if reserves
            else self._reconnecting(self._fetch_next)
        )
        if job is not None:
            if self._shutdown:
                self._reconnecting(lambda: self._put_back(job), always=True)
                return
            self._perform_next(job)
            return
        self._stop_standby_child()
        if interval == 0:
            self._shutdown = True
        elif not (self._shutdown or reserves):
            self._wait(interval)

    def _reserve_by_subclass(self, interval: float) -> Job | None:
        timeout = min(interval, LONGEST_RESERVE)
        return self._reserved(lambda: self.reserve(timeout), interval)

    def _perform_next(self, job: Job) -> None:
        try:
            self._perform_fetched(job)
        except CannotStartError as error:
            self._postpone(job, error)
        else:
            self._refusal = FIRST_IDLE

    def _postpone(self, job: Job, error: CannotStartError) -> None:
        """Put back a job whose process cannot be started, and wait, longer each time."""
        self._reconnecting(lambda: self._put_back(job, "no process for it"), always=True)
        pause, self._refusal = self._refusal, min(self._refusal * 2, LONGEST_PAUSE)
        logger.error("No process can be started (%s); trying again in %.0f s", error, pause)
        if not self._shutdown:
            self.signals.sleep(pause)

    def _perform_fetched(self, job: Job) -> None:
        if not self._overrides.isdisjoint(COUNTED_AT_ONCE):
            self.fork_worker(job)
            # An override may have left the record; the job is finished then, not failed.
            if self._is_in_flight(job):
                self._reconnecting(self._drop_in_flight, always=True)
            return
        self._perform_in_child(job)
        self._finished = not self._unrecorded
        if self._ending is not None and self._finished:
            # Count it now, not with the next fetch, which may come much later.
            self._reconnecting(self._finish_last, always=True)
        self._await_end()

    def _is_in_flight(self, job: Job) -> bool:
        """Whether the job's in-flight record is unchanged."""
        if self._unrecorded:
            return False
        record = self._reconnecting(self._in_flight_record, always=True)
        return record is not None and record == job.in_flight

    def _wait_while_paused(self) -> None:
        """Paused by USR2: count the last job, and sleep until a signal or the next heartbeat."""
        if self._finished:
            self._reconnecting(self._finish_last)
        self._stop_standby_child()
        self._title("Paused")
        if self._paused and not self._shutdown:
            self.signals.sleep(max(0, self._next_beat - time.monotonic()))

    def _wait(self, interval: float) -> None:
        """Wait for a job, and perform it if the wait has fetched it."""
        self._show_wait(self.fetcher.paused)
        job = self._wait_for_job(interval)
        if job is not None:
            self._perform_next(job)

    def _show_wait(self, paused: bool) -> None:
        self._title("Paused" if paused else f"Waiting for {','.join(self._queue_list.names)}")

    def _stops(self) -> bool:
        return self._shutdown or self._paused

    def _stop_clock(self) -> None:
        if self._in_child and self._reports:
            self._reports.send(0.0)

    def _has_parent(self) -> bool:
        return bool(self._forked_by) and os.getppid() == self._forked_by

    def _gives_up(self, always: bool, tries: int) -> bool:
        if self._forked_by and os.getppid() != self._forked_by and tries >= ORPHAN_TRIES:
            # The worker has died and the server is unreachable: pruning will record the job.
            return True
        # What must be written is retried until the grace is over; then the in-flight record stays
        # in Redis for the process that prunes this worker.
        is_late = self._stop_at is not None and time.monotonic() >= self._stop_at
        if always:
            return is_late
        # While stopping, one more try reopens a connection that was cut.
        return self._shutdown and (not self._is_leaving or is_late or tries > 1)

    # One job, one child

    def fork_worker(self, job: Job) -> None:
        """Perform a job in a child and wait for it; afterwards it is counted and no longer in
        flight. From pyres 1.5.
        """
        self._ensure_in_flight(job)
        try:
            exit, late = self._run_child(job)
            counted = self._counts_itself and not self._is_in_flight(job)
            if not exit.clean:
                self._record_dirty_exit(job, exit, late)
        finally:
            if not self.signals.installed:
                self._close_children()
        if not counted:
            self.done_working(job)
        self._await_end()
        self._unregister_after_job()

    def _close_children(self) -> None:
        """Reap the children and close their pipe: without work() nothing does so later."""
        self._stop_standby_child()
        self.children.collect(block=True)
        self._close_reports()

    def _perform_in_child(self, job: Job) -> None:
        """Fork, wait, and record the outcome if the child could not do so itself."""
        exit, late = self._run_child(job)
        if not exit.clean:
            self._record_dirty_exit(job, exit, late)

    def _run_child(self, job: Job) -> tuple[Exit, float | None]:
        """Fork and wait. How the child ended, and the timeout in seconds if it exceeded that."""
        self.before_fork(job)
        self._learn_hooks(job.name)
        logger.info("Got %s", job)
        self._began = time.monotonic()
        # Before the fork, so that both processes show it: setting it later would copy pages twice.
        self._title_of(job)
        self.child = self._start_child(job)
        self._fork_ahead(job)
        self._ended_well = job
        ended = self._wait_for_child(self.child)
        if not ended[0].clean:
            self._ended_well = None
        self.child = self._ending
        return ended

    def _await_end(self) -> None:
        """Wait for a job's process that has reported LINGERING, at most for the grace."""
        pid, self._ending = self._ending, None
        if pid is None:
            return
        end, exit = time.monotonic() + self.grace + ALARM_MARGIN, None
        while exit is None:
            now = time.monotonic()
            end = end if self._stop_at is None else min(end, self._stop_at)
            if now >= end:
                self.children.kill(signal.SIGKILL, pid)
            until_beat = self._seconds_left(now, None)
            seconds = end - now if now < end else 1.0
            if until_beat is not None:
                seconds = min(seconds, until_beat)
            exit = self.children.wait(pid, seconds)
            self._beat_while_waiting(time.monotonic())
        self.child = None
        if not exit.clean:
            logger.warning("A job's process that had recorded its outcome %s", exit)

    def _start_child(self, job: Job) -> int:
        """The pid of the child that performs the job."""
        self._parent_pid = os.getpid()
        try:
            if self._reports is None:
                self._reports = Reports()
            assigned = self._standby_child.assign(job.in_flight) if job.in_flight else None
            return assigned or self.children.fork(lambda: self._be_child(job))
        except OSError as error:
            raise CannotStartError(error.errno, error.strerror) from error

    def _title_of(self, job: Job) -> None:
        self._title(f"Processing {job._queue} since {int(time.time())} [{job.shown_name}]")

    def _fork_ahead(self, job: Job) -> None:
        """With a backlog, fork the next job's child while this one works."""
        # before_fork() of a subclass must see each job before its fork; and a job made by an
        # overridden reserve() cannot be made again from its bytes.
        if self._busy and job.in_flight and self._overrides.isdisjoint(("before_fork", "reserve")):
            self._last_record = job.in_flight
            # If the system refuses it, the next job's child is forked when that job is fetched.
            with contextlib.suppress(OSError):
                self._standby_child.prepare()
        self._busy = True

    def _warm_up(self) -> None:
        """In a standby child: touch what a job needs, so that its pages are copied beforehand."""
        self._become_child()
        self._title("Ready")
        self._learn_hooks(self._to_job(parse_in_flight(self._last_record)).name)

    def _perform_assigned(self, record: bytes) -> int:
        """In a standby child: perform the job that was assigned to it."""
        job = self._to_job(parse_in_flight(record))
        self._title_of(job)
        return self._perform_as_child(job)

    def _learn_hooks(self, name: str) -> None:
        """Look up a class's hooks once in this process, if its module is imported already; else
        each child would.
        """
        if name not in self._learned and (target := loading.loaded(name)) is not None:
            hooks.learn(target)
            self._learned.add(name)

    def _be_child(self, job: Job) -> int:
        """What the child does after the fork: its exit code."""
        self._become_child()
        return self._perform_as_child(job)

    def _become_child(self) -> None:
        self._in_child = True
        self._forked_by = self._parent_pid
        self._renew_gevent()
        reseed_numpy()
        self._drop_inherited_hooks()
        for inherited in (self._fetcher, self._queue_watcher):
            if inherited is not None:
                inherited.abandon()
        self._fetcher = self._queue_watcher = None

    def _perform_as_child(self, job: Job) -> int:
        if "after_fork" not in self._overrides or self._is_prepared(job):
            self.process(job)
        if job.outcome_written and self._reports:
            self._reports.send(WRITTEN)
        flush()
        is_left = exit_work.is_left()
        reported = not self._reports or self._reports.send(LINGERING if is_left else DONE)
        if is_left:
            self._title(f"Ending the threads of {job.shown_name}")
            exit_work.finish(self.grace)
        return 0 if reported else ENDED

    def _is_prepared(self, job: Job) -> bool:
        """Run after_fork(); False when it raised, which is then the job's failure."""
        try:
            without_exit(self.after_fork, job)
        except BaseException as error:  # noqa: BLE001 - the border around a job (rule 8)
            self._handle_exception(job)
            self.done_working(job)
            if isinstance(error, ENDING):
                raise
            return False
        return True

    def _timeout_of(self, job: Job) -> float | None:
        seconds = super()._timeout_of(job)
        if seconds != self.timeout and self._in_child and self._reports:
            # 0 means no limit, also where the worker has one.
            self._reports.send(seconds or 0.0)
        return seconds

    def _wait_for_child(self, pid: int) -> tuple[Exit, float | None]:
        """How the child ended, and the timeout in seconds if it exceeded that."""
        timeout, began, late = self.timeout, time.monotonic(), None
        fds = (self._reports.reader,) if self._reports else ()
        while True:
            exit = self.children.wait(pid, self._seconds_left(began, timeout), fds)
            # Read also for a child that has ended: it may have reported just before.
            reported = self._reports_of(pid)
            if WRITTEN in reported:
                self._ended_well = None
                reported.remove(WRITTEN)
            if exit is not None:
                return self._translated(exit, reported), late if exit.signal else None
            if DONE in reported:
                return self.children.detach(pid), None
            if LINGERING in reported:
                self._ending = pid
                return Exit(pid, 0), None
            timeout = reported[-1] if reported else timeout
            now = time.monotonic()
            if timeout and now >= began + timeout + ALARM_MARGIN:
                late = timeout
                self.children.kill(signal.SIGKILL, pid)
            elif self._is_grace_over(now):
                self.kill_child(signal.SIGTERM, None)
            self._beat_while_waiting(now)

    def _translated(self, exit: Exit, reported: list[float]) -> Exit:
        """How the job's process ended. A clean exit without a report is an EarlyExit, unless a
        subclass ends the process itself.
        """
        if exit.code == ENDED or DONE in reported or LINGERING in reported:
            return Exit(exit.pid, 0)
        if exit.clean and not self._ends_child_itself():
            return EarlyExit(exit.pid, exit.code)
        return exit

    def _ends_child_itself(self) -> bool:
        return bool(overridden(self, _OWN_ENDS))

    def _is_grace_over(self, now: float) -> bool:
        """Whether the grace has just ended: True once for each TERM or INT."""
        if self._stop_at is None or self._grace_is_over or now < self._stop_at:
            return False
        self._grace_is_over = True
        return True

    def _reports_of(self, pid: int) -> list[float]:
        reports = self._reports.receive() if self._reports else []
        return [report.seconds for report in reports if report.pid == pid]

    def _seconds_left(self, began: float, timeout: float | None) -> float | None:
        """Seconds until the parent has something to do while the child works."""
        ends = [self._next_beat] if self.signals.installed else []
        if timeout:
            ends.append(began + timeout + ALARM_MARGIN)
        if self._stop_at is not None and not self._grace_is_over:
            ends.append(self._stop_at)
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _beat_while_waiting(self, now: float) -> None:
        """Write a heartbeat during a long job, without waiting for a disconnected server: the child
        must be watched.
        """
        if not self.signals.installed or now < self._next_beat:
            return
        try:
            self._beat()
        except Exception as error:  # noqa: BLE001 - the job goes on; the next turn tries again
            self._beat_pause = FIRST_BEAT_PAUSE
            self._note_failed_beat(error)
        else:
            self._note_beat()

    def _record_dirty_exit(self, job: Job, exit: Exit, late: float | None) -> None:
        """Record a retry or a failure of a job whose child ended without recording an outcome."""
        if late is not None:
            error: CrashError | TimeoutError = TimeoutError(
                f"{job.shown_name} took longer than {late:g} s and was killed"
            )
        else:
            error = CrashError(f"the process of the job {exit}")
        logger.error("%s: %s", job, error)
        job.outcome = "retried"
        self._crashed = True
        try:
            raise error
        except JobError:
            self._handle_exception(job)
        finally:
            self._crashed = False
            self._log_end(job, self._began)

    def _record_exception(self, job: Job) -> None:
        """Record the job's own exception, or in the parent the one for how the child ended."""
        error = sys.exc_info()[1]
        if self._crashed and isinstance(error, JobError):
            job.failure_handled = True
            self._handle_crash(job, error)
        else:
            super()._record_exception(job)

    def _handle_crash(self, job: Job, error: JobError) -> None:
        """Have the crash handler, a child, record the outcome of a job whose child has died."""
        # The class's hooks need its module, and a module that may have crashed a process must not
        # be imported into the worker.
        if "working_on" in self._overrides:
            job.in_flight = self._reconnecting(self._in_flight_record, always=True) or job.in_flight
        # Reconnect first: the handler's time limit is for the class's hooks, not for the server.
        self._reconnecting(self._in_flight_record, always=True)
        pid = self._start_crash_handler(job, error)
        code = UNRECORDED if pid is None else self._wait_for_crash_handler(pid)
        recorded = code == RECORDED
        if code not in (RECORDED, NOTHING_TO_RECORD):
            recorded = self.record_failure(job, error)
        if recorded:
            job.outcome = "failed"
            self._count_failure()

    def _wait_for_crash_handler(self, pid: int) -> int:
        """Its exit code; a crash handler that takes too long is killed."""
        end = time.monotonic() + CRASH_HANDLER_TIMEOUT
        while True:
            ended = self.children.wait(pid, max(0.0, end - time.monotonic()))
            if ended is not None:
                return ended.code
            if time.monotonic() >= end:
                self.children.kill(signal.SIGKILL, pid)

    def _start_crash_handler(self, job: Job, error: JobError) -> int | None:
        """Its pid; where the system refuses to fork, try again after growing pauses. None when the
        worker must stop.
        """
        pause = FIRST_IDLE
        while not self._gives_up(True, 1):
            try:
                return self.children.fork(lambda: self._be_crash_handler(job, error))
            except OSError as refused:
                text = "No process to record the crash of %s (%s); trying again in %.0f s"
                logger.error(text, job, refused, pause)
            self._beat_while_waiting(time.monotonic())
            self.signals.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        return None

    def _be_crash_handler(self, job: Job, error: JobError) -> int:
        self._become_child()
        self._title(f"Recording the crash of {job.shown_name}")
        recorded = self.record_crash(job, error)
        if self._unrecorded:
            return UNRECORDED
        return RECORDED if recorded else NOTHING_TO_RECORD

    # Hooks for subclasses

    def before_fork(self, job: Job) -> None:
        """In the parent, before each fork."""

    def after_fork(self, job: Job) -> None:
        """In the child, after each fork."""

    def _title(self, state: str) -> None:
        # Setting a title costs; small jobs of one class within a second have the same one.
        if state != self._shown:
            self._shown = state
            title.set_title(title.worker_title(self._queue_list.names, state))

    # Reading the state of workers

    def job(self) -> dict[str, Any]:
        """This worker's in-flight job: queue, run_at and payload; empty when it is idle."""
        record = self.resq.store.workers.in_flight(str(self))
        if record is None:
            return {}
        running = payload.show(record)
        if running.get("class") == payload.UNDECODABLE:
            job = job_in_flight(record, self.resq, str(self))
            running = {"queue": job._queue, "payload": job._payload}
        return running

    def processing(self) -> dict[str, Any]:
        """job(), by its other name in pyres 1.5."""
        return self.job()

    def state(self) -> str:
        """`working` or `idle`."""
        return "working" if self.resq.store.workers.in_flight(str(self)) is not None else "idle"

    @classmethod
    def worker_pids(cls) -> list[str]:
        """The pids, as text, of the workers that run on this machine."""
        return [str(pid) for pid in title.worker_pids()]

    @classmethod
    def all(cls, host: Any = "localhost:6379") -> list[Worker]:
        """The registered workers of a server (a DSN or a ResQ)."""
        resq = as_resq(host)
        workers = (cls._from_id(worker_id, resq) for worker_id in resq.workers())
        return [worker for worker in workers if worker is not None]

    @classmethod
    def working(cls, host: Any = "localhost:6379") -> list[Worker]:
        """The workers that have a job in flight now."""
        resq = as_resq(host)
        ids = resq.workers()
        working = resq.store.workers.have_jobs(ids)
        busy = [worker_id for worker_id, works in zip(ids, working, strict=True) if works]
        return [worker for each in busy if (worker := cls._from_id(each, resq))]

    @classmethod
    def find(cls, worker_id: str, resq: ResQ) -> Worker | None:
        """The worker with this id, or None when it is not registered."""
        return cls._from_id(worker_id, resq) if cls.exists(worker_id, resq) else None

    @classmethod
    def exists(cls, worker_id: str, resq: ResQ) -> bool:
        """Whether a worker with this id is registered."""
        return resq.store.workers.exists(worker_id)

    @classmethod
    def _from_id(cls, worker_id: str, resq: ResQ) -> Worker | None:
        """A worker by its id; None for a set member that is not a valid worker id."""
        try:
            host, pid, queues = split_id(worker_id)
        except ValueError:
            return None
        if not any(queues):
            return None
        worker = cls(queues, resq)
        worker.id, worker.hostname, worker.pid = worker_id, host, str(pid)
        return worker


#: pyres' own methods for these steps, to detect overrides.
_OWN_STEPS = own_methods(Worker, ("fork_worker", "before_fork", "after_fork"))
#: In pyres 1.5 an override of these may end the child by os._exit(0).
_OWN_ENDS = own_methods(Worker, ("fork_worker", "process"))


__getattr__ = former_names(
    __name__,
    {
        "NoQueueError": "pyres.exceptions:NoQueueError",
        "Stat": "pyres.stat:Stat",
        "__version__": "pyres.version:__version__",
        "commands": "subprocess",
        "json": "pyres.json_parser",
        "setproctitle": "setproctitle:setproctitle",
        "string_types": "pyres.former_names:string_types",
    },
)


if __name__ == "__main__":
    from pyres.scripts import pyres_worker

    raise SystemExit(pyres_worker())
