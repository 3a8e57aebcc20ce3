"""A pool over a long time: crashes, leaks, titles and logs, heartbeats."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path

import pytest
from redis import Redis

from pyres import ResQ
from tests.daemons.odd_jobs import LineJob
from tests.daemons.pools import (
    QUICK_BEATS,
    SLOW_DEATHS,
    busy_with,
    end_pool,
    khans,
    minions,
    nothing_is_left,
    open_files,
    start_pool,
)
from tests.daemons.watching import begun, counted, echoed, lines, living, records, zombies
from tests.jobs import BEGUN, GATE, EchoJob, GateJob, SegfaultJob, SysExitJob
from tests.servers import Daemons, Server, alive, state_of, title_of, until


def whole(redis: Redis, size: int) -> bool:
    """Whether N minions are registered, all of them alive."""
    pids = minions(redis)
    return len(pids) == size and len(living(pids)) == size


# Crashes


def test_two_hundred_minions_later_the_pool_has_its_size_and_khan_has_leaked_nothing(
    run_daemon: Daemons, resq: ResQ, redis: Redis, tmp_path: Path
) -> None:
    """With a new minion for each job."""
    done = tmp_path / "lines"
    daemon = start_pool(run_daemon, redis, 4, "--max-jobs", "1", "-l", "warning")
    resq.enqueue_many([(LineJob, str(done), number) for number in range(20)])
    until(lambda: counted(redis)[0] == 20 and whole(redis, 4))
    before = open_files(daemon.pid)

    resq.enqueue_many([(LineJob, str(done), number) for number in range(20, 220)])
    until(lambda: counted(redis)[0] == 220, timeout=300)

    until(lambda: whole(redis, 4) and len(daemon.children()) == 4)
    assert sorted(lines(done)) == list(range(220))
    assert counted(redis) == (220, 0)
    assert khans(redis) == ["4"]
    until(lambda: open_files(daemon.pid) == before and zombies(daemon.pid) == [])
    assert redis.hlen("resque:workers:heartbeat") == redis.scard("resque:workers") == 4
    assert daemon.output() == ""
    end_pool(daemon, redis)


@pytest.mark.parametrize("pop", ["--nonblocking-pop", "--watch-pop"])
def test_a_pool_of_which_all_die_at_once_is_whole_again(
    pop: str, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """Each job becomes one failure, and the manager keeps its id."""
    daemon = start_pool(run_daemon, redis, 3, pop)
    resq.enqueue_many([(GateJob, str(number)) for number in range(3)])
    until(lambda: len(busy_with(redis, "GateJob")) == 3 == redis.llen(BEGUN))
    before, files = minions(redis), open_files(daemon.pid)

    for pid in before:
        os.kill(pid, signal.SIGKILL)

    until(lambda: whole(redis, 3) and not set(before) & set(minions(redis)))
    until(lambda: counted(redis) == (3, 3))
    assert sorted(record["payload"]["args"] for record in records(resq)) == [["0"], ["1"], ["2"]]
    assert khans(redis) == ["3"]
    resq.enqueue(EchoJob, "next")
    until(lambda: echoed(redis) == [["next"]])
    until(lambda: open_files(daemon.pid) == files and zombies(daemon.pid) == [])
    end_pool(daemon, redis)


def test_a_job_that_ends_its_minion_is_counted_once_and_a_clean_exit_is_a_success(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """On a queue with a colon in its name."""
    daemon = start_pool(run_daemon, redis, 1, "--queues", "a:b")
    (first,) = minions(redis)

    for job in ((SysExitJob, 0), (SysExitJob, None), (SegfaultJob,), (EchoJob, "next")):
        resq.enqueue_to("a:b", *job)

    until(lambda: counted(redis)[0] == 4)
    (record,) = records(resq)
    assert record["error"] == "the minion that performed the job was killed by SIGSEGV"
    assert (record["queue"], record["worker"].split(":", 2)[1:]) == ("a:b", [str(first), "a:b"])
    assert counted(redis) == (4, 1)
    assert echoed(redis) == [["next"]]
    end_pool(daemon, redis)


def test_minions_that_die_at_once_are_started_after_growing_pauses(
    run_daemon: Daemons, resq: ResQ, redis: Redis, tmp_path: Path
) -> None:
    """It is logged, the manager does not spin, and goes on when the fault is over."""
    broken = tmp_path / "broken"
    (tmp_path / "fragile.py").write_text(
        f"import os\nif os.path.exists({str(broken)!r}): os._exit(7)\n"
    )
    options = ("--path", str(tmp_path), "--require", "fragile", "--interval", "600")
    command = "-c", SLOW_DEATHS
    daemon = start_pool(run_daemon, redis, 1, *options, command=command)

    broken.touch()
    daemon.send(signal.SIGUSR2)
    last = "the next one starts in 1.6 s"

    # Later lines may be there, too, by the time that this is read.
    output = "".join(daemon.until_output(last).partition(last)[:2])
    pauses = [float(text) for text in re.findall(r"died at once; .* in ([\d.]+) s", output)]
    assert pauses == [0.2, 0.4, 0.8, 1.6]
    assert output.count("exited with status 7") == 4
    # The first one, the requested one, and one after each pause that is over.
    assert output.count("Started minion") == 5
    assert khans(redis) == ["2"]
    broken.unlink()
    until(lambda: whole(redis, 2))
    resq.enqueue(EchoJob, "after")
    until(lambda: echoed(redis) == [["after"]])
    end_pool(daemon, redis)


def test_registrations_of_a_killed_pool_are_removed_when_the_next_starts(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """The manager, its minions, and the job that one of them had in flight."""
    first = start_pool(run_daemon, redis, 3)
    resq.enqueue(GateJob, "g")
    begun(redis)
    old = set(redis.smembers("resque:minions"))
    first.send_group(signal.SIGKILL)
    first.wait()
    until(lambda: first.family() == [])

    second = run_daemon("pyres_manager", "--pool", "2", "--queues", "basic")

    until(lambda: whole(redis, 2) and khans(redis) == ["2"])
    until(lambda: counted(redis) == (1, 1))
    assert [record["payload"]["args"] for record in records(resq)] == [["g"]]
    until(lambda: not old & redis.smembers("resque:workers"), what="the end of the idle ones")
    end_pool(second, redis)


def test_a_managers_signal_sent_to_a_minion_ends_only_that_minion(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """USR1 must not be passed on to another minion."""
    daemon = start_pool(run_daemon, redis, 4)
    *victims, other = minions(redis)

    for victim, signum in zip(
        victims, (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP), strict=True
    ):
        os.kill(victim, signum)
    until(lambda: whole(redis, 4) and not set(victims) & set(minions(redis)))

    assert other in minions(redis)
    assert khans(redis) == ["4"]
    assert daemon.returncode is None
    end_pool(daemon, redis)


# The size


def test_an_empty_pool_ignores_a_removal_and_may_grow_again(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """USR1 on an empty pool must not end the manager."""
    daemon = start_pool(run_daemon, redis, 1)

    daemon.send(signal.SIGUSR1)
    until(lambda: not minions(redis) and khans(redis) == ["0"])
    daemon.send(signal.SIGUSR1)
    resq.enqueue(EchoJob, "for the next")
    # It has handled the second command once it has carried out the one after that.
    daemon.send(signal.SIGUSR2)

    until(lambda: echoed(redis) == [["for the next"]])
    until(lambda: khans(redis) == [str(len(minions(redis)))] == ["1"])
    end_pool(daemon, redis)


def test_one_that_is_to_go_finishes_its_job(run_daemon: Daemons, resq: ResQ, redis: Redis) -> None:
    daemon = start_pool(run_daemon, redis, 1)
    resq.enqueue(GateJob, "g")
    job = begun(redis)

    daemon.send(signal.SIGUSR1)
    until(lambda: khans(redis) == ["0"])
    assert alive(job)
    redis.rpush(GATE.format("g"), 1)

    until(lambda: echoed(redis) == [["g"]] and not minions(redis))
    assert counted(redis) == (1, 0)
    end_pool(daemon, redis)


def test_a_rolling_restart_never_has_more_than_one_less(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """HUP loads new code, and waits for the running job."""
    daemon = start_pool(run_daemon, redis, 3)
    resq.enqueue(GateJob, "g")
    busy = begun(redis)
    old = set(minions(redis))

    def replaced() -> int:
        return len(set(daemon.children()) - old)

    daemon.send(signal.SIGHUP)
    until(lambda: replaced() >= 1)
    assert alive(busy)
    redis.rpush(GATE.format("g"), 1)
    until(lambda: replaced() == 3 and whole(redis, 3) and not old & set(minions(redis)))

    def changes() -> list[int]:
        """The sizes of the pool in the manager's log."""
        events = re.findall(r"Started minion|Minion \d+ ended", daemon.output())
        return [1 if change == "Started minion" else -1 for change in events]

    until(lambda: len(changes()) == 9, what="six starts and three ends")
    assert min([*accumulate(changes())][2:]) >= 2
    assert echoed(redis) == [["g"]]
    assert khans(redis) == ["3"]
    end_pool(daemon, redis)


# Heartbeats


def test_a_minion_has_heartbeats_during_a_long_job(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """The manager writes them: the minion itself is busy with its job."""
    daemon = run_daemon("-c", QUICK_BEATS, "--queues", "basic", "--interval", "0.1")
    (mine,) = until(lambda: redis.smembers("resque:minions"))
    resq.enqueue(GateJob, "g")
    begun(redis)

    for _ in range(3):
        assert redis.hdel("resque:workers:heartbeat", mine) == 1
        until(lambda: redis.hget("resque:workers:heartbeat", mine), what="a heartbeat")
    daemon.send(signal.SIGSTOP)
    until(lambda: state_of(daemon.pid) == "T", what="a stopped manager")
    redis.hdel("resque:workers:heartbeat", mine)
    redis.rpush(GATE.format("g"), 1)
    until(lambda: echoed(redis) == [["g"]])
    assert not redis.hexists("resque:workers:heartbeat", mine)
    daemon.send(signal.SIGCONT)

    end_pool(daemon, redis)


def test_what_others_left_behind_is_found_while_the_pool_works(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """The job of a host that vanished becomes a failure 300 s after its last heartbeat."""
    daemon = run_daemon("-c", QUICK_BEATS, "--queues", "basic", "--interval", "0.1")
    until(lambda: minions(redis))
    vanished, silent = b"vanished:7:basic", b"other:8:basic"
    now = redis.time()[0]
    for member, age in ((vanished, 400), (silent, 200)):
        job = b'{"class":"%b","args":[]}' % member.split(b":")[0]
        record = b'{"queue":"basic","run_at":"2026-11-23T16:01:09Z","payload":%b}' % job
        beat = datetime.fromtimestamp(now - age, UTC).isoformat(timespec="seconds")
        # In one step: a record whose worker is not registered is found in another way.
        with redis.pipeline() as pipe:
            pipe.set(b"resque:worker:" + member, record)
            pipe.hset("resque:workers:heartbeat", member, beat)
            pipe.sadd("resque:workers", member)
            pipe.sadd("resque:minions", member)
            pipe.execute()
    redis.delete("resque:pruning_dead_workers_in_progress")

    until(lambda: records(resq), what="the failure of the one that vanished")
    assert [record["payload"]["class"] for record in records(resq)] == ["vanished"]
    assert records(resq)[0]["exception"] == "PruneDeadWorkerDirtyExitError"
    assert vanished not in redis.smembers("resque:workers") | redis.smembers("resque:minions")
    assert silent in redis.smembers("resque:workers")
    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0


# Titles and logs


def test_ps_shows_what_each_process_does(run_daemon: Daemons, resq: ResQ, redis: Redis) -> None:
    daemon = start_pool(run_daemon, redis, 2)
    resq.enqueue(GateJob, "g")
    busy = begun(redis)
    (idle,) = set(minions(redis)) - {busy}

    shown = until(lambda: t if "processing basic since" in (t := title_of(busy)) else "")
    assert re.fullmatch(
        rf"pyres_minion:{daemon.pid}: processing basic since \d+ \[tests\.jobs\.GateJob\] "
        r"\(resque-[\d.]+\)",
        shown,
    )
    waiting = f"pyres_minion:{daemon.pid}: waiting for job on: [basic] (resque-"
    until(lambda: title_of(idle).startswith(waiting), what=waiting)
    pool = daemon.until_title("running")
    assert pool.startswith("pyres_manager: running [")
    assert set(map(int, re.findall(r"\d+", pool))) == {busy, idle}

    daemon.send(signal.SIGTERM)
    daemon.until_title("pyres_manager: stopping")
    redis.rpush(GATE.format("g"), 1)
    assert daemon.wait() == 0


@pytest.fixture
def guarded() -> Iterator[Server]:
    """A server that requires a password."""
    with Server("--requirepass", "s3cr3t-of-the-test") as server:
        yield server


def test_a_pool_has_the_password_and_shows_it_nowhere(run_daemon: Daemons, guarded: Server) -> None:
    redis = guarded.client(password="s3cr3t-of-the-test")
    resq = ResQ(guarded.dsn, "s3cr3t-of-the-test")
    arguments = ("--dsn", guarded.dsn, "--password", "s3cr3t-of-the-test", "-l", "debug")
    daemon = start_pool(run_daemon, redis, 2, *arguments)

    resq.enqueue(EchoJob, "in")
    until(lambda: echoed(redis) == [["in"]])

    titles = [title_of(pid) for pid in (daemon.pid, *minions(redis))]
    assert all(titles)
    end_pool(daemon, redis)
    assert "s3cr3t" not in " ".join([*titles, daemon.output()])
    resq.close()


def test_a_log_file_without_a_folder_is_beside_its_minions(
    run_daemon: Daemons, redis: Redis, resq: ResQ, tmp_path: Path
) -> None:
    """None logs to stderr, and late ones do not log to the manager's file."""
    options = ("--pool", "1", "--queues", "basic", "-f", "khan.log", "-l", "debug")
    daemon = run_daemon("pyres_manager", *options, cwd=tmp_path)
    (first,) = until(lambda: minions(redis))
    os.kill(first, signal.SIGKILL)
    late = until(lambda: next((pid for pid in minions(redis) if pid != first), 0))
    resq.enqueue(SysExitJob, 3)
    until(lambda: counted(redis) == (1, 1))

    end_pool(daemon, redis)

    khan, minion = (tmp_path / name for name in ("khan.log", f"minion-{late}.log"))
    assert "status 3" in minion.read_text()
    assert f"Minion {late} has stopped" in minion.read_text()
    assert "status 3" not in khan.read_text()
    assert f"Minion {first} was killed by SIGKILL" in khan.read_text()
    assert daemon.output() == ""


def test_minions_may_share_a_log(run_daemon: Daemons, redis: Redis, tmp_path: Path) -> None:
    daemon = start_pool(
        run_daemon, redis, 2, "-f", str(tmp_path / "khan.log"), "--concat_minions_logs"
    )
    pids = minions(redis)

    end_pool(daemon, redis)

    output = (tmp_path / "minion.log").read_text()
    assert all(f"Minion {pid} has stopped" in output for pid in pids)
    assert {path.name for path in tmp_path.glob("*.log")} == {"khan.log", "minion.log"}


def test_two_khans_of_a_host_leave_each_others_minions_alone(
    run_daemon: Daemons, redis: Redis
) -> None:
    one, two = start_pool(run_daemon, redis, 2), start_pool(run_daemon, redis, 1)
    assert sorted(khans(redis)) == ["1", "2"]

    two.send(signal.SIGTERM)

    assert two.wait() == 0
    assert khans(redis) == ["2"]
    assert sorted(minions(redis)) == sorted(one.children())
    assert not nothing_is_left(redis)
    end_pool(one, redis)
