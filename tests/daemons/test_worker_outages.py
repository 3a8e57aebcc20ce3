"""A worker whose server is cut off, paused, killed or empty; and other registrations."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from pyres import ResQ, failure
from pyres.worker import Worker
from tests.daemons.later import FailLater, SleepLonger
from tests.daemons.odd_jobs import FileGateJob, LineJob, open_file_gate
from tests.daemons.watching import (
    begun,
    burst,
    counted,
    echoed,
    lines,
    records,
    registered,
    start,
    until_counted,
)
from tests.jobs import BEGUN, GATE, EchoJob, GateJob, SleepJob
from tests.servers import Daemon, Daemons, Server, alive, free_port, until

#: A worker with shorter limits, so that a test need not wait for the usual ones: seconds for a
#: reply, and between two heartbeats.
IMPATIENT = (
    "from pyres import liveness, scripts\n"
    "from pyres.store import dsn\n"
    "dsn.READ_TIMEOUT = dsn.CONNECT_TIMEOUT = {reply}\n"
    "liveness.Pace.heartbeat = {beat}\n"
    "liveness.Pace.longest_pause, liveness.Pace.quiet = 0.5, 120\n"
    "raise SystemExit(scripts.pyres_worker())\n"
)


def impatient(
    run_daemon: Daemons, *options: str, reply: float = 10, beat: float = 60, env: str = ""
) -> Daemon:
    """A pyres_worker with shorter limits."""
    more = {"REDIS_URL": env} if env else None
    return run_daemon("-c", IMPATIENT.format(reply=reply, beat=beat), *options, env=more)


@pytest.fixture
def lasting() -> Iterator[Server]:
    """A server whose data survives a kill."""
    with Server(appendonly=True) as server:
        yield server


def test_a_frozen_server_loses_nothing(
    run_daemon: Daemons, own_server: Server, tmp_path: Path
) -> None:
    """While idle, during a job, and while a child is about to record a failure."""
    redis, resq = own_server.client(), ResQ(own_server.url)
    options = ("--nonblocking-pop", "--interval", "0.2")
    workers = {
        queue: impatient(run_daemon, "--queues", queue, *options, reply=1, env=own_server.url)
        for queue in ("idle", "busy", "failing")
    }
    for worker in workers.values():
        until(lambda worker=worker: registered(redis, worker))
    busy, failing = tmp_path / "busy", tmp_path / "failing"
    resq.enqueue_to("busy", FileGateJob, str(busy))
    resq.enqueue_to("failing", FileGateJob, str(failing))
    until(lambda: redis.llen(BEGUN) == 2)
    # At its next fetch, which may be 8 s away.
    resq.enqueue_to("idle", LineJob, str(tmp_path / "lines"), 0)
    until(lambda: lines(tmp_path / "lines") == [0])

    own_server.pause()
    open_file_gate(busy)
    open_file_gate(failing, "at a bad time")
    workers["idle"].send(signal.SIGCONT)
    for worker in workers.values():
        worker.until_output("Redis is unreachable")
    own_server.resume()

    for queue in workers:
        resq.enqueue_to(queue, EchoJob, queue)
    until(lambda: sorted(echoed(redis)) == [["busy"], ["failing"], ["idle"]])
    until_counted(redis, 6, 1)
    assert [record["error"] for record in records(resq)] == ["at a bad time"]
    assert redis.llen(BEGUN) == 2
    assert all(registered(redis, worker) for worker in workers.values())
    resq.close()


def test_a_server_killed_in_the_middle_of_a_job_costs_nothing(
    run_daemon: Daemons, lasting: Server
) -> None:
    """While idle, while a job succeeds, and while one fails."""
    redis, resq = lasting.client(), ResQ(lasting.dsn)
    queues = ("idle", "busy", "failing")
    workers = {q: run_daemon("pyres_worker", "--queues", q, "--dsn", lasting.dsn) for q in queues}
    for worker in workers.values():
        until(lambda worker=worker: registered(redis, worker))
    resq.enqueue_to("busy", SleepLonger, 1)
    resq.enqueue_to("failing", FailLater, 1)
    until(lambda: redis.llen(BEGUN) == 2)
    resq.close()

    lasting.kill()
    workers["busy"].until_output("Redis is unreachable")
    workers["failing"].until_output("Redis is unreachable")
    lasting.restart()
    redis, resq = lasting.client(), ResQ(lasting.dsn)

    for queue in queues:
        resq.enqueue_to(queue, EchoJob, queue)
    until(lambda: sorted(echoed(redis)) == [["busy"], ["failing"], ["idle"]], timeout=60)
    until_counted(redis, 5, 1)
    until(lambda: all(registered(redis, worker) for worker in workers.values()))
    assert [record["error"] for record in records(resq)] == ["later"]
    assert redis.llen(BEGUN) == 2
    resq.close()


def test_a_server_killed_during_many_jobs_neither_loses_nor_repeats_one(
    run_daemon: Daemons, lasting: Server, tmp_path: Path
) -> None:
    resq, jobs, done = ResQ(lasting.url), 200, tmp_path / "lines"
    resq.enqueue_many([(LineJob, str(done), number) for number in range(jobs)])
    resq.close()
    options = ("--queues", "basic", "--nonblocking-pop", "--dsn", lasting.url)

    daemon = run_daemon("pyres_worker", *options)
    for part in (20, 60, 100):
        until(lambda part=part: len(lines(done)) >= part, timeout=60)
        lasting.kill()
        lasting.restart()
    redis = lasting.client()
    until(lambda: counted(redis)[0] >= jobs, timeout=60)
    daemon.send(signal.SIGTERM)

    assert daemon.wait() == 0
    assert lines(done) == list(range(jobs))
    assert counted(redis) == (jobs, 0)
    assert redis.keys("resque:worker*") == []


def test_connections_cut_during_many_jobs_neither_lose_nor_repeat_one(
    run_daemon: Daemons, resq: ResQ, redis: Redis, tmp_path: Path
) -> None:
    dice, jobs, done = random.Random(3), 200, tmp_path / "lines"
    resq.enqueue_many([(LineJob, str(done), number) for number in range(jobs)])
    mine = redis.client_id()

    daemon = start(run_daemon, redis, "--queues", "basic", "--nonblocking-pop")
    for cut in range(8):
        until(lambda cut=cut: len(lines(done)) >= cut * 20 + dice.randrange(20))
        for client in redis.client_list():
            if int(client["id"]) != mine and client["cmd"] == "evalsha":
                redis.execute_command("CLIENT", "KILL", "ID", client["id"])
    until(lambda: counted(redis)[0] >= jobs, timeout=60)
    daemon.send(signal.SIGTERM)

    assert daemon.wait() == 0
    assert lines(done) == list(range(jobs))
    assert counted(redis) == (jobs, 0)


@pytest.mark.parametrize(("pop", "command"), [("blocking", "blpop"), ("watch", "exists")])
def test_a_wait_for_a_job_that_is_cut_begins_again(
    pop: str, command: str, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start(run_daemon, redis, "--queues", "basic", f"--{pop}-pop")

    for cut in range(3):
        waiting = until(lambda: [c for c in redis.client_list() if c["cmd"] == command])
        redis.execute_command("CLIENT", "KILL", "ID", waiting[0]["id"])
        until(lambda cut=cut: daemon.output().count("Redis is unreachable") > cut)
    resq.enqueue(EchoJob, "after")

    until(lambda: echoed(redis) == [["after"]])
    assert registered(redis, daemon)


def test_a_worker_may_start_before_its_server(run_daemon: Daemons) -> None:
    port = free_port()
    daemon = run_daemon("pyres_worker", "basic", "--port", str(port), env={"REDIS_URL": None})
    daemon.until_output("Redis is unreachable")

    with Server(port=port) as server:
        redis, resq = server.client(), ResQ(server.url)
        resq.enqueue(EchoJob, "first")

        until(lambda: echoed(redis) == [["first"]])
        assert registered(redis, daemon)
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 0
        resq.close()


def test_a_stopping_worker_waits_at_most_its_grace_for_a_disconnected_server(
    run_daemon: Daemons,
) -> None:
    with Server() as server:
        redis, resq = server.client(), ResQ(server.dsn)
        options = ("--queues", "basic", "--dsn", server.dsn, "--grace", "0.5")
        daemon = run_daemon("pyres_worker", *options)
        until(lambda: registered(redis, daemon))
        resq.enqueue(SleepJob, 60)
        begun(redis)
        resq.close()

        server.kill()
        daemon.send(signal.SIGTERM)

        assert daemon.wait() == 0
        assert "a running job stays in Redis as in flight" in daemon.output()


def test_a_worker_whose_server_has_lost_all_data_registers_again(
    run_daemon: Daemons,
) -> None:
    with Server() as server:
        redis = server.client()
        daemon = run_daemon("pyres_worker", "basic", "--dsn", server.url)
        mine = until(lambda: registered(redis, daemon))
        server.kill()
        server.restart()
        redis, resq = server.client(), ResQ(server.url)

        until(lambda: registered(redis, daemon))
        assert redis.hget("resque:workers:heartbeat", mine)
        until(lambda: redis.exists(b"resque:worker:" + mine + b":started"))
        resq.enqueue(EchoJob, "after")
        until(lambda: counted(redis) == (1, 0))
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 0
        assert redis.keys("resque:worker*") == []
        resq.close()


def test_a_worker_waits_when_the_server_starts_to_require_a_password(run_daemon: Daemons) -> None:
    """Until it is removed again, or the worker restarted; the running job must not be lost."""
    with Server() as server:
        redis, resq = server.client(), ResQ(server.url)
        options = ("basic", "--dsn", server.url, "--nonblocking-pop", "--interval", "0.1")
        daemon = run_daemon("pyres_worker", *options)
        until(lambda: registered(redis, daemon))
        resq.enqueue(GateJob, "g")
        begun(redis)

        redis.config_set("requirepass", "new")
        for client in redis.client_list():
            if client["cmd"] == "evalsha":
                redis.execute_command("CLIENT", "KILL", "ID", client["id"])
        redis.rpush(GATE.format("g"), 1)
        daemon.until_output("Redis is unreachable")
        redis.config_set("requirepass", "")

        until(lambda: counted(redis) == (1, 0))
        assert echoed(redis) == [["g"]]
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 0
        resq.close()


@pytest.mark.parametrize("state", ["idle", "in a job"])
def test_a_worker_that_was_pruned_alive_registers_again_at_its_next_beat(
    state: str, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = impatient(run_daemon, "--queues", "basic", "--interval", "0.1", beat=0.3)
    mine = until(lambda: registered(redis, daemon))
    if state == "in a job":
        resq.enqueue(GateJob, "g")
        begun(redis)

    resq.store.workers.unregister(mine.decode())

    until(lambda: registered(redis, daemon))
    daemon.until_output("was unregistered by another process; registering again")
    assert redis.exists(b"resque:worker:" + mine + b":started")
    redis.hdel("resque:workers:heartbeat", mine)
    until(lambda: redis.hget("resque:workers:heartbeat", mine), what="the next heartbeat")
    redis.rpush(GATE.format("g"), 1)
    resq.enqueue(EchoJob, "after")
    until(lambda: echoed(redis)[-1:] == [["after"]])


def test_workers_that_start_together_prune_no_live_worker(
    run_daemon: Daemons, redis: Redis
) -> None:
    """Beside members that are not ids, and an id with colons in a queue's name."""
    odd = [b"nonsense", b"host:no-pid:a", b"elsewhere:1:a:b", b":::", b"\xff:1:\xff"]
    redis.sadd("resque:workers", *odd)
    redis.hset("resque:workers:heartbeat", mapping={b"nonsense": b"1763900000", b"x": b"\xff"})

    workers = [run_daemon("pyres_worker", "--queues", "a:b") for _ in range(5)]
    for worker in workers:
        until(lambda worker=worker: registered(redis, worker))
    last = start(run_daemon, redis, "--queues", "c")
    last.until_title("Waiting")

    assert all(registered(redis, worker) for worker in workers)
    found = Worker.all(ResQ(redis))
    assert {str(worker.pid) for worker in found} >= {str(worker.pid) for worker in workers}


def test_an_editor_and_a_reused_pid_are_not_taken_for_workers(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """The job of a dead worker whose pid is an editor's now becomes a failure."""
    editor = run_daemon("-c", "import signal; signal.pause()", "vim", "pyres_worker.py")
    worker = start(run_daemon, redis, "--queues", "other")
    host = registered(redis, worker).split(b":")[0]
    dead = b"%b:%d:basic" % (host, editor.pid)
    redis.sadd("resque:workers", dead)
    record = b'{"queue":"basic","run_at":"2026-11-23T16:01:09Z","payload":{"class":"A","args":[1]}}'
    redis.set(b"resque:worker:" + dead, record)

    burst(run_daemon)

    assert str(editor.pid) not in Worker.worker_pids()
    assert str(worker.pid) in Worker.worker_pids()
    assert redis.smembers("resque:workers") == {registered(redis, worker)}
    assert not redis.exists(b"resque:worker:" + dead)
    (record,) = records(resq)
    assert (record["exception"], record["payload"]) == (
        "DirtyExitError",
        {"class": "A", "args": [1]},
    )
    assert record["worker"] == dead.decode()
    assert alive(editor.pid)


@pytest.mark.slow
def test_successful_jobs_are_not_failures_after_an_outage_over_the_prune_interval(
    run_daemon: Daemons, lasting: Server, tmp_path: Path
) -> None:
    """The usual 60 and 300 s, and an outage of 305 s, divided by 30."""
    gate, redis = tmp_path / "gate", lasting.client()
    resq = ResQ(lasting.url)
    options = ("--heartbeat-interval", "2", "--prune-interval", "10", "--queues", "basic")
    daemons = [
        run_daemon(*command, *options, "--dsn", lasting.url)
        for command in (["pyres_worker"], ["pyres_worker"], ["pyres_manager", "--pool", "2"])
    ]
    resq.enqueue_many([(FileGateJob, str(gate))] * 4)
    until(lambda: redis.llen(BEGUN) == 4, what="four jobs to begin")

    lasting.kill()
    back = time.monotonic() + 305 / 30
    until(lambda: time.monotonic() > back, what="the outage to end")
    lasting.restart()
    redis = lasting.client()
    # All have had the time to prune: each heartbeat does so.
    seconds = int(redis.time()[0]) + 10
    until(lambda: int(redis.hget("resque:pyres:beats", "last") or 0) > seconds)
    gate.touch()

    until_counted(redis, 4, 0)
    assert failure.count(resq) == 0
    assert redis.scard("resque:workers") == 4
    for daemon in daemons:
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 0, daemon.output()
    resq.close()
