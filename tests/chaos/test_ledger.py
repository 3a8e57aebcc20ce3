"""The ledger detects lost and repeated jobs: otherwise a chaos run would prove nothing."""

from __future__ import annotations

import json

import pytest
from redis import Redis

from tests.chaos.jobs import BEGUN, ENDED
from tests.chaos.ledger import Ledger


def trace(redis: Redis, where: str, *numbers: int) -> None:
    """Jobs that have started or ended, each in a run of its own."""
    for number in numbers:
        redis.sadd(where, f"{number} 100 {redis.incr('clock')}")


def fail(redis: Redis, number: int, exception: str) -> None:
    """A job's failure record."""
    record = {
        "failed_at": "2026/11/24 01:00:00 UTC",
        "payload": {"class": "Job", "args": [number, 0]},
        "exception": exception,
        "error": "no",
        "worker": "here:100:basic",
    }
    redis.rpush("resque:failed", json.dumps(record))


def test_a_job_without_an_end_a_record_or_a_place_in_a_queue_is_lost(redis: Redis) -> None:
    trace(redis, BEGUN, 0, 1, 4)
    trace(redis, ENDED, 0)
    fail(redis, 1, "CrashError")
    redis.rpush("resque:queue:basic", '{"class":"Job","args":[2,0]}')

    ledger = Ledger.read(redis, 5, ["basic"])

    assert ledger.lost == [3, 4]
    assert ledger.waiting == {2}
    assert "begun ['4 100 " in ledger.known_of(4)
    assert "by here:100:basic" in ledger.known_of(1)


@pytest.mark.parametrize(
    ("ends", "records", "explained"),
    [
        (1, ["DirtyExitError"], True),
        (1, ["CrashError"], True),
        (1, ["ValueError"], False),
        (2, [], False),
        (2, ["DirtyExitError"], False),
        (0, ["DirtyExitError", "ValueError"], False),
        (1, ["DirtyExitError", "CrashError"], False),
    ],
)
def test_only_one_end_and_one_record_of_a_cut_explain_each_other(
    ends: int, records: list[str], explained: bool, redis: Redis
) -> None:
    trace(redis, ENDED, *[0] * ends)
    for exception in records:
        fail(redis, 0, exception)

    ledger = Ledger.read(redis, 1, ["basic"])

    assert ledger.twice == [0]
    assert ledger.unexplained == ([] if explained else [0])
    assert ledger.lost == []


def test_keys_left_in_redis_after_all_work_is_done_are_named(redis: Redis) -> None:
    redis.sadd("resque:workers", "here:100:basic")
    redis.set("resque:worker:here:100:basic", "{}")
    redis.set("resque:stat:processed", 3)
    trace(redis, ENDED, 0, 1)
    fail(redis, 1, "CrashError")

    ledger = Ledger.read(redis, 2, ["basic"])

    assert ledger.left == ["resque:worker:here:100:basic", "resque:workers"]
    assert ledger.miscounted == {"processed": 1, "failed": -1}
