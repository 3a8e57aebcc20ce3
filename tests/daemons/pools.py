"""Helpers of the pools' tests: the minions, the size in the manager's id, what remains."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence

from redis import Redis

from tests.servers import Daemon, Daemons, until

#: A manager with a heartbeat interval below a minute, so that a test need not wait for one.
QUICK_BEATS = (
    "from pyres import horde, scripts\n"
    "horde.Pace = type('QuickPace', (horde.Pace,), {'heartbeat': 0.2})\n"
    "raise SystemExit(scripts.pyres_manager())\n"
)


#: A manager for which a minion dies at once that dies within ten minutes: also on a busy machine.
SLOW_DEATHS = (
    "from pyres import horde, scripts\n"
    "horde.QUICK_DEATH = 600\n"
    "raise SystemExit(scripts.pyres_manager())\n"
)


def minions(redis: Redis) -> list[int]:
    """The pids of the registered minions."""
    return [int(member.split(b":")[1]) for member in redis.smembers("resque:minions")]


def khans(redis: Redis) -> list[str]:
    """The pool sizes of the registered khans."""
    return [member.decode().rpartition(":")[2] for member in redis.smembers("resque:khans")]


def nothing_is_left(redis: Redis) -> bool:
    """Whether no registration remains."""
    left = ("resque:workers", "resque:minions", "resque:khans", "resque:workers:heartbeat")
    return not redis.exists(*left) and not redis.keys("resque:worker:*")


def start_pool(
    run_daemon: Daemons,
    redis: Redis,
    pool: int,
    *options: str,
    command: Sequence[str] = ("pyres_manager",),
) -> Daemon:
    """A manager, on `basic` if no queues are given, whose whole pool is registered."""
    queues = () if "--queues" in options else ("--queues", "basic")
    before = len(minions(redis))
    daemon = run_daemon(*command, "--pool", str(pool), *queues, *options)
    until(lambda: len(minions(redis)) == before + pool, what="the pool to register")
    return daemon


def end_pool(daemon: Daemon, redis: Redis, signum: int = signal.SIGTERM) -> None:
    """Stop a manager; it ends well and leaves nothing."""
    daemon.send(signum)
    assert daemon.wait() == 0, daemon.output()
    assert nothing_is_left(redis)
    daemon.assert_no_processes_left()


def busy_with(redis: Redis, name: str) -> list[int]:
    """The pids of the minions with a running job of this class."""
    found = []
    for key in redis.scan_iter("resque:worker:*"):
        record = None if key.endswith(b":started") else redis.get(key)
        if record and json.loads(record)["payload"]["class"].endswith(f".{name}"):
            found.append(int(key.split(b":")[3]))
    return found


def open_files(pid: int) -> list[str]:
    """What a process has open."""
    return sorted(os.listdir(f"/proc/{pid}/fd"))
