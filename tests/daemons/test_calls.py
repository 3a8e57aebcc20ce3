"""Jobs that are coroutines, generators or decorated, raise a BaseException, or fork."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from pyres import ResQ, job
from pyres.exceptions import NotAJobError
from tests.daemons import call_jobs
from tests.daemons.pools import end_pool, minions, start_pool
from tests.daemons.watching import burst, counted, echoed, records
from tests.jobs import BEGUN, EchoJob
from tests.servers import Daemons, until

Perform = Callable[[int], None]

#: So that jobs with a name of their own can be found.
REQUIRE = ("--require", "tests.daemons.call_jobs")


@pytest.fixture(params=["worker", "minion"])
def perform(request: pytest.FixtureRequest, run_daemon: Daemons, redis: Redis) -> Perform:
    """Have a worker, or a pool of one minion, perform N jobs."""

    def run(processed: int) -> None:
        if request.param == "worker":
            burst(run_daemon, "--nonblocking-pop", *REQUIRE)
            return
        daemon = start_pool(run_daemon, redis, 1, *REQUIRE)
        before = minions(redis)
        until(lambda: counted(redis)[0] == processed)
        assert minions(redis) == before
        end_pool(daemon, redis)

    return run


def test_coroutines_run_to_their_end(perform: Perform, resq: ResQ, redis: Redis) -> None:

    resq.enqueue(call_jobs.AsyncJob, "class")
    resq.enqueue(call_jobs.async_function, "function")

    perform(2)

    assert echoed(redis) == [["class"], ["function"]]
    assert counted(redis) == (2, 0)


@pytest.mark.parametrize("name", ["GeneratorJob", "AsyncGeneratorJob", "HiddenGeneratorJob"])
def test_a_generator_is_recorded_as_a_failure_with_the_reason(
    name: str, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    resq.enqueue_from_string(f"tests.daemons.call_jobs.{name}", "basic")

    burst(run_daemon, "--nonblocking-pop")

    (record,) = records(resq)
    assert record["exception"] == "NotAJobError"
    assert record["error"].endswith(
        "expected a function that runs when it is called, not a generator"
    )


@pytest.mark.parametrize("target", [call_jobs.GeneratorJob, call_jobs.AsyncGeneratorJob])
def test_enqueue_refuses_a_generator(target: type, resq: ResQ, redis: Redis) -> None:
    with pytest.raises(NotAJobError, match="not a generator"):
        resq.enqueue(target)
    assert redis.keys("*") == []


@pytest.mark.parametrize("target", [call_jobs.GeneratorJob, call_jobs.AsyncGeneratorJob])
def test_a_generator_below_job_is_refused_by_enqueue_and_leaves_its_module_usable(
    target: Any, resq: ResQ
) -> None:
    decorated = job(queue="basic")(target.perform)
    with pytest.raises(NotAJobError, match="not a generator"):
        resq.enqueue(decorated)


def test_job_refuses_to_schedule_a_generator() -> None:
    with pytest.raises(NotAJobError, match="not a generator"):
        job(queue="basic", name="AGenerator", every=60)(call_jobs.GeneratorJob.perform)


@pytest.mark.parametrize("name", ["cancelled", "group", "own"])
def test_a_base_exception_is_retried_and_counted(
    name: str, perform: Perform, resq: ResQ, redis: Redis
) -> None:
    resq.enqueue(call_jobs.RaisingJob, name)
    resq.enqueue(EchoJob, "next")

    perform(3)

    assert redis.llen(BEGUN) == 2
    (record,) = records(resq)
    assert record["error"].endswith("(tried 2 times)")
    assert echoed(redis) == [["next"]]
    assert counted(redis) == (3, 1)


def test_a_decorator_above_job_is_applied(perform: Perform, resq: ResQ, redis: Redis) -> None:
    resq.enqueue(call_jobs.decorated, "one")
    resq.enqueue(call_jobs.decorated_with_name, "two")

    perform(2)

    assert echoed(redis) == [["ONE"], ["TWO"]]


@pytest.mark.parametrize("way", ["return", "exit", "raise"])
def test_a_copy_that_comes_back_from_perform_does_nothing_more(
    way: str, perform: Perform, resq: ResQ, redis: Redis
) -> None:
    resq.enqueue(call_jobs.ForkingJob, way)
    resq.enqueue_many([(EchoJob, number) for number in range(50)])

    perform(51)

    assert echoed(redis) == [[number] for number in range(50)]
    assert counted(redis) == (51, 0)


def test_a_copy_that_a_hook_made_performs_nothing(
    perform: Perform, resq: ResQ, redis: Redis
) -> None:
    resq.enqueue(call_jobs.HookForkingJob, "once")

    perform(1)

    assert echoed(redis) == [["once"]]
    assert counted(redis) == (1, 0)


@pytest.mark.parametrize("way", ["exit", "exec"])
def test_a_job_that_ends_its_process_before_its_end_is_a_failure(
    way: str, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    resq.enqueue(call_jobs.EarlyExitJob, way)
    resq.enqueue(EchoJob, "next")

    burst(run_daemon, "--nonblocking-pop")

    (record,) = records(resq)
    assert record["exception"] == "CrashError"
    assert record["error"].endswith("exited with status 0 before the job ended")
    assert counted(redis) == (2, 1)
    assert echoed(redis) == [["next"]]


def test_a_job_that_ends_its_minion_early_is_a_failure(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start_pool(run_daemon, redis, 1)
    resq.enqueue(call_jobs.EarlyExitJob, "exit")
    resq.enqueue(EchoJob, "next")

    until(lambda: counted(redis) == (2, 1))

    (record,) = records(resq)
    assert record["error"].endswith("exited with status 0 before the job ended")
    end_pool(daemon, redis)


@pytest.mark.usefixtures("own_title")
def test_a_subclass_may_end_its_child_as_in_pyres_15(resq: ResQ, redis: Redis) -> None:
    resq.enqueue(EchoJob, "done")

    call_jobs.ExitWorker(["basic"], resq).work(0)

    assert echoed(redis) == [["done"]]
    assert counted(redis) == (1, 0)
