"""Job classes for tests with daemons: each does one thing that may affect its worker."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
from typing import Any

#: A list in Redis: the arguments, as JSON, of each job that has finished.
ECHOED = "echoed"

#: A list in Redis: the pid of each job that has started.
BEGUN = "begun"

#: A list in Redis for each GateJob, named by its argument; an element lets it continue.
GATE = "gate:{}"


class TestJob:
    """The base class of the jobs here."""

    __test__ = False
    queue = "basic"
    resq: Any

    @classmethod
    def begin(cls) -> None:
        """Record that the job has started, and its pid."""
        cls.resq.redis.rpush(BEGUN, os.getpid())

    @classmethod
    def echo(cls, *args: Any) -> None:
        """Record that the job has finished."""
        cls.resq.redis.rpush(ECHOED, json.dumps(args, ensure_ascii=False))


class NoopJob(TestJob):
    """Does nothing, with any arguments."""

    @staticmethod
    def perform(*args: Any) -> None:
        pass


class EchoJob(TestJob):
    """Pushes its arguments to ECHOED."""

    @classmethod
    def perform(cls, *args: Any) -> None:
        cls.echo(*args)


class FailJob(TestJob):
    """Raises ValueError with its arguments."""

    @staticmethod
    def perform(*args: Any) -> None:
        raise ValueError(*args)


class SleepJob(TestJob):
    """Records its start, sleeps that many seconds, and echoes them."""

    @classmethod
    def perform(cls, seconds: float) -> None:
        cls.begin()
        time.sleep(seconds)
        cls.echo(seconds)


class GateJob(TestJob):
    """Records its start, waits until something is pushed to GATE, and echoes the name."""

    @classmethod
    def perform(cls, name: str) -> None:
        cls.begin()
        # Short pops, below any read timeout of the client.
        while not cls.resq.redis.blpop([GATE.format(name)], timeout=1):
            pass
        cls.echo(name)


class StubbornJob(TestJob):
    """A SleepJob that ignores SIGTERM and SIGINT."""

    @classmethod
    def perform(cls, seconds: float) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        cls.begin()
        time.sleep(seconds)
        cls.echo(seconds)


class ExitJob(TestJob):
    """Exits by os._exit()."""

    @staticmethod
    def perform(code: int) -> None:
        os._exit(code)


class SysExitJob(TestJob):
    """Exits by sys.exit()."""

    @staticmethod
    def perform(code: int | str | None = None) -> None:
        sys.exit(code)


class SignalJob(TestJob):
    """Sends itself a signal."""

    @staticmethod
    def perform(signum: int) -> None:
        os.kill(os.getpid(), signum)


class SegfaultJob(TestJob):
    """Reads the address 0."""

    @staticmethod
    def perform() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ctypes.string_at(0)
