"""The chaos run: real daemons, a server that dies, a proxy that cuts, and jobs meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pyres import ResQ
from tests.chaos import plan
from tests.chaos.disturbances import DISTURBANCES, ENTER, JOBS, namespace
from tests.chaos.jobs import SOCKET, DoomedJob, TracedJob
from tests.chaos.ledger import Ledger
from tests.daemons import hosts
from tests.proxy import Proxy
from tests.servers import ROOT, Daemon, Daemons, Server, alive, processes, title_of, until

QUEUES = ["urgent", "basic"]

#: How a daemon waits for a job, by the name of the mode.
WAITS = {
    "nonblocking-pop": ["--nonblocking-pop"],
    "watch-pop": ["--watch-pop"],
    "blpop": ["--blocking-pop"],
}

#: The modes that lose no job, whatever happens.
LOSSLESS = ["nonblocking-pop", "watch-pop"]

#: Seconds for the remaining jobs after the last fault.
DRAIN = 120.0


class Post(NamedTuple):
    """One place in the fleet, which always has a daemon."""

    kind: str
    script: str
    options: tuple[str, ...]


class Monkey:
    """`Monkey(folder, modes).run(seed, seconds)` gives the Ledger of a whole run.

    `kinds` are the faults with their weights; `pace` is faults a second, `flow` jobs a second.
    `disturbances` are names of DISTURBANCES and JOBS, which come in addition. With `greenlets` the
    minions of the second manager perform that many jobs at once.
    """

    def __init__(
        self,
        folder: Path,
        modes: list[str],
        kinds: dict[str, int] | None = None,
        pace: float = 3.0,
        flow: float = 100.0,
        greenlets: int = 1,
        disturbances: list[str] | None = None,
    ) -> None:
        self.folder = folder
        wanted = disturbances or []
        more = {name: weight for name, (weight, _) in DISTURBANCES.items() if name in wanted}
        self.kinds = (plan.FAULTS if kinds is None else kinds) | more
        self.odd_jobs = [job for name, job in JOBS.items() if name in wanted]
        self.log_folder = folder / "logs"
        self._with_other_user = "limit processes" in wanted and hosts.CAN_LIMIT
        self._with_namespace = "cut a host" in wanted
        self.pace = pace
        self.flow = flow
        green = ("--greenlets", str(greenlets)) if greenlets > 1 else ()
        self.posts = [
            _post("khan", "pyres_manager", modes[0], "--pool", "3", "--queues", ",".join(QUEUES)),
            _post("khan", "pyres_manager", modes[-1], "--pool", "3", "--queues", "*", *green),
            _post("worker", "pyres_worker", modes[0], "--queues", ",".join(QUEUES)),
            _post("worker", "pyres_worker", modes[-1], "--queues", "basic,urgent"),
        ]
        #: How often each kind of fault was done; one without a target is not counted.
        self.done: Counter[str] = Counter()
        #: What was done when, to find out why a job had its outcome.
        self.log: list[str] = []
        self.jobs = 0
        self._stopped: list[tuple[float, int]] = []
        self._later: list[tuple[float, Callable[[], object]]] = []
        self._standing: dict[Post, Daemon] = {}
        self._former: list[Daemon] = []

    def run(self, seed: int, seconds: float) -> Ledger:
        with (
            Server("--unixsocketperm", "777", appendonly=True) as self.server,
            namespace(self._with_namespace) as self.namespace,
            Proxy(self.server.port, self.namespace and "0.0.0.0") as self.proxy,  # noqa: S104
            Daemons(self.folder, f"redis://{self.proxy.dsn}") as self.start,
            contextlib.closing(ResQ(f"unix://{self.server.unix_socket}")) as self.resq,
        ):
            self._man_all()
            self._do_worst(seed, seconds)
            self._calm_down()
            self._drain()
            with self.server.client() as redis:
                return Ledger.read(redis, self.jobs, QUEUES)

    # During the run

    def _do_worst(self, seed: int, seconds: float) -> None:
        faults = plan.faults(seed, seconds, self.kinds, self.pace)
        bursts = plan.bursts(seed, seconds, QUEUES, self.flow)
        self._began = time.monotonic()
        for event in _in_order(faults, bursts):
            until(lambda event=event: self._tend() >= event.at, timeout=seconds + DRAIN)
            if isinstance(event, plan.Burst):
                self._enqueue(event)
            elif self._act(event):
                self.done[event.kind] += 1

    def _tend(self) -> float:
        """Continue what was stopped long enough, and restart daemons that died; returns the seconds
        since the start.
        """
        now = time.monotonic() - self._began
        for end, pid in [each for each in self._stopped if each[0] <= now]:
            self._stopped.remove((end, pid))
            self._say("continue", pid)
            _send(pid, signal.SIGCONT)
        for entry in [entry for entry in self._later if entry[0] <= now]:
            self._later.remove(entry)
            entry[1]()
        self._man_all()
        return now

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Undo something N seconds from now, or when the faults are over."""
        self._later.append((time.monotonic() - self._began + seconds, act))

    def _man_all(self) -> None:
        for post in self.posts:
            state = self._standing.get(post)
            if state is None or state.returncode is not None:
                if state is not None:
                    self._former.append(state)
                self._standing[post] = self._man(post)

    def _man(self, post: Post) -> Daemon:
        self.log_folder.mkdir(exist_ok=True)
        self.log_folder.chmod(0o777)
        log = ("--logfile", self.log_folder / f"{post.kind}.log")
        env = {SOCKET: str(self.server.unix_socket)}
        if post in self._others():
            log = ("--logfile", self.log_folder / f"{post.kind}-of-another-user.log")
            return self.start("-c", hosts.AS_NOBODY, post.script, *post.options, *log, env=env)
        if self.namespace is None or post is not self.posts[-1]:
            return self.start(post.script, *post.options, *log, env=env)
        env["REDIS_URL"] = f"redis://{self.namespace.address}:{self.proxy.port}/0"
        inside = (f"/run/netns/{self.namespace.name}", ROOT / "scripts" / post.script)
        return self.start("-c", ENTER, *inside, *post.options, *log, env=env)

    def _enqueue(self, burst: plan.Burst) -> None:
        # Past the proxy, and while the server is up: enqueueing can fail in ways of its own.
        with self.resq.pipeline() as batch:
            for seconds, doomed, queue in burst.jobs:
                job = DoomedJob if doomed else TracedJob
                if self.odd_jobs and not doomed and self.jobs % 20 == 0:
                    job = self.odd_jobs[self.jobs // 20 % len(self.odd_jobs)]
                batch.enqueue_to(queue, job, self.jobs, seconds)
                self.jobs += 1

    def _say(self, what: str, whom: object = "") -> None:
        self.log.append(f"{time.time():.6f} {what} {whom}")

    #: For disturbances.
    note = _say

    def _act(self, fault: plan.Fault) -> bool:
        act = _ACTS.get(fault.kind) or DISTURBANCES[fault.kind][1]
        return act(self, fault)

    # Faults: each returns whether it had a target

    def _daemons(self, kind: str) -> list[Daemon]:
        daemons = [self._standing[post] for post in self.posts if post.kind == kind]
        return [daemon for daemon in daemons if daemon.returncode is None]

    def _kill(self, fault: plan.Fault, pids: list[int]) -> bool:
        if not pids:
            return False
        pid = _choose(pids, fault)
        self._say(fault.kind, f"{pid} {title_of(pid)!r}")
        return _send(pid, signal.SIGKILL)

    def _kill_child(self, fault: plan.Fault) -> bool:
        kind = "khan" if "minion" in fault.kind else "worker"
        return self._kill(
            fault, [pid for daemon in self._daemons(kind) for pid in daemon.children()]
        )

    def _kill_daemon(self, fault: plan.Fault) -> bool:
        daemon = self._chosen(fault)
        if daemon is None:
            return False
        self._say(fault.kind, daemon.pid)
        daemon.send(signal.SIGKILL)
        return True

    def _kill_group(self, fault: plan.Fault) -> bool:
        daemon = self._chosen(fault)
        if daemon is None:
            return False
        self._say(fault.kind, f"{daemon.pid} {daemon.children()}")
        daemon.send_group(signal.SIGKILL)
        return True

    def _chosen(self, fault: plan.Fault) -> Daemon | None:
        daemons = self._daemons("khan" if "khan" in fault.kind else "worker")
        return _choose(daemons, fault) if daemons else None

    #: For disturbances.
    chosen = _chosen

    def daemons(self) -> list[Daemon]:
        """All daemons that run now."""
        return [*self._daemons("khan"), *self._daemons("worker")]

    def others(self) -> list[Daemon]:
        """The daemons that run as another user."""
        return [self._standing[post] for post in self._others() if post in self._standing]

    def _others(self) -> list[Post]:
        return self.posts[1:3] if self._with_other_user else []

    def _stop(self, fault: plan.Fault) -> bool:
        daemons = self.daemons()
        pids = [pid for daemon in daemons for pid in (daemon.pid, *daemon.children())]
        pid = _choose(pids, fault)
        self._say(fault.kind, f"{pid} {title_of(pid)!r}")
        now = time.monotonic() - self._began
        self._stopped.append((now + 0.05 + 3 * fault.amount, pid))
        return _send(pid, signal.SIGSTOP)

    def _kill_server(self, fault: plan.Fault) -> bool:
        self._say(fault.kind, self.server.pid)
        self.server.kill()
        end = time.monotonic() + fault.amount
        until(lambda: time.monotonic() >= end)
        self.server.restart()
        self._say("server stands again", self.server.pid)
        return True

    def _stop_server(self, fault: plan.Fault) -> bool:
        self._say(fault.kind, self.server.pid)
        self.server.pause()
        end = time.monotonic() + fault.amount
        until(lambda: time.monotonic() >= end)
        self.server.resume()
        return True

    def _cut_all(self, fault: plan.Fault) -> bool:
        self._say(fault.kind)
        self.proxy.cut_all()
        return True

    def _cut_reply(self, fault: plan.Fault) -> bool:
        self._say(fault.kind, int(160 * fault.amount))
        self.proxy.lose_reply(_TAKE if fault.choice < 0.7 else b"", int(160 * fault.amount))
        return True

    def _cut_request(self, fault: plan.Fault) -> bool:
        self._say(fault.kind, int(500 * fault.amount))
        self.proxy.lose_request(_TAKE if fault.choice < 0.7 else b"", int(500 * fault.amount))
        return True

    def _delay_request(self, fault: plan.Fault) -> bool:
        self._say(fault.kind, fault.amount)
        self.proxy.delay_request(_TAKE, fault.amount)
        return True

    def _end_daemon(self, fault: plan.Fault) -> bool:
        daemon = _choose(list(self._standing.values()), fault)
        self._say(fault.kind, daemon.pid)
        daemon.send(signal.SIGTERM)
        return True

    def _roll(self, fault: plan.Fault) -> bool:
        daemon = self._chosen(fault._replace(kind="khan"))
        if daemon is None or "running" not in daemon.title():  # before, HUP would end it
            return False
        self._say(fault.kind, daemon.pid)
        daemon.send(signal.SIGHUP)
        return True

    # Afterwards

    def _calm_down(self) -> None:
        """Stop the faults; all daemons end in order, and the jobs of killed ones are recorded."""
        self.proxy.forgive()
        for _, pid in self._stopped:
            _send(pid, signal.SIGCONT)
        self._stopped.clear()
        for _, undo in self._later:
            undo()
        self._later.clear()
        self._end_all()

    def _end_all(self) -> None:
        for daemon in self._standing.values():
            if daemon.returncode is None:
                daemon.send(signal.SIGTERM)
        for daemon in self._standing.values():
            daemon.wait(60)
        self._former += self._standing.values()
        self._standing.clear()
        ids = {daemon.pid for daemon in self._former}
        until(
            lambda: not [p for p in processes() if ids & {p.group, p.session}],
            timeout=60,
            what="the end of the jobs whose worker was killed",
        )

    def _drain(self) -> None:
        """A new fleet does the remaining jobs, and prunes dead workers."""
        self._man_all()
        with self.server.client() as redis:
            queues = [f"resque:queue:{queue}" for queue in QUEUES]
            until(lambda: not redis.exists(*queues), DRAIN, "the end of all jobs")
            self._end_all()
        # For jobs that ending daemons have put back; and a worker that died while the fleet started
        # may have been alive when the fleet pruned.
        last = self._man(_post("worker", "pyres_worker", LOSSLESS[0], "--queues", "*", "--burst"))
        assert last.wait(60) == 0, last.output()


_TAKE = b"EVALSHA"

_ACTS: dict[str, Callable[[Monkey, plan.Fault], bool]] = {
    "kill a minion": Monkey._kill_child,
    "kill a khan": Monkey._kill_daemon,
    "kill a worker": Monkey._kill_daemon,
    "kill a job's process": Monkey._kill_child,
    "kill a worker and its children": Monkey._kill_group,
    "kill a khan and its minions": Monkey._kill_group,
    "stop a process for a while": Monkey._stop,
    "kill the server": Monkey._kill_server,
    "stop the server for a while": Monkey._stop_server,
    "cut all connections": Monkey._cut_all,
    "cut a reply": Monkey._cut_reply,
    "cut a request": Monkey._cut_request,
    "delay a request": Monkey._delay_request,
    "tell a daemon to end": Monkey._end_daemon,
    "roll a pool": Monkey._roll,
}


def _post(kind: str, script: str, mode: str, *options: str) -> Post:
    common = ("--require", "tests.chaos.jobs", "--log-level", "info")
    return Post(kind, script, (*options, *WAITS[mode], *common))


def _choose(candidates: list, fault: plan.Fault):
    return candidates[int(fault.choice * len(candidates))]


def _send(pid: int, signum: int) -> bool:
    # Between the check and the signal it may end, and then its pid is that of a zombie.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)
        return alive(pid) or signum == signal.SIGKILL
    return False


def _in_order(*streams: Iterator) -> list:
    return sorted((event for stream in streams for event in stream), key=lambda event: event.at)
