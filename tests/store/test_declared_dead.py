"""A job whose worker was declared dead and then ends is told of once."""

from __future__ import annotations

import json
import logging

import pytest
from redis import Redis

from pyres import ResQ, failure
from pyres.horde import Minion
from pyres.registry import Registry
from pyres.worker import Worker


class Declared:
    """A job during which another host declares its worker dead."""

    queue = "mail"
    resq: ResQ

    @classmethod
    def perform(cls, how: str) -> None:
        (worker_id,) = cls.resq.workers()
        assert Registry(cls.resq, "there:1:mail").bury(worker_id, silent=True)
        if how == "retried":
            (record,) = failure.all(cls.resq, 0, 1)
            cls.resq.redis.lset("resque:failed", 0, json.dumps(record | {"retried_at": "now"}))
        if how == "hidden":
            cls.resq.redis.rpush("resque:failed", *[b"{}"] * 1000)
        if how == "fails":
            raise ValueError(how)


@pytest.fixture(params=[Worker, Minion])
def daemon(request, resq, own_title):
    daemon = request.param(["mail"], resq)
    daemon.registry.register()
    daemon._announced = True
    daemon._in_child = isinstance(daemon, Minion)
    yield daemon
    if isinstance(daemon, Worker):
        daemon._keep_nothing_open()
    daemon.taker.close()


def do(daemon: Worker | Minion, how: str) -> None:
    """The job, and the look for the next one."""
    daemon.resq.enqueue(Declared, how)
    job = daemon._take()
    if isinstance(daemon, Worker):
        daemon._perform_next(job)
    else:
        daemon._do(job)
    assert daemon._take() is None


def counts(redis: Redis) -> list[int]:
    return [int(redis.get(f"resque:stat:{name}") or 0) for name in ("processed", "failed")]


def test_its_failure_is_taken_back_when_it_ends_well(daemon, redis, resq, caplog):
    caplog.set_level(logging.WARNING, "pyres")

    do(daemon, "well")

    assert failure.count(resq) == 0
    assert counts(redis) == [1, 0]
    assert "ended well after it was declared dead" in caplog.text
    assert redis.keys("resque:pyres:declared_dead:*") == []


@pytest.mark.parametrize("how", ["retried", "hidden"])
def test_a_failure_that_was_retried_or_is_old_stays_and_that_is_told(daemon, redis, how, caplog):
    do(daemon, how)

    assert b"PruneDeadWorkerDirtyExitError" in redis.lindex("resque:failed", 0)
    assert counts(redis) == [1, 1]
    assert "and also ended well" in caplog.text


def test_one_that_fails_has_one_failure(daemon, redis, resq):
    do(daemon, "fails")

    (record,) = failure.all(resq, 0, 10)
    assert record["exception"] == "PruneDeadWorkerDirtyExitError"
    assert counts(redis)[1] == 1
