"""A log that cannot be written ends no daemon and fails no job."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from pyres import ResQ
from tests.daemons.hosts import AS_NOBODY, STDERR, as_root, open_folder, with_stderr
from tests.daemons.pools import minions
from tests.daemons.watching import counted, registered
from tests.jobs import EchoJob, FailJob
from tests.servers import ROOT, Daemon, Daemons, until

COMMANDS = pytest.mark.parametrize("script", ["pyres_worker", "pyres_manager"])

#: What stderr gets once, and the file when it exists again.
GONE, BACK = "cannot be written", "lines were written to stderr"


class Logged:
    """A daemon that logs to `folder`, and what it has done."""

    def __init__(self, daemon: Daemon, folder: Path, redis: Redis, resq: ResQ) -> None:
        self.daemon = daemon
        self.folder = folder
        self.redis = redis
        self.resq = resq
        self.jobs = 0
        until(lambda: registered(redis, daemon) or minions(redis))

    def work(self) -> None:
        """Perform one job that succeeds and one that fails; both are logged."""
        self.jobs += 2
        self.resq.enqueue_many([(EchoJob, 1), (FailJob, "no")])
        until(lambda: counted(self.redis) == (self.jobs, self.jobs // 2))

    def text(self) -> str:
        """The text of all files in the folder."""
        return "".join(file.read_text() for file in self.folder.glob("*.log"))

    def end(self) -> None:
        self.daemon.send(signal.SIGTERM)
        assert self.daemon.wait() == 0, self.daemon.output()


@pytest.fixture
def start(run_daemon: Daemons, redis: Redis, resq: ResQ, tmp_path: Path) -> Callable[..., Logged]:
    """Starts such a daemon; `before`: arguments before those of the command."""

    def start(script: str, *before: str, folder: Path = tmp_path / "logs") -> Logged:
        folder.mkdir(exist_ok=True)
        pool = ["--pool", "1", "--concat_minions_logs"] if script == "pyres_manager" else []
        daemon = run_daemon(
            *(before or [script]),
            *(["--queues", "basic", "--interval", "0.1", "-f", folder / "khan.log", *pool]),
        )
        return Logged(daemon, folder, redis, resq)

    return start


@COMMANDS
def test_a_log_folder_that_is_removed_and_comes_back_fails_no_job(
    start: Callable[..., Logged], script: str
) -> None:
    logged = start(script)
    away = logged.folder.with_name("away")

    logged.folder.rename(away)
    logged.work()
    logged.daemon.until_output(GONE)
    logged.folder.mkdir()
    logged.work()

    until(lambda: BACK in logged.text())
    logged.end()


@COMMANDS
def test_a_full_log_disk_fails_no_job(
    start: Callable[..., Logged], script: str, tmp_path: Path
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    files = [folder / "khan.log", folder / "minion.log"]
    for file in files:
        file.symlink_to("/dev/full")
    logged = start(script)

    logged.work()
    logged.daemon.until_output(f"{GONE} (No space left on device)")
    for file in files:
        file.unlink()
    logged.work()

    until(lambda: BACK in logged.text())
    logged.end()


@as_root
@COMMANDS
def test_a_log_file_that_another_user_owns_after_rotation_fails_no_job(
    start: Callable[..., Logged], script: str
) -> None:
    with open_folder() as folder:
        logged = start(script, "-c", AS_NOBODY, script, folder=folder)
        for file in list(folder.glob("*.log")):
            file.rename(file.with_suffix(".1"))
            file.touch(mode=0o600)

        logged.work()
        logged.daemon.until_output(f"{GONE} (Permission denied)")
        for file in folder.glob("*.log"):
            file.chmod(0o666)
        logged.work()

        until(lambda: BACK in logged.text())
        logged.end()


@COMMANDS
@pytest.mark.parametrize("kind", STDERR)
def test_a_stderr_that_accepts_no_writes_fails_no_job(
    run_daemon: Daemons, redis: Redis, resq: ResQ, tmp_path: Path, script: str, kind: str
) -> None:
    pool = ["--pool", "1"] if script == "pyres_manager" else []
    command = [str(ROOT / "scripts" / script), "--queues", "basic", "--interval", "0.1", *pool]
    logged = Logged(run_daemon("-c", with_stderr(kind), *command), tmp_path, redis, resq)

    logged.work()
    logged.end()


def test_a_minion_that_cannot_open_its_log_starts_nevertheless(
    start: Callable[..., Logged], redis: Redis
) -> None:
    logged = start("pyres_manager")
    (minion,) = minions(redis)

    logged.folder.rename(logged.folder.with_name("away"))
    os.kill(minion, signal.SIGKILL)
    until(lambda: minions(redis) and minions(redis) != [minion])
    logged.work()

    logged.daemon.until_output(GONE)
    logged.end()
