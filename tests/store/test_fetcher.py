"""The fetcher: a reply that is lost after the server executed a call loses no job and duplicates
none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from pyres.store import (
    CONNECTION_ERRORS,
    CannotWriteNow,
    Fetched,
    Fetcher,
    Store,
    parse_in_flight,
    scripts,
)
from pyres.store.fetcher import format_in_flight
from tests.proxy import Proxy
from tests.servers import Server, until

ME = "here:1:mail,slow"
RECORD_KEY = f"resque:worker:{ME}"
OWN = f"resque:stat:processed:{ME}"
NOW = "2026-11-23T16:01:09Z"
LATER = "2026-11-23T16:01:10Z"

FIRST = b'{"class":"A","args":["\xc3\xa9"]}'
SECOND = b'{"class":"B","args":[]}'
POISON = b'\xff\x00"},not JSON\r\n'

#: The server's reply to a fetch of FIRST: it is cut after any of these bytes.
REPLY = b"*3\r\n:0\r\n:1\r\n$28\r\n" + FIRST + b"\r\n"


def registered(redis: Redis, store: Store) -> Fetcher:
    """A fetcher whose worker is registered."""
    redis.sadd("resque:workers", ME)
    return store.fetcher(ME)


@pytest.fixture
def fetcher(store: Store, redis: Redis) -> Iterator[Fetcher]:
    # Loaded beforehand, so that the EVALSHA that is cut is one that fetches.
    redis.script_load(scripts.source("fetch"))
    redis.script_load(scripts.source("record_popped"))
    fetcher = registered(redis, store)
    fetcher.set_queues(["mail", "slow"])
    yield fetcher
    fetcher.close()


def fill(redis: Redis, *payloads: bytes, queue: str = "mail") -> None:
    redis.rpush(f"resque:queue:{queue}", *payloads)


def counts(redis: Redis) -> tuple[int, int]:
    """(processed by all, processed by this worker)."""
    return int(redis.get("resque:stat:processed") or 0), int(redis.get(OWN) or 0)


def reconnecting(act, *args: object) -> object:
    """What a worker does: call it again until the server has answered."""
    for _ in range(3):
        try:
            return act(*args)
        except CONNECTION_ERRORS:
            continue
    raise AssertionError("no answer in three tries")


def drain(fetcher: Fetcher) -> list[bytes]:
    """Fetch and finish jobs until the queues are empty; the payloads in the order fetched."""
    fetched, finished = [], False
    while (found := reconnecting(fetcher.fetch, finished, NOW)) is not None:
        assert isinstance(found, Fetched)
        fetched.append(found.payload)
        finished = True
    return fetched


def drain_rest(fetcher: Fetcher) -> list[bytes]:
    """The same for a fetcher that has a job in flight."""
    rest = []
    while (found := fetcher.fetch(True, NOW)) is not None:
        rest.append(found.payload)
    return rest


def test_a_fetch_moves_the_oldest_payload_of_the_first_queue_in_flight(fetcher, redis):
    fill(redis, SECOND, queue="slow")
    fill(redis, FIRST, SECOND)

    fetched = fetcher.fetch(False, NOW)

    record = b'{"queue":"mail","run_at":"2026-11-23T16:01:09Z","payload":' + FIRST + b"}"
    assert fetched == Fetched("mail", FIRST, record)
    assert redis.get(RECORD_KEY) == record
    assert redis.lrange("resque:queue:mail", 0, -1) == [SECOND]
    assert counts(redis) == (0, 0)


def test_a_finish_and_the_next_fetch_are_one_call(fetcher, redis, server):
    fill(redis, FIRST, SECOND)
    fetcher.fetch(False, NOW)

    with server.monitor() as monitor:
        fetched = fetcher.fetch(True, LATER)
        assert monitor.names == ["EVALSHA"]

    assert fetched is not None
    assert fetched.payload == SECOND
    assert redis.get(RECORD_KEY) == fetched.in_flight
    assert counts(redis) == (1, 1)


def test_a_fetch_from_empty_queues_removes_the_record_of_the_finished_job(fetcher, redis):
    fill(redis, FIRST)
    fetcher.fetch(False, NOW)

    assert fetcher.fetch(True, NOW) is None

    assert redis.get(RECORD_KEY) is None
    assert counts(redis) == (1, 1)


def test_payload_bytes_are_untouched_whatever_they_are(fetcher, redis):
    fill(redis, POISON)

    fetched = fetcher.fetch(False, NOW)

    assert fetched.payload == POISON
    assert redis.get(RECORD_KEY) == fetched.in_flight
    assert parse_in_flight(fetched.in_flight) == fetched


@pytest.mark.parametrize("name", ['a"b', "a\\b", "é", "a\nb", "b\udcff", 'x","payload":1', "q:1"])
def test_any_queue_name_is_written_to_the_in_flight_record_and_read_back(fetcher, redis, name):
    fetcher.set_queues([name])
    redis.rpush(b"resque:queue:" + name.encode("utf-8", "surrogateescape"), FIRST)

    fetched = fetcher.fetch(False, NOW)

    assert fetched.queue == name
    assert redis.get(RECORD_KEY) == fetched.in_flight == format_in_flight(name, NOW, FIRST)
    assert parse_in_flight(redis.get(RECORD_KEY)) == fetched


def test_a_malformed_in_flight_record_is_an_error_that_shows_it():
    with pytest.raises(ValueError, match="garbage.*: expected a payload"):
        parse_in_flight(b"garbage")


@pytest.mark.parametrize("word", ["true", " TRUE ", "True\n"])
def test_a_fetch_while_paused_counts_the_finished_job_and_fetches_nothing(fetcher, redis, word):
    fill(redis, FIRST, SECOND)
    fetcher.fetch(False, NOW)
    redis.set("resque:pause-all-workers", word)

    assert fetcher.fetch(True, NOW) is None

    assert fetcher.paused
    assert redis.get(RECORD_KEY) is None
    assert counts(redis) == (1, 1)
    assert redis.llen("resque:queue:mail") == 1


@pytest.mark.parametrize("word", ["false", "", "truest", "untrue"])
def test_no_other_value_pauses(fetcher, redis, word):
    fill(redis, FIRST)
    redis.set("resque:pause-all-workers", word)

    assert fetcher.fetch(False, NOW) is not None
    assert not fetcher.paused


# A lost reply


@pytest.mark.parametrize("passed", range(len(REPLY)))
def test_a_first_fetch_whose_reply_is_cut_after_any_byte_is_neither_lost_nor_repeated(
    fetcher, proxy, redis, passed
):
    fill(redis, FIRST, SECOND)
    proxy.lose_reply(b"EVALSHA", passed)

    with pytest.raises(CONNECTION_ERRORS):
        fetcher.fetch(False, NOW)
    assert redis.llen("resque:queue:mail") == 1
    fetched = fetcher.fetch(False, LATER)

    assert proxy.cuts == 1
    assert fetched == Fetched("mail", FIRST, format_in_flight("mail", NOW, FIRST))
    assert redis.get(RECORD_KEY) == fetched.in_flight
    assert fetcher.fetch(True, LATER).payload == SECOND
    assert counts(redis) == (1, 1)


@pytest.mark.parametrize("passed", [0, 1, 9, 20])
def test_a_finish_and_fetch_whose_reply_is_lost_is_executed_once(fetcher, proxy, redis, passed):
    fill(redis, FIRST, SECOND, POISON)
    fetcher.fetch(False, NOW)
    proxy.lose_reply(b"EVALSHA", passed)

    with pytest.raises(CONNECTION_ERRORS):
        fetcher.fetch(True, NOW)
    assert counts(redis) == (1, 1)
    fetched = fetcher.fetch(True, LATER)

    assert fetched.payload == SECOND
    assert counts(redis) == (1, 1)
    assert fetcher.fetch(True, LATER).payload == POISON
    assert counts(redis) == (2, 2)


def test_a_finish_and_fetch_from_empty_queues_is_not_counted_twice(fetcher, proxy, redis):
    fill(redis, FIRST)
    fetcher.fetch(False, NOW)
    proxy.lose_reply(b"EVALSHA")
    with pytest.raises(CONNECTION_ERRORS):
        fetcher.fetch(True, NOW)

    fill(redis, SECOND)
    fetched = fetcher.fetch(True, LATER)

    assert fetched.payload == SECOND
    assert counts(redis) == (1, 1)


def test_a_finish_whose_reply_is_lost_is_counted_once(fetcher, proxy, redis):
    fill(redis, FIRST)
    fetcher.fetch(False, NOW)
    proxy.lose_reply(b"EVALSHA")

    with pytest.raises(CONNECTION_ERRORS):
        fetcher.finish(NOW)
    fetcher.finish(NOW)

    assert proxy.cuts == 1
    assert redis.get(RECORD_KEY) is None
    assert counts(redis) == (1, 1)


@pytest.mark.parametrize("finished", [False, True])
def test_a_fetch_that_never_reached_the_server_is_sent_again(fetcher, proxy, redis, finished):
    fill(redis, FIRST, SECOND)
    if finished:
        fetcher.fetch(False, NOW)
    proxy.lose_request(b"EVALSHA")

    with pytest.raises(CONNECTION_ERRORS):
        fetcher.fetch(finished, NOW)
    fetched = fetcher.fetch(finished, LATER)

    assert fetched == Fetched("mail", *((SECOND,) if finished else (FIRST,)), redis.get(RECORD_KEY))
    assert counts(redis) == (finished, finished)


def finish_again(fetcher: Fetcher, proxy: Proxy) -> None:
    """A finish whose request is lost, and the same once more."""
    proxy.lose_request(b"EVALSHA")
    with pytest.raises(CONNECTION_ERRORS):
        fetcher.finish(NOW)
    fetcher.finish(NOW)


def test_a_finish_that_never_reached_the_server_is_sent_again(fetcher, proxy, redis):
    # The first of them leaves a count that the second must not mistake for its own.
    for payload in (FIRST, SECOND):
        redis.set(RECORD_KEY, format_in_flight("mail", NOW, payload))

        finish_again(fetcher, proxy)

        assert redis.get(RECORD_KEY) is None
    assert counts(redis) == (2, 2)


def test_a_finish_that_was_lost_is_not_mistaken_for_the_last_run_of_the_same_id(
    fetcher, proxy, redis
):
    # In a container every worker has the same id, and one that was killed leaves its counter.
    redis.set(OWN, 7)
    redis.set(RECORD_KEY, format_in_flight("mail", NOW, FIRST))

    finish_again(fetcher, proxy)

    assert redis.get(RECORD_KEY) is None
    assert counts(redis) == (1, 8)


def test_a_reply_that_is_lost_again_while_it_is_resolved_is_resolved_by_the_next_call(
    fetcher, proxy, redis
):
    fill(redis, FIRST, SECOND)
    fetcher.fetch(False, NOW)
    proxy.lose_reply(b"EVALSHA")
    proxy.lose_reply(b"EVALSHA", 7)
    proxy.lose_request(b"EVALSHA")

    for _ in range(3):
        with pytest.raises(CONNECTION_ERRORS):
            fetcher.fetch(True, NOW)
    fetched = fetcher.fetch(True, LATER)

    assert proxy.cuts == 3
    assert fetched.payload == SECOND
    assert counts(redis) == (1, 1)


# A call that is executed late


def late(fetcher: Fetcher, proxy: Proxy, *call: Any) -> None:
    """A call that the server gets at pass_late(), and whose reply is lost."""
    proxy.delay_request(b"EVALSHA")
    with pytest.raises(CONNECTION_ERRORS):
        fetcher.fetch(*call)


@pytest.mark.parametrize("finished", [False, True])
def test_a_fetch_executed_after_it_was_sent_again_does_nothing(fetcher, proxy, redis, finished):
    """It overwrote the in-flight record of the second fetch, and its job was lost."""
    fill(redis, FIRST, SECOND, POISON)
    if finished:
        fetcher.fetch(False, NOW)
    late(fetcher, proxy, finished, NOW)
    fetched = fetcher.fetch(finished, LATER)
    before = (redis.get(RECORD_KEY), counts(redis), redis.lrange("resque:queue:mail", 0, -1))

    proxy.pass_late()

    assert (
        redis.get(RECORD_KEY),
        counts(redis),
        redis.lrange("resque:queue:mail", 0, -1),
    ) == before
    assert before[:2] == (fetched.in_flight, (finished, finished))
    assert drain_rest(fetcher) == ([POISON] if finished else [SECOND, POISON])


@pytest.mark.parametrize("finished", [False, True])
def test_a_fetch_executed_before_it_is_sent_again_is_executed_once(fetcher, proxy, redis, finished):
    fill(redis, FIRST, SECOND)
    if finished:
        fetcher.fetch(False, NOW)
    late(fetcher, proxy, finished, NOW)

    proxy.pass_late()
    fetched = fetcher.fetch(finished, LATER)

    assert fetched.payload == (SECOND if finished else FIRST)
    assert (
        fetched.in_flight == format_in_flight("mail", NOW, fetched.payload) == redis.get(RECORD_KEY)
    )
    assert counts(redis) == (finished, finished)


def test_a_finish_executed_late_leaves_the_record_of_the_next_job_alone(fetcher, proxy, redis):
    fill(redis, FIRST, SECOND)
    fetcher.fetch(False, NOW)
    proxy.delay_request(b"EVALSHA")
    with pytest.raises(CONNECTION_ERRORS):
        fetcher.finish(NOW)
    fetcher.finish(NOW)
    fetched = fetcher.fetch(False, LATER)

    proxy.pass_late()

    assert redis.get(RECORD_KEY) == fetched.in_flight
    assert counts(redis) == (1, 1)


def test_the_job_of_a_late_fetch_of_an_idle_worker_is_its_next_job(fetcher, proxy, redis):
    late(fetcher, proxy, False, NOW)
    assert fetcher.fetch(False, NOW) is None
    fill(redis, FIRST, SECOND)

    proxy.pass_late()

    assert redis.get(RECORD_KEY) == format_in_flight("mail", NOW, FIRST)
    assert drain(fetcher) == [FIRST, SECOND]
    assert counts(redis) == (2, 2)


def test_a_fetch_executed_after_its_worker_was_unregistered_fetches_nothing(
    store, fetcher, proxy, redis
):
    store.workers.register(ME, "1763913669")
    fill(redis, FIRST)
    late(fetcher, proxy, False, NOW)
    store.workers.unregister(ME)

    proxy.pass_late()

    assert redis.lrange("resque:queue:mail", 0, -1) == [FIRST]
    assert redis.get(RECORD_KEY) is None


def test_a_fetch_without_a_finish_of_the_last_job_returns_the_next(fetcher, redis):
    """As pyres 1.5's reserve() did."""
    fill(redis, FIRST, SECOND)
    assert fetcher.fetch(False, NOW).payload == FIRST
    assert fetcher.fetch(False, NOW).payload == SECOND
    assert fetcher.fetch(False, NOW) is None
    assert fetcher.fetch(False, NOW) is None
    fill(redis, POISON)

    assert fetcher.fetch(False, NOW).payload == POISON
    assert counts(redis) == (0, 0)


def test_a_counter_changed_by_another_client_stops_no_worker(fetcher, redis):
    fill(redis, FIRST, SECOND, POISON)
    fetcher.fetch(False, NOW)

    redis.incr(OWN)
    assert fetcher.fetch(True, NOW).payload == SECOND
    assert counts(redis) == (1, 2)
    redis.delete(OWN)

    assert fetcher.fetch(True, NOW).payload == POISON
    assert counts(redis) == (2, 1)


#: Only in a fetch that states that there is no in-flight record.
EMPTY_HAND = b"$1\r\n0\r\n$20\r\n"


@pytest.mark.parametrize("stops", [False, True])
def test_a_fetch_lost_while_a_lost_finish_is_repeated_keeps_its_job(fetcher, proxy, redis, stops):
    """It was counted as the finished one, and the next was put over it."""
    fill(redis, FIRST)
    fetcher.fetch(False, NOW)
    proxy.lose_reply(b"EVALSHA")
    with pytest.raises(CONNECTION_ERRORS):
        fetcher.fetch(True, NOW)
    fill(redis, SECOND, POISON)
    proxy.lose_reply(EMPTY_HAND)
    with pytest.raises(CONNECTION_ERRORS):
        fetcher.fetch(True, NOW)
    assert redis.get(RECORD_KEY) == format_in_flight("mail", NOW, SECOND)

    if stops:
        fetcher.finish(LATER)
        assert fetcher.put_back_undelivered(LATER).payload == SECOND
    else:
        assert fetcher.fetch(True, LATER).payload == SECOND

    assert proxy.cuts == 2
    assert counts(redis) == (1, 1)
    assert redis.lrange("resque:queue:mail", 0, -1) == ([SECOND] if stops else []) + [POISON]


def test_equal_jobs_in_the_same_second_are_distinguished(fetcher, proxy, redis):
    fill(redis, SECOND, SECOND, SECOND)
    fetcher.fetch(False, NOW)
    proxy.lose_reply(b"EVALSHA")
    with pytest.raises(CONNECTION_ERRORS):
        fetcher.fetch(True, NOW)

    rest = [reconnecting(fetcher.fetch, True, NOW), reconnecting(fetcher.fetch, True, NOW)]

    assert [fetched.payload for fetched in rest] == [SECOND, SECOND]
    assert fetcher.fetch(True, NOW) is None
    assert counts(redis) == (3, 3)


def test_a_worker_declared_dead_does_not_lose_the_job_that_it_fetched_after_it(
    fetcher, proxy, redis
):
    fill(redis, FIRST, SECOND, FIRST, POISON)
    fetcher.fetch(False, NOW)
    fetcher.fetch(True, NOW)
    fetcher.fetch(True, NOW)
    # Another worker prunes it: its in-flight record and its counter are removed.
    redis.delete(RECORD_KEY, OWN)
    proxy.lose_reply(b"EVALSHA")

    with pytest.raises(CONNECTION_ERRORS):
        fetcher.fetch(True, NOW)
    fetched = fetcher.fetch(True, LATER)

    assert fetched.payload == POISON
    assert redis.get(RECORD_KEY) == fetched.in_flight


def test_every_job_is_fetched_once_though_the_connection_is_cut_repeatedly(fetcher, proxy, redis):
    payloads = [b'{"class":"N","args":[%d]}' % number for number in range(60)]
    fill(redis, *payloads)
    fetched, finished = [], False

    for number in range(61):
        for _ in range(number % 3):
            if number % 2:
                proxy.lose_reply(b"EVALSHA", number % 7)
            else:
                proxy.lose_request(b"EVALSHA")
        found = None
        for _ in range(4):
            try:
                found = fetcher.fetch(finished, NOW)
                break
            except CONNECTION_ERRORS:
                continue
        finished = True
        fetched.append(found and found.payload)

    assert fetched == [*payloads, None]
    assert proxy.cuts > 20
    assert counts(redis) == (60, 60)
    assert redis.get(RECORD_KEY) is None


# A worker that stops while it is in doubt


def test_a_finish_after_a_lost_finish_and_fetch_keeps_the_job_fetched_by_it(fetcher, proxy, redis):
    fill(redis, FIRST, SECOND)
    fetcher.fetch(False, NOW)
    proxy.lose_reply(b"EVALSHA")
    with pytest.raises(CONNECTION_ERRORS):
        fetcher.fetch(True, NOW)

    fetcher.finish(NOW)
    fetched = fetcher.fetch(False, NOW)

    assert fetched.payload == SECOND
    assert redis.get(RECORD_KEY) == fetched.in_flight
    assert counts(redis) == (1, 1)


@pytest.mark.parametrize("finished", [False, True])
def test_a_worker_that_stops_puts_back_the_job_of_a_lost_reply(fetcher, proxy, redis, finished):
    fill(redis, FIRST, SECOND)
    if finished:
        fetcher.fetch(False, NOW)
    else:
        redis.lpop("resque:queue:mail")
    proxy.lose_reply(b"EVALSHA")
    with pytest.raises(CONNECTION_ERRORS):
        fetcher.fetch(finished, NOW)
    if finished:
        fetcher.finish(NOW)

    fetched = fetcher.put_back_undelivered(NOW)

    assert fetched is not None
    assert fetched.payload == SECOND
    assert redis.lrange("resque:queue:mail", 0, -1) == [SECOND]
    assert redis.smembers("resque:queues") == {b"mail"}
    assert redis.get(RECORD_KEY) is None
    assert counts(redis) == (finished, finished)
    assert fetcher.put_back_undelivered(NOW) is None
    assert redis.llen("resque:queue:mail") == 1


def test_a_job_is_put_back_once_though_the_reply_is_lost(fetcher, proxy, redis):
    fill(redis, FIRST)
    proxy.lose_reply(b"EVALSHA")
    with pytest.raises(CONNECTION_ERRORS):
        fetcher.fetch(False, NOW)
    until(lambda: redis.get(RECORD_KEY))
    redis.script_load(scripts.source("put_back"))
    proxy.lose_reply(b"resque:queue:mail")

    with pytest.raises(CONNECTION_ERRORS):
        fetcher.put_back_undelivered(NOW)
    fetcher.put_back_undelivered(NOW)

    assert redis.lrange("resque:queue:mail", 0, -1) == [FIRST]
    assert redis.get(RECORD_KEY) is None


# BLPOP


def popped(fetcher: Fetcher) -> Fetched | None:
    until(fetcher.answered)
    return fetcher.end_pop(NOW)


def test_a_popped_job_is_put_in_flight(fetcher, redis):
    fetcher.fetch(False, NOW)
    fetcher.start_pop(60)
    fill(redis, POISON, queue="slow")

    fetched = popped(fetcher)

    assert fetched == Fetched("slow", POISON, format_in_flight("slow", NOW, POISON))
    assert redis.get(RECORD_KEY) == fetched.in_flight


def test_a_pop_that_is_unblocked_returns_none_and_keeps_the_connection_usable(fetcher, redis):
    fetcher.start_pop(60)
    until(lambda: redis.info("clients")["blocked_clients"] == 1)

    fetcher.unblock()

    assert popped(fetcher) is None
    fill(redis, FIRST)
    assert fetcher.fetch(False, NOW).payload == FIRST


def test_a_pop_of_a_queue_whose_name_is_not_unicode_returns_its_name(fetcher, redis):
    fetcher.set_queues(["b\udcff"])
    redis.rpush(b"resque:queue:b\xff", FIRST)
    fetcher.start_pop(5)

    assert popped(fetcher).queue == "b\udcff"


@pytest.mark.parametrize("how", ["lose_reply", "lose_request"])
def test_a_popped_job_is_kept_until_its_in_flight_record_is_written(fetcher, proxy, redis, how):
    fill(redis, FIRST, SECOND)
    fetcher.start_pop(5)
    getattr(proxy, how)(b"EVALSHA")

    with pytest.raises(CONNECTION_ERRORS):
        popped(fetcher)
    fetched = fetcher.fetch(False, LATER)

    assert fetched.payload == FIRST
    assert redis.get(RECORD_KEY) == fetched.in_flight
    assert redis.lrange("resque:queue:mail", 0, -1) == [SECOND]


@pytest.mark.parametrize("how", ["lose_reply", "lose_request"])
def test_another_pop_returns_first_the_job_without_an_in_flight_record(fetcher, proxy, redis, how):
    """The server died between the two, and the caller, which reconnects, waits anew."""
    fill(redis, FIRST, SECOND)
    fetcher.start_pop(5)
    getattr(proxy, how)(b"EVALSHA")
    with pytest.raises(CONNECTION_ERRORS):
        popped(fetcher)

    fetcher.start_pop(5)
    fetched = popped(fetcher)

    assert fetched.payload == FIRST
    assert redis.get(RECORD_KEY) == fetched.in_flight
    assert redis.lrange("resque:queue:mail", 0, -1) == [SECOND]


@pytest.mark.parametrize("how", ["lose_reply", "lose_request"])
def test_a_worker_that_stops_puts_back_a_popped_job_without_an_in_flight_record(
    fetcher, proxy, redis, how
):
    fill(redis, FIRST, SECOND)
    fetcher.start_pop(5)
    getattr(proxy, how)(b"EVALSHA")
    with pytest.raises(CONNECTION_ERRORS):
        popped(fetcher)

    fetcher.put_back_undelivered(NOW)

    assert redis.lrange("resque:queue:mail", 0, -1) == [FIRST, SECOND]
    assert redis.get(RECORD_KEY) is None


def sent_with(fetcher: Fetcher, server: Server) -> tuple[Fetched, list[str]]:
    """The payload FIRST that BLPOP returned, and the request that wrote its in-flight record."""
    with server.monitor() as monitor:
        fetcher.start_pop(5)
        fetched = popped(fetcher)
        (request,) = [command.args for command in monitor.commands if command.name == "EVALSHA"]
    return fetched, request


@pytest.mark.parametrize("meanwhile", ["finished", "another", "unregistered", "counted"])
def test_a_request_to_record_a_popped_job_does_nothing_when_it_is_executed_late(
    fetcher, redis, server, meanwhile
):
    redis.set(f"{RECORD_KEY}:started", 1763913669)
    fill(redis, FIRST, queue="slow")
    _, request = sent_with(fetcher, server)
    fetcher.finish(NOW)
    if meanwhile == "another":
        fill(redis, SECOND)
        fetcher.fetch(False, LATER)
    elif meanwhile == "unregistered":
        redis.delete(OWN, f"{RECORD_KEY}:started")
    elif meanwhile == "counted":
        fill(redis, SECOND)
        fetcher.fetch(False, LATER)
        fetcher.finish(LATER)
    before = redis.get(RECORD_KEY)

    redis.execute_command("EVALSHA", *request)

    assert redis.get(RECORD_KEY) == before


def test_a_popped_job_waits_for_another_one_that_is_in_flight(fetcher, redis):
    """Whatever put the other in flight, neither job is lost, and each is returned once."""
    fetcher.fetch(False, NOW)
    redis.set(RECORD_KEY, format_in_flight("mail", NOW, SECOND))
    fill(redis, FIRST)
    fetcher.start_pop(5)

    found = popped(fetcher)
    following = fetcher.fetch(True, LATER)

    assert (found.payload, following.payload) == (SECOND, FIRST)
    assert redis.get(RECORD_KEY) == following.in_flight
    assert fetcher.fetch(True, LATER) is None
    assert redis.get(OWN) == b"2"
    assert redis.get(RECORD_KEY) is None


@pytest.mark.parametrize(
    "removed", [[OWN], [f"{RECORD_KEY}:started"], [OWN, f"{RECORD_KEY}:started"]]
)
def test_a_finished_job_is_not_fetched_again_when_its_workers_count_was_removed(
    fetcher, proxy, redis, removed
):
    fill(redis, FIRST, SECOND)
    assert fetcher.fetch(False, NOW).payload == FIRST
    assert fetcher.fetch(True, NOW).payload == SECOND
    proxy.lose_request(b"EVALSHA")
    with pytest.raises(CONNECTION_ERRORS):
        fetcher.fetch(True, LATER)
    redis.delete(*removed)

    assert fetcher.fetch(True, LATER) is None

    assert redis.get(RECORD_KEY) is None
    assert redis.get("resque:stat:processed") == b"2"


# The server's moods


def test_a_server_that_lost_its_scripts_gets_them_again(fetcher, redis):
    fill(redis, FIRST, SECOND)
    fetcher.fetch(False, NOW)
    redis.script_flush()

    assert fetcher.fetch(True, NOW).payload == SECOND
    redis.script_flush()
    fetcher.finish(NOW)

    assert counts(redis) == (2, 2)
    assert redis.get(RECORD_KEY) is None


def test_a_reply_lost_while_the_script_is_loaded_again_loses_nothing(fetcher, proxy, redis):
    fill(redis, FIRST, SECOND)
    fetcher.fetch(False, NOW)
    redis.script_flush()
    proxy.lose_reply(b"SCRIPT")

    with pytest.raises(CONNECTION_ERRORS):
        fetcher.fetch(True, NOW)

    assert fetcher.fetch(True, NOW).payload == SECOND
    assert counts(redis) == (1, 1)


@pytest.mark.parametrize("finished", [False, True])
def test_a_server_out_of_memory_is_drained(own_server, finished):
    redis = own_server.client()
    store = Store(own_server.client())
    fetcher = registered(redis, store)
    fetcher.set_queues(["mail"])
    fill(redis, FIRST, SECOND)
    if finished:
        fetcher.fetch(False, NOW)
    waiting = redis.lrange("resque:queue:mail", 0, -1)
    redis.config_set("maxmemory", 1)

    for payload in waiting:
        assert fetcher.fetch(finished, NOW).payload == payload
        finished = True
    assert fetcher.fetch(True, NOW) is None

    assert counts(redis) == (2, 2)
    assert redis.get(RECORD_KEY) is None
    redis.config_set("maxmemory", 0)
    fetcher.close()


def test_a_queue_of_another_type_stops_no_other_queue(fetcher, redis):
    fetcher.set_queues(["broken", "mail"])
    redis.set("resque:queue:broken", "no list")
    fill(redis, FIRST, SECOND)

    assert fetcher.fetch(False, NOW).payload == FIRST
    assert fetcher.fetch(True, NOW).payload == SECOND
    assert fetcher.fetch(True, NOW) is None

    assert counts(redis) == (2, 2)
    assert redis.get("resque:queue:broken") == b"no list"


@pytest.mark.parametrize("value", ["", "0.0", "no number", "9223372036854775807", ["a list"]])
@pytest.mark.parametrize("key", ["resque:stat:processed", f"resque:stat:processed:{ME}"])
def test_a_counter_that_is_not_an_integer_costs_no_job(redis, store, key, value):
    fetcher = registered(redis, store)
    fetcher.set_queues(["mail"])
    fill(redis, FIRST, SECOND)
    if isinstance(value, list):
        redis.rpush(key, *value)
    else:
        redis.set(key, value)

    fetched = [fetcher.fetch(False, NOW), fetcher.fetch(True, NOW), fetcher.fetch(True, NOW)]

    assert [one and one.payload for one in fetched] == [FIRST, SECOND, None]
    assert redis.get(RECORD_KEY) is None
    fetcher.close()


@pytest.mark.parametrize("key", [RECORD_KEY, f"{RECORD_KEY}:started", "resque:pause-all-workers"])
def test_a_key_of_the_worker_of_another_type_costs_no_job(redis, store, key):
    fetcher = registered(redis, store)
    fetcher.set_queues(["mail"])
    fill(redis, FIRST, SECOND)
    redis.hset(key, "no", "string")

    fetched = [fetcher.fetch(False, NOW), fetcher.fetch(True, NOW), fetcher.fetch(True, NOW)]

    assert [one and one.payload for one in fetched] == [FIRST, SECOND, None]
    assert counts(redis) == (2, 2)
    fetcher.close()


def test_a_replica_is_distinguished_from_an_empty_queue(own_server):
    redis, store = own_server.client(), Store(own_server.client())
    fetcher = registered(redis, store)
    fetcher.set_queues(["mail"])
    redis.execute_command("REPLICAOF", "127.0.0.1", "1")

    with pytest.raises(CannotWriteNow, match="READONLY"):
        fetcher.fetch(False, NOW)

    redis.execute_command("REPLICAOF", "NO", "ONE")
    assert fetcher.fetch(False, NOW) is None
    fetcher.close()


def test_a_server_that_restarts_is_connected_to_again():
    with Server(appendonly=True) as server:
        redis = server.client()
        fetcher = registered(redis, Store(server.client()))
        fetcher.set_queues(["mail"])
        fill(redis, FIRST, SECOND)
        fetcher.fetch(False, NOW)
        server.restart()

        fetched = reconnecting(fetcher.fetch, True, NOW)

        assert fetched.payload == SECOND
        assert counts(redis) == (1, 1)
        fetcher.close()


def test_closing_releases_the_connection(fetcher, redis):
    fetcher.fetch(False, NOW)
    pool = fetcher.client.connection_pool

    fetcher.close()

    assert len(pool._in_use_connections) == 0
    until(lambda: len(redis.client_list()) == 1)


def test_the_same_list_of_queues_costs_nothing_and_another_is_used_by_the_next_fetch(
    fetcher, redis
):
    fill(redis, FIRST)
    fill(redis, SECOND, queue="slow")

    fetcher.set_queues(["slow"])

    assert drain(fetcher) == [SECOND]
    assert redis.llen("resque:queue:mail") == 1


@pytest.mark.parametrize("kind", ["Worker", "Minion"])
@pytest.mark.parametrize("finished", [False, True])
def test_a_daemon_that_stops_while_a_reply_is_lost_leaves_no_orphaned_in_flight_job(
    proxy, redis, kind, finished
):
    from pyres.horde import Minion
    from pyres.worker import Worker

    daemon = {"Worker": Worker, "Minion": Minion}[kind](["mail"], proxy.dsn)
    record = f"resque:worker:{daemon}"
    fill(redis, FIRST, SECOND)
    daemon.registry.register()
    daemon._refresh_queues()
    if finished:
        daemon.fetcher.fetch(False, NOW)
        daemon._finished = True
    proxy.lose_reply(b"EVALSHA")
    daemon._shutdown = True

    assert daemon._reconnecting(daemon._fetch) is None
    assert redis.exists(record)
    daemon._reconnecting(daemon._finish_and_unregister)

    assert redis.lrange("resque:queue:mail", 0, -1) == ([SECOND] if finished else [FIRST, SECOND])
    assert not redis.exists(record)
    assert int(redis.get("resque:stat:processed") or 0) == finished
    daemon.fetcher.close()
    daemon.resq.close()
