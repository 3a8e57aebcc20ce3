"""Sockets and memory that careless jobs leave in a minion, which does not fork for each."""

from __future__ import annotations

import os

from redis import Redis

from pyres import ResQ
from tests.daemons.leaky_jobs import HoardJob, LeakJob
from tests.jobs import ECHOED
from tests.servers import Daemons, until

JOBS = 500


def test_leaked_sockets_and_cyclic_garbage_do_not_pile_up(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = run_daemon("pyres_manager", "--queues", "basic")
    resq.enqueue_many([(LeakJob,)] * JOBS)

    until(lambda: redis.llen(ECHOED) == JOBS)

    (minion,) = daemon.children()
    assert len(os.listdir(f"/proc/{minion}/fd")) < JOBS / 4
    assert max(int(text.strip(b"[]")) for text in redis.lrange(ECHOED, 0, -1)) < JOBS / 4


def test_a_minion_that_grows_over_its_limit_is_replaced_between_two_jobs(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    run_daemon("pyres_manager", "--queues", "basic", "--max-memory", "150")

    # Each keeps 50 MB for good.
    resq.enqueue_many([(HoardJob,)] * 6)

    until(lambda: redis.llen(ECHOED) == 6)
    pids = [int(text.strip(b"[]")) for text in redis.lrange(ECHOED, 0, -1)]
    assert 2 <= len(set(pids)) <= 4
    assert not redis.exists("resque:failed")
