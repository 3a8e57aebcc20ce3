"""Job: performed with its hooks, failed, or put off to be tried again."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, ClassVar

import pytest
from redis import Redis

from pyres import ResQ, failure
from pyres.exceptions import (
    ClassNotFoundError,
    DontPerform,
    NotAllowedError,
    UndecodableError,
)
from pyres.job import Job
from pyres.loading import Allowed
from pyres.registry import save_failure

NOW = datetime(2026, 11, 23, 16, 1, 9, 500_000)
ME = "here:1:mail"
RECORD_KEY = f"resque:worker:{ME}"


class Base:
    """A job class that leaves what happened in `seen`."""

    queue = "mail"
    seen: ClassVar[list[Any]] = []
    resq: Any

    @classmethod
    def perform(cls, *args: Any) -> Any:
        cls.seen.append(("perform", *args))
        return "value"


class FailingJob(Base):
    @classmethod
    def perform(cls, *args: Any) -> Any:
        cls.seen.append(("perform", *args))
        raise ValueError("no", *args)


class MetadataJob(Base):
    @classmethod
    def before_perform(cls, metadata: dict[str, Any]) -> None:
        cls.seen.append(("before", dict(metadata)))
        metadata["mine"] = 1

    @classmethod
    def after_perform(cls, metadata: dict[str, Any]) -> None:
        cls.seen.append(("after", metadata))


class FailingMetadataJob(MetadataJob, FailingJob):
    pass


class RubysJob(Base):
    @classmethod
    def before_perform_b(cls, *args: Any) -> None:
        cls.seen.append(("before_b", *args))

    @classmethod
    def before_perform_a(cls, *args: Any) -> None:
        cls.seen.append(("before_a", *args))

    @classmethod
    def around_perform_2(cls, *args: Any) -> Iterator[None]:
        cls.seen.append(("in_2", *args))
        yield
        cls.seen.append(("out_2", *args))

    @classmethod
    @contextlib.contextmanager
    def around_perform_1(cls, *args: Any) -> Iterator[None]:
        cls.seen.append(("in_1", *args))
        yield
        cls.seen.append(("out_1", *args))

    @classmethod
    def after_perform_x(cls, *args: Any) -> None:
        cls.seen.append(("after_x", *args))

    @classmethod
    def on_failure_x(cls, error: BaseException, *args: Any) -> None:
        cls.seen.append(("on_failure", type(error), *args))


class SkippingJob(RubysJob):
    @classmethod
    def around_perform_1(cls, *args: Any) -> Iterator[None]:
        if args == ("go on",):
            yield


class PlainAroundJob(Base):
    @classmethod
    def around_perform_x(cls, *args: Any) -> None:
        cls.seen.append("around")


class RescuingJob(FailingJob):
    @classmethod
    def around_perform_x(cls, *args: Any) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            cls.seen.append(("rescued", str(error)))

    @classmethod
    def after_perform_x(cls, *args: Any) -> None:
        cls.seen.append("after_x")


class EnsuringJob(FailingJob):
    @classmethod
    def around_perform_x(cls, *args: Any) -> Iterator[None]:
        try:
            yield
        finally:
            cls.seen.append("ensured")


class DontJob(MetadataJob):
    @classmethod
    def before_perform_x(cls, *args: Any) -> None:
        raise DontPerform("not today")

    @classmethod
    def on_failure_x(cls, *args: Any) -> None:
        cls.seen.append("on_failure")


class BadAfterJob(Base):
    @classmethod
    def after_perform(cls, metadata: dict[str, Any]) -> None:
        raise KeyError("in the hook")


class BadAfterRetriedJob(BadAfterJob, FailingJob):
    retry_every = 5


class BadAfterFailingJob(BadAfterJob, FailingJob):
    pass


class BadRubyAfterJob(Base):
    @classmethod
    def after_perform_x(cls, *args: Any) -> None:
        raise KeyError("in the hook")


class BadOnFailureJob(FailingJob):
    @classmethod
    def on_failure_x(cls, error: BaseException, *args: Any) -> None:
        raise OSError("worse")


class BorrowingJob(Base):
    @classmethod
    def perform(cls) -> None:
        cls.seen.append(cls.resq)


class OwningJob(BorrowingJob):
    resq = "its own"


class RetriedJob(FailingJob):
    queue = "of the class"
    retry_every = 5
    retry_timeout = 30


class EndlessJob(FailingJob):
    retry_every = 5


class QueuelessRetriedJob(FailingJob):
    queue = None
    retry_every = 5


@pytest.fixture(autouse=True)
def _nothing_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    Base.seen.clear()
    monkeypatch.setattr(ResQ, "_current_time", staticmethod(lambda: NOW))


def made(resq: ResQ, klass: type, *args: Any, **more: Any) -> Job:
    payload = {"class": f"{__name__}.{klass.__qualname__}", "args": list(args), **more}
    return Job("mail", payload, resq)


def in_hand(resq: ResQ, redis: Redis, job: Job) -> Job:
    """The job as a worker has it that has fetched it: in flight."""
    record = b'{"queue":"mail","run_at":"x","payload":%b}' % resq.encode(job._payload).encode()
    redis.set(RECORD_KEY, record)
    job.in_flight, job._worker = record, ME
    return job


def delayed(redis: Redis) -> dict[int, list[Any]]:
    timestamps = [int(member) for member in redis.zrange("resque:delayed_queue_schedule", 0, -1)]
    return {
        timestamp: [json.loads(raw) for raw in redis.lrange(f"resque:delayed:{timestamp}", 0, -1)]
        for timestamp in timestamps
    }


def records(redis: Redis) -> list[Any]:
    return [json.loads(raw) for raw in redis.lrange("resque:failed", 0, -1)]


# Performing


def test_perform_returns_the_value_of_the_class(resq):
    assert made(resq, Base, 1, "é").perform() == "value"
    assert Base.seen == [("perform", 1, "é")]


def test_a_job_shows_its_queue_class_and_arguments(resq):
    job = Job("mail", {"class": "A", "args": [1], "enqueue_timestamp": 7.5}, resq, ME)

    assert str(job) == "(Job{mail} | A | [1])"
    assert (job._queue, job.resq, job._worker, job.enqueue_timestamp) == ("mail", resq, ME, 7.5)
    assert str(Job("mail", [1], resq)) == "(Job{mail} | None | None)"


def test_hooks_of_1_5_get_the_metadata(resq):
    made(resq, MetadataJob, 1, enqueue_timestamp=7.5).perform()

    started = {
        "args": [1],
        "failed": False,
        "enqueue_timestamp": 7.5,
        "perform_timestamp": NOW.timestamp(),
    }
    assert Base.seen == [
        ("before", started),
        ("perform", 1),
        ("after", {**started, "mine": 1}),
    ]


def test_after_perform_of_1_5_is_called_after_a_failure(resq):
    with pytest.raises(ValueError, match="no") as raised:
        made(resq, FailingMetadataJob).perform()

    after = Base.seen[-1][1]
    assert after["failed"] is True
    assert after["exception"] is raised.value
    assert after["retried"] is False


def test_rubys_hooks_run_by_name_and_the_first_around_is_outermost(resq):
    assert made(resq, RubysJob, 7).perform() == "value"

    assert Base.seen == [
        (name, 7)
        for name in (
            "before_a", "before_b", "in_1", "in_2", "perform", "out_2", "out_1", "after_x"
        )
    ]  # fmt: skip


def test_an_around_that_does_not_yield_skips_the_job_and_what_is_inside_it(resq):
    assert made(resq, SkippingJob, "stay").perform() is None

    assert [name for name, *_ in Base.seen] == ["before_a", "before_b", "after_x"]


def test_the_same_around_that_yields_runs_the_job(resq):
    assert made(resq, SkippingJob, "go on").perform() == "value"


def test_an_around_hook_that_is_not_a_generator_skips_the_job(resq):
    assert made(resq, PlainAroundJob).perform() is None
    assert Base.seen == ["around"]


def test_an_around_that_catches_the_error_makes_a_success_of_it(resq):
    assert made(resq, RescuingJob).perform() is None
    assert Base.seen == [("perform",), ("rescued", "no"), "after_x"]


def test_an_around_hook_gets_the_error_and_passes_it_on(resq):
    with pytest.raises(ValueError, match="no"):
        made(resq, EnsuringJob).perform()
    assert Base.seen == [("perform",), "ensured"]


def test_dont_perform_drops_the_job_without_a_failure(resq, redis):
    assert made(resq, DontJob).perform() is None

    assert [name for name, *_ in Base.seen] == ["before"]
    assert redis.keys() == []


def test_after_perform_of_1_5_does_not_change_a_success(resq, redis, caplog):
    # pyres 1.5 failed a successful job
    with caplog.at_level(logging.ERROR, "pyres"):
        assert made(resq, BadAfterJob).perform() == "value"
    assert "the job's outcome is unchanged" in caplog.text


def test_after_perform_of_1_5_does_not_change_a_retry_or_failure(resq, redis):
    # pyres 1.5 retried the job and failed it as well
    assert made(resq, BadAfterRetriedJob).perform() is None
    assert len(delayed(redis)) == 1
    with pytest.raises(ValueError, match="no"):
        made(resq, BadAfterFailingJob).perform()


def test_rubys_after_perform_that_raises_is_a_failure(resq):
    with pytest.raises(KeyError, match="in the hook"):
        made(resq, BadRubyAfterJob).perform()


@pytest.mark.parametrize("klass", [BorrowingJob, OwningJob])
def test_the_class_has_resq_while_it_performs_and_what_it_had_afterwards(resq, klass):
    # pyres 1.5 removed a class's own `resq` after the first run
    before = vars(klass).get("resq")

    made(resq, klass).perform()
    made(resq, klass).perform()

    assert Base.seen == [resq, resq]
    assert vars(klass).get("resq") is before
    assert ("resq" in vars(klass)) == (klass is OwningJob)


def test_resq_is_restored_after_a_failure_too(resq):
    with pytest.raises(ValueError, match="no"):
        made(resq, FailingJob).perform()
    assert "resq" not in vars(FailingJob)


@pytest.mark.parametrize(
    ("payload", "error", "message"),
    [
        ([1], UndecodableError, r"invalid payload \[1\]: expected"),
        ({}, UndecodableError, "the payload's class is None, not a name"),
        ({"class": 7, "args": []}, UndecodableError, "the payload's class is 7, not a name"),
        ({"class": "A", "args": 7}, UndecodableError, "the payload's args are 7, not a list"),
        ({"class": "no.such.Class"}, ClassNotFoundError, "there is no module 'no'"),
        ({"class": f"{__name__}.Nothing"}, ClassNotFoundError, "has no 'Nothing'"),
        ({"class": f"{__name__}.NOW"}, ClassNotFoundError, r"which has no perform\(\)"),
    ],
)
def test_a_job_that_cannot_be_performed_says_why(resq, payload, error, message):
    with pytest.raises(error, match=message):
        Job("mail", payload, resq).perform()


def test_a_malformed_payload_becomes_a_job_that_fails(resq):
    with pytest.raises(UndecodableError, match="is not JSON"):
        Job.read("mail", b"\xff{", resq).perform()
    with pytest.raises(UndecodableError, match="expected a JSON object .*, got a list"):
        Job.read("mail", b"[1]", resq).perform()


def test_a_name_that_is_not_allowed_is_refused_before_its_import(resq):
    job = made(resq, Base)
    job.safe_str_to_class = Allowed(["app.jobs"]).load

    with pytest.raises(NotAllowedError, match=r"not under any of the allowed app\.jobs"):
        job.perform()


def test_users_may_replace_the_function_that_finds_classes(resq, monkeypatch):
    monkeypatch.setattr(Job, "safe_str_to_class", staticmethod(lambda name: Base))
    assert Job("mail", {"class": "Any", "args": [1]}, resq).perform() == "value"


def test_reserve_fetches_the_next_job(resq, redis):
    redis.rpush("resque:queue:low", b'{"class":"A","args":[1]}', b"\xff")

    job = Job.reserve(["high", "low"], resq, ME)

    assert (job._queue, job.args, job.raw, job._worker) == (
        "low", [1], b'{"class":"A","args":[1]}', ME,
    )  # fmt: skip
    assert Job.reserve("low", resq).name == "<undecodable>"
    assert Job.reserve("low", resq, timeout=0) is None


class ChangingJob(FailingJob):
    @classmethod
    def perform(cls, *args: Any) -> Any:
        args[0]["more"] = object()
        raise ValueError("no")


class ChangingRetriedJob(ChangingJob):
    retry_every = 5


def test_what_a_job_does_to_its_arguments_is_not_recorded_nor_tried_again(resq, redis):
    job = made(resq, ChangingJob, {"a": [1]})
    with pytest.raises(ValueError, match="no") as raised:
        job.perform()

    job.fail(raised.value)
    made(resq, ChangingRetriedJob, {"a": [1]}).perform()

    assert records(redis)[0]["payload"]["args"] == [{"a": [1]}]
    assert [item["args"] for items in delayed(redis).values() for item in items] == [[{"a": [1]}]]


@pytest.mark.parametrize("count", ["x", [1], None, 2.5, {}])
def test_a_count_of_retries_that_is_not_a_number_is_none(resq, redis, count):
    assert made(resq, EndlessJob, retry_attempt=count).perform() is None
    assert [item["retry_attempt"] for items in delayed(redis).values() for item in items] == [1]


# Failing


def test_making_a_job_leaves_the_backend_alone(resq, monkeypatch):
    # pyres 1.5 reset it with every Job()
    monkeypatch.setattr(failure, "backend", failure.BaseBackend)

    made(resq, Base)

    assert failure.backend is failure.BaseBackend


@pytest.mark.parametrize("error", [ValueError("why"), "why"])
def test_fail_records_the_exception_passed(resq, redis, error):
    # pyres 1.5 recorded sys.exc_info()
    failed = made(resq, Base, 1).fail(error)

    assert isinstance(failed, failure.RedisBackend)
    record = records(redis)[0]
    assert record["exception"] == ("Exception" if error == "why" else "ValueError")
    assert record["error"] == "why"
    assert record["queue"] == "mail"
    assert record["payload"]["args"] == [1]


def test_the_failure_hooks_of_a_class_get_the_error_and_the_arguments(resq):
    job = made(resq, RubysJob, 7)
    job.load()
    error = ValueError("no")

    assert job.failure_hooks(error) is error
    assert Base.seen == [("on_failure", ValueError, 7)]


def test_a_failure_hook_has_the_resq_of_its_job_only_while_it_runs(resq):
    class Hooked(RubysJob):
        @classmethod
        def on_failure_x(cls, *args: Any) -> None:
            cls.seen.append(cls.resq)

    job = made(resq, Hooked)
    job._target = Hooked

    job.failure_hooks(ValueError())

    assert Base.seen == [resq]
    assert not hasattr(Hooked, "resq")


def test_a_failure_hook_that_raises_is_described_in_the_record(resq):
    job = made(resq, BadOnFailureJob, 7)
    job.load()

    error = job.failure_hooks(ValueError("first"))

    assert type(error) is RuntimeError
    assert str(error) == (
        "Additional error (OSError: worse) occurred in running failure hooks for job "
        f"(Job{{mail}} | {__name__}.BadOnFailureJob | [7])\n"
        "Original error that caused job failure was ValueError: first"
    )


def test_a_class_that_was_never_found_has_no_hooks(resq):
    error = ValueError("no")
    assert Job("mail", {"class": "no.such"}, resq).failure_hooks(error) is error


# Trying again


def test_a_retry_is_pushed_to_the_jobs_own_queue_and_keeps_its_fields(resq, redis):
    # pyres 1.5 used the class's queue, and lost extra fields
    made(resq, RetriedJob, 1, "é", enqueue_timestamp=7.5, trace={"id": 3}).perform()

    assert delayed(redis) == {
        int(NOW.timestamp()) + 5: [
            {
                "class": f"{__name__}.RetriedJob",
                "args": [1, "é"],
                "queue": "mail",
                "enqueue_timestamp": 7.5,
                "trace": {"id": 3},
                "first_attempt": "@D:2026-11-23T16:01:09",
                "retry_attempt": 1,
            }
        ]
    }
    raw = redis.lrange(f"resque:delayed:{int(NOW.timestamp()) + 5}", 0, -1)[0]
    assert list(json.loads(raw))[:3] == ["class", "args", "queue"]
    assert records(redis) == []
    assert redis.get("resque:stat:failed") is None


def test_a_class_without_a_queue_is_tried_again_too(resq, redis):
    # pyres 1.5's AttributeError hid the job's own error
    assert made(resq, QueuelessRetriedJob).perform() is None
    assert [item["queue"] for items in delayed(redis).values() for item in items] == ["mail"]


@pytest.mark.parametrize(("seconds", "retried"), [(0, True), (24, True), (25, False), (31, False)])
def test_a_job_is_tried_again_until_its_time_is_over(resq, redis, seconds, retried):
    first = NOW - timedelta(seconds=seconds)
    job = made(resq, RetriedJob, first_attempt=first, retry_attempt=2)

    if retried:
        assert job.perform() is None
    else:
        with pytest.raises(ValueError, match="no"):
            job.perform()

    found = [item for items in delayed(redis).values() for item in items]
    assert [item["retry_attempt"] for item in found] == ([3] if retried else [])
    assert all(item["first_attempt"] == resq.encode(first).strip('"') for item in found)


def test_without_a_timeout_it_is_tried_again_for_ever(resq, redis):
    # pyres 1.5 never retried it
    job = made(resq, EndlessJob, first_attempt=NOW - timedelta(days=999))

    assert job.perform() is None
    assert len(delayed(redis)) == 1


def test_the_last_failure_has_the_number_of_attempts(resq, redis):
    made(resq, RetriedJob, retry_attempt=4).fail(ValueError("no"))
    assert records(redis)[0]["error"] == "no (tried 5 times)"


# Written once


def test_the_outcome_of_a_job_removes_its_in_flight_record_in_the_same_transaction(
    resq, redis, server
):
    job = in_hand(resq, redis, made(resq, Base, 1))

    with server.monitor() as monitor:
        assert job.record_outcome(lambda batch: save_failure(job, ValueError("no"), batch))
        names = monitor.names

    assert names[:4] == ["WATCH", "MGET", "EVAL", "MULTI"]
    assert names[-1] == "EXEC"
    assert not redis.exists(RECORD_KEY)
    assert len(records(redis)) == 1
    assert redis.get("resque:stat:failed") == redis.get(f"resque:stat:failed:{ME}") == b"1"


@pytest.mark.parametrize("other", [None, b"another job"])
def test_nothing_is_written_when_the_in_flight_record_is_another(resq, redis, other):
    job = in_hand(resq, redis, made(resq, RetriedJob, 1))
    redis.delete(RECORD_KEY)
    if other:
        redis.set(RECORD_KEY, other)

    assert not job.record_outcome(lambda batch: save_failure(job, ValueError("no"), batch))
    job.perform()

    assert redis.get(RECORD_KEY) == other
    assert records(redis) == []
    assert delayed(redis) == {}


def test_nothing_is_written_when_the_in_flight_record_changes_at_the_last_moment(resq, redis):
    job = in_hand(resq, redis, made(resq, Base, 1))

    def write(batch: ResQ) -> None:
        redis.delete(RECORD_KEY)
        save_failure(job, ValueError("no"), batch)

    assert job.record_outcome(write) is False
    assert redis.keys() == []


def test_an_in_flight_record_that_was_written_again_unchanged_is_removed(resq, redis):
    """A server that loads its data touches each key: the failure of a job was lost by that."""
    job = in_hand(resq, redis, made(resq, Base, 1))
    touches = iter([job.in_flight])

    def write(batch: ResQ) -> None:
        for record in touches:
            redis.set(RECORD_KEY, record)
        save_failure(job, ValueError("no"), batch)

    assert job.record_outcome(write) is True

    assert not redis.exists(RECORD_KEY)
    assert len(records(redis)) == 1
    assert redis.get("resque:stat:failed") == b"1"


def test_two_processes_that_record_the_same_outcome_write_it_once(resq, redis):
    job = in_hand(resq, redis, made(resq, Base, 1))
    again = made(resq, Base, 1)
    again.in_flight, again._worker = job.in_flight, ME

    settled = [
        each.record_outcome(lambda batch, each=each: save_failure(each, ValueError("no"), batch))
        for each in (job, again)
    ]

    assert settled == [True, False]
    assert len(records(redis)) == 1


def test_a_retry_removes_the_in_flight_record_with_it(resq, redis):
    job = in_hand(resq, redis, made(resq, RetriedJob, 1))

    job.perform()

    assert not redis.exists(RECORD_KEY)
    assert len(delayed(redis)) == 1


@pytest.mark.parametrize("queue", ["b\udcff", "é"])
def test_a_job_from_a_queue_of_any_name_can_fail(resq, redis, queue):
    job = Job.read(queue, b"\xff", resq, f"here:1:{queue}")

    job.record_outcome(lambda batch: save_failure(job, ValueError("no"), batch))

    assert len(records(redis)) == 1
    assert redis.get("resque:stat:failed") == b"1"
