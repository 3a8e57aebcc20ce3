"""Khan, the manager: keeps a pool of minions alive.

Each minion is a process forked by the manager, which performs no job itself.
"""

from __future__ import annotations

import functools
import gc
import logging
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Any

from pyres import logs, starting
from pyres.client import ResQ, as_resq
from pyres.exceptions import BadOptionError, CannotWatchError, CrashError, TimeoutError
from pyres.former_names import former_names
from pyres.job import Job
from pyres.minion import Minion
from pyres.performer import (
    ALARM_MARGIN,
    CRASH_HANDLER_TIMEOUT,
    SWEEP_EVERY,
    WAYS_TO_WAIT,
    Performer,
    warn_of_threads,
)
from pyres.process import identity, title
from pyres.process.children import Children, EarlyExit, Exit
from pyres.process.messages import BUSY, DONE, IDLE, PROCESS_ENDS, Reports, WakeupPipe
from pyres.process.native import is_patched, require_fork
from pyres.process.signals import Signals, wake
from pyres.queue_list import QueueList
from pyres.reconnecting import LONGEST_PAUSE, PrimaryCheck, ServerState
from pyres.registry import Pace, Registry, job_in_flight, split_id
from pyres.retirement import Retirement
from pyres.scaling import LoadSample, Scale
from pyres.store import SERVER_ERRORS, is_lasting
from pyres.version import __version__
from pyres.wakeups import QueueWatcher, Slot, Wakeups, warn_cannot_watch

__all__ = ["Khan", "Minion"]

logger = logging.getLogger(__name__)

#: A minion that ends within this many seconds of its start counts as failed to start.
QUICK_DEATH = 1.0


class Khan:
    """Keeps `pool_size` minions alive. From pyres 1.5, and its fork's grace on shutdown.

    A `pool_size` of "2..16" grows while jobs wait longer than `scale_wait` seconds, and shrinks
    when minions were idle for `scale_calm` seconds. `grace`: seconds that running jobs get to
    finish after TERM or INT. The other options are passed to each Minion: `max_jobs`, `max_memory`,
    `timeout`, `blocking_pop`, `greenlets`, `require`, `allow`, `json_logs`, `log_arguments`,
    `run_at_exit_hooks`, `heartbeat_interval`, `prune_interval`.
    Raises ValueError for an invalid pool size, NoQueueError without queues, BadOptionError for
    greenlets without gevent's patched sockets.
    """

    #: Seconds between TERM and KILL on shutdown: the name that the fork of pyres 1.5 has for
    #: `grace`.
    SHUTDOWN_MINION_DELAY: float = 10

    _command_map = {
        "ADD": "add_minion",
        "REMOVE": "_remove_minion",
        "SHUTDOWN": "_schedule_shutdown",
    }

    #: For subclasses that log. From pyres 1.5.
    logger = logging.getLogger(__name__)

    def __init__(
        self,
        pool_size: int | str = 5,
        queues: str | Iterable[str] = (),
        server: Any = "localhost:6379",
        password: str | None = None,
        logging_level: int | str = logging.INFO,
        log_file: str | None = None,
        minions_interval: float | None = 5,
        concat_minions_logs: bool = False,
        max_jobs: int = 0,
        blocking_pop: bool | None = None,
        reinit_gevent: bool = False,
        monkey_patch: bool = False,
        *,
        grace: float | None = None,
        scale_wait: float = 5.0,
        scale_calm: float = 30.0,
        **minion_options: Any,
    ) -> None:
        self.scale = _scale(pool_size, scale_wait, scale_calm)
        self.pool_size = self.scale.least
        self.queues = [queues] if isinstance(queues, str) else list(queues)
        self.validate_queues()
        self.server = server
        self.password = password
        self.logging_level = logging_level
        self.log_file = log_file
        self.minions_interval = 5 if minions_interval is None else minions_interval
        self.concat_minions_logs = concat_minions_logs
        self.max_jobs = max_jobs
        self.grace = self.SHUTDOWN_MINION_DELAY if grace is None else grace
        self._minion_options: dict[str, Any] = {
            "blocking_pop": None if minion_options.pop("watch_pop", False) else blocking_pop,
            "reinit_gevent": reinit_gevent,
            **minion_options,
        }
        self._pace = Pace(
            minion_options.get("heartbeat_interval"), minion_options.get("prune_interval")
        )
        self.monkey_patch = monkey_patch
        if minion_options.get("greenlets", 1) > 1 and not is_patched():
            raise BadOptionError(
                "greenlets requires gevent's patched sockets: call gevent.monkey.patch_all() first"
            )
        self.pid = os.getpid()
        self.hostname = platform.node()
        self._workers: OrderedDict[int, Minion] = OrderedDict()
        self._retiring: dict[int, Minion] = {}
        self._retirements: dict[int, Retirement] = {}
        self._begin()

    def validate_queues(self) -> None:
        """Raises NoQueueError when no queue is named."""
        self._queue_list = QueueList(",".join(self.queues))

    #: How many times in a row the system has refused to start a minion's process.
    _refused = 0

    #: Disconnects from a primary that sentinels have replaced.
    _primary: PrimaryCheck | None = None

    #: Whether the server has refused the start, and whether this manager was registered.
    _is_refused = _is_announced = False

    def _begin(self) -> None:
        """Set the state of a manager that has not started yet."""
        require_fork("A manager")
        self.signals = Signals({})
        self.children = Children(self.signals)
        self._reports: Reports | None = None
        self._wakeups: Wakeups | None = None
        self._queue_watcher: QueueWatcher | None = None
        self._shutdown = False
        self._stop_at: float | None = None
        self._changes: deque[Callable[[], Any]] = deque()
        self._roll = False
        self._rolling: list[int] = []
        self._former_ids: list[str] = []
        self._deadlines: dict[Slot, float] = {}
        self._crash_handlers: dict[int, tuple[str, BaseException, float]] = {}
        self._dead: list[tuple[str, BaseException]] = []
        self._done: list[str] = []
        self._finished_before = 0
        self._quick_deaths = 0
        self._spawn_after = 0.0
        self._next_beat = self._next_sweep = self._next_commands = 0.0
        self._unasked: list[tuple[str, BaseException]] = []
        self._server_state = ServerState("the minions wait for the server")
        self._stacks: dict[str, traceback.StackSummary] = {}

    def __str__(self) -> str:
        return f"{self.hostname}:{self.pid}:{self.pool_size}"

    def setup_resq(self) -> None:
        """Set `resq`; before this is called the manager has none."""
        self.resq: ResQ = as_resq(self.server, self.password)

    def _ensure_resq(self) -> None:
        if not hasattr(self, "resq"):
            self.setup_resq()

    @property
    def _connection(self) -> ResQ:
        """`resq`, set up now if it was not yet."""
        self._ensure_resq()
        return self.resq

    # Signals: a handler only sets a flag; the loop acts on it

    def startup(self) -> None:
        """Install the handlers; called at the beginning of work()."""
        self.register_signal_handlers()

    def register_signal_handlers(self) -> None:
        """Install the handlers."""
        # macOS and the BSDs send it on Ctrl-T; Linux does not have it.
        info = getattr(signal, "SIGINFO", None)
        self.signals = self.signals.replace(
            {
                **({} if info is None else {info: self.current_state}),
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

    def schedule_shutdown(self, signum: int | None, frame: FrameType | None) -> None:
        """TERM, INT: stop, with a grace for the running jobs; a second signal ends the grace. QUIT:
        stop without a limit for the jobs.
        """
        if signum != signal.SIGQUIT:
            now = time.monotonic()
            self._stop_at = now if self._stop_at is not None else now + self.grace
        self._shutdown = True

    def kill_child(self, signum: int | None, frame: FrameType | None) -> None:
        """USR1, TTOU: remove one minion, after its job."""
        self._changes.append(self._remove_minion)
        self._act_without_loop(self._change_pool)

    def add_child(self, signum: int | None, frame: FrameType | None) -> None:
        """USR2, TTIN: add one minion."""
        self._changes.append(self.add_minion)
        self._act_without_loop(self._change_pool)

    def roll(self, signum: int, frame: FrameType | None) -> None:
        """HUP: replace every minion, one after the other, each after its job."""
        self._roll = True

    def current_state(self, signum: int | None = None, frame: FrameType | None = None) -> None:
        """SIGINFO: log the pool, and where each thread of the manager is."""
        self._stacks = _stacks(frame or sys._getframe())
        self._act_without_loop(self._log_state)

    def _act_without_loop(self, act: Callable[[], None]) -> None:
        """Act at once where no handlers are installed: the method was called directly, as pyres 1.5
        allows, and no loop will act on it.
        """
        if not self.signals.installed:
            act()

    def _log_state(self) -> None:
        if self._stacks:
            shown = "\n".join(f"{n}\n{''.join(s.format())}" for n, s in self._stacks.items())
            self._stacks = {}
            logger.info(
                "%s runs the minions %s; its threads:\n%s", self, list(self._workers), shown
            )

    # Starting, working, stopping

    @classmethod
    def run(
        cls,
        pool_size: int | str = 5,
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
        """Keep a pool running until a signal stops it."""
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
        khan.work(interval)

    def work(self, interval: float | None = 2) -> None:
        """Keep the pool alive until a signal or command stops it; read commands every `interval`
        seconds (None: 2).
        """
        interval = 2 if interval is None else interval
        self.startup()
        self._title("starting")
        self._ensure_resq()
        try:
            while (
                not self._try_on_server(self._announce, raise_refusals=True) and not self._shutdown
            ):
                self.signals.sleep(1)
            # Objects alive now are long-lived: a collection in a minion would touch, and so copy,
            # them.
            gc.collect()
            gc.freeze()
            starting.finish()
            self._log_start()
            warn_of_threads()
            self.setup_minions()
            while not self._shutdown:
                self._run_once(interval)
        finally:
            self._shutdown_minions()
            self._try_on_server(self.unregister_khan)
            self._close()
            self.signals.restore()
            logger.info("%s has stopped", self)

    def _log_start(self) -> None:
        """Log once what this pool works on, and how its minions wait."""
        logger.info(
            "Started the manager %s with pyres %s: %s minions fetch jobs from %s on %s, "
            "and each %s",
            self,
            __version__,
            self.scale,
            ",".join(self._queue_list.names),
            self._connection.dsn,
            WAYS_TO_WAIT[self._minion_options["blocking_pop"]],
        )

    @property
    def reports(self) -> Reports:
        """The pipe for the minions' reports; opened on first use."""
        if self._reports is None:
            self._reports = Reports()
        return self._reports

    def _close(self) -> None:
        """Close everything, in a process that goes on; what is needed again is opened again."""
        for closing in (self._queue_watcher, self._reports):
            if closing is not None:
                closing.close()
        self._queue_watcher = self._wakeups = self._reports = None
        if self.resq is not self.server:
            self.resq.close()

    def _announce(self) -> None:
        if not self._is_announced:
            self._unregister_namesake()
        self.register_khan()
        self._is_announced = True
        if self._minion_options["blocking_pop"] is None and self._wakeups is None:
            self._queue_watcher = QueueWatcher(self._connection.store, self._queue_list, str(self))
            self._wakeups = Wakeups(self._queue_watcher, self._wake_slot)
            self._watching(self._queue_watcher.connect)

    def _unregister_namesake(self) -> None:
        """Unregister a dead manager that had the same id, as happens in containers: this manager
        must not run the commands that were pushed for it.
        """
        workers = self._connection.store.workers
        if str(self) in workers.khan_ids():
            workers.unregister_khan(str(self))

    def _wake_slot(self, slot: Slot) -> None:
        if minion := self._minion(slot.pid):
            minion.wake(slot.number)

    def _run_once(self, interval: float) -> None:
        """Check everything once, then wait for a signal, a report or the next check of commands."""
        self._reap()
        self._unregister_dead()
        self._change_pool()
        self._log_state()
        if time.monotonic() >= self._next_commands:
            self._next_commands = time.monotonic() + interval
            self._check_commands()
            self._fit_pool()
        self._spawn_missing()
        self._roll_on()
        self._stop_retiring()
        self._enforce_deadlines()
        self._title(f"running {list(self._workers)}")
        self._wait_for_events()

    def _wait_for_events(self) -> None:
        """Wait until there is something to do; meanwhile wake minions for jobs that are pushed."""
        signalled = False
        self._leave_old_primary()
        while not signalled:
            if self._wakeups and not self._try_on_server(self._process_wakeups):
                # Reopen a connection that was cut, before a push is missed.
                self._try_on_server(self._process_wakeups)
            seconds = self._seconds_left()
            if seconds <= 0:
                return
            fds = (self.reports.reader, *(self._wakeups.fds() if self._wakeups else ()))
            self.signals.wait(fds, seconds)
            signalled = self.signals.signalled
            self._receive_reports()

    def _leave_old_primary(self) -> None:
        if self._primary is None:
            self._primary = PrimaryCheck(self._connection.store)
        if self._primary.leave_old() and self._wakeups:
            self._wakeups.restart()

    def _process_wakeups(self) -> None:
        assert self._wakeups
        wakeups = self._wakeups
        self._watching(lambda: wakeups.process_events(time.monotonic()))

    def _watching(self, act: Callable[[], None]) -> None:
        """Call act(); where the server does not report pushes, poll the queues every second."""
        assert self._wakeups
        try:
            act()
        except CannotWatchError as error:
            warn_cannot_watch(error)
            self._wakeups.poll(time.monotonic())

    def _seconds_left(self) -> float:
        """Seconds until there is something to do."""
        now = time.monotonic()
        ends = [
            self._next_commands,
            self._next_beat,
            *self._deadlines.values(),
            *(deadline for _, _, deadline in self._crash_handlers.values()),
            *(retirement.next_check for retirement in self._retirements.values()),
        ]
        if len(self._workers) < self.pool_size:
            ends.append(self._spawn_after)
        if self._primary and self._primary.is_needed:
            ends.append(self._primary.due)
        if self._wakeups and (until := self._wakeups.until()) is not None:
            ends.append(until)
        return max(0.0, min(ends) - now)

    def _try_on_server(self, act: Callable[[], Any], raise_refusals: bool = False) -> bool:
        """Call act(); False after a server error, which is logged once. With `raise_refusals` a
        lasting error, such as a wrong password, is raised.
        """
        name = (act.func if isinstance(act, functools.partial) else act).__name__
        try:
            act()
        except SERVER_ERRORS as error:
            if raise_refusals and is_lasting(error):
                self._is_refused = True
                raise
            if not self._is_refused:
                self._server_state.failed(error, name)
            return False
        self._server_state.succeeded(name)
        return True

    # The pool

    def register_khan(self) -> None:
        """Register this manager under its current id, in place of a former one."""
        self._announce_khan()

    def _announce_khan(self) -> None:
        former = self._former_ids[-1] if self._former_ids else ""
        process_start = identity.process_start(split_id(str(self))[1])
        self._connection.store.workers.register_khan(str(self), former, process_start)

    def unregister_khan(self) -> None:
        """Remove this manager's registration, and the commands for it, under all of its ids."""
        self._connection.store.workers.unregister_khan(str(self), *self._former_ids)

    def setup_minions(self) -> None:
        """Start the whole pool."""
        while len(self._workers) < self.pool_size and not self._shutdown:
            if not self._start_minion():
                return

    def add_minion(self) -> None:
        """Add one minion to the pool."""
        self._resize(self.pool_size + 1)
        self._start_minion()

    def _start_minion(self) -> bool:
        """Start one minion by _add_minion(), which a subclass may override. False when the system
        refuses to create the process or its pipe: the next try is after a pause.
        """
        Minion.before_start = self._adopt
        try:
            self._add_minion()
        except OSError as error:
            self._note_refused(error)
            return False
        finally:
            Minion.before_start = None
        self._refused = 0
        return True

    def _note_refused(self, error: OSError) -> None:
        pause = min(2.0**self._refused, LONGEST_PAUSE)
        self._refused += 1
        self._spawn_after = time.monotonic() + pause
        logger.error(
            "No minion could be started (%s); %d go on, and the next try is in %.0f s",
            error,
            len(self._workers),
            pause,
        )

    def _add_minion(self) -> Minion:
        """Start one minion, and add it to `_workers`."""
        minion = Minion(
            self.queues,
            self._connection,
            self.password,
            log_level=self.logging_level,
            log_path=self._minions_log_path(),
            interval=self.minions_interval,
            concat_logs=self.concat_minions_logs,
            max_jobs=self.max_jobs,
            **self._minion_options,
        )
        self._adopt(minion)
        minion.start()
        self._workers[int(minion.pid)] = minion
        logger.info("Started minion %s", minion.pid)
        return minion

    def _adopt(self, minion: Minion) -> None:
        """Make a minion that is about to start a child of this manager."""
        if minion.children is self.children:
            return
        minion.children = self.children
        minion.reports = self.reports
        minion.grace = self.grace
        if self._wakeups:
            minion.wakeup_pipe = WakeupPipe()
            pipes = [other.wakeup_pipe for other in self._minions.values()]
            minion.inherited = [p for p in (self._queue_watcher, *pipes) if p]

    @property
    def _minions(self) -> dict[int, Minion]:
        """All running minions by pid: the pool's, and those that end after their job."""
        return {**self._retiring, **self._workers}

    def _minion(self, pid: int) -> Minion | None:
        return self._workers.get(pid) or self._retiring.get(pid)

    def _minions_log_path(self) -> str | None:
        """The folder of the manager's own log file; None if it does not log to a file."""
        if not self.log_file or logs.special_log_file(self.log_file):
            return None
        return os.path.dirname(os.path.abspath(self.log_file))

    def _remove_minion(self, pid: int | None = None) -> Minion | None:
        """Retire one minion, this one or the oldest, and make the pool smaller by one. The minion,
        or None when there is none to remove.
        """
        if pid is None:
            pid = next(iter(self._workers), None)
        if pid is None or pid not in self._workers:
            return None
        self._resize(self.pool_size - 1)
        return self._retire(pid)

    def _retire(self, pid: int) -> Minion:
        minion = self._retiring[pid] = self._workers.pop(pid)
        self._retirements[pid] = Retirement(self.grace)
        minion.terminate()
        return minion

    def _stop_retiring(self) -> None:
        """Ask retiring minions again that go on after their job; kill those that idle and stay."""
        for pid, retirement in list(self._retirements.items()):
            if pid not in self._retiring:
                del self._retirements[pid]
            elif retirement.is_due():
                self._try_on_server(
                    functools.partial(self._ask_again, self._retiring[pid], retirement)
                )

    def _ask_again(self, minion: Minion, retirement: Retirement) -> None:
        records = self._connection.store.workers.in_flight_records(minion.ids)
        if retirement.has_new_jobs(records):
            # A job may have ignored or blocked the signal when it came.
            minion.terminate()
        if retirement.is_over(records):
            logger.error("Killing minion %s, which has no job and does not end", minion.pid)
            minion.kill()

    def _resize(self, size: int) -> None:
        former = str(self)
        self.pool_size = max(0, size)
        # Each id once, the latest last: autoscaling may change the size for months.
        self._former_ids = [
            manager_id for manager_id in self._former_ids if manager_id not in (former, str(self))
        ] + [former]
        # A command or signal may go beyond the range: it is widened.
        self.scale.include(self.pool_size)
        logger.info("The pool has %d minions now", self.pool_size)
        self._try_on_server(self.register_khan)

    def _change_pool(self) -> None:
        """Carry out the changes that USR1, USR2, TTIN and TTOU have requested."""
        # In their order: removing one from an empty pool does nothing, also before an addition.
        while self._changes:
            self._changes.popleft()()

    def _fit_pool(self) -> None:
        """Autoscaling: fit the pool's size to the jobs that wait."""
        if self.scale.least < self.scale.most:
            self._try_on_server(self._fit_pool_now)

    def _fit_pool_now(self) -> None:
        store, pids = self._connection.store, list(self._workers)
        ids = [worker_id for pid in pids for worker_id in self._workers[pid].ids]
        working = store.workers.have_jobs(ids)
        queues = self._connection.queues() if self._queue_list.dynamic else ()
        waiting = sum(store.queues.sizes(self._queue_list.among(queues)).values())
        greenlets = self._minion_options.get("greenlets", 1)
        # A minion is idle when all of its slots are.
        busy = [any(working[n : n + greenlets]) for n in range(0, len(working), greenlets)]
        sample = LoadSample(waiting, self._finished(), busy.count(False))
        now = time.monotonic()
        size = self.scale.size(self.pool_size, sample, now)
        if size == self.pool_size:
            return
        expected = self.scale.expected_wait(waiting, now)
        logger.info(
            "From %d to %d minions: %d jobs wait, for about %.1f s; %d minions are idle",
            self.pool_size,
            size,
            waiting,
            expected,
            sample.idle,
        )
        idle = [pid for pid, works in zip(pids, busy, strict=True) if not works]
        for _ in range(self.pool_size - size):
            self._remove_minion(idle.pop() if idle else None)
        for _ in range(size - self.pool_size):
            self.add_minion()

    def _finished(self) -> int:
        """How many jobs this pool has ever finished. A minion's counter is deleted when it ends, so
        it reports its number before.
        """
        ids = [worker_id for minion in self._minions.values() for worker_id in minion.ids]
        counts = self._connection.store.stats.get_many(
            [f"processed:{worker_id}" for worker_id in ids]
        )
        return self._finished_before + sum(counts)

    def _spawn_missing(self) -> None:
        """Start the missing minions, after growing pauses when they die at once."""
        missing = self.pool_size - len(self._workers)
        if missing > 0 and time.monotonic() >= self._spawn_after:
            for _ in range(missing if not self._quick_deaths else 1):
                if not self._start_minion():
                    return

    def _roll_on(self) -> None:
        """HUP: retire the old minions one by one, each when the pool is complete again."""
        if self._roll:
            self._roll = False
            self._rolling = list(self._workers)
            logger.info("Replacing %d minions, one after the other", len(self._rolling))
        self._rolling = [pid for pid in self._rolling if pid in self._workers]
        if self._rolling and not self._retiring and len(self._workers) == self.pool_size:
            self._retire(self._rolling[0])

    def are_minions_alive(self) -> bool:
        """Whether every minion of the pool runs."""
        return len(self._workers) >= self.pool_size and all(
            minion.is_alive() for minion in self._workers.values()
        )

    # Ended minions

    def _reap(self) -> None:
        """Note every child that has ended, and the error to record for its job."""
        exits = [*self.children.reap(), *self._joined()]
        if exits:
            # Read their last reports now, while their pids are still assigned to minions.
            self._receive_reports()
        for exit in exits:
            if exit.pid in self._crash_handlers:
                worker_id, error, _ = self._crash_handlers.pop(exit.pid)
                self._dead.append((worker_id, error))
            elif minion := self._workers.pop(exit.pid, None) or self._retiring.pop(exit.pid, None):
                self._note_end(minion, exit)

    def _joined(self) -> list[Exit]:
        """The exits of minions that were reaped already, by Minion.join()."""
        return [minion.exit for minion in self._minions.values() if minion.exit is not None]

    def _note_end(self, minion: Minion, exit: Exit) -> None:
        logged = exit
        is_done = exit.clean and not minion.ended and minion.ends_itself
        if exit.clean and not (minion.ended or is_done):
            exit = EarlyExit(exit.pid, exit.code)
            # An early exit that was asked for is no error; if it had a job, the failure says why.
            logged = logged if self._was_asked_to_end(exit.pid) else exit
        minion.exit = exit
        minion.close()
        if self._wakeups:
            self._wakeups.remove(exit.pid)
        level = logging.INFO if logged.clean else logging.ERROR
        logger.log(level, "Minion %s %s", exit.pid, logged)
        if is_done:
            self._deadlines.pop(Slot(exit.pid, 0), None)
            self._done.append(minion.ids[0])
            return
        handled = [self._note_slot(minion, number, exit) for number in range(minion.greenlets)]
        if not any(handled):
            self._note_quick_death(minion, logged)

    def _was_asked_to_end(self, pid: int) -> bool:
        """Whether this manager has asked a minion to end."""
        return pid in self._retirements or self._shutdown

    def _note_slot(self, minion: Minion, number: int, exit: Exit) -> bool:
        """Have the job of one slot of an ended minion recorded; whether a crash handler does it."""
        worker_id = minion.ids[number]
        late = self._deadlines.pop(Slot(exit.pid, number), None)
        error: BaseException = CrashError(f"the minion that performed the job {exit}")
        if late is not None and exit.signal and time.monotonic() >= late:
            error = TimeoutError("the job took longer than its timeout and was killed")
        if self._stop_at is None and not exit.clean and self._start_crash_handler(worker_id, error):
            return True
        self._dead.append((worker_id, error))
        return False

    def _note_quick_death(self, minion: Minion, exit: Exit) -> None:
        """Let the next minion start after a growing pause, if this died at once without a job."""
        if exit.clean or time.monotonic() - minion.born >= QUICK_DEATH:
            self._quick_deaths = 0
            return
        self._quick_deaths += 1
        pause = min(0.1 * 2**self._quick_deaths, LONGEST_PAUSE)
        self._spawn_after = time.monotonic() + pause
        logger.error("Minion %s died at once; the next one starts in %.1f s", exit.pid, pause)

    def _start_crash_handler(self, worker_id: str, error: BaseException) -> bool:
        """Fork a crash handler for a dead minion's job: its class may have hooks, or a retry
        policy. False when there is no job, or the system refuses to fork.
        """
        try:
            record = self._connection.store.workers.in_flight(worker_id)
        except SERVER_ERRORS:
            # Its class may have a retry policy: this is called again when the server is back.
            self._unasked.append((worker_id, error))
            return True
        if record is None:
            return False
        try:
            pid = self.children.fork(lambda: self._be_crash_handler(worker_id, record, error))
        except OSError as refused:
            logger.error("No process for the failure hooks of %s's job: %s", worker_id, refused)
            return False
        self._crash_handlers[pid] = (worker_id, error, time.monotonic() + CRASH_HANDLER_TIMEOUT)
        return True

    def _be_crash_handler(self, worker_id: str, record: bytes, error: BaseException) -> int:
        title.set_title(title.manager_title(f"settling the job of {worker_id}"))
        shared = self._minion_options.keys() & {"allow", "log_arguments"}
        options = {name: self._minion_options[name] for name in shared}
        crash_handler = _CrashHandler(self.queues, self._connection, worker_id, **options)
        crash_handler._renew_gevent()
        job = crash_handler.job_in(record)
        logger.error("%s: %s", job, error)
        crash_handler.record_crash(job, error)
        return 0

    def _unregister_dead(self) -> None:
        """Unregister dead minions; a job still in flight becomes a failure."""
        unasked, self._unasked = self._unasked, []
        for worker_id, error in unasked:
            if self._stop_at is not None or not self._start_crash_handler(worker_id, error):
                self._dead.append((worker_id, error))
        while self._done:
            registry = Registry(self._connection, self._done[0])
            if not self._try_on_server(functools.partial(registry.finish, self._done[0])):
                return
            del self._done[0]
        while self._dead:
            worker_id, error = self._dead[0]
            if not self._try_on_server(functools.partial(self._prune_worker, worker_id, error)):
                return
            del self._dead[0]

    def _prune_worker(self, worker_id: str, error: BaseException) -> None:
        registry = Registry(self._connection, worker_id)
        if not registry.prune_worker(worker_id, error) and registry.workers.exists(worker_id):
            # The minion's last request has changed its in-flight record meanwhile.
            registry.prune_worker(worker_id, error)

    def _receive_reports(self) -> None:
        """Read the minions' reports, and note what they say."""
        for pid, number, value in self.reports.receive():
            slot = Slot(pid, number)
            if number == PROCESS_ENDS:
                self._finished_before += int(value)
                if minion := self._minion(pid):
                    minion.ended = True
            elif value == DONE:
                self._deadlines.pop(slot, None)
            elif value in (IDLE, BUSY):
                self._note_wait(slot, value == IDLE)
            elif self._minion(pid):
                self._deadlines[slot] = time.monotonic() + value + ALARM_MARGIN

    def _note_wait(self, slot: Slot, idle: bool) -> None:
        if self._wakeups and self._minion(slot.pid):
            note = self._wakeups.idle if idle else self._wakeups.busy
            note(slot)

    def _enforce_deadlines(self) -> None:
        """Kill minions and crash handlers that exceed their time, and write heartbeats when due."""
        self._receive_reports()
        now = time.monotonic()
        ends = [(slot.pid, end) for slot, end in self._deadlines.items()]
        ends += [(pid, end) for pid, (_, _, end) in self._crash_handlers.items()]
        for pid in {pid for pid, end in ends if now >= end}:
            self.children.kill(signal.SIGKILL, pid)
        if now >= self._next_beat:
            self._next_beat = now + (self._pace.heartbeat if self._try_on_server(self._beat) else 1)

    def _beat(self) -> None:
        """Write one heartbeat for all minions, so that it goes on during long jobs; prune."""
        ids = [worker_id for minion in self._minions.values() for worker_id in minion.ids]
        if not ids:
            self._announce_khan()
            return
        missing = self._connection.store.workers.beat(ids)
        self._connection.store.workers.note_heartbeat(self._pace.quiet)
        self._prune(ids)
        self._announce_again(missing)

    def _prune(self, ids: Sequence[str]) -> None:
        registry = Registry(self._connection, ids[0], minion=True, pace=self._pace)
        # The manager handles its own dead minions: it knows how each died, and the job's class may
        # have hooks, or a retry policy.
        own = {*ids, *self._done}
        for ended in (self._unasked, self._dead, self._crash_handlers.values()):
            own.update(worker_id for worker_id, *_ in ended)
        registry.prune(sweep=time.monotonic() >= self._next_sweep, except_for=own)
        if registry.swept:
            self._next_sweep = time.monotonic() + SWEEP_EVERY

    def _announce_again(self, missing: Sequence[str]) -> None:
        """Register minions again that another process has unregistered, or that a server has lost
        by a restart without its data.
        """
        self._announce_khan()
        young = time.monotonic() - QUICK_DEATH
        old = {
            worker_id
            for minion in self._minions.values()
            if minion.born < young
            for worker_id in minion.ids
        }
        # A young minion may not have registered yet, and will do so by itself.
        for worker_id in missing:
            if worker_id in old:
                Registry(self._connection, worker_id, minion=True).renew()

    # Commands

    def _check_commands(self) -> None:
        self._try_on_server(self._process_commands)

    def _process_commands(self) -> None:
        while word := self._connection.store.workers.pop_command(str(self), *self._former_ids):
            self.process_command(word)

    def process_command(self, command: str | bytes) -> None:
        """Carry out ADD, REMOVE or SHUTDOWN; any other word is logged and dropped."""
        word = command.decode("utf-8", "replace") if isinstance(command, bytes) else command
        name = self._command_map.get(word)
        if name is None:
            expected = ", ".join(self._command_map)
            logger.warning("invalid command %r: expected one of %s", word, expected)
            return
        logger.info("Received the command %s", word)
        getattr(self, name)()

    def _schedule_shutdown(self) -> None:
        self.schedule_shutdown(None, None)

    # Shutdown

    def _shutdown_minions(self) -> None:
        """Send TERM to all minions, and KILL after the grace; jobs that this cuts off are recorded
        as failures.
        """
        self._title("stopping")
        if not self._shutdown:
            # Called directly, or after an error: no signal has set the end of the grace.
            self._stop_at = time.monotonic() + self.grace
        self._reap()
        self.children.kill(signal.SIGTERM)
        while self.children.pids:
            now = time.monotonic()
            if self._stop_at is not None and now >= self._stop_at:
                self.children.kill(signal.SIGKILL)
            seconds = 1.0 if self._stop_at is None else min(1.0, max(0.02, self._stop_at - now))
            self.signals.wait((self.reports.reader,), seconds)
            self._enforce_deadlines()
            self._reap()
        self._unregister_dead()

    def _title(self, state: str) -> None:
        title.set_title(title.manager_title(state))


class _CrashHandler(Performer):
    """Records the outcome of a dead minion's job, under the minion's id."""

    def __init__(self, queues: list[str], resq: ResQ, worker_id: str, **options: Any) -> None:
        super().__init__(queues, resq, **options)
        self._worker_id = worker_id

    def __str__(self) -> str:
        return self._worker_id

    def job_in(self, record: bytes) -> Job:
        return self._configured(job_in_flight(record, self.resq, self._worker_id))

    def _save(self, job: Job, error: BaseException, batch: ResQ) -> None:
        super()._save(job, error, batch)
        # A dead minion makes no next fetch, which would count this job.
        batch.store.stats.incr("processed")


def _scale(pool_size: int | str, wait: float, calm: float) -> Scale:
    """A pool size as a range: "2..16", or one number, which is both ends."""
    least, dots, most = str(pool_size).partition("..")
    try:
        scale = Scale(int(least), int(most if dots else least), wait, calm)
    except ValueError:
        raise ValueError(
            f"invalid pool size {pool_size!r}: expected a number or a range, such as 2..16"
        ) from None
    if scale.least > scale.most:
        raise ValueError(f"invalid pool size {pool_size!r}: expected the smaller number first")
    return scale


def _stacks(frame: FrameType) -> dict[str, traceback.StackSummary]:
    """The stack of each thread, by its name; this thread's at `frame`. Reads no source files: that
    is left to the formatting.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = {**sys._current_frames(), threading.get_ident(): frame}
    return {
        names.get(ident, str(ident)): traceback.StackSummary.extract(
            reversed(list(traceback.walk_stack(top))), lookup_lines=False
        )
        for ident, top in frames.items()
    }


__getattr__ = former_names(
    __name__,
    {
        "NoQueueError": "pyres.exceptions:NoQueueError",
        "Stat": "pyres.stat:Stat",
        "get_logging_handler": "pyres.logs:get_logging_handler",
        "json": "pyres.json_parser",
        "setproctitle": "setproctitle:setproctitle",
        "setup_logging": "pyres.logs:horde_setup_logging",
        "special_log_file": "pyres.logs:special_log_file",
        "string_types": "pyres.former_names:string_types",
    },
)


if __name__ == "__main__":
    from pyres.scripts import pyres_manager

    # The default pool size of pyres 1.5 for this command; a --pool given after it wins.
    sys.argv[1:1] = ["--pool", "2"]
    raise SystemExit(pyres_manager())
