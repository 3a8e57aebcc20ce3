"""A unique lock whose job another program removed blocks nothing; one whose job exists does."""

from __future__ import annotations

import json

import pytest

from pyres.job import Job
from pyres.json_equality import digest
from pyres.scheduler import Scheduler
from pyres.worker import Worker
from tests.servers import keyspace

pytestmark = pytest.mark.usefixtures("clock")


class Once:
    queue = "once"
    unique_for = 3600
    performed: list[int] = []

    @classmethod
    def perform(cls, *args):
        cls.performed.append(len(args))


class UntilDone(Once):
    unique_until = "done"


class Retried(UntilDone):
    retry_limit = 5
    retry_delay = 30

    @staticmethod
    def perform(*args):
        raise ValueError("not yet")


def remove_queue(redis):
    """As Ruby's Resque.remove_queue and node's delQueue do."""
    redis.srem("resque:queues", "once")
    redis.delete("resque:queue:once")


def reset_delayed(redis):
    """As resque-scheduler's reset_delayed_queue does."""
    for due in redis.zrange("resque:delayed_queue_schedule", 0, -1):
        for raw in redis.lrange(b"resque:delayed:" + due, 0, -1):
            redis.delete(b"resque:timestamps:" + raw)
        redis.delete(b"resque:delayed:" + due)
    redis.delete("resque:delayed_queue_schedule")


def remove_element(redis):
    """As Ruby's dequeue does."""
    for raw in redis.lrange("resque:queue:once", 0, -1):
        redis.lrem("resque:queue:once", 0, raw)


@pytest.mark.parametrize("remove", [remove_queue, remove_element])
@pytest.mark.parametrize("kind", [Once, UntilDone])
def test_a_job_whose_queue_others_removed_blocks_nothing(resq, redis, remove, kind):
    resq.enqueue(kind, {"b": 1.5, "a": "\u00e9"})
    remove(redis)

    assert resq.enqueue(kind, {"b": 1.5, "a": "\u00e9"}) is True
    assert redis.llen("resque:queue:once") == 1
    assert resq.enqueue(kind, {"b": 1.5, "a": "\u00e9"}) is False


def test_a_delayed_job_that_others_removed_blocks_nothing(resq, redis):
    resq.enqueue_in(500, UntilDone, 2)
    reset_delayed(redis)

    assert resq.enqueue_in(500, UntilDone, 2) is True
    assert resq.delayed_queue_schedule_size() == 1


def test_a_retry_keeps_its_lock_until_others_remove_it(resq, redis, clock):
    resq.enqueue(Retried, 2)
    Worker("once", resq).process()
    assert resq.enqueue(Retried, 2) is False
    clock["now"] += 11
    assert resq.enqueue(Retried, 2) is False

    reset_delayed(redis)
    clock["now"] += 40
    resq.enqueue(Retried, 2)  # it was due: a scheduler may have it
    clock["now"] += 11
    assert resq.enqueue(Retried, 2) is True


def test_a_recurring_job_whose_queue_others_removed_is_enqueued(resq, redis, clock):
    resq.set_schedule("often", {"every": "11s", "class": f"{__name__}.UntilDone", "queue": "once"})
    active_schedule = Scheduler(resq, dynamic=True).dynamic
    active_schedule.load()
    active_schedule.start(clock["now"])
    for _ in range(3):
        clock["now"] += 11
        active_schedule.fire(clock["now"])
    assert redis.llen("resque:queue:once") == 1

    remove_queue(redis)
    clock["now"] += 11
    active_schedule.fire(clock["now"])

    assert redis.llen("resque:queue:once") == 1


def test_a_lock_is_checked_every_ten_seconds_at_most(resq, redis, clock):
    resq.enqueue(UntilDone, 1)
    assert resq.enqueue(UntilDone, 1) is False
    remove_queue(redis)

    clock["now"] += 9
    assert resq.enqueue(UntilDone, 1) is False
    clock["now"] += 2
    assert resq.enqueue(UntilDone, 1) is True


def promoted_by_pyres(resq, clock):
    clock["now"] += 501
    Scheduler(resq).handle_delayed_items()


def promoted_by_ruby(resq, clock):
    _promote(resq, lambda item: {"class": item["class"], "args": item["args"]})


def promoted_by_node(resq, clock):
    _promote(
        resq, lambda item: {"class": item["class"], "queue": item["queue"], "args": item["args"]}
    )


def _promote(resq, rebuilt):
    (due,) = resq.redis.zrange("resque:delayed_queue_schedule", 0, -1)
    (raw,) = resq.redis.lrange(b"resque:delayed:" + due, 0, -1)
    reset_delayed(resq.redis)
    resq.redis.rpush(
        "resque:queue:once", json.dumps(rebuilt(json.loads(raw)), separators=(",", ":"))
    )


@pytest.mark.parametrize("promote", [promoted_by_pyres, promoted_by_ruby, promoted_by_node])
def test_a_job_that_was_promoted_keeps_its_lock_on_its_queue_and_in_flight(
    resq, redis, clock, promote
):
    resq.enqueue_in(500, UntilDone, {"a": [True, None]}, "x")
    promote(resq, clock)
    for _ in range(3):
        clock["now"] += 11
        assert resq.enqueue(UntilDone, {"a": [True, None]}, "x") is False

    worker = Worker("once", resq)
    worker.registry.register()
    job = worker.reserve(0)
    for _ in range(3):
        clock["now"] += 11
        assert resq.enqueue(UntilDone, {"a": [True, None]}, "x") is False

    worker.process(job)
    assert resq.enqueue(UntilDone, {"a": [True, None]}, "x") is True
    worker.registry.unregister()


def test_a_job_that_was_moved_to_another_queue_keeps_its_lock(resq, redis, clock):
    resq.enqueue(UntilDone, 1)
    resq.move_queue("once", "second")
    resq.move_queue("second", "third")
    assert resq.enqueue(UntilDone, 1) is False

    redis.delete("resque:queue:third")
    clock["now"] += 11
    assert resq.enqueue(UntilDone, 1) is True


def test_jobs_can_be_moved_where_that_cannot_be_noted(resq, redis, clock):
    redis.set("resque:pyres:moves", "of another type")
    resq.enqueue(UntilDone, 1)

    assert resq.move_queue("once", "second") == 1
    assert resq.enqueue(UntilDone, 1) is False


def test_a_missing_job_that_is_due_is_searched_for_twice(resq, redis, clock):
    resq.enqueue_in(5, UntilDone, 1)
    clock["now"] += 6
    reset_delayed(redis)  # or a scheduler that has popped it, and not yet pushed it

    assert resq.enqueue(UntilDone, 1) is False
    clock["now"] += 11
    assert resq.enqueue(UntilDone, 1) is True


def test_a_job_that_others_may_have_popped_is_searched_for_twice(resq, redis, clock):
    resq.enqueue(UntilDone, 1)
    resq.store.unique.note_pops()
    (raw,) = redis.lrange("resque:queue:once", 0, -1)
    redis.delete("resque:queue:once")  # BLPOP's reply is on its way

    assert resq.enqueue(UntilDone, 1) is False
    redis.rpush("resque:queue:once", raw)
    clock["now"] += 11
    assert resq.enqueue(UntilDone, 1) is False
    redis.delete("resque:queue:once")
    clock["now"] += 11
    assert resq.enqueue(UntilDone, 1) is False
    clock["now"] += 11
    assert resq.enqueue(UntilDone, 1) is True


@pytest.mark.parametrize("worker", ["ruby:1:once", "ruby:1:*", "node:1+2:a,o*"])
def test_a_job_that_an_idle_worker_of_ruby_may_have_popped_is_searched_for_twice(
    resq, redis, clock, worker
):
    """Between Ruby's LPOP and its in-flight record the job is in no key."""
    redis.sadd("resque:workers", worker)
    for is_in_flight in (True, False):
        resq.enqueue(UntilDone, 1)
        raw = redis.lpop("resque:queue:once")
        assert resq.enqueue(UntilDone, 1) is False
        if is_in_flight:
            redis.set(f"resque:worker:{worker}", b'{"queue":"once","payload":%b}' % raw)
            clock["now"] += 11
            assert resq.enqueue(UntilDone, 1) is False
            redis.delete(f"resque:worker:{worker}")
            clock["now"] += 11
            assert resq.enqueue(UntilDone, 1) is False
        clock["now"] += 11
        assert resq.enqueue(UntilDone, 1) is True
        remove_queue(redis)
        resq.store.unique.forget([digest(f"{__name__}.UntilDone", [1])])


def test_an_idle_worker_of_pyres_has_popped_nothing(resq, redis):
    worker = Worker("once", resq)
    worker.registry.register()
    resq.enqueue(UntilDone, 1)
    remove_queue(redis)

    assert resq.enqueue(UntilDone, 1) is True
    worker.registry.unregister()


def test_a_job_that_the_application_popped_is_not_searched_for(resq, redis, clock):
    resq.enqueue(UntilDone, 1)
    job = Job.reserve("once", resq, timeout=0)
    redis.delete("resque:pyres:pops")
    for _ in range(3):
        clock["now"] += 11
        assert resq.enqueue(UntilDone, 1) is False

    job.perform()
    assert resq.enqueue(UntilDone, 1) is True


def test_a_lock_that_ends_by_time_alone_outlives_its_job(resq, redis, clock):
    resq.enqueue(Once, 1)
    Worker("once", resq).process()

    for _ in range(3):
        clock["now"] += 11
        assert resq.enqueue(Once, 1) is False


def test_a_search_that_is_not_complete_ends_no_lock(resq, redis, clock):
    resq.enqueue(UntilDone, 1)
    remove_queue(redis)
    redis.rpush("resque:queue:once", *range(10_001))
    assert resq.enqueue(UntilDone, 1) is False


#: What another program may write otherwise: node, Ruby, or Rails.
RESPELT = [
    (2.0, b"2"), (1e21, b"1000000000000000000000"), (2**53 + 1, b"9007199254740992"),
    ({"b": 1, "2": 1}, b'{"2":1,"b":1}'), ("<b>", b'"\\u003cb\\u003e"'),
]  # fmt: skip


@pytest.mark.parametrize(("value", "written"), RESPELT)
@pytest.mark.parametrize("later", [None, 500])
def test_a_job_that_others_write_otherwise_keeps_its_lock_while_one_of_its_class_is_there(
    resq, redis, clock, value, written, later
):
    def enqueue():
        clock["now"] += 11
        return resq.enqueue_in(500, UntilDone, value) if later else resq.enqueue(UntilDone, value)

    other = b'{"class":"%b.UntilDone","args":[%b]}' % (__name__.encode(), written)
    assert enqueue() is True
    (reset_delayed if later else remove_queue)(redis)
    redis.sadd("resque:workers", "ruby:1:once")
    redis.set("resque:worker:ruby:1:once", b'{"queue":"once","payload":%b}' % other)
    assert enqueue() is False
    redis.delete("resque:worker:ruby:1:once")
    redis.srem("resque:workers", "ruby:1:once")
    if later:
        redis.rpush("resque:queue:once", other)
        assert enqueue() is False
        redis.delete("resque:queue:once")

    assert enqueue() is True


@pytest.mark.parametrize(
    "value",
    [-2.5, 0.1, "5e7f30a0-97e1-4b3c-8f5e-2d1ab94b0a11", "4111111111111111", "v1.0", 'a\n"é/'],
)
def test_a_job_that_all_programs_write_alike_is_not_mistaken_for_another_of_its_class(
    resq, redis, value
):
    resq.enqueue_in(500, UntilDone, value)
    reset_delayed(redis)
    resq.enqueue(UntilDone, "other")

    assert resq.enqueue_in(500, UntilDone, value) is True


def test_a_lock_without_a_job_is_of_an_older_version_and_stays(resq, redis, clock):
    resq.enqueue(UntilDone, 1)
    redis.delete(*redis.keys("resque:pyres:unique_job:*"))
    remove_queue(redis)

    assert resq.enqueue(UntilDone, 1) is False


def test_nothing_is_left_of_a_lock_that_has_ended(resq, redis, clock):
    resq.enqueue(UntilDone, 1)
    Worker("once", resq).process()
    resq.enqueue(UntilDone, 2)
    assert resq.dequeue(UntilDone, 2) == 1

    assert not [key for key in keyspace(redis) if ":pyres:unique" in key]


def test_duplicates_during_fetches_never_run_two(resq, redis, clock):
    """Each duplicate searches for the job in every key that it passes through."""
    worker = Worker("once", resq)
    worker.registry.register()
    for round_ in range(20):
        assert resq.enqueue(UntilDone, round_) is True
        clock["now"] += 11
        assert resq.enqueue(UntilDone, round_) is False
        job = worker.reserve(0)
        clock["now"] += 11
        assert resq.enqueue(UntilDone, round_) is False
        assert redis.llen("resque:queue:once") == 0
        worker.process(job)
    worker.registry.unregister()
