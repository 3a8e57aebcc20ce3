"""Job classes as users of pyres 1.5 wrote them."""

from __future__ import annotations

import os
import signal
import sys
import time


class Basic:
    queue = "basic"

    @staticmethod
    def perform(name):
        return f"name:{name}"


class BasicMulti:
    queue = "basic"

    @staticmethod
    def perform(name, age):
        return f"name: {name}, age: {age}"


class Lasting(Basic):
    """Records its run in Redis, which also works from a child process."""

    @classmethod
    def perform(cls, *args):
        cls.resq.redis.rpush("lasting", os.getpid())


class ReturnAllArgs:
    queue = "basic"

    @staticmethod
    def perform(*args):
        return args


class Sleeping:
    queue = "basic"

    @staticmethod
    def perform(seconds):
        time.sleep(seconds)


class Failing:
    queue = "basic"

    @staticmethod
    def perform(*args):
        raise ValueError("it failed")


class Exiting:
    queue = "basic"

    @staticmethod
    def perform(code=None):
        sys.exit(code)


class OsExiting:
    queue = "basic"

    @staticmethod
    def perform(code):
        os._exit(code)


class Killed:
    queue = "basic"

    @staticmethod
    def perform():
        os.kill(os.getpid(), signal.SIGKILL)


class NoQueue:
    @staticmethod
    def perform():
        pass


class Hooked:
    """Records the arguments of its hooks."""

    queue = "basic"
    noted = []

    @classmethod
    def before_perform(cls, metadata):
        cls.noted.append(("before", dict(metadata)))

    @classmethod
    def perform(cls, fail):
        if fail:
            raise ValueError("it failed")
        return "value"

    @classmethod
    def after_perform(cls, metadata):
        cls.noted.append(("after", dict(metadata)))


class RetryOnce:
    queue = "basic"
    retry_every = 5
    retry_timeout = 10

    @staticmethod
    def perform(*args):
        raise ValueError("it failed")


class RetryForEver(RetryOnce):
    retry_timeout = None


class Outer:
    class Inner(Basic):
        pass
