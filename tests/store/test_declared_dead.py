"""A job whose worker was declared dead and then finishes has one outcome."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from functools import partial

import pytest
from redis import Redis

from pyres import ResQ, failure
from pyres.horde import Minion
from pyres.registry import Registry
from pyres.worker import Worker


def pruned_by(resq: ResQ, worker_id: str, list_name: str = "failed", **more: object) -> None:
    """What Ruby's prune and similar programs write for a worker that they declare dead."""
    held = json.loads(resq.redis.get(f"resque:worker:{worker_id}"))
    record = {
        "failed_at": datetime.now(UTC).strftime("%Y/%m/%d %H:%M:%S UTC"),
        "payload": dict(reversed(held["payload"].items())),
        "exception": "Resque::PruneDeadWorkerDirtyExit",
        "error": f"Worker {worker_id} did not gracefully exit while processing",
        "backtrace": [],
        "worker": worker_id,
        "queue": held["queue"],
    }
    resq.redis.rpush(f"resque:{list_name}", json.dumps(record | more, separators=(", ", ": ")))
    resq.redis.srem("resque:workers", worker_id)
    resq.redis.hdel("resque:workers:heartbeat", worker_id)
    resq.redis.delete(
        f"resque:worker:{worker_id}",
        f"resque:worker:{worker_id}:started",
        f"resque:stat:processed:{worker_id}",
    )


class Pruned:
    """A job whose worker another program declares dead while it runs; `how` is a key of PRUNERS."""

    queue = "mail"
    resq: ResQ

    @classmethod
    def perform(cls, how: str) -> None:
        (worker_id,) = cls.resq.workers()
        PRUNERS[how](cls.resq, worker_id)


def by_node(resq: ResQ, worker_id: str) -> None:
    text = "Worker Timeout (killed manually)"
    pruned_by(resq, worker_id, exception=text, worker=worker_id.rpartition(":")[0])
    resq.redis.incr("resque:stat:failed")


def by_pyres_2_0(resq: ResQ, worker_id: str) -> None:
    pruned_by(resq, worker_id, exception="DirtyExitError")
    resq.redis.incr("resque:stat:failed")
    resq.redis.incr("resque:stat:processed")


PRUNERS = {
    "ruby": pruned_by,
    "ruby remove": partial(pruned_by, exception="Resque::DirtyExit"),
    "ruby multi": partial(pruned_by, list_name="mail_failed"),
    "node": by_node,
    "pyres 2.0": by_pyres_2_0,
    "retried": partial(pruned_by, retried_at="2026/11/25 10:00:00 UTC"),
    "earlier": partial(pruned_by, failed_at="2026/11/01 10:00:00 UTC"),
    "another job": partial(pruned_by, payload={"class": "Pruned", "args": [1]}),
    "another worker": partial(pruned_by, worker="elsewhere:1:mail"),
    "another failure": partial(pruned_by, exception="ValueError"),
}


class Declared:
    """A job during which another host declares its worker dead."""

    queue = "mail"
    resq: ResQ

    @classmethod
    def perform(cls, how: str) -> None:
        (worker_id,) = cls.resq.workers()
        assert Registry(cls.resq, "there:1:mail").prune_worker(worker_id, silent=True)
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
        daemon._close_children()
    daemon.fetcher.close()


def do(daemon: Worker | Minion, how: str, kind: type = Declared) -> None:
    """Run the job, and fetch the next one."""
    daemon.resq.enqueue(kind, how)
    job = daemon._fetch()
    if isinstance(daemon, Worker):
        daemon._perform_next(job)
    else:
        daemon._do(job)
    assert daemon._fetch() is None


def counts(redis: Redis) -> list[int]:
    return [int(redis.get(f"resque:stat:{name}") or 0) for name in ("processed", "failed")]


def test_its_failure_is_removed_when_it_succeeds(daemon, redis, resq, caplog):
    caplog.set_level(logging.WARNING, "pyres")

    do(daemon, "well")

    assert failure.count(resq) == 0
    assert counts(redis) == [1, 0]
    assert "succeeded after it was declared dead" in caplog.text
    assert redis.keys("resque:pyres:declared_dead:*") == []


@pytest.mark.parametrize("how", ["retried", "hidden"])
def test_a_failure_that_was_retried_or_is_old_stays_and_that_is_logged(daemon, redis, how, caplog):
    do(daemon, how)

    assert b"PruneDeadWorkerDirtyExitError" in redis.lindex("resque:failed", 0)
    assert counts(redis) == [1, 1]
    assert "and also succeeded" in caplog.text


def test_one_that_fails_has_one_failure(daemon, redis, resq):
    do(daemon, "fails")

    (record,) = failure.all(resq, 0, 10)
    assert record["exception"] == "PruneDeadWorkerDirtyExitError"
    assert counts(redis)[1] == 1


@pytest.mark.parametrize("how", list(PRUNERS)[:5])
def test_the_failure_of_another_program_is_removed_when_the_job_succeeds(
    daemon, redis, how, caplog
):
    redis.rpush("resque:failed", *[b'{"worker":%d}' % number for number in range(20)])

    do(daemon, how, Pruned)

    assert redis.llen("resque:failed") == 20
    assert not redis.exists("resque:mail_failed")
    assert counts(redis) == [1, 0]
    assert "succeeded after it was declared dead; removed its failure" in caplog.text


@pytest.mark.parametrize("how", list(PRUNERS)[5:])
def test_a_failure_that_is_not_of_this_job_or_was_retried_stays(daemon, redis, how, caplog):
    do(daemon, how, Pruned)

    assert redis.llen("resque:failed") == 1
    assert counts(redis) == [1, 0]
    assert ("and also succeeded" in caplog.text) == (how == "retried")
