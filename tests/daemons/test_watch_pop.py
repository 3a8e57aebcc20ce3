"""--watch-pop: a job starts at once, and no lost reply can lose one."""

from __future__ import annotations

import itertools
import os
import signal

import pytest
from redis import Redis

from pyres import ResQ
from tests.daemons.watching import fetches, watches
from tests.jobs import BEGUN, ECHOED, GATE, EchoJob, GateJob
from tests.servers import Daemons, Server, title_of, until

COMMANDS = [["pyres_worker"], ["pyres_manager", "--pool", "3"]]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_watcher_starts_each_job_long_before_its_interval_and_never_blocks_in_a_pop(
    command: list[str], run_daemon: Daemons, resq: ResQ, redis: Redis, server: Server
) -> None:
    # Neither the wait of the worker nor that of the minions ends by itself within the test.
    wait = ["--minions_interval", "600"] if "--pool" in command else ["--interval", "600"]
    daemon = run_daemon(*command, *wait, "--queues", "urgent,basic", "--watch-pop")
    until(lambda: watches(redis))

    with server.monitor() as monitor:
        for number in range(5):
            resq.enqueue(EchoJob, number)
            until(lambda: redis.llen(ECHOED) == number + 1)  # noqa: B023 - waited for here
        assert "BLPOP" not in monitor.names

    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0
    assert redis.get("resque:stat:processed") == b"5"
    assert not redis.smembers("resque:workers")


def test_a_new_queue_behind_a_wildcard_is_noticed_at_once(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    run_daemon("pyres_worker", "--interval", "600", "--queues", "*", "--watch-pop")
    until(lambda: watches(redis))

    resq.enqueue(EchoJob, 1)

    until(lambda: redis.llen(ECHOED) == 1)


def test_many_jobs_wake_the_whole_pool_one_after_the_other(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    options = ["--pool", "4", "--minions_interval", "600", "--queues", "basic", "--watch-pop"]
    run_daemon("pyres_manager", *options)
    until(lambda: redis.scard("resque:minions") == 4 and watches(redis))

    resq.enqueue_many([(GateJob, "g")] * 4)

    until(lambda: redis.llen(BEGUN) == 4)
    assert len(set(redis.lrange(BEGUN, 0, -1))) == 4
    redis.rpush(GATE.format("g"), *[1] * 4)
    until(lambda: redis.llen(ECHOED) == 4)


def test_a_push_wakes_one_minion_and_not_the_fleet(
    run_daemon: Daemons, resq: ResQ, redis: Redis, server: Server
) -> None:
    options = ["--pool", "4", "--minions_interval", "600", "--queues", "basic", "--watch-pop"]
    daemon = run_daemon("pyres_manager", *options)
    until(lambda: redis.scard("resque:minions") == 4)
    for minion in daemon.children():
        until(lambda: "waiting for job" in title_of(minion))  # noqa: B023 - waited for here

    def fetches_of(number: int) -> int:
        with server.monitor() as monitor:
            resq.enqueue(EchoJob, number)
            # Counted, not only done: counting and the next fetch are one call.
            until(lambda: redis.get("resque:stat:processed") == str(number).encode())
            return len(fetches(monitor))

    # The woken minion fetches the job, and then finds that there is no other. Where it does so
    # too slowly, on a busy machine, another is woken in its place; but not each time.
    numbers = itertools.count(1)
    until(lambda: fetches_of(next(numbers)) == 2)


def test_a_stopped_minion_does_not_keep_the_job_from_the_others(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    options = ["--pool", "2", "--minions_interval", "600", "--queues", "basic", "--watch-pop"]
    daemon = run_daemon("pyres_manager", *options)
    until(lambda: redis.scard("resque:minions") == 2 and watches(redis))
    resq.enqueue(EchoJob, "warm")
    # Counted, not only done: then no fetch is under way that could get one of the others.
    until(lambda: redis.get("resque:stat:processed") == b"1" and watches(redis))
    stopped = daemon.children()[0]
    os.kill(stopped, signal.SIGSTOP)

    resq.enqueue_many([(EchoJob, number) for number in range(4)])

    until(lambda: redis.llen(ECHOED) == 5)
    os.kill(stopped, signal.SIGCONT)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_reports_no_push_is_logged_once_and_polled_every_second(
    command: list[str], run_daemon: Daemons
) -> None:
    with Server("--rename-command", "HELLO", "") as old:
        # Neither the worker nor the minions would fetch again for ten minutes.
        wait = ["--minions_interval", "600"] if "--pool" in command else ["--interval", "600"]
        daemon = run_daemon(*command, *wait, "--dsn", old.dsn, "--queues", "basic")
        assert "CLIENT TRACKING" in daemon.until_output("--blocking-pop")

        resq = ResQ(old.dsn)
        for number in range(3):
            resq.enqueue(EchoJob, number)
            until(lambda: resq.redis.llen(ECHOED) == number + 1)  # noqa: B023 - waited for here

        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 0
        assert daemon.output().count("Cannot watch the queues") == 1
        resq.close()


@pytest.mark.parametrize("queues", ["basic", "*"])
def test_a_queue_watcher_whose_connection_is_cut_checks_again_at_once(
    queues: str, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    options = ["--pool", "2", "--minions_interval", "600", "--interval", "600"]
    run_daemon("pyres_manager", *options, "--queues", queues, "--watch-pop")
    until(lambda: redis.scard("resque:minions") == 2 and watches(redis))

    for number in range(3):
        (queue_watcher,) = [c["id"] for c in redis.client_list() if c["flags"].count("t")]
        redis.client_kill_filter(_id=queue_watcher)
        resq.enqueue(EchoJob, number)

        # Neither the manager nor a minion would check by itself for ten minutes.
        until(lambda: redis.llen(ECHOED) == number + 1 and watches(redis))  # noqa: B023


def test_the_title_of_a_paused_minion_shows_the_pause(run_daemon: Daemons, redis: Redis) -> None:
    redis.set("resque:pause-all-workers", "true")
    daemon = run_daemon("pyres_manager", "--queues", "basic", "--watch-pop")
    until(lambda: redis.scard("resque:minions") == 1)

    until(lambda: ": paused" in title_of(daemon.children()[0]))


def test_two_waiting_modes_at_once_are_refused(run_daemon: Daemons) -> None:
    daemon = run_daemon("pyres_worker", "basic", "--watch-pop", "--nonblocking-pop")

    assert daemon.wait() == 2
    (line,) = daemon.output().strip().splitlines()
    assert "not allowed with" in line


@pytest.mark.parametrize("command", COMMANDS)
def test_a_watcher_outlives_its_server(command: list[str], run_daemon: Daemons) -> None:
    with Server(appendonly=True) as server:
        wait = ["--minions_interval", "600"] if "--pool" in command else ["--interval", "600"]
        daemon = run_daemon(
            *command, *wait, "--queues", "basic", "--dsn", server.dsn, "--watch-pop"
        )
        redis, resq = server.client(), ResQ(server.dsn)
        until(lambda: watches(redis))

        server.kill()
        daemon.until_output("Redis is unreachable")
        server.restart()
        redis = server.client()
        until(lambda: watches(redis), timeout=60)
        resq.enqueue(EchoJob, "after")

        until(lambda: redis.llen(ECHOED) == 1)
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 0
        resq.close()
