"""Jobs that are hard on a worker; each on the queue `basic`."""

from __future__ import annotations

import ctypes
import signal
import time
from typing import Any

from tests.jobs import TestJob


class UnspeakableError(Exception):
    """An error whose text cannot be read."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class UnspeakableJob(TestJob):
    @staticmethod
    def perform() -> None:
        raise UnspeakableError


class StuckJob(TestJob):
    """Blocks in C, where no Python alarm interrupts it: no signal ends the wait for a mutex."""

    timeout = 0.2

    @staticmethod
    def perform() -> None:
        libc, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
        libc.pthread_mutex_lock(mutex)
        libc.pthread_mutex_lock(mutex)


class SwallowingJob(TestJob):
    """Catches everything that its timeout raises."""

    timeout = 0.2

    @staticmethod
    def perform() -> None:
        while True:
            try:
                time.sleep(60)
            except BaseException as error:  # noqa: BLE001 - that is the point
                swallowed: Any = error
                del swallowed


class SlowJob(TestJob):
    timeout = 0.2

    @staticmethod
    def perform() -> None:
        time.sleep(60)


class PrintJob(TestJob):
    """Prints, as jobs do, to a stdout that is a file."""

    @classmethod
    def perform(cls) -> None:
        print("printed by the job")  # noqa: T201


class HandlerJob(TestJob):
    """Records for which signals its process has no handler."""

    @classmethod
    def perform(cls) -> None:
        signums = (signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
        cls.echo([signal.getsignal(signum) == signal.SIG_DFL for signum in signums])
