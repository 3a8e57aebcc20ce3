"""Unique jobs: a duplicate is skipped while the lock of the first exists."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from pyres.exceptions import BadOptionError
from pyres.job import Job
from pyres.scheduler import Scheduler
from pyres.worker import Worker
from tests.servers import keyspace

pytestmark = pytest.mark.usefixtures("clock")


class Once:
    """Kept unique by time alone."""

    queue = "once"
    unique_for = 60

    @staticmethod
    def perform(*args):
        if args and args[0] == "fail":
            raise ValueError(*args)


class UntilStart(Once):
    unique_until = "start"
    seen: list[bool]

    @classmethod
    def perform(cls, *args):
        cls.seen = [cls.resq.enqueue(cls, *args)]


class UntilDone(UntilStart):
    unique_until = "done"


class Retried(Once):
    unique_until = "done"
    retry_limit = 1
    retry_delay = 30


def locks(redis):
    return [key for key in keyspace(redis) if key.startswith("resque:pyres:unique:")]


def perform_next(resq):
    Worker("once", resq).process(Job.reserve("once", resq, timeout=0))


def test_a_duplicate_enqueue_is_skipped_and_logged(resq, redis, caplog):
    assert resq.enqueue(Once, 1, {"a": [2]}) is True
    assert resq.enqueue(Once, 1, {"a": [2]}) is False
    assert resq.enqueue_to("elsewhere", Once, 1, {"a": [2]}) is False
    assert resq.enqueue(Once, 2) is True

    assert "duplicate of unique job tests.store.test_unique.Once with [1, " in caplog.text
    assert redis.llen("resque:queue:once") == 2
    assert redis.smembers("resque:queues") == {b"once"}


def test_a_unique_lock_has_a_ttl_so_that_nothing_is_blocked_for_ever(resq, redis):
    resq.enqueue(Once)

    (lock,) = locks(redis)
    assert 30_000 < redis.pttl(lock) <= 60_000
    redis.delete(lock)
    assert resq.enqueue(Once) is True


def test_without_until_it_is_the_time_alone_that_counts(resq, redis):
    resq.enqueue(Once)
    perform_next(resq)

    assert resq.enqueue(Once) is False


@pytest.mark.parametrize(("kind", "during"), [(UntilStart, True), (UntilDone, False)])
def test_another_may_be_enqueued_when_the_job_starts_or_is_done(resq, redis, kind, during):
    resq.enqueue(kind, 1)
    assert resq.enqueue(kind, 1) is False

    perform_next(resq)

    assert kind.seen == [during]
    assert resq.enqueue(kind, 1) is not during


def test_a_job_that_fails_is_done_too(resq, redis):
    class_ = UntilDone

    resq.enqueue(Retried, "fail")
    resq.enqueue(class_, 1)
    job = Job.reserve("once", resq, timeout=0)
    job.fail(ValueError("killed before its class was known"))
    assert locks(redis)
    Job.reserve("once", resq, timeout=0).fail("no class was loaded")

    assert locks(redis) == []


def test_a_delayed_job_is_locked_for_its_delay_and_more(resq, redis):
    assert resq.enqueue_in(100, Once, 1) is True
    assert resq.enqueue_in(timedelta(seconds=5), Once, 1) is False
    assert resq.enqueue(Once, 1) is False

    (lock,) = locks(redis)
    assert 130_000 < redis.pttl(lock) <= 160_000
    assert resq.delayed_queue_schedule_size() == 1


def test_a_delayed_job_that_was_promoted_releases_its_lock_when_it_is_done(resq, redis, clock):
    resq.enqueue_in(100, UntilDone, 1)
    clock["now"] += 101
    Scheduler(resq).handle_delayed_items()
    assert resq.enqueue(UntilDone, 1) is False

    perform_next(resq)

    assert UntilDone.seen == [False]
    assert locks(redis) == []


def test_a_retry_keeps_the_lock_until_the_job_has_failed_for_good(resq, redis, clock):
    resq.enqueue(Retried, "fail")

    perform_next(resq)

    assert resq.delayed_queue_schedule_size() == 1
    (lock,) = locks(redis)
    assert redis.pttl(lock) > 60_000
    assert resq.enqueue(Retried, "fail") is False

    clock["now"] += 31
    Scheduler(resq).handle_delayed_items()
    perform_next(resq)

    assert locks(redis) == []
    assert redis.llen("resque:failed") == 1


def test_a_lock_that_expired_is_not_released_by_the_job_that_had_it(resq, redis, clock):
    resq.enqueue(UntilDone, 1)
    redis.delete(*locks(redis))
    clock["now"] += 61
    resq.enqueue(UntilDone, 1)

    perform_next(resq)

    assert len(locks(redis)) == 1


def test_many_at_once_are_unique_too(resq, redis):
    assert resq.enqueue_many([(Once, 1), (Once, 1), (Once, 2)]) == 2
    assert redis.llen("resque:queue:once") == 2


def test_a_pipeline_skips_the_duplicate(resq, redis):
    with resq.pipeline(atomic=True) as batch:
        batch.enqueue(Once, 1)
        batch.enqueue(Once, 1)

    assert redis.llen("resque:queue:once") == 1


@pytest.mark.parametrize("queue", ["café", "очередь", "caf\udce9"])
def test_a_unique_job_is_pushed_to_a_queue_of_any_name(resq, redis, queue):
    assert resq.enqueue_to(queue, Once, 1) is True
    assert resq.enqueue_to(queue, Once, 1) is False

    assert resq.queues() == [queue] and resq.size(queue) == 1
    assert Job.reserve(queue, resq, timeout=0).args == [1]


def test_a_job_that_an_operator_removed_may_be_enqueued_again(resq, redis):
    resq.enqueue(Once, 1)
    resq.enqueue_in(10, Once, 2)

    assert resq.dequeue(Once, 1) == 1
    assert resq.remove_delayed(Once, 2) == 1

    assert locks(redis) == []


def test_a_unique_job_can_be_delayed_again(resq, clock):
    assert resq.delay_or_enqueue_in(10, Once, 1) == 1
    assert resq.delay_or_enqueue_in(20, Once, 1) == 1

    assert resq.delayed_at(Once, 1) == [clock["now"] + 20]


@pytest.mark.parametrize(
    ("attributes", "complaint"),
    [
        ({"unique_for": "long"}, "invalid unique_for 'long': expected a number of"),
        ({"unique_for": 0}, "invalid unique_for 0: expected"),
        (
            {"unique_for": 5, "unique_until": "end"},
            "invalid unique_until 'end': expected 'st",
        ),
    ],
)
def test_attributes_that_mean_nothing_are_named(resq, redis, attributes, complaint):
    kind = type("Odd", (Once,), attributes)

    with pytest.raises(BadOptionError, match=complaint):
        resq.enqueue(kind)

    assert keyspace(redis) == {}


def test_a_job_that_fails_for_good_has_the_number_of_attempts(resq, redis, clock):
    resq.enqueue(Retried, "fail")
    perform_next(resq)
    clock["now"] += 31
    Scheduler(resq).handle_delayed_items()

    perform_next(resq)

    record = json.loads(redis.lindex("resque:failed", 0))
    assert record["error"] == "fail (tried 2 times)"
    assert record["payload"]["retry_attempt"] == 1
