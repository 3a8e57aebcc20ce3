"""Waiting for a push without popping, on a real server."""

from __future__ import annotations

import contextlib
import itertools
import select
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from pyres import ResQ
from pyres.exceptions import CannotWatchError, TooOldError
from pyres.queue_list import QueueList
from pyres.store import ConnectionLost
from pyres.waking import LONGEST_SPREAD, WATCH_RETRY, WOKEN_LIMIT, Hand, Lookout, Waker
from tests.proxy import Proxy
from tests.servers import Server, until


def name() -> str:
    """Another worker."""
    return f"here:{next(_pids)}:a"


_pids = itertools.count(1)


@pytest.fixture
def lookout(resq: ResQ) -> Lookout:
    return Lookout(resq.store, QueueList("a,b"), name())


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
    lookout = Lookout(resq.store, QueueList("mail-*"), name())
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
            lookout = Lookout(ResQ(proxy.dsn).store, QueueList("a"), name())
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
        Lookout(ResQ(old.dsn).store, QueueList("a"), name()).nothing_there()


@pytest.fixture
def restricted(server: Server, redis: Redis) -> Iterator[Callable[..., Lookout]]:
    """The lookout of a user with all rights but for these."""
    with contextlib.ExitStack() as opened:

        def make(*rules: str) -> Lookout:
            every = ["reset", "on", ">secret", "~*", "&*", "+@all"]
            redis.execute_command("ACL", "SETUSER", "few", *every, *rules)
            resq = ResQ(f"redis://few:secret@127.0.0.1:{server.port}")
            opened.callback(resq.close)
            lookout = Lookout(resq.store, QueueList("a,b"), name())
            opened.callback(lookout.close)
            return lookout

        yield make
        redis.execute_command("ACL", "DELUSER", "few")


def test_a_user_without_the_right_to_tracking_is_told_so(restricted) -> None:
    lookout = restricted("-client|tracking")

    with pytest.raises(CannotWatchError, match=r"refuses CLIENT TRACKING: .*tracking"):
        lookout.nothing_there()


@pytest.mark.parametrize(
    "rule", ["-zadd", "-zcard", "-evalsha", "-time", "resetkeys ~resque:queue*"]
)
def test_a_user_who_may_not_count_the_watchers_watches_nevertheless(
    restricted, redis: Redis, rule: str
) -> None:
    lookout = restricted(*rule.split())
    assert lookout.nothing_there()

    redis.rpush("resque:queue:b", "x")

    assert is_told(lookout)
    assert lookout.delay() == 0.0


# Many watchers of a queue


@pytest.fixture
def crowd(resq: ResQ, redis: Redis) -> Iterator[Callable[[int, str], list[Lookout]]]:
    """So many more lookouts on these queues."""
    made: list[Lookout] = []

    def add(number: int, queues: str) -> list[Lookout]:
        names = [name() for _ in range(number)]
        redis.sadd("resque:workers", *names)
        made.extend(Lookout(resq.store, QueueList(queues), worker) for worker in names)
        for lookout in made[-number:]:
            assert lookout.nothing_there()
        return made[-number:]

    yield add
    for lookout in made:
        lookout.close()


def looks_at_once(lookout: Lookout) -> float:
    """The share of the reports after which this one looks at once, if all have long watched."""
    lookout._watching_since = -1e6
    delays = [lookout.delay() for _ in range(2000)]
    assert max(delays) <= LONGEST_SPREAD
    return sum(not delay for delay in delays) / len(delays)


def test_of_many_watchers_of_a_queue_a_few_look_at_once(crowd, redis: Redis) -> None:
    crowd(39, "a,c")
    (last,) = crowd(1, "a,b")

    redis.rpush("resque:queue:a", "x")
    assert is_told(last)
    assert 0.03 < looks_at_once(last) < 0.2


def test_who_alone_watches_a_queue_always_looks_at_once(crowd, redis: Redis) -> None:
    crowd(39, "a,c")
    (last,) = crowd(1, "a,b")

    redis.rpush("resque:queue:b", "x")

    assert is_told(last)
    assert looks_at_once(last) == 1


def test_watchers_by_a_wildcard_are_counted_too(crowd, redis: Redis) -> None:
    *_, last = crowd(40, "mail-*")

    redis.sadd("resque:queues", "mail-new")

    assert is_told(last)
    assert 0.03 < looks_at_once(last) < 0.2


def test_watchers_that_have_left_are_counted_no_more(crowd, resq: ResQ) -> None:
    *others, last = crowd(5, "a,mail-*")
    assert resq.store.watchers.announce("another", ["a", "mail-*"], 150, 1) == [6, 6]
    for lookout in others:
        lookout.close()

    assert resq.store.watchers.announce("another", ["a", "mail-*"], 150, 1) == [2, 2]


def test_watchers_that_have_died_are_counted_no_more_after_a_while(resq, redis: Redis) -> None:
    seconds, _ = redis.time()
    redis.zadd("resque:pyres:watchers:a", {"died": seconds - 151, "alive": seconds - 100})
    # As a server wrote it whose clock was ahead.
    redis.zadd("resque:pyres:watchers:a", {"ahead": seconds + 3600})

    assert resq.store.watchers.announce("new", ["a"], 150, 0) == [2]
    assert 0 < redis.ttl("resque:pyres:watchers:a") <= 150


def test_a_few_workers_are_not_counted_and_leave_no_key(crowd, redis: Redis) -> None:
    crowd(3, "a")

    assert redis.keys("resque:pyres:*") == []


def test_what_cannot_count_the_watchers_watches_nevertheless(resq: ResQ, redis: Redis) -> None:
    redis.set("resque:pyres:watchers:a", "no sorted set")
    lookout = Lookout(resq.store, QueueList("a"), name())
    assert lookout.nothing_there()

    redis.rpush("resque:queue:a", "x")

    assert is_told(lookout)
    assert lookout.delay() == 0.0
    lookout.close()


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


@pytest.fixture
def one_of_many(lookout: Lookout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the lookout one of those that look later, half a second after a report."""
    monkeypatch.setattr(lookout, "delay", lambda: 0.5)


def test_one_of_many_watchers_wakes_nobody_for_a_job_that_another_has_fetched(
    one_of_many: None, waker: Waker, redis: Redis, woken: list[Hand]
) -> None:
    push(redis, waker)
    waker.tend(10.0)
    assert waker.until() == 10.5
    redis.lpop("resque:queue:a")
    waker.tend(10.4)
    waker.tend(10.5)

    assert woken == []
    assert waker.fds()
    assert waker.until() is None


def test_one_of_many_watchers_wakes_one_for_a_job_that_is_still_there(
    one_of_many: None, waker: Waker, redis: Redis, woken: list[Hand]
) -> None:
    push(redis, waker)
    waker.tend(10.0)
    waker.tend(10.4)
    assert woken == []

    waker.tend(10.5)

    assert woken == [Hand(3)]


# Where the server reports nothing


def test_one_is_woken_each_second_and_the_next_at_once_when_there_was_a_job(
    waker: Waker, woken: list[Hand]
) -> None:
    waker.poll(10.0)
    waker.tend(10.0)
    assert woken == [Hand(3)]
    waker.idle(Hand(3))
    waker.tend(10.9)
    assert woken == [Hand(3)]
    assert waker.until() == 11.0

    waker.tend(11.0)
    waker.busy(Hand(3))
    waker.tend(11.0)

    assert woken == [Hand(3), Hand(3), Hand(2)]


def test_a_server_that_reported_nothing_is_asked_again_after_a_minute(
    waker: Waker, redis: Redis, woken: list[Hand]
) -> None:
    waker.poll(10.0)
    waker.tend(10.0 + WATCH_RETRY)
    assert waker.fds()

    push(redis, waker)
    waker.tend(11.0 + WATCH_RETRY)

    assert woken == [Hand(3)]
