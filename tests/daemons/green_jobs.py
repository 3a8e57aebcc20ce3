"""Jobs that wait on the network, for minions that perform many at once."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator

import gevent
from gevent import socket

from tests.jobs import BEGUN, TestJob

#: A list in Redis: when each AskJob started and ended, by the machine's monotonic clock.
TIMES = "times"


class AskJob(TestJob):
    """Sends a request to a slow server."""

    queue = "green"

    @classmethod
    def perform(cls, port: int) -> None:
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.recv(1)
        cls.resq.redis.rpush(TIMES, began, time.monotonic())


class LateJob(TestJob):
    """Waits longer than its timeout."""

    queue = "green"
    timeout = 0.2

    @staticmethod
    def perform() -> None:
        gevent.sleep(600)


class DeafJob(TestJob):
    """Never yields, so that no other greenlet of its process runs."""

    queue = "green"
    timeout = 0.2

    @staticmethod
    def perform() -> None:
        while True:
            pass


class QuitJob(TestJob):
    """Crashes its process, and with it the other jobs there."""

    queue = "green"

    @staticmethod
    def perform() -> None:
        os._exit(3)


class CoroutineJob(TestJob):
    """Awaits concurrently with other jobs of its process, by itself or by asyncio.run()."""

    queue = "green"

    @classmethod
    def perform(cls, number: int) -> object:
        work = cls._work(number)
        return work if number % 2 else asyncio.run(work)

    @classmethod
    async def _work(cls, number: int) -> None:
        cls.begin()
        while cls.resq.redis.llen(BEGUN) < 6:
            await asyncio.sleep(0.01)
        loop = asyncio.get_running_loop()
        async for _ in cls._twice():
            assert asyncio.get_running_loop() is loop
        cls.echo(number)

    @staticmethod
    async def _twice() -> AsyncIterator[None]:
        for _ in range(2):
            yield await asyncio.sleep(0)
