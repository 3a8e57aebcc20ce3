"""Jobs of the kill matrix: each writes traces to a file, and may stop at a named place."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.jobs import TestJob

#: Environment variables: the place where a process is to stop, and the file that then has its pid.
PLACE, STOPPED = "PYRES_STOP_AT", "PYRES_STOPPED"

#: The error text of a failing job.
OWN_ERROR = "an error of the job's own"


def stop_at(place: str) -> None:
    """Stop this process, once, if it is to stop at this place."""
    if os.environ.get(PLACE) != place:
        return
    with contextlib.suppress(FileExistsError):
        fd = os.open(os.environ[STOPPED], os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        os.write(fd, str(os.getpid()).encode())
        os.close(fd)
        os.kill(os.getpid(), signal.SIGSTOP)


class Traced(TestJob):
    """Writes a line when it starts and one when it ends; its hooks are places to stop at."""

    @staticmethod
    def before_perform_stop(_path: str) -> None:
        stop_at("before hook")

    @staticmethod
    def after_perform_stop(_path: str) -> None:
        stop_at("after hook")

    @staticmethod
    def perform(path: str) -> None:
        note(path, "begun")
        stop_at("perform")
        note(path, "ended")


class Gate(TestJob):
    """Waits for a file; without a connection, so that a cut does not affect it."""

    @staticmethod
    def perform(path: str) -> None:
        while not os.path.exists(path):
            time.sleep(0.01)


class Failing(TestJob):
    """Fails by itself."""

    @staticmethod
    def perform(path: str) -> None:
        note(path, "begun")
        raise ValueError(OWN_ERROR)


class Retried(TestJob):
    """Fails the first time, and is retried at once."""

    retry_limit = 3
    retry_delay = 0

    @staticmethod
    def perform(path: str) -> None:
        again = Path(path).exists()
        note(path, "begun")
        if not again:
            raise ValueError(OWN_ERROR)
        note(path, "ended")


class Repeatable(Traced):
    """Is retried when its process dies."""

    retry_limit = 3
    retry_delay = 0
    retry_dirty_exit = True


class Unique(Traced):
    """Unique until it is done."""

    unique_for = 600
    unique_until = "done"


class Crashing(TestJob):
    """Ends its process."""

    @staticmethod
    def perform(path: str) -> None:
        note(path, "begun")
        os._exit(3)


def note(path: str, what: str) -> None:
    """Add a line to a file, which needs no server."""
    with open(path, "a") as file:
        file.write(f"{what}\n")


def daemon(script: str) -> int:
    """Run a daemon that may stop at places in pyres' own code."""
    from pyres import scripts
    from pyres.process import children, messages
    from pyres.worker import Worker

    _stop_around(children, "_fork", "before fork", "after fork")
    _stop_around(Worker, "_perform_as_child", "process starts")
    _stop_around(Worker, "_perform_assigned", "is given its job")
    own_send = messages.Reports.send

    def send(self: Any, seconds: float, record: int = 0) -> bool:
        if seconds == messages.DONE:
            stop_at("before report")
        return own_send(self, seconds, record)

    messages.Reports.send = send  # type: ignore[method-assign]
    return int(getattr(scripts, script)())


def _stop_around(owner: Any, name: str, before: str, after: str = "") -> None:
    original = getattr(owner, name)

    def stopping(*args: Any) -> Any:
        stop_at(before)
        value = original(*args)
        if value:  # in the parent, where it is a fork
            stop_at(after)
        return value

    setattr(owner, name, stopping)


if __name__ == "__main__":
    sys.exit(daemon(sys.argv.pop(1)))
