"""Jobs that change their process."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from typing import Any

from tests.jobs import TestJob


def _ring(*_: Any) -> None:
    raise RuntimeError("the alarm of another job")


def use_asyncio_signals() -> None:
    loop = asyncio.new_event_loop()
    loop.add_signal_handler(signal.SIGTERM, _ring)
    loop.close()


def replace_stdout() -> None:
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115


EFFECTS = {
    "default": lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    "ignored": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "blocked": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32)),
    "asyncio": use_asyncio_signals,
    "wakeup": lambda: signal.set_wakeup_fd(-1),
    "folder": lambda: os.chdir("/"),
    "stdout": replace_stdout,
}


class EffectJob(TestJob):
    """Has one of these effects."""

    @classmethod
    def perform(cls, effect: str) -> None:
        EFFECTS[effect]()
        cls.echo(effect)


class AlarmJob(TestJob):
    """Leaves an alarm set, whose signal would end the process or a later job."""

    @classmethod
    def perform(cls, handled: bool) -> None:
        if handled:
            signal.signal(signal.SIGALRM, _ring)
        signal.alarm(1000)
        cls.echo("alarm")


class StateJob(TestJob):
    """Records the state of its process."""

    @classmethod
    def perform(cls) -> None:
        handler = signal.getsignal(signal.SIGTERM)
        cls.echo(
            os.getcwd(),
            getattr(handler, "__name__", str(handler)),
            sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            sys.stdout is sys.__stdout__,
            signal.getitimer(signal.ITIMER_REAL)[0],
            str(signal.getsignal(signal.SIGALRM)),
        )


class LimitJob(TestJob):
    """Uses up, or lowers, a limit of its process."""

    @staticmethod
    def perform(way: str) -> None:
        if way == "files":
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))
        elif way == "cpu":
            resource.setrlimit(resource.RLIMIT_CPU, (100, resource.RLIM_INFINITY))
        else:
            os.close(1)
