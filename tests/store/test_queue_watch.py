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
from pyres.store import CONNECTION_ERRORS
from pyres.wakeups import LONGEST_SPREAD, WATCH_RETRY, WOKEN_LIMIT, QueueWatcher, Slot, Wakeups
from tests.proxy import Proxy
from tests.servers import Server, until


def name() -> str:
    """Another worker."""
    return f"here:{next(_pids)}:a"


_pids = itertools.count(1)


@pytest.fixture
def queue_watcher(resq: ResQ) -> QueueWatcher:
    return QueueWatcher(resq.store, QueueList("a,b"), name())


def is_told(queue_watcher: QueueWatcher) -> bool:
    """Whether the server reports a change within a generous time."""
    ready = select.select([queue_watcher.fileno()], [], [], 20)[0]
    return bool(ready) and queue_watcher.has_changed()


def test_a_push_is_reported_and_nothing_is_popped(
    queue_watcher: QueueWatcher, redis: Redis
) -> None:
    assert queue_watcher.all_empty()
    assert not queue_watcher.has_changed()

    redis.rpush("resque:queue:b", "x")

    assert is_told(queue_watcher)
    assert redis.lrange("resque:queue:b", 0, -1) == [b"x"]
    assert not queue_watcher.all_empty()


def test_a_push_to_another_queue_is_not_reported(queue_watcher: QueueWatcher, redis: Redis) -> None:
    queue_watcher.all_empty()

    redis.rpush("resque:queue:c", "x")
    redis.set("resque:stat:processed", 1)

    assert queue_watcher.all_empty()


def test_a_new_queue_is_reported_for_a_wildcard(resq: ResQ, redis: Redis) -> None:
    queue_watcher = QueueWatcher(resq.store, QueueList("mail-*"), name())
    assert queue_watcher.all_empty()

    resq.push("mail-new", {"class": "X", "args": []})

    assert is_told(queue_watcher)
    assert not queue_watcher.all_empty()


def test_a_push_between_the_check_and_the_wait_is_reported(
    queue_watcher: QueueWatcher, redis: Redis
) -> None:
    queue_watcher.all_empty()
    redis.rpush("resque:queue:a", "x")
    redis.delete("resque:queue:a")

    # It was popped again, but reported: the reply of the next check must not swallow the report.
    assert is_told(queue_watcher)


def test_a_connection_that_was_cut_is_made_anew(queue_watcher: QueueWatcher, redis: Redis) -> None:
    queue_watcher.all_empty()
    (watching,) = [c for c in redis.client_list() if c["flags"].count("t")]
    redis.client_kill_filter(_id=watching["id"])

    with pytest.raises(CONNECTION_ERRORS):
        is_told(queue_watcher)

    assert queue_watcher.all_empty()
    redis.rpush("resque:queue:a", "x")
    assert is_told(queue_watcher)


def test_a_reply_cut_after_any_byte_leaves_a_queue_watcher_that_works(
    server: Server, redis: Redis
) -> None:
    with Proxy(server.port) as proxy:
        for passed in range(4):
            redis.flushall()
            queue_watcher = QueueWatcher(ResQ(proxy.dsn).store, QueueList("a"), name())
            proxy.lose_reply(b"EXISTS", passed)
            with pytest.raises(CONNECTION_ERRORS):
                queue_watcher.all_empty()

            assert queue_watcher.all_empty()
            redis.rpush("resque:queue:a", "x")
            assert is_told(queue_watcher)
            queue_watcher.close()


def test_a_server_without_tracking_is_too_old() -> None:
    # The reply of a server before 6 to HELLO is that of any server to an unknown command.
    with (
        Server("--rename-command", "HELLO", "") as old,
        pytest.raises(TooOldError, match="CLIENT TRACKING"),
    ):
        QueueWatcher(ResQ(old.dsn).store, QueueList("a"), name()).all_empty()


@pytest.fixture
def restricted(server: Server, redis: Redis) -> Iterator[Callable[..., QueueWatcher]]:
    """The queue_watcher of a user with all rights but for these."""
    with contextlib.ExitStack() as opened:

        def make(*rules: str) -> QueueWatcher:
            every = ["reset", "on", ">secret", "~*", "&*", "+@all"]
            redis.execute_command("ACL", "SETUSER", "few", *every, *rules)
            resq = ResQ(f"redis://few:secret@127.0.0.1:{server.port}")
            opened.callback(resq.close)
            queue_watcher = QueueWatcher(resq.store, QueueList("a,b"), name())
            opened.callback(queue_watcher.close)
            return queue_watcher

        yield make
        redis.execute_command("ACL", "DELUSER", "few")


def test_a_missing_right_to_tracking_is_an_error_that_says_so(restricted) -> None:
    queue_watcher = restricted("-client|tracking")

    with pytest.raises(CannotWatchError, match=r"refuses CLIENT TRACKING: .*tracking"):
        queue_watcher.all_empty()


@pytest.mark.parametrize(
    "rule", ["-zadd", "-zcard", "-evalsha", "-time", "resetkeys ~resque:queue*"]
)
def test_a_user_without_the_right_to_count_watchers_watches_nevertheless(
    restricted, redis: Redis, rule: str
) -> None:
    queue_watcher = restricted(*rule.split())
    assert queue_watcher.all_empty()

    redis.rpush("resque:queue:b", "x")

    assert is_told(queue_watcher)
    assert queue_watcher.delay() == 0.0


# Many watchers of a queue


@pytest.fixture
def crowd(resq: ResQ, redis: Redis) -> Iterator[Callable[[int, str], list[QueueWatcher]]]:
    """So many more lookouts on these queues."""
    made: list[QueueWatcher] = []

    def add(number: int, queues: str) -> list[QueueWatcher]:
        names = [name() for _ in range(number)]
        redis.sadd("resque:workers", *names)
        made.extend(QueueWatcher(resq.store, QueueList(queues), worker) for worker in names)
        for queue_watcher in made[-number:]:
            assert queue_watcher.all_empty()
        return made[-number:]

    yield add
    for queue_watcher in made:
        queue_watcher.close()


def looks_at_once(queue_watcher: QueueWatcher) -> float:
    """The share of reports after which this watcher checks at once, if all have long watched."""
    queue_watcher._watching_since = -1e6
    delays = [queue_watcher.delay() for _ in range(2000)]
    assert max(delays) <= LONGEST_SPREAD
    return sum(not delay for delay in delays) / len(delays)


def test_of_many_watchers_of_a_queue_a_few_check_at_once(crowd, redis: Redis) -> None:
    crowd(39, "a,c")
    (last,) = crowd(1, "a,b")

    redis.rpush("resque:queue:a", "x")
    assert is_told(last)
    assert 0.03 < looks_at_once(last) < 0.2


def test_a_single_watcher_of_a_queue_always_checks_at_once(crowd, redis: Redis) -> None:
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


def test_watchers_that_have_withdrawn_are_no_longer_counted(crowd, resq: ResQ) -> None:
    *others, last = crowd(5, "a,mail-*")
    assert resq.store.watchers.announce("another", ["a", "mail-*"], 150, 1) == [6, 6]
    for queue_watcher in others:
        queue_watcher.close()

    assert resq.store.watchers.announce("another", ["a", "mail-*"], 150, 1) == [2, 2]


def test_watchers_that_have_died_are_no_longer_counted_after_a_while(resq, redis: Redis) -> None:
    seconds, _ = redis.time()
    redis.zadd("resque:pyres:watchers:a", {"died": seconds - 151, "alive": seconds - 100})
    # As written by a server whose clock was ahead.
    redis.zadd("resque:pyres:watchers:a", {"ahead": seconds + 3600})

    assert resq.store.watchers.announce("new", ["a"], 150, 0) == [2]
    assert 0 < redis.ttl("resque:pyres:watchers:a") <= 150


def test_a_few_workers_are_not_counted_and_leave_no_key(crowd, redis: Redis) -> None:
    crowd(3, "a")

    assert redis.keys("resque:pyres:*") == []


def test_what_cannot_count_the_watchers_watches_nevertheless(resq: ResQ, redis: Redis) -> None:
    redis.set("resque:pyres:watchers:a", "no sorted set")
    queue_watcher = QueueWatcher(resq.store, QueueList("a"), name())
    assert queue_watcher.all_empty()

    redis.rpush("resque:queue:a", "x")

    assert is_told(queue_watcher)
    assert queue_watcher.delay() == 0.0
    queue_watcher.close()


# The wakeup scheduler of a pool


@pytest.fixture
def woken() -> list[Slot]:
    return []


@pytest.fixture
def wakeups(queue_watcher: QueueWatcher, woken: list[Slot]) -> Wakeups:
    wakeups = Wakeups(queue_watcher, woken.append)
    for pid in (1, 2, 3):
        wakeups.idle(Slot(pid))
    wakeups.process_events(0.0)
    return wakeups


def push(redis: Redis, wakeups: Wakeups, count: int = 1) -> None:
    redis.rpush("resque:queue:a", *["x"] * count)
    select.select(wakeups.fds(), [], [], 20)


def test_a_push_wakes_only_the_slot_that_became_idle_last(
    wakeups: Wakeups, redis: Redis, woken: list[Slot]
) -> None:
    push(redis, wakeups)
    wakeups.process_events(0.0)
    wakeups.process_events(0.0)

    assert woken == [Slot(3)]


def test_the_next_is_woken_when_the_first_has_fetched_and_there_is_more(
    wakeups: Wakeups, redis: Redis, woken: list[Slot]
) -> None:
    push(redis, wakeups, 2)
    wakeups.process_events(0.0)

    redis.lpop("resque:queue:a")
    wakeups.busy(Slot(3))
    wakeups.process_events(0.0)
    redis.lpop("resque:queue:a")
    wakeups.busy(Slot(2))
    wakeups.process_events(0.0)

    assert woken == [Slot(3), Slot(2)]
    assert wakeups.fds()


def test_another_is_woken_for_one_that_reports_nothing(
    wakeups: Wakeups, redis: Redis, woken: list[Slot]
) -> None:
    push(redis, wakeups)
    wakeups.process_events(10.0)
    assert wakeups.until() == 10.0 + WOKEN_LIMIT

    wakeups.process_events(10.0 + WOKEN_LIMIT)

    assert woken == [Slot(3), Slot(2)]


def test_another_is_woken_for_one_that_has_died(
    wakeups: Wakeups, redis: Redis, woken: list[Slot]
) -> None:
    wakeups.remove(2)
    push(redis, wakeups)
    wakeups.process_events(0.0)
    wakeups.remove(3)
    wakeups.process_events(0.0)

    assert woken == [Slot(3), Slot(1)]


def test_a_wakeup_scheduler_checks_again_after_it_was_disconnected(
    wakeups: Wakeups, redis: Redis, woken: list[Slot]
) -> None:
    (watching,) = [c for c in redis.client_list() if c["flags"].count("t")]
    redis.client_kill_filter(_id=watching["id"])
    redis.rpush("resque:queue:a", "x")
    until(lambda: select.select(wakeups.fds(), [], [], 0)[0])

    with pytest.raises(CONNECTION_ERRORS):
        wakeups.process_events(0.0)
    assert wakeups.fds() == ()
    wakeups.process_events(0.0)

    assert woken == [Slot(3)]


@pytest.fixture
def one_of_many(queue_watcher: QueueWatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the queue watcher one of those that check half a second after a report."""
    monkeypatch.setattr(queue_watcher, "delay", lambda: 0.5)


def test_one_of_many_watchers_wakes_no_slot_for_a_job_that_another_has_fetched(
    one_of_many: None, wakeups: Wakeups, redis: Redis, woken: list[Slot]
) -> None:
    push(redis, wakeups)
    wakeups.process_events(10.0)
    assert wakeups.until() == 10.5
    redis.lpop("resque:queue:a")
    wakeups.process_events(10.4)
    wakeups.process_events(10.5)

    assert woken == []
    assert wakeups.fds()
    assert wakeups.until() is None


def test_one_of_many_watchers_wakes_one_for_a_job_that_is_still_there(
    one_of_many: None, wakeups: Wakeups, redis: Redis, woken: list[Slot]
) -> None:
    push(redis, wakeups)
    wakeups.process_events(10.0)
    wakeups.process_events(10.4)
    assert woken == []

    wakeups.process_events(10.5)

    assert woken == [Slot(3)]


# Where the server reports nothing


def test_one_is_woken_each_second_and_the_next_at_once_when_there_was_a_job(
    wakeups: Wakeups, woken: list[Slot]
) -> None:
    wakeups.poll(10.0)
    wakeups.process_events(10.0)
    assert woken == [Slot(3)]
    wakeups.idle(Slot(3))
    wakeups.process_events(10.9)
    assert woken == [Slot(3)]
    assert wakeups.until() == 11.0

    wakeups.process_events(11.0)
    wakeups.busy(Slot(3))
    wakeups.process_events(11.0)

    assert woken == [Slot(3), Slot(3), Slot(2)]


def test_a_server_that_reported_nothing_is_asked_again_after_a_minute(
    wakeups: Wakeups, redis: Redis, woken: list[Slot]
) -> None:
    wakeups.poll(10.0)
    wakeups.process_events(10.0 + WATCH_RETRY)
    assert wakeups.fds()

    push(redis, wakeups)
    wakeups.process_events(11.0 + WATCH_RETRY)

    assert woken == [Slot(3)]
