"""kill -9 of a worker, its job's process, or both: after the next start no job is lost."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis

from pyres import ResQ
from tests.daemons.odd_jobs import FileGateJob, LineJob, open_file_gate
from tests.daemons.watching import (
    begun,
    burst,
    child_titled,
    counted,
    echoed,
    lines,
    living,
    records,
    registered,
    start,
)
from tests.jobs import GATE, EchoJob, GateJob, NoopJob
from tests.servers import Daemon, Daemons, until


def kill(pids: Sequence[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # it ended by itself in the meantime
            os.kill(pid, signal.SIGKILL)


def kill_worker(daemon: Daemon) -> None:
    """kill -9 of the worker alone, whose job goes on."""
    daemon.send(signal.SIGKILL)
    daemon.wait()


def nobody_is_registered(redis: Redis) -> bool:
    return not redis.exists("resque:workers", "resque:workers:heartbeat") and not redis.keys(
        "resque:worker:*"
    )


@pytest.mark.parametrize("victims", ["worker", "both"])
def test_the_job_of_a_killed_worker_is_a_failure_when_the_next_one_starts(
    victims: str, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """Its in-flight record must neither be lost nor stay for ever."""
    daemon = start(run_daemon, redis)
    mine = registered(redis, daemon)
    resq.enqueue(GateJob, "g")
    job = begun(redis)
    held = redis.get(b"resque:worker:" + mine)

    kill_worker(daemon)
    if victims == "both":
        kill([job])
    redis.rpush(GATE.format("g"), 1)
    until(lambda: not living([job]), what="the end of the job")
    assert redis.get(b"resque:worker:" + mine) == held
    burst(run_daemon)

    (record,) = records(resq)
    assert record["exception"] == "DirtyExitError"
    assert (record["payload"]["class"], record["payload"]["args"]) == ("tests.jobs.GateJob", ["g"])
    assert (record["worker"], record["queue"]) == (mine.decode(), "basic")
    assert counted(redis) == (1, 1)
    assert nobody_is_registered(redis)
    assert echoed(redis) == ([["g"]] if victims == "worker" else [])


def test_a_job_that_fails_after_its_worker_was_killed_is_one_failure(
    run_daemon: Daemons, resq: ResQ, redis: Redis, tmp_path: Path
) -> None:
    """The queue and worker of its own, not those of the worker that prunes the dead one."""
    daemon = start(run_daemon, redis)
    resq.enqueue(FileGateJob, str(tmp_path / "gate"))
    job = begun(redis)

    kill_worker(daemon)
    open_file_gate(tmp_path / "gate", "after all")
    until(lambda: not living([job]), what="the end of the job")
    burst(run_daemon)

    assert [record["error"] for record in records(resq)] == ["after all"]
    assert counted(redis)[1] == 1
    assert nobody_is_registered(redis)


def test_a_child_in_waiting_ends_with_its_killed_worker(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start(run_daemon, redis)
    resq.enqueue_many([(NoopJob,), (GateJob, "g"), (EchoJob, "next")])
    job, waiting = begun(redis), child_titled(daemon, "Ready")

    kill_worker(daemon)

    until(lambda: not living([waiting]), what="the end of the child in waiting")
    assert living([job]) == [job]
    assert resq.size("basic") == 1
    redis.rpush(GATE.format("g"), 1)
    until(lambda: daemon.family() == [])


def test_a_job_runs_though_the_child_that_waited_for_it_was_killed(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start(run_daemon, redis)
    resq.enqueue_many([(NoopJob,), (GateJob, "g"), (EchoJob, "next"), (EchoJob, "last")])
    begun(redis)

    waiting = child_titled(daemon, "Ready")
    kill([waiting])
    until(lambda: not living([waiting]))
    redis.rpush(GATE.format("g"), 1)

    until(lambda: counted(redis) == (4, 0))
    assert echoed(redis) == [["g"], ["next"], ["last"]]
    assert daemon.returncode is None


def test_two_that_find_the_same_dead_worker_record_its_job_once(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start(run_daemon, redis)
    resq.enqueue(GateJob, "g")
    job = begun(redis)
    kill_worker(daemon)
    kill([job])

    finders = [run_daemon("pyres_worker", "--queues", "basic", "--burst") for _ in range(4)]

    assert [finder.wait() for finder in finders] == [0] * 4
    assert len(records(resq)) == 1
    assert counted(redis) == (1, 1)
    assert nobody_is_registered(redis)


def murder(daemon: Daemon, way: str, redis: Redis) -> None:
    """kill -9 of the worker and of the processes that it has forked, in several orders."""
    if way == "group":
        daemon.send_group(signal.SIGKILL)
        return
    children = daemon.children()
    if way in ("children", "children first"):
        kill(children)
    if way == "children":
        # It goes on without them, until a signal stops it.
        until(lambda: registered(redis, daemon))
        daemon.send(signal.SIGQUIT)
        return
    kill_worker(daemon)
    if way == "worker first":
        kill(children)


@pytest.mark.chaos
def test_no_job_is_lost_or_counted_twice_whichever_process_is_killed_when(
    run_daemon: Daemons, resq: ResQ, redis: Redis, tmp_path: Path, chaos_rounds: int
) -> None:
    """Some are killed before they have registered."""
    done, rounds, dice = tmp_path / "lines", range(3 * chaos_rounds), random.Random(9)

    for number in rounds:
        resq.enqueue_many([(LineJob, str(done), 20 * number + each) for each in range(20)])
        pop = dice.choice(["--nonblocking-pop", "--interval=5"])
        daemon = run_daemon("pyres_worker", "--queues", "basic", pop)
        count = len(lines(done)) + dice.randrange(20)
        until(lambda count=count: len(lines(done)) >= count)
        way = dice.choice(["children", "worker", "children first", "worker first", "group"])
        murder(daemon, way, redis)
        daemon.wait()
        until(lambda daemon=daemon: daemon.family() == [], what="the end of what was left")
    burst(run_daemon)

    jobs = 20 * len(rounds)
    failed = [record["payload"]["args"][1] for record in records(resq)]
    assert set(lines(done)) | set(failed) == set(range(jobs))
    assert len(lines(done)) == len(set(lines(done))), "done twice"
    assert len(failed) == len(set(failed)), "recorded twice"
    assert counted(redis) == (jobs, len(failed))
    assert resq.size("basic") == 0
    assert nobody_is_registered(redis)
