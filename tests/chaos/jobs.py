"""Jobs that leave a trace of each time they are performed, whatever happens around them."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import setproctitle
from redis import Redis
from redis.exceptions import RedisError

from tests.jobs import TestJob

#: Sets in Redis: "number pid nanoseconds" of each performance that has begun, and of each that came
#: to its end. A set, since what is added again after a lost reply stands there once.
BEGUN, ENDED = "chaos:begun", "chaos:ended"

#: The environment variable with the server's Unix socket: past the proxy that cuts connections.
SOCKET = "PYRES_CHAOS_SOCKET"

#: Seconds that a job tries to leave its trace.
PATIENCE = 60.0

_clients: dict[int, Any] = {}


def note(where: str, trace: str) -> None:
    """Leave a trace, for certain: the server may be down just now."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            _client().sadd(where, trace)
            return
        except (RedisError, OSError):
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def _client() -> Any:
    # One for each process: a forked child must not speak on its parent's.
    if os.getpid() not in _clients:
        _clients.clear()
        _clients[os.getpid()] = Redis(unix_socket_path=os.environ[SOCKET])
    return _clients[os.getpid()]


class TracedJob(TestJob):
    """Works for so many seconds, between its two traces."""

    @classmethod
    def perform(cls, number: int, seconds: float) -> None:
        trace = f"{number} {os.getpid()} {time.time_ns()}"
        note(BEGUN, trace)
        time.sleep(seconds)
        note(ENDED, trace)


class DoomedJob(TestJob):
    """Fails by itself, and says so: that record is the only one that it may have."""

    @staticmethod
    def perform(number: int, seconds: float) -> None:
        trace = f"{number} {os.getpid()} {time.time_ns()}"
        note(BEGUN, trace)
        time.sleep(seconds)
        raise ValueError(f"job {number} was to fail")


class ForkingJob(TestJob):
    """Comes back twice: its copy returns from perform() as well."""

    @classmethod
    def perform(cls, number: int, seconds: float) -> None:
        trace = f"{number} {os.getpid()} {time.time_ns()}"
        note(BEGUN, trace)
        if os.fork() == 0:
            return
        time.sleep(seconds)
        note(ENDED, trace)


class DescriptorJob(TracedJob):
    """Leaves descriptors open."""

    @classmethod
    def perform(cls, number: int, seconds: float) -> None:
        for _ in range(20):
            os.dup(1)
        super().perform(number, seconds)


class HandlerJob(TracedJob):
    """Leaves other handlers, a mask and an alarm behind."""

    @classmethod
    def perform(cls, number: int, seconds: float) -> None:
        super().perform(number, seconds)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(signum, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])


class TitleJob(TracedJob):
    """Calls its process something else."""

    @classmethod
    def perform(cls, number: int, seconds: float) -> None:
        setproctitle.setproctitle("something else")
        super().perform(number, seconds)
