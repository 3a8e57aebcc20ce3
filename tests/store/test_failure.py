"""Failures: stored in Redis, sent by mail or both; listed, retried and deleted."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import smtplib
import socket
import threading
import traceback
import tracemalloc
from collections.abc import Iterator
from datetime import datetime
from email import message_from_bytes, policy
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from redis import Redis

from pyres import ResQ, failure
from pyres.exceptions import BadOptionError
from pyres.failure.base import BaseBackend
from pyres.failure.mail import MailBackend
from pyres.failure.multiple import MultipleBackend
from pyres.failure.records import FailureFilter
from pyres.failure.redis import BATCH, RedisBackend
from pyres.failure.redis_multi_queue import RedisMultiQueueBackend
from pyres.job import Job
from pyres.store import Removed
from pyres.store.elements import PAGE_BYTES

NOW = datetime(2026, 11, 23, 16, 1, 8)
ME = "here:1:mail"
JOB = {"class": "A", "args": ["é"], "more": {"id": 1}}


@pytest.fixture(autouse=True)
def _backend_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure, "backend", RedisBackend)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ResQ, "_current_time", staticmethod(lambda: NOW))


def raised(error: BaseException) -> BaseException:
    """The error with a traceback."""
    with contextlib.suppress(type(error)):
        raise error
    return error


def fail(resq: ResQ, number: int = 0, queue: str = "mail", klass: str = "A") -> None:
    """A failure saved by the current backend."""
    payload = {"class": klass, "args": [number]}
    failure.create(ValueError(f"no {number}"), queue, payload, ME).save(resq)


def stored(redis: Redis, name: str = "failed") -> list[Any]:
    return [json.loads(raw) for raw in redis.lrange(f"resque:{name}", 0, -1)]


def numbers(redis: Redis, name: str = "failed") -> list[int]:
    return [record["payload"]["args"][0] for record in stored(redis, name)]


def queued(redis: Redis, queue: str = "mail") -> list[int]:
    return [json.loads(raw)["args"][0] for raw in redis.lrange(f"resque:queue:{queue}", 0, -1)]


# What is recorded


@pytest.mark.usefixtures("stopped")
def test_a_record_has_resques_fields_in_resques_order(resq, redis):
    failure.create(raised(ValueError("über")), "mail", JOB, ME).save(resq)

    raw = redis.lrange("resque:failed", 0, -1)[0]
    record = json.loads(raw)
    assert list(record) == [
        "failed_at", "payload", "exception", "error", "backtrace", "worker", "queue",
    ]  # fmt: skip
    assert record["failed_at"] == NOW.astimezone().strftime("%Y/%m/%d %H:%M:%S %Z")
    assert record["payload"] == JOB
    assert (record["exception"], record["error"]) == ("ValueError", "über")
    assert (record["worker"], record["queue"]) == (ME, "mail")
    assert any("raise error" in line for line in record["backtrace"])
    assert "über".encode() in raw


def test_the_exception_passed_is_recorded_and_not_the_one_being_handled(resq, redis):
    # pyres 1.5 recorded the exception as "type", and as "NoneType" outside an except block
    given = raised(KeyError("given"))
    try:
        raise ValueError("another")
    except ValueError:
        failure.create(given, "mail", JOB).save(resq)
    failure.create(given, "mail", JOB).save(resq)

    for record in stored(redis):
        assert (record["exception"], record["error"]) == ("KeyError", "'given'")
        assert record["worker"] == ""


def test_an_exception_without_a_traceback_has_an_empty_backtrace(resq, redis):
    failure.create("only a text", "mail", JOB).save(resq)

    assert stored(redis)[0]["backtrace"] == []
    assert stored(redis)[0]["exception"] == "Exception"


def test_an_exception_whose_text_raises_is_recorded(resq, redis):
    class Mute(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise RuntimeError

    failure.create(Mute(), "mail", JOB).save(resq)

    assert stored(redis)[0]["error"] == "<Mute, whose str() raised RuntimeError>"


@pytest.mark.parametrize("text", ["\udcff", "a\ud800b"])
def test_a_text_that_is_not_unicode_is_recorded(resq, redis, text):
    failure.create(ValueError(text), "mail\udcff", {"class": text, "args": []}, text).save(resq)

    assert "?" in stored(redis)[0]["error"]
    assert stored(redis)[0]["payload"]["class"] == "<undecodable>"


def test_what_1_5_kept_of_a_failure_is_there():
    error = raised(ValueError("why"))

    failed = BaseBackend(error, "mail", JOB, ME)

    assert (failed.exception, failed._exception) == (error, ValueError)
    assert failed._traceback == "".join(traceback.format_exception(error))
    assert (failed._worker, failed._queue, failed._payload) == (ME, "mail", JOB)
    assert failed._parse_message(error) == "ValueError: why"
    assert "raise error" in "".join(failed._parse_traceback(failed._traceback))
    assert failed._parse_traceback(None) == []


def test_a_backend_without_save_is_an_error(resq):
    with pytest.raises(NotImplementedError, match="BaseBackend must implement save"):
        BaseBackend("x", "mail", JOB).save(resq)
    assert (BaseBackend.count(resq), BaseBackend.all(resq), BaseBackend.clear(resq)) == (0, [], 0)


# Reading


@pytest.mark.parametrize(
    ("start", "count", "wanted"),
    [(0, 2, [0, 1]), (2, 2, [2, 3]), (4, 20, [4]), (9, 2, []), (0, 0, []), (3, -1, [3, 4])],
)
def test_a_page_has_n_records_from_an_index(resq, start, count, wanted):
    # pyres 1.5 used count as the last index
    for number in range(5):
        fail(resq, number)

    found = failure.all(resq, start, count)

    assert [record["payload"]["args"][0] for record in found] == wanted


def test_a_record_is_returned_with_its_bytes_as_text(resq, redis):
    # pyres 1.5's redis_value was bytes, which broke the JSON of a page
    fail(resq)

    value = failure.all(resq, 0, 1)[0]["redis_value"]

    assert isinstance(value, str)
    assert base64.b64decode(value) == redis.lindex("resque:failed", 0)
    json.dumps(failure.all(resq, 0, 1))


def test_count_all_and_clear_are_narrowed_by_queue_and_class(resq, redis):
    for number, (queue, klass) in enumerate([("a", "X"), ("b", "X"), ("a", "Y"), ("a", "X")]):
        fail(resq, number, queue, klass)

    def shown(**chosen: str) -> list[int]:
        return [record["payload"]["args"][0] for record in failure.all(resq, 0, 9, **chosen)]

    assert failure.count(resq) == 4
    assert failure.count(resq, queue="a") == failure.count(resq, klass="X") == 3
    assert failure.count(resq, queue="a", klass="X") == 2
    assert (shown(queue="a"), shown(klass="X")) == ([0, 2, 3], [0, 1, 3])
    assert failure.all(resq, 1, 1, queue="a", klass="X")[0]["payload"]["args"] == [3]
    assert failure.clear(resq, queue="a", klass="X") == 2
    assert numbers(redis) == [1, 2]
    assert failure.clear(resq) == 2
    assert redis.keys() == []
    assert failure.clear(resq) == 0


RUBYS = (
    b'{"failed_at":"2026/11/23 11:03:49 EST","payload":{"class":"A::B","args":[1.0e+20]},'
    b'"exception":"Resque::DirtyExit","error":"Child process received unhandled signal",'
    b'"backtrace":[],"worker":"vm:1:mail","queue":"mail","retried_at":"2026/11/23 11:04:00 EST"}'
)
NODES = (
    b'{"worker":"vm:1","queue":"mail","payload":{"class":"add","queue":"mail","args":[1,2]},'
    b'"exception":"Error","error":"no","backtrace":["at f"],'
    b'"failed_at":"Mon Nov 23 2026 16:03:49 GMT+0000"}'
)
OLD = (
    b'{"failed_at": "2026/11/23 16:03:49", "payload": {"class": "a.B", "args": []}, '
    b'"exception": "type", "error": "type: x", "backtrace": null, "queue": "mail"}'
)
GARBAGE = [b"\xff\x00", b"not json", b"[1]", b"null", b"", b"7", b'{"payload":null}', b"{}"]


@pytest.mark.parametrize("raw", [RUBYS, NODES, OLD, *GARBAGE])
def test_any_element_of_the_list_is_shown_and_can_be_deleted(resq, redis, raw):
    redis.rpush("resque:failed", raw)
    fail(resq)

    record, mine = failure.all(resq, 0, 2)

    assert set(mine) <= set(record)
    assert base64.b64decode(record["redis_value"]) == raw
    assert failure.count(resq, klass="A") == 1
    assert failure.delete(resq, record["redis_value"]) == 1
    assert numbers(redis) == [0]


@pytest.mark.parametrize(
    ("raw", "payload"),
    [
        (RUBYS, b'{"class":"A::B","args":[1.0e+20]}'),
        (NODES, b'{"class":"add","queue":"mail","args":[1,2]}'),
        (OLD, b'{"class":"a.B","args":[]}'),
    ],
)
@pytest.mark.parametrize("how", ["one", "all"])
def test_a_record_of_another_program_is_retried_with_its_own_payload(
    resq, redis, raw, payload, how
):
    redis.rpush("resque:failed", raw)

    if how == "one":
        moved = failure.retry(resq, "mail", raw)
    else:
        moved = failure.retry_all(resq, retried=None)

    assert moved == 1
    assert redis.lrange("resque:queue:mail", 0, -1) == [payload]
    assert redis.keys("resque:failed") == []


def test_a_malformed_payload_is_pushed_again_byte_for_byte(resq, redis):
    Job.read("mail", b"\xff\x00{", resq).fail(ValueError("malformed"))

    assert failure.retry_all(resq) == 1

    assert redis.lrange("resque:queue:mail", 0, -1) == [b"\xff\x00{"]


# Retrying and deleting


@pytest.mark.parametrize("form", ["raw", "text", "redis_value"])
def test_a_retry_moves_the_payload_and_removes_the_record(resq, redis, form):
    # pyres 1.5: LREM failed after the push, and each click duplicated the job
    failure.create(ValueError("no"), "mail", JOB, ME).save(resq)
    raw = redis.lindex("resque:failed", 0)
    record = {"raw": raw, "text": raw.decode(), "redis_value": base64.b64encode(raw).decode()}[form]

    assert failure.retry(resq, "other", record) == 1

    assert redis.lrange("resque:queue:other", 0, -1) == [
        '{"class":"A","args":["é"],"more":{"id":1}}'.encode()
    ]
    assert redis.smembers("resque:queues") == {b"other"}
    assert not redis.exists("resque:failed")


def test_a_record_that_begins_with_white_space_is_retried_by_its_bytes(resq, redis):
    raw = b' {"queue":"mail","payload":{"class":"A","args":[]}}'
    redis.rpush("resque:failed", raw)

    assert failure.retry(resq, "mail", raw) == 1

    assert redis.lrange("resque:queue:mail", 0, -1) == [b'{"class":"A","args":[]}']


def test_a_record_that_was_removed_is_not_pushed(resq, redis):
    # pyres 1.5 pushed it nevertheless
    fail(resq)
    raw = redis.lindex("resque:failed", 0)
    assert failure.delete(resq, raw) == 1

    assert failure.retry(resq, "mail", raw) == 0
    assert failure.delete(resq, raw) == 0

    assert redis.keys() == []


def test_a_record_that_two_retry_at_once_is_pushed_once(server, resq, redis):
    for number in range(50):
        fail(resq, number)
    raws = redis.lrange("resque:failed", 0, -1)
    ready = threading.Barrier(2)
    moved: list[int] = []

    def retry() -> None:
        operator = ResQ(server.dsn)
        ready.wait(60)
        moved.extend(failure.retry(operator, "mail", raw) for raw in raws)
        operator.close()

    threads = [threading.Thread(target=retry) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sum(moved) == 50
    assert sorted(queued(redis)) == list(range(50))


def test_removal_is_by_exact_value_and_of_one_record(resq, redis):
    redis.rpush("resque:failed", b'{"queue":"a"}', b'{"queue": "a"}', b'{"queue":"a"}')

    assert failure.delete(resq, b'{"queue":"a"}') == 1

    assert redis.lrange("resque:failed", 0, -1) == [b'{"queue": "a"}', b'{"queue":"a"}']


@pytest.mark.parametrize("record", ["no base64!", b"\xff", "[1]"])
def test_a_malformed_record_is_an_error_that_shows_it(resq, record):
    with pytest.raises(BadOptionError, match="invalid failure record .*: expected its bytes"):
        failure.delete(resq, record)


def test_requeue_pushes_the_payload_of_a_failure_object(resq, redis):
    failure.requeue(resq, failure.create("no", "mail", JOB))

    assert len(redis.lrange("resque:queue:mail", 0, -1)) == 1
    assert not redis.exists("resque:failed")


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize(
    ("backend", "name", "stamp"),
    [
        (RedisBackend, "failed", NOW.astimezone().strftime("2026/11/23 16:01:08 %Z")),
        (RedisMultiQueueBackend, "mail_failed", "2026/11/23 16:01:08"),
    ],
)
def test_resques_requeue_marks_the_record_if_it_is_still_there(
    resq, redis, monkeypatch, backend, name, stamp
):
    monkeypatch.setattr(failure, "backend", backend)
    for number in range(2):
        fail(resq, number)
    first, second = redis.lrange(f"resque:{name}", 0, -1)

    assert backend.requeue_at(resq, 0, second, name) is False
    assert backend.requeue_at(resq, 1, second, name) is True
    assert backend.requeue_at(resq, 1, second, name) is False

    assert queued(redis) == [1]
    assert redis.lindex(f"resque:{name}", 0) == first
    marked = stored(redis, name)[1]
    assert list(marked)[-1] == "retried_at"
    assert marked.pop("retried_at") == stamp
    assert marked == json.loads(second)


def test_retrying_all_works_in_batches_and_reports_its_progress(resq, redis, server):
    for number in range(2 * BATCH + 1):
        fail(resq, number)
    counts: list[int] = []

    with server.monitor() as monitor:
        assert failure.retry_all(resq, progress=counts.append) == 2 * BATCH + 1
        # Each page is read, and then removed.
        assert monitor.names.count("EVALSHA") == 6

    assert counts == [BATCH, 2 * BATCH, 2 * BATCH + 1]
    assert queued(redis) == list(range(2 * BATCH + 1))
    assert not redis.exists("resque:failed")


@pytest.mark.parametrize("backend", [RedisBackend, RedisMultiQueueBackend])
def test_retrying_all_of_a_queue_or_class_leaves_the_others(resq, redis, monkeypatch, backend):
    monkeypatch.setattr(failure, "backend", backend)
    for number in range(3 * BATCH):
        fail(resq, number, "ab"[number % 2], "XYZ"[number % 3])

    assert failure.retry_all(resq, queue="a", klass="X") == BATCH // 2
    assert failure.retry_all(resq, klass="Y") == BATCH
    assert failure.retry_all(resq, queue="b") == BATCH

    assert queued(redis, "a") == [
        *range(0, 3 * BATCH, 6),
        *(n for n in range(0, 3 * BATCH, 2) if n % 3 == 1),
    ]
    assert failure.count(resq) == failure.count(resq, queue="a", klass="Z") == BATCH // 2


def test_records_that_cannot_be_retried_stay_and_do_not_stop_others(resq, redis):
    odd = [
        *GARBAGE,
        b'{"queue":7,"payload":{}}',
        b'{"queue":["a"],"payload":{}}',
        b'{"queue":"\\ud800","payload":{}}',
        b'{"queue":"a","payload":{"class":"<undecodable>","raw":"not base64!"}}',
        b'{"queue":"a","payload":{"args":[NaN]}}',
    ]
    for raw in odd:
        redis.rpush("resque:failed", raw)
        fail(resq)

    assert failure.retry_all(resq) == len(odd)

    assert redis.lrange("resque:failed", 0, -1) == odd
    assert len(queued(redis)) == len(odd)


MARKED = [
    b'{"payload":{"class":"A","args":[]},"queue":"mail","retried_at":"2026/11/23 16:05:00"}',
    b'{"payload":{"class":"A","args":[]},"queue":"mail","retried\\u005fat":"2026/11/23 16:05:00"}',
]


@pytest.mark.parametrize("chosen", [{}, {"queue": "mail"}, {"klass": "A"}])
def test_a_failure_that_a_requeue_has_marked_is_not_retried_with_all(resq, redis, chosen):
    redis.rpush("resque:failed", *MARKED)
    fail(resq)
    redis.rpush("resque:failed", b'{"payload":{"class":"A","args":["retried_at"]},"queue":"mail"}')

    assert failure.retry_all(resq, **chosen) == 2

    assert redis.lrange("resque:failed", 0, -1) == MARKED
    assert failure.retry_all(resq, retried=True) == 2


def test_failures_recorded_while_all_are_retried_are_not_retried(resq, redis):
    for number in range(BATCH + 1):
        fail(resq, number)

    moved = failure.retry_all(resq, progress=lambda done: fail(resq, 10_000 + done))

    assert moved == BATCH + 1
    assert numbers(redis) == [10_000 + BATCH, 10_000 + BATCH + 1]


def test_records_that_another_operator_removes_make_no_record_skipped(resq, redis, monkeypatch):
    for number in range(3 * BATCH):
        fail(resq, number)
    remove_many = type(resq.store.failed).remove_many
    others: list[int] = []

    def second_to_come(self: Any, start: int, last: int, removals: Any, name: str) -> Removed:
        if not others:
            others.append(remove_many(self, start, last, removals, name).number)
        return remove_many(self, start, last, removals, name)

    monkeypatch.setattr(type(resq.store.failed), "remove_many", second_to_come)

    assert failure.retry_all(resq) == 2 * BATCH
    assert others == [BATCH]
    assert sorted(queued(redis)) == list(range(3 * BATCH))


def test_no_record_is_skipped_when_others_before_it_are_removed_meanwhile(resq, redis):
    """Otherwise as many records as the other one removed would be skipped."""
    for number in range(3 * BATCH):
        fail(resq, number, klass="XY"[number % 2])

    def another(_done: int) -> None:
        redis.lpop("resque:failed", 3)

    failure.retry_all(resq, klass="Y", progress=another)

    assert failure.count(resq, klass="Y") == 0


@pytest.mark.parametrize(
    ("chosen", "meant"),
    [
        ({"queue": "b"}, [1]),
        ({"klass": "Inner"}, [2]),
        ({"klass": "ActiveJob::JobWrapper"}, [2]),
        ({"klass": "<no job>"}, [4]),
        ({"exception": "IOError"}, [1]),
        ({"exception": "UndecodableError"}, [3]),
        ({"text": "caf\u00e9"}, [0]),
        ({"text": "disk <full>"}, [1]),
        ({"text": "failure record"}, [3]),
        ({"retried": True}, [2]),
        ({"retried": False, "klass": "A"}, [0, 1]),
        ({}, [0, 1, 2, 3, 4]),
    ],
)
def test_a_filter_selects_what_its_fields_say(chosen, meant):
    wrapped = {"class": "ActiveJob::JobWrapper", "args": [{"job_class": "Inner"}]}
    records = [
        json.dumps({"payload": {"class": "A"}, "error": "caf\u00e9"}).encode(),
        rb'{"queue":"b","payload":{"class":"A"},"exception":"IOError","error":"disk \u003cfull>"}',
        json.dumps({"payload": wrapped, "retried_at": "2026/11/23 01:02:03"}).encode(),
        b"[1]",
        b'{"payload":7}',
    ]

    found = [at for at, raw in enumerate(records) if FailureFilter(**chosen).matches(raw)]

    assert found == meant


def test_a_record_larger_than_a_page_is_retried_alone(resq):
    record = '{"queue":"mail","payload":{"class":"A","args":[%d,"%s"]}}'
    counts: list[int] = []
    for number in range(5):
        resq.redis.rpush("resque:failed", record % (number, "x" * PAGE_BYTES))

    assert failure.retry_all(resq, progress=counts.append) == 5

    assert counts == [1, 2, 3, 4, 5]


@pytest.mark.slow
def test_a_hundred_thousand_records_are_retried_without_keeping_them_in_memory(resq, redis):
    record = b'{"payload":{"class":"A","args":[%d,"%b"]},"queue":"mail"}'
    for start in range(0, 100_000, 10_000):
        redis.rpush(
            "resque:failed", *(record % (n, b"x" * 200) for n in range(start, start + 10_000))
        )
    counts: list[int] = []
    most = 0

    def progress(done: int) -> None:
        nonlocal most
        counts.append(done)
        # Only now and then: it is on while a few batches run, since it makes everything slow.
        if len(counts) == 100:
            tracemalloc.start()
        if len(counts) == 104:
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()

    assert failure.retry_all(resq, progress=progress) == 100_000

    assert counts == [*range(BATCH, 100_001, BATCH)]
    # All of them would be thirty megabytes as bytes alone.
    assert most < 8_000_000
    assert redis.llen("resque:queue:mail") == 100_000
    assert json.loads(redis.lindex("resque:queue:mail", -1))["args"][0] == 99_999
    assert not redis.exists("resque:failed")


# A list for each queue


@pytest.fixture
def multi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure, "backend", RedisMultiQueueBackend)


@pytest.mark.usefixtures("multi")
def test_each_queue_has_its_own_list_and_failed_queues_names_them(resq, redis):
    fail(resq, 1, "a")
    fail(resq, 2, "b:c")

    assert redis.smembers("resque:failed_queues") == {b"a_failed", b"b:c_failed"}
    assert numbers(redis, "a_failed") == [1]
    assert numbers(redis, "b:c_failed") == [2]
    assert not redis.exists("resque:failed")


@pytest.mark.usefixtures("multi")
def test_the_lists_are_read_as_one_or_each_for_itself(resq, redis):
    for number, queue in enumerate("ababb"):
        fail(resq, number, queue, "XY"[number // 3])

    def shown(start: int, count: int, **chosen: str) -> list[int]:
        return [r["payload"]["args"][0] for r in failure.all(resq, start, count, **chosen)]

    assert shown(0, 9) == [0, 2, 1, 3, 4]
    assert shown(1, 3) == [2, 1, 3]
    assert shown(4, 3) == [4]
    assert shown(0, 9, queue="b") == [1, 3, 4]
    assert shown(0, 9, queue="b", klass="Y") == [3, 4]
    assert shown(0, 9, klass="X") == [0, 2, 1]
    assert failure.count(resq) == 5
    assert failure.count(resq, queue="b") == 3
    assert failure.count(resq, klass="Y") == 2
    assert failure.clear(resq, queue="b", klass="Y") == 2
    assert failure.clear(resq, queue="a") == 2
    assert failure.clear(resq) == 1
    assert redis.smembers("resque:failed_queues") == {b"a_failed", b"b_failed"}


@pytest.mark.usefixtures("multi")
def test_a_record_is_found_in_the_list_of_its_queue(resq, redis):
    fail(resq, 1, "a")
    fail(resq, 2, "b")
    first, second = (record["redis_value"] for record in failure.all(resq, 0, 2))

    assert failure.retry(resq, "b", second) == 1
    assert failure.delete(resq, first) == 1

    assert queued(redis, "b") == [2]
    assert failure.count(resq) == 0


# Several at once


class KeepingBackend(BaseBackend):
    kept: list[Any] = []

    def save(self, resq: ResQ | None = None) -> None:
        self.kept.append((self._exception, self._queue, self._payload, self._worker))


class BrokenBackend(BaseBackend):
    def save(self, resq: ResQ | None = None) -> None:
        raise OSError("it is broken")


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> type[MultipleBackend]:
    class Several(MultipleBackend):
        classes = [RedisBackend, KeepingBackend]

    KeepingBackend.kept.clear()
    monkeypatch.setattr(failure, "backend", Several)
    return Several


def test_a_failure_is_saved_by_all_and_read_from_the_first(resq, redis, several):
    # pyres 1.5: map() is lazy, so nothing was saved; and the classes were those of the subclass
    error = ValueError("no")

    failure.create(error, "mail", JOB, ME).save(resq)

    assert KeepingBackend.kept == [(ValueError, "mail", JOB, ME)]
    assert len(stored(redis)) == 1
    assert failure.count(resq) == 1
    assert failure.count(resq, queue="other") == 0
    record = failure.all(resq, start=0, count=1)[0]
    assert failure.retry(resq, "mail", record["redis_value"]) == 1
    fail(resq)
    assert failure.retry_all(resq) == 1
    fail(resq)
    assert failure.clear(resq) == 1


def test_one_that_raises_does_not_stop_the_others(resq, redis, several, caplog):
    several.classes = [BrokenBackend, RedisBackend]

    with caplog.at_level(logging.ERROR, "pyres"):
        fail(resq)

    assert len(stored(redis)) == 1
    assert "BrokenBackend could not save a failure of queue mail" in caplog.text


def test_only_when_all_raise_is_it_an_error(resq, several):
    several.classes = [BrokenBackend, BrokenBackend]

    with pytest.raises(OSError, match="it is broken"):
        fail(resq)


def test_several_without_classes_reads_resques_own_list(resq, several):
    # pyres 1.5 raised IndexError
    several.classes = []

    fail(resq)

    assert (failure.count(resq), failure.all(resq, 0, 1), failure.clear(resq)) == (0, [], 0)


def test_retry_uses_resques_list_if_the_current_backend_has_none(resq, redis, monkeypatch):
    fail(resq)
    monkeypatch.setattr(failure, "backend", KeepingBackend)

    assert failure.retry_all(resq) == 1
    assert queued(redis) == [0]


# Mail


class Letters:
    """The messages that a mail server has received."""

    port: int

    def __init__(self) -> None:
        self.envelopes: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.envelopes.append(envelope)
        return "250 OK"


@pytest.fixture
def letters() -> Iterator[Letters]:
    letters = Letters()
    controller = Controller(letters, hostname="127.0.0.1", port=0)
    # The controller checks the server at the port that it was passed: so not port 0.
    with socket.create_server(("127.0.0.1", 0)) as probe:
        controller.port = probe.getsockname()[1]
    controller.start()
    letters.port = controller.port
    yield letters
    controller.stop()


@pytest.fixture
def mailing(letters: Letters) -> type[MailBackend]:
    class Mailing(MailBackend):
        subject = "{exception} on {queue} in {worker}"
        recipients = ["ops@example.org", "dev@example.org"]
        from_user = "pyres@example.org"
        smtp_host = "127.0.0.1"
        smtp_port = letters.port

    return Mailing


def test_a_failure_is_sent_as_a_mail(resq, redis, letters, mailing):
    # pyres 1.5's module could not be imported
    mailing(raised(ValueError("über")), "mail", JOB, ME).save(resq)

    (envelope,) = letters.envelopes
    assert envelope.mail_from == "pyres@example.org"
    assert envelope.rcpt_tos == ["ops@example.org", "dev@example.org"]
    mail = message_from_bytes(envelope.content, policy=policy.default)
    assert mail["Subject"] == f"ValueError on mail in {ME}"
    assert mail["To"] == "ops@example.org, dev@example.org"
    text = mail.get_content()
    assert "Queue: mail" in text
    assert '"args":["é"]' in text
    assert "raise error" in text
    assert text.rstrip().endswith("ValueError: über")
    assert redis.keys() == []


def test_the_subject_stays_one_line_whatever_is_in_it(mailing):
    failed = mailing(ValueError(), "a\nBcc: evil@example.org", JOB)

    assert failed.format_subject() == "ValueError on a Bcc: evil@example.org in"
    assert failed.create_message()["Bcc"] is None


@pytest.mark.parametrize("missing", ["recipients", "from_user", "smtp_host"])
def test_without_a_host_or_address_nothing_is_sent(resq, letters, mailing, missing):
    setattr(mailing, missing, None)

    mailing("x", "mail", JOB).save(resq)

    assert letters.envelopes == []


@pytest.mark.parametrize("name", ["b\udcff", "é"])
def test_a_mail_is_sent_for_a_queue_of_any_name(resq, letters, mailing, name):
    mailing("x", name, JOB, f"here:1:{name}").save(resq)

    assert len(letters.envelopes) == 1


def test_an_unreachable_mail_host_loses_the_mail_but_not_the_record(
    resq, redis, several, mailing, caplog
):
    # pyres 1.5's worker hung, and the record was lost
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mailing.smtp_port = silent.getsockname()[1]
        mailing.smtp_timeout = 0.05
        several.classes = [RedisBackend, mailing]

        with caplog.at_level(logging.ERROR, "pyres"):
            fail(resq)

    assert len(stored(redis)) == 1
    assert "Mailing could not save a failure of queue mail" in caplog.text


def test_a_mail_host_that_refuses_is_an_error(resq, mailing):
    mailing.smtp_user, mailing.smtp_password = "me", "secret"

    with pytest.raises(smtplib.SMTPException, match="AUTH"):
        mailing("x", "mail", JOB).save(resq)


def test_the_mail_host_has_a_timeout_of_its_own():
    # pyres 1.5's worker hung
    assert 0 < MailBackend.smtp_timeout <= 30
