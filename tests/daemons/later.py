"""Jobs that end while their server is down."""

from __future__ import annotations

import time

from tests.jobs import TestJob


class FailLater(TestJob):
    """Starts, and fails after N seconds."""

    @classmethod
    def perform(cls, seconds: float) -> None:
        cls.begin()
        time.sleep(seconds)
        raise ValueError("later")


class SleepLonger(TestJob):
    """Starts, and needs no server after that."""

    @classmethod
    def perform(cls, seconds: float) -> None:
        cls.begin()
        time.sleep(seconds)
