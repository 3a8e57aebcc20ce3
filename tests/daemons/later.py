"""Jobs that end when their server is gone."""

from __future__ import annotations

import time

from tests.jobs import TestJob


class FailLater(TestJob):
    """Begins, and fails after so many seconds."""

    @classmethod
    def perform(cls, seconds: float) -> None:
        cls.begin()
        time.sleep(seconds)
        raise ValueError("later")


class SleepLonger(TestJob):
    """Begins, and needs no server after that."""

    @classmethod
    def perform(cls, seconds: float) -> None:
        cls.begin()
        time.sleep(seconds)
