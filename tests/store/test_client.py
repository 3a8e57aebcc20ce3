"""ResQ: the calls of an application, and what is in Redis afterwards."""

from __future__ import annotations

import gc
import json
import logging
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, ClassVar

import pytest
from redis import BlockingConnectionPool, Redis

from pyres import ResQ, Stat
from pyres.decorators import job
from pyres.exceptions import (
    BadDSNError,
    BadServerError,
    ClassNotFoundError,
    NoQueueError,
    NotAJobError,
    UndecodableError,
    UnencodableError,
)
from pyres.worker import Worker
from tests.servers import Server, until

MOMENT = datetime(2026, 11, 23, 16, 1, 9, 250_000, UTC)
STAMP = MOMENT.timestamp()
QUEUE = "resque:queue:mail"


class Mail:
    """A job class; its hooks, where it has some, leave what they saw in `seen`."""

    queue = "mail"
    seen: ClassVar[list[Any]] = []

    @staticmethod
    def perform(*args: Any) -> None:
        pass


class Hooked(Mail):
    @classmethod
    def before_enqueue_b(cls, *args: Any) -> None:
        cls.seen.append(("b", args))

    @classmethod
    def before_enqueue_a(cls, *args: Any) -> bool | None:
        cls.seen.append(("a", args))
        return args[0] if args else None

    @classmethod
    def after_enqueue_x(cls, *args: Any) -> None:
        cls.seen.append(("after", args))

    @classmethod
    def before_dequeue_x(cls, *args: Any) -> bool:
        cls.seen.append(("before_dequeue", args))
        return args != ("keep",)

    @classmethod
    def after_dequeue_x(cls, *args: Any) -> None:
        cls.seen.append(("after_dequeue", args))


class Slow(Mail):
    queue = "slow"


class Queueless:
    @staticmethod
    def perform() -> None:
        pass


@job(queue="mail", name="Tests::Archive")
def archive(branch: str) -> str:
    return branch


MAIL = f"{__name__}.Mail"


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    Mail.seen.clear()


@pytest.fixture
def plain(resq: ResQ) -> ResQ:
    """A ResQ that writes what Ruby would."""
    resq.enqueue_timestamp = False
    return resq


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyres' clock is fixed at MOMENT, as users of 1.5 fix it."""
    monkeypatch.setattr(ResQ, "_current_time", staticmethod(lambda: MOMENT))


def waiting(redis: Redis, key: str = QUEUE) -> list[bytes]:
    return redis.lrange(key, 0, -1)


def pending(redis: Redis, key: str = QUEUE) -> list[Any]:
    return [json.loads(raw) for raw in waiting(redis, key)]


# Putting jobs on queues


@pytest.mark.usefixtures("stopped")
def test_an_enqueued_class_is_last_in_its_queue_with_the_fields_of_1_5(resq, redis):
    resq.push("mail", {"class": "Old", "args": []})

    assert resq.enqueue(Mail, 1, "é", None, {"a": [1.5]}) is True

    payload = f'{{"class":"{MAIL}","args":[1,"é",null,{{"a":[1.5]}}],"enqueue_timestamp":{STAMP}}}'
    assert waiting(redis) == [b'{"class":"Old","args":[]}', payload.encode()]
    assert redis.smembers("resque:queues") == {b"mail"}
    assert resq._watched_queues == {"mail"}


def test_without_the_timestamp_it_is_what_ruby_writes(server, redis):
    resq = ResQ(server.dsn, enqueue_timestamp=False)

    resq.enqueue(Mail, 1e20)

    assert waiting(redis) == [b'{"class":"%s","args":[1.0e+20]}' % MAIL.encode()]
    resq.close()


def test_a_decorated_function_is_enqueued_under_its_own_name(plain, redis):
    plain.enqueue(archive, "main")
    plain.enqueue("Tests::Archive", "dev")

    assert waiting(redis) == [
        b'{"class":"Tests::Archive","args":["main"]}',
        b'{"class":"Tests::Archive","args":["dev"]}',
    ]


def test_a_dotted_name_is_imported_for_its_queue(plain, redis):
    plain.enqueue(MAIL, 1)
    assert waiting(redis) == [b'{"class":"%s","args":[1]}' % MAIL.encode()]


def test_a_dotted_name_that_leads_nowhere_is_an_error(resq):
    with pytest.raises(ClassNotFoundError, match=r"no\.such\.Thing"):
        resq.enqueue("no.such.Thing")


def test_an_invalid_class_is_an_error_that_shows_it(resq):
    with pytest.raises(NotAJobError, match=r"invalid job 7: expected a class with perform\(\)"):
        resq.enqueue(7)


def test_a_class_without_a_queue_is_a_warning_and_nothing_is_enqueued(resq, redis, caplog):
    # pyres 1.5 did not report whether something was sent
    with caplog.at_level(logging.WARNING, "pyres"):
        assert resq.enqueue(Queueless) is False
        assert resq.enqueue_at(MOMENT, Queueless) is False

    assert redis.keys() == []
    assert (
        caplog.messages
        == [f"unable to enqueue {__name__}.Queueless: it has no attribute 'queue'"] * 2
    )


def test_enqueue_to_names_another_queue_and_imports_nothing(plain, redis):
    assert plain.enqueue_to("other", Mail, 1) is True
    assert plain.enqueue_to("other", "Ruby::Thing") is True
    assert plain.enqueue_to("other", Queueless) is True

    assert [item["class"] for item in pending(redis, "resque:queue:other")] == [
        MAIL,
        "Ruby::Thing",
        f"{__name__}.Queueless",
    ]
    assert redis.smembers("resque:queues") == {b"other"}


@pytest.mark.parametrize("queue", ["", None, 7, ["mail"]])
def test_an_invalid_queue_is_an_error_that_shows_it(resq, redis, queue):
    for call in (
        lambda: resq.enqueue_to(queue, Mail),
        lambda: resq.enqueue_from_string("A", queue),
        lambda: resq.enqueue_at_from_string(MOMENT, "A", queue),
    ):
        with pytest.raises(NoQueueError, match="invalid queue name .*: expected a non-empty"):
            call()
    assert redis.keys() == []


def test_enqueue_from_string_may_carry_the_first_attempt(plain, redis):
    plain.enqueue_from_string("A::B", "mail", 1, first_attempt=datetime(2026, 1, 2, 3, 4, 5))
    plain.enqueue_from_string("a.B", "mail")

    assert waiting(redis) == [
        b'{"class":"A::B","args":[1],"first_attempt":"@D:2026-01-02T03:04:05"}',
        b'{"class":"a.B","args":[]}',
    ]


def test_the_class_method_of_1_5_enqueues_on_a_default_resq(server, redis):
    class Here(ResQ):
        def __init__(self) -> None:
            super().__init__(server.dsn)

    Here._enqueue(Mail, 1)

    assert [item["args"] for item in pending(redis)] == [[1]]


def test_many_jobs_are_enqueued_in_batches(plain, redis, server):
    jobs = ((Mail, number) for number in range(2500))

    with server.monitor() as monitor:
        assert plain.enqueue_many(jobs) == 2500
        assert monitor.names == ["EVALSHA"] * 3

    assert [item["args"][0] for item in pending(redis)] == list(range(2500))


def test_many_jobs_of_several_queues_keep_their_order_in_each(plain, redis):
    assert plain.enqueue_many([(Mail, 1), (Slow, 2), (archive, "x"), (Slow, 4), (Mail,)]) == 5

    assert [item["args"] for item in pending(redis)] == [[1], ["x"], []]
    assert [item["args"] for item in pending(redis, "resque:queue:slow")] == [[2], [4]]
    assert redis.smembers("resque:queues") == {b"mail", b"slow"}


def test_many_jobs_ask_their_hooks_too(plain, redis):
    assert plain.enqueue_many([(Hooked, True), (Hooked, False), (Mail, 3)]) == 2

    assert [item["args"] for item in pending(redis)] == [[True], [3]]
    assert [name for name, _ in Mail.seen] == ["a", "b", "a", "b", "after"]


def test_a_job_without_a_queue_among_many_keeps_its_batch_from_being_enqueued(resq, redis):
    with pytest.raises(NoQueueError, match=r"Queueless has no attribute 'queue'; nothing of this"):
        resq.enqueue_many([(Mail, 1), (Queueless,)])
    assert redis.keys() == []


# Hooks


def test_every_before_enqueue_is_called_in_order_and_then_after_enqueue(resq, redis):
    assert resq.enqueue(Hooked, 7) is True

    assert Mail.seen == [("a", (7,)), ("b", (7,)), ("after", (7,))]
    assert len(waiting(redis)) == 1


def test_exactly_false_keeps_a_job_from_its_queue_and_all_hooks_are_asked(resq, redis):
    assert resq.enqueue(Hooked, False) is False
    assert resq.enqueue_to("other", Hooked, False) is False

    assert Mail.seen == [("a", (False,)), ("b", (False,))] * 2
    assert redis.keys() == []


@pytest.mark.parametrize("answer", [None, 0, "", []])
def test_no_other_answer_does(resq, answer):
    assert resq.enqueue(Hooked, answer) is True


# What a queue cannot hold


class Thing:
    def __repr__(self) -> str:
        return "<a thing>"


RECURSIVE: list[Any] = []
RECURSIVE.append(RECURSIVE)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((1, float("nan")), r"^args\[1\] is nan: expected a finite number$"),
        ((float("-inf"),), r"^args\[0\] is -inf: "),
        (({"a": [0, b"x"]},), r"^args\[0\]\['a'\]\[1\] is b'x' of type bytes, .*: decode it"),
        ((Thing(),), r"^args\[0\] is <a thing> of type Thing, which JSON does not have: pass "),
        (({1, 2},), r"^args\[0\] is \{1, 2\} of type set, .*: list\(value\)$"),
        ((MOMENT.date(),), r"^args\[0\] is .* of type date, .*: pass a datetime"),
        (("a\udcff",), r"^args\[0\] is not valid Unicode \(a lone surrogate at 1\)$"),
        (({(1, 2): 3},), r"^args\[0\] has the key \(1, 2\) of type tuple: expected a str$"),
        ((RECURSIVE,), r"^args\[0\]\[0\].*… is nested deeper than 96 levels, or contains itself$"),
    ],
)
def test_a_value_that_json_does_not_have_is_refused_with_its_place(resq, redis, args, message):
    for call in (
        lambda: resq.enqueue(Mail, *args),
        lambda: resq.enqueue_to("mail", "A", *args),
        lambda: resq.enqueue_from_string("A", "mail", *args),
        lambda: resq.enqueue_at(MOMENT, Mail, *args),
        lambda: resq.enqueue_many([(Mail,), (Mail, *args)]),
    ):
        with pytest.raises(UnencodableError, match=message):
            call()
    assert redis.keys() == []


# pyres 1.5 dropped microseconds and zones, and a user's own "@D:…" became a datetime


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (datetime(2026, 1, 2, 3, 4, 5), '"@D:2026-01-02T03:04:05"'),
        (datetime(2026, 1, 2, 3, 4, 5, 6), '"@D:2026-01-02T03:04:05.000006"'),
        (datetime(2026, 1, 2, tzinfo=UTC), '"@D:2026-01-02T00:00:00+00:00"'),
        (
            datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=9))),
            '"@D:2026-01-02T00:00:00+09:00"',
        ),
        (datetime(99, 1, 2), '"@D:0099-01-02T00:00:00"'),
        ("@D:2026-01-02T03:04:05", '"@D:@D:2026-01-02T03:04:05"'),
        ("@D:mail", '"@D:mail"'),
        ({"when": [datetime(2026, 1, 2)]}, '{"when":["@D:2026-01-02T00:00:00"]}'),
    ],
)
def test_a_date_and_a_string_that_looks_like_one_are_read_back_equal(plain, redis, value, wire):
    plain.enqueue(Mail, value)

    assert waiting(redis) == [f'{{"class":"{MAIL}","args":[{wire}]}}'.encode()]
    _, item = plain.pop("mail")
    assert item["args"] == [value]


# A pipeline


def test_a_pipeline_is_sent_at_its_end_at_once(plain, redis, server):
    with server.monitor() as monitor:
        with plain.pipeline() as batch:
            batch.enqueue(Mail, 1)
            batch.enqueue_to("other", Mail, 2)
            batch.push("raw", [3])
            batch.enqueue_at(MOMENT, Mail, 4)
            batch.enqueue_many([(Mail, 5)])
            assert monitor.names == []
        assert "MULTI" not in monitor.names

    assert [item["args"] for item in pending(redis)] == [[1], [5]]
    assert len(waiting(redis, "resque:queue:other")) == 1
    assert waiting(redis, "resque:queue:raw") == [b"[3]"]
    assert redis.zcard("resque:delayed_queue_schedule") == 1


def test_an_atomic_pipeline_is_one_transaction(plain, redis, server):
    with server.monitor() as monitor:
        with plain.pipeline(atomic=True) as batch:
            batch.enqueue(Mail, 1)
            batch.enqueue(Mail, 2)
        assert monitor.names == ["EVAL", "MULTI", "SADD", "RPUSH", "SADD", "RPUSH", "EXEC"]

    assert len(waiting(redis)) == 2


@pytest.mark.parametrize("atomic", [False, True])
def test_an_exception_discards_all_of_a_pipeline(plain, redis, atomic):
    def enqueue_one_and_raise() -> None:
        with plain.pipeline(atomic) as batch:
            batch.enqueue(Hooked, 1)
            raise KeyError("no")

    with pytest.raises(KeyError):
        enqueue_one_and_raise()

    assert redis.keys() == []
    assert "after" not in [name for name, _ in Mail.seen]
    plain.enqueue(Mail, 2)
    assert len(waiting(redis)) == 1


def test_after_enqueue_is_called_when_the_pipeline_was_sent(plain, redis):
    with plain.pipeline() as batch:
        batch.enqueue(Hooked, 1)
        assert [name for name, _ in Mail.seen] == ["a", "b"]

    assert [name for name, _ in Mail.seen] == ["a", "b", "after"]


def test_an_empty_pipeline_sends_nothing(plain, server):
    with server.monitor() as monitor:
        with plain.pipeline(atomic=True):
            pass
        assert monitor.names == []


# Taking


def test_a_pop_returns_the_queue_and_the_item_or_twice_none(resq, redis):
    resq.push("low", {"class": "A", "args": ["é"]})
    resq.push("mail", [1])

    assert resq.pop(["mail", "low"]) == ("mail", [1])
    assert resq.pop("low") == ("low", {"class": "A", "args": ["é"]})
    assert resq.pop(["mail", "low"], timeout=0) == (None, None)
    assert resq.pop("mail", timeout=0.01) == (None, None)


def test_a_pop_of_no_queue_returns_none_at_once(resq):
    assert resq.pop([], timeout=60) == (None, None)


def test_a_pop_that_does_not_block_sends_no_blocking_command(server, redis):
    resq = ResQ(server.dsn, blocking_pop=False)

    with server.monitor() as monitor:
        assert resq.pop(["a", "b"], timeout=10) == (None, None)
        assert monitor.names == ["LPOP", "LPOP"]
    resq.close()


def test_a_malformed_item_stays_on_its_queue(resq, redis):
    redis.rpush(QUEUE, b"\xff{", b"[1]")

    with pytest.raises(UndecodableError, match="is not JSON"):
        resq.pop("mail")

    assert waiting(redis) == [b"\xff{", b"[1]"]


def test_reserve_returns_a_job(resq):
    resq.enqueue(Mail, 7)

    found = resq.reserve(["other", "mail"])

    assert (found._queue, found.args, found.resq) == ("mail", [7], resq)


def test_dequeue_removes_the_jobs_with_these_arguments_whatever_their_other_fields(resq, redis):
    resq.enqueue(Mail, 1, {"a": 1.0})
    redis.rpush(QUEUE, b'{ "args": [1, {"a": 1}], "class": "%s" }' % MAIL.encode())
    resq.enqueue(Mail, 2)
    resq.enqueue_to("mail", "Other", 1, {"a": 1.0})

    assert resq.dequeue(Mail, 1, {"a": 1.0}) == 2
    assert resq.dequeue(Mail, 1, {"a": 1.0}) == 0

    assert [item["args"] for item in pending(redis)] == [[2], [1, {"a": 1.0}]]


def test_dequeue_without_arguments_removes_every_job_of_the_class(plain, redis):
    redis.rpush(QUEUE, b"\xff")
    for args in ([1], [1], []):
        plain.enqueue(Mail, *args)
    plain.enqueue_to("mail", "Other")

    assert plain.dequeue(Mail) == 3
    assert waiting(redis) == [b"\xff", b'{"class":"Other","args":[]}']


def test_dequeue_calls_its_hooks(resq, redis):
    resq.enqueue(Hooked, "keep")
    resq.enqueue(Hooked, 1)
    Mail.seen.clear()

    assert resq.dequeue(Hooked, "keep") == 0
    assert resq.dequeue(Hooked, 1) == 1

    assert [name for name, _ in Mail.seen] == ["before_dequeue", "before_dequeue", "after_dequeue"]
    assert len(waiting(redis)) == 1


def test_dequeue_of_a_class_without_a_queue_names_the_method_to_call(resq):
    with pytest.raises(NoQueueError, match=r"dequeue_from\(queue, \.\.\.\)"):
        resq.dequeue(Queueless)
    assert resq.dequeue_from("mail", Queueless) == 0


def test_a_removed_queue_is_removed_from_every_key(resq, redis):
    resq.enqueue(Mail)
    resq.push("other", 1)

    resq.remove_queue("mail")

    assert redis.smembers("resque:queues") == {b"other"}
    assert not redis.exists(QUEUE)
    assert resq._watched_queues == {"other"}


# Looking


def test_sizes_and_names_of_queues(resq):
    resq.push("b", 1)
    resq.push("b", 2)
    resq.watch_queue("a")

    assert resq.queues() == ["a", "b"]
    assert resq.queue_sizes() == {"a": 0, "b": 2}
    assert resq.size("b") == 2
    assert resq.size("none") == 0
    assert resq._watched_queues == {"a", "b"}


def test_a_peek_is_always_a_list_and_shows_malformed_payloads(resq, redis):
    for number in range(3):
        resq.push("mail", number)
    redis.rpush(QUEUE, b"\xff")

    assert resq.peek("mail") == [0]
    assert resq.peek("mail", 1, 2) == [1, 2]
    assert resq.peek("mail", 3)[0]["raw"] == "/w=="
    assert resq.peek("mail", 9) == []
    assert resq.list_range("queue:mail", 1, 1) == [1]
    assert resq.list_range(QUEUE, 0, 2) == [0, 1]
    assert resq.list_range("queue:mail", 0, 0) == []


def test_keys_are_returned_without_the_prefix_and_read_by_scan(resq, redis, server):
    # pyres 1.5 blocked the server by KEYS, and also removed a "resque:" inside a key
    redis.set("resque:stat:x", 1)
    redis.set("resque:worker:resque:1:a", 1)
    redis.set("other:resque:no", 1)

    with server.monitor() as monitor:
        assert resq.keys() == ["stat:x", "worker:resque:1:a"]
        assert set(monitor.names) == {"SCAN"}


def test_info_has_the_totals(resq, redis, server):
    resq.push("a", 1)
    resq.push("b", 2)
    redis.sadd("resque:workers", "h:1:a", "h:2:b")
    redis.set("resque:worker:h:1:a", b'{"queue":"a","run_at":"x","payload":{}}')
    redis.set("resque:stat:processed", 7)

    assert resq.info() == {
        "pending": 2,
        "processed": 7,
        "queues": 2,
        "workers": 2,
        "working": 1,
        "failed": 0,
        "servers": [f"127.0.0.1:{server.port}"],
    }
    assert resq.workers() == ["h:1:a", "h:2:b"]
    assert [str(worker) for worker in resq.working()] == ["h:1:a"]


def test_a_counter_counts(resq, redis):
    stat = Stat("mine", resq)

    assert stat.get() == 0
    stat.incr()
    stat.incr(4)
    stat.decr(2)

    assert (stat.get(), stat.name, stat.key) == (3, "mine", "resque:stat:mine")
    assert redis.get("resque:stat:mine") == b"3"
    stat.clear()
    assert not redis.exists("resque:stat:mine")
    assert resq.stat("mine").get() == 0


def test_encode_and_decode_are_methods_of_the_class():
    assert ResQ.encode({"a": ["é"]}) == '{"a":["é"]}'
    assert ResQ.decode(b'{"a":["\xc3\xa9"]}') == ResQ.decode('{"a":["é"]}') == {"a": ["é"]}


# Later


@pytest.mark.parametrize(
    ("due", "second"),
    [
        (MOMENT, 1795449669),
        (datetime(2026, 11, 24, 1, 1, 9, tzinfo=timezone(timedelta(hours=9))), 1795449669),
        (datetime.fromtimestamp(1795449669), 1795449669),
        (datetime.fromtimestamp(1795449669.999), 1795449669),
    ],
    ids=["utc", "aware", "naive", "sub-second"],
)
def test_a_delayed_job_is_stored_in_rubys_three_keys(resq, redis, due, second):
    # pyres 1.5: ZADD failed after RPUSH, and aware datetimes were read as local time
    assert resq.enqueue_at(due, Mail, "é") is True

    payload = f'{{"class":"{MAIL}","args":["é"],"queue":"mail"}}'.encode()
    assert waiting(redis, f"resque:delayed:{second}") == [payload]
    assert redis.zrange("resque:delayed_queue_schedule", 0, -1, withscores=True) == [
        (str(second).encode(), float(second))
    ]
    assert redis.smembers(b"resque:timestamps:" + payload) == {f"delayed:{second}".encode()}
    assert len(redis.keys()) == 3


def test_a_delayed_job_is_stored_in_one_step(resq, server):
    with server.monitor() as monitor:
        resq.enqueue_at_from_string(MOMENT, "A", "mail", 1, first_attempt=MOMENT)
        assert monitor.names == ["EVALSHA"]


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize("delay", [90, timedelta(seconds=90), 89.75])
def test_enqueue_in_counts_from_now(resq, delay):
    resq.enqueue_in(delay, Mail)
    assert resq.delayed_queue_peek(0, 9) == [int(STAMP) + 90]


def test_a_delayed_push_accepts_any_payload(resq, redis):
    resq.delayed_push(MOMENT, {"class": "A", "args": [], "queue": "q", "more": 1})
    assert pending(redis, f"resque:delayed:{int(STAMP)}")[0]["more"] == 1


def test_delayed_jobs_can_be_peeked_at_and_no_more_than_asked_for(resq):
    # pyres 1.5 returned one too many
    for number in range(3):
        resq.enqueue_at(MOMENT + timedelta(seconds=number), Mail, number)
    resq.enqueue_at(MOMENT, Mail, "second")
    first = int(STAMP)

    assert resq.delayed_queue_peek(0, 2) == [first, first + 1]
    assert resq.delayed_queue_peek(2, 9) == [first + 2]
    assert resq.delayed_queue_peek(0, 0) == []
    assert [item["args"] for item in resq.delayed_timestamp_peek(first, 0, 1)] == [[0]]
    assert [item["args"] for item in resq.delayed_timestamp_peek(first, 1, 5)] == [["second"]]
    assert resq.delayed_queue_schedule_size() == 4
    assert resq.delayed_timestamp_size(first) == 2


@pytest.mark.usefixtures("stopped")
def test_due_jobs_are_returned_oldest_first_and_their_keys_removed(resq, redis):
    first = int(STAMP)
    resq.enqueue_at(MOMENT, Mail, 1)
    resq.enqueue_at(MOMENT, Mail, 2)
    resq.enqueue_at(MOMENT + timedelta(seconds=1), Mail, 3)

    assert resq.next_delayed_timestamp() == str(first)
    assert [resq.next_item_for_timestamp(first)["args"] for _ in range(2)] == [[1], [2]]
    assert resq.next_item_for_timestamp(str(first)) is None
    assert resq.next_delayed_timestamp() is None
    assert resq.delayed_queue_peek(0, 9) == [first + 1]
    assert len(redis.keys()) == 3


# Servers


@pytest.mark.parametrize(
    ("dsn", "shown", "host", "port"),
    [
        # pyres 1.5 raised ValueError for all but the first
        ("example:1234", "example:1234", "example", 1234),
        ("localhost", "localhost:6379", "localhost", 6379),
        ("example:1234/5", "example:1234/5", "example", 1234),
        ("redis://example", "example:6379", "example", 6379),
        ("redis://me:secret@example:7/3", "example:7/3", "example", 7),
        (":secret@example:7", "example:7", "example", 7),
        ("rediss://:secret@example:7", "rediss://example:7", "example", 7),
        ("[::1]:7", "[::1]:7", "::1", 7),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2", None, None),
    ],
)
def test_a_dsn_of_any_kind_shows_no_password(dsn, shown, host, port):
    resq = ResQ(dsn)

    assert (resq.dsn, resq.host, resq.port) == (shown, host, port)
    assert str(resq) == f"PyRes Client connected to {shown}"


@pytest.mark.parametrize(
    ("dsn", "message"),
    [
        ("example:x", "invalid port 'x'"),
        ("example:70000", "invalid port '70000': expected a number from 0 to 65535"),
        ("example:1/x", "invalid db 'x'"),
        ("http://example", "invalid DSN scheme 'http'"),
        ("::1", r"expected an IPv6 address in brackets: '\[::1\]:6379'"),
        ("unix://relative", "invalid socket path 'relative'"),
        ("", "invalid DSN ''"),
    ],
)
def test_a_bad_dsn_is_an_error_that_names_its_part(dsn, message):
    with pytest.raises(BadDSNError, match=message):
        ResQ(dsn)


@pytest.mark.parametrize("given", [None, 7, object(), ("localhost", 6379)])
def test_an_invalid_server_is_an_error(resq, given):
    with pytest.raises(BadServerError, match="invalid server"):
        ResQ(given)
    with pytest.raises(BadServerError, match="invalid server"):
        resq.redis = given


def test_the_server_can_be_set(server, redis):
    resq = ResQ("nowhere:1")
    resq._watched_queues.add("mail")

    resq.redis = server.dsn
    resq.push("mail", 1)
    assert resq.port == server.port
    resq.close()
    resq.redis = redis
    resq.push("mail", 2)

    assert waiting(redis) == [b"1", b"2"]
    assert resq.redis is redis
    resq.close()


def test_a_password_is_used_and_not_shown():
    with Server("--requirepass", "hush") as server:
        for resq in (
            ResQ(server.dsn, password="hush"),
            ResQ(server.dsn, "hush"),
            ResQ(f"redis://:hush@{server.dsn}"),
            ResQ(server.client(password="hush")),
        ):
            resq.push("mail", 1)
            assert "hush" not in str(resq)
            # pyres 1.5's working() did not use the password
            assert resq.working() == []
            resq.close()


@pytest.mark.parametrize("where", ["port", "socket"])
@pytest.mark.parametrize("decode", [False, True])
def test_a_redis_client_of_any_kind_is_accepted(server, redis, where, decode):
    # pyres 1.5 failed with Unix sockets and with decode_responses=True
    options: dict[str, Any] = {"decode_responses": decode, "db": 1}
    if where == "socket":
        options["unix_socket_path"] = str(server.unix_socket)
    else:
        options |= {"host": "127.0.0.1", "port": server.port}
    client = Redis(**options)
    client.flushdb()
    resq = ResQ(client)

    resq.enqueue(Mail, "é")
    resq.enqueue_at(MOMENT, Mail)

    assert resq.peek("mail")[0]["args"] == ["é"]
    assert resq.queues() == ["mail"]
    assert resq.info()["pending"] == 1
    assert resq.delayed_queue_peek(0, 1) == [int(STAMP)]
    assert "delayed_queue_schedule" in set(resq.keys())
    assert resq.pop("mail")[1]["args"] == ["é"]
    place = (
        f"unix://{server.unix_socket}?db=1" if where == "socket" else f"127.0.0.1:{server.port}/1"
    )
    assert resq.dsn == place
    assert redis.keys() == []
    resq.close()
    client.flushdb()
    client.close()


def test_a_pool_of_one_connection_is_left_alone(server, redis):
    # pyres 1.5 got the one connection and never released it
    pool = BlockingConnectionPool(max_connections=1, timeout=1, host="127.0.0.1", port=server.port)
    client = Redis(connection_pool=pool)
    resq = ResQ(client)

    with pool_in_use(pool):
        resq.enqueue(Mail)
        assert resq.size("mail") == 1
    for _ in range(3):
        resq.enqueue(Mail)
        assert client.llen(QUEUE) == resq.size("mail")
    resq.close()
    client.close()
    pool.disconnect()


class pool_in_use:  # noqa: N801 - reads as the context that it is
    """The only connection of a pool is in use elsewhere."""

    def __init__(self, pool: BlockingConnectionPool) -> None:
        self.pool = pool

    def __enter__(self) -> None:
        self.connection = self.pool.get_connection()

    def __exit__(self, *_: object) -> None:
        self.pool.release(self.connection)


def clients(redis: Redis) -> int:
    return len(redis.client_list())


@pytest.fixture
def quiet(redis: Redis) -> int:
    """The number of open connections before the test: its own, and none that is about to end."""
    gc.collect()
    redis.client_kill_filter(_type="normal", skipme=True)
    until(lambda: clients(redis) == 1, what="the end of all other connections")
    return 1


@pytest.mark.parametrize("given", ["dsn", "client"])
def test_a_resq_that_was_not_closed_closes_its_connections_when_it_is_collected(
    server, redis, given
):
    """Python warned of a socket, in whatever test its collector ran."""
    resq = ResQ(server.dsn if given == "dsn" else redis)
    worker = Worker(["mail"], resq)
    worker.fetcher.connect()
    connection = resq.store.client.connection_pool.get_connection()
    assert connection._sock

    del resq, worker
    gc.collect()

    assert connection._sock is None


def test_closing_closes_every_connection_however_often(server, redis, quiet):
    # pyres 1.5's close() got another connection and dropped it
    resq = ResQ(server.dsn)
    for _ in range(3):
        resq.enqueue(Mail)
        resq.pop("mail")
        with resq.pipeline(atomic=True) as batch:
            batch.enqueue(Mail)
        assert clients(redis) == quiet + 1

        resq.close()
        resq.close()

        until(lambda: clients(redis) == quiet)


def test_a_client_passed_by_the_caller_stays_open(server, redis, quiet):
    client = Redis(host="127.0.0.1", port=server.port)
    client.ping()
    resq = ResQ(client)
    resq.enqueue(Mail)
    assert clients(redis) == quiet + 2

    resq.close()

    until(lambda: clients(redis) == quiet + 1)
    assert client.ping()
    client.close()


def test_a_new_server_does_not_leave_the_old_connection_behind_when_it_is_closed(
    server, redis, quiet
):
    resq = ResQ(server.dsn)
    resq.enqueue(Mail)
    resq.close()
    resq.redis = server.dsn
    resq.enqueue(Mail)
    resq.close()

    until(lambda: clients(redis) == quiet)


def test_a_namespace_of_its_own_is_kept_to(server, redis):
    resq = ResQ(server.dsn, namespace="mine")

    resq.enqueue(Mail)
    resq.enqueue_at(MOMENT, Mail)
    resq.watch_queue("x")

    assert all(key.startswith(b"mine:") for key in redis.scan_iter())
    assert "queue:mail" in set(resq.keys())
    resq.close()
