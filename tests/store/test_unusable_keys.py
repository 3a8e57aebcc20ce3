"""Delayed jobs beside keys of another type: none is lost, none is doubled, none hides another."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from pyres import ResQ, failure
from pyres.failure.everywhere import EveryList
from pyres.inspector import Inspector
from pyres.job import Job
from pyres.registry import save_failure
from pyres.scheduler import TIMESTAMPS, Scheduler

ME = "here:1:mail"


def delay(resq: ResQ, timestamp: int, queue: str, *args: object) -> None:
    """A job of the class A that is due at a timestamp."""
    item = {"class": "A", "args": list(args), "queue": queue}
    resq.store.delayed.delay(timestamp, json.dumps(item).encode())


def numbers(redis: Redis, key: str) -> list[object]:
    """The first argument of each job of a list."""
    return [json.loads(raw)["args"][0] for raw in redis.lrange(key, 0, -1)]


def promote(resq: ResQ) -> None:
    Scheduler(resq).handle_delayed_items()


@pytest.fixture
def broken(redis: Redis) -> str:
    """A queue that another program keeps as a sorted set."""
    redis.zadd("resque:queue:broken", {"x": 1})
    return "broken"


def test_a_job_whose_queue_is_not_a_list_becomes_a_failure(resq, redis, broken, caplog):
    for number, queue in enumerate(["good", broken, "good", broken, "good"]):
        delay(resq, 1000, queue, number)

    promote(resq)

    assert numbers(redis, "resque:queue:good") == [0, 2, 4]
    records = failure.all(resq, 0, -1)
    assert [record["payload"]["args"] for record in records] == [[1], [3]]
    assert {record["exception"] for record in records} == {"JobError"}
    assert "queue:broken is not a list" in records[0]["error"]
    assert records[0]["queue"] == broken
    assert caplog.text.count("queue:broken") == 1
    assert resq.delayed_queue_schedule_size() == 0
    assert redis.zrange("resque:queue:broken", 0, -1) == [b"x"]


def test_where_no_failure_can_be_recorded_either_the_job_waits_and_hides_none(resq, redis, broken):
    redis.set("resque:failed", "not a list")
    for number, queue in enumerate([broken, "good", broken, "good"]):
        delay(resq, 1000, queue, number)
    delay(resq, 1001, "good", 4)

    promote(resq)

    assert numbers(redis, "resque:queue:good") == [1, 3, 4]
    assert numbers(redis, "resque:delayed:1000") == [0, 2]
    redis.delete("resque:failed", "resque:queue:broken")
    promote(resq)
    assert numbers(redis, "resque:queue:broken") == [0, 2]
    assert resq.delayed_queue_schedule_size() == 0


def test_a_malformed_job_that_cannot_be_recorded_waits_and_hides_none(resq, redis):
    redis.set("resque:failed", "not a list")
    resq.store.delayed.delay(1000, b"no job")
    delay(resq, 1000, "good", 1)

    promote(resq)

    assert numbers(redis, "resque:queue:good") == [1]
    assert redis.lrange("resque:delayed:1000", 0, -1) == [b"no job"]


def test_more_timestamps_than_are_read_in_one_step_hide_none_behind_them(resq, redis):
    for timestamp in range(1000, 1000 + TIMESTAMPS + 5):
        redis.set(f"resque:delayed:{timestamp}", "not a list")
        redis.zadd("resque:delayed_queue_schedule", {str(timestamp): timestamp})
    delay(resq, 2000, "good", 1)

    promote(resq)

    assert numbers(redis, "resque:queue:good") == [1]


def test_invalid_members_of_the_schedule_hide_none_behind_them(resq, redis):
    members = {f"no timestamp {number}": number for number in range(3 * TIMESTAMPS)}
    redis.zadd("resque:delayed_queue_schedule", members)
    delay(resq, 1000, "good", 1)

    promote(resq)

    assert numbers(redis, "resque:queue:good") == [1]


def test_more_jobs_than_a_batch_that_have_to_wait_hide_none_behind_them(resq, redis, broken):
    redis.set("resque:failed", "not a list")
    for number in range(30):
        delay(resq, 1000, broken, number)
    delay(resq, 1000, "good", "behind")

    promote(resq)

    assert numbers(redis, "resque:queue:good") == ["behind"]
    assert numbers(redis, "resque:delayed:1000") == list(range(30))


@pytest.mark.parametrize("value", ["", "no number", "9223372036854775807"])
def test_a_counter_that_is_not_an_integer_costs_no_failure(resq, redis, broken, value):
    redis.set("resque:stat:failed", value)
    delay(resq, 1000, broken, 1)

    promote(resq)

    assert failure.count(resq) == 1
    assert redis.get("resque:stat:failed") == value.encode()


# What ends a job


def in_flight(resq: ResQ, number: int) -> Job:
    raw = json.dumps({"class": "A", "args": [number]}).encode()
    record = resq.store.mark_in_flight(ME, "mail", "2026-11-23T16:01:09Z", raw)
    return Job.read("mail", raw, resq, ME, record)


def wrong(redis: Redis, key: str, value: str | None = None) -> None:
    """Another program's value at a key."""
    redis.delete(key)
    if value is None:
        redis.hset(key, "a", "hash")
    else:
        redis.set(key, value)


def failed_numbers(resq: ResQ) -> list[object]:
    return [record["payload"]["args"][0] for record in EveryList.all(resq, 0, -1)]


@pytest.mark.parametrize("value", [None, "", "0.0", "9223372036854775807"])
@pytest.mark.parametrize("counter", ["failed", f"failed:{ME}", "processed"])
def test_a_counter_that_cannot_be_incremented_costs_no_failure(resq, redis, counter, value):
    wrong(redis, f"resque:stat:{counter}", value)
    job = in_flight(resq, 1)

    assert job.record_outcome(lambda batch: save_failure(job, ValueError("no"), batch))

    assert failed_numbers(resq) == [1]
    assert not redis.exists(f"resque:worker:{ME}")


@pytest.mark.parametrize("also", [[], ["resque:failed_queues"], ["resque:pyres:failed"]])
def test_a_failure_that_finds_no_list_is_kept_in_another(resq, redis, also):
    for key in ["resque:failed", *also]:
        wrong(redis, key)
    job = in_flight(resq, 1)

    assert job.record_outcome(lambda batch: save_failure(job, ValueError("no"), batch))

    lists = [key for key in redis.scan_iter() if redis.type(key) == b"list"]
    assert [redis.llen(key) for key in lists] == [1]
    if "resque:failed_queues" not in also:
        assert failed_numbers(resq) == [1]
    assert not redis.exists(f"resque:worker:{ME}")


def test_a_failure_of_a_queues_own_list_is_kept_in_another_too(resq, redis):
    wrong(redis, "resque:mail_failed")

    resq.store.failed.push_for_queue("mail", b'{"payload":{"class":"A","args":[7]}}')

    assert failed_numbers(resq) == [7]


@pytest.mark.parametrize("value", [None, "list"])
def test_a_job_whose_in_flight_record_was_overwritten_by_another_type_becomes_a_failure(
    resq, redis, value
):
    job = in_flight(resq, 1)
    redis.delete(f"resque:worker:{ME}")
    if value:
        redis.rpush(f"resque:worker:{ME}", value)
    else:
        wrong(redis, f"resque:worker:{ME}")

    assert job.record_outcome(lambda batch: save_failure(job, ValueError("no"), batch))

    assert failed_numbers(resq) == [1]


def test_a_retry_that_cannot_be_delayed_leaves_the_job_in_flight(resq, redis):
    wrong(redis, "resque:delayed_queue_schedule")
    job = in_flight(resq, 1)
    before = everything(redis)

    with pytest.raises(ResponseError, match=r"resque:delayed_queue_schedule is a hash: expected"):
        job.record_outcome(lambda batch: batch.delayed_push(MOMENT, {"class": "A", "args": [1]}))

    assert everything(redis) == before


# What an application calls


def everything(redis: Redis) -> dict[bytes, bytes]:
    return {key: redis.dump(key) for key in redis.scan_iter()}


def pipelined(resq: ResQ, atomic: bool) -> None:
    with resq.pipeline(atomic) as batch:
        batch.enqueue_from_string("A", "good", 1)
        batch.enqueue_from_string("A", "broken", 2)


CALLS = {
    "enqueue": lambda resq: resq.enqueue_from_string("A", "broken", 1),
    "push": lambda resq: resq.push("broken", {"class": "A", "args": []}),
    "many": lambda resq: resq.enqueue_many([(Good, 1), (Broken, 2)]),
    "pipeline": lambda resq: pipelined(resq, False),
    "atomic pipeline": lambda resq: pipelined(resq, True),
    "later": lambda resq: resq.enqueue_at_from_string(MOMENT, "A", "good", 1),
    "unique": lambda resq: resq.enqueue(Unique, 1),
}


class Good:
    queue = "good"

    @staticmethod
    def perform(number: int) -> None: ...


class Broken(Good):
    queue = "broken"


class Unique(Broken):
    unique_for = 60


MOMENT = datetime.fromtimestamp(2000000000)

WRONG_KEYS = ["resque:queue:broken", "resque:queues", "resque:delayed_queue_schedule"]


@pytest.mark.parametrize("key", WRONG_KEYS)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_raises_has_stored_nothing(resq, redis, call, key):
    wrong(redis, key)
    before = everything(redis)

    try:
        CALLS[call](resq)
    except ResponseError as error:
        assert key in str(error)
        assert everything(redis) == before
    else:
        # It does not touch this key.
        assert key.endswith("schedule") != (call == "later")


def test_a_delayed_job_that_cannot_be_moved_stops_no_other(resq, redis, broken, caplog):
    for number, queue in enumerate(["good", broken, "good", broken, "good"]):
        delay(resq, 2000000000, queue, number)

    assert resq.promote_delayed(2000000000) == 3

    assert numbers(redis, "resque:queue:good") == [0, 2, 4]
    assert numbers(redis, "resque:delayed:2000000000") == [1, 3]
    assert caplog.text.count("queue:broken") == 1


def test_one_delayed_job_that_cannot_be_moved_is_an_error_and_stays(resq, redis, broken):
    delay(resq, 2000000000, broken, 1)
    (raw,) = redis.lrange("resque:delayed:2000000000", 0, -1)

    with pytest.raises(ResponseError, match="queue:broken is a zset: expected a list"):
        resq.promote_job(2000000000, raw)

    assert redis.lrange("resque:delayed:2000000000", 0, -1) == [raw]


# Reads

LOOKS = {
    "queues": lambda view: view.queues(oldest=True),
    "a queue": lambda view: view.queue_page("mail", 0, 10),
    "workers": lambda view: view.workers(),
    "working": lambda view: view.working(),
    "khans": lambda view: view.khans(),
    "failures": lambda view: view.failures_page(10),
    "kinds": lambda view: view.failure_kinds(),
    "timestamps": lambda view: view.delayed_page(0, 10),
    "a timestamp": lambda view: view.delayed_jobs(1000, 0, 10),
    "schedule": lambda view: view.schedule(),
    "stats": lambda view: view.stats(),
    "info": lambda view: view.resq.info(),
    "delayed": lambda view: view.resq.delayed_at("A", 1),
    "size": lambda view: view.resq.delayed_queue_schedule_size(),
}


def fill(resq: ResQ, redis: Redis) -> None:
    """Each table with something in it."""
    resq.enqueue_from_string("A", "mail", 1)
    resq.store.workers.register(ME, "1")
    resq.store.workers.beat([ME])
    resq.store.workers.register_khan("here:2:3")
    in_flight(resq, 1)
    resq.store.failed.push(b'{"payload":{"class":"A","args":[1]}}')
    resq.store.failed.push_for_queue("mail", b'{"payload":{"class":"A","args":[1]}}')
    delay(resq, 1000, "mail", 1)
    resq.set_schedule("e", {"every": "1h", "class": "A", "queue": "mail"})
    redis.hset("resque:delayed:last_enqueued_at", "e", "2026-11-23 16:03:45 +0000")
    redis.hset("resque:pyres:schedule_fired", "e", 1)
    redis.hset("resque:pyres:schedule", "e", "{}")
    for counter in ("processed", "failed", f"processed:{ME}", f"failed:{ME}"):
        redis.set(f"resque:stat:{counter}", 1)


@pytest.mark.parametrize("look", LOOKS)
def test_no_key_of_the_wrong_type_or_value_stops_a_read(resq, redis, look):
    fill(resq, redis)
    for key in [key.decode() for key in redis.scan_iter()]:
        kept = redis.dump(key)
        for value in ("no value", None):
            wrong(redis, key, value)
            LOOKS[look](Inspector(resq))
        redis.delete(key)
        redis.restore(key, 0, kept)
