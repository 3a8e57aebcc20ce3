"""Sentinels: the primary dies or steps down, and all daemons continue with the next one."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyres import ResQ
from pyres.store import CONNECTION_ERRORS
from tests.failover.jobs import GatedNoteJob, NoteJob, SlowNoteJob, note, noted
from tests.servers import Daemon, Daemons, SentinelGroup, Server, until


@pytest.fixture(scope="module")
def trio() -> Iterator[SentinelGroup]:
    with SentinelGroup() as watched:
        yield watched


@pytest.fixture
def watched(trio: SentinelGroup) -> SentinelGroup:
    """Both servers are there and empty, and the sentinels know who follows whom."""
    primary = trio.primary
    for server in trio.servers:
        if not server.running:
            server.restart()
        if server is not primary:
            server.client().replicaof("127.0.0.1", primary.port)
    primary.client().flushall()
    until(lambda: follows(trio, primary), timeout=60)
    return trio


def follows(trio: SentinelGroup, primary: Server) -> bool:
    """Whether the other has all of the primary's data, and each sentinel sees them so."""
    (replica,) = (server for server in trio.servers if server is not primary)
    state = replica.client().info("replication")
    seen = [sentinel.client().sentinel_master(trio.name) for sentinel in trio.sentinels]
    return (
        (state.get("master_port"), state.get("master_link_status")) == (primary.port, "up")
        and all(m["flags"] == "master" and m["num-slaves"] == 1 for m in seen)
        and primary.client().wait(1, 1000) == 1
    )


@pytest.fixture
def run(watched: SentinelGroup, tmp_path: Path) -> Iterator[Daemons]:
    """Starts daemons to which REDIS_URL names the sentinels."""
    with Daemons(tmp_path, watched.url) as daemons:
        yield daemons


@pytest.fixture
def resq(watched: SentinelGroup) -> Iterator[ResQ]:
    resq = ResQ(watched.url)
    yield resq
    resq.close()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def enqueued(resq: ResQ, *job: object) -> bool:
    """Whether it could be enqueued; an application would try again just so."""
    with contextlib.suppress(*CONNECTION_ERRORS):
        return resq.enqueue(*job)
    return False


def started(run: Daemons, resq: ResQ) -> list[Daemon]:
    """A pool of two, a worker of each kind and a scheduler, all on `notes`."""
    daemons = [
        run("pyres_manager", "--pool", "2", "--queues", "notes", "--blocking-pop"),
        run("pyres_worker", "--queues", "notes", "--blocking-pop"),
        run("pyres_worker", "--queues", "notes", "--nonblocking-pop"),
        run("pyres_worker", "--queues", "notes", "--watch-pop"),
        run("pyres_scheduler", "--interval", "1", "--lock-timeout", "2"),
    ]
    until(lambda: len(resq.workers()) == 5)
    return daemons


def end(daemons: list[Daemon]) -> None:
    for daemon in daemons:
        assert daemon.returncode is None, daemon.output()
        daemon.send(signal.SIGTERM)
    for daemon in daemons:
        assert daemon.wait() == 0, daemon.output()


def test_all_continue_with_the_new_primary_and_none_of_its_data_is_lost(
    watched: SentinelGroup, run: Daemons, resq: ResQ, notes: Path
) -> None:
    daemons = started(run, resq)
    old = watched.primary
    resq.enqueue(SlowNoteJob, str(notes), "long", 3)
    until(lambda: "begun-long" in noted(notes))
    resq.enqueue_many((NoteJob, str(notes), word) for word in range(300))
    resq.enqueue_in(2, NoteJob, str(notes), "delayed")
    # From here on the other one has all this, or what was done of it since.
    assert resq.redis.wait(1, 20_000) == 1

    old.kill()
    until(lambda: enqueued(resq, NoteJob, str(notes), "afterwards"), timeout=60)

    wanted = {*map(str, range(300)), "long", "delayed", "afterwards"}
    until(lambda: wanted <= {*noted(notes)}, timeout=60)
    assert watched.primary is not old
    until(lambda: len(resq.workers()) == 5, timeout=60)
    end(daemons)
    new = watched.primary.client()
    assert new.llen("resque:queue:notes") == 0
    assert new.llen("resque:failed") == 0
    assert new.scard("resque:workers") == new.scard("resque:khans") == 0


def test_all_continue_when_the_primary_steps_down_while_they_wait_for_a_job(
    watched: SentinelGroup, run: Daemons, resq: ResQ, notes: Path
) -> None:
    daemons = started(run, resq)
    old = watched.primary
    until(lambda: old.client().info("clients")["blocked_clients"] == 3)

    watched.sentinels[0].client().execute_command("SENTINEL", "FAILOVER", watched.name)
    until(lambda: watched.primary is not old, timeout=60)
    # A demoted server reports that itself if it is asked last.
    until(lambda: role(old) == "slave")
    for word in range(20):
        until(lambda word=word: enqueued(resq, NoteJob, str(notes), word), timeout=60)

    until(lambda: {*map(str, range(20))} <= {*noted(notes)}, timeout=60)
    until(lambda: len(resq.workers()) == 5, timeout=60)
    end(daemons)
    assert not any("Traceback" in daemon.output() for daemon in daemons)


def test_everybody_leaves_a_primary_that_does_not_know_that_it_was_replaced(
    watched: SentinelGroup, run: Daemons, resq: ResQ, notes: Path
) -> None:
    daemons = started(run, resq)
    old = watched.primary
    # So sentinels cannot reach it.
    old.client().execute_command("ACL", "SETUSER", "default", "-replicaof", "-slaveof")
    try:
        watched.sentinels[0].client().execute_command("SENTINEL", "FAILOVER", watched.name)
        until(lambda: watched.primary is not old, timeout=60)
        for daemon in daemons:
            daemon.until_output("disconnecting from the old one")
        later = ResQ(watched.url)
        until(lambda: enqueued(later, NoteJob, str(notes), "word"), timeout=60)
        later.close()

        until(lambda: noted(notes) == ["word"])
        new = watched.primary.client()
        until(lambda: new.get("resque:stat:processed") == b"1")
        assert role(old) == "master"
        end(daemons)
        assert new.scard("resque:workers") == 0
    finally:
        old.client().execute_command("ACL", "SETUSER", "default", "+@all")
    until(lambda: role(old) == "slave", timeout=60)


def test_all_continue_when_the_primary_hangs_and_none_returns_when_it_resumes(
    watched: SentinelGroup, run: Daemons, resq: ResQ, notes: Path
) -> None:
    daemons = started(run, resq)
    old = watched.primary
    old.pause()

    try:
        until(lambda: watched.primary is not old, timeout=60)
        # An application that waits for a reply waits for ten seconds, once.
        until(lambda: enqueued(resq, NoteJob, str(notes), "asleep"), timeout=60)
        until(lambda: "asleep" in noted(notes), timeout=60)
        until(lambda: len(resq.workers()) == 5, timeout=60)
    finally:
        old.resume()
    until(lambda: role(old) == "slave", timeout=60)
    until(lambda: enqueued(resq, NoteJob, str(notes), "awake"), timeout=60)

    until(lambda: "awake" in noted(notes), timeout=60)
    end(daemons)
    assert watched.primary is not old


def test_what_was_accepted_stays_when_a_primary_that_must_have_a_replica_steps_down(
    watched: SentinelGroup, resq: ResQ
) -> None:
    """The old primary is the last to learn that it was replaced: without that setting it accepts
    jobs until then.
    """
    old = watched.primary
    for server in watched.servers:
        server.client().config_set("min-replicas-to-write", 1)
    accepted: list[int] = []

    def enqueue_some() -> None:
        for word in range(len(accepted), len(accepted) + 20):
            if enqueued(resq, NoteJob, "", word):
                accepted.append(word)

    try:
        enqueue_some()
        watched.sentinels[0].client().execute_command("SENTINEL", "FAILOVER", watched.name)
        until(lambda: enqueue_some() or watched.primary is not old, timeout=60)
        until(lambda: enqueue_some() or role(old) == "slave", timeout=60)
        until(lambda: enqueue_some() or watched.primary.client().llen("resque:queue:notes") > 20)
    finally:
        for server in watched.servers:
            server.client().config_set("min-replicas-to-write", 0)

    stands = watched.primary.client().lrange("resque:queue:notes", 0, -1)
    assert accepted
    assert {json.loads(raw)["args"][1] for raw in stands} >= {*accepted}


def role(server: Server) -> str:
    return str(server.client().info("replication")["role"])


def test_sentinels_that_are_down_do_not_matter_while_one_runs(
    watched: SentinelGroup, notes: Path
) -> None:
    nodes = ",".join(f"127.0.0.1:{port}" for port in (1, 2, watched.sentinels[2].port))

    resq = ResQ(f"redis+sentinel://{nodes}/{watched.name}")

    assert resq.enqueue(NoteJob, str(notes), "one")
    resq.close()


def test_a_worker_that_blocks_on_a_server_that_becomes_a_replica_waits_for_a_primary(
    own_server: Server, notes: Path, tmp_path: Path
) -> None:
    """Behind one host name, without sentinels: the worker only gets the reply UNBLOCKED."""
    with Daemons(tmp_path, own_server.url) as daemons:
        worker = daemons("pyres_worker", "--queues", "notes", "--blocking-pop")
        redis = own_server.client()
        until(lambda: redis.info("clients")["blocked_clients"] == 1)

        redis.replicaof("127.0.0.1", "1")
        worker.until_output("UNBLOCKED")
        redis.replicaof("NO", "ONE")
        ResQ(own_server.dsn).enqueue(NoteJob, str(notes), "word")

        until(lambda: noted(notes) == ["word"])
        end([worker])


def test_a_primary_without_the_replicas_it_must_have_is_waited_for(
    own_server: Server, notes: Path, tmp_path: Path
) -> None:
    redis = own_server.client()
    resq = ResQ(own_server.dsn)
    with Daemons(tmp_path, own_server.url) as daemons:
        workers = [daemons("pyres_worker", "--queues", "a")]
        workers += [daemons("pyres_manager", "--pool", "1", "--queues", "b")]
        until(lambda: redis.scard("resque:workers") == 2)
        for queue in "ab":
            resq.enqueue_to(queue, GatedNoteJob, str(notes), "word", "go on")
        until(lambda: len(noted(notes)) == 2)

        redis.config_set("min-replicas-to-write", 1)
        with pytest.raises(CONNECTION_ERRORS):
            resq.enqueue(NoteJob, str(notes), "refused")
        note(str(notes), "go on")
        for worker in workers:
            worker.until_output("NOREPLICAS")
        redis.config_set("min-replicas-to-write", 0)

        until(lambda: redis.get("resque:stat:processed") == b"2")
        assert noted(notes) == ["word", "word", "go on"]
        end(workers)


def test_closing_closes_the_connections_to_the_sentinels_too(own_server: Server) -> None:
    with Server(sentinel_of={"main": own_server}) as sentinel:
        resq = ResQ(f"redis+sentinel://127.0.0.1:{sentinel.port}/main")
        before = len(sentinel.client().client_list())
        resq.redis.ping()
        assert len(sentinel.client().client_list()) > before

        resq.close()

        until(lambda: len(sentinel.client().client_list()) == before)


@pytest.mark.parametrize("command", ["pyres_worker", "pyres_manager"])
def test_a_sentinel_that_requires_a_password_is_reported_in_one_line(
    command: str, own_server: Server, tmp_path: Path
) -> None:
    with Server("--requirepass", "secret", sentinel_of={"main": own_server}) as sentinel:
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/main"
        with Daemons(tmp_path, url) as daemons:
            refused = daemons(command, "--queues", "a")
            accepted = ["--dsn", f"{url}?sentinel_password=secret"]
            daemon = daemons(command, "--queues", "a", *accepted)

            assert refused.wait() == 2
            (output,) = (line for line in refused.output().splitlines() if "error:" in line)
            assert "refuses us" in output
            until(lambda: own_server.client().scard("resque:workers") == 1)
            end([daemon])
