"""--pool 2..16: a pool that grows and shrinks with its load; and --preload."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from redis import Redis

from pyres import ResQ
from tests.jobs import BEGUN, ECHOED, GATE, GateJob
from tests.servers import Daemons, until


def pool(redis: Redis) -> tuple[int, int]:
    """The registered minions, and the size in the manager's id."""
    (khan,) = redis.smembers("resque:khans")
    return redis.scard("resque:minions"), int(khan.rpartition(b":")[2])


def test_a_pool_grows_while_jobs_wait_and_shrinks_when_it_is_idle(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    options = ["--pool", "1..4", "--scale-wait", "0.2", "--scale-calm", "0.5", "--interval", "0.2"]
    daemon = run_daemon("pyres_manager", *options, "--queues", "basic")
    until(lambda: redis.exists("resque:khans") and pool(redis) == (1, 1))

    resq.enqueue_many([(GateJob, "g")] * 6)

    until(lambda: pool(redis) == (4, 4) and redis.llen(BEGUN) == 4, timeout=60)
    redis.rpush(GATE.format("g"), *[1] * 6)
    until(lambda: redis.llen(ECHOED) == 6)
    until(lambda: pool(redis) == (1, 1), timeout=60)
    output = daemon.output()
    assert "From 1 to 2 minions: 5 jobs wait" in output
    assert "to 1 minions: 0 jobs wait" in output
    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0
    assert redis.get("resque:stat:processed") == b"6"
    assert not redis.exists("resque:failed", "resque:khans", "resque:minions", "resque:workers")


@pytest.mark.parametrize("wrong", ["0..4", "4..2", "2..", "..3", "a..b", "2.5"])
def test_an_invalid_range_is_a_one_line_error_and_exit_code_2(
    wrong: str, run_daemon: Daemons
) -> None:
    daemon = run_daemon("pyres_manager", "basic", "--pool", wrong)

    assert daemon.wait() == 2
    (line,) = daemon.output().strip().splitlines()
    assert f"invalid value {wrong!r}: expected a" in line


# What is imported before the fork

MODULE = """
import os
from tests.jobs import TestJob

IMPORTED_BY = os.getpid()

class WhereJob(TestJob):
    @classmethod
    def perform(cls):
        cls.echo(os.getpid(), IMPORTED_BY, VERSION)

VERSION = 1
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A module of jobs that records which process has imported it."""
    path = tmp_path / "where_jobs.py"
    path.write_text(MODULE)
    return path


def echoed(redis: Redis) -> list[int]:
    """What the one job has recorded."""
    (echo,) = until(lambda: redis.lrange(ECHOED, 0, -1))
    return [int(number) for number in echo.strip(b"[]").split(b",")]


def test_preload_imports_once_in_khan(
    run_daemon: Daemons, resq: ResQ, redis: Redis, module: Path
) -> None:
    options = ["--path", str(module.parent), "--require", "where_jobs", "--preload"]
    daemon = run_daemon("pyres_manager", "--queues", "basic", *options)

    resq.enqueue_to("basic", "where_jobs.WhereJob")

    minion, imported_by, _ = echoed(redis)
    assert imported_by == daemon.pid != minion


def test_without_preload_each_minion_imports_and_a_rolling_restart_loads_new_code(
    run_daemon: Daemons, resq: ResQ, redis: Redis, module: Path
) -> None:
    options = ["--path", str(module.parent), "--require", "where_jobs"]
    daemon = run_daemon("pyres_manager", "--queues", "basic", *options)
    (old,) = until(lambda: redis.smembers("resque:minions"))
    module.write_text(MODULE.replace("VERSION = 1", "VERSION = 20"))

    daemon.send(signal.SIGHUP)
    until(lambda: redis.scard("resque:minions") == 1 and not redis.sismember("resque:minions", old))
    resq.enqueue_to("basic", "where_jobs.WhereJob")

    minion, imported_by, version = echoed(redis)
    assert imported_by == minion != daemon.pid
    assert version == 20


@pytest.mark.parametrize("preload", [[], ["--preload"]])
def test_a_module_that_cannot_be_imported_is_a_one_line_error(
    preload: list[str], run_daemon: Daemons, module: Path
) -> None:
    module.write_text("import no_such_module_anywhere")
    options = ["--path", str(module.parent), "--require", "where_jobs", *preload]

    daemon = run_daemon("pyres_manager", "--queues", "basic", *options)

    assert daemon.wait() == 2
    (line,) = daemon.output().strip().splitlines()
    assert "--require 'where_jobs' cannot be imported: ModuleNotFoundError" in line


def test_a_module_that_crashes_its_process_is_named(run_daemon: Daemons, module: Path) -> None:
    module.write_text("import os; os.abort()")
    options = ["--path", str(module.parent), "--require", "where_jobs"]

    daemon = run_daemon("pyres_manager", "--queues", "basic", *options)

    assert daemon.wait() == 2
    assert "where_jobs: the process that imports it was killed by SIGABRT" in daemon.output()


def test_preload_without_a_module_reports_what_is_missing(run_daemon: Daemons) -> None:
    daemon = run_daemon("pyres_manager", "--queues", "basic", "--preload")

    assert daemon.wait() == 2
    assert "--preload requires --require" in daemon.output()
