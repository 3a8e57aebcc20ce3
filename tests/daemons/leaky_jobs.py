"""Jobs that leave something behind in their process."""

from __future__ import annotations

import os
import socket
from typing import Any

from tests.jobs import TestJob

_hoard: list[bytes] = []


class LeakJob(TestJob):
    """Leaves two sockets in a reference cycle, for the garbage collector; records how many
    descriptors are open.
    """

    @classmethod
    def perform(cls) -> None:
        cycle: list[Any] = [*socket.socketpair()]
        cycle.append(cycle)
        cls.echo(len(os.listdir("/proc/self/fd")))


class HoardJob(TestJob):
    """Keeps 50 MB for good, and records its pid."""

    @classmethod
    def perform(cls) -> None:
        _hoard.append(b"x" * 50_000_000)
        cls.echo(os.getpid())
