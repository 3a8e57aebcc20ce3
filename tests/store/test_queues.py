"""Payload bytes in and out of the queues."""

from __future__ import annotations

import pytest

from pyres.store import PAGE

A, B, C = b'{"class":"A"}', b"\xff\x00\r\n", b""


@pytest.fixture
def queues(resq):
    return resq.store.queues


def test_a_push_appends_and_announces_in_one_step(queues, redis, server):
    redis.rpush("resque:queue:mail", A)

    with server.monitor() as monitor:
        queues.push("mail", [B, C])
        assert monitor.names == ["EVALSHA"]

    assert redis.lrange("resque:queue:mail", 0, -1) == [A, B, C]
    assert redis.smembers("resque:queues") == {b"mail"}


def test_a_queue_that_another_process_removed_is_announced_again(queues, redis):
    # pyres 1.5 added a queue to the set only once
    queues.push("mail", [A])
    redis.delete("resque:queues", "resque:queue:mail")

    queues.push("mail", [B])

    assert redis.smembers("resque:queues") == {b"mail"}


def test_a_pop_reads_the_queues_in_order(queues, redis):
    queues.push("low", [A])
    queues.push("high", [B, C])

    assert [queues.pop(["high", "low"]) for _ in range(4)] == [
        ("high", B),
        ("high", C),
        ("low", A),
        None,
    ]


def test_a_blocking_pop_names_the_queue_that_it_came_from(queues):
    queues.push("b:c", [A])
    assert queues.pop_blocking(["a", "b:c"], 1) == ("b:c", A)


def test_a_blocking_pop_of_empty_queues_ends(queues):
    assert queues.pop_blocking(["a"], 0.01) is None


@pytest.mark.parametrize("name", ["a b", "a:b", "é", "*", "b\udcff", "x" * 500, "queue:queue"])
def test_any_name_can_be_a_queue(queues, redis, name):
    octets = name.encode("utf-8", "surrogateescape")
    redis.sadd("resque:queues", octets)
    redis.rpush(b"resque:queue:" + octets, A)

    assert queues.names() == [name]
    assert queues.sizes() == {name: 1}
    assert queues.peek(name, 0, 1) == [A]
    assert queues.pop_blocking([name], 1) == (name, A)
    queues.remove(name)
    assert redis.keys() == []


def test_queues_are_sorted_by_their_bytes(queues, redis):
    redis.sadd("resque:queues", "b", "a", "é", "B", b"\xff")
    assert queues.names() == ["B", "a", "b", "é", "\udcff"]


def test_sizes_cost_two_round_trips_for_any_number_of_queues(queues, server):
    for name in "abc":
        queues.push(name, [A] * ord(name))

    with server.monitor() as monitor:
        assert queues.sizes() == {"a": 97, "b": 98, "c": 99}
        assert monitor.names == ["SMEMBERS", "LLEN", "LLEN", "LLEN"]


@pytest.mark.parametrize(
    ("start", "count", "wanted"),
    [(0, 1, [A]), (0, 2, [A, B]), (1, 5, [B, C]), (3, 1, []), (0, 0, []), (1, -1, [B, C])],
)
def test_a_peek_returns_n_payloads_from_an_index(queues, start, count, wanted):
    queues.push("mail", [A, B, C])
    assert queues.peek("mail", start, count) == wanted


def test_a_walk_reads_page_by_page_and_returns_all(queues, server):
    payloads = [b"%d" % number for number in range(2 * PAGE + 1)]
    queues.push("mail", payloads)

    with server.monitor() as monitor:
        assert list(queues.walk("mail")) == payloads
        assert monitor.names == ["LLEN", "EVALSHA", "EVALSHA", "EVALSHA"]


def test_deleting_removes_equal_bytes_only(queues, redis):
    queues.push("mail", [A, B, A, C])

    assert queues.delete("mail", A) is True
    assert redis.lrange("resque:queue:mail", 0, -1) == [B, A, C]
    assert list(queues.delete_each("mail", {A, B}.__contains__)) == [(2, [B, A])]
    assert redis.lrange("resque:queue:mail", 0, -1) == [C]
    assert queues.delete("mail", A) is False


def test_removing_a_queue_returns_how_many_jobs_it_had(queues, redis):
    queues.push("mail", [A, B])
    queues.push("other", [C])

    assert queues.remove("mail") == 2
    assert queues.remove("mail") == 0

    assert redis.smembers("resque:queues") == {b"other"}
    assert not redis.exists("resque:queue:mail")


def test_a_watched_queue_is_listed_before_its_first_job(queues):
    queues.watch("mail")
    assert queues.sizes() == {"mail": 0}


def test_putting_back_requires_the_in_flight_record_of_the_job(queues, redis):
    redis.set("resque:worker:w", b"record")

    assert not queues.put_back("w", "mail", A, b"another record")
    assert redis.get("resque:worker:w") == b"record"
    assert queues.put_back("w", "mail", A, b"record")
    assert not queues.put_back("w", "mail", A, b"record")

    assert redis.lrange("resque:queue:mail", 0, -1) == [A]
    assert not redis.exists("resque:worker:w")
