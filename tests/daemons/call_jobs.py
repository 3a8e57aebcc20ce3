"""Jobs that are not plain functions, or end in unusual ways."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from pyres import job
from pyres.job import Job
from pyres.worker import Worker
from tests.jobs import TestJob


class AsyncJob(TestJob):
    """Runs only when its coroutine is awaited."""

    @classmethod
    async def perform(cls, name: str) -> None:
        await asyncio.to_thread(os.getpid)
        cls.echo(name)


class PlainCoroutineJob(TestJob):
    """A plain function that returns a coroutine."""

    @classmethod
    def perform(cls, name: str) -> Any:
        return AsyncJob.perform(name)


@job(queue="basic")
async def async_function(name: str) -> None:
    await asyncio.to_thread(os.getpid)
    TestJob.resq = async_function.resq  # type: ignore[attr-defined]
    TestJob.echo(name)


class GeneratorJob(TestJob):
    @staticmethod
    def perform(*args: Any) -> Iterator[None]:
        yield


class AsyncGeneratorJob(TestJob):
    @staticmethod
    async def perform(*args: Any) -> AsyncIterator[None]:
        yield


class HiddenGeneratorJob(TestJob):
    """Not recognizable as a generator before it is called."""

    @staticmethod
    def perform(*args: Any) -> Any:
        return GeneratorJob.perform(*args)


class RaisingJob(TestJob):
    """Raises a BaseException that is not an Exception, and is retried once."""

    retry_limit = 1
    retry_delay = 0

    @classmethod
    def perform(cls, name: str) -> None:
        cls.begin()
        raise {
            "cancelled": asyncio.CancelledError("stopped"),
            "group": BaseExceptionGroup("several", [asyncio.CancelledError()]),
            "own": OwnBaseError("own"),
        }[name]


class OwnBaseError(BaseException):
    """A BaseException, as gevent's Timeout is."""


def shouting(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(name: str) -> Any:
        return function(name.upper())

    return wrapper


@shouting
@job(queue="basic")
def decorated(name: str) -> None:
    TestJob.resq = decorated.resq  # type: ignore[attr-defined]
    TestJob.echo(name)


@shouting
@job(queue="basic", name="Decorated")
def decorated_with_name(name: str) -> None:
    TestJob.resq = decorated_with_name.resq  # type: ignore[attr-defined]
    TestJob.echo(name)


class ForkingJob(TestJob):
    """Forks; the copy returns in one of several ways."""

    @classmethod
    def perform(cls, way: str) -> None:
        if os.fork():
            os.wait()
        elif way == "exit":
            sys.exit(0)
        elif way == "raise":
            raise ValueError("only in the copy")


class HookForkingJob(TestJob):
    """Forks in a hook before it is performed."""

    @staticmethod
    def before_perform_fork(name: str) -> None:
        if os.fork():
            os.wait()

    @classmethod
    def perform(cls, name: str) -> None:
        cls.echo(name)


class EarlyExitJob(TestJob):
    """Ends its process with status 0 before perform() has returned."""

    @staticmethod
    def perform(way: str) -> None:
        if way == "exec":
            os.execv("/bin/true", ["true"])
        os._exit(0)


class ExitWorker(Worker):
    """As subclasses written for pyres 1.5: its child ends here."""

    def process(self, job: Job | None = None) -> Any:
        super().process(job)
        os._exit(0)
