"""Worker: takes a job, forks a child for it, waits for the child, and takes the next."""

from __future__ import annotations

import gc
import logging
import signal
import time
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import Any

from pyres import hooks, loading, payload
from pyres.client import ResQ, as_resq
from pyres.exceptions import CrashError, TimeoutError
from pyres.job import Job
from pyres.performer import ALARM_MARGIN, UNDERTAKER_TIMEOUT, Performer
from pyres.process import title
from pyres.process.children import Children, Exit, flush
from pyres.process.reports import DONE, Reports
from pyres.process.spare import Spare
from pyres.registry import HEARTBEAT, held_job, split_id
from pyres.store import open_hand

logger = logging.getLogger(__name__)


class Worker(Performer):
    """Resque's worker. From pyres 1.5.

    `queues` in order of priority, with wildcards and !negations; `timeout` seconds a job may take;
    `grace` seconds a job gets to finish after TERM or INT; `blocking_pop=False` takes with LPOP and
    pauses when all queues are empty; `watch_pop` waits for a push without popping, and pauses where
    the server is older than Redis 6; `reinit_gevent` makes gevent's hub anew in each child; `allow`
    are the dotted prefixes that payloads may name.
    """

    def __init__(
        self,
        queues: str | Iterable[str] = (),
        server: Any = "localhost:6379",
        password: str | None = None,
        timeout: float | None = None,
        blocking_pop: bool = True,
        *,
        watch_pop: bool = False,
        grace: float = 10,
        reinit_gevent: bool = False,
        allow: Sequence[str] = (),
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
        )
        self.grace = grace
        self.children = Children(self.signals)
        self._reports: Reports | None = None
        self._paused = False
        self._stop_at: float | None = None
        self._prepared: set[str] = set()
        self._shown = ""
        self._spare = Spare(self.children, self._be_given, self._warm)
        self._busy = False
        self._last_hand = b""

    # Signals: each handler notes, or signals a child, and the loop acts

    def register_signal_handlers(self) -> None:
        """Install the handlers: Resque's signals, with pyres' grace for TERM and INT."""
        self.signals = self.signals.give_way(
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
        """TERM, INT: take nothing more; the job gets its grace. A second one kills it at once."""
        again = self._stop_at is not None
        if again:
            self.kill_child(signum, frame)
        self._shutdown = True
        self._stop_at = time.monotonic() + (0 if again else self.grace)

    def schedule_shutdown(self, signum: int, frame: FrameType | None) -> None:
        """QUIT: finish the job, however long it takes, and stop."""
        self._shutdown = True

    def kill_child(self, signum: int, frame: FrameType | None) -> None:
        """USR1: kill the job in hand, and go on."""
        # Not every child: one that waits for a job of the backlog has none to be killed for.
        if self.child in self.children.pids:
            self.children.kill(signal.SIGKILL, self.child)

    def pause_processing(self, signum: int, frame: FrameType | None) -> None:
        """USR2: take no job until CONT."""
        self._paused = True

    def unpause_processing(self, signum: int, frame: FrameType | None) -> None:
        """CONT: take jobs again."""
        self._paused = False

    # Life

    def startup(self) -> None:
        """Install the handlers, prune the dead, register, and show it in `ps`."""
        self.register_signal_handlers()
        self._title("Starting")
        self._patiently(self._announce)
        # What stands now will stand: a collection in a child would touch, and so copy, all of it.
        gc.collect()
        gc.freeze()

    def _announce(self) -> None:
        self.prune_dead_workers()
        self.register_worker()
        self.taker.connect()
        self.resq.store.rest()
        self._next_beat = time.monotonic() + HEARTBEAT

    def register_worker(self) -> None:
        """Announce this worker in Redis."""
        self.registry.register()

    def unregister_worker(self) -> None:
        """Forget this worker in Redis."""
        self.registry.unregister()

    def prune_dead_workers(self) -> None:
        """Unregister workers that died, and record the jobs they held as failures."""
        self.registry.prune()

    @property
    def started(self) -> str | None:
        """When the worker registered: whole epoch seconds as text. Setting it writes the key, None
        deletes it.
        """
        return self.resq.store.workers.started(str(self))

    @started.setter
    def started(self, value: Any) -> None:
        if value:
            now = int(self.resq._current_time().timestamp())
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
        """Work on these queues until a signal says stop."""
        worker = cls(queues=queues, server=server, password=password, timeout=timeout, **more)
        worker.work() if interval is None else worker.work(interval)

    def work(self, interval: float = 5) -> None:
        """Take and perform jobs until a signal says stop.

        `interval` seconds is how long one wait for a job lasts; 0 means to stop once all is empty.
        """
        self.startup()
        try:
            while not self._shutdown:
                self._turn(interval)
        finally:
            self._end()

    def _end(self) -> None:
        self._patiently(self._leave)
        logger.info("%s has stopped", self)
        for connected in (self._taker, self._lookout):
            if connected is not None:
                connected.close()
        self._keep_nothing_open()
        self.signals.restore()

    def _close_reports(self) -> None:
        if self._reports is not None:
            self._reports.close()
            self._reports = None

    def _leave(self) -> None:
        # In one: who is unregistered has no hand any more, and what stood in it is gone.
        self._settle_up()
        self.unregister_worker()

    def _expect_nothing(self) -> None:
        """There is no backlog any more: no child waits for a job of it, none is left a zombie."""
        self._busy = False
        self._spare.dismiss()
        self.children.collect()

    def _turn(self, interval: float) -> None:
        """One job, or one wait for it."""
        if self._paused:
            self._patiently(self._beat_if_due)
            self._rest()
            return
        job = self._patiently(self._look)
        if job is not None:
            if self._shutdown:
                self._patiently(lambda: self._put_back(job), always=True)
                return
            self._perform_in_child(job)
            self._finished = not self._unrecorded
            return
        self._expect_nothing()
        if interval == 0:
            self._shutdown = True
        elif not self._shutdown:
            self._wait(interval)

    def _rest(self) -> None:
        """Paused by USR2: count the last job, and sleep until a signal or the next sign of life."""
        if self._finished:
            self._patiently(self._finish_last)
        self._expect_nothing()
        self._title("Paused")
        if self._paused and not self._shutdown:
            self.signals.sleep(max(0, self._next_beat - time.monotonic()))

    def _wait(self, interval: float) -> None:
        """Nothing to do: wait for a job."""
        paused = self.taker.paused
        self._title("Paused" if paused else f"Waiting for {','.join(self._queue_list.names)}")
        job = self._wait_for_job(interval)
        if job is not None:
            self._perform_in_child(job)
            self._finished = not self._unrecorded

    def _stops(self) -> bool:
        return self._shutdown or self._paused

    def _gives_up(self, always: bool, tries: int) -> bool:
        if not always:
            return self._shutdown
        # What must be written is waited for as long as a job would be; then its hand, which still
        # stands in Redis, is left to whoever prunes us.
        return self._stop_at is not None and time.monotonic() >= self._stop_at

    # One job, one child

    def fork_worker(self, job: Job) -> None:
        """Perform a job in a child and wait for it; then the job is counted and the hand
        is empty.
        """
        if job.hand is None:
            self.working_on(job)
        try:
            self._perform_in_child(job)
        finally:
            self._keep_nothing_open()
        self.done_working(job)

    def _keep_nothing_open(self) -> None:
        """Wait for the children, and close their pipe: without work(), nobody may do so later."""
        self._expect_nothing()
        self.children.collect(block=True)
        self._close_reports()

    def _perform_in_child(self, job: Job) -> None:
        """Fork, wait, and record how the child ended if it could not do so itself."""
        self.before_fork(job)
        self._prepare(job.name)
        logger.info("Got %s", job)
        # Before the fork, so that both show it: after it each would have to copy the pages for
        # that.
        self._title_of(job)
        if self._reports is None:
            self._reports = Reports()
        given = self._spare.give(job.hand) if job.hand else None
        self.child = given or self.children.fork(lambda: self._be_child(job))
        self._fork_ahead(job)
        exit, late = self._wait_for_child(self.child)
        self.child = None
        if not exit.clean:
            self._record_dirty_exit(job, exit, late)

    def _title_of(self, job: Job) -> None:
        self._title(f"Processing {job._queue} since {int(time.time())} [{job.name}]")

    def _fork_ahead(self, job: Job) -> None:
        """With a backlog, fork the next job's child while this one works."""
        # Whoever overrides before_fork expects to see each job before its fork.
        if self._busy and job.hand and type(self).before_fork is Worker.before_fork:
            self._last_hand = job.hand
            self._spare.prepare()
        self._busy = True

    def _warm(self) -> None:
        """In a child in waiting: touch what a job needs, so that its pages are copied by then."""
        self._become_child()
        self._title("Ready")
        self._prepare(self._job_of(open_hand(self._last_hand)).name)

    def _be_given(self, hand: bytes) -> int:
        """In a child in waiting: its job has come."""
        job = self._job_of(open_hand(hand))
        self._title_of(job)
        return self._perform_as_child(job)

    def _prepare(self, name: str) -> None:
        """Learn a class's hooks once, here, if its module is imported already; else each child
        would.
        """
        if name not in self._prepared and (target := loading.loaded(name)) is not None:
            hooks.learn(target)
            self._prepared.add(name)

    def _be_child(self, job: Job) -> int:
        """The child's part: everything after the fork that is not the job's."""
        self._become_child()
        return self._perform_as_child(job)

    def _become_child(self) -> None:
        self._in_child = True
        self._renew_gevent()
        for parents in (self._taker, self._lookout):
            if parents is not None:
                parents.forget()
        self._taker = self._lookout = None

    def _perform_as_child(self, job: Job) -> int:
        self.after_fork(job)
        self.before_process(job)
        self.process(job)
        flush()
        if self._reports:
            self._reports.tell(DONE)
        return 0

    def _timeout_of(self, job: Job) -> float | None:
        seconds = super()._timeout_of(job)
        if seconds != self.timeout and self._in_child and self._reports:
            # 0 says no limit, also where the worker was told one.
            self._reports.tell(seconds or 0.0)
        return seconds

    def _wait_for_child(self, pid: int) -> tuple[Exit, float | None]:
        """How the child ended, and the timeout in seconds if that is why."""
        timeout, began, late = self.timeout, time.monotonic(), None
        fds = (self._reports.reader,) if self._reports else ()
        while True:
            exit = self.children.wait(pid, self._patience(began, timeout), fds)
            if exit is not None:
                return exit, late if exit.signal else None
            told = self._told_by(pid)
            if DONE in told:
                return self.children.let_go(pid), None
            timeout = told[-1] if told else timeout
            now = time.monotonic()
            if timeout and now >= began + timeout + ALARM_MARGIN:
                late = timeout
                self.children.kill(signal.SIGKILL, pid)
            elif self._stop_at is not None and now >= self._stop_at:
                self.children.kill(signal.SIGKILL, pid)
            self._beat_while_waiting(now)

    def _told_by(self, pid: int) -> list[float]:
        heard = self._reports.hear() if self._reports else []
        return [report.seconds for report in heard if report.pid == pid]

    def _patience(self, began: float, timeout: float | None) -> float | None:
        """Seconds until there is something to do for the parent while the child works."""
        ends = [self._next_beat] if self.signals.installed else []
        if timeout:
            ends.append(began + timeout + ALARM_MARGIN)
        if self._stop_at is not None:
            ends.append(self._stop_at)
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _beat_while_waiting(self, now: float) -> None:
        """A sign of life during a long job; a server that is gone must not keep us from
        the child.
        """
        if not self.signals.installed or now < self._next_beat:
            return
        self._next_beat = now + HEARTBEAT
        try:
            self._beat()
        except Exception as error:  # noqa: BLE001 - the job goes on; the next turn tries again
            logger.warning("No sign of life could be given: %s", error)

    def _record_dirty_exit(self, job: Job, exit: Exit, late: float | None) -> None:
        """The child could not say how its job went, so we do: a retry or a failure, and once."""
        if late is not None:
            error: CrashError | TimeoutError = TimeoutError(
                f"{job.name} took longer than {late:g} s and was killed"
            )
        else:
            error = CrashError(f"the process of the job {exit}")
        logger.error("%s: %s", job, error)
        # In a child again: to run the class's hooks its module is needed, and a module that just
        # took a process down must not be imported into the worker.
        pid = self.children.fork(lambda: self._be_undertaker(job, error))
        end = time.monotonic() + UNDERTAKER_TIMEOUT
        settled = None
        while settled is None:
            settled = self.children.wait(pid, max(0.0, end - time.monotonic()))
            if settled is None and time.monotonic() >= end:
                self.children.kill(signal.SIGKILL, pid)
        if not settled.clean:
            self.record_failure(job, error)

    def _be_undertaker(self, job: Job, error: CrashError | TimeoutError) -> int:
        self._become_child()
        self._title(f"Settling {job.name}")
        self.settle_crash(job, error)
        return int(self._unrecorded)

    # Hooks for subclasses

    def before_fork(self, job: Job) -> None:
        """In the parent, before each fork."""

    def after_fork(self, job: Job) -> None:
        """In the child, after each fork."""

    def before_process(self, job: Job) -> None:
        """In the child, before the job is performed."""

    def _title(self, state: str) -> None:
        # Many small jobs of a class show the same text, since the time in it has whole seconds.
        if state != self._shown:
            self._shown = state
            title.set_title(title.worker_title(self._queue_list.names, state))

    # Looking at workers

    def job(self) -> dict[str, Any]:
        """What this worker has in hand: queue, run_at and payload; empty when it is idle."""
        hand = self.resq.store.workers.hand(str(self))
        if hand is None:
            return {}
        held = payload.show(hand)
        if held.get("class") == payload.UNDECODABLE:
            held = {"queue": held_job(hand, self.resq, str(self))._queue, "payload": held}
        return held

    def processing(self) -> dict[str, Any]:
        """job(), by its other name in pyres 1.5."""
        return self.job()

    def state(self) -> str:
        """`working` or `idle`."""
        return "working" if self.resq.store.workers.hand(str(self)) is not None else "idle"

    @classmethod
    def worker_pids(cls) -> list[str]:
        """The pids, as text, of the workers that live on this machine."""
        return [str(pid) for pid in title.worker_pids()]

    @classmethod
    def all(cls, host: Any = "localhost:6379") -> list[Worker]:
        """The registered workers of a server (a DSN or a ResQ)."""
        resq = as_resq(host)
        found = (cls._found(worker_id, resq) for worker_id in resq.workers())
        return [worker for worker in found if worker is not None]

    @classmethod
    def working(cls, host: Any = "localhost:6379") -> list[Worker]:
        """Those that hold a job now."""
        resq = as_resq(host)
        ids = resq.workers()
        hands = resq.store.workers.hands(ids)
        busy = [worker_id for worker_id, hand in zip(ids, hands, strict=True) if hand is not None]
        return [worker for worker in (cls._found(worker_id, resq) for worker_id in busy) if worker]

    @classmethod
    def find(cls, worker_id: str, resq: ResQ) -> Worker | None:
        """The worker with this id, or None when it is not registered."""
        return cls._found(worker_id, resq) if cls.exists(worker_id, resq) else None

    @classmethod
    def exists(cls, worker_id: str, resq: ResQ) -> bool:
        """Whether a worker with this id is registered."""
        return resq.store.workers.exists(worker_id)

    @classmethod
    def _found(cls, worker_id: str, resq: ResQ) -> Worker | None:
        """A worker by its id; None for a member of the set that is no worker's id."""
        try:
            host, pid, queues = split_id(worker_id)
        except ValueError:
            return None
        if not any(queues):
            return None
        worker = cls(queues, resq)
        worker.hostname, worker.pid = host, str(pid)
        return worker
