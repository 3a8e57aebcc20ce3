"""The command pyres_manager: a pool of real processes that is kept alive."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from pyres import ResQ, failure
from tests.daemons.bad_jobs import StuckJob
from tests.daemons.pools import end_pool, khans, minions, nothing_is_left, start_pool
from tests.jobs import (
    BEGUN,
    ECHOED,
    GATE,
    EchoJob,
    ExitJob,
    GateJob,
    NoopJob,
    SleepJob,
    StubbornJob,
    SysExitJob,
)
from tests.servers import Daemon, Daemons, Server, alive, until

Start = Callable[..., Daemon]


@pytest.fixture
def start(run_daemon: Daemons, redis: Redis) -> Start:
    """Starts a manager on `basic` and waits until its whole pool is registered."""

    def run(pool: int, *options: str) -> Daemon:
        return start_pool(run_daemon, redis, pool, *options)

    return run


def test_a_pool_is_registered_works_and_counts(start: Start, resq: ResQ, redis: Redis) -> None:
    daemon = start(4)
    assert redis.smembers("resque:minions") == redis.smembers("resque:workers")
    assert khans(redis) == ["4"]

    resq.enqueue_many([(EchoJob, number) for number in range(20)])
    until(lambda: redis.llen(ECHOED) == 20)

    end_pool(daemon, redis)
    assert redis.get("resque:stat:processed") == b"20"


def test_a_killed_minion_is_replaced_and_its_failure_tells_how_it_died(
    start: Start, resq: ResQ, redis: Redis
) -> None:
    daemon = start(2)
    resq.enqueue(SleepJob, 60)
    victim = int(until(lambda: redis.lindex(BEGUN, 0)))

    os.kill(victim, signal.SIGKILL)

    until(lambda: len(minions(redis)) == 2 and victim not in minions(redis))
    (record,) = until(lambda: failure.all(resq, 0, 9))
    assert record["error"] == "the minion that performed the job was killed by SIGKILL"
    assert redis.mget("resque:stat:processed", "resque:stat:failed") == [b"1", b"1"]
    assert khans(redis) == ["2"]
    end_pool(daemon, redis)


@pytest.mark.parametrize(
    ("job", "text"),
    [((ExitJob, 3), "exited with status 3"), ((SysExitJob, 3), "status 3"), ((StuckJob,), "0.2 s")],
)
def test_a_job_that_ends_its_minion_is_one_failure(
    job: tuple[object, ...], text: str, start: Start, resq: ResQ, redis: Redis
) -> None:
    daemon = start(1)

    resq.enqueue(*job)
    resq.enqueue(EchoJob, "next")

    until(lambda: redis.llen(ECHOED) == 1)
    # By a crash handler, while the next minion works.
    (record,) = until(lambda: failure.all(resq, 0, 9))
    assert text in record["error"] or record["exception"] == "TimeoutError"
    end_pool(daemon, redis)


def test_a_job_gets_its_grace_and_a_stubborn_one_is_killed_and_recorded(
    start: Start, resq: ResQ, redis: Redis
) -> None:
    daemon = start(2, "--grace", "600")
    resq.enqueue(GateJob, "g")
    resq.enqueue(StubbornJob, 600)
    until(lambda: redis.llen(BEGUN) == 2)

    daemon.send(signal.SIGTERM)
    daemon.until_title("stopping")
    redis.rpush(GATE.format("g"), 1)
    until(lambda: redis.lrange(ECHOED, 0, -1) == [b'["g"]'])
    until(lambda: len(minions(redis)) == 1, what="the end of the one whose job is done")
    # The grace ends now.
    daemon.send(signal.SIGTERM)

    assert daemon.wait() == 0
    (record,) = failure.all(resq, 0, 9)
    assert record["payload"]["class"] == "tests.jobs.StubbornJob"
    assert nothing_is_left(redis)


def test_a_second_term_ends_it_at_once(start: Start, resq: ResQ, redis: Redis) -> None:
    daemon = start(1, "--grace", "600")
    resq.enqueue(StubbornJob, 60)
    pid = int(until(lambda: redis.lindex(BEGUN, 0)))

    until(lambda: not alive(pid) or daemon.send(signal.SIGTERM))

    assert daemon.wait() == 0
    assert nothing_is_left(redis)


def test_signals_and_commands_change_the_pool(start: Start, redis: Redis) -> None:
    """Also commands read as bytes, and pushed for an id that has changed meanwhile."""
    daemon = start(2, "--interval", "0.1")
    (first,) = redis.smembers("resque:khans")

    for signum, size in (
        (signal.SIGUSR2, 3),
        (signal.SIGTTIN, 4),
        (signal.SIGTTOU, 3),
        (signal.SIGUSR1, 2),
    ):
        daemon.send(signum)
        until(lambda size=size: len(minions(redis)) == size and khans(redis) == [str(size)])
    redis.rpush("resque:khan:" + first.decode(), "ADD", "NONSENSE", "ADD")
    until(lambda: len(minions(redis)) == 4 and khans(redis) == ["4"])
    redis.rpush("resque:khan:" + first.decode(), "REMOVE")
    until(lambda: len(minions(redis)) == 3 and khans(redis) == ["3"])
    redis.rpush("resque:khan:" + first.decode(), "SHUTDOWN")

    assert daemon.wait() == 0
    assert "invalid command 'NONSENSE': expected one of ADD, REMOVE, SHUTDOWN" in daemon.output()
    assert nothing_is_left(redis)


def test_hup_replaces_every_minion(start: Start, redis: Redis) -> None:
    daemon = start(3)
    old = set(minions(redis))

    daemon.send(signal.SIGHUP)

    until(lambda: len(minions(redis)) == 3 and not old & set(minions(redis)))
    assert khans(redis) == ["3"]
    end_pool(daemon, redis)


def test_a_minion_does_exactly_as_many_jobs_as_it_may_and_the_pool_keeps_its_size(
    start: Start, resq: ResQ, redis: Redis
) -> None:
    daemon = start(2, "--max-jobs", "1")
    resq.enqueue_many([(SleepJob, 0) for _ in range(30)])

    until(lambda: redis.llen(ECHOED) == 30, timeout=60)

    assert len(set(redis.lrange(BEGUN, 0, -1))) == 30
    until(lambda: len(minions(redis)) == 2)
    assert khans(redis) == ["2"]
    end_pool(daemon, redis)


def test_minions_end_after_their_job_when_khan_is_killed(
    start: Start, resq: ResQ, redis: Redis
) -> None:
    daemon = start(2)
    resq.enqueue(GateJob, "g")
    busy = int(until(lambda: redis.lindex(BEGUN, 0)))
    (idle,) = set(minions(redis)) - {busy}

    daemon.send(signal.SIGKILL)

    until(lambda: not alive(idle), what="the idle minion to end")
    assert alive(busy)
    redis.rpush(GATE.format("g"), 1)
    until(lambda: not alive(busy), what="the busy minion to end after its job")
    assert redis.llen(ECHOED) == 1
    assert redis.scard("resque:minions") == 0


def test_a_term_while_forty_are_being_forked_leaves_no_orphan(
    run_daemon: Daemons, redis: Redis
) -> None:
    daemon = run_daemon("pyres_manager", "--pool", "40", "--queues", "basic")
    until(lambda: len(daemon.children()) > 3)

    end_pool(daemon, redis)


def test_a_job_costs_one_round_trip(start: Start, resq: ResQ, redis: Redis, server: Server) -> None:
    daemon = start(1, "--nonblocking-pop")
    # The requests before its first job (a heartbeat, loading the script) are not counted.
    resq.enqueue(NoopJob, "first")
    until(lambda: redis.get("resque:stat:processed") == b"1")

    with server.monitor() as monitor:
        resq.enqueue_many([(NoopJob, number) for number in range(100)])
        until(lambda: redis.get("resque:stat:processed") in (b"100", b"101"))
        sent: dict[str, list[str]] = {}
        for command in monitor.commands:
            sent.setdefault(command.client, []).append(command.name)

    minion = max(sent, key=lambda client: sent[client].count("EVALSHA"))
    assert set(sent[minion]) == {"EVALSHA"}
    assert 99 <= len(sent[minion]) <= 103
    # This test's own, and those of the manager, which do not depend on the number of jobs.
    others = [names for client, names in sent.items() if client != minion]
    khans = [name for names in others for name in names if name not in ("SADD", "RPUSH", "GET")]
    assert len(khans) < 50, khans
    end_pool(daemon, redis)


def test_each_minion_logs_beside_the_managers_log(
    start: Start, redis: Redis, tmp_path: Path
) -> None:
    daemon = start(1, "-f", str(tmp_path / "khan.log"))
    (minion,) = minions(redis)

    end_pool(daemon, redis)

    assert f"Minion {minion} has stopped" in (tmp_path / f"minion-{minion}.log").read_text()
    assert "Started minion" in (tmp_path / "khan.log").read_text()


def test_gevent_is_made_anew_in_each_minion(start: Start, resq: ResQ, redis: Redis) -> None:
    daemon = start(1, "--reinit-gevent")

    resq.enqueue_to("basic", "tests.daemons.green.GreenJob", 20)

    assert until(lambda: redis.lrange(ECHOED, 0, -1)) == [b"[20]"]
    end_pool(daemon, redis)


def test_a_pool_outlives_its_server(run_daemon: Daemons) -> None:
    with Server(appendonly=True) as server:
        redis, resq = server.client(), ResQ(server.dsn)
        options = ("--pool", "2", "--queues", "basic", "--dsn", server.dsn)
        daemon = run_daemon("pyres_manager", *options)
        until(lambda: len(minions(redis)) == 2)

        server.kill()
        daemon.until_output("Redis is unreachable")
        server.restart()
        redis = server.client()
        ResQ(server.dsn).enqueue(EchoJob, "after")

        until(lambda: redis.llen(ECHOED) == 1, timeout=60)
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 0
        resq.close()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--pool", "many"], "invalid value 'many': expected a whole number from 1"),
        (["--pool", "0"], "invalid value '0': expected a whole number from 1"),
        (["-j", "-1"], "invalid value '-1': expected a whole number from 0"),
        (["--max-memory", "big"], "invalid value 'big': expected a number"),
        (["--minions_interval", "0"], "above 0"),
        (["--pool", "-3"], "invalid value '-3': expected a whole number from 1"),
        (["--pool", "2.5"], "invalid value '2.5': expected a whole number from 1"),
        (["--pool", ""], "invalid value '': expected a whole number from 1"),
        (["--grace", "soon"], "invalid value 'soon': expected a number"),
        (["-i", "0"], "above 0"),
    ],
)
def test_a_wrong_value_is_a_one_line_error_and_exit_code_2(
    options: list[str], complaint: str, run_daemon: Daemons
) -> None:
    daemon = run_daemon("pyres_manager", "basic", *options)

    assert daemon.wait() == 2
    (line,) = daemon.output().strip().splitlines()
    assert complaint in line
