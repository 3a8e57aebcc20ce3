"""A Khan as an object: how it handles reports and its own change of name."""

from __future__ import annotations

import os
import signal
import time
from collections import OrderedDict

import pytest
from redis import Redis

from pyres import ResQ
from pyres.exceptions import CrashError
from pyres.horde import Khan, Minion
from pyres.process.children import Exit
from pyres.process.messages import BUSY, DONE, IDLE, PROCESS_ENDS


def khan_with_a_minion(resq: ResQ) -> Khan:
    """A Khan that has this very process as its minion."""
    khan = Khan("1..9", ["basic"], resq)
    khan.setup_resq()
    khan._workers = OrderedDict({os.getpid(): Minion(["basic"], resq)})
    return khan


def test_only_a_number_of_seconds_is_a_deadline(resq: ResQ) -> None:
    """A minion that reported once more that it waits, and was not woken up, was killed for it."""
    khan = khan_with_a_minion(resq)

    for state in (IDLE, BUSY, IDLE):
        khan.reports.send(state)
    khan._receive_reports()
    assert khan._deadlines == {}

    khan.reports.send(5.0)
    khan.reports.send(IDLE, 1)
    khan._receive_reports()
    assert list(khan._deadlines) == [(os.getpid(), 0)]

    khan.reports.send(DONE)
    khan._receive_reports()
    assert khan._deadlines == {}


def test_a_pool_that_changes_often_keeps_few_ids_and_reads_the_commands_of_each(
    resq: ResQ, redis: Redis
) -> None:
    khan = khan_with_a_minion(resq)
    first = str(khan)

    for size in [2, 3, 4, 3, 2] * 50:
        khan._resize(size)

    assert len(khan._former_ids) == len(set(khan._former_ids)) == 3
    assert redis.smembers("resque:khans") == {str(khan).encode()}
    redis.rpush(f"resque:khan:{first}", "SHUTDOWN")
    khan._check_commands()
    assert khan._shutdown


def test_fewer_and_then_more_of_an_empty_pool_is_one_minion(
    resq: ResQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two signals at once cancelled each other, though the first had no effect."""
    khan = Khan(0, ["basic"], resq)
    khan.setup_resq()
    monkeypatch.setattr(khan, "_add_minion", lambda: None)

    khan.kill_child(signal.SIGUSR1, None)
    khan.add_child(signal.SIGUSR2, None)
    khan._change_pool()

    assert khan.pool_size == 1


def test_the_jobs_of_minions_that_have_ended_still_count_for_the_rate(
    resq: ResQ, redis: Redis
) -> None:
    """With --max-jobs each replacement restarted the counter, and the pool grew for jobs that did
    not wait.
    """
    khan = khan_with_a_minion(resq)
    (minion,) = khan._workers.values()
    redis.set(f"resque:stat:processed:{minion}", 7)
    assert khan._finished() == 7

    khan.reports.send(5, PROCESS_ENDS)
    khan._receive_reports()

    assert khan._finished() == 12
    assert khan._deadlines == {}


@pytest.mark.parametrize("reported", [True, False])
def test_a_minion_that_reported_its_end_as_it_left_has_ended_cleanly(
    reported: bool, resq: ResQ, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    khan = khan_with_a_minion(resq)
    khan.children.reap = lambda: [Exit(os.getpid(), 0)]  # type: ignore[method-assign]
    if reported:
        khan.reports.send(0, PROCESS_ENDS)

    with caplog.at_level("INFO", "pyres"):
        khan._reap()

    words = f"Minion {os.getpid()} ended cleanly"
    assert (words in caplog.text) == reported
    assert ("before the job ended" in caplog.text) != reported
    khan._reports.close()


@pytest.mark.parametrize("state", ["not reaped", "reaped", "its outcome is being recorded"])
def test_a_manager_that_prunes_leaves_its_own_dead_minions_to_itself(
    state: str, resq: ResQ, redis: Redis
) -> None:
    """Else their jobs fail as those of strangers: no retry, no hooks, not how the minion ended."""
    khan = khan_with_a_minion(resq)
    pid = khan.children.fork(lambda: 3)
    minion = Minion(["basic"], resq)
    minion.pid = pid
    minion.children = khan.children
    redis.sadd("resque:workers", str(minion))
    record = b'{"queue":"basic","run_at":"x","payload":{"class":"tests.jobs.NoopJob","args":[]}}'
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    if state == "not reaped":
        khan._workers[pid] = minion
    else:
        khan.children.reap()
    if state == "reaped":
        khan._dead.append((str(minion), CrashError("status 3")))
    if state == "its outcome is being recorded":
        khan._crash_handlers[0] = (str(minion), CrashError("status 3"), time.monotonic() + 60)
    redis.set(f"resque:worker:{minion}", record)

    khan._beat()

    assert redis.get(f"resque:worker:{minion}") == record
    assert redis.llen("resque:failed") == 0
    khan._crash_handlers.clear()
    khan.children.reap()


def test_a_command_for_a_dead_manager_of_the_same_id_is_not_executed(
    resq: ResQ, redis: Redis
) -> None:
    khan = khan_with_a_minion(resq)
    resq.store.workers.register_khan(str(khan))
    redis.rpush(f"resque:khan:{khan}", "SHUTDOWN")

    khan._announce()
    khan._check_commands()

    assert not khan._shutdown
    redis.rpush(f"resque:khan:{khan}", "SHUTDOWN")
    khan._announce()
    khan._check_commands()
    assert khan._shutdown
    khan._close()
