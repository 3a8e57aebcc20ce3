"""Jobs of Rails' ActiveJob: performed here, and enqueued for Rails."""

from __future__ import annotations

import datetime
import json
import logging
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from redis import Redis

from pyres import ResQ, failure, job
from pyres.active_job import WRAPPER, Call, GlobalID, Symbol, build, call
from pyres.exceptions import BadOptionError, UndecodableError, UnencodableError
from pyres.inspector import Inspector
from pyres.worker import Worker

SERIALIZERS = "ActiveJob::Serializers::"

#: What Rails 6.1 wrote for one job, the time zone of its application being Europe/Berlin.
FROM_RAILS = (
    b'{"class":"ActiveJob::QueueAdapters::ResqueAdapter::JobWrapper","args":[{"job_class":'
    b'"MailJob","job_id":"b4c17b84-9e05-4893-9881-3ce434a47519","provider_job_id":null,"queue_name":'
    b'"mail","priority":null,"arguments":[1,"two",2.5,null,true,[1,[{"_aj_serialized":'
    b'"ActiveJob::Serializers::SymbolSerializer","value":"sym"}]],{"a":1,"b":{"_aj_serialized":'
    b'"ActiveJob::Serializers::SymbolSerializer","value":"c"},"_aj_symbol_keys":["b"]},'
    b'{"_aj_globalid":"gid://shop/User/7"},{"_aj_serialized":'
    b'"ActiveJob::Serializers::TimeSerializer","value":"2026-01-02T03:04:05.123456000Z"},'
    b'{"_aj_serialized":"ActiveJob::Serializers::TimeWithZoneSerializer","value":'
    b'"2026-07-01T12:00:00.000000000+02:00"},{"_aj_serialized":'
    b'"ActiveJob::Serializers::DateSerializer","value":"2026-01-02"},{"_aj_serialized":'
    b'"ActiveJob::Serializers::DurationSerializer","value":90,"parts":[[{"_aj_serialized":'
    b'"ActiveJob::Serializers::SymbolSerializer","value":"seconds"},90]]},{"x":1,'
    b'"_aj_hash_with_indifferent_access":true},{"to":"x","at":{"_aj_serialized":'
    b'"ActiveJob::Serializers::DateSerializer","value":"2026-01-03"},"_aj_ruby2_keywords":'
    b'["to","at"]}],"executions":0,"exception_executions":{},"locale":"en","timezone":'
    b'"Europe/Berlin","enqueued_at":"2026-11-25T14:59:35Z"}]}'
)

CALLS: list[Any] = []


@job(name="MailJob", active_job=True)
def mail(*args: Any, **keywords: Any) -> None:
    CALLS.append((list(args), keywords))


@job(name="ReportJob", active_job=True, retry_limit=1, retry_delay=0)
def report(number: int, to: str) -> None:
    raise ValueError(f"{number} to {to}")


@job(name="OnlyHere")
def only_here() -> None:
    CALLS.append("only here")


@pytest.fixture(autouse=True)
def nothing_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure, "backend", failure.RedisBackend)
    CALLS.clear()


@pytest.fixture
def worker(resq: ResQ) -> Iterator[Worker]:
    worker = Worker(["mail"], resq)
    yield worker
    worker._close_children()
    if worker._fetcher is not None:
        worker._fetcher.close()


def of_rails(name: str, *arguments: Any) -> bytes:
    data = {"job_class": name, "job_id": "1", "queue_name": "mail", "arguments": list(arguments)}
    return json.dumps({"class": WRAPPER, "args": [data]}, separators=(",", ":")).encode()


def serialized(name: str, **fields: Any) -> dict[str, Any]:
    return {"_aj_serialized": name, **fields}


def test_a_job_of_rails_is_performed_with_plain_values(worker: Worker, redis: Redis) -> None:
    redis.rpush("resque:queue:mail", FROM_RAILS)

    worker.process()

    utc, berlin = datetime.UTC, datetime.timezone(datetime.timedelta(hours=2))
    args = [1, "two", 2.5, None, True, [1, ["sym"]], {"a": 1, "b": "c"}, "gid://shop/User/7"]
    args += [datetime.datetime(2026, 1, 2, 3, 4, 5, 123456, utc)]
    args += [datetime.datetime(2026, 7, 1, 12, tzinfo=berlin), datetime.date(2026, 1, 2)]
    args += [datetime.timedelta(seconds=90), {"x": 1}]
    assert [(args, {"to": "x", "at": datetime.date(2026, 1, 3)})] == CALLS
    assert isinstance(CALLS[0][0][7], GlobalID)
    assert not redis.exists("resque:failed")


def test_a_job_enqueued_for_rails_is_read_back_equal(
    worker: Worker, resq: ResQ, redis: Redis
) -> None:
    values = [
        *(None, True, -1, 1.5, "é", [1, [2]], {"a": {Symbol("b"): 1}}, Symbol("s")),
        *(GlobalID("gid://shop/User/1"), datetime.date(2026, 1, 2), Decimal("1.50")),
        datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC),
        datetime.timedelta(days=1, milliseconds=500),
    ]
    resq.enqueue_active_job("MailJob", "mail", *values, to="x", at=Symbol("noon"))
    resq.enqueue_active_job_at(datetime.datetime(2026, 1, 1), "MailJob", "mail", {"now": False})
    (delayed,) = resq.delayed_queue_peek(0, 2)
    resq.promote_delayed(delayed)

    worker.process()
    worker.process()

    assert [(values, {"to": "x", "at": "noon"}), ([{"now": False}], {})] == CALLS


def test_the_payload_for_rails_has_the_fields_and_markers_of_its_adapter(
    resq: ResQ, redis: Redis
) -> None:
    resq.enqueue_active_job("Mail::Job", "mail", {"a": 1, Symbol("b"): 2}, to="x")

    (raw,) = redis.lrange("resque:queue:mail", 0, -1)
    item = json.loads(raw)
    (data,) = item["args"]
    assert item["class"] == json.loads(FROM_RAILS)["class"]
    assert list(data)[:11] == list(json.loads(FROM_RAILS)["args"][0])
    assert (data["job_class"], data["queue_name"], data["executions"]) == ("Mail::Job", "mail", 0)
    assert data["arguments"] == [
        {"a": 1, "b": 2, "_aj_symbol_keys": ["b"]},
        {"to": "x", "_aj_ruby2_keywords": ["to"]},
    ]


@pytest.mark.parametrize(
    "value",
    [
        serialized("MoneySerializer", value="1 EUR"),
        serialized(f"{SERIALIZERS}RangeSerializer", begin="a", end="z", exclude_end=False),
        serialized(f"{SERIALIZERS}TimeSerializer", value="yesterday"),
        serialized(f"{SERIALIZERS}DateSerializer"),
        serialized(7, value=1),
    ],
)
def test_what_has_no_plain_value_is_a_failure_that_names_its_place(
    value: Any, worker: Worker, resq: ResQ, redis: Redis
) -> None:
    redis.rpush("resque:queue:mail", of_rails("MailJob", 1, {"a": [value]}))

    worker.process()

    (record,) = failure.all(resq, 0, 2)
    assert record["exception"] == "UndecodableError"
    assert "arguments[1]['a'][0]" in record["error"]
    assert not CALLS


@pytest.mark.parametrize("name", ["NoSuchJob", "OnlyHere", "tests.store.test_active_job.mail"])
def test_only_a_function_for_active_job_performs_such_a_job(
    name: str, worker: Worker, resq: ResQ, redis: Redis
) -> None:
    redis.rpush("resque:queue:mail", of_rails(name))

    worker.process()

    (record,) = failure.all(resq, 0, 2)
    assert record["exception"] == "ClassNotFoundError"
    assert f"@job(name={name!r}, active_job=True)" in record["error"]
    assert not CALLS


def test_log_page_and_filters_show_the_class_inside(
    worker: Worker, resq: ResQ, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    raw = of_rails("ReportJob", 7, {"to": "x", "_aj_ruby2_keywords": ["to"]})
    redis.rpush("resque:queue:mail", raw)
    with caplog.at_level(logging.INFO, logger="pyres"):
        worker.process()
        assert resq.size("mail") == 1
        worker.process()

    assert "(Job{mail} | ReportJob | [7, {'to': 'x'" in caplog.text
    (row,) = Inspector(resq).failures_page(10).rows
    assert (row.klass, row.error.split(" (")[0]) == ("ReportJob", "7 to x")
    assert failure.count(resq, klass="ReportJob") == 1
    assert failure.retry_all(resq, klass="ReportJob") == 1


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (b"bytes", r"args\[0\] is of type bytes"),
        ([{"a": object()}], r"args\[0\]\[0\]\['a'\] is of type object"),
        ({1: 2}, r"invalid key 1 in args\[0\]"),
        ({"_aj_globalid": "x"}, r"invalid key '_aj_globalid' in args\[0\]"),
        ({"a": {1, 2}}, r"args\[0\]\['a'\] is of type set"),
    ],
)
def test_what_rails_cannot_read_is_refused(
    value: Any, place: str, resq: ResQ, redis: Redis
) -> None:
    with pytest.raises(UnencodableError, match=place):
        resq.enqueue_active_job("MailJob", "mail", value)
    assert not list(redis.scan_iter())


@pytest.mark.parametrize("arguments", [{"a": 1}, 7, "text"])
def test_arguments_that_are_not_a_list_are_refused(arguments: Any) -> None:
    with pytest.raises(UndecodableError, match="expected a list"):
        call({"arguments": arguments})


def test_ranges_and_modules_have_plain_values_and_no_arguments_are_none() -> None:
    whole = serialized(f"{SERIALIZERS}RangeSerializer", begin=1, end=3, exclude_end=False)
    module = serialized(f"{SERIALIZERS}ModuleSerializer", value="Admin::User")

    assert call({"arguments": [whole, module]}) == Call([range(1, 4), "Admin::User"], {})
    assert call({"arguments": None}) == call({}) == Call([], {})
    assert build("A", "q", [], {}, datetime.datetime.now())["arguments"] == []


def test_a_function_for_active_job_needs_the_name_of_its_class() -> None:
    with pytest.raises(BadOptionError, match="requires the name of Rails' class"):
        job(queue="mail", active_job=True)
    with pytest.raises(BadOptionError, match="invalid active_job 'yes'"):
        job(name="A", active_job="yes")
