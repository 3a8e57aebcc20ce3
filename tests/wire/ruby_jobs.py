"""The jobs of the Ruby program that wrote the golden data, under the names they have there."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from pyres import ResQ, job
from pyres.exceptions import DontPerform
from tests.jobs import GATE, TestJob

#: The gate at which SlowJob waits in place of sleeping.
SLOW = GATE.format("slow")


class ArgumentError(Exception):
    """Ruby's name for a ValueError."""


@job(queue="default", name="NoopJob")
class NoopJob(TestJob):
    """Leaves its arguments, as every good job here."""

    @classmethod
    def perform(cls, *args: Any) -> None:
        cls.echo(*args)


@job(queue="default", name="TypesJob")
class TypesJob(NoopJob):
    """Has arguments of every type of JSON."""


@job(queue="default", name="SlowJob")
class SlowJob(TestJob):
    """Is under way until the test opens the gate."""

    @classmethod
    def perform(cls, *args: Any) -> None:
        cls.begin()
        while not cls.resq.redis.blpop([SLOW], timeout=1):
            pass
        cls.echo(*args)


@job(queue="default", name="FailJob")
class FailJob(TestJob):
    """Raises the same exception as the Ruby job, with its message."""

    @staticmethod
    def perform(*args: Any) -> None:
        raise ArgumentError(f"boom ☃ {inspected(list(args))}")


@job(queue="default", name="SuicideJob")
class SuicideJob(TestJob):
    """Kills its process."""

    @staticmethod
    def perform(*args: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@job(queue="default", name="ExitJob")
class ExitJob(TestJob):
    """Leaves by sys.exit."""

    @staticmethod
    def perform(code: int) -> None:
        sys.exit(code)


@job(queue="cron", name="CronJob")
class CronJob(NoopJob):
    """Is enqueued by a schedule."""


@job(queue="default", name="Archive::Mail")
def archive(*args: Any) -> None:
    """A function in the place of a Ruby class within a module."""
    NoopJob.resq = archive.resq  # type: ignore[attr-defined]
    NoopJob.echo(*args)


def log(line: str) -> None:
    """Append to the log of HookJob; on a connection of its own, as it may run in any process."""
    resq = ResQ(os.environ["REDIS_URL"])
    resq.redis.rpush("resque:log", line)
    resq.close()


@job(queue="hooks", name="HookJob")
class HookJob:
    """Every hook that a job can have, each of which logs that it ran."""

    @staticmethod
    def before_enqueue_b(*args: Any) -> None:
        log(f"before_enqueue_b {inspected(list(args))}")

    @staticmethod
    def before_enqueue_a(*args: Any) -> bool:
        log(f"before_enqueue_a {inspected(list(args))}")
        return args[0] != "deny"

    @staticmethod
    def after_enqueue_x(*args: Any) -> None:
        log("after_enqueue_x")

    @staticmethod
    def before_dequeue_x(*args: Any) -> bool:
        log("before_dequeue_x")
        return args[0] != "keep"

    @staticmethod
    def after_dequeue_x(*args: Any) -> None:
        log("after_dequeue_x")

    @staticmethod
    def before_perform_x(*args: Any) -> None:
        log("before_perform_x")
        if args[0] == "dont":
            raise DontPerform
        if args[0] == "bp":
            raise RuntimeError("bp")

    @staticmethod
    def around_perform_a(*args: Any) -> Iterator[None]:
        log("around_a>")
        if args[0] != "noyield":
            yield
        log("around_a<")

    @staticmethod
    def around_perform_b(*args: Any) -> Iterator[None]:
        log("around_b>")
        yield
        log("around_b<")

    @staticmethod
    def perform(*args: Any) -> None:
        log(f"perform {inspected(list(args))}")
        if args[0] == "fail":
            raise RuntimeError("p")
        if args[0] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)

    @staticmethod
    def after_perform_x(*args: Any) -> None:
        log("after_perform_x")
        if args[0] == "ap":
            raise RuntimeError("ap")

    @staticmethod
    def on_failure_x(error: BaseException, *args: Any) -> None:
        log(f"on_failure_x {type(error).__name__}: {error}")
        if args[1:] == ("of",):
            raise RuntimeError("of")


def inspected(value: Any) -> str:
    """What Ruby's inspect makes of it, for the few types that the golden data holds."""
    if isinstance(value, dict):
        pairs = (f"{inspected(key)}=>{inspected(item)}" for key, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(inspected, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)
