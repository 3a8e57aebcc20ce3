"""The jobs of neighbour.mjs and neighbour.rb, in Python, under their names on the wire."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

from pyres import job
from tests.chaos.jobs import BEGUN, ENDED
from tests.jobs import ECHOED, GATE, TestJob


@job(queue="peer", name="Echo")
class Echo(TestJob):
    """Pushes its arguments to ECHOED."""

    @classmethod
    def perform(cls, *args: Any) -> None:
        cls.echo(*args)


@job(queue="peer", name="FailsInNode")
class FailsInNode(Echo):
    """Fails in node only."""


@job(queue="peer", name="FailsInRuby")
class FailsInRuby(Echo):
    """Fails in Ruby only."""


@job(queue="peer", name="FailsInPython")
class FailsInPython(TestJob):
    """Fails in Python only."""

    @staticmethod
    def perform(*args: Any) -> None:
        raise ValueError(f"Python cannot ☃ {args}")


@job(queue="peer", name="Slow")
class Slow(TestJob):
    """Runs until the test pushes to its GATE."""

    @classmethod
    def perform(cls, name: str) -> None:
        cls.begin()
        while not cls.resq.redis.blpop([GATE.format(name)], timeout=1):
            pass
        cls.echo(name)


@job(queue="peer", name="Exits")
class Exits(TestJob):
    """Exits by os._exit()."""

    @staticmethod
    def perform(code: int) -> None:
        os._exit(code)


@job(queue="peer", name="Hooked")
class Hooked(TestJob):
    """Pushes the name of each of its hooks to ECHOED, and fails if `doomed`."""

    @classmethod
    def before_perform_log(cls, *args: Any) -> None:
        cls.echo("before_perform_log")

    @classmethod
    def around_perform_log(cls, *args: Any) -> Iterator[None]:
        cls.echo("around_perform_log")
        yield

    @classmethod
    def on_failure_log(cls, error: Exception, *args: Any) -> None:
        cls.echo("on_failure_log")

    @classmethod
    def perform(cls, doomed: bool) -> None:
        if doomed:
            raise ValueError


@job(queue="all", name="Trace")
class Trace(TestJob):
    """Records a trace at its start and, unless `doomed`, at its end."""

    @classmethod
    def perform(cls, number: int, seconds: float, doomed: bool) -> None:
        trace = f"{number} {os.getpid()} {time.time_ns()} python"
        cls.resq.redis.sadd(BEGUN, trace)
        time.sleep(seconds)
        if doomed:
            raise ValueError(f"job {number} fails on purpose")
        cls.resq.redis.sadd(ENDED, trace)


class _Failing(TestJob):
    """Fails each time it is performed."""

    @classmethod
    def perform(cls, *args: Any) -> None:
        cls.begin()
        raise ValueError("not yet")


@job(queue="peer", name="Limited", retry_limit=2, retry_delay=1)
class Limited(_Failing):
    """Is tried three times."""


@job(queue="peer", name="BackedOff", backoff_strategy=(1, 1))
class BackedOff(_Failing):
    """Is tried three times."""


@job(queue="peer", name="Once", unique_for=3600, unique_until="done")
class Once(Echo):
    """Is skipped while an equal job is pending or running."""


@job(queue="peer", name="MailJob", active_job=True)
def mail(*args: Any, **keywords: Any) -> None:
    """Pushes its arguments to ECHOED, with datetimes and the like as text."""
    line = json.dumps([args, keywords], default=str, ensure_ascii=False)
    mail.resq.redis.rpush(ECHOED, line)
