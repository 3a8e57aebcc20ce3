"""Users with exactly the rights that docs/redis.md lists: everything works, and none is
superfluous.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import platform
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyres import ResQ
from pyres.failure.redis_multi_queue import RedisMultiQueueBackend
from pyres.registry import Registry
from pyres.store import CONNECTION_ERRORS, REFUSAL_ERRORS
from tests.failover.jobs import (
    BadNoteJob,
    DyingJob,
    GatedBadNoteJob,
    GatedNoteJob,
    NoteJob,
    RetriedNoteJob,
    SlowNoteJob,
    UniqueNoteJob,
    UniqueRetriedNoteJob,
    note,
    noted,
)
from tests.servers import ROOT, Daemon, Daemons, Monitor, Server, state_of, until

LISTED = {
    found[1]: found[0]
    for found in re.finditer(
        r"^user (pyres-\w+) .*$", (ROOT / "docs" / "redis.md").read_text("utf-8"), re.MULTILINE
    )
}

#: Commands with subcommands: a right to one of these is a right to a subcommand.
CONTAINERS = {"CLIENT", "CLUSTER", "SCRIPT"}

#: Commands for which no right is needed, not even a login.
FREE = {"auth", "hello"}


def rights(user: str) -> set[str]:
    """The commands that a user of the documentation may send."""
    return set(re.findall(r" \+(\S+)", LISTED[user]))


@pytest.fixture
def server() -> Iterator[Server]:
    """A server with the users of the documentation; the test itself connects by the Unix socket."""
    with Server() as server:
        client = own_client(server)
        for user in LISTED.keys() - {"pyres-ask"}:
            admit(client, user)
        yield server


@pytest.fixture
def resq(server: Server) -> Iterator[ResQ]:
    """Someone who may do everything."""
    resq = ResQ(f"unix://{server.unix_socket}")
    yield resq
    resq.close()


def admit(client: Any, user: str, *more: str) -> None:
    """Make a user of the documentation."""
    client.execute_command("ACL", "SETUSER", *LISTED[user].split()[1:], *more)


def own_client(server: Server) -> Any:
    """The test's own user, with all rights, which MONITOR distinguishes from the others."""
    return server.client(unix_socket_path=str(server.unix_socket))


def url(server: Server, user: str) -> str:
    return f"redis://{user}:secret@{server.dsn}"


def used(server: Server, monitor: Monitor) -> set[str]:
    """What all but the test itself have sent, also by scripts."""
    # MONITOR does not show what counts as an administrator's.
    counted = own_client(server).info("commandstats")
    words = {"client|unblock"} if "cmdstat_client|unblock" in counted else set()
    for command in monitor.everything:
        if not command.client.startswith("unix:"):
            name = command.name.lower()
            part = f"|{command.args[0].lower()}" if command.name in CONTAINERS else ""
            words.add(name + part)
    return words - FREE


def test_an_application_needs_exactly_the_documented_rights(server: Server) -> None:
    with server.monitor() as monitor:
        resq = ResQ(url(server, "pyres-app"))
        resq.enqueue(NoteJob, "", 1)
        resq.enqueue_many([(NoteJob, "", 1), (NoteJob, "", 2)])
        resq.enqueue_in(5, NoteJob, "", 1)
        resq.enqueue(UniqueNoteJob, "", 1)
        resq.enqueue_in(5, UniqueNoteJob, "", 2)
        for lock in own_client(server).scan_iter("resque:pyres:unique:*"):
            own_client(server).persist(lock)
        resq.enqueue(UniqueNoteJob, "", 1)
        lose_a_unique_job(own_client(server))
        resq.enqueue_in(5, UniqueNoteJob, "", 2)
        with resq.pipeline(atomic=True) as batch:
            batch.enqueue(NoteJob, "", 3)
            batch.enqueue(UniqueNoteJob, "", 3)

        assert used(server, monitor) == rights("pyres-app")
    resq.close()


def lose_a_unique_job(client: Any) -> None:
    """Remove what waits, and have a worker that does something else; each lock may be checked."""
    for pattern in ("resque:delayed*", "resque:timestamps:*"):
        for key in client.scan_iter(pattern):
            client.delete(key)
    client.sadd("resque:workers", "elsewhere:1:x")
    client.set("resque:worker:elsewhere:1:x", json.dumps({"payload": {"args": ["x" * 50]}}))
    for job in client.scan_iter("resque:pyres:unique_job:*"):
        client.hdel(job, "checked")


def test_workers_of_every_kind_need_exactly_the_documented_rights(
    server: Server, resq: ResQ, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    leave_dead_workers(resq)
    enqueue_all_kinds(resq, str(notes))
    others = register_others(resq)

    with server.monitor() as monitor, Daemons(tmp_path, url(server, "pyres-worker")) as daemons:
        kinds = [
            ("pyres_worker", "--queues", "notes", "--blocking-pop"),
            ("pyres_worker", "--queues", "a*", "--nonblocking-pop"),
            ("pyres_worker", "--queues", "b"),
            ("pyres_manager", "--pool", "1", "--queues", "c", "--interval", "0.1",
             "--blocking-pop"),
            ("pyres_manager", "--pool", "1..2", "--queues", "d*", "--scale-wait", "0.2"),
        ]  # fmt: skip
        running = [daemons(*kind) for kind in kinds]
        wanted = {"note", "bad", "dying", "retried", "one", "two", "a1", "b", "c", "d1", "d2"}
        lose_a_hand(resq, notes)
        declare_dead(resq, notes)
        until(lambda: wanted <= {*noted(notes)}, timeout=60)
        until(lambda: resq.info()["processed"] > 10 and not resq.info()["pending"])
        ask_khans(resq)
        # A signal asks it to stop there; at a second TERM its handlers may be removed already.
        lay_one_back(server, resq, running[0], str(notes))

        end(*running[1:])
        assert running[0].wait() == 0, running[0].output()
        assert used(server, monitor) == rights("pyres-worker")
    assert sorted(resq.workers()) == others
    no_right_was_missing(server)


def register_others(resq: ResQ) -> list[str]:
    """Workers of another host: watchers are counted only if that many are registered."""
    names = [f"elsewhere:{pid}:y" for pid in range(2, 7)]
    seconds, _ = resq.redis.time()
    now = dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()
    resq.redis.sadd("resque:workers", *names)
    resq.redis.hset("resque:workers:heartbeat", mapping=dict.fromkeys(names, now))
    return names


def leave_dead_workers(resq: ResQ) -> None:
    """A dead worker of this host with a job in flight, a node-resque worker and a silent one."""
    held = {"queue": "x", "run_at": "now", "payload": {"class": "X", "args": []}}
    dead = f"{platform.node()}:4194305:x"
    resq.redis.sadd("resque:workers", dead)
    resq.redis.set(f"resque:worker:{dead}", json.dumps(held))
    resq.redis.sadd("resque:workers", "elsewhere:1:x")
    resq.redis.hset("resque:workers:heartbeat", "elsewhere:1:x", "2020-01-01T00:00:00+00:00")


def enqueue_all_kinds(resq: ResQ, notes: str) -> None:
    for job, word in (
        (NoteJob, "note"), (BadNoteJob, "bad"), (DyingJob, "dying"), (RetriedNoteJob, "retried"),
        (UniqueNoteJob, "one"), (UniqueRetriedNoteJob, "two"),
    ):  # fmt: skip
        resq.enqueue(job, notes, word)
    resq.enqueue(GatedBadNoteJob, notes, "gated", "go on")
    resq.enqueue_to("b", GatedNoteJob, notes, "waits", "declared dead")
    for queue in ("a1", "b", "c"):
        resq.enqueue_to(queue, NoteJob, notes, queue)
    for queue in ("d1", "d2"):
        resq.enqueue_to(queue, SlowNoteJob, notes, queue, 1)


def lose_a_hand(resq: ResQ, notes: Path) -> None:
    """A worker is declared dead, and then its job fails."""
    until(lambda: "gated" in noted(notes))
    (record,) = (key for key in resq.redis.scan_iter("resque:worker:*:notes")
               if b"GatedBadNoteJob" in resq.redis.get(key))  # fmt: skip
    resq.redis.delete(record)
    note(str(notes), "go on")


def declare_dead(resq: ResQ, notes: Path) -> None:
    """Another host prunes a worker whose job then succeeds."""
    until(lambda: "waits" in noted(notes))
    (worker,) = (name for name in resq.workers() if name.endswith(":b"))
    assert Registry(resq, "elsewhere:2:y").prune_worker(worker, silent=True)
    note(str(notes), "declared dead")


def ask_khans(resq: ResQ) -> None:
    """Leave each manager a command, and wait until it has been fetched."""
    khans = sorted(resq.store.workers.khan_ids())
    assert len(khans) == 2
    for khan in khans:
        resq.command_khan(khan, "ADD")
    until(lambda: not resq.redis.exists(*[f"resque:khan:{khan}" for khan in khans]))


def lay_one_back(server: Server, resq: ResQ, worker: Daemon, notes: str) -> None:
    """A job is pushed at the moment when a blocking worker is asked to stop."""
    until(lambda: resq.redis.info("clients")["blocked_clients"] >= 1)
    with contextlib.closing(own_client(server)) as pushing:
        connection = pushing.connection_pool.get_connection()
        server.pause()
        connection.send_command("RPUSH", "resque:queue:notes", '{"class":"Unbegun","args":[]}')
        worker.send(signal.SIGTERM)
        # It has sent CLIENT UNBLOCK, and waits for the reply.
        until(lambda: not has_pending_signals(worker.pid) and state_of(worker.pid) == "S")
        server.resume()
        connection.read_response()
        pushing.connection_pool.release(connection)


def has_pending_signals(pid: int) -> bool:
    """Whether a signal was sent to a process that this has not begun to handle."""
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return any(int(mask, 16) for mask in re.findall(r"^(?:Sig|Shd)Pnd:\s*(\w+)", status, re.M))


def end(*daemons: Daemon) -> None:
    for daemon in daemons:
        daemon.send(signal.SIGTERM)
    for daemon in daemons:
        assert daemon.wait() == 0, daemon.output()


def no_right_was_missing(server: Server) -> None:
    assert own_client(server).execute_command("ACL", "LOG") == []


def test_schedulers_need_exactly_the_documented_rights(
    server: Server, resq: ResQ, tmp_path: Path
) -> None:
    for name, klass in (("often", NoteJob), ("once", UniqueNoteJob)):
        resq.set_schedule(name, {"every": "1s", "class": _name(klass), "queue": name})
        resq.enqueue_in(-1, klass, "", "due")
    resq.delayed_push(resq._current_time(), "no job")

    with server.monitor() as monitor, Daemons(tmp_path, url(server, "pyres-scheduler")) as daemons:
        _give_a_lock_an_end(server)
        options = ["--dynamic", "--interval", "0.2", *_entries_and_jobs(tmp_path)]
        first = daemons("pyres_scheduler", *options)
        first.until_output("is the master now")
        second = daemons("pyres_scheduler", *options, "--front")
        second.until_output("is on standby")
        until(lambda: resq.size("notes") == 2 and resq.size("often") and resq.size("once"))
        let_a_unique_job_fire_again(server, resq)
        end(first)
        second.until_output("is the master now")
        # Not by a script: what that calls would count as the schedulers'.
        resq.redis.rpush(
            "resque:delayed:1", f'{{"class":"{_name(NoteJob)}","args":["","due"],"queue":"notes"}}'
        )
        resq.redis.zadd("resque:delayed_queue_schedule", {"1": 1})
        resq.set_schedule("later", {"every": "1h", "class": _name(NoteJob), "queue": "often"})
        until(lambda: resq.size("notes") == 3 and resq.size("static"))
        leave_one_delayed(resq)
        until(lambda: resq.redis.hexists("resque:pyres:schedule", "later"))
        resq.remove_schedule("later")
        until(lambda: not resq.redis.hexists("resque:pyres:schedule", "later"))
        end(second)

        assert used(server, monitor) == rights("pyres-scheduler")
    no_right_was_missing(server)


def _entries_and_jobs(folder: Path) -> list[str]:
    path = folder / "schedule.json"
    path.write_text('{"static": {"every": "1s", "class": "A", "queue": "static"}}')
    return ["--schedule", str(path), "--require", "tests.failover.jobs"]


def let_a_unique_job_fire_again(server: Server, resq: ResQ) -> None:
    """Its queue is removed, which its next moment finds."""
    until(lambda: resq.redis.llen("resque:failed") == 1)
    resq.redis.delete("resque:queue:once")

    def fired() -> bool:
        lose_a_unique_job(own_client(server))
        return resq.size("once") == 1

    until(fired)


def leave_one_delayed(resq: ResQ) -> None:
    """Of two jobs one cannot be promoted, since its failure cannot be recorded; the other can."""
    resq.redis.rename("resque:failed", "resque:kept")
    resq.redis.set("resque:failed", "not a list")
    job = f'{{"class":"{_name(NoteJob)}","args":["","due"],"queue":"notes"}}'
    resq.redis.rpush("resque:delayed:2", "no job", job)
    resq.redis.zadd("resque:delayed_queue_schedule", {"2": 2})
    until(lambda: resq.redis.lrange("resque:delayed:2", 0, -1) == [b"no job"])
    resq.redis.rename("resque:kept", "resque:failed")
    until(lambda: not resq.redis.exists("resque:delayed:2"))


def _give_a_lock_an_end(server: Server) -> None:
    key = "resque:resque:resque_scheduler_master_lock"
    own_client(server).set(key, "gone:1")
    resq = ResQ(url(server, "pyres-scheduler"))
    assert resq.store.schedules.master_lock().acquire("here:1", 10).corrected
    resq.close()
    own_client(server).delete(key)


def _name(job: type) -> str:
    return f"{job.__module__}.{job.__qualname__}"


RECORD = {
    "failed_at": "2026/11/23 11:03:49 EST",
    "payload": {"class": "M", "args": []},
    "exception": "E",
    "error": "e",
    "backtrace": [],
    "worker": "",
    "queue": "mail",
}

PAGES = [
    "/overview", "/working/", "/failed/", "/failed/?class=M", "/queues/", "/queues/mail/",
    "/workers/", "/delayed/", "/delayed/4102444800/", "/schedule/", "/stats/resque",
    "/stats/redis", "/stats/keys", "/stats/keys/queues", "/stats/keys/queue:mail",
    "/stats/keys/stat:processed", "/stats/keys/delayed_queue_schedule",
    "/stats/keys/persistent_schedules", "/working/h:1:mail", "/metrics", "/stats.txt",
]  # fmt: skip


def test_the_web_page_needs_exactly_the_documented_rights(
    server: Server, resq: ResQ, open_page: Any
) -> None:
    fill(resq)
    with server.monitor() as monitor:
        page = open_page([url(server, "pyres-web")], sample=False)
        for path in PAGES:
            answer = page.get(path)
            assert (answer.status_code, "NOPERM" in answer.text) == (200, False), path
        press_everything(Visitor(page), resq)

        assert used(server, monitor) == rights("pyres-web")
    no_right_was_missing(server)


def fill(resq: ResQ) -> None:
    """Something of everything."""
    resq.redis.set("resque:stat:processed", 1)
    resq.set_schedule("often", {"every": "1h", "class": "M", "queue": "mail"})
    resq.set_schedule("once", {"every": "1h", "class": _name(UniqueNoteJob), "queue": "mail"})
    for number in range(3):
        resq.push("mail", {"class": "M", "args": [number]})
    due = [{"class": "M", "args": [number], "queue": "mail"} for number in range(3)]
    for item in due:
        resq.delayed_push(resq._current_time().fromtimestamp(4102444800), item)
    resq.redis.sadd("resque:workers", "h:1:mail")
    resq.redis.sadd("resque:khans", "h:1:2")
    resq.redis.xadd("resque:stranger", {"a": 1})
    for number in range(6):
        resq.redis.rpush("resque:failed", json.dumps({**RECORD, "error": str(number)}))


class Visitor:
    """Presses buttons and confirms."""

    def __init__(self, page: Any) -> None:
        self.page = page
        found = re.search(r'name="csrf" value="([^"]+)"', page.get("/failed/").text)
        assert found
        self.csrf = found[1]

    def press(self, path: str, **form: Any) -> None:
        answer = self.page.post(path, data={"csrf": self.csrf, "confirmed": "yes", **form})
        assert answer.status_code == 303, (path, answer.status_code, answer.text)

    def rows(self, path: str, field: str) -> list[str]:
        return [row[field] for row in self.page.get(path).get_json()["rows"]]


def press_everything(visitor: Visitor, resq: ResQ) -> None:
    failures = visitor.rows("/api/failed", "record")
    visitor.press("/failed/retry/", failed_job=failures[0])
    visitor.press("/failed/delete/", failed_job=failures[1])
    visitor.press("/failed/retry_all", text="2")
    visitor.press("/failed/retry_all", queue="mail")
    for all_of_them in ("/failed/retry_all", "/failed/delete_all"):
        resq.redis.rpush("resque:failed", json.dumps(RECORD))
        RedisMultiQueueBackend(ValueError("m"), "mail", {"class": "M", "args": []}).save(resq)
        visitor.press(all_of_them)
    delayed = visitor.rows("/api/delayed/4102444800", "raw")
    for at, button in enumerate(("now", "cancel", "now")):
        visitor.press(f"/delayed/{button}", timestamp="4102444800", job=delayed[at])
    for name in ("often", "once", "once"):
        visitor.press("/schedule/run", name=name)
    visitor.press("/workers/pause")
    visitor.press("/workers/resume")
    visitor.press("/khans/command", khan="h:1:2", command="ADD")
    (job, *_) = visitor.rows("/api/queues/mail", "raw")
    visitor.press("/queues/delete_job", queue="mail", job=job)
    visitor.press("/queues/move", source="mail", queue="mail", target="other")
    visitor.press("/queues/remove", queue="other")
    assert resq.redis.exists("resque:delayed_queue_schedule", "resque:queue:other") == 0


@pytest.mark.parametrize(
    ("command", "user", "missing"),
    [
        ("pyres_worker", "pyres-worker", "evalsha"),
        ("pyres_worker", "pyres-worker", "smembers"),
        ("pyres_worker", "pyres-worker", "multi"),
        ("pyres_worker", "pyres-worker", "client|id"),
        ("pyres_worker --blocking-pop", "pyres-worker", "blpop"),
        ("pyres_manager", "pyres-worker", "sadd"),
        ("pyres_scheduler", "pyres-scheduler", "evalsha"),
        ("pyres_scheduler", "pyres-scheduler", "zrangebyscore"),
    ],
)
def test_a_missing_right_is_reported_in_one_line(
    command: str, user: str, missing: str, server: Server, tmp_path: Path
) -> None:
    client = own_client(server)
    client.execute_command("ACL", "SETUSER", user, f"-{missing}")
    words = command.split()
    queues = [] if command == "pyres_scheduler" else ["--queues", "a"]

    with Daemons(tmp_path, url(server, user)) as daemons:
        daemon = daemons(*words, *queues)

        assert daemon.wait() == 2, daemon.output()
        (error,) = (line for line in daemon.output().splitlines() if " INFO " not in line)
    assert error.startswith(f"{words[0]}: error: the Redis server refuses us: ")
    # Redis 7.0 does not name a command that a script may not run.
    assert missing.partition("|")[0] in error or "can't run this command" in error


@pytest.mark.parametrize("command", ["pyres_worker", "pyres_manager"])
def test_without_the_right_to_tracking_the_queues_are_polled_every_second(
    command: str, server: Server, resq: ResQ, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    own_client(server).execute_command("ACL", "SETUSER", "pyres-worker", "-client|tracking")

    with Daemons(tmp_path, url(server, "pyres-worker")) as daemons:
        daemon = daemons(command, "--queues", "notes")
        daemon.until_output("the server refuses CLIENT TRACKING")
        resq.enqueue(NoteJob, str(notes), 1)

        until(lambda: noted(notes))
        end(daemon)


def test_a_wrong_password_is_reported_in_one_line(server: Server, tmp_path: Path) -> None:
    with Daemons(tmp_path, url(server, "pyres-worker").replace("secret", "wrong")) as daemons:
        daemon = daemons("pyres_worker", "--queues", "a")

        assert daemon.wait() == 2
        assert "the Redis server refuses us" in daemon.output()
        assert "wrong" not in daemon.output()


def test_in_a_cluster_a_user_needs_one_right_more(tmp_path: Path) -> None:
    with Server(cluster=True) as node, Daemons(tmp_path, "") as daemons:
        more = ["resetkeys", "~{resque}:*"]
        admit(node.client(), "pyres-app", *more, "+cluster|slots")
        admit(node.client(), "pyres-worker", *more)
        dsn = f"redis+cluster://{{}}:secret@127.0.0.1:{node.port}"
        refused = daemons("pyres_worker", "--queues", "a", "--namespace", "{resque}",
                          "--dsn", dsn.format("pyres-worker"))  # fmt: skip

        resq = ResQ(dsn.format("pyres-app"), namespace="{resque}")
        assert resq.enqueue(NoteJob, "", 1)
        resq.close()

        assert refused.wait() == 2
        assert "cluster|slots" in refused.output()


def test_in_another_db_a_user_needs_one_right_more(server: Server) -> None:
    dsn = f"redis://pyres-app:secret@127.0.0.1:{server.port}/3"
    with pytest.raises(REFUSAL_ERRORS, match="select"):
        ResQ(dsn).enqueue(NoteJob, "", 1)

    admit(own_client(server), "pyres-app", "+select")

    resq = ResQ(dsn)
    assert resq.enqueue(NoteJob, "", 1)
    resq.close()


def test_a_user_may_ask_a_sentinel_with_the_rights_that_are_listed(server: Server) -> None:
    with Server(sentinel_of={"main": server}) as sentinel:
        admit(sentinel.client(), "pyres-ask")
        login = "sentinel_username=pyres-ask&sentinel_password=secret"
        resq = ResQ(f"redis+sentinel://pyres-app:secret@127.0.0.1:{sentinel.port}/main?{login}")
        assert resq.enqueue(NoteJob, "", 1)

        server.kill()

        def error_of_enqueue() -> str:
            try:
                resq.enqueue(NoteJob, "", 1)
            except CONNECTION_ERRORS as error:
                return str(error)
            return ""

        until(lambda: "knows none now" in error_of_enqueue())
        resq.close()
