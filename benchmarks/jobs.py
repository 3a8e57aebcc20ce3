"""The jobs that every contestant performs: they do nothing."""

from __future__ import annotations

import time
from typing import Any


class Noop:
    """A job of pyres."""

    queue = "bench"

    @staticmethod
    def perform(*args: object) -> None:
        """Nothing."""


class Timed:
    """Tells how long after it was enqueued it began."""

    queue = "bench"
    key = "bench:waits"
    resq: Any

    @classmethod
    def perform(cls, enqueued: float) -> None:
        waited = time.time() - enqueued
        cls.resq.redis.rpush(cls.key, waited)


def noop(*args: object) -> None:
    """A job of RQ."""
