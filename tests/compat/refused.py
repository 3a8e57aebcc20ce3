"""Records its import: a job whose class a worker refuses must not import this module."""

from __future__ import annotations

import os

from redis import Redis


class Refused:
    queue = "basic"

    @staticmethod
    def perform(*args):
        pass


if url := os.environ.get("PYRES_REFUSED_URL"):
    with Redis.from_url(url) as redis:
        redis.rpush("imported", "refused")
