"""The log lines of a daemon about itself and about each job."""

from __future__ import annotations

import json
import re
import signal

import pytest
from redis import Redis

from pyres import ResQ
from tests.daemons.odd_jobs import HugeErrorJob
from tests.daemons.pools import end_pool, start_pool
from tests.daemons.watching import burst, until_counted
from tests.jobs import EchoJob, ExitJob, FailJob
from tests.servers import Daemon, Daemons, free_port, until

LONG = "x" * 3000


def ends(daemon: Daemon) -> list[tuple[str, str]]:
    """The classes and outcomes in the log lines for ended jobs."""
    found = re.findall(r"\| (\S+) \| .* (\w+) after \d+\.\d{3} s\n", daemon.output())
    return [(name.rpartition(".")[2], outcome) for name, outcome in found]


@pytest.mark.parametrize(
    ("options", "way"),
    [
        ((), "waits until the server reports a push"),
        (("--blocking-pop",), "waits by BLPOP"),
        (("--nonblocking-pop",), "waits by pauses"),
    ],
)
def test_a_worker_logs_at_its_start_what_it_is_without_the_password(
    options: tuple[str, ...], way: str, run_daemon: Daemons, dsn: str, redis: Redis
) -> None:
    options = ("--queues", "low,basic", "--burst", "--dsn", f"redis://:secret@{dsn}", *options)
    redis.config_set("requirepass", "secret")
    try:
        daemon = run_daemon("pyres_worker", *options)
        daemon.wait()
    finally:
        redis.config_set("requirepass", "")

    address = dsn.removesuffix("/0")
    (line,) = re.findall(r".*Started .*\n", daemon.output())
    for word in (
        f":{daemon.pid}:low,basic ",
        "pyres 2",
        "from low,basic on ",
        f"on {address}",
        way,
    ):
        assert word in line
    assert "secret" not in daemon.output()


def test_a_pool_and_its_minions_log_at_their_start_what_they_are(
    run_daemon: Daemons, redis: Redis
) -> None:
    daemon = start_pool(run_daemon, redis, 1)
    end_pool(daemon, redis)

    manager, minion = re.findall(r"Started .* with pyres 2.*\n", daemon.output())
    assert f":{daemon.pid}:1 " in manager
    assert "1 minions fetch jobs from basic on " in manager
    assert "reports a push" in manager
    assert "fetches jobs from basic on " in minion


@pytest.mark.parametrize("name", ["pyres_scheduler", "pyres_web"])
def test_the_other_daemons_log_at_their_start_what_they_are(
    name: str, run_daemon: Daemons, dsn: str
) -> None:
    options = ["--port", str(free_port())] if name == "pyres_web" else []
    daemon = run_daemon(name, *options, "--dsn", f"redis://{dsn}")

    line = until(lambda: re.search(r"Started .*with pyres 2.*\n", daemon.output()))[0]
    daemon.send(signal.SIGTERM)
    daemon.wait()

    assert dsn.removesuffix("/0") in line


def enqueue_each_kind(resq: ResQ) -> None:
    resq.enqueue(EchoJob, 1)
    resq.enqueue(FailJob, 2)
    resq.enqueue(ExitJob, 0)


OUTCOMES = [("EchoJob", "done"), ("FailJob", "failed"), ("ExitJob", "failed")]


def test_a_worker_logs_the_end_of_each_job_once(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    enqueue_each_kind(resq)

    daemon = burst(run_daemon)

    assert ends(daemon) == OUTCOMES


def test_a_minion_logs_the_end_of_each_job_once(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start_pool(run_daemon, redis, 1)
    enqueue_each_kind(resq)
    until_counted(redis, 3, 2)
    end_pool(daemon, redis)

    assert ends(daemon) == OUTCOMES[:2]
    assert "ExitJob" in daemon.output()


def test_a_line_of_json_has_the_fields_of_the_jobs_end(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    resq.enqueue(FailJob, 2)

    daemon = burst(run_daemon, "--json-logs")

    lines = [json.loads(line) for line in daemon.output().splitlines()]
    (job,) = [line["job"] for line in lines if "job" in line]
    assert isinstance(job.pop("seconds"), float)
    assert job == {"class": "tests.jobs.FailJob", "queue": "basic", "outcome": "failed"}


@pytest.mark.parametrize("enabled", [True, False])
def test_long_arguments_are_in_the_log_only_if_enabled(
    enabled: bool, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    resq.enqueue(EchoJob, LONG)

    daemon = burst(run_daemon, *(["--log-arguments"] if enabled else []))

    assert (f"['{LONG}']" in daemon.output()) == enabled


def test_long_arguments_are_in_the_log_of_a_pool_only_if_enabled(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start_pool(run_daemon, redis, 1, "--log-arguments")
    resq.enqueue(EchoJob, LONG)
    until_counted(redis, 1, 0)
    end_pool(daemon, redis)

    assert f"EchoJob | ['{LONG}']) done" in daemon.output()


@pytest.mark.parametrize("form", [(), ("--json-logs",)])
def test_an_error_of_megabytes_is_a_short_traceback_in_the_log(
    form: tuple[str, ...], run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    resq.enqueue(HugeErrorJob, 3_000_000)

    daemon = burst(run_daemon, *form)

    assert "bytes left out" in daemon.output()
    assert len(daemon.output()) < 100_000
