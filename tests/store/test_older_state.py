"""A server that restarts with an older state: the job that ended last is recognised."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from pyres.store import CONNECTION_ERRORS, Fetched, Fetcher, Store, scripts
from tests.proxy import Proxy
from tests.servers import until

ME = "here:1:mail"
RECORD_KEY = f"resque:worker:{ME}"
STARTED = f"{RECORD_KEY}:started"
OWN = f"resque:stat:processed:{ME}"
QUEUE = "resque:queue:mail"
NOW, LATER = "2026-11-23T16:01:09Z", "2026-11-23T16:01:10Z"
FIRST, SECOND = b'{"class":"A","args":[]}', b'{"class":"B","args":[]}'


@pytest.fixture
def fetcher(store: Store, redis: Redis) -> Iterator[Fetcher]:
    redis.script_load(scripts.source("fetch"))
    store.workers.register(ME, "1763900000")
    fetcher = store.fetcher(ME)
    fetcher.set_queues(["mail"])
    fetcher.ended_well = True
    yield fetcher
    fetcher.close()


class Past:
    """The present state of Redis; go_back() restores it, as a failover does."""

    def __init__(self, redis: Redis, proxy: Proxy) -> None:
        self._redis = redis
        self._proxy = proxy
        self._dumps = {key: redis.dump(key) for key in redis.scan_iter()}

    def go_back(self) -> None:
        pipe = self._redis.pipeline(transaction=True)
        pipe.flushdb()
        for key, dumped in self._dumps.items():
            pipe.restore(key, 0, dumped)
        pipe.execute()
        self._proxy.cut_all()


def reconnecting(act, *args: object) -> Fetched | None:
    """What a worker does: call it again until the server has answered."""
    return until(lambda: _answered(act, *args))[0]


def _answered(act, *args: object) -> list[Fetched | None]:
    try:
        return [act(*args)]
    except CONNECTION_ERRORS:
        return []


def payload(fetched: Fetched | None) -> bytes | None:
    return fetched and fetched.payload


def counts(redis: Redis) -> tuple[int, int]:
    """(processed by all, processed by this worker)."""
    return int(redis.get("resque:stat:processed") or 0), int(redis.get(OWN) or 0)


def is_over(redis: Redis, jobs: int) -> bool:
    """Whether N jobs were counted, and nothing is left of them."""
    return counts(redis) == (jobs, jobs) and not redis.exists(RECORD_KEY, QUEUE)


def test_a_job_whose_end_is_forgotten_is_counted_and_not_run_again(fetcher, proxy, redis):
    redis.rpush(QUEUE, FIRST)
    fetcher.fetch(False, NOW)
    past = Past(redis, proxy)
    assert fetcher.fetch(True, NOW) is None

    past.go_back()

    assert reconnecting(fetcher.fetch, False, LATER) is None
    assert is_over(redis, 1)


def test_a_job_whose_fetch_is_forgotten_after_its_end_is_not_run_again(fetcher, proxy, redis):
    redis.rpush(QUEUE, FIRST)
    past = Past(redis, proxy)
    fetcher.fetch(False, NOW)
    assert fetcher.fetch(True, NOW) is None

    past.go_back()

    assert reconnecting(fetcher.fetch, False, LATER) is None
    assert is_over(redis, 1)


def test_a_job_whose_fetch_is_forgotten_while_it_runs_is_not_run_again(fetcher, proxy, redis):
    redis.rpush(QUEUE, FIRST, SECOND)
    past = Past(redis, proxy)
    fetcher.fetch(False, NOW)

    past.go_back()

    assert payload(reconnecting(fetcher.fetch, True, LATER)) == SECOND
    assert counts(redis) == (1, 1)
    assert fetcher.fetch(True, LATER) is None
    assert is_over(redis, 2)


def test_the_end_of_a_job_and_the_fetch_of_the_next_are_forgotten_together(fetcher, proxy, redis):
    redis.rpush(QUEUE, FIRST, SECOND)
    fetcher.fetch(False, NOW)
    past = Past(redis, proxy)
    assert payload(fetcher.fetch(True, NOW)) == SECOND

    past.go_back()

    assert reconnecting(fetcher.fetch, True, LATER) is None
    assert is_over(redis, 2)


def test_the_second_of_two_equal_jobs_runs_though_the_first_came_back(fetcher, proxy, redis):
    redis.rpush(QUEUE, FIRST, FIRST)
    past = Past(redis, proxy)
    fetcher.fetch(False, NOW)

    past.go_back()

    assert payload(reconnecting(fetcher.fetch, True, LATER)) == FIRST
    assert fetcher.fetch(True, LATER) is None
    assert is_over(redis, 2)


def test_only_the_first_fetch_after_it_may_be_the_forgotten_job(fetcher, proxy, redis):
    redis.rpush(QUEUE, FIRST)
    fetcher.fetch(False, NOW)
    past = Past(redis, proxy)
    assert fetcher.fetch(True, NOW) is None
    past.go_back()
    redis.delete(RECORD_KEY)  # as a prune by another worker would

    assert reconnecting(fetcher.fetch, False, LATER) is None
    redis.rpush(QUEUE, FIRST)

    assert payload(fetcher.fetch(False, LATER)) == FIRST


def test_a_job_that_did_not_succeed_is_fetched_again(fetcher, proxy, redis):
    redis.rpush(QUEUE, FIRST)
    fetcher.fetch(False, NOW)
    past = Past(redis, proxy)
    fetcher.ended_well = False
    fetcher.fetch(True, NOW)

    past.go_back()

    assert payload(reconnecting(fetcher.fetch, False, LATER)) == FIRST


def test_one_that_leaves_leaves_no_record_of_a_job_that_ended(fetcher, proxy, redis):
    redis.rpush(QUEUE, FIRST)
    fetcher.fetch(False, NOW)
    past = Past(redis, proxy)
    assert fetcher.fetch(True, NOW) is None

    past.go_back()

    assert reconnecting(fetcher.put_back_undelivered, LATER) is None
    assert is_over(redis, 1)


@pytest.mark.parametrize("fetched", [False, True], ids=["queued", "in flight"])
def test_a_job_that_blpop_returns_again_is_counted_and_not_run_again(
    fetcher, proxy, redis, fetched
):
    redis.rpush(QUEUE, FIRST)
    past = Past(redis, proxy)
    fetcher.fetch(False, NOW)
    past = Past(redis, proxy) if fetched else past
    assert fetcher.fetch(True, NOW) is None
    past.go_back()
    redis.rpush(QUEUE, SECOND)

    def pop() -> Fetched | None:
        fetcher.start_pop(5)
        return fetcher.end_pop(LATER)

    assert payload(reconnecting(pop)) == SECOND
    assert counts(redis) == (1, 1)
    assert fetcher.fetch(True, LATER) is None
    assert is_over(redis, 2)


def test_equal_jobs_all_run_though_every_connection_is_cut_and_every_reply_lost(
    fetcher, proxy, redis
):
    redis.rpush(QUEUE, *[FIRST] * 6)
    given: list[bytes | None] = []
    finished = False
    for number in range(6):
        if number % 3 == 0:
            proxy.cut_all()
        elif number % 3 == 1:
            proxy.lose_reply(b"EVALSHA")
        given.append(payload(reconnecting(fetcher.fetch, finished, NOW)))
        finished = True

    assert given == [FIRST] * 6
    assert reconnecting(fetcher.fetch, True, NOW) is None
    assert is_over(redis, 6)


def test_an_idle_workers_fetch_whose_reply_is_lost_is_not_a_job_that_ended(fetcher, proxy, redis):
    """Equal bytes in the same second, and no sign of an older state."""
    redis.rpush(QUEUE, FIRST)
    fetcher.fetch(False, NOW)
    assert fetcher.fetch(True, NOW) is None
    redis.rpush(QUEUE, FIRST)
    proxy.lose_reply(b"EVALSHA")

    assert payload(reconnecting(fetcher.fetch, False, NOW)) == FIRST
    assert fetcher.fetch(True, NOW) is None
    assert is_over(redis, 2)


@pytest.mark.parametrize("cut", [False, True])
def test_an_equal_job_runs_after_its_worker_was_pruned(fetcher, proxy, store, redis, cut):
    redis.rpush(QUEUE, FIRST, FIRST)
    fetcher.fetch(False, NOW)
    store.workers.unregister(ME)
    store.workers.register(ME, "1763900060")
    if cut:
        proxy.cut_all()

    assert payload(reconnecting(fetcher.fetch, True, LATER)) == FIRST


def test_a_fetch_that_is_lost_while_a_recognised_job_is_counted_is_repeated(fetcher, proxy, redis):
    redis.rpush(QUEUE, FIRST, SECOND)
    past = Past(redis, proxy)
    fetcher.fetch(False, NOW)
    past.go_back()
    with pytest.raises(CONNECTION_ERRORS):
        fetcher.fetch(True, LATER)
    # Of the two calls that follow, the second counts the job that the first was delivered again.
    proxy.lose_reply(b"$20\r\n" + LATER.encode())
    proxy.lose_reply(b"$20\r\n" + LATER.encode())

    assert payload(reconnecting(fetcher.fetch, True, LATER)) == SECOND
    assert fetcher.fetch(True, LATER) is None
    assert is_over(redis, 2)
