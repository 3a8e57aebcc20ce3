"""A worker that waits, pauses and stops: by signals, by keys in Redis, and by its jobs."""

from __future__ import annotations

import random
import signal
import time

import pytest
from redis import Redis

from pyres import ResQ
from pyres.client import LONGEST_POP
from pyres.store import dsn
from tests.daemons.odd_jobs import StopParentJob
from tests.daemons.watching import (
    PATIENT,
    begun,
    child_titled,
    counted,
    counts_last_job,
    echoed,
    fetches,
    living,
    pauses,
    records,
    registered,
    start,
)
from tests.jobs import GATE, EchoJob, GateJob, NoopJob, SleepJob, StubbornJob
from tests.servers import Daemons, Server, alive, until


def test_a_job_resets_the_pause_and_a_signal_ends_it(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """The pause after a job is 1 s again, and CONT alone causes a new fetch."""
    daemon = run_daemon("-c", PATIENT, "--queues", "basic", "--nonblocking-pop")
    until(lambda: pauses(daemon) == [1], what="a first fetch")

    daemon.send(signal.SIGCONT)
    until(lambda: pauses(daemon) == [1, 2], what="a fetch after the signal")
    resq.enqueue(NoopJob)
    daemon.send(signal.SIGCONT)

    until(lambda: pauses(daemon) == [1, 2, 1], what="the first pause after the job")
    assert counted(redis) == (1, 0)


@pytest.mark.timing
def test_the_pause_after_a_job_takes_one_second_unless_a_signal_ends_it(
    run_daemon: Daemons, resq: ResQ, redis: Redis, server: Server
) -> None:
    with server.monitor() as monitor:
        daemon = start(run_daemon, redis, "--queues", "basic", "--nonblocking-pop")
        until(lambda: fetches(monitor), what="a first fetch")
        resq.enqueue(NoopJob)

        def after_the_job() -> list[float]:
            seen = fetches(monitor)
            finished = [index for index, fetch in enumerate(seen) if counts_last_job(fetch)]
            times = [fetch.at for fetch in seen[finished[0] :]] if finished else []
            return times if len(times) >= 2 else []

        times = until(after_the_job, what="a fetch and a pause after the job")
        daemon.send(signal.SIGCONT)
        third = until(lambda: after_the_job()[2:], what="a fetch after the signal")[0]

    assert round(times[1] - times[0]) == 1
    # The signal cut short a pause of 2 s.
    assert third - times[1] < 1.5


def test_term_ends_the_pause_of_an_idle_worker(run_daemon: Daemons, redis: Redis) -> None:
    daemon = run_daemon("-c", PATIENT, "--queues", "basic", "--nonblocking-pop")
    until(lambda: pauses(daemon), what="a pause that only a signal ends")

    daemon.send(signal.SIGTERM)

    assert daemon.wait() == 0
    assert redis.keys("resque:worker*") == []


@pytest.mark.timing
@pytest.mark.parametrize("pop", ["--interval=5", "--nonblocking-pop"])
def test_term_ends_an_idle_worker_within_half_a_second(
    pop: str, run_daemon: Daemons, redis: Redis
) -> None:
    daemon = start(run_daemon, redis, "--queues", "basic", pop)
    daemon.until_title("Waiting")

    signalled = time.monotonic()
    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0

    assert time.monotonic() - signalled < 0.5
    assert redis.keys("resque:worker*") == []


@pytest.mark.parametrize("wait", [[], ["--blocking-pop"]], ids=str)
def test_a_job_pushed_in_the_very_moment_of_the_signal_is_not_lost(
    wait: list[str], run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """Two dozen idle workers, a push and a signal for each, in any order."""
    dice = random.Random(39)
    queues = [f"moment{number}" for number in range(24)]
    workers = {}
    for half in (queues[:12], queues[12:]):
        workers.update({each: run_daemon("pyres_worker", "--queues", each, *wait) for each in half})
        for queue in half:
            workers[queue].until_title("Waiting")

    for queue, worker in workers.items():
        acts = [
            lambda queue=queue: resq.enqueue_to(queue, EchoJob, queue),
            lambda worker=worker: worker.send(dice.choice([signal.SIGTERM, signal.SIGQUIT])),
        ]
        for act in dice.sample(acts, 2):
            act()

    assert [worker.wait() for worker in workers.values()] == [0] * len(queues)
    done = [queue for (queue,) in echoed(redis)]
    left = [queue for queue in queues if resq.size(queue)]
    assert sorted(done + left) == sorted(queues)
    assert records(resq) == []
    assert redis.keys("resque:worker*") == []


def test_term_gives_the_job_its_grace(run_daemon: Daemons, resq: ResQ, redis: Redis) -> None:
    daemon = start(run_daemon, redis)
    resq.enqueue(GateJob, "g")
    begun(redis)

    daemon.send(signal.SIGTERM)
    redis.rpush(GATE.format("g"), 1)

    assert daemon.wait() == 0
    assert echoed(redis) == [["g"]]
    assert redis.get("resque:stat:processed") == b"1"


def test_a_job_that_outlasts_the_grace_is_killed_and_recorded(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start(run_daemon, redis, "--queues", "basic", "--grace", "0.3")
    resq.enqueue(StubbornJob, 60)
    pid = begun(redis)

    daemon.send(signal.SIGTERM)

    assert daemon.wait() == 0
    assert not alive(pid)
    (record,) = records(resq)
    assert (record["exception"], record["error"]) == (
        "CrashError",
        "the process of the job was killed by SIGKILL",
    )
    assert redis.get("resque:stat:failed") == b"1"
    assert redis.scard("resque:workers") == 0


def test_a_second_int_kills_at_once(run_daemon: Daemons, resq: ResQ, redis: Redis) -> None:
    daemon = start(run_daemon, redis, "--queues", "basic", "--grace", "600")
    resq.enqueue(StubbornJob, 60)
    pid = begun(redis)

    # Two that the kernel has not delivered yet count as one, so there may be more than two.
    until(lambda: not alive(pid) or daemon.send(signal.SIGINT))

    assert daemon.wait() == 0
    assert len(records(resq)) == 1


def test_quit_waits_for_the_job(run_daemon: Daemons, resq: ResQ, redis: Redis) -> None:
    daemon = start(run_daemon, redis, "--queues", "basic", "--grace", "0")
    resq.enqueue(GateJob, "g")
    begun(redis)

    daemon.send(signal.SIGQUIT)
    resq.enqueue(EchoJob, "later")
    redis.rpush(GATE.format("g"), 1)

    assert daemon.wait() == 0
    assert echoed(redis) == [["g"]]
    assert resq.size("basic") == 1


def test_ctrl_c_is_one_failure_and_an_orderly_end(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """The terminal sends it to the job's process, too, and to a standby child."""
    daemon = start(run_daemon, redis, "--queues", "basic", "--grace", "20")
    resq.enqueue_many([(NoopJob,), (SleepJob, 60), (NoopJob,)])
    begun(redis)
    child_titled(daemon, "Ready")

    daemon.send_group(signal.SIGINT)

    assert daemon.wait() == 0
    (record,) = records(resq)
    assert record["exception"] == "KeyboardInterrupt"
    assert counted(redis) == (2, 1)
    assert resq.size("basic") == 1
    # The job's process reports; a standby child without a job has nothing to report.
    assert daemon.output().count("Traceback") == 1


def test_usr1_without_a_job_changes_nothing(run_daemon: Daemons, resq: ResQ, redis: Redis) -> None:
    daemon = start(run_daemon, redis)
    daemon.until_title("Waiting")

    for number in range(5):
        daemon.send(signal.SIGUSR1)
        resq.enqueue(EchoJob, number)
        until(lambda number=number: counted(redis)[0] == number + 1)

    assert echoed(redis) == [[number] for number in range(5)]
    assert counted(redis) == (5, 0)


def test_usr1_kills_the_running_job_and_not_the_standby_child(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start(run_daemon, redis)
    resq.enqueue_many([(NoopJob,), (SleepJob, 60), (EchoJob, "next")])
    job = begun(redis)
    waiting = child_titled(daemon, "Ready")

    daemon.send(signal.SIGUSR1)

    until(lambda: echoed(redis) == [["next"]])
    assert [record["payload"]["args"] for record in records(resq)] == [[60]]
    assert living([job]) == []
    until(lambda: not living([waiting]), what="the end of the child that did the next job")


def test_usr2_pauses_and_cont_resumes(run_daemon: Daemons, resq: ResQ, redis: Redis) -> None:
    daemon = start(run_daemon, redis)

    daemon.send(signal.SIGUSR2)
    daemon.until_title("Paused")
    resq.enqueue(EchoJob, 1)
    assert resq.size("basic") == 1

    daemon.send(signal.SIGCONT)
    until(lambda: echoed(redis) == [[1]])


def test_a_worker_paused_in_a_job_finishes_it_and_fetches_no_other(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start(run_daemon, redis)
    resq.enqueue_many([(GateJob, "g"), (EchoJob, "later")])
    begun(redis)

    daemon.send(signal.SIGUSR2)
    redis.rpush(GATE.format("g"), 1)
    daemon.until_title("Paused")

    assert echoed(redis) == [["g"]]
    assert counted(redis) == (1, 0)
    assert not redis.exists(b"resque:worker:" + registered(redis, daemon))
    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0
    assert resq.size("basic") == 1
    assert redis.keys("resque:worker*") == []


@pytest.mark.parametrize("other", ["false", None])
def test_the_pause_key_stops_each_waiting_mode_and_only_true_does(
    other: str | None, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    redis.set("resque:pause-all-workers", " TRUE ")
    workers = [
        start(run_daemon, redis, "--queues", "one", "--nonblocking-pop"),
        start(run_daemon, redis, "--queues", "two"),
    ]
    for queue in ("one", "two"):
        resq.enqueue_to(queue, EchoJob, queue)
    for worker in workers:
        worker.until_title("Paused")
    assert (resq.size("one"), resq.size("two")) == (1, 1)

    if other is None:
        redis.delete("resque:pause-all-workers")
    else:
        redis.set("resque:pause-all-workers", other)

    until(lambda: sorted(echoed(redis)) == [["one"], ["two"]])


def test_a_blocking_worker_sees_new_queues_but_not_excluded_ones(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    resq.watch_queue("m1")
    daemon = start(run_daemon, redis, "--queues", "m?,late*,!late-not", "--interval", "0.2")
    daemon.until_title("Waiting for m?,late*")

    resq.enqueue_to("late-not", EchoJob, "never")
    resq.enqueue_to("late", EchoJob, "late")
    resq.enqueue_to("m10", EchoJob, "one letter too many")
    until(lambda: echoed(redis) == [["late"]])
    resq.enqueue_to("m2", EchoJob, "m2")

    until(lambda: echoed(redis) == [["late"], ["m2"]])
    assert (resq.size("late-not"), resq.size("m10")) == (1, 1)


def test_a_job_may_signal_its_own_worker_to_stop(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start(run_daemon, redis)

    resq.enqueue_many([(StopParentJob,), (EchoJob, "later")])

    assert daemon.wait() == 0
    assert echoed(redis) == [["told"]]
    assert counted(redis) == (1, 0)
    assert resq.size("basic") == 1


def test_an_idle_worker_waits_again_and_again_on_one_connection(
    run_daemon: Daemons, redis: Redis, server: Server
) -> None:
    """The client's time limit must be longer than any such wait."""
    with server.monitor() as monitor:
        options = ["--queues", "basic", "--interval", "0.3", "--blocking-pop"]
        daemon = start(run_daemon, redis, *options)

        commands = monitor.until(lambda seen: [c.name for c in seen].count("BLPOP") >= 3)

    waits = [command for command in commands if command.name == "BLPOP"]
    assert len({wait.client for wait in waits}) == 1
    assert {float(wait.args[-1]) for wait in waits} == {0.3}
    assert "gone" not in daemon.output()
    assert dsn.READ_TIMEOUT >= 2 * LONGEST_POP
