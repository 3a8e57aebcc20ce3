"""Jobs that leave their process without what it needs to reach the server."""

from __future__ import annotations

import os
import resource

from tests.jobs import TestJob


class FullJob(TestJob):
    """Opens files until no more can be opened, closes the connections, and fails."""

    @classmethod
    def perform(cls) -> None:
        redis = cls.resq.redis
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        try:
            while True:
                os.open(os.devnull, os.O_RDONLY)
        except OSError:
            # Also the connection that the job itself has used.
            redis.connection_pool.disconnect()
            # In place of its descriptor.
            os.open(os.devnull, os.O_RDONLY)
        raise ValueError("no file is left")
