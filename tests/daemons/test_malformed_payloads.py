"""Malformed payloads stop no worker, become one failure record each, and keep their bytes."""

from __future__ import annotations

import base64
import signal

import pytest
from redis import Redis

from pyres import ResQ, failure
from tests.daemons.watching import burst, counted, echoed, records, registered, start
from tests.jobs import EchoJob
from tests.servers import Daemons, until

#: Elements that cannot be read as a job at all: their bytes are kept.
UNREADABLE = {
    "not JSON": b"not json",
    "empty": b"",
    "a space": b" ",
    "bytes": b"\xff\xfe\x00\x80",
    "NUL": b"\x00",
    "a list": b'[{"class":"tests.jobs.EchoJob","args":[1]}]',
    "null": b"null",
    "a number": b"7",
    "a string": b'"tests.jobs.EchoJob"',
    "100,000 deep": b'{"class":"tests.jobs.EchoJob","args":'
    + b"[" * 100_000
    + b"]" * 100_000
    + b"}",
    "100,000 open": b"[" * 100_000,
    "cut off": b'{"class":"tests.jobs.EchoJob","args":[1',
    "two of them": b'{"class":"tests.jobs.EchoJob","args":[1]}' * 2,
    "a mark of byte order": b'\xef\xbb\xbf{"class":"tests.jobs.EchoJob","args":[1]}',
    "no UTF-8 in a string": b'{"class":"tests.jobs.EchoJob","args":["\xff"]}',
    "UTF-16": '{"class":"tests.jobs.EchoJob","args":[1]}'.encode("utf-16"),
    "a number of 10,000 digits": b'{"class":"tests.jobs.EchoJob","args":[' + b"7" * 10_000 + b"]}",
    "YAML": b"--- !ruby/object:Gem::Installer\ni: x\n",
    "pickle": b"\x80\x04N.",
    "an in-flight record": b'{"queue":"basic","run_at":"x","payload":',
}

#: JSON objects that are not jobs, or have no known class: kept as JSON.
NO_JOBS = {
    "no class": (b'{"args":[1]}', "UndecodableError"),
    "nothing": (b"{}", "UndecodableError"),
    "class is a number": (b'{"class":7,"args":[]}', "UndecodableError"),
    "class is null": (b'{"class":null,"args":[]}', "UndecodableError"),
    "class is a list": (b'{"class":["tests.jobs.EchoJob"],"args":[]}', "UndecodableError"),
    "args is a number": (b'{"class":"tests.jobs.EchoJob","args":7}', "UndecodableError"),
    "args is a string": (b'{"class":"tests.jobs.EchoJob","args":"ab"}', "UndecodableError"),
    "args is an object": (b'{"class":"tests.jobs.EchoJob","args":{"a":1}}', "UndecodableError"),
    "class is empty": (b'{"class":"","args":[]}', "ClassNotFoundError"),
    "class is a dot": (b'{"class":".","args":[]}', "ClassNotFoundError"),
    "class ends with a dot": (b'{"class":"tests.jobs.","args":[]}', "ClassNotFoundError"),
    "class begins with one": (b'{"class":".tests.jobs.EchoJob","args":[]}', "ClassNotFoundError"),
    "class is a path": (b'{"class":"../../etc/passwd","args":[]}', "ClassNotFoundError"),
    "class holds NUL": (b'{"class":"a\\u0000.B","args":[]}', "ClassNotFoundError"),
    "class holds lines": (b'{"class":"a\\n2026-11-23 ERROR.B","args":[]}', "ClassNotFoundError"),
    "class is long": (b'{"class":"' + b"a" * 100_000 + b'.B","args":[]}', "ClassNotFoundError"),
    "class is half a pair": (b'{"class":"\\ud800.B","args":[]}', "ClassNotFoundError"),
    "an argument is half a pair": (b'{"class":"no.Such","args":["\\ud800"]}', "ClassNotFoundError"),
    "an argument is no number": (b'{"class":"no.Such","args":[NaN]}', "UndecodableError"),
    "class twice": (b'{"class":"tests.jobs.EchoJob","class":7,"args":[]}', "UndecodableError"),
    "the placeholder itself": (b'{"class":"<undecodable>","args":["x"]}', "UndecodableError"),
    "a false placeholder": (
        b'{"class":"<undecodable>","args":["x"],"raw":"no base64!"}',
        "UndecodableError",
    ),
    "a placeholder of a number": (
        b'{"class":"<undecodable>","args":["x"],"raw":7}',
        "UndecodableError",
    ),
}


def end_of_all(redis: Redis, jobs: int) -> None:
    until(lambda: counted(redis)[0] >= jobs, timeout=60, what="all to be counted")


@pytest.mark.parametrize("pop", ["--nonblocking-pop", "--interval=5"])
def test_a_malformed_payload_is_a_failure_that_keeps_its_bytes(
    pop: str, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """One record each, in order; the valid jobs in between are done; a retry pushes the
    original bytes.
    """
    for name, raw in UNREADABLE.items():
        redis.rpush("resque:queue:basic", raw)
        resq.enqueue(EchoJob, name)
    daemon = start(run_daemon, redis, "--queues", "basic", pop)

    end_of_all(redis, 2 * len(UNREADABLE))

    assert echoed(redis) == [[name] for name in UNREADABLE]
    found = records(resq)
    assert [base64.b64decode(record["payload"]["raw"]) for record in found] == list(
        UNREADABLE.values()
    )
    assert {record["payload"]["class"] for record in found} == {"<undecodable>"}
    assert {record["exception"] for record in found} == {"UndecodableError"}
    assert {record["queue"] for record in found} == {"basic"}
    assert counted(redis) == (2 * len(UNREADABLE), len(UNREADABLE))
    assert not redis.exists(b"resque:worker:" + registered(redis, daemon))
    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0
    for record in found:
        assert failure.retry(resq, "basic", record["redis_value"]) == 1
    assert redis.lrange("resque:queue:basic", 0, -1) == list(UNREADABLE.values())
    assert redis.llen("resque:failed") == 0
    burst(run_daemon, pop)
    assert [record["payload"] for record in records(resq)] == [each["payload"] for each in found]


@pytest.mark.parametrize("pop", ["--nonblocking-pop", "--interval=5"])
def test_an_object_that_is_not_a_job_is_a_failure_with_the_reason(
    pop: str, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    for name, (raw, _) in NO_JOBS.items():
        redis.rpush("resque:queue:basic", raw)
        resq.enqueue(EchoJob, name)
    daemon = start(run_daemon, redis, "--queues", "basic", pop)

    end_of_all(redis, 2 * len(NO_JOBS))

    assert echoed(redis) == [[name] for name in NO_JOBS]
    assert counted(redis) == (2 * len(NO_JOBS), len(NO_JOBS))
    found = dict(zip(NO_JOBS, records(resq), strict=True))
    for name, (_raw, exception) in NO_JOBS.items():
        assert (name, found[name]["exception"]) == (name, exception)
        assert found[name]["error"], name
    assert not redis.exists(b"resque:worker:" + registered(redis, daemon))

    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0
    assert failure.retry_all(resq) == len(NO_JOBS)
    assert redis.lrange("resque:queue:basic", 0, -1) == [raw for raw, _ in NO_JOBS.values()]


def test_a_queue_of_malformed_payloads_only_is_emptied(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    redis.rpush("resque:queue:basic", *[b"\xff"] * 50)

    burst(run_daemon)

    assert counted(redis) == (50, 50)
    assert redis.llen("resque:failed") == 50
    assert resq.size("basic") == 0


def test_a_malformed_payload_of_a_worker_that_died_is_recorded_by_the_next(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """The in-flight record is not valid JSON either then."""
    other = start(run_daemon, redis, "--queues", "other")
    host = registered(redis, other).split(b":")[0]
    for pid, raw in enumerate(UNREADABLE.values(), 10_000_000):
        dead = b"%b:%d:basic" % (host, pid)
        redis.sadd("resque:workers", dead)
        redis.set(
            b"resque:worker:" + dead,
            b'{"queue":"basic","run_at":"2026-11-23T16:01:09Z","payload":%b}' % raw,
        )

    burst(run_daemon)

    kept = {base64.b64decode(record["payload"].get("raw", "")) for record in records(resq)}
    assert kept == set(UNREADABLE.values())
    assert {record["exception"] for record in records(resq)} == {"DirtyExitError"}
    assert counted(redis) == (len(UNREADABLE), len(UNREADABLE))
    assert redis.smembers("resque:workers") == {registered(redis, other)}
    assert redis.keys("resque:worker:*:basic*") == []
