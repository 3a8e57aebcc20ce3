"""Which workers are dead and which are only silent; this is decided in one place."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis

from pyres import ResQ, liveness
from pyres.exceptions import BadOptionError
from pyres.liveness import HEARTBEAT, PRUNE_AFTER, Liveness, Pace
from pyres.process import identity, title
from pyres.registry import Registry

HERE = f"here:{os.getpid()}:mail"
NOBODY = 4194304


def is_gone(resq: ResQ, worker_id: str, own_id: str = HERE) -> bool:
    return Liveness(own_id, resq.store.workers).is_gone(worker_id)


def is_silent(resq: ResQ, worker_id: str) -> bool:
    return Liveness(HERE, resq.store.workers).is_silent(worker_id)


def enlist(resq: ResQ, worker_id: str, mark: str = "", ago: float | None = None) -> str:
    """A registered worker whose last heartbeat was `ago` seconds ago."""
    resq.store.workers.register(worker_id, "1", process_start=mark)
    if ago is not None:
        moment = datetime.fromtimestamp(resq.redis.time()[0], UTC) - timedelta(seconds=ago)
        resq.redis.hset("resque:workers:heartbeat", worker_id, moment.isoformat(timespec="seconds"))
    return worker_id


@pytest.fixture
def stranger(run_daemon) -> int:
    """A live process that shows nothing of a worker."""
    return run_daemon("-c", "import signal; signal.pause()").pid


@pytest.mark.parametrize("ago", [None, 0, PRUNE_AFTER + 10])
def test_a_worker_without_a_process_is_dead_whatever_its_heartbeat(resq, ago):
    for mark in ("", f"{identity.place()} 12345"):
        assert is_gone(resq, enlist(resq, f"here:{NOBODY}:mail", mark, ago))


@pytest.mark.parametrize("ago", [None, 0, PRUNE_AFTER + 10])
def test_a_worker_whose_process_is_the_registered_one_lives_whatever_its_title(resq, stranger, ago):
    worker = enlist(resq, f"here:{stranger}:mail", identity.process_start(stranger), ago)

    assert not title.is_worker(stranger)
    assert not is_gone(resq, worker)


@pytest.mark.parametrize("ago", [None, 0])
def test_a_worker_whose_pid_another_process_has_now_is_dead(resq, stranger, ago):
    mark = f"{identity.place()} 1"

    assert is_gone(resq, enlist(resq, f"here:{stranger}:mail", mark, ago))
    assert is_gone(resq, enlist(resq, f"here:{os.getpid()}:old", mark, ago))


def test_another_id_with_our_own_pid_is_dead(resq):
    assert is_gone(resq, enlist(resq, f"here:{os.getpid()}:old"))
    assert is_gone(resq, enlist(resq, f"here:{os.getpid()}:old,~1", ago=0))
    assert not is_gone(resq, enlist(resq, HERE))


def test_another_id_with_the_pid_of_a_live_worker_is_dead(resq, stranger):
    lives = enlist(resq, f"here:{stranger}:mail", identity.process_start(stranger))

    assert is_gone(resq, enlist(resq, f"here:{stranger}:old"))
    assert is_gone(resq, enlist(resq, f"here:{stranger}:older", ago=0))
    assert not is_gone(resq, lives)


def test_another_worker_of_this_very_process_lives(resq):
    mark = identity.process_start(os.getpid())

    assert not is_gone(resq, enlist(resq, f"here:{os.getpid()}:mail,~1", mark))
    assert not is_gone(resq, enlist(resq, f"here:{os.getpid()}:other", mark))


def test_another_worker_of_a_live_process_that_registers_just_now_lives(resq, stranger, server):
    """As the slots of a minion do, one after the other."""
    mark = identity.process_start(stranger)
    enlist(resq, f"here:{stranger}:mail", mark)
    ends = threading.Event()

    def come_and_go() -> None:
        with contextlib.closing(ResQ(server.dsn)) as other:
            while not ends.is_set():
                enlist(other, f"here:{stranger}:mail,~1", mark)
                other.store.workers.unregister(f"here:{stranger}:mail,~1")

    slot = threading.Thread(target=come_and_go)
    slot.start()
    try:
        for _ in range(200):
            liveness = Liveness(HERE, resq.store.workers)
            assert [each for each in liveness.known.ids if liveness.is_gone(each)] == []
    finally:
        ends.set()
        slot.join()


def test_without_a_process_start_and_a_heartbeat_a_foreign_title_is_dead(resq, stranger):
    assert is_gone(resq, enlist(resq, f"here:{stranger}:mail"))
    assert is_gone(resq, enlist(resq, f"here:{stranger}:slow", ago=PRUNE_AFTER + 10))


def test_a_live_process_with_a_fresh_heartbeat_lives_whatever_it_shows(resq, stranger):
    assert not is_gone(resq, enlist(resq, f"here:{stranger}:mail", ago=HEARTBEAT))


def test_a_title_that_cannot_be_read_proves_nothing(resq, stranger, monkeypatch):
    monkeypatch.setattr(title, "is_readable", lambda pid: False)

    assert not is_gone(resq, enlist(resq, f"here:{stranger}:mail"))


@pytest.mark.parametrize("worker_id", ["there:1:mail", "heretoo:4194304:mail", "nonsense", "here"])
def test_nothing_is_certain_of_another_host(resq, worker_id):
    assert not is_gone(resq, enlist(resq, worker_id))


@pytest.mark.parametrize("pid", [NOBODY, os.getpid()], ids=["no process", "our own"])
def test_another_machine_of_the_same_name_is_logged_and_judged_by_its_heartbeat(
    resq, caplog, monkeypatch, pid
):
    monkeypatch.setattr(liveness, "_warned_hosts", set())
    worker = enlist(resq, f"here:{pid}:mail,x", "another-boot/pid:[1] 77", ago=10)

    assert not is_gone(resq, worker)
    assert not is_gone(resq, worker)
    assert caplog.text.count("container that also has the host name here") == 1


def test_a_worker_of_an_earlier_boot_is_dead(resq, monkeypatch):
    worker = enlist(resq, f"here:{NOBODY}:mail", "another-boot/pid:[1] 77", ago=2 * HEARTBEAT + 10)

    monkeypatch.setattr(identity, "uptime", lambda: 30.0)
    assert is_gone(resq, worker)
    monkeypatch.setattr(identity, "uptime", lambda: 10_000.0)
    assert not is_gone(resq, worker)


# Silence


def note(resq: ResQ, last: float, since: float) -> None:
    """The last heartbeat of any worker, and since when there was no gap: seconds ago."""
    now = resq.redis.time()[0]
    resq.redis.hset("resque:pyres:beats", mapping={"last": now - last, "since": now - since})


def test_a_worker_that_is_silent_while_others_send_heartbeats_is_dead(resq):
    worker = enlist(resq, "there:1:mail", ago=PRUNE_AFTER + 10)
    note(resq, last=5, since=1000)

    assert is_silent(resq, worker)
    assert not is_silent(resq, enlist(resq, "there:2:mail", ago=PRUNE_AFTER - 10))


@pytest.mark.parametrize(("last", "since"), [(305, 5000), (5, 10), (5, 2 * HEARTBEAT - 5)])
def test_no_worker_is_dead_while_and_for_two_heartbeats_after_all_were_silent(resq, last, since):
    worker = enlist(resq, "there:1:mail", ago=PRUNE_AFTER + 10)
    note(resq, last, since)

    assert not is_silent(resq, worker)


def test_if_no_heartbeat_was_ever_noted_silence_counts(resq):
    """Beside Ruby's workers and pyres 2.0.0 there is none."""
    assert is_silent(resq, enlist(resq, "there:1:mail", ago=PRUNE_AFTER + 10))


def test_a_heartbeat_of_a_clock_that_was_ahead_is_not_valid_for_ever(resq):
    worker = enlist(resq, "there:1:mail", ago=-86400)

    assert not is_silent(resq, worker)
    note(resq, last=5, since=2 * HEARTBEAT + 5)
    assert is_silent(resq, worker)


@pytest.mark.parametrize("jump", [400, -400])
def test_a_clock_that_jumps_is_a_gap(resq, jump):
    note(resq, last=5 + jump, since=5000 + jump)

    resq.store.workers.note_heartbeat(Pace().quiet)

    assert not is_silent(resq, enlist(resq, "there:1:mail", ago=PRUNE_AFTER + 10))


@pytest.mark.parametrize(
    "written", ["", "yesterday", "2025/11/25 10:00:00 IST", "2026-13-45T00:00:00Z"]
)
def test_a_heartbeat_that_cannot_be_parsed_is_not_silence(resq, redis: Redis, written):
    redis.hset("resque:workers:heartbeat", "there:1:mail", written)

    assert not is_silent(resq, "there:1:mail")


@pytest.mark.parametrize(
    "written",
    ["1763900000", "2025-11-25 10:00:00 +0530", "Tue Nov 25 2025 10:00:00 GMT+0100 (CET)"],
)
def test_a_heartbeat_of_another_format_shows_silence_too(resq, redis: Redis, written):
    redis.hset("resque:workers:heartbeat", "there:1:mail", written)

    assert is_silent(resq, "there:1:mail")


def test_a_process_is_recognised_by_its_start(stranger):
    assert identity.process_start(stranger) == identity.process_start(stranger) != ""
    os.kill(stranger, signal.SIGCONT)
    assert identity.start(NOBODY) == ""


# Khans, by the same rule


def khan(resq: ResQ, khan_id: str, mark: str = "", ago: float | None = None) -> str:
    """A registered manager whose last heartbeat was `ago` seconds ago."""
    resq.store.workers.register_khan(khan_id, process_start=mark)
    resq.redis.rpush(f"resque:khan:{khan_id}", "ADD")
    moment = datetime.fromtimestamp(resq.redis.time()[0], UTC) - timedelta(seconds=ago or 0)
    resq.redis.hset("resque:pyres:khan_heartbeats", khan_id, moment.isoformat(timespec="seconds"))
    if ago is None:
        resq.redis.hdel("resque:pyres:khan_heartbeats", khan_id)
    return khan_id


def test_a_dead_manager_is_pruned_and_its_commands_are_removed(resq, stranger):
    khan(resq, f"here:{NOBODY}:3")
    khan(resq, f"here:{NOBODY}:4", f"{identity.place()} 12345", ago=0)
    khan(resq, f"here:{stranger}:3", f"{identity.place()} 1", ago=0)
    khan(resq, f"here:{stranger}:4")
    khan(resq, f"here:{os.getpid()}:7")
    khan(resq, "there:1:3", "boot 7", ago=PRUNE_AFTER + 10)

    Registry(resq, HERE).prune()

    assert resq.redis.keys("*khan*") == []
    assert resq.store.workers.process_starts() == {}


def test_a_khan_that_lives_or_may_live_is_not_pruned(resq, stranger):
    alive = [
        khan(resq, f"here:{stranger}:3", identity.process_start(stranger), ago=0),
        khan(resq, f"here:{os.getpid()}:7", identity.process_start(os.getpid()), ago=HEARTBEAT),
        khan(resq, "there:1:3", "boot 7", ago=HEARTBEAT),
        khan(resq, "there:2:3"),
    ]

    Registry(resq, HERE).prune()

    assert resq.store.workers.khan_ids() == sorted(alive)


def test_no_khan_is_pruned_for_the_absence_of_its_server(resq):
    resq.store.workers.note_heartbeat(Pace().quiet)
    resq.redis.hset("resque:pyres:beats", "last", int(resq.redis.time()[0]) - PRUNE_AFTER)
    alive = khan(resq, "there:1:3", "boot 7", ago=PRUNE_AFTER + 10)

    Registry(resq, HERE).prune()

    assert resq.store.workers.khan_ids() == [alive]


@pytest.mark.parametrize("options", [(0.5, None), (0, None), (60, 120), (200, None)])
def test_intervals_that_would_prune_the_living_are_refused(options):
    with pytest.raises(BadOptionError, match=r"^invalid (heartbeat|prune)_interval .*: expected "):
        Pace(*options)


def test_a_worker_is_dead_after_its_own_prune_interval(resq):
    enlist(resq, "there:1:mail", ago=13)
    enlist(resq, "there:2:mail", ago=5)
    liveness = Liveness(HERE, resq.store.workers, pace=Pace(2, 10))

    assert [each for each in sorted(liveness.known.ids) if liveness.is_silent(each)] == [
        "there:1:mail"
    ]


@pytest.mark.parametrize("seconds", [1, 2])
def test_heartbeats_each_second_show_no_gap(resq: ResQ, seconds: int) -> None:
    workers, now = resq.store.workers, int(resq.store.workers.now().timestamp())
    resq.redis.hset("resque:pyres:beats", mapping={"last": now - seconds, "since": 5})

    workers.note_heartbeat(Pace(heartbeat_interval=1).quiet)

    assert workers.noted()[1] == 5
