"""Jobs that need no server, and jobs that misbehave in their process."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from tests.jobs import TestJob


class LineJob(TestJob):
    """Writes its number as a line to a file, which needs no server."""

    @staticmethod
    def perform(path: str, number: int) -> None:
        with open(path, "a") as file:
            file.write(f"{number}\n")


class AgainJob(TestJob):
    """Fails, and is retried once."""

    retry_limit = 1
    retry_delay = 0

    @staticmethod
    def perform() -> None:
        raise ValueError


class FileGateJob(TestJob):
    """Reports its start, waits for a file, and fails if the file is not empty."""

    @classmethod
    def perform(cls, path: str) -> None:
        cls.begin()
        while not os.path.exists(path):
            time.sleep(0.01)
        if text := Path(path).read_text():
            raise ValueError(text)


def open_file_gate(path: Path, text: str = "") -> None:
    """Let a FileGateJob go on, by creating its file in one step; with an empty one it succeeds."""
    written = path.with_name(f"{path.name}.written")
    written.write_text(text)
    written.rename(path)


class SocketsJob(TestJob):
    """Writes its parent's pid and the sockets of its own process to a file."""

    @staticmethod
    def perform(path: str) -> None:
        from tests.daemons.watching import sockets

        with open(path, "a") as file:
            file.write(f"{os.getppid()} {' '.join(sockets(os.getpid()))}\n")


class LeisureJob(TestJob):
    """May take longer than its worker allows."""

    timeout = 30

    @classmethod
    def perform(cls, seconds: float) -> None:
        time.sleep(seconds)
        cls.echo(cls.__name__)


class UnlimitedJob(LeisureJob):
    timeout = 0


class EndlessJob(LeisureJob):
    timeout = math.inf


class FrozenJob(TestJob):
    """Stops its process, as Ctrl-Z does."""

    timeout = 0.2

    @staticmethod
    def perform() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)


class InterruptedJob(TestJob):
    @staticmethod
    def perform() -> None:
        raise KeyboardInterrupt


class LeavingJob(TestJob):
    @staticmethod
    def perform() -> None:
        raise GeneratorExit("left")


class DeepJob(TestJob):
    """Recurses without end."""

    @classmethod
    def perform(cls) -> None:
        cls.perform()


class ClosingJob(TestJob):
    """Closes every file of its process, as code that turns itself into a daemon does."""

    @staticmethod
    def perform() -> None:
        os.closerange(0, 4096)


class DoublingJob(TestJob):
    """Forks, and lets the copy return, too."""

    @classmethod
    def perform(cls) -> None:
        cls.echo("doubled")
        os.fork()


class ThreadJob(TestJob):
    """Starts a thread that never ends."""

    @staticmethod
    def perform() -> None:
        threading.Thread(target=threading.Event().wait).start()


class ReapingJob(TestJob):
    """Waits for children, of which it has none."""

    @staticmethod
    def perform() -> None:
        os.waitpid(-1, 0)


class StopParentJob(TestJob):
    """Signals its worker to stop."""

    @classmethod
    def perform(cls) -> None:
        os.kill(os.getppid(), signal.SIGTERM)
        cls.echo("told")


class NoPerform(TestJob):
    """Has no perform()."""


class NoTimeJob(TestJob):
    """Its timeout is not a number."""

    timeout = "soon"

    @staticmethod
    def perform() -> None:
        pass


class StrangerJob(TestJob):
    """Echoes the exit status of a program, which leaves an orphan process behind."""

    @classmethod
    def perform(cls, code: int) -> None:
        left = f"exec sleep 600 > /dev/null & exit {code}"
        cls.echo(subprocess.run(["sh", "-c", left], check=False).returncode)


class HugeErrorJob(TestJob):
    """Raises an error with a text of N characters."""

    @staticmethod
    def perform(length: int) -> None:
        raise ValueError("x" * length)
