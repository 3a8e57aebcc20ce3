"""Long lists and large jobs are worked through in steps that are bounded by number and by bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from pyres import ResQ, failure
from pyres.failure.everywhere import EveryList
from pyres.failure.records import FailureFilter
from pyres.failure.redis_multi_queue import RedisMultiQueueBackend
from pyres.inspector import Inspector, payload_token
from pyres.scheduler import Scheduler
from pyres.store import elements
from pyres.store.elements import PAGE, PAGE_BYTES, Removal

LATER = 2_000_000_000
KIB = 1024
MIB = 1024 * KIB

#: Sizes of elements in a list; those behind many small ones may be large.
SIZES = {
    "small": [10] * (2 * PAGE + 1),
    "300 kB": [300_000] * 10,
    "larger than a step": [3 * MIB, 5 * MIB],
    "small, then large": [20] * 300 + [400 * KIB] * 5 + [20] * 5,
    "large among small": [20, 2 * MIB, 20, 20, MIB, 20],
    "nearly two in a step": [MIB // 2] * 3 + [MIB // 2 + 1] * 3,
}


@pytest.fixture(params=SIZES)
def payloads(request: pytest.FixtureRequest) -> list[bytes]:
    """Delayed jobs of these sizes, at least, each with its number."""
    return [job(number, size) for number, size in enumerate(SIZES[request.param])]


def job(number: int, size: int = 0, klass: str = "A", queue: str = "mail") -> bytes:
    item = {"class": klass, "args": [number, "x" * size], "queue": queue}
    return json.dumps(item).encode()


def record(number: int, size: int = 0, klass: str = "A", queue: str = "mail") -> bytes:
    item = {"class": klass, "args": [number, "x" * size]}
    return json.dumps({"payload": item, "exception": "E", "error": "e", "queue": queue}).encode()


def fill(redis: Redis, key: str, values: list[bytes]) -> None:
    pipe = redis.pipeline(transaction=False)
    for value in values:
        pipe.rpush(key, value)
    pipe.execute()


def numbers(redis: Redis, key: str) -> list[int]:
    return [json.loads(raw)["args"][0] for raw in redis.lrange(key, 0, -1)]


def within_bounds(page: list[bytes]) -> bool:
    return len(page) <= PAGE and (len(page) == 1 or sum(map(len, page)) <= PAGE_BYTES)


def within_request(words: list[str]) -> bool:
    """Whether a command has no more bytes than a step may, besides names and digests."""
    large = [len(word) for word in words if len(word) > 64]
    return len(large) == 1 or sum(large) <= PAGE_BYTES + 64 * KIB


def all_within_bounds(monitor: Any) -> bool:
    return all(within_request(command.args) for command in monitor.commands)


# Reading


def test_pages_are_bounded_and_together_they_are_the_list(resq, redis, payloads):
    fill(redis, "resque:queue:mail", payloads)
    pages, start = [], 0

    while page := elements.page(resq.redis, "resque:queue:mail", start, PAGE):
        pages.append(page)
        start += len(page)

    assert all(map(within_bounds, pages))
    assert [raw for page in pages for raw in page] == payloads
    assert resq.store.queues.peek("mail", 1, len(payloads)) == payloads[1:]
    assert resq.store.queues.peek("mail", 0, -1) == payloads


def test_pages_from_the_end_are_bounded_too(redis, payloads):
    fill(redis, "list", payloads)

    pages = list(elements.pages_down(redis, "list", len(payloads)))

    assert all(within_bounds(page) for _, page in pages)
    assert [raw for _, page in reversed(pages) for raw in page] == payloads
    assert all(payloads[start] == page[0] for start, page in pages)


def test_payloads_of_many_timestamps_are_read_in_bounded_steps(resq, redis, payloads, server):
    for number, raw in enumerate(payloads[:400]):
        resq.store.delayed.delay(LATER + number // 3, raw)
    redis.set(f"resque:delayed:{LATER + 1000}", "not a list")
    redis.zadd("resque:delayed_queue_schedule", {str(LATER + 1000): LATER + 1000})

    walked = list(resq.store.delayed.walk())

    assert walked == [(LATER + n // 3, raw) for n, raw in enumerate(payloads[:400])]


# Moving


def test_a_scheduler_moves_due_jobs_in_bounded_steps(resq, redis, server, payloads):
    for raw in payloads:
        resq.store.delayed.delay(1000, raw)

    with server.monitor() as monitor:
        Scheduler(resq).handle_delayed_items()
        assert all_within_bounds(monitor)

    assert numbers(redis, "resque:queue:mail") == list(range(len(payloads)))
    assert resq.delayed_queue_schedule_size() == 0


def test_a_timestamp_is_promoted_in_bounded_steps(resq, redis, server, payloads):
    for raw in payloads:
        resq.store.delayed.delay(LATER, raw)

    with server.monitor() as monitor:
        assert resq.promote_delayed(LATER) == len(payloads)
        assert all_within_bounds(monitor)

    assert numbers(redis, "resque:queue:mail") == list(range(len(payloads)))


def test_a_queue_is_moved_in_bounded_steps(resq, redis, server, payloads):
    fill(redis, "resque:queue:mail", payloads)

    with server.monitor() as monitor:
        assert resq.move_queue("mail", "other") == len(payloads)
        steps, moved = [[]], iter(payloads)
        for command in monitor.everything:
            if command.name == "EVALSHA":
                steps.append([])
            if command.name == "LMOVE":
                steps[-1].append(next(moved))

    assert redis.lrange("resque:queue:other", 0, -1) == payloads
    assert all(map(within_bounds, filter(None, steps)))


@pytest.mark.parametrize("backend", [EveryList, RedisMultiQueueBackend])
def test_failures_are_retried_in_bounded_steps(resq, redis, server, monkeypatch, backend):
    monkeypatch.setattr(failure, "backend", backend)
    sizes = [20] * 600 + [400 * KIB] * 5 + [2 * MIB] + [20] * 5
    name = "failed" if backend is EveryList else "mail_failed"
    redis.sadd("resque:failed_queues", "mail_failed")
    fill(redis, f"resque:{name}", [record(n, size) for n, size in enumerate(sizes)])

    with server.monitor() as monitor:
        assert failure.retry_all(resq) == len(sizes)
        assert all_within_bounds(monitor)

    assert numbers(redis, "resque:queue:mail") == list(range(len(sizes)))
    assert failure.count(resq) == 0


def test_delayed_jobs_are_removed_in_bounded_steps(resq, redis, payloads):
    for raw in payloads:
        resq.store.delayed.delay(LATER, raw)

    dropped = list(resq.store.delayed.drop(LATER))

    assert all(map(within_bounds, dropped))
    assert [raw for page in dropped for raw in page] == payloads
    assert redis.keys() == []


@pytest.mark.slow
def test_a_scheduler_with_900_mb_promotes_500_jobs_of_300_kb(resq, redis, dsn):
    for number in range(500):
        resq.store.delayed.delay(1000, job(number, 300_000))
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (900_000_000,) * 2);"
        f"from pyres.scheduler import Scheduler; Scheduler({dsn!r}).handle_delayed_items()"
    )

    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)

    assert numbers(redis, "resque:queue:mail") == list(range(500))


# Long lists

COUNT = 3 * PAGE
HALF = COUNT // 2

OPERATIONS: dict[str, Callable[[ResQ], Any]] = {
    "delete a job": lambda resq: resq.delete_job("mail", job(HALF)),
    "delete no job": lambda resq: resq.delete_job("mail", b"gone"),
    "dequeue": lambda resq: resq.dequeue_from("mail", "A", HALF, ""),
    "dequeue a class": lambda resq: resq.dequeue_from("mail", "A"),
    "peek": lambda resq: resq.peek("mail", 0, -1),
    "list range": lambda resq: resq.list_range("queue:mail", 0, -1),
    "move": lambda resq: resq.move_queue("mail", "other"),
    "remove a queue": lambda resq: resq.remove_queue("mail"),
    "find a job": lambda resq: Inspector(resq).find_job("mail", payload_token(b"x" * 5000)),
    "promote a timestamp": lambda resq: resq.promote_delayed(LATER),
    "promote a job": lambda resq: resq.promote_job(LATER, job(HALF)),
    "cancel a job": lambda resq: resq.cancel_delayed(LATER, job(HALF)),
    "remove delayed": lambda resq: resq.remove_delayed("A", HALF, ""),
    "enqueue delayed": lambda resq: resq.enqueue_delayed_now("A", HALF, ""),
    "delayed at": lambda resq: resq.delayed_at("A", HALF, ""),
    "forget delayed": lambda resq: resq.reset_delayed_queue(),
    "find delayed": lambda resq: Inspector(resq).find_delayed(LATER, payload_token(b"x" * 5000)),
    "next item": lambda resq: resq.next_item_for_timestamp(LATER),
    "scheduler": lambda resq: Scheduler(resq).handle_delayed_items(),
    "retry": lambda resq: failure.retry(resq, "mail", record(HALF)),
    "delete a failure": lambda resq: failure.delete(resq, record(HALF)),
    "retry all": failure.retry_all,
    "retry a class": lambda resq: failure.retry_all(resq, klass="A"),
    "clear": failure.clear,
    "clear a class": lambda resq: failure.clear(resq, klass="A"),
    "all failures": lambda resq: failure.all(resq, 0, -1),
    "count of a class": lambda resq: failure.count(resq, klass="A"),
    "find a failure": lambda resq: Inspector(resq).find_failure(payload_token(b"x" * 5000)),
    "page of failures": lambda resq: Inspector(resq).failures_page(50, FailureFilter(klass="C")),
    "kinds of failures": lambda resq: Inspector(resq).failure_kinds(),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_operation_reads_searches_or_deletes_a_whole_list(resq, redis, server, name):
    fill(redis, "resque:queue:mail", [job(n, klass="AB"[n % 2]) for n in range(COUNT)])
    fill(redis, "resque:failed", [record(n, klass="AB"[n % 2]) for n in range(COUNT)])
    due = 1000 if name == "scheduler" else LATER
    fill(redis, f"resque:delayed:{due}", [job(n, klass="AB"[n % 2]) for n in range(COUNT)])
    redis.zadd("resque:delayed_queue_schedule", {str(due): due})

    with server.monitor() as monitor:
        OPERATIONS[name](resq)
        commands = monitor.everything

    for command in commands:
        if command.name == "LRANGE":
            start, stop = map(int, command.args[1:])
            assert 0 <= start <= stop + 1 <= start + PAGE
        if command.name == "LREM":
            # An element that was marked, from the end that is nearer.
            assert command.args[2].startswith("removed:")
        if command.name in ("DEL", "KEYS", "SORT"):
            assert not [key for key in command.args if redis.type(key) == b"list"]
            assert not any(":queue:" in key or "delayed" in key for key in command.args)


def test_what_is_deleted_in_a_long_list_is_searched_from_the_nearer_end(resq, redis, server):
    fill(redis, "resque:queue:mail", [job(n) for n in range(COUNT)])

    with server.monitor() as monitor:
        for number in (10, COUNT - 10):
            assert resq.delete_job("mail", job(number)) == 1
        counts = [command.args[1] for command in monitor.everything if command.name == "LREM"]

    assert counts == ["1", "-1"]
    assert numbers(redis, "resque:queue:mail") == [
        number for number in range(COUNT) if number not in (10, COUNT - 10)
    ]


@pytest.mark.parametrize("fetched", [1, 3, PAGE // 2])
def test_jobs_that_are_fetched_meanwhile_hide_none_that_is_deleted(resq, redis, fetched):
    fill(redis, "resque:queue:mail", [job(n, klass="AB"[n % 2]) for n in range(COUNT)])
    looked = 0

    def is_b(raw: bytes) -> bool:
        nonlocal looked
        # Between the reading of a page and the step that removes what is chosen of it.
        if looked % PAGE == 0:
            redis.lpop("resque:queue:mail", fetched)
        looked += 1
        return b'"B"' in raw

    removed = sum(number for number, _ in resq.store.queues.delete_each("mail", is_b))

    assert removed > 0
    left = {json.loads(raw)["class"] for raw in redis.lrange("resque:queue:mail", 0, -1)}
    assert left == {"A"}


def test_one_that_moved_since_it_was_found_is_found_again(resq, redis):
    values = [b"%d" % number for number in range(3 * elements.NEAR_HEAD)]
    fill(redis, "list", values)
    keys = resq.store.keys
    index = elements.find(redis, "list", b"25000", 3 * elements.NEAR_HEAD)
    assert index == 25000
    redis.lpop("list", 100)

    assert elements.remove(redis, keys, "list", index, index, [Removal(b"25000")]).number == 0
    assert elements.remove_one(redis, keys, "list", Removal(b"25000")) is True
    assert elements.remove_one(redis, keys, "list", Removal(b"25000")) is False
    assert redis.llen("list") == 3 * elements.NEAR_HEAD - 101


# One queue that is not a list


@pytest.mark.parametrize("chosen", [{}, {"klass": "A"}])
@pytest.mark.parametrize("value", ["a string", "zset"])
def test_a_failure_whose_queue_is_not_a_list_stays_and_the_others_are_retried(
    resq, redis, caplog, chosen, value
):
    if value == "zset":
        redis.zadd("resque:queue:later", {"x": 1})
    else:
        redis.set("resque:queue:later", value)
    queues = ["mail", "later", "other", "later", "mail"]
    records = [record(n, queue=queues[n % 5]) for n in range(700)]
    fill(redis, "resque:failed", records)

    assert failure.retry_all(resq, **chosen) == 420

    kept = [raw for n, raw in enumerate(records) if queues[n % 5] == "later"]
    assert redis.lrange("resque:failed", 0, -1) == kept
    assert numbers(redis, "resque:queue:mail") == [n for n in range(700) if n % 5 in (0, 4)]
    assert numbers(redis, "resque:queue:other") == list(range(2, 700, 5))
    assert caplog.text.count("resque:queue:later is a ") == 1


def test_one_failure_whose_queue_is_not_a_list_is_an_error_and_stays(resq, redis):
    redis.zadd("resque:queue:later", {"x": 1})
    redis.rpush("resque:failed", record(1, queue="later"))

    with pytest.raises(ResponseError, match="queue:later is a zset: expected a list"):
        failure.retry(resq, "later", record(1, queue="later"))

    assert redis.lrange("resque:failed", 0, -1) == [record(1, queue="later")]


# A server that is full


@pytest.fixture
def full(redis: Redis) -> Iterator[Callable[[], object]]:
    """Makes the server refuse all that needs memory."""
    yield lambda: redis.config_set("maxmemory", 1)
    redis.config_set("maxmemory", 0)


REMOVALS = {
    "a job": lambda resq: resq.delete_job("mail", job(5)),
    "jobs": lambda resq: resq.dequeue_from("mail", "B"),
    "a failure": lambda resq: failure.delete(resq, record(5)),
    "failures": lambda resq: failure.clear(resq, klass="B"),
    "a delayed job": lambda resq: resq.cancel_delayed(LATER, job(5)),
    "delayed jobs": lambda resq: resq.remove_delayed("B", 6, ""),
    "all delayed jobs": lambda resq: resq.reset_delayed_queue(),
    "all failures": lambda resq: failure.clear(resq),
    "a queue": lambda resq: resq.store.queues.remove("mail"),
}


@pytest.mark.parametrize("name", REMOVALS)
def test_a_full_server_can_still_be_emptied(resq, redis, full, name):
    kinds = ["B" if n in (6, 8) else "A" for n in range(12)]
    fill(redis, "resque:queue:mail", [job(n, klass=kind) for n, kind in enumerate(kinds)])
    fill(redis, "resque:failed", [record(n, klass=kind) for n, kind in enumerate(kinds)])
    for n, kind in enumerate(kinds):
        resq.store.delayed.delay(LATER, job(n, klass=kind))
    full()

    removed = REMOVALS[name](resq)

    lists = ["resque:queue:mail", "resque:failed", f"resque:delayed:{LATER}"]
    assert removed == sum(12 - redis.llen(key) for key in lists) > 0
