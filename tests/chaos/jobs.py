"""Jobs that write a trace of each run, whatever happens around them."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import setproctitle
from redis import Redis
from redis.exceptions import RedisError

from tests.jobs import TestJob

#: Sets in Redis: "number pid nanoseconds" of each run that has started, and of each that has ended.
#: A set, since what is added again after a lost reply is stored once.
BEGUN, ENDED = "chaos:begun", "chaos:ended"

#: The environment variable with the server's Unix socket, which bypasses the proxy.
SOCKET = "PYRES_CHAOS_SOCKET"

#: Seconds for which a job tries to write its trace.
PATIENCE = 60.0

_clients: dict[int, Any] = {}


def note(where: str, trace: str) -> None:
    """Write a trace, retrying while the server is down."""
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
    # One for each process: a forked child must not use its parent's connection.
    if os.getpid() not in _clients:
        _clients.clear()
        _clients[os.getpid()] = Redis(unix_socket_path=os.environ[SOCKET])
    return _clients[os.getpid()]


class TracedJob(TestJob):
    """Works for N seconds, between its two traces."""

    @classmethod
    def perform(cls, number: int, seconds: float) -> None:
        trace = f"{number} {os.getpid()} {time.time_ns()}"
        note(BEGUN, trace)
        time.sleep(seconds)
        note(ENDED, trace)


class DoomedJob(TestJob):
    """Fails by itself, and traces that: its failure must be the only outcome."""

    @staticmethod
    def perform(number: int, seconds: float) -> None:
        trace = f"{number} {os.getpid()} {time.time_ns()}"
        note(BEGUN, trace)
        time.sleep(seconds)
        raise ValueError(f"job {number} was to fail")


class ForkingJob(TestJob):
    """Forks: its copy returns from perform(), too."""

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
    """Leaves changed handlers, a signal mask and an alarm."""

    @classmethod
    def perform(cls, number: int, seconds: float) -> None:
        super().perform(number, seconds)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(signum, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])


class TitleJob(TracedJob):
    """Changes the title of its process."""

    @classmethod
    def perform(cls, number: int, seconds: float) -> None:
        setproctitle.setproctitle("something else")
        super().perform(number, seconds)
