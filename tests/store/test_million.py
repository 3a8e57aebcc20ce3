"""No operation holds the server up for 50 ms, however long the lists and large the values are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pyres import ResQ, failure
from pyres.failure.records import FailureFilter
from pyres.inspector import Inspector, payload_token
from pyres.liveness import Liveness
from pyres.registry import Registry
from pyres.scheduler import Scheduler
from tests.servers import Server

pytestmark = [pytest.mark.slow, pytest.mark.timing]

MILLION = 1_000_000
HALF = MILLION // 2
LATER = 2_000_000_000

#: The server fills a list by itself, a step at a time.
FILL = """
for number = tonumber(ARGV[2]), tonumber(ARGV[3]) do
    redis.call("RPUSH", KEYS[1], (string.gsub(ARGV[1], "NUMBER", number)))
end
"""
JOB = '{"class":"%s","args":[NUMBER],"queue":"mail"}'
RECORD = '{"payload":{"class":"A","args":[NUMBER]},"exception":"E","error":"e","queue":"mail"}'
LISTS = {
    "resque:queue:mail": JOB % "A",
    f"resque:delayed:{LATER}": JOB % "A",
    "resque:delayed:1000": JOB % "B",
    "resque:failed": RECORD,
    "resque:mail_failed": RECORD,
}


def job(number: int, klass: str = "A") -> bytes:
    return (JOB % klass).replace("NUMBER", str(number)).encode()


def record(number: int) -> bytes:
    return RECORD.replace("NUMBER", str(number)).encode()


@pytest.fixture(scope="module")
def long_lists() -> Iterator[Server]:
    """A server with copies of the lists, and with many workers that have large jobs."""
    with Server() as server:
        redis = server.client()
        for key, text in LISTS.items():
            for first in range(0, MILLION, 5000):
                redis.eval(FILL, 1, f"copy:{key}", text, first, first + 4999)
        resq = ResQ(server.dsn)
        large = json.dumps({"class": "A", "args": ["x" * 1_000_000]}).encode()
        for number in range(1000):
            resq.store.workers.register(f"there:{number}:mail", "1")
            resq.store.workers.beat([f"there:{number}:mail"])
            size = large if number < 200 else job(number)
            resq.store.mark_in_flight(f"there:{number}:mail", "mail", "2026-11-25T10:00:00Z", size)
            redis.rpush(f"resque:queue:large{number}", large if number < 100 else job(number))
            redis.sadd("resque:queues", f"large{number}")
        pipe = redis.pipeline(transaction=False)
        for first in range(0, MILLION, 1000):
            some = range(first, first + 1000)
            pipe.sadd("resque:set", *some)
            pipe.hset("resque:hash", mapping={number: number for number in some})
            pipe.zadd("resque:zset", {number: number for number in some})
        pipe.execute()
        redis.set("resque:string", b"x" * 100_000_000)
        resq.close()
        redis.close()
        yield server


@pytest.fixture
def resq(long_lists: Server) -> Iterator[ResQ]:
    resq = ResQ(long_lists.dsn)
    yield resq
    resq.close()


READS: dict[str, Callable[[ResQ], Any]] = {
    "info": lambda resq: resq.info(),
    "working": lambda resq: resq.working(),
    "in-flight records": lambda resq: resq.store.workers.in_flight_records(resq.workers()),
    "records of nobody": lambda resq: list(resq.store.workers.records()),
    "prune": lambda resq: Registry(resq, "here:1:mail").prune(sweep=True),
    "who is dead": lambda resq: Liveness("here:1:mail", resq.store.workers),
    "workers": lambda resq: Inspector(resq).workers(),
    "queues": lambda resq: Inspector(resq).queues(oldest=True),
    "heads": lambda resq: resq.store.queues.heads(resq.queues()),
    "peek": lambda resq: resq.peek("mail", HALF, 5000),
    "find a job": lambda resq: Inspector(resq).find_job("mail", payload_token(b"x" * 5000)),
    "find a failure": lambda resq: Inspector(resq).find_failure(payload_token(b"x" * 5000)),
    "count of a class": lambda resq: failure.count(resq, klass="B"),
    "failures": lambda resq: failure.all(resq, HALF, 5000),
    "page of failures": lambda resq: Inspector(resq).failures_page(50, FailureFilter(klass="C")),
    "kinds of failures": lambda resq: Inspector(resq).failure_kinds(),
    "delayed at": lambda resq: resq.delayed_at("A", HALF),
    "all keys": lambda resq: resq.keys(),
    "wrong types": lambda resq: resq.store.key_types.wrong(),
    **{
        f"the key {name}": (lambda resq, name=name: resq.store.views.key(name, 0, 1000))
        for name in ("queue:mail", "set", "hash", "zset", "string")
    },
}

WRITES: dict[str, tuple[str, Callable[[ResQ], Any]]] = {
    "delete a job": ("resque:queue:mail", lambda resq: resq.delete_job("mail", job(HALF))),
    "delete no job": ("resque:queue:mail", lambda resq: resq.delete_job("mail", b"gone")),
    "dequeue": ("resque:queue:mail", lambda resq: resq.dequeue_from("mail", "A", HALF)),
    "dequeue a class": ("resque:queue:mail", lambda resq: resq.dequeue_from("mail", "A")),
    "move": ("resque:queue:mail", lambda resq: resq.move_queue("mail", "other")),
    "remove a queue": ("resque:queue:mail", lambda resq: resq.remove_queue("mail")),
    "retry": ("resque:failed", lambda resq: failure.retry(resq, "mail", record(HALF))),
    "delete a failure": ("resque:failed", lambda resq: failure.delete(resq, record(HALF))),
    "retry all": ("resque:failed", failure.retry_all),
    "clear": ("resque:failed", failure.clear),
    "clear a class": ("resque:failed", lambda resq: failure.clear(resq, klass="A")),
    "cancel a job": (
        f"resque:delayed:{LATER}",
        lambda resq: resq.cancel_delayed(LATER, job(HALF)),
    ),
    "promote a job": (f"resque:delayed:{LATER}", lambda r: r.promote_job(LATER, job(HALF))),
    "promote a timestamp": (f"resque:delayed:{LATER}", lambda resq: resq.promote_delayed(LATER)),
    "remove delayed": (f"resque:delayed:{LATER}", lambda resq: resq.remove_delayed("A", HALF)),
    "forget delayed": (f"resque:delayed:{LATER}", lambda resq: resq.reset_delayed_queue()),
    "scheduler": ("resque:delayed:1000", lambda resq: Scheduler(resq).handle_delayed_items()),
    "enqueue many": (
        "resque:failed",
        lambda resq: resq.enqueue_many([(Nothing, number) for number in range(MILLION)]),
    ),
    "pipeline": ("resque:failed", lambda resq: pipeline(resq, atomic=False)),
}


class Nothing:
    queue = "other"

    @staticmethod
    def perform(*args: Any) -> None:
        """Nothing."""


def pipeline(resq: ResQ, atomic: bool) -> None:
    with resq.pipeline(atomic) as batch:
        batch.enqueue_many([(Nothing, number) for number in range(MILLION)])


def slow(resq: ResQ) -> list[tuple[float, str]]:
    """The commands that took the server 50 ms or more since the log was reset, with their ms."""
    return [
        (entry["duration"] / 1000, entry["command"][:60].decode(errors="replace"))
        for entry in resq.redis.slowlog_get(128)
    ]


def begin(resq: ResQ) -> None:
    resq.redis.config_set("slowlog-log-slower-than", 50_000)
    resq.redis.slowlog_reset()


@pytest.mark.parametrize("name", READS)
def test_no_read_blocks_the_server_long(resq: ResQ, name: str) -> None:
    for key in LISTS:
        resq.redis.copy(f"copy:{key}", key)
    resq.redis.zadd("resque:delayed_queue_schedule", {str(LATER): LATER})
    begin(resq)

    READS[name](resq)

    assert slow(resq) == []


@pytest.mark.parametrize("name", WRITES)
def test_no_write_blocks_the_server_long(resq: ResQ, name: str) -> None:
    key, act = WRITES[name]
    for other in (*LISTS, "resque:queue:other", "resque:queue:mail"):
        resq.redis.unlink(other)
    resq.redis.delete("resque:delayed_queue_schedule")
    resq.redis.copy(f"copy:{key}", key, replace=True)
    if "delayed" in key:
        moment = key.rpartition(":")[2]
        resq.redis.zadd("resque:delayed_queue_schedule", {moment: moment})
    begin(resq)

    act(resq)

    assert slow(resq) == []
