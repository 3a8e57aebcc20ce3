"""A failure record has the payload's own bytes, and its retry puts them on the queue again."""

from __future__ import annotations

import base64
import json

import pytest
from redis import Redis

from pyres import ResQ, failure
from pyres.exceptions import CrashError
from pyres.failure.everywhere import EveryList
from pyres.failure.multiple import MultipleBackend
from pyres.failure.redis_multi_queue import RedisMultiQueueBackend
from pyres.inspector import Inspector
from pyres.registry import Registry
from pyres.scheduler import Scheduler
from pyres.worker import Worker

NAME = b"tests.jobs.FailJob"
PAYLOADS = {
    "spaces": b'{ "class" : "%b" ,\n\t"args":[ 1 ,2 ] }' % NAME,
    "blanks around": b' {"class":"%b","args":[]}\n' % NAME,
    "escapes": b'{"class":"tests.jobs\\u002eFailJob","args":["\\u00e9\\/\\ud83d\\ude00"]}',
    "raw UTF-8": '{"class":"tests.jobs.FailJob","args":["é😀\u2028"]}'.encode(),
    "big integer": b'{"class":"%b","args":[%b]}' % (NAME, b"9" * 400),
    "other digits": b'{"class":"%b","args":[1.0e+20,1.50,-0.0,1E2,100000000000000000000.0]}' % NAME,
    "keys twice": b'{"class":"A","args":[1],"args":[2],"class":"%b"}' % NAME,
    "dates": b'{"class":"%b","args":["@D:2026-02-30T00:00:00","@D:2026-11-23T16:01:08"]}' % NAME,
    "more fields": b'{"x":{"b":1,"a":2},"args":[],"class":"%b","queue":"q"}' % NAME,
    "96 deep": b'{"class":"%b","args":%b}' % (NAME, b"[" * 96 + b"]" * 96),
    "5 MB": b'{"class":"%b","args":["%b"]}' % (NAME, b"x" * 5_000_000),
}


@pytest.fixture(autouse=True)
def own_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure, "backend", failure.RedisBackend)


def fail(raw: bytes, worker: Worker, redis: Redis) -> bytes:
    """The record of a job with this payload, which is performed and fails."""
    redis.rpush("resque:queue:basic", raw)
    worker.process()
    return only(redis)


def only(redis: Redis, key: str = "resque:failed") -> bytes:
    (record,) = redis.lrange(key, 0, -1)
    return record


def spliced(raw: bytes) -> bytes:
    return b'"payload":%b,"exception":' % raw


@pytest.mark.parametrize("raw", PAYLOADS.values(), ids=PAYLOADS)
def test_the_record_has_the_payloads_bytes_and_a_retry_pushes_them(
    raw: bytes, worker: Worker, resq: ResQ, redis: Redis
) -> None:
    record = fail(raw, worker, redis)

    assert spliced(raw) in record
    json.loads(record)
    shown = failure.all(resq, 0, 1)[0]
    assert (shown["queue"], shown["payload"]["class"]) == ("basic", NAME.decode())
    assert failure.retry(resq, "basic", shown["redis_value"]) == 1
    assert redis.lrange("resque:queue:basic", 0, -1) == [raw]


@pytest.mark.parametrize("raw", PAYLOADS.values(), ids=PAYLOADS)
def test_a_requeue_pushes_the_bytes_and_keeps_them_in_the_marked_record(
    raw: bytes, worker: Worker, resq: ResQ, redis: Redis
) -> None:
    record = fail(raw, worker, redis)

    assert EveryList.requeue_at(resq, 0, record)

    assert redis.lrange("resque:queue:basic", 0, -1) == [raw]
    assert only(redis).startswith(record[:-1] + b',"retried_at":"')


@pytest.mark.parametrize("raw", PAYLOADS.values(), ids=PAYLOADS)
def test_a_retry_of_all_of_a_class_pushes_the_bytes(
    raw: bytes, worker: Worker, resq: ResQ, redis: Redis
) -> None:
    fail(raw, worker, redis)

    assert failure.retry_all(resq, klass=NAME.decode()) == 1

    assert redis.lrange("resque:queue:basic", 0, -1) == [raw]


@pytest.mark.parametrize("raw", PAYLOADS.values(), ids=PAYLOADS)
def test_the_record_of_a_worker_that_died_has_the_payloads_bytes(
    raw: bytes, resq: ResQ, redis: Redis
) -> None:
    dead = "elsewhere:1:basic"
    redis.sadd("resque:workers", dead)
    resq.store.mark_in_flight(dead, "basic", "2026-11-25T00:00:00Z", raw)

    Registry(resq, dead).prune_worker(dead, CrashError("gone"))

    assert spliced(raw) in only(redis)


def test_the_record_of_a_dead_worker_of_node_has_the_payloads_bytes(
    resq: ResQ, redis: Redis
) -> None:
    raw = PAYLOADS["keys twice"]
    dead = "elsewhere:1:basic"
    redis.sadd("resque:workers", dead)
    record = b'{"run_at":"now","queue":"basic","payload":%b,"worker":"elsewhere:1"}' % raw
    redis.set(f"resque:worker:{dead}", record)

    Registry(resq, dead).prune_worker(dead, CrashError("gone"))

    assert spliced(raw) in only(redis)


@pytest.mark.parametrize(
    ("backend", "key"),
    [(MultipleBackend, "resque:failed"), (RedisMultiQueueBackend, "resque:basic_failed")],
)
def test_other_backends_keep_the_payloads_bytes(
    backend: type,
    key: str,
    worker: Worker,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(failure, "backend", backend)
    raw = PAYLOADS["spaces"]
    redis.rpush("resque:queue:basic", raw)

    worker.process()

    assert spliced(raw) in only(redis, key)


def test_the_record_of_a_delayed_job_without_a_queue_has_the_payloads_bytes(
    resq: ResQ, redis: Redis
) -> None:
    raw = b'{ "class":"no.Such", "args":[1.50] }'
    redis.rpush("resque:delayed:1000", raw)
    redis.zadd("resque:delayed_queue_schedule", {"1000": 1000})

    Scheduler(resq).handle_delayed_items()

    assert spliced(raw) in only(redis)


def test_a_job_that_a_subclass_has_changed_is_recorded_as_changed(
    worker: Worker, resq: ResQ, redis: Redis
) -> None:
    raw = b'{ "class":"tests.jobs.FailJob", "args":["secret"] }'
    redis.rpush("resque:queue:basic", raw)
    job = worker.reserve(0)
    assert job
    job._payload["args"] = ["***"]

    worker.process(job)

    assert b"secret" not in only(redis)


@pytest.mark.parametrize("raw", [b"[1]", b"\xff", b'{"class":NaN}', b'{"a":%b}' % (b"9" * 5000)])
def test_a_payload_that_cannot_be_read_becomes_a_placeholder_with_its_bytes(
    raw: bytes, worker: Worker, resq: ResQ, redis: Redis
) -> None:
    record = json.loads(fail(raw, worker, redis))

    assert base64.b64decode(record["payload"]["raw"]) == raw
    assert failure.retry(resq, "basic", only(redis)) == 1
    assert redis.lrange("resque:queue:basic", 0, -1) == [raw]


@pytest.mark.parametrize("raw", PAYLOADS.values(), ids=PAYLOADS)
def test_the_record_can_be_shown(raw: bytes, worker: Worker, resq: ResQ, redis: Redis) -> None:
    fail(raw, worker, redis)

    (row,) = Inspector(resq).failures_page(10).rows

    assert row.klass == NAME.decode()
    row.args.encode()


def test_a_record_written_with_spaces_has_its_payload_without_them(
    resq: ResQ, redis: Redis
) -> None:
    item = {"class": "A", "args": []}
    redis.rpush("resque:failed", json.dumps({"queue": "basic", "payload": item}))

    failure.retry_all(resq)

    assert redis.lrange("resque:queue:basic", 0, -1) == [b'{"class":"A","args":[]}']


class HidesPasswords(failure.RedisBackend):
    """Changes the payload where it is, as backends of applications do."""

    def save(self, resq: ResQ | None = None) -> None:
        self._payload["args"][0] = "***"
        super().save(resq)


class HidesPasswordsInRecords(failure.RedisBackend):
    def record(self, *args, **more):
        record = super().record(*args, **more)
        record["payload"]["args"][0] = "***"
        return record


@pytest.mark.parametrize("backend", [HidesPasswords, HidesPasswordsInRecords])
@pytest.mark.parametrize("several", [False, True])
def test_what_a_backend_hides_in_the_payload_is_not_recorded(
    worker, redis, monkeypatch, backend, several
):
    class Several(MultipleBackend):
        classes = [backend]

    monkeypatch.setattr(failure, "backend", Several if several else backend)

    record = fail(b'{"class":"%b","args":["secret"]}' % NAME, worker, redis)

    assert json.loads(record)["payload"]["args"] == ["***"]
