"""A daemon whose server comes back with an older state, as after a failover."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from pyres import ResQ
from pyres.store import parse_in_flight
from tests.daemons.odd_jobs import FileGateJob
from tests.daemons.watching import counted, until_counted
from tests.jobs import BEGUN
from tests.servers import Daemon, Daemons, Server, until

COMMANDS = [
    ("pyres_worker",),
    ("pyres_worker", "--nonblocking-pop"),
    ("pyres_worker", "--blocking-pop"),
    ("pyres_manager", "--pool", "1"),
    ("pyres_manager", "--pool", "1", "--blocking-pop"),
]


@pytest.fixture
def redis(own_server: Server) -> Redis:
    return own_server.client()


@pytest.fixture
def resq(own_server: Server) -> Iterator[ResQ]:
    resq = ResQ(own_server.dsn)
    yield resq
    resq.close()


class Past:
    """The data in Redis now, except what jobs write themselves."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._dumps = {key: redis.dump(key) for key in redis.keys("resque:*")}

    def go_back(self, *queued: bytes) -> None:
        """Restore Redis to that state, with more payloads in the queue, and cut all connections."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.delete(*self._redis.keys("resque:*"))
        for key, dumped in self._dumps.items():
            pipe.restore(key, 0, dumped)
        if queued:
            pipe.rpush("resque:queue:basic", *queued)
        pipe.client_kill_filter(_type="normal", skipme=True)
        pipe.execute()


def started(daemons: Daemons, redis: Redis, resq: ResQ, command: tuple[str, ...]) -> Daemon:
    options = ("--queues", "basic", "--interval", "0.2", "--grace", "60")
    daemon = daemons(*command, *options)
    until(lambda: redis.scard("resque:workers") == 1)
    resq.enqueue(FileGateJob, "/dev/null")
    until_counted(redis, 1, 0)
    until(lambda: not redis.keys("resque:worker:*basic"))
    return daemon


def do_a_job_and_forget_its_end(redis: Redis, resq: ResQ, gate: Path) -> None:
    """The server goes back to when the job was running."""
    resq.enqueue(FileGateJob, str(gate))
    until(lambda: redis.llen(BEGUN) == 2)
    past = Past(redis)
    gate.touch()
    until_counted(redis, 2, 0)
    past.go_back()


def end(daemon: Daemon, redis: Redis, begun: int, processed: int) -> None:
    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0, daemon.output()
    assert redis.llen(BEGUN) == begun
    assert counted(redis) == (processed, 0)
    assert redis.llen("resque:failed") == 0
    assert redis.llen("resque:queue:basic") == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_a_job_whose_outcome_redis_lost_is_neither_repeated_nor_failed(
    command: tuple[str, ...], own_server: Server, redis: Redis, resq: ResQ, tmp_path: Path
) -> None:
    with Daemons(tmp_path, own_server.url) as daemons:
        daemon = started(daemons, redis, resq, command)

        do_a_job_and_forget_its_end(redis, resq, tmp_path / "gate")

        until_counted(redis, 2, 0)
        end(daemon, redis, begun=2, processed=2)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_job_whose_fetch_redis_lost_while_it_runs_is_done_once(
    command: tuple[str, ...], own_server: Server, redis: Redis, resq: ResQ, tmp_path: Path
) -> None:
    with Daemons(tmp_path, own_server.url) as daemons:
        daemon, gate = started(daemons, redis, resq, command), tmp_path / "gate"
        past = Past(redis)
        resq.enqueue(FileGateJob, str(gate))
        until(lambda: redis.llen(BEGUN) == 2)
        (record,) = redis.mget(redis.keys("resque:worker:*basic"))

        past.go_back(parse_in_flight(record).payload)
        gate.touch()

        until_counted(redis, 2, 0)
        end(daemon, redis, begun=2, processed=2)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_stopping_daemon_records_no_failure_for_a_job_whose_outcome_redis_lost(
    command: tuple[str, ...], own_server: Server, redis: Redis, resq: ResQ, tmp_path: Path
) -> None:
    with Daemons(tmp_path, own_server.url) as daemons:
        daemon = started(daemons, redis, resq, command)

        do_a_job_and_forget_its_end(redis, resq, tmp_path / "gate")

        end(daemon, redis, begun=2, processed=2)
