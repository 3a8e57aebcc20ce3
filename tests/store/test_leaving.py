"""Daemons that stop at a bad moment leave no job that nothing will run or record."""

from __future__ import annotations

import errno
import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from pyres import ResQ
from pyres.minion import LAST_TRIES, Minion
from pyres.performer import Performer
from pyres.store import scripts
from pyres.worker import Worker
from tests.jobs import FailJob, NoopJob
from tests.proxy import Proxy

pytestmark = pytest.mark.usefixtures("own_title")


@pytest.fixture
def minion(proxy: Proxy) -> Iterator[Minion]:
    """A minion all of whose requests go through the proxy, as it is after its fork."""
    minion = Minion(["basic"], proxy.dsn)
    minion._in_child = True
    yield minion
    minion.fetcher.close()
    minion.resq.close()


def failed(redis: Redis) -> list[dict[str, Any]]:
    return [json.loads(raw) for raw in redis.lrange("resque:failed", 0, -1)]


def nothing_is_held(redis: Redis, performer: Performer) -> bool:
    return not redis.exists(f"resque:worker:{performer}") and not redis.llen("resque:queue:basic")


def test_a_failure_that_a_minion_failed_to_record_is_recorded_when_it_ends(
    minion: Minion, proxy: Proxy, resq: ResQ, redis: Redis
) -> None:
    """It was counted as finished, and its in-flight record removed."""
    resq.enqueue(FailJob, 1)
    job = minion._fetch()
    assert job is not None
    proxy.lose_request(b"EXEC")
    minion._shutdown = True

    minion._do(job)
    minion._reconnecting(minion._finish_and_unregister)

    assert proxy.cuts == 1
    assert [record["payload"]["args"] for record in failed(redis)] == [[1]]
    assert redis.mget("resque:stat:processed", "resque:stat:failed") == [b"1", b"1"]
    assert nothing_is_held(redis, minion)


def test_a_job_that_a_minion_failed_to_put_back_is_a_failure_when_it_ends(
    minion: Minion, proxy: Proxy, resq: ResQ, redis: Redis
) -> None:
    redis.script_load(scripts.source("put_back"))
    resq.enqueue(NoopJob, 1)
    job = minion._fetch()
    assert job is not None
    for _ in range(LAST_TRIES):
        proxy.lose_request(b"EVALSHA")
    minion._shutdown = True

    minion._reconnecting(lambda: minion._put_back(job), always=True)
    minion._reconnecting(minion._finish_and_unregister)

    assert proxy.cuts == LAST_TRIES
    assert [record["payload"]["args"] for record in failed(redis)] == [[1]]
    assert nothing_is_held(redis, minion)


def test_a_job_for_which_no_process_can_be_forked_is_put_back(
    resq: ResQ, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(["basic"], resq)
    resq.enqueue(NoopJob, 1)
    (payload,) = redis.lrange("resque:queue:basic", 0, -1)

    def no_more(*_: object) -> int:
        # Else the worker would try again, after a pause.
        worker.schedule_shutdown(signal.SIGTERM, None)
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(worker.children, "fork", no_more)
    worker.work(interval=0)

    assert redis.lrange("resque:queue:basic", 0, -1) == [payload]
    assert failed(redis) == []
    assert redis.keys("resque:worker*") == []


@pytest.mark.parametrize("reached", [True, False])
def test_a_minion_that_stops_still_counts_its_last_job_over_a_cut_connection(
    reached: bool, minion: Minion, proxy: Proxy, redis: Redis
) -> None:
    """It gave up at once, and the manager recorded a failure of a job that had finished."""
    minion.resq.enqueue(NoopJob)
    minion.register_minion()
    assert minion.reserve(timeout=0)
    minion._finished = minion._shutdown = True
    (proxy.lose_reply if reached else proxy.lose_request)(b"EVALSHA")

    minion._reconnecting(minion._finish_and_unregister, always=True)

    assert proxy.cuts == 1
    assert redis.get("resque:stat:processed") == b"1"
    assert not redis.exists("resque:workers", "resque:minions", "resque:failed")
    assert not redis.keys("resque:worker:*")
