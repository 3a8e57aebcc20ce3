"""What a user writes to have a failed list for each queue; to be imported by `--require`."""

from __future__ import annotations

from pyres import failure
from pyres.failure.redis_multi_queue import RedisMultiQueueBackend

failure.backend = RedisMultiQueueBackend
