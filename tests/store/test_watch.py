"""Waiting for a push without popping, on a real server."""

from __future__ import annotations

import select

import pytest
from redis import Redis

from pyres import ResQ
from pyres.exceptions import TooOldError
from pyres.queue_list import QueueList
from pyres.store import ConnectionLost
from pyres.waking import WOKEN_LIMIT, Hand, Lookout, Waker
from tests.proxy import Proxy
from tests.servers import Server, until


@pytest.fixture
def lookout(resq: ResQ) -> Lookout:
    return Lookout(resq.store, QueueList("a,b"))


def is_told(lookout: Lookout) -> bool:
    """Whether the server tells of something within a generous time."""
    ready = select.select([lookout.fileno()], [], [], 20)[0]
    return bool(ready) and lookout.told()


def test_a_push_is_told_and_nothing_is_popped(lookout: Lookout, redis: Redis) -> None:
    assert lookout.nothing_there()
    assert not lookout.told()

    redis.rpush("resque:queue:b", "x")

    assert is_told(lookout)
    assert redis.lrange("resque:queue:b", 0, -1) == [b"x"]
    assert not lookout.nothing_there()


def test_a_push_to_another_queue_is_not_told(lookout: Lookout, redis: Redis) -> None:
    lookout.nothing_there()

    redis.rpush("resque:queue:c", "x")
    redis.set("resque:stat:processed", 1)

    assert lookout.nothing_there()


def test_a_new_queue_is_told_to_a_wildcard(resq: ResQ, redis: Redis) -> None:
    lookout = Lookout(resq.store, QueueList("mail-*"))
    assert lookout.nothing_there()

    resq.push("mail-new", {"class": "X", "args": []})

    assert is_told(lookout)
    assert not lookout.nothing_there()


def test_a_push_between_the_look_and_the_wait_is_told(lookout: Lookout, redis: Redis) -> None:
    lookout.nothing_there()
    redis.rpush("resque:queue:a", "x")
    redis.delete("resque:queue:a")

    # It is gone again, but it has been told: the reply of the next look must not swallow that.
    assert is_told(lookout)


def test_a_connection_that_was_cut_is_made_anew(lookout: Lookout, redis: Redis) -> None:
    lookout.nothing_there()
    (watching,) = [c for c in redis.client_list() if c["flags"].count("t")]
    redis.client_kill_filter(_id=watching["id"])

    with pytest.raises(ConnectionLost):
        is_told(lookout)

    assert lookout.nothing_there()
    redis.rpush("resque:queue:a", "x")
    assert is_told(lookout)


def test_a_reply_cut_after_any_byte_leaves_a_lookout_that_works(
    server: Server, redis: Redis
) -> None:
    with Proxy(server.port) as proxy:
        for passed in range(4):
            redis.flushall()
            lookout = Lookout(ResQ(proxy.dsn).store, QueueList("a"))
            proxy.lose_reply(b"EXISTS", passed)
            with pytest.raises(ConnectionLost):
                lookout.nothing_there()

            assert lookout.nothing_there()
            redis.rpush("resque:queue:a", "x")
            assert is_told(lookout)
            lookout.close()


def test_a_server_without_tracking_is_too_old() -> None:
    # What a server before 6 says to HELLO is what any says that knows no such command.
    with (
        Server("--rename-command", "HELLO", "") as old,
        pytest.raises(TooOldError, match="CLIENT TRACKING"),
    ):
        Lookout(ResQ(old.dsn).store, QueueList("a")).check()


# The waker of a pool


@pytest.fixture
def woken() -> list[Hand]:
    return []


@pytest.fixture
def waker(lookout: Lookout, woken: list[Hand]) -> Waker:
    waker = Waker(lookout, woken.append)
    for pid in (1, 2, 3):
        waker.idle(Hand(pid))
    waker.tend(0.0)
    return waker


def push(redis: Redis, waker: Waker, count: int = 1) -> None:
    redis.rpush("resque:queue:a", *["x"] * count)
    select.select(waker.fds(), [], [], 20)


def test_a_push_wakes_one_and_that_the_last_that_went_idle(
    waker: Waker, redis: Redis, woken: list[Hand]
) -> None:
    push(redis, waker)
    waker.tend(0.0)
    waker.tend(0.0)

    assert woken == [Hand(3)]


def test_the_next_is_woken_when_the_first_has_taken_and_there_is_more(
    waker: Waker, redis: Redis, woken: list[Hand]
) -> None:
    push(redis, waker, 2)
    waker.tend(0.0)

    redis.lpop("resque:queue:a")
    waker.busy(Hand(3))
    waker.tend(0.0)
    redis.lpop("resque:queue:a")
    waker.busy(Hand(2))
    waker.tend(0.0)

    assert woken == [Hand(3), Hand(2)]
    assert waker.fds()


def test_another_is_woken_for_one_that_says_nothing(
    waker: Waker, redis: Redis, woken: list[Hand]
) -> None:
    push(redis, waker)
    waker.tend(10.0)
    assert waker.until() == 10.0 + WOKEN_LIMIT

    waker.tend(10.0 + WOKEN_LIMIT)

    assert woken == [Hand(3), Hand(2)]


def test_another_is_woken_for_one_that_has_died(
    waker: Waker, redis: Redis, woken: list[Hand]
) -> None:
    waker.gone(2)
    push(redis, waker)
    waker.tend(0.0)
    waker.gone(3)
    waker.tend(0.0)

    assert woken == [Hand(3), Hand(1)]


def test_a_waker_whose_server_was_away_looks_again(
    waker: Waker, redis: Redis, woken: list[Hand]
) -> None:
    (watching,) = [c for c in redis.client_list() if c["flags"].count("t")]
    redis.client_kill_filter(_id=watching["id"])
    redis.rpush("resque:queue:a", "x")
    until(lambda: select.select(waker.fds(), [], [], 0)[0])

    with pytest.raises(ConnectionLost):
        waker.tend(0.0)
    assert waker.fds() == ()
    waker.tend(0.0)

    assert woken == [Hand(3)]
