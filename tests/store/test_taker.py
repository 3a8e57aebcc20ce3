"""The taker: a reply lost after the server did its work loses no job and does none twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from pyres.store import (
    CannotWriteNow,
    ConnectionLost,
    Store,
    Taken,
    Taker,
    open_hand,
    scripts,
)
from pyres.store.taker import hand_of
from tests.proxy import Proxy
from tests.servers import Server, until

ME = "here:1:mail,slow"
HAND = f"resque:worker:{ME}"
OWN = f"resque:stat:processed:{ME}"
NOW = "2026-11-23T16:01:09Z"
LATER = "2026-11-23T16:01:10Z"

FIRST = b'{"class":"A","args":["\xc3\xa9"]}'
SECOND = b'{"class":"B","args":[]}'
POISON = b'\xff\x00"},not JSON\r\n'

#: What the server answers to a take that gives FIRST: cut after any of these bytes.
REPLY = b"*3\r\n:0\r\n:1\r\n$28\r\n" + FIRST + b"\r\n"


def registered(redis: Redis, store: Store) -> Taker:
    """A taker whose worker is registered."""
    redis.sadd("resque:workers", ME)
    return store.taker(ME)


@pytest.fixture
def taker(store: Store, redis: Redis) -> Iterator[Taker]:
    # Known beforehand: an EVALSHA that is cut is one that takes.
    redis.script_load(scripts.source("take"))
    redis.script_load(scripts.source("record_popped"))
    taker = registered(redis, store)
    taker.look_at(["mail", "slow"])
    yield taker
    taker.close()


def fill(redis: Redis, *payloads: bytes, queue: str = "mail") -> None:
    redis.rpush(f"resque:queue:{queue}", *payloads)


def counts(redis: Redis) -> tuple[int, int]:
    """(processed by all, processed by this worker)."""
    return int(redis.get("resque:stat:processed") or 0), int(redis.get(OWN) or 0)


def patiently(act, *args: object) -> object:
    """What a worker does: call it again until the server has answered."""
    for _ in range(3):
        try:
            return act(*args)
        except ConnectionLost:
            continue
    raise AssertionError("no answer in three tries")


def drain(taker: Taker) -> list[bytes]:
    """Take and finish until all is empty; the payloads in the order they came."""
    taken, finished = [], False
    while (found := patiently(taker.take, finished, NOW)) is not None:
        assert isinstance(found, Taken)
        taken.append(found.payload)
        finished = True
    return taken


def drain_rest(taker: Taker) -> list[bytes]:
    """The same for one that has a job in hand."""
    rest = []
    while (found := taker.take(True, NOW)) is not None:
        rest.append(found.payload)
    return rest


def test_a_take_moves_the_oldest_payload_of_the_first_queue_into_the_hand(taker, redis):
    fill(redis, SECOND, queue="slow")
    fill(redis, FIRST, SECOND)

    taken = taker.take(False, NOW)

    hand = b'{"queue":"mail","run_at":"2026-11-23T16:01:09Z","payload":' + FIRST + b"}"
    assert taken == Taken("mail", FIRST, hand)
    assert redis.get(HAND) == hand
    assert redis.lrange("resque:queue:mail", 0, -1) == [SECOND]
    assert counts(redis) == (0, 0)


def test_a_finish_and_the_next_take_are_one_call(taker, redis, server):
    fill(redis, FIRST, SECOND)
    taker.take(False, NOW)

    with server.monitor() as monitor:
        taken = taker.take(True, LATER)
        assert monitor.names == ["EVALSHA"]

    assert taken is not None
    assert taken.payload == SECOND
    assert redis.get(HAND) == taken.hand
    assert counts(redis) == (1, 1)


def test_an_empty_take_empties_the_hand_of_the_finished_job(taker, redis):
    fill(redis, FIRST)
    taker.take(False, NOW)

    assert taker.take(True, NOW) is None

    assert redis.get(HAND) is None
    assert counts(redis) == (1, 1)


def test_payload_bytes_are_untouched_whatever_they_are(taker, redis):
    fill(redis, POISON)

    taken = taker.take(False, NOW)

    assert taken.payload == POISON
    assert redis.get(HAND) == taken.hand
    assert open_hand(taken.hand) == taken


@pytest.mark.parametrize("name", ['a"b', "a\\b", "é", "a\nb", "b\udcff", 'x","payload":1', "q:1"])
def test_any_name_of_a_queue_stands_in_the_hand_and_is_read_back(taker, redis, name):
    taker.look_at([name])
    redis.rpush(b"resque:queue:" + name.encode("utf-8", "surrogateescape"), FIRST)

    taken = taker.take(False, NOW)

    assert taken.queue == name
    assert redis.get(HAND) == taken.hand == hand_of(name, NOW, FIRST)
    assert open_hand(redis.get(HAND)) == taken


def test_bytes_that_are_no_hand_are_an_error_that_shows_them():
    with pytest.raises(ValueError, match="garbage.* is no job in a worker's hand"):
        open_hand(b"garbage")


@pytest.mark.parametrize("word", ["true", " TRUE ", "True\n"])
def test_a_pause_counts_the_finished_job_and_takes_nothing(taker, redis, word):
    fill(redis, FIRST, SECOND)
    taker.take(False, NOW)
    redis.set("resque:pause-all-workers", word)

    assert taker.take(True, NOW) is None

    assert taker.paused
    assert redis.get(HAND) is None
    assert counts(redis) == (1, 1)
    assert redis.llen("resque:queue:mail") == 1


@pytest.mark.parametrize("word", ["false", "", "truest", "untrue"])
def test_no_other_word_pauses(taker, redis, word):
    fill(redis, FIRST)
    redis.set("resque:pause-all-workers", word)

    assert taker.take(False, NOW) is not None
    assert not taker.paused


# A lost reply


@pytest.mark.parametrize("passed", range(len(REPLY)))
def test_a_first_take_whose_reply_is_cut_after_any_byte_is_neither_lost_nor_done_twice(
    taker, proxy, redis, passed
):
    fill(redis, FIRST, SECOND)
    proxy.lose_reply(b"EVALSHA", passed)

    with pytest.raises(ConnectionLost):
        taker.take(False, NOW)
    assert redis.llen("resque:queue:mail") == 1
    taken = taker.take(False, LATER)

    assert proxy.cuts == 1
    assert taken == Taken("mail", FIRST, hand_of("mail", NOW, FIRST))
    assert redis.get(HAND) == taken.hand
    assert taker.take(True, LATER).payload == SECOND
    assert counts(redis) == (1, 1)


@pytest.mark.parametrize("passed", [0, 1, 9, 20])
def test_a_finish_and_take_whose_reply_is_lost_is_done_once(taker, proxy, redis, passed):
    fill(redis, FIRST, SECOND, POISON)
    taker.take(False, NOW)
    proxy.lose_reply(b"EVALSHA", passed)

    with pytest.raises(ConnectionLost):
        taker.take(True, NOW)
    assert counts(redis) == (1, 1)
    taken = taker.take(True, LATER)

    assert taken.payload == SECOND
    assert counts(redis) == (1, 1)
    assert taker.take(True, LATER).payload == POISON
    assert counts(redis) == (2, 2)


def test_a_finish_and_take_that_found_nothing_is_not_counted_twice(taker, proxy, redis):
    fill(redis, FIRST)
    taker.take(False, NOW)
    proxy.lose_reply(b"EVALSHA")
    with pytest.raises(ConnectionLost):
        taker.take(True, NOW)

    fill(redis, SECOND)
    taken = taker.take(True, LATER)

    assert taken.payload == SECOND
    assert counts(redis) == (1, 1)


def test_a_finish_whose_reply_is_lost_is_counted_once(taker, proxy, redis):
    fill(redis, FIRST)
    taker.take(False, NOW)
    proxy.lose_reply(b"EVALSHA")

    with pytest.raises(ConnectionLost):
        taker.finish(NOW)
    taker.finish(NOW)

    assert proxy.cuts == 1
    assert redis.get(HAND) is None
    assert counts(redis) == (1, 1)


@pytest.mark.parametrize("finished", [False, True])
def test_a_take_that_never_reached_the_server_is_sent_again(taker, proxy, redis, finished):
    fill(redis, FIRST, SECOND)
    if finished:
        taker.take(False, NOW)
    proxy.lose_request(b"EVALSHA")

    with pytest.raises(ConnectionLost):
        taker.take(finished, NOW)
    taken = taker.take(finished, LATER)

    assert taken == Taken("mail", *((SECOND,) if finished else (FIRST,)), redis.get(HAND))
    assert counts(redis) == (finished, finished)


def test_a_finish_that_never_reached_the_server_is_sent_again(taker, proxy, redis):
    # The first of them leaves a count that the second must not take for its own.
    for payload in (FIRST, SECOND):
        redis.set(HAND, hand_of("mail", NOW, payload))
        proxy.lose_request(b"EVALSHA")

        with pytest.raises(ConnectionLost):
            taker.finish(NOW)
        taker.finish(NOW)

        assert redis.get(HAND) is None
    assert counts(redis) == (2, 2)


def test_a_finish_that_never_reached_the_server_is_not_taken_for_the_last_run_of_the_same_id(
    taker, proxy, redis
):
    # In a container every worker has the same id, and one that was killed leaves its counter.
    redis.set(OWN, 7)
    redis.set(HAND, hand_of("mail", NOW, FIRST))
    proxy.lose_request(b"EVALSHA")

    with pytest.raises(ConnectionLost):
        taker.finish(NOW)
    taker.finish(NOW)

    assert redis.get(HAND) is None
    assert counts(redis) == (1, 8)


def test_a_reply_that_is_lost_again_while_it_is_resolved_is_resolved_by_the_next_call(
    taker, proxy, redis
):
    fill(redis, FIRST, SECOND)
    taker.take(False, NOW)
    proxy.lose_reply(b"EVALSHA")
    proxy.lose_reply(b"EVALSHA", 7)
    proxy.lose_request(b"EVALSHA")

    for _ in range(3):
        with pytest.raises(ConnectionLost):
            taker.take(True, NOW)
    taken = taker.take(True, LATER)

    assert proxy.cuts == 3
    assert taken.payload == SECOND
    assert counts(redis) == (1, 1)


# A call that comes late


def late(taker: Taker, proxy: Proxy, *call: Any) -> None:
    """A call that the server gets when pass_late() says so, and that is not answered."""
    proxy.delay_request(b"EVALSHA")
    with pytest.raises(ConnectionLost):
        taker.take(*call)


@pytest.mark.parametrize("finished", [False, True])
def test_a_take_that_comes_after_it_was_sent_again_does_nothing(taker, proxy, redis, finished):
    """The hand that the second filled was overwritten, and its job lost."""
    fill(redis, FIRST, SECOND, POISON)
    if finished:
        taker.take(False, NOW)
    late(taker, proxy, finished, NOW)
    taken = taker.take(finished, LATER)
    before = (redis.get(HAND), counts(redis), redis.lrange("resque:queue:mail", 0, -1))

    proxy.pass_late()

    assert (redis.get(HAND), counts(redis), redis.lrange("resque:queue:mail", 0, -1)) == before
    assert before[:2] == (taken.hand, (finished, finished))
    assert drain_rest(taker) == ([POISON] if finished else [SECOND, POISON])


@pytest.mark.parametrize("finished", [False, True])
def test_a_take_that_comes_before_it_is_sent_again_is_done_once(taker, proxy, redis, finished):
    fill(redis, FIRST, SECOND)
    if finished:
        taker.take(False, NOW)
    late(taker, proxy, finished, NOW)

    proxy.pass_late()
    taken = taker.take(finished, LATER)

    assert taken.payload == (SECOND if finished else FIRST)
    assert taken.hand == hand_of("mail", NOW, taken.payload) == redis.get(HAND)
    assert counts(redis) == (finished, finished)


def test_a_finish_that_comes_late_leaves_the_hand_of_the_next_job_alone(taker, proxy, redis):
    fill(redis, FIRST, SECOND)
    taker.take(False, NOW)
    proxy.delay_request(b"EVALSHA")
    with pytest.raises(ConnectionLost):
        taker.finish(NOW)
    taker.finish(NOW)
    taken = taker.take(False, LATER)

    proxy.pass_late()

    assert redis.get(HAND) == taken.hand
    assert counts(redis) == (1, 1)


def test_what_a_late_take_brings_to_an_idle_taker_is_its_next_job(taker, proxy, redis):
    late(taker, proxy, False, NOW)
    assert taker.take(False, NOW) is None
    fill(redis, FIRST, SECOND)

    proxy.pass_late()

    assert redis.get(HAND) == hand_of("mail", NOW, FIRST)
    assert drain(taker) == [FIRST, SECOND]
    assert counts(redis) == (2, 2)


def test_a_take_that_comes_after_its_taker_was_unregistered_takes_nothing(
    store, taker, proxy, redis
):
    store.workers.register(ME, "1763913669")
    fill(redis, FIRST)
    late(taker, proxy, False, NOW)
    store.workers.unregister(ME)

    proxy.pass_late()

    assert redis.lrange("resque:queue:mail", 0, -1) == [FIRST]
    assert redis.get(HAND) is None


def test_whoever_takes_again_without_a_word_on_the_last_job_gets_the_next(taker, redis):
    """As pyres 1.5's reserve() did."""
    fill(redis, FIRST, SECOND)
    assert taker.take(False, NOW).payload == FIRST
    assert taker.take(False, NOW).payload == SECOND
    assert taker.take(False, NOW) is None
    assert taker.take(False, NOW) is None
    fill(redis, POISON)

    assert taker.take(False, NOW).payload == POISON
    assert counts(redis) == (0, 0)


def test_a_counter_that_somebody_else_has_changed_stops_nobody(taker, redis):
    fill(redis, FIRST, SECOND, POISON)
    taker.take(False, NOW)

    redis.incr(OWN)
    assert taker.take(True, NOW).payload == SECOND
    assert counts(redis) == (1, 2)
    redis.delete(OWN)

    assert taker.take(True, NOW).payload == POISON
    assert counts(redis) == (2, 1)


#: In a take by one who says that his hand is empty, and in no other.
EMPTY_HAND = b"$1\r\n0\r\n$20\r\n"


@pytest.mark.parametrize("stops", [False, True])
def test_a_take_lost_while_a_lost_finish_is_made_up_for_keeps_its_job(taker, proxy, redis, stops):
    """It was counted as the finished one, and the next was put over it."""
    fill(redis, FIRST)
    taker.take(False, NOW)
    proxy.lose_reply(b"EVALSHA")
    with pytest.raises(ConnectionLost):
        taker.take(True, NOW)
    fill(redis, SECOND, POISON)
    proxy.lose_reply(EMPTY_HAND)
    with pytest.raises(ConnectionLost):
        taker.take(True, NOW)
    assert redis.get(HAND) == hand_of("mail", NOW, SECOND)

    if stops:
        taker.finish(LATER)
        assert taker.lay_back(LATER).payload == SECOND
    else:
        assert taker.take(True, LATER).payload == SECOND

    assert proxy.cuts == 2
    assert counts(redis) == (1, 1)
    assert redis.lrange("resque:queue:mail", 0, -1) == ([SECOND] if stops else []) + [POISON]


def test_equal_jobs_in_the_same_second_are_told_apart(taker, proxy, redis):
    fill(redis, SECOND, SECOND, SECOND)
    taker.take(False, NOW)
    proxy.lose_reply(b"EVALSHA")
    with pytest.raises(ConnectionLost):
        taker.take(True, NOW)

    rest = [patiently(taker.take, True, NOW), patiently(taker.take, True, NOW)]

    assert [taken.payload for taken in rest] == [SECOND, SECOND]
    assert taker.take(True, NOW) is None
    assert counts(redis) == (3, 3)


def test_one_that_was_thought_dead_does_not_lose_the_job_that_it_took_after_it(taker, proxy, redis):
    fill(redis, FIRST, SECOND, FIRST, POISON)
    taker.take(False, NOW)
    taker.take(True, NOW)
    taker.take(True, NOW)
    # Somebody prunes it: its hand and its counter go.
    redis.delete(HAND, OWN)
    proxy.lose_reply(b"EVALSHA")

    with pytest.raises(ConnectionLost):
        taker.take(True, NOW)
    taken = taker.take(True, LATER)

    assert taken.payload == POISON
    assert redis.get(HAND) == taken.hand


def test_every_job_comes_once_though_the_connection_is_cut_again_and_again(taker, proxy, redis):
    payloads = [b'{"class":"N","args":[%d]}' % number for number in range(60)]
    fill(redis, *payloads)
    taken, finished = [], False

    for number in range(61):
        for _ in range(number % 3):
            if number % 2:
                proxy.lose_reply(b"EVALSHA", number % 7)
            else:
                proxy.lose_request(b"EVALSHA")
        found = None
        for _ in range(4):
            try:
                found = taker.take(finished, NOW)
                break
            except ConnectionLost:
                continue
        finished = True
        taken.append(found and found.payload)

    assert taken == [*payloads, None]
    assert proxy.cuts > 20
    assert counts(redis) == (60, 60)
    assert redis.get(HAND) is None


# A worker that stops while it is in doubt


def test_a_finish_after_a_lost_finish_and_take_keeps_the_job_that_came_with_it(taker, proxy, redis):
    fill(redis, FIRST, SECOND)
    taker.take(False, NOW)
    proxy.lose_reply(b"EVALSHA")
    with pytest.raises(ConnectionLost):
        taker.take(True, NOW)

    taker.finish(NOW)
    taken = taker.take(False, NOW)

    assert taken.payload == SECOND
    assert redis.get(HAND) == taken.hand
    assert counts(redis) == (1, 1)


@pytest.mark.parametrize("finished", [False, True])
def test_one_that_stops_lays_back_what_a_lost_reply_gave_it(taker, proxy, redis, finished):
    fill(redis, FIRST, SECOND)
    if finished:
        taker.take(False, NOW)
    else:
        redis.lpop("resque:queue:mail")
    proxy.lose_reply(b"EVALSHA")
    with pytest.raises(ConnectionLost):
        taker.take(finished, NOW)
    if finished:
        taker.finish(NOW)

    laid = taker.lay_back(NOW)

    assert laid is not None
    assert laid.payload == SECOND
    assert redis.lrange("resque:queue:mail", 0, -1) == [SECOND]
    assert redis.smembers("resque:queues") == {b"mail"}
    assert redis.get(HAND) is None
    assert counts(redis) == (finished, finished)
    assert taker.lay_back(NOW) is None
    assert redis.llen("resque:queue:mail") == 1


def test_laying_back_is_done_once_though_its_reply_is_lost(taker, proxy, redis):
    fill(redis, FIRST)
    proxy.lose_reply(b"EVALSHA")
    with pytest.raises(ConnectionLost):
        taker.take(False, NOW)
    until(lambda: redis.get(HAND))
    redis.script_load(scripts.source("put_back"))
    proxy.lose_reply(b"resque:queue:mail")

    with pytest.raises(ConnectionLost):
        taker.lay_back(NOW)
    taker.lay_back(NOW)

    assert redis.lrange("resque:queue:mail", 0, -1) == [FIRST]
    assert redis.get(HAND) is None


# BLPOP


def popped(taker: Taker) -> Taken | None:
    until(taker.answered)
    return taker.end_pop(NOW)


def test_a_pop_puts_what_comes_into_the_hand(taker, redis):
    taker.take(False, NOW)
    taker.start_pop(60)
    fill(redis, POISON, queue="slow")

    taken = popped(taker)

    assert taken == Taken("slow", POISON, hand_of("slow", NOW, POISON))
    assert redis.get(HAND) == taken.hand


def test_a_pop_that_is_unblocked_gives_nothing_and_leaves_the_connection_in_order(taker, redis):
    taker.start_pop(60)
    until(lambda: redis.info("clients")["blocked_clients"] == 1)

    taker.unblock()

    assert popped(taker) is None
    fill(redis, FIRST)
    assert taker.take(False, NOW).payload == FIRST


def test_a_pop_of_a_queue_whose_name_is_no_unicode_is_known_by_its_name(taker, redis):
    taker.look_at(["b\udcff"])
    redis.rpush(b"resque:queue:b\xff", FIRST)
    taker.start_pop(5)

    assert popped(taker).queue == "b\udcff"


@pytest.mark.parametrize("how", ["lose_reply", "lose_request"])
def test_what_a_pop_gave_is_kept_until_it_stands_in_the_hand(taker, proxy, redis, how):
    fill(redis, FIRST, SECOND)
    taker.start_pop(5)
    getattr(proxy, how)(b"EVALSHA")

    with pytest.raises(ConnectionLost):
        popped(taker)
    taken = taker.take(False, LATER)

    assert taken.payload == FIRST
    assert redis.get(HAND) == taken.hand
    assert redis.lrange("resque:queue:mail", 0, -1) == [SECOND]


@pytest.mark.parametrize("how", ["lose_reply", "lose_request"])
def test_another_pop_gives_first_what_the_last_one_could_not_put_into_the_hand(
    taker, proxy, redis, how
):
    """The server died between the two, and whoever waits patiently begins to wait anew."""
    fill(redis, FIRST, SECOND)
    taker.start_pop(5)
    getattr(proxy, how)(b"EVALSHA")
    with pytest.raises(ConnectionLost):
        popped(taker)

    taker.start_pop(5)
    taken = popped(taker)

    assert taken.payload == FIRST
    assert redis.get(HAND) == taken.hand
    assert redis.lrange("resque:queue:mail", 0, -1) == [SECOND]


@pytest.mark.parametrize("how", ["lose_reply", "lose_request"])
def test_one_that_stops_lays_back_what_a_pop_gave_and_no_hand_holds(taker, proxy, redis, how):
    fill(redis, FIRST, SECOND)
    taker.start_pop(5)
    getattr(proxy, how)(b"EVALSHA")
    with pytest.raises(ConnectionLost):
        popped(taker)

    taker.lay_back(NOW)

    assert redis.lrange("resque:queue:mail", 0, -1) == [FIRST, SECOND]
    assert redis.get(HAND) is None


def sent_with(taker: Taker, server: Server) -> tuple[Taken, list[str]]:
    """What a pop of FIRST gave, and the request that made it the in-flight job."""
    with server.monitor() as monitor:
        taker.start_pop(5)
        taken = popped(taker)
        (request,) = [command.args for command in monitor.commands if command.name == "EVALSHA"]
    return taken, request


@pytest.mark.parametrize("meanwhile", ["finished", "another", "unregistered", "counted"])
def test_a_request_to_record_what_was_popped_does_nothing_when_a_network_brings_it_late(
    taker, redis, server, meanwhile
):
    redis.set(f"{HAND}:started", 1763913669)
    fill(redis, FIRST, queue="slow")
    _, request = sent_with(taker, server)
    taker.finish(NOW)
    if meanwhile == "another":
        fill(redis, SECOND)
        taker.take(False, LATER)
    elif meanwhile == "unregistered":
        redis.delete(OWN, f"{HAND}:started")
    elif meanwhile == "counted":
        fill(redis, SECOND)
        taker.take(False, LATER)
        taker.finish(LATER)
    before = redis.get(HAND)

    redis.execute_command("EVALSHA", *request)

    assert redis.get(HAND) == before


def test_what_was_popped_waits_for_a_job_that_is_found_in_flight(taker, redis):
    """Whatever put it there, neither of the two jobs is lost, and each is given once."""
    taker.take(False, NOW)
    redis.set(HAND, hand_of("mail", NOW, SECOND))
    fill(redis, FIRST)
    taker.start_pop(5)

    found = popped(taker)
    following = taker.take(True, LATER)

    assert (found.payload, following.payload) == (SECOND, FIRST)
    assert redis.get(HAND) == following.hand
    assert taker.take(True, LATER) is None
    assert redis.get(OWN) == b"2"
    assert redis.get(HAND) is None


@pytest.mark.parametrize("removed", [[OWN], [f"{HAND}:started"], [OWN, f"{HAND}:started"]])
def test_a_finished_job_is_not_given_again_when_somebody_has_removed_its_workers_count(
    taker, proxy, redis, removed
):
    fill(redis, FIRST, SECOND)
    assert taker.take(False, NOW).payload == FIRST
    assert taker.take(True, NOW).payload == SECOND
    proxy.lose_request(b"EVALSHA")
    with pytest.raises(ConnectionLost):
        taker.take(True, LATER)
    redis.delete(*removed)

    assert taker.take(True, LATER) is None

    assert redis.get(HAND) is None
    assert redis.get("resque:stat:processed") == b"2"


# The server's moods


def test_a_server_that_forgot_its_scripts_is_told_again(taker, redis):
    fill(redis, FIRST, SECOND)
    taker.take(False, NOW)
    redis.script_flush()

    assert taker.take(True, NOW).payload == SECOND
    redis.script_flush()
    taker.finish(NOW)

    assert counts(redis) == (2, 2)
    assert redis.get(HAND) is None


def test_a_reply_lost_while_the_script_is_loaded_again_loses_nothing(taker, proxy, redis):
    fill(redis, FIRST, SECOND)
    taker.take(False, NOW)
    redis.script_flush()
    proxy.lose_reply(b"SCRIPT")

    with pytest.raises(ConnectionLost):
        taker.take(True, NOW)

    assert taker.take(True, NOW).payload == SECOND
    assert counts(redis) == (1, 1)


@pytest.mark.parametrize("finished", [False, True])
def test_a_server_out_of_memory_is_drained(own_server, finished):
    redis = own_server.client()
    store = Store(own_server.client())
    taker = registered(redis, store)
    taker.look_at(["mail"])
    fill(redis, FIRST, SECOND)
    if finished:
        taker.take(False, NOW)
    waiting = redis.lrange("resque:queue:mail", 0, -1)
    redis.config_set("maxmemory", 1)

    for payload in waiting:
        assert taker.take(finished, NOW).payload == payload
        finished = True
    assert taker.take(True, NOW) is None

    assert counts(redis) == (2, 2)
    assert redis.get(HAND) is None
    redis.config_set("maxmemory", 0)
    taker.close()


def test_a_queue_of_another_type_stops_no_other_queue(taker, redis):
    taker.look_at(["broken", "mail"])
    redis.set("resque:queue:broken", "no list")
    fill(redis, FIRST, SECOND)

    assert taker.take(False, NOW).payload == FIRST
    assert taker.take(True, NOW).payload == SECOND
    assert taker.take(True, NOW) is None

    assert counts(redis) == (2, 2)
    assert redis.get("resque:queue:broken") == b"no list"


@pytest.mark.parametrize("value", ["", "0.0", "no number", "9223372036854775807", ["a list"]])
@pytest.mark.parametrize("key", ["resque:stat:processed", f"resque:stat:processed:{ME}"])
def test_a_counter_that_is_no_integer_costs_no_job(redis, store, key, value):
    taker = registered(redis, store)
    taker.look_at(["mail"])
    fill(redis, FIRST, SECOND)
    if isinstance(value, list):
        redis.rpush(key, *value)
    else:
        redis.set(key, value)

    taken = [taker.take(False, NOW), taker.take(True, NOW), taker.take(True, NOW)]

    assert [one and one.payload for one in taken] == [FIRST, SECOND, None]
    assert redis.get(HAND) is None
    taker.close()


@pytest.mark.parametrize("key", [HAND, f"{HAND}:started", "resque:pause-all-workers"])
def test_a_key_of_the_worker_of_another_type_costs_no_job(redis, store, key):
    taker = registered(redis, store)
    taker.look_at(["mail"])
    fill(redis, FIRST, SECOND)
    redis.hset(key, "no", "string")

    taken = [taker.take(False, NOW), taker.take(True, NOW), taker.take(True, NOW)]

    assert [one and one.payload for one in taken] == [FIRST, SECOND, None]
    assert counts(redis) == (2, 2)
    taker.close()


def test_a_replica_is_told_from_an_empty_queue(own_server):
    redis, store = own_server.client(), Store(own_server.client())
    taker = registered(redis, store)
    taker.look_at(["mail"])
    redis.execute_command("REPLICAOF", "127.0.0.1", "1")

    with pytest.raises(CannotWriteNow, match="READONLY"):
        taker.take(False, NOW)

    redis.execute_command("REPLICAOF", "NO", "ONE")
    assert taker.take(False, NOW) is None
    taker.close()


def test_a_server_that_restarts_is_connected_to_again():
    with Server(appendonly=True) as server:
        redis = server.client()
        taker = registered(redis, Store(server.client()))
        taker.look_at(["mail"])
        fill(redis, FIRST, SECOND)
        taker.take(False, NOW)
        server.restart()

        taken = patiently(taker.take, True, NOW)

        assert taken.payload == SECOND
        assert counts(redis) == (1, 1)
        taker.close()


def test_closing_gives_the_connection_back(taker, redis):
    taker.take(False, NOW)
    pool = taker.client.connection_pool

    taker.close()

    assert len(pool._in_use_connections) == 0
    until(lambda: len(redis.client_list()) == 1)


def test_the_same_list_of_queues_costs_nothing_and_another_is_looked_at_from_the_next_take(
    taker, redis
):
    fill(redis, FIRST)
    fill(redis, SECOND, queue="slow")

    taker.look_at(["slow"])

    assert drain(taker) == [SECOND]
    assert redis.llen("resque:queue:mail") == 1


@pytest.mark.parametrize("kind", ["Worker", "Minion"])
@pytest.mark.parametrize("finished", [False, True])
def test_a_daemon_that_stops_while_a_reply_is_lost_leaves_no_job_in_a_forgotten_hand(
    proxy, redis, kind, finished
):
    from pyres.horde import Minion
    from pyres.worker import Worker

    daemon = {"Worker": Worker, "Minion": Minion}[kind](["mail"], proxy.dsn)
    hand = f"resque:worker:{daemon}"
    fill(redis, FIRST, SECOND)
    daemon.registry.register()
    daemon._look_at()
    if finished:
        daemon.taker.take(False, NOW)
        daemon._finished = True
    proxy.lose_reply(b"EVALSHA")
    daemon._shutdown = True

    assert daemon._patiently(daemon._take) is None
    assert redis.exists(hand)
    daemon._patiently(daemon._leave)

    assert redis.lrange("resque:queue:mail", 0, -1) == ([SECOND] if finished else [FIRST, SECOND])
    assert not redis.exists(hand)
    assert int(redis.get("resque:stat:processed") or 0) == finished
    daemon.taker.close()
    daemon.resq.close()
