"""Stops a process at a step of the kill matrix, does a fault to it, and counts the outcome."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from redis import Redis

from pyres import ResQ
from tests.daemons import kill_jobs
from tests.daemons.kill_matrix import CUT, KILLED, SILENT, Cell
from tests.daemons.watching import burst, counted, records
from tests.proxy import Proxy
from tests.servers import Daemon, Daemons, alive, state_of, until

#: Older than any allowed heartbeat, whatever the clock.
LONG_AGO = "2020-01-01T00:00:00+00:00"


class Tally(NamedTuple):
    """How often a job has started and ended, the exceptions of its failures, and the counters."""

    begun: int
    ended: int
    failures: tuple[str, ...]
    processed: int
    failed: int
    waiting: int


class Stage:
    """One cell: a daemon behind a proxy, which stops itself or whose request the proxy holds."""

    def __init__(
        self, cell: Cell, proxy: Proxy, run_daemon: Daemons, resq: ResQ, folder: Path
    ) -> None:
        self.cell = cell
        self.proxy = proxy
        self.run_daemon = run_daemon
        self.resq = resq
        self.redis: Redis = resq.redis
        self._stopped = folder / "stopped"
        self._traces = folder / "traces"
        self.daemon: Daemon | None = None
        #: The number of other jobs.
        self.others = 0
        #: The pid that stopped itself to reach the step, or 0.
        self.stopper = 0

    @property
    def job(self) -> Any:
        return getattr(kill_jobs, self.cell.row.job)

    def enqueue(self) -> None:
        self.resq.enqueue(self.job, str(self._traces))

    def start(self, script: str, *options: str) -> Daemon:
        """The daemon, which reaches the server through the proxy, and may stop at a place."""
        self.arm()
        self.daemon = self.run_daemon(
            "-m", "tests.daemons.kill_jobs", script, *options, env=self.environment()
        )
        return self.daemon

    def arm(self) -> None:
        """Have the proxy hold the request or the reply, if the step is one."""
        at = self.cell.row.at
        if at.request:
            hold = self.proxy.hold_reply if at.after else self.proxy.hold_request
            hold(at.request)

    def environment(self) -> dict[str, str | None]:
        return {
            "REDIS_URL": f"redis://{self.proxy.dsn}",
            kill_jobs.PLACE: self.cell.row.at.place,
            kill_jobs.STOPPED: str(self._stopped),
        }

    # The fault

    def reach(self) -> None:
        """Wait until the step is reached."""
        if self.cell.row.at.request:
            until(lambda: self.proxy.holds, what=f"the step; {self._output()}")
        else:
            self.stopper = until(self._stopper_pid, what=f"the step; {self._output()}")
            until(lambda: state_of(self.stopper) == "T")

    def _output(self) -> str:
        return self.daemon.output() if self.daemon else ""

    def _stopper_pid(self) -> int:
        return int(self._stopped.read_text() or 0) if self._stopped.exists() else 0

    def strike(self, pid: int, meanwhile: Callable[[], object]) -> None:
        """Do the fault to a process; `meanwhile` is what others do while it is stopped."""
        {KILLED: self._kill, CUT: self._cut}.get(self.cell.fault, self._stop)(pid, meanwhile)

    def _kill(self, pid: int, _meanwhile: Callable[[], object]) -> None:
        os.kill(pid, signal.SIGKILL)
        until(lambda: not alive(pid))
        if self.cell.row.at.request and not self.cell.row.of_parent:
            # Its end closes the connection: what the proxy has not passed on never will be.
            until(lambda: not self.proxy.holds)
        self._go_on(pid)

    def _go_on(self, pid: int) -> None:
        """Resume what was stopped to reach the step, except the process with this pid."""
        self.proxy.release()
        if self.stopper not in (0, pid):
            os.kill(self.stopper, signal.SIGCONT)

    def _cut(self, _pid: int, _meanwhile: Callable[[], object]) -> None:
        if self.cell.row.at.request:
            self.proxy.cut_held()
        else:
            self.proxy.cut_all()
        if self.stopper:
            os.kill(self.stopper, signal.SIGCONT)

    def _stop(self, pid: int, meanwhile: Callable[[], object]) -> None:
        os.kill(pid, signal.SIGSTOP)
        until(lambda: state_of(pid) == "T")
        self._go_on(pid)
        if self.cell.fault == SILENT:
            self._make_silent(pid)
        meanwhile()
        os.kill(pid, signal.SIGCONT)

    def _make_silent(self, pid: int) -> None:
        for worker_id in self.redis.hkeys("resque:workers:heartbeat"):
            if int(worker_id.split(b":")[1]) == pid:
                self.redis.hset("resque:workers:heartbeat", worker_id, LONG_AGO)

    # Afterwards

    def neighbour(self) -> None:
        """Run another worker that prunes dead ones, performs queued jobs, and ends."""
        burst(self.run_daemon)

    def tally(self) -> Tally:
        traces = self._traces.read_text().split() if self._traces.exists() else []
        failures = tuple(record["exception"] for record in records(self.resq))
        waiting = self.resq.size("basic") + self.resq.delayed_queue_schedule_size()
        return Tally(
            traces.count("begun"), traces.count("ended"), failures, *counted(self.redis), waiting
        )

    def only_child(self) -> int:
        """The pid of the daemon's child."""
        assert self.daemon
        children = self.daemon.children()
        assert len(children) == 1, children
        return children[0]
