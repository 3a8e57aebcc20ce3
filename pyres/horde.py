"""Khan keeps a pool of minions alive. A minion performs jobs without forking for each.

All minions run in processes of their own, forked by Khan; what a minion sends for a job that goes
well is one call to Redis, which counts the last job and takes the next.
"""

from __future__ import annotations

import functools
import logging
import os
import platform
import signal
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Any

from pyres import logs
from pyres.client import LONGEST_POP, ResQ, as_resq
from pyres.exceptions import CrashError, TimeoutError
from pyres.job import Job
from pyres.performer import LONGEST_PAUSE, Performer
from pyres.process import title
from pyres.process.children import (
    Children,
    Exit,
    alive,
    die_with_parent,
    resident_megabytes,
    send,
)
from pyres.process.native import is_patched, make_gevent_anew
from pyres.process.reports import DONE, Reports
from pyres.process.signals import Signals, wake
from pyres.queue_list import QueueList
from pyres.registry import HEARTBEAT, Registry, held_job
from pyres.store import ConnectionLost

logger = logging.getLogger(__name__)

#: Seconds after which Khan kills a minion whose own alarm should have ended its job.
ALARM_MARGIN = 1.0

#: A minion that ends sooner than so many seconds after its start did not get going.
QUICK_DEATH = 1.0

#: Seconds an undertaker (hooks and retries of a dead minion's job) may take.
UNDERTAKER_TIMEOUT = 30.0


class Minion(Performer):
    """One process that takes and performs jobs, one after the other. From pyres 1.5.

    `interval` seconds is one wait for a job; `max_jobs` (0: no limit) and `max_memory` megabytes
    (0: no limit) end it between two jobs, and Khan starts a fresh one.
    """

    minion = True

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
        blocking_pop: bool = True,
        reinit_gevent: bool = False,
        max_memory: float = 0,
        allow: Sequence[str] = (),
        json_logs: bool = False,
    ) -> None:
        super().__init__(queues, server, password, timeout, blocking_pop=blocking_pop, allow=allow)
        self.log_level = log_level
        self.log_path = log_path
        self.interval = interval
        self.concat_logs = concat_logs
        self.max_jobs = max_jobs
        self.max_memory = max_memory
        self.reinit_gevent = reinit_gevent
        self.json_logs = json_logs
        self.reports: Reports | None = None
        self.children = Children(Signals({}))
        self.exit: Exit | None = None
        self.born = 0.0
        #: Set by Khan on one that it has told to end.
        self.retiring = False
        self._jobs_done = 0
        self._guarded = False
        self._parent = 0
        self._told: float | None = None

    # As a process

    def start(self) -> None:
        """Fork the process that works."""
        self._parent = os.getpid()
        self.born = time.monotonic()
        self.pid = self.children.fork(self._live)

    def terminate(self) -> None:
        """Ask it to end after the job in hand."""
        send(int(self.pid), signal.SIGTERM)

    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self.exit is None and int(self.pid) in self.children and alive(int(self.pid))

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end, at most `timeout` seconds."""
        if self.exit is None and int(self.pid) in self.children:
            self.exit = self.children.wait(int(self.pid), timeout)

    def _live(self) -> int:
        """The process's whole life."""
        self.pid = os.getpid()
        # Patched sockets wait on the hub, and Khan's hears of no socket of ours.
        if self.reinit_gevent or is_patched():
            make_gevent_anew()
        self._log_to_own_file()
        self.work()
        return 0

    def _log_to_own_file(self) -> None:
        if self.log_path is None:
            return
        name = "minion.log" if self.concat_logs else f"minion-{self.pid}.log"
        where = os.path.join(self.log_path, name)
        logs.setup_logging("pyres_minion", self.log_level, where, self.json_logs)

    # Signals

    def register_signal_handlers(self) -> None:
        """Install the handlers; none of Khan's is left."""
        self.signals.restore()
        stop = self.schedule_shutdown
        handlers: dict[int, Any] = dict.fromkeys(
            (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT), stop
        )
        self.signals = Signals(handlers)
        self.signals.install()

    def schedule_shutdown(self, signum: int, frame: FrameType | None) -> None:
        """TERM, INT, QUIT: end after the job in hand. Khan sees to it that this does not last."""
        self._shutdown = True

    # Work

    def work(self, interval: float | None = None) -> None:
        """Take and perform jobs until a signal says stop, or a limit is reached."""
        self._startup()
        try:
            while not self._shutdown:
                self._turn(self.interval if interval is None else interval)
        finally:
            self._end()

    def _startup(self) -> None:
        self._in_child = True
        self.register_signal_handlers()
        if self._parent:
            self._guarded = die_with_parent(self._parent)
        self._title("starting")
        self._patiently(self.register_minion)
        self._next_beat = time.monotonic() + HEARTBEAT

    def register_minion(self) -> None:
        """Announce this minion in Redis, as a worker and as a minion."""
        self.registry.register()

    def unregister_minion(self) -> None:
        """Forget this minion in Redis."""
        self.registry.unregister()

    def _turn(self, interval: float) -> None:
        """One job, or one wait for it."""
        self._patiently(self._beat_if_due)
        job = self._patiently(self._take)
        if job is None:
            if not self._shutdown:
                self._wait(interval)
            return
        if self._shutdown:
            self._patiently(lambda: self._give_back(job), always=True)
            return
        self._do(job)

    def _do(self, job: Job) -> None:
        self._title(f"processing {job._queue} since {int(time.time())} [{job.name}]")
        self.process(job)
        self._finished = True
        if self._told is not None and self.reports:
            self._told = None
            self.reports.tell_done()
        self._jobs_done += 1
        if self._is_spent():
            self._shutdown = True

    def _is_spent(self) -> bool:
        """Whether a limit says that a fresh minion is to take over."""
        if self.max_jobs and self._jobs_done >= self.max_jobs:
            logger.info("Minion %s has done its %d jobs", self.pid, self._jobs_done)
            return True
        if self.max_memory and (used := resident_megabytes()) > self.max_memory:
            logger.info("Minion %s uses %.0f MB, more than it may", self.pid, used)
            return True
        return False

    def _timeout_of(self, job: Job) -> float | None:
        seconds = super()._timeout_of(job)
        if seconds and self.reports:
            # Khan is told, so that a job which no alarm reaches is ended from outside.
            self._told = seconds
            self.reports.tell(seconds)
        return seconds

    def _give_back(self, job: Job) -> None:
        assert job.raw is not None and job.hand is not None
        self.resq.store.queues.put_back(str(self), job._queue, job.raw, job.hand)

    def _wait(self, interval: float) -> None:
        self._title(f"waiting for job on: [{','.join(self._queue_list.names)}]")
        if self._parent and not self._guarded:
            # No signal tells of a dead parent here, so it is looked for each second.
            interval = min(interval, 1.0)
            if os.getppid() != self._parent:
                self._shutdown = True
                return
        if self.taker.paused:
            self.signals.sleep(min(interval or 1.0, 1.0))
        elif self.blocking_pop:
            wait = min(interval or LONGEST_POP, LONGEST_POP)
            job = self._patiently(lambda: self._wait_blocking(wait, self._stops))
            if job is not None:
                self._do(job)
        else:
            self._pause()

    def _stops(self) -> bool:
        return self._shutdown

    def reserve(self, timeout: float = 10) -> Job | None:
        """Take the next job into this minion's hand, waiting up to `timeout` seconds, or None."""
        job = self._take()
        if job is None and timeout and self.blocking_pop:
            job = self._wait_blocking(min(timeout, LONGEST_POP), self._stops)
        return job

    def _end(self) -> None:
        self._patiently(self._leave)
        logger.info("Minion %s has stopped", self.pid)

    def _leave(self) -> None:
        # In one: who is unregistered has no hand any more, and what stood in it is gone.
        self._settle_up()
        self.unregister_minion()

    def _gives_up(self, always: bool) -> bool:
        # A minion that stops waits for nothing: what is in its hand Khan records.
        return self._shutdown

    def _title(self, state: str) -> None:
        title.set_title(title.minion_title(self._parent or os.getppid(), state))


class Khan:
    """Keeps `pool_size` minions alive. From pyres 1.5, and its fork's grace on shutdown.

    `grace` seconds the jobs in hand get after TERM or INT; `max_jobs` and `max_memory` are for each
    minion; `reinit_gevent` makes gevent's hub anew in each. ValueError for a pool size that is no
    number, NoQueueError without queues.
    """

    #: Seconds between TERM and KILL on shutdown; the fork's name for `grace`.
    SHUTDOWN_MINION_DELAY: float = 10

    _command_map = {
        "ADD": "add_minion",
        "REMOVE": "_remove_minion",
        "SHUTDOWN": "_shut_down_by_command",
    }

    def __init__(
        self,
        pool_size: int = 5,
        queues: str | Iterable[str] = (),
        server: Any = "localhost:6379",
        password: str | None = None,
        logging_level: int | str = logging.INFO,
        log_file: str | None = None,
        minions_interval: float | None = 5,
        concat_minions_logs: bool = False,
        max_jobs: int = 0,
        blocking_pop: bool = True,
        reinit_gevent: bool = False,
        monkey_patch: bool = False,
        *,
        grace: float | None = None,
        timeout: float | None = None,
        max_memory: float = 0,
        allow: Sequence[str] = (),
        json_logs: bool = False,
    ) -> None:
        try:
            self.pool_size = int(pool_size)
        except (TypeError, ValueError):
            raise ValueError(f"{pool_size!r} is no pool size; it is a number") from None
        self.queues = [queues] if isinstance(queues, str) else list(queues)
        self._queue_list = QueueList(",".join(self.queues))
        self._server = server
        self.password = password
        self.logging_level = logging_level
        self.log_file = log_file
        self.minions_interval = 5 if minions_interval is None else minions_interval
        self.concat_minions_logs = concat_minions_logs
        self.grace = self.SHUTDOWN_MINION_DELAY if grace is None else grace
        self._minion_options: dict[str, Any] = {
            "max_jobs": max_jobs,
            "blocking_pop": blocking_pop,
            "reinit_gevent": reinit_gevent,
            "timeout": timeout,
            "max_memory": max_memory,
            "allow": allow,
            "json_logs": json_logs,
        }
        self.monkey_patch = monkey_patch
        self.pid = os.getpid()
        self.hostname = platform.node()
        self._workers: OrderedDict[int, Minion] = OrderedDict()
        self._begin()

    def _begin(self) -> None:
        """What a khan knows before it works."""
        self.signals = Signals({})
        self.children = Children(self.signals)
        self.reports = Reports()
        self._shutdown = False
        self._stop_at: float | None = None
        self._wanted = 0
        self._roll = False
        self._rolling: list[int] = []
        self._former_ids: list[str] = []
        self._deadlines: dict[int, float] = {}
        self._undertakers: dict[int, tuple[str, BaseException, float]] = {}
        self._dead: list[tuple[str, BaseException]] = []
        self._quick_deaths = 0
        self._spawn_after = 0.0
        self._next_beat = 0.0
        self._redis_lost = False

    def __str__(self) -> str:
        return f"{self.hostname}:{self.pid}:{self.pool_size}"

    def setup_resq(self) -> None:
        """Make `resq`; until then a Khan has none."""
        self.resq: ResQ = as_resq(self._server, self.password)

    # Signals: each handler notes, and the loop acts

    def register_signal_handlers(self) -> None:
        """Install the handlers."""
        self.signals.restore()
        self.signals = Signals(
            {
                signal.SIGTERM: self.schedule_shutdown,
                signal.SIGINT: self.schedule_shutdown,
                signal.SIGQUIT: self.schedule_shutdown,
                signal.SIGUSR1: self.kill_child,
                signal.SIGUSR2: self.add_child,
                signal.SIGTTIN: self.add_child,
                signal.SIGTTOU: self.kill_child,
                signal.SIGHUP: self.roll,
                signal.SIGCHLD: wake,
            }
        )
        self.children.signals = self.signals
        self.signals.install()

    def schedule_shutdown(self, signum: int | None, frame: FrameType | None) -> None:
        """TERM, INT: stop, with a grace for the jobs in hand; a second one ends it. QUIT:
        no limit.
        """
        if signum != signal.SIGQUIT:
            now = time.monotonic()
            self._stop_at = now if self._stop_at is not None else now + self.grace
        self._shutdown = True

    def kill_child(self, signum: int, frame: FrameType | None) -> None:
        """USR1, TTOU: one minion less, after its job."""
        self._wanted -= 1

    def add_child(self, signum: int, frame: FrameType | None) -> None:
        """USR2, TTIN: one minion more."""
        self._wanted += 1

    def roll(self, signum: int, frame: FrameType | None) -> None:
        """HUP: replace every minion, one after the other, each after its job."""
        self._roll = True

    # Life

    @classmethod
    def run(
        cls,
        pool_size: int = 5,
        queues: str | Iterable[str] = (),
        server: Any = "localhost:6379",
        password: str | None = None,
        interval: float | None = 2,
        logging_level: int | str = logging.INFO,
        log_file: str | None = None,
        minions_interval: float | None = 5,
        concat_minions_logs: bool = False,
        max_jobs: int = 0,
        **more: Any,
    ) -> None:
        """Keep a pool working until a signal says stop."""
        khan = cls(
            pool_size=pool_size,
            queues=queues,
            server=server,
            password=password,
            logging_level=logging_level,
            log_file=log_file,
            minions_interval=minions_interval,
            concat_minions_logs=concat_minions_logs,
            max_jobs=max_jobs,
            **more,
        )
        khan.work(2 if interval is None else interval)

    def work(self, interval: float = 2) -> None:
        """Keep the pool alive, looking for commands every `interval` seconds, until told
        to stop.
        """
        self.register_signal_handlers()
        self._title("starting")
        self.setup_resq()
        try:
            while not self._reach(self.register_khan) and not self._shutdown:
                self.signals.sleep(1)
            self.setup_minions()
            while not self._shutdown:
                self._turn(interval)
        finally:
            self._shutdown_minions()
            self._reach(self.unregister_khan)
            self.signals.restore()
            logger.info("%s has stopped", self)

    def _turn(self, interval: float) -> None:
        """Look at everything once, then wait for a signal, a report or the next command."""
        self._reap()
        self._settle_dead()
        self._change_pool()
        self._take_commands()
        self._spawn_missing()
        self._roll_on()
        self._keep_time()
        self._title(f"running {list(self._workers)}")
        self.signals.wait((self.reports.reader,), self._patience(interval))

    def _patience(self, interval: float) -> float:
        """Seconds until there is something to do."""
        now = time.monotonic()
        ends = [
            now + interval,
            *self._deadlines.values(),
            *(u[2] for u in self._undertakers.values()),
        ]
        if len(self._workers) < self.pool_size:
            ends.append(max(self._spawn_after, now + 0.01))
        return max(0.0, min(ends) - now)

    def _reach(self, act: Callable[[], Any]) -> bool:
        """Do something on the server; False while it is gone, which is said once."""
        try:
            act()
        except ConnectionLost as error:
            if not self._redis_lost:
                logger.warning("Redis is gone (%s); the minions wait for it", error)
            self._redis_lost = True
            return False
        if self._redis_lost:
            logger.info("Redis is back")
        self._redis_lost = False
        return True

    # The pool

    def register_khan(self) -> None:
        """Announce this khan under its present name, and under no former one."""
        former = self._former_ids[-1] if self._former_ids else ""
        self.resq.store.workers.register_khan(str(self), former)

    def unregister_khan(self) -> None:
        """Forget this khan and what it was told under any of its names."""
        self.resq.store.workers.unregister_khan(str(self), *self._former_ids)

    def setup_minions(self) -> None:
        """Start the whole pool."""
        while len(self._workers) < self.pool_size and not self._shutdown:
            self._add_minion()

    def add_minion(self) -> None:
        """Make the pool larger by one."""
        self._resize(self.pool_size + 1)
        self._add_minion()

    def _add_minion(self) -> Minion:
        """Start one minion."""
        minion = Minion(
            self.queues,
            self.resq,
            self.password,
            log_level=self.logging_level,
            log_path=self._minions_log_path(),
            interval=self.minions_interval,
            concat_logs=self.concat_minions_logs,
            **self._minion_options,
        )
        minion.children = self.children
        minion.reports = self.reports
        minion.start()
        self._workers[int(minion.pid)] = minion
        logger.info("Started minion %s", minion.pid)
        return minion

    def _minions_log_path(self) -> str | None:
        """The folder of Khan's own log file; None where that is no file."""
        if not self.log_file or logs.special_log_file(self.log_file):
            return None
        return os.path.dirname(os.path.abspath(self.log_file))

    def _remove_minion(self, pid: int | None = None) -> None:
        """Make the pool smaller by one, which ends after its job: this one, or the youngest."""
        if not self._workers or (pid is not None and pid not in self._workers):
            return
        self._resize(self.pool_size - 1)
        self._retire(next(reversed(self._workers)) if pid is None else pid)

    def _retire(self, pid: int) -> None:
        self._workers[pid].retiring = True
        self.children.kill(signal.SIGTERM, pid)

    def _resize(self, size: int) -> None:
        self._former_ids.append(str(self))
        self.pool_size = max(0, size)
        logger.info("The pool has %d minions now", self.pool_size)
        self._reach(self.register_khan)

    def _change_pool(self) -> None:
        """Do what USR1, USR2, TTIN and TTOU have asked for."""
        while self._wanted > 0:
            self._wanted -= 1
            self.add_minion()
        while self._wanted < 0:
            self._wanted += 1
            self._remove_minion()

    def _active(self) -> list[int]:
        return [pid for pid, minion in self._workers.items() if not minion.retiring]

    def _spawn_missing(self) -> None:
        """Start a minion for each that is missing, more and more slowly when they die at once."""
        missing = self.pool_size - len(self._active())
        if missing > 0 and time.monotonic() >= self._spawn_after:
            for _ in range(missing if not self._quick_deaths else 1):
                self._add_minion()

    def _roll_on(self) -> None:
        """HUP: one old minion after the other ends after its job, when the pool is whole again."""
        if self._roll:
            self._roll = False
            self._rolling = list(self._workers)
            logger.info("Replacing %d minions, one after the other", len(self._rolling))
        self._rolling = [pid for pid in self._rolling if pid in self._workers]
        if self._rolling and len(self._workers) == len(self._active()) == self.pool_size:
            self._retire(self._rolling[0])

    def are_minions_alive(self) -> bool:
        """Whether every minion of the pool runs."""
        return len(self._workers) >= self.pool_size and all(
            minion.is_alive() for minion in self._workers.values()
        )

    # Deaths

    def _reap(self) -> None:
        """Note every minion that has ended, and what its job's failure is to say."""
        for exit in self.children.reap():
            if exit.pid in self._undertakers:
                worker_id, error, _ = self._undertakers.pop(exit.pid)
                self._dead.append((worker_id, error))
            elif exit.pid in self._workers:
                self._note_end(self._workers.pop(exit.pid), exit)

    def _note_end(self, minion: Minion, exit: Exit) -> None:
        minion.exit = exit
        late = self._deadlines.pop(exit.pid, None)
        if exit.clean:
            logger.info("Minion %s %s", exit.pid, exit)
        else:
            logger.error("Minion %s %s", exit.pid, exit)
        error: BaseException = CrashError(f"the minion that performed the job {exit}")
        if late is not None and exit.signal and time.monotonic() >= late:
            error = TimeoutError("the job took longer than its timeout and was killed")
        if self._stop_at is None and not exit.clean and self._send_undertaker(str(minion), error):
            return
        self._note_pace(minion, exit)
        self._dead.append((str(minion), error))

    def _note_pace(self, minion: Minion, exit: Exit) -> None:
        """A minion that dies at once, and not of a job, is started again after growing pauses."""
        if exit.clean or time.monotonic() - minion.born >= QUICK_DEATH:
            self._quick_deaths = 0
            return
        self._quick_deaths += 1
        pause = min(0.1 * 2**self._quick_deaths, LONGEST_PAUSE)
        self._spawn_after = time.monotonic() + pause
        logger.error("Minion %s died at once; the next one starts in %.1f s", exit.pid, pause)

    def _send_undertaker(self, worker_id: str, error: BaseException) -> bool:
        """Have a child settle a dead minion's job: its class may have hooks, or want a retry."""
        try:
            hand = self.resq.store.workers.hand(worker_id)
        except ConnectionLost:
            return False
        if hand is None:
            return False
        pid = self.children.fork(lambda: self._undertake(worker_id, hand, error))
        self._undertakers[pid] = (worker_id, error, time.monotonic() + UNDERTAKER_TIMEOUT)
        return True

    def _undertake(self, worker_id: str, hand: bytes, error: BaseException) -> int:
        title.set_title(title.manager_title(f"settling the job of {worker_id}"))
        minion = Minion(self.queues, self.resq, allow=self._minion_options["allow"])
        job = held_job(hand, self.resq, worker_id)
        if minion.allowed:
            job.safe_str_to_class = minion.allowed.load
        if not job.retry_crash(error):
            minion.record_failure(job, error)
        return 0

    def _settle_dead(self) -> None:
        """Unregister the dead; a job that still stands in a hand becomes a failure."""
        while self._dead:
            worker_id, error = self._dead[0]
            if not self._reach(functools.partial(self._bury, worker_id, error)):
                return
            del self._dead[0]

    def _bury(self, worker_id: str, error: BaseException) -> None:
        workers = self.resq.store.workers
        if not workers.exists(worker_id) and workers.hand(worker_id) is None:
            # It has taken its leave; but a sign of life that Khan gave for it may have come later.
            workers.unregister(worker_id)
            return
        registry = Registry(self.resq, worker_id)
        if not registry.bury(worker_id, error):
            registry.bury(worker_id, error)

    def _keep_time(self) -> None:
        """Kill what is over its time, and give a sign of life for everybody."""
        now = time.monotonic()
        for pid, told in self.reports.hear().items():
            if told == DONE:
                self._deadlines.pop(pid, None)
            elif pid in self._workers:
                self._deadlines[pid] = now + told + ALARM_MARGIN
        ends = self._deadlines | {pid: end for pid, (_, _, end) in self._undertakers.items()}
        for pid in [pid for pid, end in ends.items() if now >= end]:
            self.children.kill(signal.SIGKILL, pid)
        if now >= self._next_beat and self._reach(self._beat):
            self._next_beat = now + HEARTBEAT

    def _beat(self) -> None:
        """One sign of life for all minions, also in the middle of a job of an hour."""
        ids = [str(minion) for minion in self._workers.values()]
        if not ids:
            return
        # One that has not registered yet does so by itself.
        self.resq.store.workers.beat(ids)
        Registry(self.resq, ids[0], minion=True).prune()

    # Commands

    def _take_commands(self) -> None:
        self._reach(self._process_commands)

    def _process_commands(self) -> None:
        while word := self.resq.store.workers.take_command(str(self), *self._former_ids):
            self.process_command(word)

    def process_command(self, command: str) -> None:
        """ADD, REMOVE or SHUTDOWN; another word is logged and dropped."""
        name = self._command_map.get(command)
        if name is None:
            logger.warning("%r is no command; they are %s", command, ", ".join(self._command_map))
            return
        logger.info("Told to %s", command)
        getattr(self, name)()

    def _shut_down_by_command(self) -> None:
        self.schedule_shutdown(None, None)

    # The end

    def _shutdown_minions(self) -> None:
        """TERM to all at once, one grace for all, then KILL; what was cut becomes a failure."""
        self._title("stopping")
        self._reap()
        self.children.kill(signal.SIGTERM)
        while self.children.pids:
            now = time.monotonic()
            if self._stop_at is not None and now >= self._stop_at:
                self.children.kill(signal.SIGKILL)
            left = 1.0 if self._stop_at is None else min(1.0, max(0.02, self._stop_at - now))
            self.signals.wait((self.reports.reader,), left)
            self._keep_time()
            self._reap()
        self._settle_dead()

    def _title(self, state: str) -> None:
        title.set_title(title.manager_title(state))
