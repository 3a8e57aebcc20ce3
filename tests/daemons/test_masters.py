"""Who fires which entries: those of code and files fire whoever is the master."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from pyres.scheduler import Scheduler
from pyres.timing import NEVER

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
        """One turn a second."""
        for second in range(first, first + count):
            moment = datetime.fromtimestamp(second, UTC)
            self.resq._current_time = lambda moment=moment: moment
            self.scheduler._next_look = 0
            self.scheduler._turn()


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
    redis.set(LOCK, "ruby:1", ex=300)
    resq.set_schedule("stored", EACH_SECOND)
    resq.store.delayed.put_off(NOW, b'{"class":"A","args":[],"queue":"basic"}')
    scheduler = clocked({"own": EACH_SECOND}, dynamic=True)

    scheduler.seconds(NOW, 5)

    assert fired(redis) == {"own": 5}
    assert redis.llen("resque:queue:cron") == 5
    assert redis.get(LOCK) == b"ruby:1"
    assert redis.llen("resque:queue:basic") == 0


def test_the_master_fires_the_entries_in_redis_while_another_fires_the_static_ones(
    clocked, resq, redis
):
    redis.set(STATIC_LOCK, "other:1", ex=300)
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
        sources.append(resq.store.schedules.in_force()["tick"])
        resq.set_schedule("tick", EACH_SECOND)
        scheduler.seconds(start + 10, 10)
        sources.append(resq.store.schedules.in_force()["tick"])
        resq.remove_schedule("tick")

    assert [json.loads(raw)["source"] for raw in sources] == ["file", "Redis"] * 2
    assert fired(redis) == {"tick": 40, "own": 40}
    assert redis.llen("resque:queue:cron") == 80


def test_static_entries_yield_to_those_in_redis_that_another_master_follows(clocked, resq, redis):
    redis.set(LOCK, "ruby:1", ex=300)
    scheduler = clocked({"tick": EACH_SECOND, "own": EACH_SECOND}, dynamic=True)
    scheduler.seconds(NOW, 2)
    resq.set_schedule("tick", EACH_SECOND)
    scheduler.seconds(NOW + 2, 3)
    changed = redis.smembers("resque:schedules_changed")
    resq.set_schedule("tick", {**EACH_SECOND, "rails_env": "elsewhere"})
    scheduler.seconds(NOW + 5, 4)

    assert fired(redis) == {"tick": 2 + 4, "own": 9}
    # The master is to find out what changed.
    assert changed == {b"tick"}


def test_a_scheduler_without_entries_leaves_the_static_ones_to_others(clocked, redis):
    clocked().seconds(NOW, 2)

    assert redis.exists(LOCK)
    assert not redis.exists(STATIC_LOCK)


def test_a_scheduler_whose_file_lost_its_entries_gives_their_lock_back(clocked, redis, tmp_path):
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
        {"every": ["1s", {"last_in": "4s"}]},
        {"cron": ["* * * * * *", {"last_in": "4s"}]},
        {"every": ["1s", {"first_in": "4s", "times": 3}]},
    ],
)
def test_an_entry_ends_when_it_should_though_schedulers_are_restarted(clocked, resq, redis, config):
    def run(start):
        # The first scheduler goes on, as one does that was frozen.
        for first in range(start, start + 12, 2):
            for scheduler in (frozen, clocked({"a": {**config, "queue": "cron"}})):
                scheduler.seconds(first, 2)

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
