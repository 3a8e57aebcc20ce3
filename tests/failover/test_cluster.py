"""A Redis Cluster: one namespace in one slot, wherever that slot is just now."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.crc import key_slot

from pyres import ResQ, failure
from pyres.exceptions import BadDSNError
from pyres.store import CONNECTION_ERRORS, CannotWriteNow
from pyres.store.connections import slot_of
from tests.failover.jobs import BadNoteJob, NoteJob, RetriedNoteJob, UniqueNoteJob, noted
from tests.servers import Cluster, Daemon, Daemons, Server, free_port, until

NUMBERS = itertools.count(1)

Run = Callable[..., Daemon]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def namespace() -> str:
    """One for each test, so each has its own slot."""
    return f"jobs-{{{next(NUMBERS)}}}"


@pytest.fixture
def resq(cluster: Cluster, namespace: str) -> Iterator[ResQ]:
    resq = ResQ(cluster.url, namespace=namespace)
    yield resq
    resq.close()


@pytest.fixture
def run(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Run]:
    """Starts a daemon of the test's namespace in the cluster."""
    with Daemons(tmp_path, cluster.url) as daemons:
        yield lambda *words: daemons(*words, "--namespace", namespace)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def raw(cluster: Cluster, namespace: str) -> Redis:
    """A client of the node that has the namespace."""
    return cluster.owner(f"{namespace}:").client()


def end(*daemons: Daemon) -> None:
    for daemon in daemons:
        daemon.send(signal.SIGTERM)
    for daemon in daemons:
        assert daemon.wait() == 0, daemon.output()


@pytest.mark.parametrize("namespace", ["{resque}", "app:{jobs}", "{a}{b}", "x}{y}", "{é}"])
def test_a_namespace_with_a_part_in_braces_has_all_its_keys_in_one_slot(namespace: str) -> None:
    slot = slot_of(namespace.encode())

    assert slot is not None
    for key in ("queues", "queue:{other}", "worker:h:1:{q},}", f"{namespace}:lock", "stat:{}"):
        assert key_slot(f"{namespace}:{key}".encode()) == slot


@pytest.mark.parametrize("namespace", ["", "resque", "{}", "{", "}{", "{}{a}", "}a{"])
def test_a_namespace_spread_over_several_slots_is_refused_with_a_hint(namespace: str) -> None:
    assert slot_of(namespace.encode()) is None

    with pytest.raises(BadDSNError, match="--namespace '{resque}'") as refused:
        ResQ("redis+cluster://127.0.0.1:1", namespace=namespace)

    assert repr(namespace) in str(refused.value)


@pytest.mark.parametrize("command", ["pyres_worker", "pyres_manager", "pyres_scheduler"])
@pytest.mark.parametrize(
    ("scheme", "options"),
    [("redis+cluster", []), ("redis", []), ("redis", ["--namespace", "other"])],
)
def test_a_daemon_without_such_a_namespace_ends_at_once_with_a_hint(
    command: str, scheme: str, options: list[str], cluster: Cluster, tmp_path: Path
) -> None:
    # Not the scheduler's lock alone, but any key of it, may lie on the very node that was named.
    node = next(n for n in cluster.nodes if n is not cluster.owner("resque:"))
    queues = [] if command == "pyres_scheduler" else ["--queues", "a"]

    with Daemons(tmp_path, f"{scheme}://127.0.0.1:{node.port}") as daemons:
        daemon = daemons(command, *queues, *options)

        assert daemon.wait() == 2, daemon.output()
        output = daemon.output().splitlines()
    assert "{resque}" in output[-1], output
    assert not any("Traceback" in line for line in output)


def test_a_server_that_is_not_a_cluster_is_an_error(server: Server, tmp_path: Path) -> None:
    with Daemons(tmp_path, f"redis+cluster://{server.dsn}") as daemons:
        daemon = daemons("pyres_worker", "--queues", "a", "--namespace", "{a}")

        assert daemon.wait() == 2
        assert f"is not a node of a Redis Cluster; use redis://127.0.0.1:{server.port}" in (
            daemon.output()
        )


def test_any_node_leads_to_the_one_that_has_the_namespace(cluster: Cluster, namespace: str) -> None:
    for node in cluster.nodes:
        resq = ResQ(f"redis+cluster://127.0.0.1:1,127.0.0.1:{node.port}", namespace=namespace)

        resq.enqueue(NoteJob, "", node.port)
        resq.close()

    assert raw(cluster, namespace).llen(f"{namespace}:queue:notes") == len(cluster.nodes)


def test_a_client_of_it_leads_another_namespace_to_its_own_node(
    cluster: Cluster, resq: ResQ
) -> None:
    for number in range(20):
        other = ResQ(resq.redis, namespace=f"{{{number}}}")

        assert other.queues() == []
        assert other.dsn == resq.dsn
        other.close()


def test_a_pool_and_workers_of_every_kind_do_the_jobs_of_all_queues(
    cluster: Cluster, namespace: str, resq: ResQ, run: Run, notes: Path
) -> None:
    daemons = [
        run("pyres_manager", "--pool", "2", "--queues", "a,b"),
        run("pyres_manager", "--pool", "2", "--queues", "c*", "--watch-pop"),
        run("pyres_worker", "--queues", "d"),
        run("pyres_worker", "--queues", "e", "--nonblocking-pop"),
        run("pyres_worker", "--queues", "f", "--watch-pop"),
    ]
    until(lambda: len(resq.workers()) == 7)

    for queue in "abcdef":
        for number in range(5):
            resq.enqueue_to(queue, NoteJob, str(notes), f"{queue}{number}")

    until(lambda: len(noted(notes)) == 30)
    assert {word[0] for word in noted(notes)} == set("abcdef")
    until(lambda: raw(cluster, namespace).get(f"{namespace}:stat:processed") == b"30")
    end(*daemons)
    assert raw(cluster, namespace).scard(f"{namespace}:workers") == 0


def test_failures_retries_unique_and_delayed_jobs_and_the_scheduler_work(
    cluster: Cluster, namespace: str, resq: ResQ, run: Run, notes: Path
) -> None:
    daemons = [run("pyres_worker", "--queues", "notes"), run("pyres_scheduler", "--dynamic")]
    resq.set_schedule("often", {"every": "1s", "class": _name(NoteJob), "args": [str(notes), "s"],
                                "queue": "notes"})  # fmt: skip

    resq.enqueue_in(1, NoteJob, str(notes), "delayed")
    resq.enqueue(BadNoteJob, str(notes), "bad")
    resq.enqueue(RetriedNoteJob, str(notes), "retried")
    assert [resq.enqueue(UniqueNoteJob, str(notes), "one") for _ in range(3)] == [
        True,
        False,
        False,
    ]

    until(lambda: {"delayed", "bad", "one", "s"} <= set(noted(notes)))
    until(lambda: noted(notes).count("retried") == 2)
    (record,) = until(lambda: failure.all(resq, 0, 9))
    assert record["error"] == "bad"
    assert failure.retry_all(resq) == 1
    until(lambda: noted(notes).count("bad") == 2)
    end(*daemons)
    assert raw(cluster, namespace).type(f"{namespace}:failed") == b"list"


def _name(job: type) -> str:
    return f"{job.__module__}.{job.__qualname__}"


def test_the_web_page_shows_the_namespace(
    cluster: Cluster, namespace: str, resq: ResQ, open_page: Any
) -> None:
    resq.enqueue(NoteJob, "", 1)
    page = open_page([cluster.url], namespace=namespace)

    for path in (
        "/",
        "/queues/",
        "/workers/",
        "/failed/",
        "/delayed/",
        "/stats/resque",
        "/stats/keys",
    ):
        answer = page.get(path, follow_redirects=True)
        assert answer.status_code == 200, path
    assert page.get("/api/queues").get_json() is not None
    assert "notes" in page.get("/queues/").text


def test_the_web_command_shows_several_nodes_as_one_cluster(
    cluster: Cluster, resq: ResQ, run: Run
) -> None:
    resq.enqueue(NoteJob, "", 1)
    nodes = ",".join(f"127.0.0.1:{node.port}" for node in cluster.nodes)
    port = str(free_port())

    web = run("pyres_web", "--port", port, "--dsn", f"jobs=redis+cluster://{nodes}")

    web.until_output("Listening")
    shown = until(lambda: page(f"http://127.0.0.1:{port}/api/queues"))
    (row,) = shown["queues"]
    assert (row["server"], row["name"], row["size"]) == ("jobs", "notes", 1)
    web.send(signal.SIGINT)
    web.wait()


def page(url: str) -> Any:
    """The JSON at this address, or None while nothing listens there."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def test_the_web_page_shows_a_node_that_was_named_alone_as_down(
    cluster: Cluster, open_page: Any
) -> None:
    page = open_page([f"127.0.0.1:{node.port}" for node in cluster.nodes])

    answer = page.get("/", follow_redirects=True)

    assert answer.status_code == 200
    assert "is a node of a Redis Cluster" in answer.text


def test_everybody_follows_a_slot_that_moves_while_they_work(
    cluster: Cluster, namespace: str, resq: ResQ, run: Run, notes: Path
) -> None:
    daemons = [
        run("pyres_manager", "--pool", "2", "--queues", "notes"),
        run("pyres_worker", "--queues", "notes", "--nonblocking-pop"),
        run("pyres_worker", "--queues", "notes", "--watch-pop"),
    ]
    until(lambda: len(resq.workers()) == 4)
    sent = 0

    for node in cluster.nodes:
        words = range(sent, sent + 50)
        resq.enqueue_many((NoteJob, str(notes), word) for word in words)
        if node is not cluster.owner(f"{namespace}:"):
            cluster.move(f"{namespace}:", node)
        # An application's own calls, one command and a transaction, follow without an error.
        assert resq.size("nothing") == 0
        resq.remove_queue("nothing")
        sent += 50

    until(lambda: len(set(noted(notes))) == sent, timeout=60)
    until(lambda: len(resq.workers()) == 4)
    assert resq.info()["failed"] == 0
    end(*daemons)


def test_a_call_that_a_node_redirects_is_executed_once_by_the_other(
    cluster: Cluster, namespace: str, resq: ResQ
) -> None:
    resq.enqueue(NoteJob, "", 1)
    here = cluster.owner(f"{namespace}:")

    for node in (n for n in cluster.nodes if n is not here):
        cluster.move(f"{namespace}:", node)
        resq.enqueue(NoteJob, "", 2)

    there = raw(cluster, namespace)
    assert there.llen(f"{namespace}:queue:notes") == 3
    assert there.smembers(f"{namespace}:queues") == {b"notes"}


class Handover:
    """An empty slot that migrates to another node."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.slot = key_slot(f"{namespace}:".encode())
        self.source = cluster.owner(f"{namespace}:")
        self.target = next(node for node in cluster.nodes if node is not self.source)
        self.name = self.target.client().execute_command("CLUSTER", "MYID")

    @property
    def detach(self) -> list[object]:
        """The command for the owner."""
        return ["CLUSTER", "SETSLOT", self.slot, "NODE", self.name]

    def take(self) -> None:
        source = self.source.client().execute_command("CLUSTER", "MYID")
        client = self.target.client()
        client.execute_command("CLUSTER", "SETSLOT", self.slot, "IMPORTING", source)
        client.execute_command("CLUSTER", "SETSLOT", self.slot, "NODE", self.name)


def test_a_pipeline_that_was_executed_in_part_is_not_repeated(
    cluster: Cluster, namespace: str, resq: ResQ
) -> None:
    handover = Handover(cluster, namespace)
    pipe = resq.store.client.pipeline(transaction=False)
    pipe.get(f"{namespace}:nothing")
    pipe.execute_command(*handover.detach)
    pipe.rpush(f"{namespace}:queue:a", 1)

    with pytest.raises(CannotWriteNow, match="some of the commands"):
        pipe.execute()
    handover.take()

    assert resq.size("a") == 0
    resq.push("a", 1)
    assert resq.size("a") == 1


def test_a_transaction_that_was_refused_half_way_is_done_by_the_other_node(
    cluster: Cluster, namespace: str, resq: ResQ
) -> None:
    assert resq.queues() == []
    handover = Handover(cluster, namespace)
    handover.source.client().execute_command(*handover.detach)
    handover.take()
    pipe = resq.store.client.pipeline(transaction=True)
    pipe.rpush(f"{namespace}:queue:a", 1)
    pipe.rpush(f"{namespace}:queue:b", 1)

    assert pipe.execute() == [1, 1]

    assert resq.size("a") == resq.size("b") == 1


def test_a_worker_waits_while_the_slot_is_migrating(
    cluster: Cluster, namespace: str, resq: ResQ, run: Run, notes: Path
) -> None:
    source = cluster.owner(f"{namespace}:")
    target = next(node for node in cluster.nodes if node is not source)
    worker = run("pyres_worker", "--queues", "notes", "--nonblocking-pop")
    until(lambda: len(resq.workers()) == 1)
    slot = key_slot(f"{namespace}:".encode())
    names = [n.client().execute_command("CLUSTER", "MYID") for n in (source, target)]
    target.client().execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[0])
    source.client().execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[1])

    with pytest.raises(CONNECTION_ERRORS):
        resq.enqueue(NoteJob, str(notes), "too soon")
    worker.until_output("Redis cannot serve now (")
    cluster.move(f"{namespace}:", target)
    resq.enqueue(NoteJob, str(notes), "now")

    until(lambda: "now" in noted(notes))
    end(worker)


def test_a_pool_and_an_application_continue_with_the_replica_of_a_dead_primary(
    tmp_path: Path, notes: Path
) -> None:
    with Cluster(replicas=1) as cluster, Daemons(tmp_path, cluster.url) as daemons:
        options = ["--queues", "notes", "--namespace", "{resque}"]
        pool = daemons("pyres_manager", "--pool", "2", *options)
        worker = daemons("pyres_worker", *options)
        resq = ResQ(cluster.url, namespace="{resque}")
        until(lambda: len(resq.workers()) == 3)
        resq.enqueue_many((NoteJob, str(notes), word) for word in range(100))
        old = cluster.owner("{resque}:")
        assert resq.redis.execute_command("WAIT", 1, 20_000) == 1

        old.kill()
        until(lambda: enqueued(resq, NoteJob, str(notes), "later"), timeout=60)

        until(lambda: {*map(str, range(100)), "later"} <= set(noted(notes)), timeout=60)
        assert cluster.owner("{resque}:") is not old
        until(lambda: len(resq.workers()) == 3, timeout=60)
        end(pool, worker)
        assert resq.workers() == []
        resq.close()


def test_the_other_nodes_are_asked_when_the_only_node_in_the_dsn_is_down() -> None:
    with Cluster() as cluster:
        seed = cluster.nodes[0]
        namespace = next(n for n in map("{{{}}}".format, itertools.count())
                         if cluster.owner(f"{n}:") is seed)  # fmt: skip
        resq = ResQ(cluster.url, namespace=namespace)
        resq.enqueue(NoteJob, "", 1)
        for node in cluster.nodes:
            node.client().config_set("cluster-require-full-coverage", "no")
        cluster.move(f"{namespace}:", cluster.nodes[1])

        seed.kill()

        until(lambda: enqueued(resq, NoteJob, "", 2))
        assert resq.size("notes") == 2
        resq.close()


def test_a_redirection_to_the_new_node_of_the_slot_is_followed(
    cluster: Cluster, namespace: str, resq: ResQ
) -> None:
    """Other nodes may not know it yet, so none of them is asked."""
    resq.enqueue(NoteJob, "", 1)
    here = cluster.owner(f"{namespace}:")
    cluster.move(f"{namespace}:", next(node for node in cluster.nodes if node is not here))
    before = asked(cluster)

    resq.enqueue(NoteJob, "", 2)

    assert asked(cluster) == before
    assert resq.size("notes") == 2


def asked(cluster: Cluster) -> int:
    """How often nodes were asked who has which slots."""
    stats = [node.client().info("commandstats") for node in cluster.nodes]
    return sum(stat.get("cmdstat_cluster|slots", {}).get("calls", 0) for stat in stats)


@pytest.mark.parametrize("kind", ["fetcher", "push_watch"])
def test_a_connection_that_reads_replies_itself_finds_the_slot_again(
    kind: str, cluster: Cluster, namespace: str, resq: ResQ
) -> None:
    resq.store.workers.register("h:1:notes", "1")
    fetcher, watch = resq.store.fetcher("h:1:notes"), resq.store.push_listener()
    fetcher.set_queues(["notes"])
    assert fetcher.fetch(False, "2026-11-23T16:01:09Z") is None
    watch.connect()
    assert watch.names() == []
    here = cluster.owner(f"{namespace}:")
    cluster.move(f"{namespace}:", next(node for node in cluster.nodes if node is not here))

    def again() -> Any:
        if kind == "fetcher":
            return fetcher.fetch(False, "2026-11-23T16:01:09Z")
        watch.connect()
        return watch.names()

    with pytest.raises(CONNECTION_ERRORS):
        again()
    assert not again()
    fetcher.close()
    watch.close()


def enqueued(resq: ResQ, *job: object) -> bool:
    """Whether it could be enqueued; an application would try again just so."""
    with contextlib.suppress(*CONNECTION_ERRORS):
        return resq.enqueue(*job)
    return False
