"""The same jobs as in peer.mjs, in Python, under the names they have on the wire."""

from __future__ import annotations

from typing import Any

from pyres import job
from tests.jobs import GATE, TestJob


@job(queue="peer", name="echo")
class Echo(TestJob):
    """Leaves its arguments."""

    @classmethod
    def perform(cls, *args: Any) -> None:
        cls.echo(*args)


@job(queue="peer", name="fails_in_node")
class FailsInNode(Echo):
    """Does what node cannot."""


@job(queue="peer", name="fails_in_python")
class FailsInPython(TestJob):
    """Leaves it to node."""

    @staticmethod
    def perform(*args: Any) -> None:
        raise ValueError(f"Python cannot ☃ {args}")


@job(queue="peer", name="slow")
class Slow(TestJob):
    """Is under way until the test opens its gate."""

    @classmethod
    def perform(cls, name: str) -> None:
        cls.begin()
        while not cls.resq.redis.blpop([GATE.format(name)], timeout=1):
            pass
        cls.echo(name)
