"""Fetching a job, running it and recording its outcome, for workers and minions alike."""

from __future__ import annotations

import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from pyres import job_settings, loading, payload, starting
from pyres.client import LONGEST_POP, ResQ, as_resq, now_text
from pyres.exceptions import ENDING, CannotWatchError, CrashError, JobError, TimeoutError
from pyres.failure.base import exception_text
from pyres.job import Job
from pyres.logs import JOB
from pyres.overrides import overridden, own_methods
from pyres.process import exit_work
from pyres.process.alarm import alarm, silenced
from pyres.process.children import EXIT_SOFTWARE, leave
from pyres.process.copies import end_copy
from pyres.process.native import is_patched, make_gevent_anew
from pyres.process.signals import Signals
from pyres.queue_list import QueueList
from pyres.reconnecting import (
    FIRST_PAUSE,
    PRIMARY_INTERVAL,
    PrimaryCheck,
    ServerState,
)
from pyres.registry import Pace, Registry, save_failure
from pyres.stat import Stat
from pyres.store import (
    SERVER_ERRORS,
    CannotWriteNow,
    Fetched,
    NotRegistered,
    described,
    is_answered,
    is_lasting,
    own_error,
)
from pyres.version import __version__
from pyres.wakeups import (
    COUNT_INTERVAL,
    POLL_INTERVAL,
    WATCH_RETRY,
    QueueWatcher,
    warn_cannot_watch,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds that a job gets to end by itself after its own timeout alarm has fired inside it.
ALARM_MARGIN = 1.0

#: Seconds that the crash handler may take to record a dead job (hooks, retries).
CRASH_HANDLER_TIMEOUT = 30.0

#: Seconds between two fetches while `pause-all-workers` is set.
PAUSED_PAUSE = 1.0

#: Tries after which a child without free files or memory leaves the rest to its parent: some 1.5 s.
OWN_TRIES = 5

#: Seconds until a heartbeat that failed is tried again, doubled each time up to the longest pause.
FIRST_BEAT_PAUSE = 1.0

#: Seconds an idle worker sleeps in polling mode: doubled each time, from the first to the longest.
FIRST_IDLE, LONGEST_IDLE = 1.0, 8.0

#: Seconds between two reads of the queue names that wildcards match.
QUEUES_EVERY = 5.0

#: Seconds between two searches for in-flight records whose worker is not registered.
SWEEP_EVERY = 3600.0

#: Seconds between two calls of an overridden reserve() that did not wait by itself.
RESERVE_PAUSE = 0.1

#: Steps of pyres 1.5 that a subclass may override, all but the last two at the cost of more calls
#: to Redis: what they do is otherwise part of the one call that fetches the next job.
STEPS = (
    "reserve",
    "working_on",
    "processed",
    "done_working",
    "failed",
    "before_process",
)

#: Those that cost more calls to Redis.
SLOW_STEPS = frozenset(STEPS) - {"before_process"}


#: How the log describes the ways to wait for a job, by the value of `blocking_pop`.
WAYS_TO_WAIT = {
    None: "waits until the server reports a push",
    True: "waits by BLPOP",
    False: "waits by pauses of 1 to 8 s",
}


class Performer:
    """What Worker and Minion share: queues, in-flight record, and running and recording jobs."""

    job_class = Job
    minion = False

    #: Whether startup() has registered this worker, or a job's fetch did so for that job.
    _announced = False
    _registered_for_job = False

    #: Whether it has fetched once: from then on, errors of the server are retried, not raised.
    _has_started = False

    #: Whether the last job's outcome could not be recorded.
    _unrecorded = False

    #: Whether a job was fetched that no call has counted yet, and whether this is a forked child.
    _finished = _in_child = False

    #: The monotonic times of the next read of the queue names, of the next search for records
    #: without a worker, and from when on queues are watched again.
    _next_queues = _next_sweep = _watch_at = 0.0

    _found_overrides: frozenset[str] | None = None

    #: Seconds until a heartbeat that the server refuses is tried again.
    _beat_pause = FIRST_BEAT_PAUSE

    #: Whether another process has unregistered it since, and the last job if that succeeded.
    _was_removed = False
    _ended_well: Job | None = None

    _alarm = staticmethod(alarm)

    def __init__(
        self,
        queues: str | Iterable[str] = (),
        server: Any = "localhost:6379",
        password: str | None = None,
        timeout: float | None = None,
        *,
        blocking_pop: bool | None = None,
        watch_pop: bool = False,
        reinit_gevent: bool = False,
        allow: Sequence[str] = (),
        log_arguments: bool = False,
        run_at_exit_hooks: bool = False,
        heartbeat_interval: float | None = None,
        prune_interval: float | None = None,
    ) -> None:
        self.queues = list([queues] if isinstance(queues, str) else queues)
        self.validate_queues()
        self.resq = as_resq(server, password)
        self._primary = PrimaryCheck(self.resq.store)
        self.timeout = timeout
        #: How to wait for a job: None by watching the queues, True by BLPOP, False by pauses.
        self.blocking_pop = None if watch_pop else blocking_pop
        self.reinit_gevent = reinit_gevent
        self.allowed = loading.Allowed(allow) if allow else None
        #: Whether the log shows all of a job's arguments, however long.
        self.log_arguments = log_arguments
        #: Whether a job's process also runs, at its end, the atexit hooks from before the fork.
        self.run_at_exit_hooks = run_at_exit_hooks
        self.pace = Pace(heartbeat_interval, prune_interval)
        self.hostname = platform.node()
        self.pid: int | str = os.getpid()
        self.child: int | None = None
        self.signals = Signals({})
        self._shutdown: bool = False
        self._idle = FIRST_IDLE
        self._next_beat = 0.0
        self._server_state = ServerState("trying again, after longer and longer pauses")
        self._beat_state = ServerState("heartbeats and pruning are tried again")
        self._fetcher: Any = None
        self._queue_watcher: QueueWatcher | None = None

    @property
    def watch_pop(self) -> bool:
        """Whether this waits until the server reports a push, the default."""
        return self.blocking_pop is None

    @property
    def _overrides(self) -> frozenset[str]:
        """The names of 1.5's steps that a subclass overrides; looked up once."""
        if self._found_overrides is None:
            self._found_overrides = self._find_overrides()
        return self._found_overrides

    def _find_overrides(self) -> frozenset[str]:
        names = overridden(self, _OWN_STEPS)
        # 1.5's reserve() calls Job.reserve(), and that calls ResQ.pop().
        if overridden(self.job_class, _OWN_RESERVE) or overridden(self.resq, _OWN_POP):
            names |= {"reserve", "pop"}
        return names

    def _log_start(self) -> None:
        """Log once what this process works on, and how it waits."""
        logger.info(
            "Started %s with pyres %s: fetches jobs from %s on %s, and %s",
            self,
            __version__,
            ",".join(self._queue_list.names),
            self.resq.dsn,
            WAYS_TO_WAIT[self.blocking_pop],
        )

    def _log_end(self, job: Job, began: float) -> None:
        """Log one line for each job: how it ended, and after how long."""
        seconds = time.monotonic() - began
        logger.info(
            "%s %s after %.3f s",
            job,
            job.outcome,
            seconds,
            extra={
                JOB: {
                    "class": job.shown_name,
                    "queue": job._queue,
                    "outcome": job.outcome,
                    "seconds": round(seconds, 6),
                }
            },
        )

    def _log_overrides(self, slow: Iterable[str] = SLOW_STEPS) -> None:
        """Log once which steps of a subclass cost more calls to Redis."""
        if slower := sorted(self._overrides.intersection(slow)):
            logger.info(
                "%s overrides %s: these steps work as in pyres 1.5, with more calls to Redis",
                type(self).__name__,
                ", ".join(slower),
            )

    @property
    def _counts_itself(self) -> bool:
        """Whether the process of the job counts it, as in 1.5, rather than the next fetch."""
        return not self._overrides.isdisjoint(("processed", "done_working"))

    def validate_queues(self) -> None:
        """Raises NoQueueError when no queue is named."""
        self._queue_list = QueueList(",".join(self.queues) if self._are_names() else self.queues)

    def _are_names(self) -> bool:
        return all(isinstance(queue, str) for queue in self.queues)

    def __str__(self) -> str:
        return f"{self.hostname}:{self.pid}:{','.join(self._queue_list.names)}"

    @property
    def registry(self) -> Registry:
        return Registry(self.resq, str(self), self.minion, pace=self.pace)

    # Fetching

    @property
    def fetcher(self) -> Any:
        """Fetches jobs for this id; made on first use, and again when the id has changed."""
        if self._fetcher is None or self._fetcher.worker_id != str(self):
            self._fetcher = self.resq.store.fetcher(str(self))
            self._next_queues = 0.0
        return self._fetcher

    def _refresh_queues(self) -> None:
        """Set the queues to fetch from; the names that wildcards match are read every 5 s."""
        if not self._queue_list.dynamic:
            self.fetcher.set_queues(self._queue_list.among(()))
        elif time.monotonic() >= self._next_queues:
            self.fetcher.set_queues(self._queue_list.among(self.resq.queues()))
            self._next_queues = time.monotonic() + QUEUES_EVERY

    def _fetch(self) -> Job | None:
        """Count the job that is finished, if one is, and fetch the next without waiting."""
        if self._fetcher is None or self._queue_list.dynamic or self._fetcher.queues == ():
            self._refresh_queues()
        fetched = self._fetch_registered()
        self._finished = False
        if fetched is None:
            self._next_queues = 0.0
            return None
        self._note_started()
        self._idle = FIRST_IDLE
        return self._to_job(fetched)

    def _note_started(self) -> None:
        if not self._has_started and self._announced:
            self._has_started = True
            starting.finish()

    def _fetch_registered(self) -> Fetched | None:
        """The next payload; a worker that is not registered is registered first."""
        while True:
            try:
                self._fetcher.ended_well = self._ended_well is not None
                fetched: Fetched | None = self._fetcher.fetch(self._finished, now_text(self.resq))
            except NotRegistered:
                self._register_again()
            else:
                self._retract_failure()
                return fetched

    def _retract_failure(self) -> None:
        """Retract the failure of the last job, if it succeeded after another process had declared
        this worker dead.
        """
        removed = self._was_removed or self._fetcher.changed
        job, self._ended_well = self._ended_well, None
        self._was_removed = self._fetcher.changed = False
        if removed and job is not None:
            self.registry.retract_failure(job)

    def _register_again(self) -> None:
        """Register after another process has unregistered us; before startup(), for one job."""
        self._was_removed = True
        if self._announced:
            self.registry.renew()
            return
        self.registry.register_for_job()
        self._registered_for_job = True

    def _unregister_after_job(self) -> None:
        if self._registered_for_job and not self._unrecorded and not self._in_child:
            self._reconnecting(lambda: self.registry.unregister_after_job(), always=True)
            self._registered_for_job = False

    def _to_job(self, fetched: Fetched) -> Job:
        job = self.job_class.read(
            fetched.queue, fetched.payload, self.resq, self, fetched.in_flight
        )
        return self._configured(job)

    def _configured(self, job: Job) -> Job:
        """The same job, with this worker's `allow` and `log_arguments` applied."""
        if self.log_arguments:
            job.max_shown_chars = sys.maxsize
        if self.allowed:
            job.safe_str_to_class = self.allowed.load
        return job

    def _fetch_next(self) -> Job | None:
        # Due at once after a reconnect: the server may have lost our registration.
        self._beat_if_due()
        return self._fetch()

    def reserve(self, timeout: float = 10) -> Job | None:
        """Fetch the next job, waiting up to `timeout` seconds; None when there is none.

        The job is in flight when this returns, unless `job_class.reserve` or `ResQ.pop` is
        overridden. Before startup() the worker is registered until the job's outcome is recorded.
        """
        if "pop" in self._overrides:
            names = self._queue_list.among(self.resq.queues() if self._queue_list.dynamic else ())
            job = self.job_class.reserve(names, self.resq, str(self), timeout=timeout)
            return None if job is None else self._configured(job)
        job = self._reserve_within(timeout)
        if job is None:
            self._unregister_after_job()
        return job

    def _reserve_within(self, timeout: float) -> Job | None:
        end = time.monotonic() + timeout
        while True:
            job = self._fetch()
            remaining = end - time.monotonic()
            if job is not None or remaining <= 0 or self._stops():
                return job
            job = self._wait_once(remaining)
            if job is not None:
                return job

    def _reserved(self, reserve: Callable[[], Job | None], interval: float) -> Job | None:
        """The job that an overridden reserve() returns, marked in flight before anything else."""
        self._reconnecting(self._beat_if_due)
        paused = bool(self._reconnecting(self.resq.store.workers.paused))
        self._show_wait(paused)
        if paused:
            self.signals.sleep(min(interval, PAUSED_PAUSE))
            return None
        began = time.monotonic()
        job = self._reconnecting(reserve)
        if job is None:
            if interval and time.monotonic() - began < RESERVE_PAUSE:
                self.signals.sleep(RESERVE_PAUSE)
            return None
        self._reconnecting(lambda: self._ensure_in_flight(job), always=True)
        if job.in_flight is None:
            logger.error("lost: stopped without a server after reserve() had popped %s", job)
            return None
        return job

    def _show_wait(self, paused: bool) -> None:
        """Show in `ps` that this waits for a job."""

    def _wait_for_job(self, interval: float) -> Job | None:
        """Wait once, up to `interval` seconds; the job, if BLPOP has fetched one."""
        if self._primary.is_needed:
            interval = min(interval, PRIMARY_INTERVAL)
        return self._reconnecting(lambda: self._beat_and_wait(interval))

    def _beat_and_wait(self, interval: float) -> Job | None:
        self._beat_if_due()
        return self._wait_once(interval)

    def _wait_once(self, interval: float) -> Job | None:
        """Wait in the way that `blocking_pop` selects."""
        if self.fetcher.paused:
            self.signals.sleep(min(interval, PAUSED_PAUSE))
        elif self.blocking_pop is None:
            self._wait_for_push(interval)
        elif self.blocking_pop:
            return self._wait_blocking(min(interval, LONGEST_POP))
        else:
            self._pause()
        return None

    def _stops(self) -> bool:
        """Whether it must fetch no more jobs."""
        return self._shutdown

    def _wait_for_push(self, interval: float) -> None:
        """Wait until there is a job, a signal came, or `interval` seconds passed; pop nothing."""
        if time.monotonic() < self._watch_at:
            self.signals.sleep(min(interval, POLL_INTERVAL))
            return
        if self._queue_watcher is None:
            self._queue_watcher = QueueWatcher(
                self.resq.store, self._queue_list, str(self), forks=not self.minion
            )
        try:
            self._watch_queues(self._queue_watcher, time.monotonic() + interval)
        except CannotWatchError as error:
            warn_cannot_watch(error)
            self._watch_at = time.monotonic() + WATCH_RETRY

    def _watch_queues(self, queue_watcher: QueueWatcher, end: float) -> None:
        pause = min(queue_watcher.pause(), end - time.monotonic())
        if pause > 0 and self.signals.sleep(pause):
            return
        while queue_watcher.all_empty() and not self._stops():
            seconds = min(end - time.monotonic(), COUNT_INTERVAL)
            ready = self.signals.wait((queue_watcher.fileno(),), max(0.0, seconds))
            if self.signals.signalled or time.monotonic() >= end:
                return
            if ready and queue_watcher.has_changed():
                delay = queue_watcher.delay()
                if not delay or self.signals.sleep(delay):
                    return

    def _wait_blocking(self, timeout: float) -> Job | None:
        """Wait for a job by BLPOP for up to `timeout` seconds, or until a signal stops us.

        A job that arrives together with the signal is put back at the head of its queue.
        """
        self._refresh_queues()
        if not self.fetcher.queues:
            self.signals.sleep(min(timeout, FIRST_IDLE))
            return None
        self.resq.store.unique.note_pops()
        self.fetcher.start_pop(timeout)
        # A server that does not answer in time is disconnected: the read that follows will raise.
        end = time.monotonic() + timeout + 1
        while not self.fetcher.answered() and (remaining := end - time.monotonic()) > 0:
            if self._stops():
                self.fetcher.unblock()
                break
            self.signals.wait((self.fetcher.fileno(),), remaining)
        fetched = self.fetcher.end_pop(now_text(self.resq))
        if fetched is None:
            return None
        self._idle = FIRST_IDLE
        job = self._to_job(fetched)
        if self._stops():
            self._put_back(job)
            return None
        return job

    def _put_back(self, job: Job, why: str = "stopping") -> None:
        assert job.raw is not None and job.in_flight is not None
        self.resq.store.queues.put_back(str(self), job._queue, job.raw, job.in_flight)
        logger.info("Put the job just fetched from %s back: %s", job._queue, why)

    def _finish_and_put_back(self) -> None:
        """Count the last job, and put back one whose reply from the server was lost."""
        if self._finished:
            self._finish_last()
        if self._fetcher is not None and (
            fetched := self._fetcher.put_back_undelivered(now_text(self.resq))
        ):
            logger.info("Put a job from %s back, whose reply was lost: stopping", fetched.queue)

    def _finish_last(self) -> None:
        self.fetcher.ended_well = self._ended_well is not None
        self.fetcher.finish(now_text(self.resq))
        self._finished = False
        self._retract_failure()

    def _pause(self) -> None:
        """Sleep 1 s, then 2, 4, 8, 8, …; after a job from 1 s again. A signal ends the sleep."""
        self.signals.sleep(self._idle)
        self._idle = min(self._idle * 2, LONGEST_IDLE)

    # Performing

    def process(self, job: Job | None = None) -> Any:
        """Perform this job in this process; without one, the next job, if there is one.

        Returns what the job's perform() returns; None without a job, or when it failed, which is
        then recorded.
        """
        job = job or self.reserve(0)
        if job is None:
            return None
        self._ensure_in_flight(job)
        pid, began = os.getpid(), time.monotonic()
        try:
            if "working_on" in self._overrides:
                self._call_working_on(job)
            job = self._prepared(job)
            job.waiter = self._write_reconnecting
            return self._perform(job)
        except BaseException as error:  # noqa: BLE001 - the border around a job (rule 8)
            if os.getpid() != pid:
                end_copy(error)
            if not (isinstance(error, CrashError) and job.loaded and job.retry_crash(error)):
                self._handle_exception(job)
            if isinstance(error, ENDING):
                raise
            return None
        finally:
            if os.getpid() != pid:
                end_copy(None)
            self._log_end(job, began)
            self._ended_well = None if job.outcome_written else job
            self._call_done_working(job)
            self._unregister_after_job()

    def _call_done_working(self, job: Job) -> None:
        self.done_working(job)

    def _ensure_in_flight(self, job: Job) -> None:
        """Write the in-flight record of a job that has none yet."""
        if job.in_flight is None:
            if not self.resq.store.workers.exists(str(self)):
                self._register_again()
            Performer.working_on(self, job)

    def _call_working_on(self, job: Job) -> None:
        """An override may write a record of its own: the outcome then depends on that one."""
        self.working_on(job)
        job.in_flight = self._reconnecting(self._in_flight_record, always=True)

    def _in_flight_record(self) -> bytes | None:
        """This worker's in-flight record as it is stored now, or None."""
        return self.resq.store.workers.in_flight(str(self))

    def _prepared(self, job: Job) -> Job:
        """The job to perform: what before_process() of a subclass returns, as in 1.5."""
        if "before_process" not in self._overrides:
            return job
        prepared = without_exit(self.before_process, job) or job
        if prepared is not job and prepared.in_flight is None:
            prepared.in_flight, prepared._worker = job.in_flight, prepared._worker or job._worker
            self._configured(prepared)
        return prepared

    def before_process(self, job: Job) -> Job:
        """For subclasses: called in the job's process before it is performed; returns the job to
        perform. From pyres 1.5.
        """
        return job

    def _handle_exception(self, job: Job) -> None:
        """Call _handle_job_exception(); where an override records nothing, record the failure."""
        self._handle_job_exception(job)
        if not job.failure_handled:
            self._record_exception(job)

    def _handle_job_exception(self, job: Job) -> None:
        """Record the exception that is being handled as the job's failure. From pyres 1.5."""
        self._record_exception(job)

    def _record_exception(self, job: Job) -> None:
        job.failure_handled = True
        job.outcome = "failed"
        error = sys.exc_info()[1]
        if error is None:
            error = JobError(f"{job.shown_name} failed for an unknown reason")
        _log_failed(job, error)
        if self.record_failure(job, error):
            self._count_failure()

    def _count_failure(self) -> None:
        """Call an overridden failed(); otherwise the failure was counted when it was recorded."""
        if "failed" in self._overrides:
            self._reconnecting(self.failed, always=True)

    def _perform(self, job: Job) -> Any:
        """Run the job's own code, with its timeout. SystemExit is a success, or a CrashError if its
        status is not 0.
        """
        seconds = self._timeout_of(job)
        try:
            if not seconds:
                return job.perform()
            text = f"{job.shown_name} took longer than its timeout of {seconds:g} s"
            with self._alarm(seconds, TimeoutError(text)):
                return job.perform()
        except SystemExit as ending:
            if ending.code in (None, 0):
                return None
            raise CrashError(f"the job exited with status {ending.code}").with_traceback(
                ending.__traceback__
            ) from None

    def _timeout_of(self, job: Job) -> float | None:
        """Seconds the job may take: its class's `timeout`, else the worker's."""
        own: float | None = getattr(job.load(), "timeout", None)
        if own is None:
            return self.timeout
        job_settings.check("timeout", own, job.name)
        return own

    def record_failure(self, job: Job, error: BaseException) -> bool:
        """Write the job's failure record and count it, once, reconnecting as often as needed.

        False when that was not possible, or another process has recorded the outcome.
        """
        error = job.failure_hooks(error)
        recorded = self._reconnecting(
            lambda: job.record_outcome(lambda batch: self._save(job, error, batch)), always=True
        )
        # After giving up it must not count as finished: that would delete its in-flight record.
        self._unrecorded = recorded is None
        return bool(recorded)

    def _save(self, job: Job, error: BaseException, batch: ResQ) -> None:
        save_failure(job, error, batch, count="failed" not in self._overrides)

    def record_crash(self, job: Job, error: BaseException) -> bool:
        """Record a retry or a failure of a job whose process died, unless its outcome is recorded
        already; whether a failure was recorded.
        """
        job.waiter = self._write_reconnecting
        # It may have died after it recorded its outcome: then the hooks have run, too.
        is_in_flight = self._reconnecting(
            lambda: self.resq.store.workers.has_in_flight(str(self), job.in_flight), always=True
        )
        if not is_in_flight or job.retry_crash(error):
            return False
        return self.record_failure(job, error)

    def _drop_inherited_hooks(self) -> None:
        """In a forked child: drop inherited atexit hooks, unless `run_at_exit_hooks` is set."""
        if not self.run_at_exit_hooks:
            exit_work.drop_inherited_hooks()

    def _renew_gevent(self) -> None:
        """In a forked child: make gevent's hub anew. Before any file is closed: until then the
        child shares the epoll set of the parent's hub.
        """
        # Patched sockets wait on the hub, and the parent's hub does not watch ours.
        if self.reinit_gevent or is_patched():
            make_gevent_anew()

    # The in-flight record, by the method names of pyres 1.5

    def working_on(self, job: Job) -> None:
        """Write the job's in-flight record, if it has none yet. From pyres 1.5."""
        if (
            job.in_flight is not None
            and self.resq.store.workers.in_flight(str(self)) == job.in_flight
        ):
            return
        if job.raw is None:
            job.raw = payload.encode_again(job._payload)
        job.in_flight = self.resq.store.mark_in_flight(
            str(self), job._queue, now_text(self.resq), job.raw
        )
        job._worker = job._worker or self

    def done_working(self, job: Job | None = None) -> None:
        """Delete the in-flight record and count the job as processed. A child leaves that to its
        parent, unless a subclass overrides this or processed(). From pyres 1.5.
        """
        if self._unrecorded or (self._in_child and not self._counts_itself):
            return
        if "processed" in self._overrides:
            self._reconnecting(self.processed, always=True)
            self._reconnecting(self._drop_in_flight, always=True)
        else:
            self._reconnecting(self._finish_last, always=True)

    def _drop_in_flight(self) -> None:
        self.resq.store.workers.delete_in_flight(str(self))

    # Counters

    def processed(self) -> None:
        """Count one more job as processed."""
        self.resq.store.stats.count("processed")
        self.resq.store.stats.count(f"processed:{self}")

    def get_processed(self) -> int:
        """How many jobs this worker has processed."""
        return Stat(f"processed:{self}", self.resq).get()

    def failed(self) -> None:
        """Count one more failure."""
        self.resq.store.stats.count("failed")
        self.resq.store.stats.count(f"failed:{self}")

    def get_failed(self) -> int:
        """How many jobs of this worker failed."""
        return Stat(f"failed:{self}", self.resq).get()

    # Connection errors

    def _reconnecting(self, act: Callable[[], T], always: bool = False) -> T | None:
        """Call act(); while the server is disconnected, wait and try again.

        Gives up and returns None once a shutdown is requested; with `always`, only when its grace
        is over.
        """
        pause, tries = FIRST_PAUSE, 0
        while True:
            tries += 1
            try:
                if self._primary.is_needed:
                    self._primary.leave_old(close_idle=not self.minion)
                result = act()
            except SERVER_ERRORS as error:
                if is_lasting(error) and not self._has_started:
                    raise
                self._stop_clock()
                gives_up = self._gives_up(always, tries)
                if gives_up or tries >= OWN_TRIES:
                    self._leave_to_parent(error)
                if gives_up:
                    text = "%s while stopping; a running job stays in Redis as in flight"
                    logger.error(text, described(error))
                    return None
                self._server_state.failed(error)
                self.signals.sleep(pause)
                pause = min(pause * 2, self.pace.longest_pause)
                self._next_beat = min(self._next_beat, 1.0)
            else:
                self._server_state.succeeded()
                return result

    def _write_reconnecting(self, write: Callable[[], T]) -> T | None:
        """Write something about a job; waiting for the server does not count as the job's time."""
        with silenced():
            return self._reconnecting(write, always=True)

    def _stop_clock(self) -> None:
        """Report to the parent that the job's timeout stops while this waits for the server."""

    def _leave_to_parent(self, error: Exception) -> None:
        """End a child without the files or memory for a connection: its parent records the job."""
        if self._has_parent() and own_error(error) is not None:
            logger.error("%s; this process ends, and its parent records the job", described(error))
            leave(EXIT_SOFTWARE)

    def _has_parent(self) -> bool:
        """Whether a parent process of ours is alive, which will record this one's job."""
        return False

    def _gives_up(self, always: bool, tries: int) -> bool:
        return self._shutdown and not always

    def _beat_if_due(self) -> None:
        """Write a heartbeat and prune dead workers, once a minute. Where the server refuses that,
        try again later: whether jobs can run is for the next fetch to find out.
        """
        if time.monotonic() < self._next_beat:
            return
        try:
            self._beat()
        except SERVER_ERRORS as error:
            if not is_answered(error) or not self._has_started:
                raise
            self._note_failed_beat(error)
        else:
            self._note_beat()

    def _note_beat(self) -> None:
        self._next_beat = time.monotonic() + self.pace.heartbeat
        self._beat_pause = FIRST_BEAT_PAUSE
        self._beat_state.succeeded()

    def _note_failed_beat(self, error: Exception) -> None:
        self._beat_state.failed(error)
        self._next_beat = time.monotonic() + self._beat_pause
        self._beat_pause = min(self._beat_pause * 2, self.pace.longest_pause)

    def _prune_at_start(self, prune: Callable[[], None]) -> None:
        """Call prune(); a refusal is only logged, so that workers can start on a full server."""
        try:
            prune()
        except CannotWriteNow as error:
            self._beat_state.failed(error)

    def _beat(self) -> None:
        self._was_removed = self.registry.beat() or self._was_removed
        self._prune()
        self.resq.store.close_idle()

    def _prune(self) -> None:
        """Prune dead workers, and once an hour in-flight records whose worker is not registered."""
        registry = self.registry
        registry.prune(sweep=time.monotonic() >= self._next_sweep)
        if registry.swept:
            self._next_sweep = time.monotonic() + SWEEP_EVERY


#: pyres' own methods for these steps and for 1.5's two ways to get a job, to detect overrides.
_OWN_STEPS = own_methods(Performer, STEPS)
_OWN_RESERVE = own_methods(Job, ["reserve"])
_OWN_POP = own_methods(ResQ, ["pop"])


def warn_of_threads() -> None:
    """Warn about threads that exist before the fork, if there are any."""
    if names := exit_work.started_threads():
        logger.warning(
            "No thread of this process (%s) runs in the processes that it forks for jobs, and a "
            "lock that one holds is never released there: start threads after the fork, in the job",
            ", ".join(names),
        )


def without_exit(step: Callable[[Job], T], job: Job) -> T:
    """Return step(job); SystemExit in it becomes a CrashError, since the job has not run."""
    try:
        return step(job)
    except SystemExit as ending:
        raise CrashError(f"{step.__name__} exited with status {ending.code}").with_traceback(
            ending.__traceback__
        ) from None


def _log_failed(job: Job, error: BaseException) -> None:
    """Log the exception of a job, with its traceback where Python can print it."""
    try:
        # A tuple, not the exception alone: logging drops a falsy one (one with a len() of 0).
        logger.error("%s failed", job, exc_info=(type(error), error, error.__traceback__))
    except Exception:  # noqa: BLE001 - printing it runs the job author's code, which may do anything
        logger.error("%s failed: %s: %s", job, type(error).__name__, exception_text(error))  # noqa: TRY400
