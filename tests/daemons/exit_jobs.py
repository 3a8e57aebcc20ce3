"""Jobs that leave work for the end of their process."""

from __future__ import annotations

import atexit
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.jobs import GATE, TestJob


def wait_and_echo(redis: Any, name: str) -> None:
    """In a thread: wait until something is pushed to the gate, and record the end."""
    while not redis.blpop([GATE.format(name)], timeout=1):
        pass
    redis.rpush("ended", name)


class LateThreadJob(TestJob):
    """Returns while one of its threads waits at a gate."""

    @classmethod
    def perform(cls, name: str) -> None:
        cls.begin()
        threading.Thread(target=wait_and_echo, args=(cls.resq.redis, name), name=name).start()


class ExecutorJob(TestJob):
    """Returns while an executor, which it does not shut down, has work at a gate."""

    @classmethod
    def perform(cls, name: str) -> None:
        cls.begin()
        executor = ThreadPoolExecutor(2)
        executor.submit(wait_and_echo, cls.resq.redis, name)
        executor.submit(cls.resq.redis.rpush, "ended", f"{name} too")


class HookJob(TestJob):
    """Registers an exit hook."""

    @classmethod
    def perform(cls, name: str) -> None:
        atexit.register(cls.resq.redis.rpush, "ended", name)


class FailingHookJob(TestJob):
    """Registers an exit hook, and fails."""

    @classmethod
    def perform(cls, name: str) -> None:
        HookJob.resq = cls.resq
        HookJob.perform(name)
        raise ValueError(name)


class RaisingHookJob(TestJob):
    """Registers an exit hook that raises."""

    @classmethod
    def perform(cls) -> None:
        atexit.register(lambda: 1 / 0)


class EndlessHookJob(TestJob):
    """Registers an exit hook that takes an hour."""

    @classmethod
    def perform(cls) -> None:
        atexit.register(time.sleep, 3600)


class EndlessThreadJob(TestJob):
    """Returns while one of its threads takes an hour."""

    @classmethod
    def perform(cls) -> None:
        threading.Thread(target=time.sleep, args=(3600,), name="endless").start()
