"""Who is registered and alive, and what becomes of the job of one who is not."""

from __future__ import annotations

import base64
import json
import logging
import os
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis

from pyres import ResQ
from pyres.exceptions import CrashError
from pyres.registry import HEARTBEAT, PRUNE_AFTER, Registry, split_id
from pyres.worker import Worker
from tests.servers import texts, until

ME = "here:1:mail"
#: No process has such a pid.
GONE = "here:4194304:mail"
LOCK = "resque:pruning_dead_workers_in_progress"


def registry(resq: ResQ, worker_id: str = ME, alive: tuple[int, ...] = (), **more) -> Registry:
    """The registry of a worker on a host where these pids are workers."""
    return Registry(resq, worker_id, alive=lambda pid: pid in alive, **more)


def enlist(redis: Redis, worker_id: str | bytes, record: bytes | None = None) -> None:
    """A worker as it registers itself, with all that belongs to it."""
    octets = worker_id if isinstance(worker_id, bytes) else worker_id.encode()
    redis.sadd("resque:workers", octets)
    redis.set(b"resque:worker:%b:started" % octets, 1)
    redis.set(b"resque:stat:processed:" + octets, 4)
    redis.set(b"resque:stat:failed:" + octets, 1)
    if record is not None:
        redis.set(b"resque:worker:" + octets, record)


def held(payload: bytes, queue: bytes = b"mail") -> bytes:
    return b'{"queue":"%b","run_at":"2026-11-23T16:01:09Z","payload":%b}' % (queue, payload)


JOB = b'{"class":"A","args":[1],"more":2}'


def beat_at(redis: Redis, worker_id: str, ago: float) -> None:
    moment = datetime.fromtimestamp(redis.time()[0], UTC) - timedelta(seconds=ago)
    redis.hset("resque:workers:heartbeat", worker_id, moment.isoformat(timespec="seconds"))


def ids(redis: Redis) -> set[str]:
    return {
        member.decode("utf-8", "surrogateescape") for member in redis.smembers("resque:workers")
    }


def records(redis: Redis) -> list[dict]:
    return [json.loads(raw) for raw in redis.lrange("resque:failed", 0, -1)]


@pytest.mark.parametrize("minion", [False, True])
def test_registering_writes_what_resque_reads(resq, redis, monkeypatch, minion):
    monkeypatch.setattr(ResQ, "_current_time", staticmethod(lambda: datetime(2026, 11, 23, 16, 1)))

    before = redis.time()[0]
    registry(resq, minion=minion).register()

    assert ids(redis) == {ME}
    assert redis.smembers("resque:minions") == ({ME.encode()} if minion else set())
    started = int(datetime(2026, 11, 23, 16, 1).timestamp())
    assert redis.get(f"resque:worker:{ME}:started") == str(started).encode()
    beat = datetime.fromisoformat(redis.hget("resque:workers:heartbeat", ME).decode())
    assert beat.tzinfo is not None
    assert beat.microsecond == 0
    assert before <= beat.timestamp() <= redis.time()[0]


@pytest.mark.parametrize("step", ["register", "renew"])
def test_no_worker_is_ever_registered_without_its_heartbeat(resq, redis, monkeypatch, step):
    """A worker whose host vanished in between would never count as silent or be pruned."""
    monkeypatch.setattr(type(resq.store.workers), "beat", None)

    getattr(registry(resq), step)()

    assert ids(redis) == {ME}
    assert redis.hexists("resque:workers:heartbeat", ME)


def test_unregistering_leaves_nothing(resq, redis):
    enlist(redis, ME)
    redis.sadd("resque:minions", ME)
    beat_at(redis, ME, 0)

    registry(resq).unregister()

    assert redis.keys() == []


def test_a_job_in_flight_when_its_worker_unregisters_is_a_failure(resq, redis, caplog):
    """As in Resque; it was deleted with the in-flight record when an error ended a worker."""
    enlist(redis, ME, held(JOB))

    registry(resq).unregister()

    (record,) = records(redis)
    assert (record["exception"], record["payload"]) == ("DirtyExitError", json.loads(JOB))
    assert sorted(redis.keys()) == [
        b"resque:failed",
        b"resque:stat:failed",
        b"resque:stat:processed",
    ]
    assert "unregistered with a job in flight" in caplog.text


def test_a_sign_of_life_is_the_servers_time(resq, redis):
    registry(resq).register()
    beat_at(redis, ME, 1000)
    before = redis.time()[0]

    registry(resq).beat()

    beat = datetime.fromisoformat(redis.hget("resque:workers:heartbeat", ME).decode())
    assert before <= beat.timestamp() <= redis.time()[0]


def test_one_that_was_pruned_alive_registers_again(resq, redis, caplog):
    registry(resq, minion=True).register()
    redis.flushall()

    with caplog.at_level(logging.WARNING, "pyres"):
        registry(resq, minion=True).beat()

    assert "was unregistered by another process; registering again" in caplog.text
    assert ids(redis) == {ME}
    assert redis.smembers("resque:minions") == {ME.encode()}
    assert redis.exists(f"resque:worker:{ME}:started")


def test_started_is_stamped_once(resq, redis):
    registry(resq).register()
    redis.set(f"resque:worker:{ME}:started", 5)

    registry(resq).beat()

    assert redis.get(f"resque:worker:{ME}:started") == b"5"


# Pruning


def test_a_heartbeat_of_a_worker_that_died_before_it_registered_is_removed(resq, redis, run_daemon):
    """A manager writes it for minions that it has just forked."""
    young = run_daemon("-c", "import signal; signal.pause()")
    for pid in (4194304, young.pid):
        beat_at(redis, f"here:{pid}:mail", 1)

    assert registry(resq).prune() == []

    assert redis.hkeys("resque:workers:heartbeat") == [f"here:{young.pid}:mail".encode()]
    assert records(redis) == []


def test_dead_managers_of_this_host_are_removed(resq, redis, run_daemon):
    """A manager that was killed stayed in `khans` for ever."""
    here = Worker(["mail"], resq).hostname
    daemon = run_daemon("pyres_manager", "--queues", "mail")
    (lives,) = until(lambda: redis.smembers("resque:khans"))
    editor = run_daemon("-c", "import signal; signal.pause()", "vim", "pyres_manager.py")
    gone = [f"{here}:4194304:3", f"{here}:{editor.pid}:2"]
    kept = ["elsewhere:4194304:3", "nonsense", "\udcff"]
    # First, since the living manager also removes dead ones, at any moment.
    redis.rpush(f"resque:khan:{gone[0]}", "ADD")
    redis.sadd("resque:khans", *[name.encode("utf-8", "surrogateescape") for name in gone + kept])

    registry(resq, f"{here}:1:mail").prune()

    assert redis.smembers("resque:khans") == {
        lives,
        *[name.encode("utf-8", "surrogateescape") for name in kept],
    }
    assert redis.keys("resque:khan:*") == []
    assert daemon.returncode is None


def test_living_workers_stay_however_many_there_are(resq, redis):
    # pyres 1.5: 5 ran, and 3 of them were pruned
    for pid in range(1, 6):
        enlist(redis, f"here:{pid}:mail")

    assert registry(resq, alive=(2, 3, 4, 5)).prune() == []

    assert len(ids(redis)) == 5
    assert redis.get("resque:stat:processed:here:5:mail") == b"4"


def test_a_worker_whose_pid_is_not_a_worker_is_pruned_with_all_its_keys(resq, redis):
    enlist(redis, GONE)
    redis.sadd("resque:minions", GONE)
    beat_at(redis, GONE, 0)

    assert registry(resq).prune() == [GONE]

    assert redis.keys() == [LOCK.encode()]


@pytest.mark.parametrize("key", ["worker:ping:{}", "stat:processed:{}", "stat:failed:{}"])
def test_a_dead_worker_of_node_resque_leaves_nothing_under_its_short_name(resq, redis, key):
    enlist(redis, GONE)
    for name in ("here:4194304", "here:4194303", "there:4194304"):
        redis.set(f"resque:{key.format(name)}", "1")

    assert registry(resq).prune() == [GONE]

    left = sorted(texts(redis.keys(f"resque:{key.format('*')}")))
    assert left == [f"resque:{key.format(name)}" for name in ("here:4194303", "there:4194304")]


def test_workers_of_other_hosts_are_left_alone_while_they_send_heartbeats(resq, redis):
    enlist(redis, "there:2:mail", held(JOB))
    enlist(redis, "heretoo:3:mail")
    beat_at(redis, "there:2:mail", PRUNE_AFTER - 10)

    assert registry(resq).prune() == []

    assert ids(redis) == {"there:2:mail", "heretoo:3:mail"}


def test_a_host_that_fell_silent_is_pruned_by_its_last_sign_of_life(resq, redis):
    enlist(redis, "there:2:mail", held(JOB))
    beat_at(redis, "there:2:mail", PRUNE_AFTER + 10)

    assert registry(resq).prune() == ["there:2:mail"]

    assert ids(redis) == set()
    record = records(redis)[0]
    assert record["exception"] == "PruneDeadWorkerDirtyExitError"
    assert record["error"] == "Worker there:2:mail did not gracefully exit while processing A"


@pytest.mark.parametrize("beat", ["", "yesterday", "\udcff", "2026-13-45T00:00:00Z"])
def test_a_heartbeat_that_cannot_be_parsed_is_ignored(resq, redis, beat):
    enlist(redis, "there:2:mail")
    redis.hset("resque:workers:heartbeat", "there:2:mail", beat.encode("utf-8", "surrogateescape"))

    assert registry(resq).prune() == []


def test_a_worker_of_this_host_that_became_silent_is_pruned_too(resq, redis):
    enlist(redis, "here:2:mail")
    beat_at(redis, "here:2:mail", PRUNE_AFTER + 10)

    assert registry(resq, alive=(2,)).prune() == ["here:2:mail"]


def test_the_job_of_a_dead_worker_becomes_a_failure_and_is_counted_once(resq, redis):
    # pyres 1.5 lost the job, and its key stayed for ever
    enlist(redis, "here:2:mail", held(JOB))

    registry(resq).prune()

    record = records(redis)[0]
    assert record["payload"] == {"class": "A", "args": [1], "more": 2}
    assert record["exception"] == "DirtyExitError"
    assert record["error"] == "Job still being processed."
    assert (record["worker"], record["queue"]) == ("here:2:mail", "mail")
    assert redis.get("resque:stat:failed") == redis.get("resque:stat:processed") == b"1"
    assert sorted(redis.scan_iter()) == [
        b"resque:failed",
        LOCK.encode(),
        b"resque:stat:failed",
        b"resque:stat:processed",
    ]


def test_minions_that_ruby_has_pruned_are_forgotten(resq, redis):
    """Ruby removes them from `workers` and the heartbeats only."""
    elsewhere, running = "there:2:mail", "there:3:mail"
    redis.sadd("resque:minions", GONE, elsewhere, running, ME)
    enlist(redis, ME)
    now = datetime.now(UTC).isoformat(timespec="seconds").encode()
    redis.set(f"resque:worker:{running}", held(JOB).replace(b"2026-11-23T16:01:09Z", now))

    assert registry(resq).prune() == []
    assert redis.smembers("resque:minions") == {m.encode() for m in (elsewhere, running, ME)}
    assert registry(resq).prune(sweep=True) == []

    assert redis.smembers("resque:minions") == {running.encode(), ME.encode()}
    assert records(redis) == []


def test_the_counters_of_a_dead_worker_that_was_unregistered_are_removed(resq, redis):
    alive = f"here:{os.getpid()}:mail"
    of_nobody = [GONE, "here:4194305:a:b,~c", f"here:{10**30}:mail"]
    of_others = [alive, "there:2:mail", "no id", "here:x:mail"]
    for worker_id in (*of_nobody, *of_others):
        redis.set(f"resque:stat:processed:{worker_id}", "x" if worker_id == GONE else 2)
        redis.set(f"resque:stat:failed:{worker_id}", 1)
    redis.set(f"resque:stat:other:{GONE}", 1)
    redis.set("resque:stat:processed", 7)
    before = set(redis.scan_iter("resque:stat:*"))

    assert registry(resq).prune() == []
    assert set(redis.scan_iter("resque:stat:*")) == before
    assert registry(resq).prune(sweep=True) == []

    removed = before - set(redis.scan_iter("resque:stat:*"))
    counters = ("processed", "failed")
    assert removed == {f"resque:stat:{c}:{w}".encode() for c in counters for w in of_nobody}


@pytest.mark.parametrize("payload", [b"\xff\x00", b"not json", b"[1]", b"null", b""])
def test_a_malformed_job_of_a_dead_worker_is_a_failure_with_its_bytes(resq, redis, payload):
    enlist(redis, "here:2:mail", held(payload))

    assert registry(resq).prune() == ["here:2:mail"]

    record = records(redis)[0]
    assert record["payload"]["class"] == "<undecodable>"
    assert base64.b64decode(record["payload"]["raw"]) == payload
    assert record["queue"] == "mail"


@pytest.mark.parametrize("record", [b"", b"garbage", b"\xff", b"[]", b'{"queue":7}'])
def test_a_malformed_in_flight_record_is_a_failure_of_its_own(resq, redis, record):
    enlist(redis, "here:2:mail", record)

    assert registry(resq).prune() == ["here:2:mail"]

    assert len(records(redis)) == 1
    assert not redis.exists("resque:worker:here:2:mail")


def test_two_workers_that_prune_the_same_dead_one_record_its_failure_once(resq, redis, server):
    enlist(redis, "here:2:mail", held(JOB))
    other = ResQ(server.dsn)
    first, second = registry(resq), registry(other, "here:3:mail")
    prune_worker = second.prune_worker

    def both(worker_id, *args, **more) -> bool:
        # The second reads between the first one's read and its transaction.
        assert prune_worker(worker_id)
        return False

    original = first._record
    first._record = lambda *args: (both("here:2:mail"), original(*args))[1]

    assert first.prune_worker("here:2:mail") is False

    assert len(records(redis)) == 1
    assert redis.get("resque:stat:failed") == b"1"
    other.close()


def test_a_worker_that_fetches_a_job_while_it_is_pruned_stays(resq, redis):
    enlist(redis, "here:2:mail", held(JOB))
    first = registry(resq)
    original = first._record

    def record(*args) -> None:
        redis.set("resque:worker:here:2:mail", held(b'{"class":"B","args":[]}'))
        original(*args)

    first._record = record

    assert first.prune_worker("here:2:mail") is False

    assert ids(redis) == {"here:2:mail"}
    assert records(redis) == []


@pytest.mark.parametrize("when", ["before", "after its look", "in its transaction"])
def test_a_worker_that_unregisters_meanwhile_is_not_reported_as_pruned(resq, redis, caplog, when):
    """A minion that ends after its last job may do so while its manager prunes."""
    enlist(redis, GONE)
    leaving = Registry(resq, GONE)

    def look(pid: int) -> bool:
        if when == "before":
            leaving.unregister()
        return False

    pruning = Registry(resq, ME, alive=look)
    exists, remove = pruning.workers.exists, pruning._remove

    def existed(worker_id: str) -> bool:
        found = exists(worker_id)
        if when == "after its look":
            leaving.workers.unregister(worker_id)
        return found

    def removed(*args):
        if when == "in its transaction":
            leaving.workers.unregister(GONE)
        return remove(*args)

    pruning.workers.exists, pruning._remove = existed, removed

    assert pruning.prune() == []

    assert caplog.text == ""
    assert ids(redis) == set()


def test_the_cause_of_death_may_be_passed(resq, redis):
    enlist(redis, "here:2:mail", held(JOB))

    registry(resq).prune_worker("here:2:mail", CrashError("was killed by SIGKILL"))

    assert records(redis)[0]["error"] == "was killed by SIGKILL"
    assert records(redis)[0]["exception"] == "CrashError"


def test_a_dead_worker_of_the_same_id_is_pruned_when_one_registers(resq, redis):
    # In a container every worker is pid 1 of one host.
    enlist(redis, ME, held(JOB))

    registry(resq).register()

    assert len(records(redis)) == 1
    assert not redis.exists(f"resque:worker:{ME}")
    assert ids(redis) == {ME}


# The lock


def test_the_silent_are_pruned_by_one_at_a_time(resq, redis):
    enlist(redis, "there:2:mail")
    enlist(redis, "here:3:mail")
    beat_at(redis, "there:2:mail", PRUNE_AFTER + 10)
    redis.set(LOCK, "there:9:mail", ex=60)
    resq.store.workers.register("there:9:mail", "1", process_start="of a worker of pyres")

    assert registry(resq).prune() == ["here:3:mail"]

    assert redis.get(LOCK) == b"there:9:mail"
    assert ids(redis) == {"there:2:mail", "there:9:mail"}


def test_while_ruby_prunes_no_other_worker_does(resq, redis):
    # It writes a failure and forgets the worker in several steps.
    enlist(redis, GONE, held(JOB))
    redis.set(LOCK, "there:9:mail", ex=60)

    assert registry(resq).prune(sweep=True) == []
    assert ids(redis) == {GONE}

    redis.delete(LOCK)
    assert registry(resq).prune() == [GONE]


def test_the_lock_is_rubys_and_ends_by_itself(resq, redis):
    registry(resq).prune()

    assert redis.get(LOCK) == ME.encode()
    assert HEARTBEAT - 5 < redis.ttl(LOCK) <= HEARTBEAT


def test_a_lock_whose_holder_on_this_host_is_dead_is_acquired(resq, redis):
    enlist(redis, "there:2:mail")
    beat_at(redis, "there:2:mail", PRUNE_AFTER + 10)
    redis.set(LOCK, "here:3:mail", ex=60)

    assert registry(resq).prune() == ["there:2:mail"]

    assert redis.get(LOCK) == ME.encode()


@pytest.mark.parametrize("holder", ["here:3:mail", "garbage", b"\xff"])
def test_a_lock_whose_holder_lives_or_is_unknown_is_kept(resq, redis, holder):
    redis.set(LOCK, holder, ex=60)

    registry(resq, alive=(3,)).prune()

    assert redis.get(LOCK) == (holder if isinstance(holder, bytes) else holder.encode())


# Names


def test_queues_with_colons_stop_no_worker(resq, redis):
    # pyres 1.5: every new worker on any host crashed in prune
    enlist(redis, "here:2:a:b,c:d", held(JOB, b"a:b"))
    enlist(redis, "here:3:x:y")

    assert registry(resq, "here:1:m:n", alive=(3,)).prune() == ["here:2:a:b,c:d"]

    assert records(redis)[0]["queue"] == "a:b"
    found = Worker.find("here:3:x:y", resq)
    assert (found.hostname, found.pid, found.queues) == ("here", "3", ["x:y"])


def test_an_id_is_host_pid_and_queues():
    assert split_id("h:7:a:b,c") == ("h", 7, ["a:b", "c"])
    with pytest.raises(ValueError, match="values to unpack"):
        split_id("garbage")


@pytest.mark.parametrize(
    "invalid_id", [b"", b"garbage", b"here", b"here:2", b"here:x:mail", b"\xff:2:mail", b":::"]
)
def test_an_invalid_id_among_the_workers_stops_no_worker(resq, redis, invalid_id):
    # pyres 1.5: Worker.all() contained None
    redis.sadd("resque:workers", invalid_id, "here:2:mail")

    assert registry(resq).prune() == ["here:2:mail"]

    assert redis.smembers("resque:workers") == {invalid_id}
    assert all(isinstance(worker, Worker) for worker in Worker.all(resq))
    assert Worker.working(resq) == []


@pytest.mark.parametrize("queue", [b"\xff", "é".encode()])
def test_a_dead_worker_with_a_queue_of_any_name_is_pruned(resq, redis, queue):
    enlist(redis, b"here:2:" + queue, held(JOB, queue))
    redis.hset("resque:workers:heartbeat", b"here:2:" + queue, "x")

    registry(resq).prune()

    assert redis.smembers("resque:workers") == set()
    assert redis.hgetall("resque:workers:heartbeat") == {}
    assert len(records(redis)) == 1
