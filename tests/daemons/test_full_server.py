"""A full server that evicts nothing is drained by workers and managers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from pyres import ResQ, failure
from pyres.registry import Pace, Registry
from pyres.store import CannotWriteNow
from tests.daemons.odd_jobs import AgainJob, LineJob
from tests.daemons.watching import lines, until_counted
from tests.jobs import FailJob
from tests.servers import Daemons, Server, until

JOBS = 20

COMMANDS = [
    ("pyres_worker",),
    ("pyres_worker", "--blocking-pop"),
    ("pyres_worker", "--nonblocking-pop"),
    ("pyres_manager", "--pool", "2"),
    ("pyres_manager", "--pool", "2", "--blocking-pop"),
]


@pytest.fixture
def resq(own_server: Server) -> Iterator[ResQ]:
    resq = ResQ(own_server.dsn)
    yield resq
    resq.close()


def fill(redis: Redis, resq: ResQ, done: Path) -> None:
    """Enqueue jobs, and then set the server's memory limit so that no write succeeds."""
    resq.enqueue_many([(LineJob, str(done), number) for number in range(JOBS)])
    redis.config_set("maxmemory-policy", "noeviction")
    redis.config_set("maxmemory", 1)
    with pytest.raises(CannotWriteNow):
        resq.enqueue(LineJob, str(done), JOBS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_daemon_that_starts_on_a_full_server_drains_it(
    command: tuple[str, ...], own_server: Server, resq: ResQ, tmp_path: Path
) -> None:
    redis, done = own_server.client(), tmp_path / "lines"
    fill(redis, resq, done)
    with Daemons(tmp_path, own_server.url) as daemons:
        daemon = daemons(*command, "--queues", "basic")

        until_counted(redis, JOBS, 0)
        assert sorted(lines(done)) == [*range(JOBS)]
        # One minion may have done all before another has registered.
        until(lambda: redis.scard("resque:workers") == (2 if "--pool" in command else 1))
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 0, daemon.output()
    assert redis.keys("resque:worker:*") == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_daemon_whose_server_becomes_full_drains_it(
    command: tuple[str, ...], own_server: Server, resq: ResQ, tmp_path: Path
) -> None:
    redis, done = own_server.client(), tmp_path / "lines"
    with Daemons(tmp_path, own_server.url) as daemons:
        daemon = daemons(*command, "--queues", "basic")
        until(lambda: redis.scard("resque:workers") == (2 if "--pool" in command else 1))
        resq.store.workers.pause()
        fill(redis, resq, done)
        resq.store.workers.resume()

        until_counted(redis, JOBS, 0)
        assert sorted(lines(done)) == [*range(JOBS)]
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 0, daemon.output()


@pytest.mark.parametrize("command", [COMMANDS[0], COMMANDS[3]])
def test_the_outcomes_of_jobs_that_fail_are_recorded_on_a_full_server(
    command: tuple[str, ...], own_server: Server, resq: ResQ, tmp_path: Path
) -> None:
    redis = own_server.client()
    resq.enqueue_many([(FailJob, "first"), (AgainJob,), (FailJob, "last")])
    resq.store.workers.register("there:1:basic", "1763900000")
    resq.store.mark_in_flight(
        "there:1:basic", "basic", "2026-11-23T16:01:09Z", b'{"class":"A","args":[]}'
    )
    redis.config_set("maxmemory", 1)
    with Daemons(tmp_path, own_server.url) as daemons:
        daemon = daemons(*command, "--queues", "basic")

        until_counted(redis, 4, 3)
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 0, daemon.output()
    assert Registry(resq, "here:2:basic").prune_worker("there:1:basic")
    assert failure.count(resq) == 4
    assert (redis.keys("resque:worker:*"), resq.workers()) == ([], [])


def test_nothing_is_written_on_a_full_server_where_a_watched_key_has_changed(
    own_server: Server, resq: ResQ
) -> None:
    redis = own_server.client()
    redis.set("watched", "1")
    redis.config_set("maxmemory", 1)
    batch = resq.store.batch(atomic=True)
    batch.watch("watched")
    batch.workers.unregister("there:1:basic")
    redis.delete("watched")

    assert batch.send() is False


def test_heartbeats_and_the_prune_lock_are_written_on_a_full_server(
    own_server: Server, resq: ResQ
) -> None:
    redis, workers = own_server.client(), resq.store.workers
    redis.config_set("maxmemory", 1)

    workers.register("host:1:a", "1763900000", minion=True, process_start="boot 7")
    workers.register_khan("host:1:2", "host:1:1")
    assert workers.beat(["host:1:a", "host:2:a"]) == ["host:2:a"]
    workers.note_heartbeat(Pace().quiet)
    assert workers.prune_lock("host:1:a", 60)
    assert workers.prune_lock("host:1:a", 60)

    assert workers.ids() == workers.minion_ids() == ["host:1:a"]
    assert workers.khan_ids() == ["host:1:2"]
    assert workers.noted()[0] > 0
    assert workers.process_starts() == {"host:1:a": "boot 7"}
    assert workers.snapshot() == ({"host:1:a"}, workers.heartbeats(), workers.process_starts())


def test_a_job_is_put_back_on_a_full_server(own_server: Server, resq: ResQ) -> None:
    redis = own_server.client()
    resq.store.mark_in_flight("host:1:a", "a", "2026-11-23T16:01:09Z", b"payload")
    record = redis.get("resque:worker:host:1:a")
    redis.config_set("maxmemory", 1)

    resq.store.queues.put_back("host:1:a", "a", b"payload", record)

    assert redis.lrange("resque:queue:a", 0, -1) == [b"payload"]
    assert not redis.exists("resque:worker:host:1:a")
