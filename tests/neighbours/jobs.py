"""The jobs of neighbour.mjs and neighbour.rb, in Python, under their names on the wire."""

from __future__ import annotations

from typing import Any

from pyres import job
from tests.jobs import GATE, TestJob


@job(queue="peer", name="Echo")
class Echo(TestJob):
    """Leaves its arguments."""

    @classmethod
    def perform(cls, *args: Any) -> None:
        cls.echo(*args)


@job(queue="peer", name="FailsInNode")
class FailsInNode(Echo):
    """Does what node cannot."""


@job(queue="peer", name="FailsInRuby")
class FailsInRuby(Echo):
    """Does what Ruby cannot."""


@job(queue="peer", name="FailsInPython")
class FailsInPython(TestJob):
    """Leaves it to node."""

    @staticmethod
    def perform(*args: Any) -> None:
        raise ValueError(f"Python cannot ☃ {args}")


@job(queue="peer", name="Slow")
class Slow(TestJob):
    """Is under way until the test opens its gate."""

    @classmethod
    def perform(cls, name: str) -> None:
        cls.begin()
        while not cls.resq.redis.blpop([GATE.format(name)], timeout=1):
            pass
        cls.echo(name)
