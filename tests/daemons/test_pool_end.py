"""How a pool ends: the grace of its jobs, what is cut off, and that no keys remain."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from redis import Redis

from pyres import ResQ
from tests.daemons.odd_jobs import LineJob
from tests.daemons.pools import busy_with, end_pool, minions, nothing_is_left, start_pool
from tests.daemons.watching import begun, counted, echoed, lines, records
from tests.jobs import BEGUN, GATE, EchoJob, GateJob, SleepJob, StubbornJob
from tests.servers import Daemons, Server, alive, until


def seconds_until(over: dict[str, Callable[[], bool]], since: float) -> dict[str, float]:
    """When each of these came true, in seconds after a moment."""
    seen: dict[str, float] = {}

    def all_over() -> bool:
        for name, is_over in over.items():
            if name not in seen and is_over():
                seen[name] = time.monotonic() - since
        return len(seen) == len(over)

    until(all_over, timeout=60, what="the end of all")
    return seen


def ends_of(kind: str, pids: Iterable[int]) -> dict[str, Callable[[], bool]]:
    return {f"{kind} {pid}": lambda pid=pid: not alive(pid) for pid in pids}


STOPS = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]


@pytest.mark.parametrize("signum", STOPS)
def test_a_job_that_ends_within_the_grace_is_done_and_the_idle_ones_go_before_it(
    signum: int, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start_pool(run_daemon, redis, 3, "--grace", "600")
    resq.enqueue(GateJob, "g")
    job = begun(redis)

    daemon.send(signum)
    until(lambda: minions(redis) == [job], what="the end of the idle ones")
    redis.rpush(GATE.format("g"), 1)

    assert daemon.wait() == 0
    assert echoed(redis) == [["g"]]
    assert counted(redis) == (1, 0)
    assert nothing_is_left(redis)
    daemon.assert_no_processes_left()


@pytest.mark.parametrize("signum", STOPS[:2])
def test_jobs_that_outlast_the_grace_are_killed_and_each_is_a_failure(
    signum: int, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start_pool(run_daemon, redis, 3, "--grace", "0.5")
    resq.enqueue_many([(StubbornJob, 600), (StubbornJob, 600)])
    until(lambda: redis.llen(BEGUN) == 2, what="both jobs to begin")

    daemon.send(signum)

    assert daemon.wait() == 0
    failed = records(resq)
    assert [record["payload"]["class"] for record in failed] == ["tests.jobs.StubbornJob"] * 2
    assert {record["error"] for record in failed} == {
        "the minion that performed the job was killed by SIGKILL"
    }
    assert counted(redis) == (2, 2)
    assert nothing_is_left(redis)
    daemon.assert_no_processes_left()


@pytest.mark.timing
def test_ten_seconds_of_grace_are_ten_and_for_all_at_once(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """Three pools side by side: one gets TERM, one INT, one QUIT.

    A job of 4 s finishes, those that ignore TERM are killed 10 to 12 s after it, the manager ends
    by 13 s.
    """
    queues = {"term": signal.SIGTERM, "int": signal.SIGINT, "quit": signal.SIGQUIT}
    pools = {queue: start_pool(run_daemon, redis, 4, "--queues", queue) for queue in queues}
    for queue in ("term", "int"):
        for job in ((StubbornJob, 60), (StubbornJob, 60), (SleepJob, 4)):
            resq.enqueue_to(queue, *job)
    resq.enqueue_to("quit", SleepJob, 11)
    until(lambda: redis.llen(BEGUN) == 7, what="all jobs to begin")
    stubborn = busy_with(redis, "StubbornJob")
    idle = set(minions(redis)) - set(map(int, redis.lrange(BEGUN, 0, -1)))

    signalled = time.monotonic()
    for queue, signum in queues.items():
        pools[queue].send(signum)
    ended = seconds_until(
        {
            **ends_of("stubborn", stubborn),
            **ends_of("idle", idle),
            **{
                queue: lambda pool=pool: pool.returncode is not None
                for queue, pool in pools.items()
            },
        },
        signalled,
    )

    assert (len(stubborn), len(idle)) == (4, 5)
    assert all(10 <= ended[f"stubborn {pid}"] <= 12 for pid in stubborn), ended
    assert all(ended[f"idle {pid}"] < 3 for pid in idle), ended
    assert ended["term"] <= 13 and ended["int"] <= 13, ended
    assert [pool.returncode for pool in pools.values()] == [0, 0, 0]
    assert sorted(echoed(redis)) == [[4], [4], [11]]
    failed = records(resq)
    assert [record["payload"]["class"] for record in failed] == ["tests.jobs.StubbornJob"] * 4
    assert {record["error"] for record in failed} == {
        "the minion that performed the job was killed by SIGKILL"
    }
    assert counted(redis) == (7, 4)
    assert nothing_is_left(redis)
    for pool in pools.values():
        pool.assert_no_processes_left()


@pytest.mark.timing
def test_an_idle_pool_ends_within_a_second(run_daemon: Daemons, redis: Redis) -> None:
    daemon = start_pool(run_daemon, redis, 4)

    signalled = time.monotonic()
    end_pool(daemon, redis)

    assert time.monotonic() - signalled < 1


def test_a_stop_without_limit_can_be_given_a_grace_later(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """QUIT, and then TERM."""
    daemon = start_pool(run_daemon, redis, 2, "--grace", "0.2")
    resq.enqueue(StubbornJob, 60)
    until(lambda: redis.llen(BEGUN))

    daemon.send(signal.SIGQUIT)
    until(lambda: len(minions(redis)) == 1, what="the end of the idle one")
    assert daemon.returncode is None
    daemon.send(signal.SIGTERM)

    assert daemon.wait() == 0
    assert len(records(resq)) == 1
    assert nothing_is_left(redis)


def test_a_job_pushed_in_the_moment_of_the_signal_is_not_lost(
    run_daemon: Daemons, resq: ResQ, redis: Redis, tmp_path: Path
) -> None:
    """Twelve minions in BLPOP, and jobs pushed while they stop."""
    daemon = start_pool(run_daemon, redis, 12, "--blocking-pop", "--grace", "600")
    until(lambda: sum(c["cmd"] == "blpop" for c in redis.client_list()) == 12)
    jobs, done = 60, tmp_path / "lines"

    for number in range(jobs):
        if number == 6:
            daemon.send(signal.SIGTERM)
        resq.enqueue(LineJob, str(done), number)

    assert daemon.wait() == 0
    left = [json.loads(raw)["args"][1] for raw in redis.lrange("resque:queue:basic", 0, -1)]
    assert sorted(lines(done) + left) == list(range(jobs))
    assert counted(redis) == (jobs - len(left), 0)
    assert nothing_is_left(redis)


def test_ctrl_c_is_one_orderly_end(run_daemon: Daemons, resq: ResQ, redis: Redis) -> None:
    """The terminal sends it to the minions, too."""
    daemon = start_pool(run_daemon, redis, 3)
    resq.enqueue(SleepJob, 0.5)
    until(lambda: redis.llen(BEGUN))

    daemon.send_group(signal.SIGINT)

    assert daemon.wait() == 0
    assert echoed(redis) == [[0.5]]
    assert counted(redis) == (1, 0)
    assert "Traceback" not in daemon.output()
    assert nothing_is_left(redis)


def test_a_pool_without_its_server_ends_in_time_and_its_job_is_pruned_later(
    run_daemon: Daemons,
) -> None:
    """The in-flight record of a job that was cut off stays until the next manager starts."""
    with Server(appendonly=True) as server:
        redis, resq = server.client(), ResQ(server.dsn)
        options = ("--dsn", server.dsn, "--grace", "0.5")
        daemon = start_pool(run_daemon, redis, 2, *options)
        resq.enqueue(StubbornJob, 60)
        until(lambda: redis.llen(BEGUN))
        resq.close()

        server.kill()
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 0, daemon.output()
        daemon.assert_no_processes_left()
        server.restart()
        redis, resq = server.client(), ResQ(server.dsn)
        # Not start_pool, which counts registrations: the dead minions are still registered.
        second = run_daemon("pyres_manager", "--queues", "basic", *options)

        until(lambda: len(records(resq)) == 1, what="the record of the job that was cut")
        assert records(resq)[0]["payload"]["class"] == "tests.jobs.StubbornJob"
        resq.enqueue(EchoJob, "next")
        until(lambda: echoed(redis) == [["next"]])
        second.send(signal.SIGTERM)
        assert second.wait() == 0
        assert nothing_is_left(redis)
        resq.close()
