"""Jobs are equal when their JSON is: those that a call means, and unique ones."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from pyres import ResQ, json_equality
from pyres.exceptions import UnencodableError
from tests.servers import keyspace

#: Each line: arguments that are equal in JSON, none to those of another line.
DIFFERENT = [
    [b"[1]", b"[ 1 ]"],
    [b"[true]"],
    [b"[1.0]", b"[1e0]", b"[1.00]"],
    [b"[0]"],
    [b"[false]"],
    [b"[0.0]", b"[-0.0]"],
    [b'["1"]', rb'["\u0031"]'],
    [b"[null]"],
    [b"[[]]"],
    [b"[{}]"],
    [b'[["x",{"k":[1]}]]'],
    [b"[]", b"null"],
    [b'[{"a":1,"b":[true]}]', b'[{"b":[true],"a":1}]'],
    [b'[{"a":1,"b":[1]}]'],
    [b"[9007199254740992]"],
    [b"[9007199254740993]"],
    [b"[1000000000000000.0]", b"[1.0e+15]", b"[1e15]"],
    [b"[1000000000000000]"],
    [rb'["cut \ud83d"]', rb'["cut \uD83D"]'],
    [rb'["cut \ud83e"]'],
    [b'["cut ?"]'],
    [rb'["\ud83d\ude00"]', '["\U0001f600"]'.encode()],
    [b'["cut \xef\xbf\xbd"]'],
    [b'["@D:2026-01-01T00:00:00"]'],
    [b'["@D:@D:2026-01-01T00:00:00"]'],
    [b'["@D:2026-01-01T12:00:00+00:00"]'],
    [b'["@D:2026-01-01T13:00:00+01:00"]'],
]
TEXTS = [text for same in DIFFERENT for text in same]

#: Python's result for some of them.
SAID = [
    ([1], b"[1]"),
    ([True], b"[true]"),
    ([1.0], b"[1.0]"),
    ([-0.0], b"[0.0]"),
    ([("x", {"k": (1,)})], b'[["x",{"k":[1]}]]'),
    ([{"a": 1, "b": [True]}], b'[{"b":[true],"a":1}]'),
    (["cut \ud83d"], rb'["cut \ud83d"]'),
    ([1e15], b"[1000000000000000.0]"),
    ([datetime(2026, 1, 1)], b'["@D:2026-01-01T00:00:00"]'),
    (["@D:2026-01-01T00:00:00"], b'["@D:@D:2026-01-01T00:00:00"]'),
    ([datetime(2026, 1, 1, 12, tzinfo=UTC)], b'["@D:2026-01-01T12:00:00+00:00"]'),
    (
        [datetime(2026, 1, 1, 13, tzinfo=timezone(timedelta(hours=1)))],
        b'["@D:2026-01-01T13:00:00+01:00"]',
    ),
]

FAR = 4_000_000_000


def job(args, more=b"", name=b"P"):
    return b'{"class":"%b","args":%b%b}' % (name, args, more)


def by_javascript(args, name=b"P"):
    return b'{"class":"%b","queue":"q","args":%b}' % (name, args)


def equal_to(text):
    return next(same for same in DIFFERENT if text in same)


@pytest.fixture
def resq(dsn):
    resq = ResQ(dsn)
    yield resq
    resq.close()


@pytest.mark.parametrize(("args", "text"), SAID)
def test_a_call_finds_the_jobs_that_are_equal_in_json_and_no_others(resq, redis, args, text):
    redis.rpush("resque:queue:q", *map(job, TEXTS))
    removed = resq.dequeue_from("q", "P", *args)

    assert removed == len(equal_to(text))
    left = redis.lrange("resque:queue:q", 0, -1)
    assert left == [job(other) for other in TEXTS if other not in equal_to(text)]


@pytest.mark.parametrize(("args", "text"), SAID)
@pytest.mark.parametrize("call", ["remove_delayed_in_queue", "enqueue_delayed_now", "delayed_at"])
def test_it_finds_the_same_delayed_jobs(resq, redis, args, text, call):
    for number, other in enumerate(TEXTS):
        redis.rpush(f"resque:delayed:{FAR + number}", job(other, b',"queue":"q"'))
        redis.zadd("resque:delayed_queue_schedule", {str(FAR + number): FAR + number})
    found = {FAR + number for number, other in enumerate(TEXTS) if other in equal_to(text)}
    queue = ["q"] if call == "remove_delayed_in_queue" else []

    number = getattr(resq, call)("P", *queue, *args)

    if call == "delayed_at":
        assert set(number) == found
    else:
        assert number == len(found)
        assert set(resq.delayed_queue_peek(0, 100)).isdisjoint(found)
        assert resq.delayed_queue_schedule_size() == len(TEXTS) - len(found)


@pytest.mark.parametrize("text", [b"[1]", b"[1.0]", b"[true]", b"[1e3]", b'[{"a":[2]}]'])
@pytest.mark.parametrize("number", [1, 1.0, True, 1000, 1000.0, {"a": [2.0]}])
def test_whole_numbers_that_javascript_wrote_are_ints_and_floats(text, number):
    is_job = json_equality.job_filter("P", [number])
    (value,) = json.loads(text)

    same_kind = isinstance(number, bool) == isinstance(value, bool)
    assert is_job(by_javascript(text)) == (number == value and same_kind)
    exact = same_kind and json.dumps(number) == json.dumps(value)
    assert is_job(job(text)) == exact


def test_equal_arguments_have_one_digest_and_different_ones_have_others():
    digests = [
        {json_equality.digest("P", json.loads(text) or []) for text in same} for same in DIFFERENT
    ]

    assert all(len(same) == 1 for same in digests)
    assert len(set.union(*digests)) == len(DIFFERENT)


def test_a_number_beyond_floats_has_a_digest_if_a_payload_can_have_it():
    assert json_equality.digest("P", [float("inf")]) != json_equality.digest("P", [1e300])
    with pytest.raises(UnencodableError):
        json_equality.digest("P", [object()])


def test_a_unique_job_with_half_a_surrogate_pair_is_performed_and_removed(resq, redis):
    from tests.store.test_unique import UntilDone  # noqa: PLC0415

    name = f"{UntilDone.__module__}.UntilDone".encode()
    redis.rpush("resque:queue:once", *[job(rb'["\ud83d"]', name=name)] * 2)

    assert resq.delete_job("once", job(rb'["\ud83d"]', name=name)) == 1
    assert resq.dequeue(UntilDone, "\ud83d") == 1


def delay(redis, raw, at=FAR):
    """As pyres 1.5 and php-resque do."""
    redis.rpush(f"resque:delayed:{at}", raw)
    redis.zadd("resque:delayed_queue_schedule", {str(at): at})


class Job:
    queue = "k"

    @staticmethod
    def perform(*args): ...


NAME = f"{__name__}.Job".encode()


def test_a_job_without_its_set_is_removed_beside_one_that_has_it(resq, redis):
    delay(redis, job(b"[7]", b',"queue":"k"', NAME))
    resq.enqueue_in(50, Job, 7)

    assert resq.delay_or_enqueue_in(60, Job, 7) == 2
    assert resq.remove_delayed(Job, 7) == 2
    assert resq.remove_delayed(Job, 7) == 0
    assert not [key for key in keyspace(redis) if "delayed" in key or "timestamps" in key]


def test_a_set_that_names_a_removed_timestamp_hides_no_job(resq, redis, many):
    redis.sadd(b"resque:timestamps:" + job(b"[7]", b',"queue":"k"', NAME), f"delayed:{FAR - 1}")
    delay(redis, job(b"[7]", b',"queue":"k"', NAME))

    assert resq.remove_delayed(Job, 7) == 1


@pytest.fixture
def many(redis):
    """More delayed jobs than a call walks over once it has found the job."""
    delay(redis, b"x", FAR + 1)
    redis.rpush(f"resque:delayed:{FAR + 1}", *[b"x"] * 3000)


@pytest.mark.parametrize("call", ["remove_delayed", "enqueue_delayed_now"])
def test_among_many_a_job_is_found_by_its_set_without_a_walk(resq, redis, server, many, call):
    resq.enqueue_in(50, Job, 7, {"b": 1, "a": 2})
    with server.monitor() as monitor:
        assert getattr(resq, call)(Job, 7, {"b": 1, "a": 2}) == 1

        read = [command.args for command in monitor.inside_lua if command.name == "LRANGE"]
        assert not [args for args in read if str(FAR + 1) in str(args[0])]


def test_among_many_a_job_of_node_is_found_by_its_set(resq, redis, many):
    raw = b'{"class":"%b","queue":"k","args":[7]}' % NAME
    delay(redis, raw)
    redis.sadd(b"resque:timestamps:" + raw, f"delayed:{FAR}")

    assert resq.remove_delayed(Job, 7) == 1
