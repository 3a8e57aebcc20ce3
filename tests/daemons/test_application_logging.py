"""Logging set up by the application in a daemon takes effect; without one, pyres' is used."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from redis import Redis

from pyres import ResQ
from tests.servers import Daemon, Daemons, until

#: How pyres 1.5's users set up their logging: in the module of their jobs.
BASIC_CONFIG = """
import logging
logging.basicConfig(filename="app.log", level="INFO", format="%(name)s: %(message)s")
"""

DICT_CONFIG = """
import logging.config
logging.config.dictConfig({
    "version": 1,
    "formatters": {"named": {"format": "%(name)s: %(message)s"}},
    "handlers": {
        "file": {"class": "logging.FileHandler", "filename": "app.log", "formatter": "named"}
    },
    "root": {"handlers": ["file"], "level": "INFO"},
})
"""

JOBS = """
import logging
from pyres import job

@job(queue="q", name="Tell")
def tell(text):
    logging.getLogger("app").info("logged %s", text)
    logging.getLogger("app").debug("too small")

@job(queue="q", name="Break")
def broken():
    raise ValueError("broken on purpose")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the daemon runs, with `jobs_with_log.py`, to which a test adds."""
    (tmp_path / "jobs_with_log.py").write_text(JOBS)
    return tmp_path


def set_up_by(folder: Path, source: str) -> None:
    (folder / "jobs_with_log.py").write_text(source + JOBS)


def enqueue(resq: ResQ) -> None:
    """One job that logs and one that fails."""
    resq.push("q", {"class": "jobs_with_log.tell", "args": ["it"]})
    resq.push("q", {"class": "jobs_with_log.broken", "args": []})


def worker(run_daemon: Daemons, folder: Path, *options: str) -> Daemon:
    """A worker that has done all jobs."""
    command = ["pyres_worker", "--queues", "q", "--burst", *options]
    daemon = run_daemon(*command, cwd=folder)
    assert daemon.wait() == 0, daemon.output()
    return daemon


WHEN = pytest.mark.parametrize(
    "require", [[], ["--require", "jobs_with_log"]], ids=["imported by the job", "by --require"]
)


@WHEN
@pytest.mark.parametrize("source", [BASIC_CONFIG, DICT_CONFIG], ids=["basicConfig", "dictConfig"])
def test_logging_set_up_in_a_job_module_takes_effect_beside_that_of_pyres(
    run_daemon: Daemons, resq: ResQ, folder: Path, source: str, require: list[str]
) -> None:
    set_up_by(folder, source)
    enqueue(resq)

    shown = worker(run_daemon, folder, *require).output()

    application = (folder / "app.log").read_text()
    assert "app: logged it\n" in application
    assert "broken on purpose" in application
    assert "logged it" not in shown
    assert shown.count("ValueError: broken on purpose") == 1


@WHEN
def test_an_application_that_sets_nothing_up_logs_to_the_log_of_the_worker(
    run_daemon: Daemons, resq: ResQ, folder: Path, require: list[str]
) -> None:
    enqueue(resq)

    worker(run_daemon, folder, "-f", "worker.log", "--json-logs", *require)

    lines = [json.loads(line) for line in (folder / "worker.log").read_text().splitlines()]
    assert [line["level"] for line in lines if line["message"] == "logged it"] == ["INFO"]
    assert not any(line["message"] == "too small" for line in lines)


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["each minion", "the manager"])
def test_minions_keep_their_own_files_beside_the_application_s(
    run_daemon: Daemons, resq: ResQ, redis: Redis, folder: Path, preload: list[str]
) -> None:
    set_up_by(folder, BASIC_CONFIG)
    enqueue(resq)
    options = ["--queues", "q", "-f", "khan.log", "--require", "jobs_with_log", *preload]

    daemon = run_daemon("pyres_manager", *options, cwd=folder)
    until(lambda: redis.get("resque:stat:processed") == b"2")
    daemon.send(signal.SIGTERM)

    assert daemon.wait() == 0, daemon.output()
    (log,) = folder.glob("minion-*.log")
    assert log.read_text().count("ValueError: broken on purpose") == 1
    assert "logged it" not in log.read_text()
    assert "app: logged it\n" in (folder / "app.log").read_text()


def test_minions_write_what_the_application_logs_where_it_sets_nothing_up(
    run_daemon: Daemons, resq: ResQ, redis: Redis, folder: Path
) -> None:
    enqueue(resq)

    daemon = run_daemon("pyres_manager", "--queues", "q", "-f", "khan.log", cwd=folder)
    until(lambda: redis.get("resque:stat:processed") == b"2")
    daemon.send(signal.SIGTERM)

    assert daemon.wait() == 0, daemon.output()
    (log,) = folder.glob("minion-*.log")
    assert log.read_text().count("INFO     logged it") == 1
