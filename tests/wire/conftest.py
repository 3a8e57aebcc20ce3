"""What the tests of the wire share: a ResQ that writes as Ruby does, and workers in UTC."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from pyres import ResQ
from tests.servers import Daemon, Daemons, until

#: The captures were made in UTC.
UTC = {"TZ": "UTC"}


@pytest.fixture
def ruby_like(dsn: str) -> Iterator[ResQ]:
    """A ResQ that leaves out what Ruby has not: `enqueue_timestamp`."""
    resq = ResQ(dsn, enqueue_timestamp=False)
    yield resq
    resq.close()


@pytest.fixture
def start_worker(run_daemon: Daemons, redis: Redis) -> Callable[..., Daemon]:
    """Starts a pyres_worker with the Ruby program's jobs; returns when it is idle."""

    def start(*options: str, queues: str = "default", **env: str) -> Daemon:
        daemon = run_daemon(
            *("pyres_worker", "--queues", queues, "--require", "tests.wire.ruby_jobs", *options),
            env={**UTC, **env},
        )
        until(lambda: registered(redis, daemon), what="a worker that is registered")
        daemon.until_title(": Waiting")
        return daemon

    return start


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This very process lives in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(daemon: Daemon) -> str:
    """`host:pid` of a daemon of this machine."""
    return f"{platform.node()}:{daemon.pid}"


def registered(redis: Redis, daemon: Daemon) -> str:
    """The id under which a daemon is registered, or "" when it is not yet."""
    ids = [member.decode() for member in redis.smembers("resque:workers")]
    return next((found for found in ids if found.startswith(f"{at(daemon)}:")), "")


def finished(redis: Redis, jobs: int) -> bool:
    """Wait until N jobs were processed; a worker counts a job as the last step."""
    return until(
        lambda: redis.get("resque:stat:processed") == str(jobs).encode(), what=f"{jobs} jobs done"
    )


def dead_pid() -> int:
    """The pid of a process of this machine that has ended."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid
