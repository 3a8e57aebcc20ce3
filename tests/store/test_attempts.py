"""Retries end, also where another scheduler promotes them and keeps only class and arguments."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyres.job import Job
from pyres.registry import Registry
from pyres.scheduler import Scheduler
from pyres.worker import Worker
from tests.servers import keyspace

pytestmark = pytest.mark.usefixtures("clock")
DAY = 86_400


class Failing:
    """Counts its attempts and fails, but for those that are to succeed."""

    queue = "tried"
    attempts: list[Any] = []
    succeeds = 0

    @classmethod
    def perform(cls, *args):
        cls.attempts.append(list(args))
        if len(cls.attempts) != cls.succeeds:
            raise ValueError("not yet")


class Limited(Failing):
    retry_limit = 2
    retry_delay = 1


class BackedOff(Failing):
    backoff_strategy = (1, 2)


class Every(Failing):
    retry_every = 1
    retry_timeout = 4


class EmptyError(ValueError):
    """A container too, and therefore false."""

    def __len__(self):
        return 0


class UndecidedError(ValueError):
    def __bool__(self):
        raise TypeError("neither true nor false")


class MuteError(ValueError):
    def __str__(self):
        raise SystemExit


class Picky(Failing):
    retry_exceptions = ValueError
    retry_limit = 1
    error = ValueError

    @classmethod
    def perform(cls, *args):
        cls.attempts.append(list(args))
        raise cls.error("no")


KINDS = [(Limited, 3), (BackedOff, 3), (Every, 4)]


@pytest.fixture(autouse=True)
def counted():
    Failing.attempts = []
    Failing.succeeds = 0


def by_pyres(resq):
    Scheduler(resq).handle_delayed_items()


def by_ruby(resq):
    """All that is due, with class and args alone, as resque-scheduler pushes it."""
    for _raw, item in _to_fetched(resq):
        resq.redis.rpush(
            "resque:queue:tried", _json({"class": item["class"], "args": item["args"]})
        )


def by_node(resq):
    """As node-resque pushes it: in its order, and with JavaScript's only kind of number."""
    for _raw, item in _to_fetched(resq):
        args = [int(arg) if arg == 1 else arg for arg in item["args"]]
        pushed = {"class": item["class"], "queue": item["queue"], "args": args}
        resq.redis.rpush("resque:queue:tried", _json(pushed))


def by_version_1_5(resq):
    """It keeps first_attempt, writes the enqueue time anew, and leaves timestamps:*."""
    for _raw, item in _to_fetched(resq, removes_timestamps=False):
        more = {name: item[name] for name in ("first_attempt",) if name in item}
        pushed = {"class": item["class"], "args": item["args"], "enqueue_timestamp": 1.5, **more}
        resq.redis.rpush("resque:queue:tried", _json(pushed))


def _json(item):
    return json.dumps(item, separators=(",", ":"))


def _to_fetched(resq, removes_timestamps=True):
    redis = resq.redis
    for due in redis.zrangebyscore("resque:delayed_queue_schedule", "-inf", now_of(resq)):
        while raw := redis.lpop(b"resque:delayed:" + due):
            if removes_timestamps:
                redis.srem(b"resque:timestamps:" + raw, b"delayed:" + due)
            yield raw, json.loads(raw)
        redis.zrem("resque:delayed_queue_schedule", due)


def now_of(resq):
    return int(resq._current_time().timestamp())


def perform_all(resq, worker="tried"):
    """Perform what is queued; how many jobs that were."""
    performed = len(Failing.attempts)
    while resq.redis.llen("resque:queue:tried"):
        Worker(worker, resq).process()
    return len(Failing.attempts) - performed


def run_out(resq, clock, promote, rounds=12):
    """Promote and run retries until the job ends; how many attempts there were."""
    for _ in range(rounds):
        perform_all(resq)
        clock["now"] += 2
        promote(resq)
    return len(Failing.attempts)


def known(redis):
    """The records of attempts."""
    return [key for key in keyspace(redis) if key.startswith("resque:pyres:attempts:")]


@pytest.mark.parametrize("promote", [by_pyres, by_ruby, by_node, by_version_1_5])
@pytest.mark.parametrize(("kind", "attempts"), KINDS)
def test_retries_end_whichever_scheduler_promotes_them(resq, redis, clock, promote, kind, attempts):
    clock_step = {Every: 1}.get(kind, 2)
    resq.enqueue(kind, 1.0, {"b": [True], "a": None})

    for _ in range(attempts + 3):
        perform_all(resq)
        clock["now"] += clock_step
        promote(resq)

    assert len(Failing.attempts) == attempts
    (record,) = map(json.loads, redis.lrange("resque:failed", 0, -1))
    assert record["error"] == f"not yet (tried {attempts} times)"
    assert known(redis) == []


@pytest.mark.parametrize("kind", [EmptyError, UndecidedError, MuteError])
def test_no_exception_costs_a_job_its_retry_or_its_record(resq, redis, clock, monkeypatch, kind):
    monkeypatch.setattr(Picky, "error", kind)
    resq.enqueue(Picky, 1)

    assert run_out(resq, clock, by_pyres, rounds=3) == 2

    (record,) = map(json.loads, redis.lrange("resque:failed", 0, -1))
    assert record["exception"] == kind.__name__
    assert redis.get("resque:stat:failed") == b"1"
    assert not redis.keys("resque:worker:*")


@pytest.mark.parametrize("promote", [by_ruby, by_node])
@pytest.mark.parametrize("stamped", [True, False])
def test_two_equal_jobs_have_their_attempts_each(resq, redis, clock, promote, stamped):
    resq.enqueue_timestamp = stamped
    resq.enqueue(Limited, 1)
    resq.enqueue(Limited, 1)

    assert run_out(resq, clock, promote) == 6

    assert redis.llen("resque:failed") == 2
    assert known(redis) == []


def test_an_equal_job_is_not_mistaken_for_a_retry_that_still_waits(resq, redis, clock):
    resq.enqueue(Limited, 1)
    perform_all(resq)
    clock["now"] += 2
    by_ruby(resq)
    perform_all(resq)  # the second attempt: the third one waits

    Failing.succeeds = 3
    redis.rpush("resque:queue:tried", _json({"class": f"{__name__}.Limited", "args": [1]}))
    perform_all(resq)
    clock["now"] += 2
    by_ruby(resq)
    perform_all(resq)

    assert redis.llen("resque:failed") == 1
    assert known(redis) == []


def test_a_retry_that_is_promoted_before_its_time_counts_too(resq, redis, clock):
    resq.enqueue(Limited, 1)
    for _ in range(4):
        perform_all(resq)
        clock["now"] += 1  # as by a clock that is ahead
        by_ruby(resq)
        clock["now"] -= 1

    assert (len(Failing.attempts), redis.llen("resque:failed")) == (3, 1)
    assert known(redis) == []


def test_the_number_in_the_payload_takes_precedence(resq, redis, clock):
    resq.enqueue(Limited, 1)
    perform_all(resq)
    resq.push("tried", {"class": f"{__name__}.Limited", "args": [1], "retry_attempt": 2})
    perform_all(resq)

    (record,) = map(json.loads, redis.lrange("resque:failed", 0, -1))
    assert record["error"] == "not yet (tried 3 times)"
    assert len(known(redis)) == 1


@pytest.mark.parametrize("promote", [by_pyres, by_ruby])
def test_an_attempt_that_succeeds_leaves_nothing(resq, redis, clock, promote):
    Failing.succeeds = 2
    resq.enqueue(Limited, 1)

    assert run_out(resq, clock, promote, rounds=3) == 2

    assert redis.llen("resque:failed") == 0
    assert known(redis) == []


@pytest.mark.parametrize("promote", [by_pyres, by_ruby])
def test_an_attempt_whose_worker_is_dead_leaves_nothing(resq, redis, clock, promote):
    resq.enqueue(Limited, 1)
    perform_all(resq)
    clock["now"] += 2
    promote(resq)
    worker = Worker("tried", resq)
    worker.pid = 4_194_305
    worker.registry.register()
    assert worker.reserve(0) is not None

    Registry(resq, f"{worker.hostname}:1:x").prune()

    assert redis.llen("resque:failed") == 1
    assert known(redis) == []


def test_a_number_is_kept_for_the_longest_delay_and_a_day(resq, redis, clock):
    resq.enqueue(BackedOff, 1)
    perform_all(resq)

    (key,) = known(redis)
    assert DAY - 60 < redis.ttl(key) <= DAY + 2


@pytest.mark.parametrize(
    "remove",
    [
        lambda resq: resq.remove_delayed(Limited, 1),
        lambda resq: resq.reset_delayed_queue(),
        lambda resq: (by_pyres(resq), resq.dequeue(Limited, 1)),
    ],
)
def test_a_retry_that_is_removed_leaves_nothing(resq, redis, clock, remove):
    resq.enqueue(Limited, 1)
    perform_all(resq)
    clock["now"] += 2
    remove(resq)

    assert known(redis) == []


def test_a_key_of_another_type_costs_no_job(resq, redis, clock):
    resq.enqueue(Limited, 1)
    perform_all(resq)
    (key,) = known(redis)
    redis.delete(key)
    redis.set(key, "no hash")
    clock["now"] += 2
    by_ruby(resq)
    perform_all(resq)

    assert resq.delayed_queue_schedule_size() == 1


def test_a_job_that_is_enqueued_and_done_costs_no_call(resq, redis, server):
    resq.enqueue(Limited, 1)
    Failing.succeeds = 1
    job = Job.reserve("tried", resq, timeout=0)
    with server.monitor() as monitor:
        job.perform()

        assert monitor.everything == []
