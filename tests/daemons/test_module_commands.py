"""`python -m pyres...`: pyres 1.5's `-m pyres.worker` and `-m pyres.horde`, and the list."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from redis import Redis

from pyres import ResQ
from pyres.version import __version__
from tests.daemons.pools import end_pool, minions
from tests.daemons.watching import echoed
from tests.jobs import EchoJob
from tests.servers import ROOT, Daemons, Server, until

WITHOUT_URL = {"REDIS_URL": None}


def queues_of_workers(redis: Redis) -> set[bytes]:
    """The queues in the registered ids."""
    return {worker.rpartition(b":")[2] for worker in redis.smembers("resque:workers")}


@pytest.mark.parametrize(
    "program", [["pyres.worker"], ["pyres", "worker"], ["pyres", "pyres_worker"]], ids=str
)
def test_the_module_is_the_command_pyres_worker(
    run_daemon: Daemons, resq: ResQ, redis: Redis, program: list[str]
) -> None:
    resq.enqueue(EchoJob, 1)

    daemon = run_daemon("-m", *program, "--queues", "basic", "--burst")

    assert daemon.wait() == 0, daemon.output()
    assert echoed(redis) == [[1]]
    assert "RuntimeWarning" not in daemon.output()


def test_pyres_worker_as_a_module_accepts_the_options_of_1_5(
    run_daemon: Daemons, server: Server, resq: ResQ, redis: Redis
) -> None:
    """1.5: `python -m pyres.worker -q Spam,Eggs -s host:port`."""
    address = f"127.0.0.1:{server.port}"
    command = ["-m", "pyres.worker", "-q", "basic,other", "-s", address]
    daemon = run_daemon(*command, env=WITHOUT_URL)
    resq.enqueue(EchoJob, 1)
    until(lambda: echoed(redis) == [[1]])

    assert queues_of_workers(redis) == {b"basic,other"}
    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0


def test_pyres_horde_as_a_module_runs_two_minions_on_the_queues_that_are_arguments(
    run_daemon: Daemons, server: Server, resq: ResQ, redis: Redis
) -> None:
    """1.5: `python -m pyres.horde -s host:port Spam Eggs`."""
    address = f"127.0.0.1:{server.port}"
    command = ["-m", "pyres.horde", "-s", address, "basic", "other"]
    daemon = run_daemon(*command, env=WITHOUT_URL)
    until(lambda: len(minions(redis)) == 2)
    resq.enqueue(EchoJob, 1)
    until(lambda: echoed(redis) == [[1]])

    assert queues_of_workers(redis) == {b"basic,other"}
    end_pool(daemon, redis)


@pytest.mark.parametrize("program", [["pyres.horde"], ["pyres", "manager"]], ids=str)
def test_a_module_is_started_again_under_gevent_as_it_was_started(
    run_daemon: Daemons, redis: Redis, program: list[str]
) -> None:
    options = ["--pool", "1", "--greenlets", "3", "--queues", "basic"]

    daemon = run_daemon("-m", *program, *options)

    until(lambda: len(minions(redis)) == 3)
    end_pool(daemon, redis)


@pytest.mark.parametrize("program", [["pyres.scheduler"], ["pyres", "scheduler"]], ids=str)
def test_the_scheduler_is_a_module_too(
    run_daemon: Daemons, redis: Redis, program: list[str]
) -> None:
    daemon = run_daemon("-m", *program)
    daemon.until_output("is the master now")

    daemon.send(signal.SIGTERM)

    assert daemon.wait() == 0


ONE_WORKER_CLASS = """
import sys
from pyres import job

@job(queue="basic", name="Which")
def which():
    worker = sys.modules["pyres.worker"].Worker
    print(f"performed by the worker of {worker.__module__}:", worker.before_fork.called)

from pyres.worker import Worker
def called(self, job): called.called = True
called.called = False
Worker.before_fork = called
"""


def test_what_changes_the_worker_class_changes_that_of_the_module_that_runs(
    run_daemon: Daemons, resq: ResQ, tmp_path: Path
) -> None:
    (tmp_path / "changes.py").write_text(ONE_WORKER_CLASS)
    resq.push("basic", {"class": "Which", "args": []})
    options = ["-q", "basic", "--burst", "--path", str(tmp_path), "--require", "changes"]

    daemon = run_daemon("-m", "pyres.worker", *options)

    assert daemon.wait() == 0
    assert "performed by the worker of pyres.worker: True" in daemon.output()


@pytest.mark.parametrize("arguments", [[], ["--help"]], ids=str)
def test_the_package_lists_each_command_in_a_line(
    run_daemon: Daemons, arguments: list[str]
) -> None:
    daemon = run_daemon("-m", "pyres", *arguments)

    assert daemon.wait() == 0
    for script in (ROOT / "scripts").iterdir():
        assert [line for line in daemon.output().splitlines() if f"  {script.name} " in line]


def test_an_unknown_command_is_a_one_line_error(run_daemon: Daemons) -> None:
    daemon = run_daemon("-m", "pyres", "wroker")

    assert daemon.wait() == 2
    assert daemon.output() == (
        "pyres: error: invalid command 'wroker': expected one of worker, manager, scheduler, web\n"
    )


@pytest.mark.parametrize("arguments", [["--version"], ["web", "--version"]], ids=str)
def test_the_version_option_works_as_for_any_command(
    run_daemon: Daemons, arguments: list[str]
) -> None:
    daemon = run_daemon("-m", "pyres", *arguments)

    assert daemon.wait() == 0
    assert daemon.output() == f"pyres {__version__}\n"
