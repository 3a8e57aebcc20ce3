"""One element of a list: found where it is now, removed alone, without reading others."""

from __future__ import annotations

import pytest

from pyres.store import Move, Row, Wanted
from pyres.store.delayed import Moved

LIST = "resque:queue:q"


@pytest.fixture
def rows(resq):
    return resq.store.rows


def exactly(raw: bytes) -> Wanted:
    return Wanted(raw, lambda found: found == raw)


def like(raw: bytes) -> Wanted:
    """The same, of which only the digest is known."""
    return Wanted(None, lambda found: found == raw)


KINDS = pytest.mark.parametrize("wanted", [exactly, like])


@KINDS
@pytest.mark.parametrize(
    ("shown_at", "now", "index"),
    [
        (3, [b"a", b"b", b"c", b"x"], 3),
        (3, [b"b", b"c", b"x"], 2),
        (3, [b"x"], 0),
        (3, [b"x", b"b", b"x", b"c", b"d", b"x"], 2),
        (3, [b"x", b"b", b"c", b"x", b"x"], 3),
        (1, [b"new", b"new", b"a", b"x", b"x"], 3),
        (3, [b"a", b"b"], None),
        (3, [], None),
    ],
)
def test_an_element_is_found_where_it_is_now(rows, redis, wanted, shown_at, now, index):
    for raw in now:
        redis.rpush(LIST, raw)

    found = rows.find(LIST, wanted(b"x"), shown_at)

    assert found == (None if index is None else Row(index, b"x"))


@KINDS
@pytest.mark.parametrize("count", [1, 12, 2500])
def test_without_a_place_the_first_or_the_last_is_found(rows, redis, wanted, count):
    redis.rpush(LIST, *[b"y"] * count, b"x", *[b"y"] * count, b"x", *[b"y"] * count)

    assert rows.first(LIST, wanted(b"x")) == Row(count, b"x")
    assert rows.last(LIST, wanted(b"x")) == Row(2 * count + 1, b"x")
    assert rows.first(LIST, wanted(b"z")) is None
    assert rows.last(LIST, wanted(b"z")) is None


@KINDS
def test_a_key_that_is_not_a_list_has_no_element(rows, redis, wanted):
    redis.set(LIST, b"x")

    assert rows.find(LIST, wanted(b"x"), 3) is None
    assert rows.first(LIST, wanted(b"x")) is None
    assert rows.last(LIST, wanted(b"x")) is None


@KINDS
def test_large_elements_are_read_a_few_at_a_time(rows, redis, server, wanted):
    large = b"y" * 300_000
    redis.rpush(LIST, b"x", *[large] * 40)

    with server.monitor() as monitor:
        assert rows.find(LIST, wanted(b"x"), 40) == Row(0, b"x")
        spans = [
            int(command.args[2]) - int(command.args[1]) + 1
            for command in monitor.everything
            if command.name == "LRANGE"
        ]

    assert sum(spans) >= 41
    assert max(spans) <= 10


@pytest.mark.parametrize("size", [2, 5, 6, 40])
def test_each_place_of_a_list_of_equal_elements_can_be_removed(resq, redis, size):
    for index in range(0, size, 2):
        redis.delete(LIST)
        # Equal elements, and between them others that show which of them were removed.
        redis.rpush(LIST, *(b"x" if at % 2 == 0 else b"%d" % at for at in range(size)))
        before = redis.lrange(LIST, 0, -1)

        assert resq.store.queues.delete_at("q", index, b"x") == 1
        assert redis.lrange(LIST, 0, -1) == before[:index] + before[index + 1 :]


def test_an_element_that_moved_since_it_was_read_is_removed_and_a_missing_one_is_not(resq, redis):
    redis.rpush(LIST, b"a", b"x", b"b")

    assert resq.store.queues.delete_at("q", 30, b"x") == 1
    assert resq.store.queues.delete_at("q", 30, b"x") == 0
    assert redis.lrange(LIST, 0, -1) == [b"a", b"b"]


def test_on_a_full_server_an_element_can_be_deleted_and_a_delayed_one_cancelled(own_server, dsn):
    from pyres import ResQ

    resq = ResQ(own_server.dsn)
    redis = own_server.client()
    redis.rpush(LIST, b"a", b"x", b"b", b"x", b"c")
    for payload in (b"p", b"x", b"p"):
        resq.store.delayed.delay(7, payload)
    redis.config_set("maxmemory", 1)

    assert resq.store.queues.delete_at("q", 3, b"x") == 1
    assert resq.store.delayed.cancel_at(7, 1, b"x") == 1
    with pytest.raises(Exception, match="maxmemory"):
        resq.store.delayed.promote_one_at(7, 0, Move(b"p", "q", b"pushed"))

    assert sorted(redis.lrange(LIST, 0, -1)) == [b"a", b"b", b"c", b"x"]
    assert redis.lrange("resque:delayed:7", 0, -1) == [b"p", b"p"]
    resq.close()


def test_of_equal_delayed_payloads_one_is_cancelled_or_promoted(resq, redis):
    delayed, moved = resq.store.delayed, Moved(1, {})
    for payload in (b"x", b"y", b"x", b"z", b"x"):
        delayed.delay(7, payload)

    assert delayed.cancel_at(7, 2, b"x") == 1
    assert redis.lrange("resque:delayed:7", 0, -1) == [b"x", b"y", b"z", b"x"]
    assert delayed.promote_one_at(7, 0, Move(b"x", "q", b"pushed")) == moved
    assert redis.lrange("resque:delayed:7", 0, -1) == [b"y", b"z", b"x"]
    assert redis.smembers("resque:timestamps:x") == {b"delayed:7"}
    assert delayed.promote_one_at(7, 2, Move(b"x", "q", b"pushed")) == moved
    assert redis.exists("resque:timestamps:x") == 0
    assert delayed.promote_one_at(7, 2, Move(b"x", "q", b"pushed")) == Moved(0, {})

    assert redis.lrange(LIST, 0, -1) == [b"pushed"] * 2
    assert redis.smembers("resque:queues") == {b"q"}
    assert delayed.cancel_at(7, 0, b"y") == delayed.cancel_at(7, 0, b"z") == 1
    assert redis.exists("resque:delayed:7", "resque:delayed_queue_schedule") == 0


@pytest.mark.parametrize("key", [LIST, "resque:queues", "resque:delayed_queue_schedule"])
def test_a_queue_key_of_the_wrong_type_leaves_the_payload_delayed(resq, redis, key):
    resq.store.delayed.delay(7, b'{"class":"A","args":[],"queue":"q"}')
    redis.delete(key)
    redis.set(key, "x")

    with pytest.raises(Exception, match=f"WRONGTYPE.*{key}"):
        resq.promote_job(7, b'{"class":"A","args":[],"queue":"q"}', 0)

    assert redis.llen("resque:delayed:7") == 1
