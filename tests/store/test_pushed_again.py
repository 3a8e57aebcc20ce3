"""A subclass that pushes or fetches by itself gets what its own encoder can write again."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from redis import Redis

from pyres import ResQ, failure, json_parser
from pyres.exceptions import UndecodableError
from pyres.failure.redis import RedisBackend
from pyres.scheduler import Scheduler
from pyres.worker import Worker

PAYLOADS = {
    "half a pair": b'{"class":"A","args":["\\ud800",{"\\udc00":1.50}],"queue":"q"}',
    "beyond floats": b'{"class":"A","args":[[1e400],-1E+400,"@D:2026-01-01T00:00:00"],"queue":"q"}',
    "no UTF-8": b'{"class":"A","args":["caf\xe9"],"queue":"q"}',
}


class OwnPush(ResQ):
    """Pushes through its own method, as code for pyres 1.5 does."""

    def push(self, queue: str, item: Any) -> None:
        super().push(queue, dict(item))


class OwnPop(ResQ):
    """Fetches through its own method."""

    def pop(self, queues: Any, timeout: float = 10) -> Any:
        return super().pop(queues, timeout=0)


@pytest.fixture(params=[OwnPush, ResQ])
def own(request: pytest.FixtureRequest, dsn: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(failure, "backend", RedisBackend)
    own = request.param(dsn)
    yield own
    own.close()


@pytest.mark.parametrize("raw", PAYLOADS.values(), ids=PAYLOADS)
def test_a_retry_and_a_promotion_push_the_bytes(raw: bytes, own: ResQ, redis: Redis) -> None:
    redis.rpush("resque:failed", b'{"payload":%b,"queue":"q"}' % raw)
    own.store.delayed.delay(1000, raw)
    own.enqueue_timestamp = False

    assert failure.retry_all(own) == 1
    Scheduler(own).handle_delayed_items()

    without_queue = raw.replace(b',"queue":"q"', b"")
    assert redis.lrange("resque:queue:q", 0, -1) == [raw, without_queue]


class OwnItems(Scheduler):
    """Looks at each item that is due, as code for pyres 1.5 does."""

    def next_item(self, timestamp: Any) -> Any:
        yield from super().next_item(timestamp)


@pytest.mark.parametrize("raw", PAYLOADS.values(), ids=PAYLOADS)
def test_items_that_a_subclass_of_the_scheduler_passes_on_keep_their_bytes(
    raw: bytes, own: ResQ, redis: Redis
) -> None:
    own.store.delayed.delay(1000, raw)
    own.enqueue_timestamp = False

    OwnItems(own).handle_delayed_items()

    assert redis.lrange("resque:queue:q", 0, -1) == [raw.replace(b',"queue":"q"', b"")]


@pytest.mark.parametrize("name", ["half a pair", "beyond floats"])
def test_a_job_popped_by_a_subclass_is_in_flight_and_becomes_a_failure_with_its_bytes(
    name: str, dsn: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure, "backend", RedisBackend)
    resq = OwnPop(dsn)
    redis.rpush("resque:queue:q", PAYLOADS[name])
    worker = Worker(["q"], resq)

    worker.process()

    (record,) = failure.all(resq, 0, 2)
    assert record["exception"] == "ClassNotFoundError"
    assert record["payload"] == json_parser.loads(PAYLOADS[name])
    worker._close_children()
    worker.fetcher.close()
    resq.close()


@pytest.mark.parametrize("raw", PAYLOADS.values(), ids=PAYLOADS)
def test_what_is_read_can_be_written_again(raw: bytes) -> None:
    try:
        value = json_parser.loads(raw)
    except UndecodableError:
        value = base64.b64encode(raw).decode()

    assert json_parser.loads(json_parser.encode_again(value)) == value
