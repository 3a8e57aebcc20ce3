"""What Ruby left is read, performed and moved correctly by pyres."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest

from pyres import failure
from pyres.failure.redis_multi_queue import RedisMultiQueueBackend
from pyres.job import Job
from pyres.worker import Worker
from tests.jobs import ECHOED
from tests.wire.comparing import golden, names, restore
from tests.wire.ruby_jobs import SlowJob

T = 4102444800


@pytest.fixture
def ruby_left(redis):
    """Loads a golden dump, and returns it."""

    def load(name):
        dump = golden(name)["redis"]
        restore(redis, dump)
        return dump

    return load


def with_failures():
    """(golden file, key) of each failed list."""
    return [
        (name, key)
        for name in names()
        for key, held in golden(name)["redis"].items()
        if key.endswith("failed") and held["type"] == "list"
    ]


@pytest.mark.parametrize(("name", "key"), with_failures())
def test_every_record_of_ruby_is_read_unchanged(ruby_like, ruby_left, monkeypatch, name, key):
    raws = ruby_left(name)[key]["values"]
    if key != "resque:failed":
        monkeypatch.setattr(failure, "backend", RedisMultiQueueBackend)

    records = failure.all(ruby_like, 0, 100)

    assert failure.count(ruby_like) == len(raws)
    assert [base64.b64decode(record.pop("redis_value")).decode() for record in records] == raws
    assert records == [json.loads(raw) for raw in raws]


def test_a_record_of_ruby_is_retried_with_the_bytes_of_its_job(ruby_like, ruby_left, redis):
    ruby_left("05_after_failure")

    (record,) = failure.all(ruby_like, 0, 1)
    assert failure.retry(ruby_like, record["queue"], record["redis_value"]) == 1

    assert redis.lrange("resque:queue:default", 0, -1) == [
        b'{"class":"FailJob","args":[1,{"k":"v"}]}'
    ]
    assert redis.llen("resque:failed") == 0


def test_a_record_of_ruby_is_deleted_and_no_other(ruby_like, ruby_left, redis):
    first, second = ruby_left("06_worker_quit")["resque:failed"]["values"]

    assert failure.delete(ruby_like, first) == 1

    assert redis.lrange("resque:failed", 0, -1) == [second.encode()]


def test_a_working_ruby_worker_is_found_with_its_job(ruby_like, ruby_left):
    ruby_left("03_worker_working")

    (worker,) = Worker.all(ruby_like)

    assert str(worker) == "vm:10156:default"
    assert [str(found) for found in Worker.working(ruby_like)] == ["vm:10156:default"]
    assert [str(found) for found in ruby_like.working()] == ["vm:10156:default"]
    assert worker.state() == "working"
    assert worker.job() == {
        "queue": "default",
        "run_at": "2026-11-23T16:01:09Z",
        "payload": {"class": "SlowJob", "args": [2, "é"]},
    }
    assert worker.started == b"2026-11-23 16:01:08 +0000"
    assert ruby_like.info()["working"] == 1


def test_an_idle_ruby_worker_is_found_with_its_counters(ruby_like, ruby_left):
    ruby_left("05_after_failure")

    worker = Worker.find("vm:10156:default", ruby_like)

    assert worker.state() == "idle"
    assert worker.job() == {}
    assert (worker.get_processed(), worker.get_failed()) == (2, 1)
    assert Worker.working(ruby_like) == []


def test_a_ruby_worker_of_wildcards_keeps_its_id(ruby_like, ruby_left):
    ruby_left("16_worker_wildcard")

    (worker,) = Worker.all(ruby_like)

    assert str(worker) == "vm:10426:high,*"
    assert worker.queues == ["high", "*"]


def test_every_type_in_a_payload_of_ruby_is_read_and_written_the_same(ruby_like, ruby_left):
    (raw,) = ruby_left("01_enqueue_all_types")["resque:queue:default"]["values"]

    (item,) = ruby_like.peek("default")

    assert item["args"][5:13] == [2**53, 2**70, 1.5, 10.0, 0.1, 1e20, 1e-7, -0.0]
    assert item["args"][21] == {"b": 1, "a": {"z": [None, {"k": "v"}]}}
    assert ruby_like.encode(item) == raw


def test_a_job_that_ruby_delayed_is_listed(ruby_like, ruby_left):
    ruby_left("11_delayed")

    assert ruby_like.delayed_queue_peek(0, 1) == [T]
    assert ruby_like.delayed_queue_schedule_size() == 5
    assert [ruby_like.delayed_timestamp_size(at) for at in (T, T + 60)] == [3, 2]
    assert ruby_like.delayed_timestamp_peek(T + 60, 1, 5) == [
        {"class": "NoopJob", "args": [2], "queue": "other"}
    ]


def test_a_job_that_ruby_delayed_is_popped_when_it_is_due_and_leaves_nothing(
    ruby_like, ruby_left, redis
):
    ruby_left("11_delayed")

    fetched = [ruby_like.next_item_for_timestamp(T)["args"] for _ in range(3)]

    assert fetched == [[1, "é"], [1, "é"], [2]]
    assert ruby_like.next_item_for_timestamp(T) is None
    assert ruby_like.delayed_queue_peek(0, 10) == [T + 60]
    waiting = 'resque:timestamps:{"class":"NoopJob","args":[2],"queue":"default"}'
    assert redis.smembers(waiting) == {b"delayed:4102444860"}
    taken_all = 'resque:timestamps:{"class":"NoopJob","args":[1,"é"],"queue":"default"}'
    assert not redis.exists(taken_all)


def test_the_schedule_that_ruby_wrote_is_read(ruby_like, ruby_left):
    ruby_left("13_set_schedule")

    assert ruby_like.schedules() == {
        "nightly": {
            "cron": "0 3 * * *",
            "class": "CronJob",
            "queue": "cron",
            "args": ["é", 1],
            "description": "nightly thing",
        },
        "often": {"class": "CronJob", "every": ["30s", {"first_in": "1s"}], "args": {"k": "v"}},
    }
    assert ruby_like.get_schedule("volatile") is None


def test_the_time_of_the_last_firing_is_not_a_list_of_delayed_jobs(ruby_like, ruby_left):
    ruby_left("13b_scheduler_running")

    assert ruby_like.delayed_queue_peek(0, 10) == []
    assert ruby_like.delayed_queue_schedule_size() == 0
    assert ruby_like.info()["pending"] == 1


@pytest.mark.parametrize("name", names())
def test_all_that_ruby_left_can_be_read(ruby_like, ruby_left, name):
    dump = ruby_left(name)

    ruby_like.info()
    [worker.job() for worker in Worker.all(ruby_like)]
    failure.all(ruby_like, 0, 100)
    [ruby_like.peek(queue, 0, 10) for queue in ruby_like.queues()]
    keys = ruby_like.keys()

    assert keys == sorted(key.removeprefix("resque:") for key in dump)


def test_a_job_that_ruby_queued_by_a_name_within_a_module_runs_a_python_function(run_daemon, redis):
    redis.sadd("resque:queues", "default")
    redis.rpush("resque:queue:default", '{"class":"Archive::Mail","args":[7,"é",{"a":[1.0e+20]}]}')

    worker = run_daemon(
        *("pyres_worker", "--queues", "default", "--require", "tests.wire.ruby_jobs", "--burst")
    )

    assert worker.wait() == 0
    assert [json.loads(line) for line in redis.lrange(ECHOED, 0, -1)] == [[7, "é", {"a": [1e20]}]]
    assert redis.get("resque:stat:processed") == b"1"
    assert not redis.exists("resque:failed")


def test_fields_that_pyres_does_not_know_survive_a_failure_and_its_retry(
    ruby_like, ruby_left, redis
):
    (raw,) = ruby_left("01b_enqueue_queues")["resque:queue:raw"]["values"]

    assert Worker("raw", ruby_like).process() is None

    (record,) = failure.all(ruby_like, 0, 10)
    assert record["payload"] == {"class": "Raw", "args": [1], "extra": True}
    failure.retry(ruby_like, record["queue"], record["redis_value"])
    assert redis.lrange("resque:queue:raw", 0, -1) == [raw.encode()]


def test_ruby_finds_by_its_bytes_what_pyres_enqueued_and_delayed(ruby_like, redis):
    ruby_like.enqueue(SlowJob, 1e20, {"k": "é"})
    ruby_like.enqueue_at(datetime.fromtimestamp(T, UTC), SlowJob, 1e20)

    # Resque::Job.destroy and Resque.remove_delayed, command by command.
    queued = '{"class":"SlowJob","args":[1.0e+20,{"k":"é"}]}'
    assert redis.lrem("resque:queue:default", 0, queued) == 1
    delayed = '{"class":"SlowJob","args":[1.0e+20],"queue":"default"}'
    assert redis.smembers(f"resque:timestamps:{delayed}") == {b"delayed:4102444800"}
    assert redis.lrem(f"resque:delayed:{T}", 0, delayed) == 1


def test_a_job_of_ruby_is_shown_as_ruby_shows_it_but_for_pythons_arguments(ruby_like):
    job = Job("default", {"class": "SlowJob", "args": [4]}, ruby_like)

    assert str(job) == "(Job{default} | SlowJob | [4])"
