"""Which scheduler fires which entries: those of code and files fire with any master."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from pyres.exceptions import BadOptionError
from pyres.inspector import Inspector
from pyres.schedule_faults import queues_for
from pyres.scheduler import Scheduler
from pyres.timing import NEVER
from tests.servers import until

LOCK = "resque:resque:resque_scheduler_master_lock"
STATIC_LOCK = "resque:pyres:static_schedule_lock"
NOW = 1_800_000_000
EACH_SECOND = {"cron": "* * * * * *", "class": "Tick", "queue": "cron"}


class Clocked:
    """A scheduler under a clock that a test sets."""

    def __init__(self, resq, **options):
        self.resq = resq
        self.scheduler = Scheduler(resq, interval=0.001, **options)
        self.scheduler.static.load()

    def seconds(self, first, count):
        """Run once for each second."""
        for second in range(first, first + count):
            moment = datetime.fromtimestamp(second, UTC)
            self.resq._current_time = lambda moment=moment: moment
            for throttled in (
                self.scheduler,
                self.scheduler._candidate,
                self.scheduler._comparison,
                self.scheduler._overdue,
                self.scheduler._mastership,
                self.scheduler._static_mastership,
            ):
                throttled._next_check = 0
            self.scheduler._run_once()


@pytest.fixture
def clocked(resq, tmp_path, own_title):
    def clocked(entries=None, **options):
        path = None
        if entries is not None:
            path = tmp_path / "schedule.json"
            path.write_text(json.dumps(entries))
        return Clocked(resq, schedule=path and str(path), **options)

    return clocked


def fired(redis):
    """How often each entry was fired."""
    ranges = redis.hgetall("resque:pyres:schedule_ranges")
    return {
        name.decode(): sum(
            int(last) - int(first) + 1
            for first, last in (part.split(b"..") for part in text.split())
        )
        for name, text in ranges.items()
    }


def test_static_entries_fire_while_another_is_the_master(clocked, resq, redis):
    redis.set(LOCK, "ruby:1", ex=350)
    resq.set_schedule("stored", EACH_SECOND)
    resq.store.delayed.delay(NOW, b'{"class":"A","args":[],"queue":"basic"}')
    scheduler = clocked({"own": EACH_SECOND}, dynamic=True)

    scheduler.seconds(NOW, 5)

    assert fired(redis) == {"own": 5}
    assert redis.llen("resque:queue:cron") == 5
    assert redis.get(LOCK) == b"ruby:1"
    assert redis.llen("resque:queue:basic") == 0


def note_of_ruby(redis, name, moment):
    when = f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} +0000"
    redis.hset("resque:delayed:last_enqueued_at", name, when)


@pytest.mark.parametrize("seconds", [20, 180, 350])
def test_moments_that_ruby_had_not_fired_in_its_last_second_are_fired_late(
    clocked, resq, redis, seconds
):
    """Whatever timeout Ruby's lock has, moments that Ruby has fired are not fired again."""
    redis.set(LOCK, "ruby:1", ex=seconds)
    for name in ("stored", "behind"):
        resq.set_schedule(name, EACH_SECOND)
    scheduler = clocked(dynamic=True)
    scheduler.seconds(NOW, 2)
    redis.expire(LOCK, seconds)
    scheduler.seconds(NOW + 2, 1)
    note_of_ruby(redis, "stored", NOW + 2)
    note_of_ruby(redis, "behind", NOW + 1)

    redis.delete(LOCK)
    scheduler.seconds(NOW + 3, 2)

    assert fired(redis) == {"stored": 2, "behind": 3}


def test_a_lock_that_was_not_renewed_is_one_of_a_scheduler_that_has_ended(clocked, resq, redis):
    redis.set(LOCK, "ruby:1", ex=350)
    resq.set_schedule("stored", EACH_SECOND)
    scheduler = clocked(dynamic=True)
    scheduler.seconds(NOW, 5)

    redis.delete(LOCK)
    scheduler.seconds(NOW + 5, 1)

    assert fired(redis) == {"stored": 6}


@pytest.mark.parametrize("ahead", [70, 150])
def test_firings_after_a_late_last_check_are_not_taken_for_those_of_a_wrong_clock(
    clocked, resq, redis, ahead
):
    """A lock with a short timeout looks as if its holder had ended long ago."""
    redis.set(LOCK, "ruby:1", ex=180 - ahead)
    resq.set_schedule("stored", EACH_SECOND)
    scheduler = clocked(dynamic=True)
    scheduler.seconds(NOW, 1)
    note_of_ruby(redis, "stored", NOW)

    redis.delete(LOCK)
    scheduler.seconds(NOW + 1, 1)

    assert fired(redis) == {"stored": 1}


def test_a_stopping_scheduler_fires_what_is_due_before_another_takes_over(clocked, resq, redis):
    resq.set_schedule("stored", EACH_SECOND)
    clocked(dynamic=True).seconds(NOW, 1)
    before = fired(redis)["stored"]
    scheduler = clocked(dynamic=True)
    scheduler.seconds(NOW + 1, 1)
    resq._current_time = lambda: datetime.fromtimestamp(NOW + 2, UTC)

    scheduler.scheduler._shutdown = True
    scheduler.scheduler()

    assert fired(redis)["stored"] == before + 2
    assert not redis.exists(LOCK)


@pytest.mark.parametrize("args", [b'["\xff\xc3"]', b'[{"a":"\\ud83d"}]', b"[-1e400,1E999]"])
def test_an_entry_of_others_is_enqueued_with_the_bytes_of_its_args(clocked, resq, redis, args):
    entry = b'{"cron":"* * * * * *","class":"Tick","description":"\xff","queue":"cron","args":%b}'
    resq.store.schedules.put("odd", entry % args)
    resq.store.schedules.put("no class", b'{"every":"1s","class":"\xff","queue":"cron"}')
    scheduler = clocked(dynamic=True)

    scheduler.seconds(NOW, 1)
    assert resq.run_schedule("odd") is True

    start = b'{"class":"Tick","args":%b,' % args
    queued = redis.lrange("resque:queue:cron", 0, -1)
    assert [raw[: len(start)] for raw in queued] == [start] * len(queued) != []
    rows = {row.name: row for row in Inspector(resq).schedule()}
    assert rows["odd"].next
    assert "expected valid Unicode" in rows["no class"].fault


def test_the_master_fires_the_entries_in_redis_while_another_fires_the_static_ones(
    clocked, resq, redis
):
    redis.set(STATIC_LOCK, "other:1", ex=350)
    resq.set_schedule("stored", EACH_SECOND)
    scheduler = clocked({"own": EACH_SECOND}, dynamic=True)

    scheduler.seconds(NOW, 5)

    assert fired(redis) == {"stored": 5}
    assert list(redis.hgetall("resque:pyres:schedule")) == [b"stored"]


def test_an_entry_fires_once_a_moment_while_its_name_comes_and_goes_in_redis(clocked, resq, redis):
    scheduler = clocked({"tick": EACH_SECOND, "own": EACH_SECOND}, dynamic=True)
    sources = []

    for start in range(NOW, NOW + 40, 20):
        scheduler.seconds(start, 10)
        sources.append(resq.store.schedules.published()["tick"])
        resq.set_schedule("tick", EACH_SECOND)
        scheduler.seconds(start + 10, 10)
        sources.append(resq.store.schedules.published()["tick"])
        resq.remove_schedule("tick")

    assert [json.loads(raw)["source"] for raw in sources] == ["file", "Redis"] * 2
    assert fired(redis) == {"tick": 40, "own": 40}
    assert redis.llen("resque:queue:cron") == 80


def test_static_entries_yield_to_those_in_redis_that_another_master_follows(clocked, resq, redis):
    redis.set(LOCK, "ruby:1", ex=350)
    scheduler = clocked({"tick": EACH_SECOND, "own": EACH_SECOND}, dynamic=True)
    scheduler.seconds(NOW, 2)
    resq.set_schedule("tick", EACH_SECOND)
    scheduler.seconds(NOW + 2, 3)
    changed = redis.smembers("resque:schedules_changed")
    resq.set_schedule("tick", {**EACH_SECOND, "rails_env": "elsewhere"})
    scheduler.seconds(NOW + 5, 4)

    assert fired(redis) == {"tick": 2 + 4, "own": 9}
    # So that the master notices the change.
    assert changed == {b"tick"}


@pytest.mark.parametrize("config", [EACH_SECOND, {"every": "1s", "queue": "cron"}])
def test_a_ruby_entry_with_the_name_of_a_static_one_does_not_suppress_its_firings(
    clocked, redis, config
):
    def fire(second):
        when = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S +0000")
        redis.hset("resque:delayed:last_enqueued_at", "own", when)

    clocked({"own": config}).seconds(NOW, 3)
    # It was killed: the next one must fire the moments of the last seconds, as Ruby did.
    fire(NOW + 6)
    taken_over = clocked({"own": config}).scheduler
    taken_over.resq._current_time = lambda: datetime.fromtimestamp(NOW + 6, UTC)
    taken_over.static.start(NOW + 2)
    taken_over.static.fire(NOW + 6)

    assert redis.hget("resque:pyres:schedule_ranges", "own").endswith(b"%d" % (NOW + 6))
    assert fired(redis)["own"] == 3 + 4 - (config != EACH_SECOND)


def test_a_scheduler_without_entries_leaves_the_static_ones_to_others(clocked, redis):
    clocked().seconds(NOW, 2)

    assert redis.exists(LOCK)
    assert not redis.exists(STATIC_LOCK)


def test_a_scheduler_whose_file_lost_its_entries_releases_their_lock(clocked, redis, tmp_path):
    scheduler = clocked({"own": EACH_SECOND})
    scheduler.seconds(NOW, 2)
    assert redis.exists(STATIC_LOCK)
    (tmp_path / "schedule.json").write_text("{}")

    scheduler.scheduler.reload_schedule(0, None)
    scheduler.seconds(NOW + 2, 1)

    assert not redis.exists(STATIC_LOCK)
    assert redis.hgetall("resque:pyres:schedule") == {}


def test_groups_of_schedulers_with_a_prefix_each_fire_their_own(clocked, redis):
    for prefix in ("blue", "green"):
        clocked({prefix: EACH_SECOND}, lock_prefix=prefix).seconds(NOW, 3)

    assert fired(redis) == {"blue": 3, "green": 3}
    assert redis.exists("resque:pyres:blue:static_schedule_lock")


# Entries with limits, and those that only Ruby can run


@pytest.mark.parametrize(
    "config",
    [
        {"every": ["1s", {"times": 3}]},
        {"cron": ["* * * * * *", {"times": 3}]},
        {"every": ["1s", {"last_in": "3s"}]},
        {"cron": ["* * * * * *", {"last_in": "3s"}]},
        {"every": ["1s", {"first_in": "4s", "times": 3}]},
    ],
)
def test_an_entry_ends_when_it_should_though_schedulers_are_restarted(clocked, resq, redis, config):
    def run(start):
        # The first scheduler goes on, like one that was frozen.
        for first in range(start, start + 12, 4):
            for scheduler in (frozen, clocked({"a": {**config, "queue": "cron"}})):
                scheduler.seconds(first, 4)

    frozen = clocked({"a": {**config, "queue": "cron"}}, dynamic=True)

    run(NOW)

    assert redis.llen("resque:queue:cron") == 3
    resq.set_schedule("a", {**config, "queue": "cron"})
    frozen.seconds(NOW + 12, 12)
    assert redis.llen("resque:queue:cron") == 6
    assert json.loads(redis.hget("resque:pyres:schedule", "a"))["next"] == NEVER


def test_an_entry_that_ruby_sets_again_begins_again(clocked, redis):
    raw = json.dumps({"every": ["1s", {"times": 2}], "queue": "cron", "class": "A"})
    redis.hset("resque:persistent_schedules", "a", raw)
    scheduler = clocked(dynamic=True)
    scheduler.seconds(NOW, 6)
    assert redis.llen("resque:queue:cron") == 2

    redis.sadd("resque:schedules_changed", "a")
    scheduler.seconds(NOW + 6, 6)

    assert redis.llen("resque:queue:cron") == 4


def test_an_entry_with_a_custom_job_class_is_left_to_ruby(clocked, redis, caplog):
    ruby = {**EACH_SECOND, "custom_job_class": "JobWithStatus"}
    plain = {**EACH_SECOND, "custom_job_class": "Resque::Job"}

    clocked({"ruby": ruby, "plain": plain}).seconds(NOW, 3)

    assert fired(redis) == {"plain": 3}
    assert "'ruby' is left out: its custom_job_class 'JobWithStatus'" in caplog.text


# Entries that cannot be fired here

CUSTOM = {**EACH_SECOND, "custom_job_class": "JobWithStatus"}
QUEUELESS = {"cron": "* * * * * *", "class": "RJ::Cron"}


def set_by_ruby(redis, name, config):
    redis.hset("resque:persistent_schedules", name, json.dumps(config))
    redis.sadd("resque:schedules_changed", name)


def faults(redis):
    return {
        name.decode(): json.loads(raw)
        for name, raw in redis.hgetall("resque:pyres:schedule_faults").items()
    }


def test_the_queue_of_a_class_that_is_unknown_here_can_be_set(clocked, resq, redis):
    set_by_ruby(redis, "stored", QUEUELESS)
    scheduler = clocked(
        {"filed": {**QUEUELESS, "class": "Other"}, "named": {**QUEUELESS, "queue": "own"}},
        dynamic=True,
        queue_for={"RJ::Cron": "cronq", "Other": "others"},
    )

    scheduler.seconds(NOW, 3)
    resq.run_schedule("stored")

    assert fired(redis) == {"stored": 3, "filed": 3, "named": 3}
    assert {name: redis.llen(f"resque:queue:{name}") for name in ("cronq", "others", "own")} == {
        "cronq": 4, "others": 3, "own": 3,
    }  # fmt: skip


def test_faults_are_published_as_long_as_they_are_there(clocked, redis, tmp_path):
    entries = {"bad": {"cron": "nonsense", "queue": "q"}, "lost": QUEUELESS}
    set_by_ruby(redis, "custom", CUSTOM)
    set_by_ruby(redis, "garbled", 5)
    set_by_ruby(redis, "queueless", QUEUELESS)
    scheduler = clocked(entries, dynamic=True)
    scheduler.seconds(NOW, 1)

    found = faults(redis)

    assert {name: fault["source"] for name, fault in found.items()} == {
        "bad": "file", "lost": "file", "custom": "Redis", "garbled": "Redis", "queueless": "Redis",
    }  # fmt: skip
    assert "schedule.json:1: the schedule entry 'bad' is left out" in found["bad"]["text"]
    assert "set it with --queue-for RJ::Cron=QUEUE" in found["queueless"]["text"]
    for name in ("custom", "garbled"):
        set_by_ruby(redis, name, EACH_SECOND)
    redis.hdel("resque:persistent_schedules", "queueless")
    redis.sadd("resque:schedules_changed", "queueless")
    scheduler.seconds(NOW + 1, 2)
    assert faults(redis).keys() == {"bad", "lost"}
    assert fired(redis) == {"custom": 2, "garbled": 2}
    (tmp_path / "schedule.json").write_text("{}")
    clocked(dynamic=True).seconds(NOW + 3, 1)
    scheduler.scheduler.reload_schedule(0, None)
    scheduler.seconds(NOW + 4, 1)
    assert faults(redis) == {}


@pytest.mark.parametrize("config", [CUSTOM, QUEUELESS, 5, {"every": "often", "queue": "q"}])
def test_with_take_lock_able_a_scheduler_is_on_standby_while_an_entry_would_stop(
    clocked, redis, caplog, config
):
    set_by_ruby(redis, "ruby", config)
    scheduler = clocked({"own": EACH_SECOND}, dynamic=True, take_lock="able")
    scheduler.seconds(NOW, 3)
    assert not redis.exists(LOCK)
    assert faults(redis).keys() == {"ruby"}
    assert caplog.text.count("Not becoming the master") == 1

    set_by_ruby(redis, "ruby", EACH_SECOND)
    scheduler.seconds(NOW + 3, 3)
    assert redis.exists(LOCK)
    assert faults(redis) == {}

    set_by_ruby(redis, "ruby", config)
    scheduler.seconds(NOW + 6, 3)
    assert not redis.exists(LOCK)
    assert fired(redis) == {"own": 9, "ruby": 3}


def test_faults_that_cannot_be_published_do_not_change_who_is_the_master(clocked, redis, caplog):
    redis.set("resque:pyres:schedule_faults", "of another type")
    set_by_ruby(redis, "ruby", QUEUELESS)
    scheduler = clocked({"own": EACH_SECOND}, dynamic=True, take_lock="able")
    scheduler.seconds(NOW, 3)
    assert not redis.exists(LOCK)
    assert fired(redis) == {"own": 3}
    assert caplog.text.count("Could not publish the faults") == 1

    redis.delete("resque:pyres:schedule_faults")
    scheduler.seconds(NOW + 3, 1)
    assert faults(redis).keys() == {"ruby"}


@pytest.mark.parametrize(
    ("days", "options", "may"),
    [
        (0, {"take_lock": "able"}, False),
        (31, {"take_lock": "able"}, False),
        (33, {"take_lock": "able"}, True),
        (0, {}, True),
        (0, {"take_lock": "never"}, False),
        (33, {"take_lock": "never"}, False),
    ],
)
def test_an_entry_that_only_another_scheduler_knows_counts_as_one_that_would_stop(
    clocked, redis, caplog, days, options, may
):
    when = datetime.fromtimestamp(NOW - 60 - days * 86400, UTC).strftime("%Y-%m-%d %H:%M:%S +0000")
    redis.hset("resque:delayed:last_enqueued_at", mapping={"rb": when, "own": when})
    scheduler = clocked({"own": EACH_SECOND}, **options)

    scheduler.seconds(NOW, 2)
    redis.hset("resque:delayed:last_enqueued_at", "rb", when.replace(":00 ", ":01 "))
    scheduler.seconds(NOW + 2, 1)

    assert redis.exists(LOCK) == may
    assert fired(redis) == {"own": 3}
    warned = caplog.text.count("'rb' is not known here: another scheduler enqueued it")
    assert warned == (days < 32 and options.get("take_lock") != "never")


def test_entries_in_redis_stop_with_a_master_that_is_not_dynamic_which_is_logged(
    clocked, redis, caplog
):
    set_by_ruby(redis, "ruby", EACH_SECOND)

    clocked(take_lock="able").seconds(NOW, 1)
    assert not redis.exists(LOCK)
    clocked().seconds(NOW, 2)

    assert redis.exists(LOCK)
    assert "'ruby' needs --dynamic" in caplog.text
    assert "'ruby' needs --dynamic" in faults(redis)["ruby"]["text"]


def test_that_no_scheduler_is_the_master_is_logged(clocked, redis, caplog):
    set_by_ruby(redis, "ruby", CUSTOM)
    scheduler = clocked(take_lock="able", lock_timeout=0.001)

    until(lambda: scheduler.seconds(NOW, 1) or "No scheduler is the master" in caplog.text)
    scheduler.seconds(NOW, 3)

    assert caplog.text.count("No scheduler is the master") == 1


@pytest.mark.parametrize(
    ("theirs", "unknown"),
    [
        ({}, ["a", "b"]),
        ({"a": EACH_SECOND, "b": EACH_SECOND}, []),
        ({"a": {**EACH_SECOND, "cron": "0 * * * * *"}, "b": EACH_SECOND}, ["a"]),
        ({"a": {**EACH_SECOND, "args": [1]}, "b": EACH_SECOND}, ["a"]),
    ],
)
def test_a_standby_logs_which_of_its_entries_the_other_scheduler_lacks(
    clocked, redis, caplog, theirs, unknown
):
    clocked({**theirs, "c": EACH_SECOND}).seconds(NOW, 1)
    redis.set(STATIC_LOCK, "other:1", ex=350)

    clocked({"a": EACH_SECOND, "b": EACH_SECOND}).seconds(NOW, 5)

    messages = [r.getMessage() for r in caplog.records if "unknown to other:1" in r.getMessage()]
    assert [line.rpartition(": ")[2] for line in messages] == ["; ".join(unknown)] * bool(unknown)
    assert fired(redis).keys() <= {"a", "b", "c"}


@pytest.mark.parametrize(
    ("timing", "fired_at", "overdue"),
    [
        ({"cron": "* * * * *"}, [], True),
        ({"cron": "* * * * *"}, [NOW + 60, NOW + 120, NOW + 180], False),
        ({"cron": "* * * * *"}, [NOW + 60], True),
        ({"cron": "0 0 1 1 *"}, [], False),
        ({"every": "10s"}, [], True),
        ({"every": "10s"}, [NOW + 58, NOW + 118, NOW + 178], False),
        ({"every": "10h"}, [], False),
    ],
)
def test_a_standby_logs_which_entries_in_redis_the_master_does_not_fire(
    clocked, redis, caplog, timing, fired_at, overdue
):
    redis.set(LOCK, "ruby:1", ex=350)
    set_by_ruby(redis, "a", {**timing, "class": "A", "queue": "q"})
    scheduler = clocked(dynamic=True)

    for second in (NOW, NOW + 65, NOW + 125, NOW + 185):
        for moment in (moment for moment in fired_at if moment < second):
            when = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S +0000")
            redis.hset("resque:delayed:last_enqueued_at", "a", when)
        scheduler.seconds(second, 1)

    assert caplog.text.count("the master ruby:1 does not fire: a") == overdue
    assert redis.llen("resque:queue:q") == 0


@pytest.mark.parametrize("text", ["Report", "=mail", "Report=", "=", "Report= "])
def test_a_queue_for_a_class_that_cannot_be_read_is_refused(text):
    with pytest.raises(BadOptionError, match=r"invalid --queue-for '.*': expected Class=queue"):
        queues_for([text])


def test_queues_are_set_by_class():
    assert queues_for(["A::B=low", " app.jobs.x = a=b"]) == {"A::B": "low", "app.jobs.x = a": "b"}


def test_an_invalid_take_lock_is_refused(resq):
    with pytest.raises(BadOptionError, match="invalid take_lock 'often': expected one of always"):
        Scheduler(resq, take_lock="often")
