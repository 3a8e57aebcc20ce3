"""Delayed jobs beside keys of another type: none is lost, none is doubled, none hides another."""

from __future__ import annotations

import json

import pytest
from redis import Redis

from pyres import ResQ, failure
from pyres.scheduler import TIMESTAMPS, Scheduler


def delay(resq: ResQ, timestamp: int, queue: str, *args: object) -> None:
    """A job of the class A that is due at a timestamp."""
    item = {"class": "A", "args": list(args), "queue": queue}
    resq.store.delayed.put_off(timestamp, json.dumps(item).encode())


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
    resq.store.delayed.put_off(1000, b"no job")
    delay(resq, 1000, "good", 1)

    promote(resq)

    assert numbers(redis, "resque:queue:good") == [1]
    assert redis.lrange("resque:delayed:1000", 0, -1) == [b"no job"]


def test_more_timestamps_than_are_looked_at_in_one_go_hide_none_behind_them(resq, redis):
    for timestamp in range(1000, 1000 + TIMESTAMPS + 5):
        redis.set(f"resque:delayed:{timestamp}", "not a list")
        redis.zadd("resque:delayed_queue_schedule", {str(timestamp): timestamp})
    delay(resq, 2000, "good", 1)

    promote(resq)

    assert numbers(redis, "resque:queue:good") == [1]


def test_members_of_the_schedule_that_are_no_timestamps_hide_none_behind_them(resq, redis):
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
def test_a_counter_that_is_no_integer_costs_no_failure(resq, redis, broken, value):
    redis.set("resque:stat:failed", value)
    delay(resq, 1000, broken, 1)

    promote(resq)

    assert failure.count(resq) == 1
    assert redis.get("resque:stat:failed") == value.encode()
