"""Jobs that end while their server is disconnected, each with an outcome to write."""

from __future__ import annotations

import os

from tests.daemons.odd_jobs import FileGateJob


class Retried(FileGateJob):
    """Retried twice, at once."""

    retry_limit = 2
    retry_delay = 0


class RetriedOnce(FileGateJob):
    """Retried once; unique until it is done."""

    retry_limit = 1
    retry_delay = 0
    unique_for = 600
    unique_until = "done"


class Dies(FileGateJob):
    """Ends its process; retried once."""

    retry_limit = 1
    retry_delay = 0
    retry_dirty_exit = True

    @classmethod
    def perform(cls, path: str) -> None:
        super().perform(path)
        os._exit(3)


class UniqueUntilDone(FileGateJob):
    """Unique until it is done."""

    unique_for = 600
    unique_until = "done"
