"""From a job taken to a job recorded: the same in a forked child, in a minion and in a test."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from pyres import job_settings, loading
from pyres.client import LONGEST_POP, ResQ, as_resq, now_text
from pyres.exceptions import CrashError, TimeoutError, TooOldError
from pyres.job import Job
from pyres.process.alarm import alarm
from pyres.process.native import is_patched, make_gevent_anew
from pyres.process.signals import Signals
from pyres.queue_list import QueueList
from pyres.registry import HEARTBEAT, Registry, save_failure
from pyres.stat import Stat
from pyres.store import ConnectionLost, RefusedError, Taken
from pyres.waking import Lookout

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds that a job gets to end by itself after its own alarm rang inside it.
ALARM_MARGIN = 1.0

#: Seconds that the process may take which settles a dead job (hooks, retries).
UNDERTAKER_TIMEOUT = 30.0

#: Seconds between two looks while all workers are told to pause.
PAUSED_PAUSE = 1.0

#: Seconds between two tries to reach a server that is gone: the first pause, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 15.0

#: Seconds an idle worker sleeps without BLPOP: doubled each time, from the first to the longest.
FIRST_IDLE, LONGEST_IDLE = 1.0, 8.0

#: Seconds after which the names behind wildcards are read again.
NAMES_EVERY = 5.0


class Performer:
    """What Worker and Minion share: an id, queues, a hand, and the way from a job to its record."""

    job_class = Job
    minion = False
    _alarm = staticmethod(alarm)

    def __init__(
        self,
        queues: str | Iterable[str] = (),
        server: Any = "localhost:6379",
        password: str | None = None,
        timeout: float | None = None,
        *,
        blocking_pop: bool = True,
        watch_pop: bool = False,
        reinit_gevent: bool = False,
        allow: Sequence[str] = (),
    ) -> None:
        self.queues = list([queues] if isinstance(queues, str) else queues)
        self.validate_queues()
        self.resq = as_resq(server, password)
        self.timeout = timeout
        self.blocking_pop = blocking_pop
        self.watch_pop = watch_pop
        self.reinit_gevent = reinit_gevent
        self.allowed = loading.Allowed(allow) if allow else None
        self.hostname = platform.node()
        self.pid: int | str = os.getpid()
        self.child: int | None = None
        self.signals = Signals({})
        self._shutdown: bool = False
        self._idle = FIRST_IDLE
        self._next_beat = 0.0
        self._next_names = 0.0
        self._finished = False
        self._unrecorded = False
        self._in_child = False
        self._taker: Any = None
        self._lookout: Lookout | None = None

    def validate_queues(self) -> None:
        """Raises NoQueueError when there is no queue to look at."""
        self._queue_list = QueueList(",".join(self.queues) if self._are_names() else self.queues)

    def _are_names(self) -> bool:
        return all(isinstance(queue, str) for queue in self.queues)

    def __str__(self) -> str:
        return f"{self.hostname}:{self.pid}:{','.join(self._queue_list.names)}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Performer) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def registry(self) -> Registry:
        return Registry(self.resq, str(self), self.minion)

    # Taking

    @property
    def taker(self) -> Any:
        """What takes jobs for this id; made when it is first needed, and again when the id
        changed.
        """
        if self._taker is None or self._taker.worker_id != str(self):
            self._taker = self.resq.store.taker(str(self))
            self._next_names = 0.0
        return self._taker

    def _look_at(self) -> None:
        """Bring the queues behind wildcards up to date, every now and then."""
        if not self._queue_list.dynamic:
            self.taker.look_at(self._queue_list.among(()))
        elif time.monotonic() >= self._next_names:
            self.taker.look_at(self._queue_list.among(self.resq.queues()))
            self._next_names = time.monotonic() + NAMES_EVERY

    def _take(self) -> Job | None:
        """Count the job that is finished, if one is, and take the next without waiting."""
        if self._taker is None or self._queue_list.dynamic or self._taker.queues == ():
            self._look_at()
        taken = self._taker.take(self._finished, now_text(self.resq))
        self._finished = False
        if taken is None:
            self._next_names = 0.0
            return None
        self._idle = FIRST_IDLE
        return self._job_of(taken)

    def _job_of(self, taken: Taken) -> Job:
        job = self.job_class.read(taken.queue, taken.payload, self.resq, self, taken.hand)
        return self._may_load(job)

    def _may_load(self, job: Job) -> Job:
        """The same job, which loads nothing but what is allowed."""
        if self.allowed:
            job.safe_str_to_class = self.allowed.load
        return job

    def _look(self) -> Job | None:
        # Due at once after the server was gone: it may have forgotten that we are registered.
        self._beat_if_due()
        return self._take()

    def reserve(self, timeout: float = 10) -> Job | None:
        """Take the next job into this worker's hand, waiting up to `timeout` seconds, or None."""
        end = time.monotonic() + timeout
        while True:
            job = self._take()
            left = end - time.monotonic()
            if job is not None or left <= 0 or self._stops():
                return job
            job = self._wait_once(left)
            if job is not None:
                return job

    def _wait_for_job(self, interval: float) -> Job | None:
        """One wait of up to `interval` seconds; a job that it brought, which only BLPOP does."""
        if self.taker.paused:
            self.signals.sleep(min(interval, PAUSED_PAUSE))
            return None
        return self._patiently(lambda: self._beat_and_wait(interval))

    def _beat_and_wait(self, interval: float) -> Job | None:
        self._beat_if_due()
        return self._wait_once(interval)

    def _wait_once(self, interval: float) -> Job | None:
        """Wait as this worker was told to."""
        if self.watch_pop:
            self._wait_for_push(interval)
        elif self.blocking_pop:
            return self._wait_blocking(min(interval, LONGEST_POP))
        else:
            self._pause()
        return None

    def _stops(self) -> bool:
        """Whether no job is wanted any more."""
        return self._shutdown

    def _wait_for_push(self, interval: float) -> None:
        """Wait until there is a job, a signal came, or `interval` seconds passed; pop nothing."""
        if self._lookout is None:
            self._lookout = Lookout(self.resq.store, self._queue_list)
        try:
            nothing = self._lookout.nothing_there()
        except TooOldError as error:
            self._watch_no_more(error)
            return
        if nothing and not self._stops():
            self.signals.wait((self._lookout.fileno(),), interval)

    def _watch_no_more(self, error: TooOldError) -> None:
        logger.warning(
            "Cannot watch the queues, so this pauses between looks as with --nonblocking-pop: %s",
            error,
        )
        self.watch_pop = self.blocking_pop = False

    def _wait_blocking(self, timeout: float) -> Job | None:
        """Wait for a job by BLPOP for up to `timeout` seconds, or until a signal stops us.

        A job that comes together with the signal is laid back at the head of its queue.
        """
        self._look_at()
        if not self.taker.queues:
            self.signals.sleep(min(timeout, FIRST_IDLE))
            return None
        self.taker.start_pop(timeout)
        # A server that does not answer in time is gone: the read that follows finds that out.
        end = time.monotonic() + timeout + 1
        while not self.taker.answered() and (left := end - time.monotonic()) > 0:
            if self._stops():
                self.taker.unblock()
                break
            self.signals.wait((self.taker.fileno(),), left)
        taken = self.taker.end_pop(now_text(self.resq))
        if taken is None:
            return None
        self._idle = FIRST_IDLE
        job = self._job_of(taken)
        if self._stops():
            self._put_back(job)
            return None
        return job

    def _put_back(self, job: Job) -> None:
        assert job.raw is not None and job.hand is not None
        self.resq.store.queues.put_back(str(self), job._queue, job.raw, job.hand)
        logger.info("Put the job just taken from %s back: stopping", job._queue)

    def _settle_up(self) -> None:
        """Count the last job, and lay back one that was given by a reply that never came."""
        if self._finished:
            self._finish_last()
        if self._taker is not None and (taken := self._taker.lay_back(now_text(self.resq))):
            logger.info("Put a job from %s back, whose reply was lost: stopping", taken.queue)

    def _finish_last(self) -> None:
        self.taker.finish(now_text(self.resq))
        self._finished = False

    def _pause(self) -> None:
        """Sleep 1 s, then 2, 4, 8, 8, …; a job starts again at 1. A signal ends it at once."""
        self.signals.sleep(self._idle)
        self._idle = min(self._idle * 2, LONGEST_IDLE)

    # Performing

    def process(self, job: Job | None = None) -> Any:
        """Perform a job in this process, taking one if none is given.

        What the job's perform() returns; None when it failed, which is then recorded, or there was
        none.
        """
        if job is None:
            job = self.reserve(timeout=0)
            if job is None:
                return None
        if job.hand is None:
            self.working_on(job)
        try:
            return self._perform(job)
        except BaseException as error:  # noqa: BLE001 - the border around a job (rule 8)
            logger.exception("%s failed", job)
            if isinstance(error, CrashError) and job.retry_crash(error):
                return None
            self.record_failure(job, error)
            if not isinstance(error, Exception):
                raise
            return None
        finally:
            self.done_working(job)

    def _perform(self, job: Job) -> Any:
        """The job's own code, with its timeout; a SystemExit of it is success or a CrashError."""
        seconds = self._timeout_of(job)
        try:
            if not seconds:
                return job.perform()
            text = f"{job.name} took longer than its timeout of {seconds:g} s"
            with self._alarm(seconds, TimeoutError(text)):
                return job.perform()
        except SystemExit as left:
            if left.code in (None, 0):
                return None
            raise CrashError(f"the job left with status {left.code}").with_traceback(
                left.__traceback__
            ) from None

    def _timeout_of(self, job: Job) -> float | None:
        """Seconds the job may take: as its class says, else as the worker was told."""
        own: float | None = getattr(job.load(), "timeout", None)
        if own is None:
            return self.timeout
        job_settings.check("timeout", own, job.name)
        return own

    def record_failure(self, job: Job, error: BaseException) -> None:
        """Make the job a failure record and count it, once, however often the server goes away."""
        error = job.failure_hooks(error)
        settled = self._patiently(
            lambda: job.settle(lambda batch: self._save(job, error, batch)), always=True
        )
        # Given up: it must not be counted as finished, for then its hand would be emptied.
        self._unrecorded = settled is None

    def _save(self, job: Job, error: BaseException, batch: ResQ) -> None:
        save_failure(job, error, batch)

    def settle_crash(self, job: Job, error: BaseException) -> None:
        """A job whose process is gone: a retry or a failure, unless it was settled before."""
        # It may have died after that: then the hooks have run, too.
        hand = self._patiently(lambda: self.resq.store.workers.hand(str(self)), always=True)
        if hand == job.hand and not job.retry_crash(error):
            self.record_failure(job, error)

    def _renew_gevent(self) -> None:
        """In a forked child. Before anything is closed: the kernel's list of what the parent waits
        for is the same until then.
        """
        # Patched sockets wait on the hub, and the parent's hears of no socket of ours.
        if self.reinit_gevent or is_patched():
            make_gevent_anew()

    # The hand, as pyres 1.5 has it

    def working_on(self, job: Job) -> None:
        """Put a job into the hand, so that everybody sees what is done, and none is lost."""
        from_queue = job.raw if job.raw is not None else self.resq.encode(job._payload).encode()
        held = self.resq.store.hold(str(self), job._queue, now_text(self.resq), from_queue)
        job.hand, job._worker = held, job._worker or self

    def done_working(self, job: Job | None = None) -> None:
        """Empty the hand and count the job as processed. In a forked child that is the parent's
        part.
        """
        if self._in_child or self._unrecorded:
            return
        self._patiently(self._finish_last, always=True)

    # What is known of a worker

    def processed(self) -> None:
        """Count one more job as processed."""
        self.resq.store.stats.incr("processed")
        self.resq.store.stats.incr(f"processed:{self}")

    def get_processed(self) -> int:
        """How many jobs this worker has finished with."""
        return Stat(f"processed:{self}", self.resq).get()

    def failed(self) -> None:
        """Count one more failure."""
        self.resq.store.stats.incr("failed")
        self.resq.store.stats.incr(f"failed:{self}")

    def get_failed(self) -> int:
        """How many jobs of this worker failed."""
        return Stat(f"failed:{self}", self.resq).get()

    # Living with a server that goes away

    def _patiently(self, act: Callable[[], T], always: bool = False) -> T | None:
        """Do something on the server; while it is gone, wait and try again.

        Gives up, with None, once a shutdown is asked for; `always`: only when that is urgent.
        """
        pause, tries = FIRST_PAUSE, 0
        while True:
            tries += 1
            try:
                return act()
            except ConnectionLost as error:
                if isinstance(error, RefusedError) and self._next_beat == 0:
                    raise
                if self._gives_up(always, tries):
                    logger.error(
                        "Redis is gone (%s) while stopping; what is in hand stays recorded there",
                        error,
                    )
                    return None
                logger.warning("Redis is gone (%s); trying again in %.1f s", error, pause)
                self.signals.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                self._next_beat = min(self._next_beat, 1.0)

    def _gives_up(self, always: bool, tries: int) -> bool:
        return self._shutdown and not always

    def _beat_if_due(self) -> None:
        """Give a sign of life and prune the dead, once a minute."""
        if time.monotonic() >= self._next_beat:
            self._beat()
            self._next_beat = time.monotonic() + HEARTBEAT

    def _beat(self) -> None:
        self.registry.beat()
        self.registry.prune()
        self.resq.store.rest()
