"""Delayed jobs: put off, found, removed, moved; each script on a real server, with odd bytes."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from pyres import ResQ, job
from pyres.exceptions import BadScheduleError
from pyres.scheduler import Scheduler
from pyres.store import Firing, Move, UniqueJob
from tests.jobs import EchoJob, NoopJob
from tests.servers import keyspace

NOW = 1_800_000_000
BYTES = b'{"class":"A","args":["\xff\x00"],"queue":"q"}'


@pytest.fixture
def resq(dsn):
    """A ResQ whose clock is fixed at NOW, and which writes the same as Ruby."""
    resq = ResQ(dsn, enqueue_timestamp=False)
    resq._current_time = lambda: datetime.fromtimestamp(NOW)
    yield resq
    resq.close()


@pytest.fixture
def promote(resq):
    return Scheduler(resq).handle_delayed_items


def moment(seconds):
    return datetime.fromtimestamp(NOW + seconds, UTC)


def echo(*args, queue="basic"):
    return json.dumps(
        {"class": "tests.jobs.EchoJob", "args": args, "queue": queue}, separators=(",", ":")
    ).encode()


# Putting off


@pytest.mark.parametrize(
    "when",
    [
        datetime.fromtimestamp(NOW + 60),
        datetime.fromtimestamp(NOW + 60, UTC),
        datetime.fromtimestamp(NOW + 60, timezone(timedelta(hours=9))),
        datetime.fromtimestamp(NOW + 60, ZoneInfo("America/New_York")),
    ],
)
def test_a_time_is_the_same_moment_with_any_zone_and_as_local_time(resq, redis, when):
    resq.enqueue_at(when, EchoJob, 1)

    assert redis.zrange("resque:delayed_queue_schedule", 0, -1) == [str(NOW + 60).encode()]


def test_both_times_that_the_clocks_show_twice_can_be_specified(resq, redis):
    berlin = ZoneInfo("Europe/Berlin")
    for fold in (0, 1):
        resq.enqueue_at(datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=fold), EchoJob)

    first, second = resq.delayed_queue_peek(0, 10)
    assert second - first == 3600


def test_in_so_many_seconds_is_that_many_whatever_the_clocks_do(resq, redis):
    before = datetime(2026, 3, 29, 0, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    resq._current_time = lambda: before

    resq.enqueue_in(timedelta(hours=24), EchoJob)
    resq.enqueue_in(60, EchoJob)

    start = int(before.timestamp())
    assert resq.delayed_queue_peek(0, 10) == [start + 60, start + 86400]


def test_a_past_time_waits_for_the_scheduler_too_as_in_pyres_1_5(resq, redis, promote):
    resq.enqueue_at(moment(-5), EchoJob, 1)
    assert redis.llen("resque:queue:basic") == 0
    assert resq.next_delayed_timestamp() == str(NOW - 5)

    promote()

    assert redis.lrange("resque:queue:basic", 0, -1) == [
        b'{"class":"tests.jobs.EchoJob","args":[1]}'
    ]


def test_peeks_return_exactly_as_many_as_were_asked_for(resq):
    for seconds in range(5):
        resq.enqueue_at(moment(seconds), EchoJob, seconds)

    assert resq.delayed_queue_peek(0, 2) == [NOW, NOW + 1]
    assert resq.delayed_queue_peek(1, 0) == []
    assert len(resq.delayed_timestamp_peek(NOW, 0, 1)) == 1


# Promotion


def test_due_jobs_are_moved_to_their_queues_in_order_and_leave_nothing(resq, redis, promote):
    resq.enqueue_at(moment(-2), EchoJob, 2)
    resq.enqueue_at(moment(-9), EchoJob, 1)
    resq.enqueue_at_from_string(moment(-2), "Ruby::Job", "high", 3)
    resq.enqueue_at(moment(1), EchoJob, 4)

    promote()

    basic = [b'{"class":"tests.jobs.EchoJob","args":[%d]}' % number for number in (1, 2)]
    assert redis.lrange("resque:queue:basic", 0, -1) == basic
    assert redis.lrange("resque:queue:high", 0, -1) == [b'{"class":"Ruby::Job","args":[3]}']
    assert redis.smembers("resque:queues") == {b"basic", b"high"}
    assert resq.delayed_queue_peek(0, 10) == [NOW + 1]
    assert sorted(key for key in keyspace(redis) if "timestamps" in key) == [
        'resque:timestamps:{"class":"tests.jobs.EchoJob","args":[4],"queue":"basic"}'
    ]


def test_more_than_a_batch_is_moved_in_order(resq, redis, promote):
    with resq.pipeline() as batch:
        for number in range(1234):
            batch.store.delayed.delay(NOW - 1, echo(number))

    promote()

    moved = [json.loads(raw)["args"] for raw in redis.lrange("resque:queue:basic", 0, -1)]
    assert moved == [[number] for number in range(1234)]
    assert set(keyspace(redis)) == {"resque:queue:basic", "resque:queues"}


def test_the_time_of_enqueuing_is_that_of_the_promotion(dsn, redis):
    resq = ResQ(dsn)
    resq._current_time = lambda: datetime.fromtimestamp(NOW)
    resq.store.delayed.delay(NOW, b'{"class":"A","args":[],"queue":"q","enqueue_timestamp":1.0}')

    Scheduler(resq).handle_delayed_items()

    assert (
        redis.lpop("resque:queue:q") == b'{"class":"A","args":[],"enqueue_timestamp":1800000000.0}'
    )
    resq.close()


POISON = [
    b"not json",
    b"\xff\xfe",
    b"[1]",
    b'{"args":[],"queue":"q"}',
    b'{"class":"A","args":[]}',
    b'{"class":"A","args":[],"queue":""}',
    b'{"class":"A","args":[],"queue":5}',
    b'{"class":"A","args":[],"queue":"\\ud800"}',
    b"{" * 100_000,
]


def test_a_malformed_payload_becomes_a_failure_with_its_bytes_and_the_rest_is_moved(
    resq, redis, promote
):
    for payload in [echo(1), *POISON, echo(2)]:
        resq.store.delayed.delay(NOW - 1, payload)

    promote()

    assert redis.llen("resque:queue:basic") == 2
    records = [json.loads(raw) for raw in redis.lrange("resque:failed", 0, -1)]
    assert [record["exception"] for record in records] == ["UndecodableError"] * len(POISON)
    assert base64.b64decode(records[1]["payload"]["raw"]) == b"\xff\xfe"
    assert base64.b64decode(records[3]["payload"]["raw"]) == POISON[3]
    assert records[3]["queue"] == "q"
    assert list(records[0]) == [
        *("failed_at", "payload", "exception", "error", "backtrace", "worker", "queue")
    ]
    assert redis.get("resque:stat:failed") == str(len(POISON)).encode()
    assert set(keyspace(redis)) == {
        *("resque:queue:basic", "resque:queues", "resque:failed", "resque:stat:failed")
    }


def test_a_job_that_another_scheduler_moved_meanwhile_is_not_moved_again(resq, redis):
    delayed = resq.store.delayed
    for number in range(3):
        delayed.delay(NOW, b"%d" % number)
    moves = [Move(b"%d" % number, "q", b"moved %d" % number) for number in range(3)]

    assert delayed.promote(NOW, moves[:1]).number == 1
    assert delayed.promote(NOW, moves).number == 2
    assert delayed.promote(NOW, moves).number == 0

    assert redis.lrange("resque:queue:q", 0, -1) == [b"moved 0", b"moved 1", b"moved 2"]
    assert redis.zcard("resque:delayed_queue_schedule") == 0


def test_due_jobs_are_pushed_to_the_end_or_the_front_of_their_queue_in_their_order(resq, redis):
    for front in (False, True):
        redis.flushall()
        resq.enqueue(EchoJob, "first")
        for number in (1, 2, 3):
            resq.enqueue_at(moment(-1), EchoJob, number)

        Scheduler(resq, front=front).handle_delayed_items()

        args = [item["args"][0] for item in resq.peek("basic", 0, 10)]
        assert args == ([1, 2, 3, "first"] if front else ["first", 1, 2, 3])


def test_a_job_delayed_to_a_second_that_is_being_emptied_is_not_lost(resq, redis):
    delayed = resq.store.delayed
    delayed.delay(NOW, b"old")
    delayed.delay(NOW, b"new")

    delayed.promote(NOW, [Move(b"old", "q", b"old")])

    assert delayed.peek(NOW, 0, 10) == [b"new"]
    assert delayed.timestamps(0, 10) == [NOW]


def test_a_timestamp_that_ruby_left_without_jobs_is_removed(resq, redis, promote):
    redis.zadd("resque:delayed_queue_schedule", {str(NOW - 3): NOW - 3})
    resq.enqueue_at(moment(-1), EchoJob)

    promote()

    assert redis.zcard("resque:delayed_queue_schedule") == 0
    assert redis.llen("resque:queue:basic") == 1


def test_invalid_members_among_the_timestamps_stop_nothing(resq, redis, promote, caplog):
    redis.zadd("resque:delayed_queue_schedule", {"soon": 1, str(NOW - 3): NOW - 3})
    redis.set(f"resque:delayed:{NOW - 3}", "no list")
    resq.enqueue_at(moment(-1), EchoJob)

    promote()

    assert redis.llen("resque:queue:basic") == 1
    assert f"cannot promote the jobs due at {NOW - 3}: WRONGTYPE" in caplog.text


def test_the_generators_of_pyres_1_5_empty_what_is_due(resq):
    resq.enqueue_at(moment(-2), EchoJob, 1)
    resq.enqueue_at(moment(-1), EchoJob, 2)
    scheduler = Scheduler(resq)

    fetched = [
        (timestamp, item["args"])
        for timestamp in scheduler.next_timestamp()
        for item in scheduler.next_item(timestamp)
    ]

    assert fetched == [(str(NOW - 2), [1]), (str(NOW - 1), [2])]


# Removing and finding


def test_a_delayed_job_is_found_and_removed_whatever_its_other_fields(resq, redis):
    resq.enqueue_at(moment(10), EchoJob, 1, {"a": "é"})
    retried = (
        b'{"queue":"basic","class":"tests.jobs.EchoJob","retry_attempt":1,'
        b'"args":[1,{"a":"\\u00e9"}]}'
    )
    resq.store.delayed.delay(NOW + 20, retried)
    resq.enqueue_at(moment(30), EchoJob, 2)

    assert resq.delayed_at(EchoJob, 1, {"a": "é"}) == [NOW + 10, NOW + 20]
    assert resq.remove_delayed(EchoJob, 1, {"a": "é"}) == 2

    assert resq.delayed_queue_peek(0, 10) == [NOW + 30]
    assert resq.remove_delayed(EchoJob) == 0


def test_only_the_named_queue_is_searched(resq):
    resq.enqueue_at(moment(10), EchoJob, 1)
    resq.enqueue_at_from_string(moment(10), "tests.jobs.EchoJob", "other", 1)
    resq.enqueue_at_from_string(moment(10), "Ruby::Job", "other", 1)

    assert resq.remove_delayed_in_queue(EchoJob, "other", 1) == 1
    assert resq.remove_delayed(EchoJob, 1) == 1
    # Nobody here knows its queue.
    assert resq.remove_delayed("Ruby::Job", 1) == 1
    assert resq.delayed_queue_schedule_size() == 0


def test_each_call_moves_the_one_job_further_away(resq, redis):
    assert resq.delay_or_enqueue_in(10, EchoJob, 1) == 1
    assert resq.delay_or_enqueue_in(timedelta(seconds=20), EchoJob, 1) == 1

    assert resq.delayed_at(EchoJob, 1) == [NOW + 20]
    assert resq.delayed_queue_schedule_size() == 1


def test_delayed_jobs_can_be_enqueued_now(resq, redis):
    for seconds in (10, 10, 20):
        resq.enqueue_in(seconds, EchoJob, 1)
    resq.enqueue_in(20, EchoJob, 2)

    assert resq.enqueue_delayed_now(EchoJob, 1) == 3
    assert (
        redis.lrange("resque:queue:basic", 0, -1)
        == [b'{"class":"tests.jobs.EchoJob","args":[1]}'] * 3
    )
    assert resq.delayed_queue_peek(0, 10) == [NOW + 20]


def test_all_jobs_of_a_timestamp_can_be_enqueued_now_except_malformed_ones(resq, redis):
    for payload in (echo(1), echo(1), b"malformed", echo(2)):
        resq.store.delayed.delay(NOW + 5, payload)

    assert resq.promote_delayed(NOW + 5) == 3

    assert resq.store.delayed.peek(NOW + 5, 0, -1) == [b"malformed"]
    assert redis.llen("resque:queue:basic") == 3


def test_a_reset_forgets_all(resq, redis):
    for number in range(20):
        resq.enqueue_in(number % 3, EchoJob, number)

    assert resq.reset_delayed_queue() == 20

    assert keyspace(redis) == {}


def test_the_scripts_move_any_bytes(resq, redis):
    delayed = resq.store.delayed
    for timestamp in (NOW, NOW + 1, NOW + 2, NOW + 3):
        delayed.delay(timestamp, BYTES)

    assert delayed.promote(NOW, [Move(BYTES, "q\u00e9", BYTES)]).number == 1
    assert delayed.promote_one(NOW + 1, Move(BYTES, "q\u00e9", BYTES)).number == 1
    assert list(delayed.drop(NOW + 2)) == [[BYTES]]
    assert delayed.cancel(NOW + 3, BYTES) == 1

    assert redis.lrange("resque:queue:q\u00e9", 0, -1) == [BYTES, BYTES]
    assert set(keyspace(redis)) == {"resque:queue:q\u00e9", "resque:queues"}


def test_enqueue_at_of_a_class_without_a_queue_is_an_error(resq, redis, caplog):
    class Lost:
        @staticmethod
        def perform():
            pass

    assert resq.enqueue_at(moment(5), Lost) is False
    assert "it has no attribute 'queue'" in caplog.text
    assert keyspace(redis) == {}


@pytest.mark.usefixtures("own_jobs")
def test_a_delayed_function_is_moved_to_its_queue(resq, redis):
    @job(queue="mail", name="Welcome")
    def welcome(name):
        pass

    resq.enqueue_in(5, welcome, "Ada")

    assert resq.delayed_timestamp_peek(NOW + 5, 0, 1) == [
        {"class": "Welcome", "args": ["Ada"], "queue": "mail"}
    ]


def test_an_entry_that_no_scheduler_could_follow_is_not_written(resq, redis):
    with pytest.raises(
        BadScheduleError, match="'x' is left out: it has neither 'cron' nor 'every'"
    ):
        resq.set_schedule("x", {"class": "A", "queue": "q"})

    assert keyspace(redis) == {}


def test_a_removed_class_without_arguments_is_not_one_with_any(resq):
    resq.enqueue_in(5, NoopJob, 1)

    assert resq.remove_delayed(NoopJob) == 0
    assert resq.delayed_at(NoopJob) == []


def test_the_scripts_of_unique_locks_and_schedules_move_any_bytes_too(resq, redis):
    unique, schedules = resq.store.unique, resq.store.schedules
    now, later = (UniqueJob("q", BYTES, "2 12", "14 24", due) for due in (None, NOW))

    assert unique.push("one", "done:5.0", 9000, now, NOW) is True
    assert unique.push("one", "done:6.0", 9000, now, NOW) is False
    assert unique.delay("two", ":5.0", 9000, later, NOW) is True
    assert unique.delay("two", ":6.0", 9000, later, NOW) is False
    firing = Firing("\u00e9", NOW, NOW - 1, "now", "q", BYTES, NOW - 1, NOW, False)
    assert [schedules.fire(firing), schedules.fire(firing)] == [1, 0]

    assert redis.lrange("resque:queue:q", 0, -1) == [BYTES, BYTES]
    assert resq.store.delayed.peek(NOW, 0, 10) == [BYTES]
    unique.release("one", "start", None)
    unique.release("one", "done", 4.5)
    assert redis.exists("resque:pyres:unique:one")
    unique.release("one", "done", 5.0)
    assert not redis.exists("resque:pyres:unique:one")


def test_the_masters_lock_is_acquired_renewed_and_released_by_value(resq, redis):
    lock = resq.store.schedules.master_lock()

    assert lock.acquire("me:1", 10) == (True, "me:1", 10, "")
    ours, holder, seconds, _corrected = lock.acquire("you:2", 10)
    assert (ours, holder) == (False, "me:1")
    assert 0 < seconds <= 10
    assert lock.release("you:2") is False
    assert lock.release("me:1") is True
    redis.set("resque:resque:resque_scheduler_master_lock", "for:ever")
    assert lock.acquire("me:1", 10) == (False, "for:ever", 10, "has no expiry")
