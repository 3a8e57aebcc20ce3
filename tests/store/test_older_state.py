"""A server that comes back with an older state: the job that ended last is known again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from pyres.store import ConnectionLost, Store, Taken, Taker, scripts
from tests.proxy import Proxy
from tests.servers import until

ME = "here:1:mail"
HAND = f"resque:worker:{ME}"
STARTED = f"{HAND}:started"
OWN = f"resque:stat:processed:{ME}"
QUEUE = "resque:queue:mail"
NOW, LATER = "2026-11-23T16:01:09Z", "2026-11-23T16:01:10Z"
FIRST, SECOND = b'{"class":"A","args":[]}', b'{"class":"B","args":[]}'


@pytest.fixture
def taker(store: Store, redis: Redis) -> Iterator[Taker]:
    redis.script_load(scripts.source("take"))
    store.workers.register(ME, "1763900000")
    taker = store.taker(ME)
    taker.look_at(["mail"])
    taker.ended_well = True
    yield taker
    taker.close()


class Past:
    """What stands in Redis now; go_back() makes it so again, as a failover does."""

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


def patiently(act, *args: object) -> Taken | None:
    """What a worker does: call it again until the server has answered."""
    return until(lambda: _answered(act, *args))[0]


def _answered(act, *args: object) -> list[Taken | None]:
    try:
        return [act(*args)]
    except ConnectionLost:
        return []


def payload(taken: Taken | None) -> bytes | None:
    return taken and taken.payload


def counts(redis: Redis) -> tuple[int, int]:
    """(processed by all, processed by this worker)."""
    return int(redis.get("resque:stat:processed") or 0), int(redis.get(OWN) or 0)


def is_over(redis: Redis, jobs: int) -> bool:
    """Whether so many jobs were counted, and nothing is left of them."""
    return counts(redis) == (jobs, jobs) and not redis.exists(HAND, QUEUE)


def test_a_job_whose_end_is_forgotten_is_counted_and_not_given_again(taker, proxy, redis):
    redis.rpush(QUEUE, FIRST)
    taker.take(False, NOW)
    past = Past(redis, proxy)
    assert taker.take(True, NOW) is None

    past.go_back()

    assert patiently(taker.take, False, LATER) is None
    assert is_over(redis, 1)


def test_a_job_whose_fetch_is_forgotten_after_its_end_is_not_given_again(taker, proxy, redis):
    redis.rpush(QUEUE, FIRST)
    past = Past(redis, proxy)
    taker.take(False, NOW)
    assert taker.take(True, NOW) is None

    past.go_back()

    assert patiently(taker.take, False, LATER) is None
    assert is_over(redis, 1)


def test_a_job_whose_fetch_is_forgotten_while_it_runs_is_not_given_again(taker, proxy, redis):
    redis.rpush(QUEUE, FIRST, SECOND)
    past = Past(redis, proxy)
    taker.take(False, NOW)

    past.go_back()

    assert payload(patiently(taker.take, True, LATER)) == SECOND
    assert counts(redis) == (1, 1)
    assert taker.take(True, LATER) is None
    assert is_over(redis, 2)


def test_the_end_of_a_job_and_the_fetch_of_the_next_are_forgotten_together(taker, proxy, redis):
    redis.rpush(QUEUE, FIRST, SECOND)
    taker.take(False, NOW)
    past = Past(redis, proxy)
    assert payload(taker.take(True, NOW)) == SECOND

    past.go_back()

    assert patiently(taker.take, True, LATER) is None
    assert is_over(redis, 2)


def test_the_second_of_two_equal_jobs_runs_though_the_first_came_back(taker, proxy, redis):
    redis.rpush(QUEUE, FIRST, FIRST)
    past = Past(redis, proxy)
    taker.take(False, NOW)

    past.go_back()

    assert payload(patiently(taker.take, True, LATER)) == FIRST
    assert taker.take(True, LATER) is None
    assert is_over(redis, 2)


def test_only_the_first_fetch_after_it_may_be_the_forgotten_job(taker, proxy, redis):
    redis.rpush(QUEUE, FIRST)
    taker.take(False, NOW)
    past = Past(redis, proxy)
    assert taker.take(True, NOW) is None
    past.go_back()
    redis.delete(HAND)  # as pruning by somebody would

    assert patiently(taker.take, False, LATER) is None
    redis.rpush(QUEUE, FIRST)

    assert payload(taker.take(False, LATER)) == FIRST


def test_a_job_that_did_not_end_well_is_given_again(taker, proxy, redis):
    redis.rpush(QUEUE, FIRST)
    taker.take(False, NOW)
    past = Past(redis, proxy)
    taker.ended_well = False
    taker.take(True, NOW)

    past.go_back()

    assert payload(patiently(taker.take, False, LATER)) == FIRST


def test_one_that_leaves_leaves_no_record_of_a_job_that_ended(taker, proxy, redis):
    redis.rpush(QUEUE, FIRST)
    taker.take(False, NOW)
    past = Past(redis, proxy)
    assert taker.take(True, NOW) is None

    past.go_back()

    assert patiently(taker.lay_back, LATER) is None
    assert is_over(redis, 1)


@pytest.mark.parametrize("fetched", [False, True], ids=["queued", "in flight"])
def test_what_blpop_gives_again_is_counted_and_not_given_again(taker, proxy, redis, fetched):
    redis.rpush(QUEUE, FIRST)
    past = Past(redis, proxy)
    taker.take(False, NOW)
    past = Past(redis, proxy) if fetched else past
    assert taker.take(True, NOW) is None
    past.go_back()
    redis.rpush(QUEUE, SECOND)

    def pop() -> Taken | None:
        taker.start_pop(5)
        return taker.end_pop(LATER)

    assert payload(patiently(pop)) == SECOND
    assert counts(redis) == (1, 1)
    assert taker.take(True, LATER) is None
    assert is_over(redis, 2)


def test_equal_jobs_all_run_though_every_connection_is_cut_and_every_reply_lost(
    taker, proxy, redis
):
    redis.rpush(QUEUE, *[FIRST] * 6)
    given: list[bytes | None] = []
    finished = False
    for number in range(6):
        if number % 3 == 0:
            proxy.cut_all()
        elif number % 3 == 1:
            proxy.lose_reply(b"EVALSHA")
        given.append(payload(patiently(taker.take, finished, NOW)))
        finished = True

    assert given == [FIRST] * 6
    assert patiently(taker.take, True, NOW) is None
    assert is_over(redis, 6)


def test_an_idle_workers_fetch_whose_reply_is_lost_is_no_job_that_ended(taker, proxy, redis):
    """Equal bytes in the same second, and no sign of an older state."""
    redis.rpush(QUEUE, FIRST)
    taker.take(False, NOW)
    assert taker.take(True, NOW) is None
    redis.rpush(QUEUE, FIRST)
    proxy.lose_reply(b"EVALSHA")

    assert payload(patiently(taker.take, False, NOW)) == FIRST
    assert taker.take(True, NOW) is None
    assert is_over(redis, 2)


@pytest.mark.parametrize("cut", [False, True])
def test_an_equal_job_runs_after_its_worker_was_pruned(taker, proxy, store, redis, cut):
    redis.rpush(QUEUE, FIRST, FIRST)
    taker.take(False, NOW)
    store.workers.unregister(ME)
    store.workers.register(ME, "1763900060")
    if cut:
        proxy.cut_all()

    assert payload(patiently(taker.take, True, LATER)) == FIRST


def test_a_fetch_that_is_lost_while_a_known_job_is_counted_is_made_up_for(taker, proxy, redis):
    redis.rpush(QUEUE, FIRST, SECOND)
    past = Past(redis, proxy)
    taker.take(False, NOW)
    past.go_back()
    with pytest.raises(ConnectionLost):
        taker.take(True, LATER)
    # Of the two calls that follow, the second counts what the first was given again.
    proxy.lose_reply(b"$20\r\n" + LATER.encode())
    proxy.lose_reply(b"$20\r\n" + LATER.encode())

    assert payload(patiently(taker.take, True, LATER)) == SECOND
    assert taker.take(True, LATER) is None
    assert is_over(redis, 2)
