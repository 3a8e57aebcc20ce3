"""The jobs that the contestants perform: they do nothing."""

from __future__ import annotations

import time
from typing import Any


class Noop:
    """A job of pyres."""

    queue = "bench"

    @staticmethod
    def perform(*args: object) -> None:
        """Do nothing."""


class Timed:
    """Pushes the seconds from its enqueue to its start to a list."""

    queue = "bench"
    key = "bench:waits"
    resq: Any

    @classmethod
    def perform(cls, enqueued: float) -> None:
        waited = time.time() - enqueued
        cls.resq.redis.rpush(cls.key, waited)


def noop(*args: object) -> None:
    """A job of RQ."""
