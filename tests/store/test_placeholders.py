"""Payloads that JSON or Ruby cannot represent are shown, retried and delayed byte for byte."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any

import pytest
from redis import Redis

from pyres import ResQ, failure
from pyres.exceptions import CrashError, UndecodableError
from pyres.failure.everywhere import EveryList
from pyres.inspector import Inspector
from pyres.registry import Registry
from pyres.scheduler import Scheduler
from pyres.worker import Worker

NAME = b"tests.jobs.FailJob"
DEEP = b'{"a":' * 450 + b"[" * 450 + b"]" * 450 + b"}" * 450

#: What Ruby cannot read or write again, or refuses: its "retry all" would stop at a record of it.
NOT_FOR_RUBY = {
    "half a pair": b'{"class":"%b","args":["cut \\ud83d"]}' % NAME,
    "half a pair as a key": b'{"class":"%b","args":[{"\\udc00":1}]}' % NAME,
    "beyond floats": b'{"class":"%b","args":[1e400,-1E+400]}' % NAME,
    "97 deep": b'{"class":"%b","args":%b}' % (NAME, b"[" * 97 + b"]" * 97),
    "900 deep": b'{"class":"%b","args":[%b]}' % (NAME, DEEP),
    "100,000 deep": b'{"class":"%b","args":%b}' % (NAME, b"[" * 100_000 + b"]" * 100_000),
    "no UTF-8": b'{"class":"%b","args":["caf\xe9"]}' % NAME,
    "no class": b'{"args":[1.50]}',
    "class null": b'{ "class":null,"args":[] }',
    "class empty": b'{"class":"","args":[]}',
    "a list": b"[1]",
    "null": b"null",
}

#: Payloads in records of other programs, each with the class that is shown.
OTHERS = {
    "no UTF-8": (b'{"class":"RJ::Boom","args":["caf\xe9"]}', "RJ::Boom"),
    "100,000 deep": (NOT_FOR_RUBY["100,000 deep"], "<undecodable>"),
    "args null": (b'{"class":"RJ::Boom","args":null}', "RJ::Boom"),
    "half a pair": (b'{"class":"RJ::Boom","args":["\\ud800"],"x":1.50}', "RJ::Boom"),
}

RECORD = (
    b'{"failed_at":"2026/11/25 00:21:43 UTC","payload":%b,"exception":"E",'
    b'"error":"n\xe9","backtrace":[],"worker":"h:1:rq","queue":"rq"}'
)


class Null:
    """Keeps what it was performed with."""

    queue = "nulls"
    performed: list[Any] = []

    @classmethod
    def perform(cls, *args: Any) -> None:
        cls.performed.append(args)


class Retried:
    """Fails, and is tried again at once or later."""

    queue = "basic"
    retry_limit = 2
    retry_delay = 0

    @staticmethod
    def perform(*args: Any) -> None:
        raise ValueError("its own error")


class RetriedLater(Retried):
    retry_delay = 60


@pytest.fixture(autouse=True)
def own_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure, "backend", failure.RedisBackend)
    monkeypatch.setattr(Null, "performed", [])


def perform(raw: bytes, worker: Worker, redis: Redis) -> None:
    redis.rpush("resque:queue:basic", raw)
    worker.process()


def only(redis: Redis, key: str = "resque:failed") -> bytes:
    (element,) = redis.lrange(key, 0, -1)
    return element


def requeue_by_ruby(redis: Redis) -> None:
    """Resque::Failure.requeue_all, with what stops Ruby's JSON or Job.create."""
    record = only(redis)
    item = json.loads(record)
    json.dumps(item, allow_nan=False, ensure_ascii=False).encode()
    assert depth(item) <= 100
    assert str(item["payload"]["class"] or "")
    job = {"class": item["payload"]["class"], "args": item["payload"]["args"]}
    redis.lset("resque:failed", 0, json.dumps(item | {"retried_at": "2026/11/25 00:21:43 UTC"}))
    redis.rpush("resque:queue:basic", json.dumps(job, ensure_ascii=False))


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth, inner), default=0) if isinstance(value, list | dict) else 0


@pytest.mark.parametrize("raw", NOT_FOR_RUBY.values(), ids=NOT_FOR_RUBY)
def test_a_payload_that_ruby_cannot_requeue_survives_its_requeue(
    raw: bytes, worker: Worker, resq: ResQ, redis: Redis
) -> None:
    perform(raw, worker, redis)
    for _ in range(2):
        requeue_by_ruby(redis)
        redis.delete("resque:failed")
        worker.process()

    (row,) = Inspector(resq).failures_page(10).rows
    assert row.klass == (NAME.decode() if NAME in raw and b"[" * 999 not in raw else row.klass)
    assert failure.retry(resq, "basic", only(redis)) == 1
    assert redis.lrange("resque:queue:basic", 0, -1) == [raw]


@pytest.mark.parametrize("raw", NOT_FOR_RUBY.values(), ids=NOT_FOR_RUBY)
def test_the_record_of_a_dead_worker_has_the_bytes_and_the_queue(
    raw: bytes, resq: ResQ, redis: Redis
) -> None:
    dead = "elsewhere:1:basic"
    redis.sadd("resque:workers", dead)
    resq.store.mark_in_flight(dead, "basic", "2026-11-25T00:00:00Z", raw)
    (row,) = Inspector(resq).workers()

    Registry(resq, dead).prune_worker(dead, CrashError("gone"))

    assert row.queue == "basic"
    assert failure.retry_all(resq) == 1
    assert redis.lrange("resque:queue:basic", 0, -1) == [raw]


@pytest.mark.parametrize(("raw", "shown"), OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("how", ["one", "all", "marked"])
def test_a_record_of_another_program_is_shown_and_retried_with_the_payloads_bytes(
    raw: bytes, shown: str, how: str, resq: ResQ, redis: Redis
) -> None:
    redis.rpush("resque:failed", RECORD % raw)

    (record,) = failure.all(resq, 0, 2)
    (row,) = Inspector(resq).failures_page(10).rows
    assert (row.queue, row.klass, row.exception) == ("rq", shown, "E")
    assert (row.failed_at, record["queue"]) == (1795566103.0, "rq")
    if how == "one":
        assert failure.retry(resq, "rq", record["redis_value"]) == 1
    elif how == "all":
        assert failure.retry_all(resq, queue="rq", klass=shown) == 1
    else:
        assert EveryList.requeue_at(resq, 0, RECORD % raw)
        assert only(redis).startswith((RECORD % raw)[:-1] + b',"retried_at":"')

    assert redis.lrange("resque:queue:rq", 0, -1) == [raw]


@pytest.mark.parametrize("raw", [b"not json", b"[1]", b"7", b'{"queue":"q"}', b"\xff", b"{}"])
def test_a_malformed_failure_record_is_not_pushed(raw: bytes, resq: ResQ, redis: Redis) -> None:
    redis.rpush("resque:failed", raw)
    (record,) = failure.all(resq, 0, 1)

    with pytest.raises(UndecodableError, match="invalid failure record .* with a payload"):
        failure.retry(resq, "q", record["redis_value"])
    assert failure.retry_all(resq) == 0

    assert redis.lrange("resque:failed", 0, -1) == [raw]
    assert not redis.exists("resque:queue:q")


@pytest.mark.parametrize("raw", [b"not json", b'{"class":"A","args":["\xe9"]}', b"[" * 100_000])
def test_an_orphaned_in_flight_record_is_found_whatever_its_payload(
    raw: bytes, resq: ResQ, redis: Redis
) -> None:
    resq.store.mark_in_flight("elsewhere:1:basic", "basic", "2026-11-25T00:00:00Z", raw)

    pruned = Registry(resq, "here:1:basic").prune(sweep=True)

    assert pruned == ["elsewhere:1:basic"]
    (record,) = failure.all(resq, 0, 1)
    assert base64.b64decode(record["payload"]["raw"]) == raw


@pytest.mark.parametrize(
    "args",
    [b'["cut \\ud83d"]', b"[1e400]", b"[1.50,{ }]", b"null", b'[{"\\udc00":["\\/"]}]'],
)
@pytest.mark.parametrize("klass", [Retried, RetriedLater])
def test_a_job_is_delayed_with_the_bytes_of_its_arguments(
    args: bytes, klass: type, worker: Worker, resq: ResQ, redis: Redis
) -> None:
    name = f"{__name__}.{klass.__name__}".encode()
    perform(b'{"class":"%b", "x":1.50, "args":%b}' % (name, args), worker, redis)

    if klass is RetriedLater:
        (timestamp,) = resq.delayed_queue_peek(0, 2)
        assert resq.promote_delayed(timestamp) == 1
    first = only(redis, "resque:queue:basic")
    assert b'"class":"%b","args":%b,' % (name, args) in first and b'"x":1.50' in first
    worker.process()
    if klass is RetriedLater:
        (timestamp,) = resq.delayed_queue_peek(0, 2)
        assert resq.promote_delayed(timestamp) == 1
    worker.process()

    (record,) = failure.all(resq, 0, 2)
    assert (record["error"].split(" (")[0], record["exception"]) == ("its own error", "ValueError")


def test_null_in_the_place_of_the_arguments_performs_without_any(
    worker: Worker, redis: Redis
) -> None:
    for args in (b',"args":null', b"", b',"args":[]'):
        perform(b'{"class":"%b.Null"%b}' % (__name__.encode(), args), worker, redis)

    assert Null.performed == [(), (), ()]
    assert not redis.exists("resque:failed")


def test_a_delayed_job_without_a_queue_is_moved_to_that_of_its_class(
    resq: ResQ, redis: Redis
) -> None:
    name = f"{__name__}.Null".encode()
    asks = (b'{"class":"%b","args":[1]}', b'{"class":"%b","args":[2],"queue":null}')
    for raw in (*(one % name for one in asks), b'{"class":"no.Such","args":[]}'):
        resq.store.delayed.delay(1000, raw)

    Scheduler(resq).handle_delayed_items()

    found = [json.loads(raw)["args"] for raw in redis.lrange("resque:queue:nulls", 0, -1)]
    assert found == [[1], [2]]
    (record,) = failure.all(resq, 0, 2)
    assert (record["payload"]["class"], record["queue"]) == ("no.Such", "")


def test_a_failure_without_a_queue_is_retried_on_that_of_its_class(
    resq: ResQ, redis: Redis
) -> None:
    raw = b'{"class":"%b.Null","args":[]}' % __name__.encode()
    redis.rpush("resque:failed", b'{"payload":%b,"queue":""}' % raw)

    assert failure.retry_all(resq) == 1

    assert redis.lrange("resque:queue:nulls", 0, -1) == [raw]


def nested(levels: int) -> list[Any]:
    """Arguments with N levels, their own list included; lists and objects in turn."""
    value: Any = []
    for level in range(levels - 2):
        value = {"a": value} if level % 2 else (value,)
    return [value]


def test_what_enqueue_accepts_as_deep_can_be_performed(worker: Worker, redis: Redis) -> None:
    args = nested(96)
    worker.resq.enqueue_to("basic", Null, *args)

    worker.process()

    assert [depth([*args]) for args in Null.performed] == [96]


@pytest.mark.parametrize(
    "enqueue",
    [
        lambda resq: resq.enqueue(Null, *nested(97)),
        lambda resq: resq.enqueue_to("q", "A::B", *nested(97)),
        lambda resq: resq.enqueue_from_string("A::B", "q", *nested(97)),
        lambda resq: resq.enqueue_many([(Null, 1), (Null, *nested(97))]),
        lambda resq: resq.enqueue_at(datetime(2030, 1, 1), Null, *nested(97)),
        lambda resq: resq.enqueue_in(60, Null, *nested(97)),
        lambda resq: resq.enqueue_at_from_string(datetime(2030, 1, 1), "A", "q", *nested(97)),
        lambda resq: resq.set_schedule("s", {"every": "1h", "class": "A", "args": nested(97)}),
    ],
)
def test_arguments_that_are_nested_too_deep_are_refused_with_their_place(
    enqueue: Any, resq: ResQ, redis: Redis
) -> None:
    with pytest.raises(ValueError, match=r"args\[0\]\[0\]\['a'\].*… is nested deeper than 96"):
        enqueue(resq)

    assert not list(redis.scan_iter())
