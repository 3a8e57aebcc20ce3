"""macOS and Windows, as far as Linux can imitate them: calls that they lack are removed at a start.

`tests/systems/<name>/sitecustomize.py` does that. None of this was run on a Mac or on Windows.
"""

from __future__ import annotations

import os
import signal
from datetime import datetime, timedelta

import pytest
from redis import Redis

from pyres import ResQ
from tests.daemons.pools import end_pool, minions, nothing_is_left
from tests.daemons.watching import echoed
from tests.jobs import BEGUN, EchoJob, SleepJob
from tests.servers import ROOT, Daemon, Daemons, alive, free_port, until
from tests.web.visitor import Visitor


def like(system: str) -> dict[str, str]:
    """The environment of a program that is to run as on this system."""
    folder = ROOT / "tests/systems" / system
    return {
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }


def program(run_daemon: Daemons, system: str, source: str) -> Daemon:
    """A program that has run to its end on this system."""
    daemon = run_daemon("-c", source, env=like(system))
    daemon.wait()
    return daemon


# macOS: all daemons


@pytest.mark.parametrize("mode", [[], ["--nonblocking-pop"], ["--blocking-pop"]], ids=str)
def test_a_worker_performs_a_backlog_without_pipe2_pidfd_and_proc(
    run_daemon: Daemons, resq: ResQ, redis: Redis, mode: list[str]
) -> None:
    for number in range(20):
        resq.enqueue(EchoJob, number)

    daemon = run_daemon("pyres_worker", "--burst", "--queues", "basic", *mode, env=like("macos"))

    assert daemon.wait() == 0, daemon.output()
    assert echoed(redis) == [[number] for number in range(20)]


def test_a_worker_without_pidfd_acts_on_signals_while_a_job_runs(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    resq.enqueue(SleepJob, 60)
    daemon = run_daemon("pyres_worker", "--queues", "basic", env=like("macos"))
    until(lambda: redis.llen(BEGUN) == 1)

    daemon.send(signal.SIGUSR1)
    until(lambda: redis.llen("resque:failed") == 1)
    daemon.send(signal.SIGTERM)

    assert daemon.wait() == 0, daemon.output()
    assert nothing_is_left(redis)


WORKER_PIDS = "from pyres.worker import Worker; print(Worker.worker_pids())"


def test_workers_detect_dead_workers_by_ps_where_there_is_no_proc(
    run_daemon: Daemons, redis: Redis
) -> None:
    first = run_daemon("pyres_worker", "--queues", "basic", env=like("macos"))
    until(lambda: redis.scard("resque:workers") == 1)
    (living,) = redis.smembers("resque:workers")
    host = living.split(b":")[0]
    redis.sadd("resque:workers", host + b":999999:basic")

    run_daemon("pyres_worker", "--queues", "basic", "--burst", env=like("macos")).wait()

    assert redis.smembers("resque:workers") == {living}
    assert first.returncode is None
    found = program(
        run_daemon, "macos", "from pyres.worker import Worker as W; print(W.worker_pids())"
    )
    assert f"'{first.pid}'" in found.output()


@pytest.mark.parametrize("options", [[], ["--greenlets", "3"], ["--blocking-pop"]], ids=str)
def test_a_pool_replaces_a_killed_minion_and_ends_well_without_pipe2_pidfd_and_proc(
    run_daemon: Daemons, resq: ResQ, redis: Redis, options: list[str]
) -> None:
    command = ["pyres_manager", "--pool", "2", "--queues", "basic", *options]
    daemon = run_daemon(*command, env=like("macos"))
    count = 2 * int(options[1]) if "--greenlets" in options else 2
    until(lambda: len(minions(redis)) == count)

    before = set(minions(redis))
    os.kill(min(before), signal.SIGKILL)
    until(lambda: len(minions(redis)) == count and set(minions(redis)) != before)
    for number in range(20):
        resq.enqueue(EchoJob, number)

    until(lambda: len(echoed(redis)) == 20)
    end_pool(daemon, redis)


def test_minions_end_with_a_killed_manager_without_a_parent_death_signal(
    run_daemon: Daemons, redis: Redis
) -> None:
    daemon = run_daemon("pyres_manager", "--pool", "2", "--queues", "basic", env=like("macos"))
    until(lambda: len(minions(redis)) == 2)
    family = minions(redis)

    daemon.send(signal.SIGKILL)

    until(lambda: not any(alive(pid) for pid in family))


def test_max_memory_counts_the_peak_where_there_is_no_proc(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    command = ["pyres_manager", "--max-memory", "1", "--queues", "basic"]
    daemon = run_daemon(*command, env=like("macos"))
    resq.enqueue(EchoJob, 1)

    daemon.until_output("MB, more than its limit")

    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0


def test_a_pidfile_of_a_living_process_is_respected_without_proc(
    run_daemon: Daemons, redis: Redis, tmp_path
) -> None:
    command = ["pyres_worker", "--queues", "basic", "-p", str(tmp_path / "pid")]
    first = run_daemon(*command, env=like("macos"))
    until(lambda: (tmp_path / "pid").exists() and redis.scard("resque:workers") == 1)

    second = run_daemon(*command, env=like("macos"))

    assert second.wait() == 2
    assert f"belongs to process {first.pid}" in second.output()


# The scheduler and the page: everywhere


@pytest.mark.parametrize("system", ["macos", "windows"])
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_scheduler_promotes_due_jobs_and_ends_after_a_signal(
    run_daemon: Daemons, resq: ResQ, redis: Redis, system: str, signum: int
) -> None:
    resq.enqueue_at(datetime.now() - timedelta(seconds=5), EchoJob, 1)
    daemon = run_daemon("pyres_scheduler", env=like(system))
    until(lambda: resq.size("basic") == 1)
    resq.enqueue_at(datetime.now() - timedelta(seconds=5), EchoJob, 2)
    until(lambda: resq.size("basic") == 2)

    daemon.send(signum)

    assert daemon.wait() == 0, daemon.output()


@pytest.mark.parametrize("system", ["macos", "windows"])
def test_the_page_is_served(run_daemon: Daemons, dsn: str, system: str) -> None:
    port = free_port()
    daemon = run_daemon("pyres_web", "--port", str(port), "--dsn", dsn, env=like(system))
    daemon.until_output("Listening")
    visitor = Visitor(f"http://127.0.0.1:{port}")

    def overview() -> str:
        try:
            return visitor.get("/overview")
        except OSError:
            return ""

    assert "Overview" in until(overview)
    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0, daemon.output()


def test_a_scheduler_takes_over_a_stale_pidfile_where_files_cannot_be_locked(
    run_daemon: Daemons, redis: Redis, tmp_path
) -> None:
    pidfile = tmp_path / "pid"
    pidfile.write_text("999999\n")

    daemon = run_daemon("pyres_scheduler", "-p", str(pidfile), env=like("windows"))

    daemon.until_output("is the master now")
    assert pidfile.read_text() == f"{daemon.pid}\n"
    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0
    assert not pidfile.exists()


# What remains on Windows, without fork


ENQUEUE = """
import os
from pyres import ResQ
from pyres.inspector import Inspector
from pyres.worker import Worker

resq = ResQ(os.environ["REDIS_URL"])
resq.enqueue_from_string("tests.jobs.EchoJob", "basic", 1)
print(resq.size("basic"), resq.peek("basic")[0]["args"], Worker.all(resq), resq.info()["pending"])
"""


def test_enqueueing_and_reading_work_without_fork_fcntl_and_most_signals(
    run_daemon: Daemons, resq: ResQ
) -> None:
    daemon = program(run_daemon, "windows", ENQUEUE)

    assert daemon.output() == "1 [1] [] 1\n"


PROCESS = """
import os
from pyres import ResQ, job
from pyres.worker import Worker

@job(queue="basic", name="Double", timeout=5)
def double(number):
    return 2 * number

resq = ResQ(os.environ["REDIS_URL"])
resq.push("basic", {"class": "Double", "args": [21]})
print(Worker("basic", resq).process())
"""


def test_a_job_runs_in_the_calling_process_where_fork_is_missing(
    run_daemon: Daemons, resq: ResQ
) -> None:
    daemon = program(run_daemon, "windows", PROCESS)

    assert daemon.output() == "42\n"


@pytest.mark.parametrize("command", ["pyres_worker", "pyres_manager"])
def test_a_daemon_reports_in_one_line_that_it_needs_fork(run_daemon: Daemons, command: str) -> None:
    daemon = run_daemon(
        command, "--queues", "basic", "--require", "tests.jobs", env=like("windows")
    )

    assert daemon.wait() == 2
    assert daemon.output() == (
        f"{command}: error: {command} needs a system with os.fork (Linux, macOS, WSL); "
        "enqueueing, pyres_scheduler and pyres_web work here\n"
    )


@pytest.mark.parametrize(
    "call",
    [
        "pyres.worker.Worker('basic').work()",
        "pyres.worker.Worker('basic').startup()",
        "pyres.horde.Khan.run(queues=['basic'])",
        "pyres.process.children.Children(pyres.process.signals.Signals({})).fork(int)",
    ],
)
def test_a_daemon_made_by_its_constructor_names_the_missing_fork_too(
    run_daemon: Daemons, call: str
) -> None:
    imports = "import pyres.worker, pyres.horde, pyres.process.children, pyres.process.signals"
    error = "pyres.exceptions.NeedsForkError"

    daemon = program(
        run_daemon, "windows", f"{imports}\ntry: {call}\nexcept {error} as error: print(error)"
    )

    assert "needs a system with os.fork (Linux, macOS, WSL)" in daemon.output()
    assert len(daemon.output().splitlines()) == 1
