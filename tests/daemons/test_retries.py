"""Failed jobs are retried by their class's policy, also when their process died."""

from __future__ import annotations

import json
import os
import signal

import pytest

from pyres import job
from pyres.job import Job
from pyres.scheduler import Scheduler
from pyres.worker import Worker
from tests.servers import until

pytestmark = pytest.mark.usefixtures("own_title", "own_jobs")


class Retrying:
    """Ends as its argument says; the first retry is at once, the second an hour later."""

    queue = "retrying"
    retry_dirty_exit = True
    backoff_strategy = (0, 3600)

    @staticmethod
    def perform(how):
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "exit":
            os._exit(3)
        if how == "sys.exit":
            raise SystemExit(3)
        while how == "hang":
            signal.pause()


class Dirty(Retrying):
    retry_dirty_exit = False


def waiting(resq):
    """The payloads of delayed retries."""
    return [
        item
        for timestamp in resq.delayed_queue_peek(0, 10)
        for item in resq.delayed_timestamp_peek(timestamp, 0, 10)
    ]


@pytest.mark.parametrize("how", ["kill", "exit", "sys.exit"])
def test_a_dirty_exit_is_tried_again_by_the_parent_where_the_class_asks(resq, redis, how):
    resq.enqueue(Retrying, how)

    Worker("retrying", resq).work(interval=0)

    # The first retry went straight to the queue, and was performed, too.
    (item,) = waiting(resq)
    assert (item["retry_attempt"], item["queue"], item["args"]) == (2, "retrying", [how])
    assert redis.llen("resque:failed") == 0
    assert redis.get("resque:stat:processed") == b"2"
    assert redis.get("resque:stat:failed") is None


@pytest.mark.parametrize("how", ["kill", "exit", "sys.exit"])
def test_a_dirty_exit_is_a_failure_where_the_class_does_not_ask(resq, redis, how):
    resq.enqueue(Dirty, how)

    Worker("retrying", resq).work(interval=0)

    assert waiting(resq) == []
    assert redis.llen("resque:failed") == 1


def test_a_job_over_its_timeout_is_tried_again(resq, redis):
    resq.enqueue(Retrying, "hang")

    Worker("retrying", resq, timeout=0.1).work(interval=0)

    (item,) = waiting(resq)
    assert item["retry_attempt"] == 2
    assert redis.llen("resque:failed") == 0


def test_the_last_attempt_is_a_failure_that_tells_the_number_of_attempts(resq, redis):
    payload = {"class": f"{__name__}.Retrying", "args": ["kill"], "retry_attempt": 2}
    resq.push("retrying", payload)

    Worker("retrying", resq).work(interval=0)

    (record,) = (json.loads(raw) for raw in redis.lrange("resque:failed", 0, -1))
    assert record["error"] == "the process of the job was killed by SIGKILL (tried 3 times)"
    assert record["payload"] == payload
    assert list(record) == [
        *("failed_at", "payload", "exception", "error", "backtrace", "worker", "queue")
    ]


def test_a_retry_survives_its_promotion_by_a_scheduler(run_daemon, resq, redis):
    @job(queue="retrying", retry_limit=2, retry_delay=1, name="Fickle")
    def fickle():
        raise ValueError("not yet")

    resq.enqueue(fickle)
    run_daemon("pyres_scheduler")

    for attempt in (1, 2):
        Worker("retrying", resq).process(Job.reserve("retrying", resq, timeout=0))
        until(lambda: redis.llen("resque:queue:retrying"))
        (item,) = resq.peek("retrying", 0, 2)
        assert item["retry_attempt"] == attempt
    Worker("retrying", resq).process(Job.reserve("retrying", resq, timeout=0))

    (record,) = (json.loads(raw) for raw in redis.lrange("resque:failed", 0, -1))
    assert record["error"] == "not yet (tried 3 times)"


def test_pyres_1_5s_retries_end_with_their_time(resq, redis):
    @job(queue="retrying", retry_every=5, retry_timeout=9, name="Every")
    def every():
        raise ValueError("never")

    start = resq._current_time()
    resq.enqueue(every)
    Worker("retrying", resq).process(Job.reserve("retrying", resq, timeout=0))
    assert redis.llen("resque:failed") == 0

    resq._current_time = lambda: start.replace(year=start.year + 1)
    Scheduler(resq).handle_delayed_items()
    Worker("retrying", resq).process(Job.reserve("retrying", resq, timeout=0))

    assert redis.llen("resque:failed") == 1
    assert waiting(resq) == []
