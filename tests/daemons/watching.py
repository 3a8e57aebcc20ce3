"""Helpers of the workers' tests: started and ended jobs, registrations, failures."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from redis import Redis

from pyres import ResQ, failure
from pyres.store import scripts
from tests.jobs import BEGUN, ECHOED
from tests.servers import Command, Daemon, Daemons, Monitor, processes, until

#: A worker that prints the length of each of its pauses.
_TELLING = (
    "from pyres import scripts\n"
    "from pyres.process.signals import Signals\n"
    "sleep = Signals.sleep\n"
    "def telling(self, seconds):\n"
    "    print('pause', seconds, flush=True)\n"
    "    return sleep(self, seconds * {factor})\n"
    "Signals.sleep = telling\n"
    "raise SystemExit(scripts.pyres_worker())\n"
)
#: Its pauses take a twentieth of their time, or so long that nothing but a signal ends them.
HASTY, PATIENT = _TELLING.format(factor=0.05), _TELLING.format(factor=3600)


def pauses(daemon: Daemon) -> list[float]:
    """The pauses that a HASTY or PATIENT worker has begun."""
    words = [line.split() for line in daemon.output().splitlines() if line.startswith("pause ")]
    return [float(seconds) for _, seconds in words]


def echoed(redis: Redis) -> list[list[Any]]:
    """The arguments of the jobs that have ended, in that order."""
    return [json.loads(args) for args in redis.lrange(ECHOED, 0, -1)]


def begun(redis: Redis) -> int:
    """The pid of the first job that has begun."""
    return int(until(lambda: redis.lindex(BEGUN, 0), what="a job to begin"))


def records(resq: ResQ) -> list[dict[str, Any]]:
    """All failure records, the oldest first."""
    return failure.all(resq, 0, 1000)


def registered(redis: Redis, daemon: Daemon) -> bytes | None:
    """The id of a daemon's worker, if it is registered."""
    mine = f":{daemon.pid}:".encode()
    return next((each for each in redis.smembers("resque:workers") if mine in each), None)


def counted(redis: Redis) -> tuple[int, int]:
    """stat:processed and stat:failed."""
    processed, failed = redis.mget("resque:stat:processed", "resque:stat:failed")
    return int(processed or 0), int(failed or 0)


def until_counted(redis: Redis, processed: int, failed: int) -> None:
    """Wait for these counters; a failure shows their values."""

    def are_so() -> bool:
        assert counted(redis) == (processed, failed)
        return True

    until(are_so)


def start(run_daemon: Daemons, redis: Redis, *options: str) -> Daemon:
    """A pyres_worker, on `basic` if no queues are given, that is registered."""
    daemon = run_daemon("pyres_worker", *(options or ("--queues", "basic")))
    until(lambda: registered(redis, daemon), what="the worker to register")
    return daemon


def burst(run_daemon: Daemons, *options: str) -> Daemon:
    """A pyres_worker that has emptied `basic` and ended."""
    daemon = run_daemon("pyres_worker", "--queues", "basic", "--burst", *options)
    assert daemon.wait() == 0, daemon.output()
    return daemon


def fetches(monitor: Monitor) -> list[Command]:
    """The calls by which workers fetched a job."""
    return [command for command in monitor.commands if scripts.sha("fetch") in command.args]


def counts_last_job(fetch: Command) -> bool:
    """Whether such a call also counted the job before."""
    words = fetch.args[fetch.args.index(scripts.sha("fetch")) + 1 :]
    return words[1 + int(words[0])] == "1"


def lines(path: Path) -> list[int]:
    """The numbers that LineJobs wrote there."""
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def sockets(pid: int) -> set[str]:
    """The sockets that a process has open, each by its inode."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:  # closed in the meantime
            continue
    return {name for name in found if name.startswith("socket:")}


def watches(redis: Redis) -> bool:
    """Whether a client waits for the server to report a push."""
    return any(
        c["flags"].count("t") and c["cmd"] in ("exists", "smembers") for c in redis.client_list()
    )


def zombies(parent: int) -> list[str]:
    """The dead children that a process has not reaped."""
    return [
        pid
        for pid in filter(str.isdigit, os.listdir("/proc"))
        if _stat(pid)[:2] == ["Z", str(parent)]
    ]


def _stat(pid: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return []


def child_titled(daemon: Daemon, text: str) -> int:
    """The pid of the daemon's child with this in its title, as soon as there is one."""
    from tests.servers import title_of

    def found() -> int:
        return next((pid for pid in daemon.children() if text in title_of(pid)), 0)

    return until(found, what=f"a child with {text!r} in its title")


def living(pids: list[int]) -> list[int]:
    """Those of the pids that are processes now."""
    alive = {process.pid for process in processes()}
    return [pid for pid in pids if pid in alive]
