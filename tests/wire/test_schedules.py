"""Delayed jobs and schedules are stored in Redis as resque-scheduler stores them."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime

from pyres.scheduler import Scheduler
from tests.servers import keyspace, until
from tests.wire.comparing import assert_as_golden, golden, restore
from tests.wire.ruby_jobs import NoopJob

T = 4102444800

NIGHTLY = {
    "cron": "0 3 * * *",
    "class": "CronJob",
    "queue": "cron",
    "args": ["é", 1],
    "description": "nightly thing",
    "persist": True,
}
OFTEN = {
    "class": "CronJob",
    "every": ["30s", {"first_in": "1s"}],
    "args": {"k": "v"},
    "persist": True,
}


def test_removing_a_delayed_job_leaves_what_ruby_leaves(ruby_like, redis):
    restore(redis, golden("11_delayed")["redis"])

    assert ruby_like.delayed_at(NoopJob, 2) == [T, T + 60]
    assert ruby_like.delayed_at(NoopJob, 99) == []
    assert ruby_like.remove_delayed(NoopJob, 2) == 2

    assert_as_golden(redis, "11c_remove_delayed")


def test_resetting_the_delayed_jobs_leaves_nothing(ruby_like, redis):
    restore(redis, golden("11_delayed")["redis"])

    assert ruby_like.reset_delayed_queue() == 5

    assert_as_golden(redis, "11e_reset_delayed_queue")


def test_promoting_a_job_that_ruby_delayed_leaves_what_ruby_leaves(ruby_like, redis):
    for number in (1, 2):
        ruby_like.enqueue_at(datetime.fromtimestamp(1795449820, UTC), NoopJob, number)
    scheduler = Scheduler(ruby_like)

    # Far later than golden 12's clock; what counts is that the moment has passed.
    ruby_like._current_time = lambda: datetime.fromtimestamp(1795449821, UTC)
    scheduler.handle_delayed_items()
    ruby_like.store.schedules.master_lock().acquire("localhost:10391", 180)

    assert_as_golden(redis, "12_promote_delayed")


def test_an_entry_that_is_set_is_stored_as_ruby_writes_it(ruby_like, redis):
    ruby_like.set_schedule("nightly", NIGHTLY)
    ruby_like.set_schedule("often", OFTEN)

    assert_as_golden(redis, "13_set_schedule")


def test_an_entry_that_ruby_set_can_be_read_and_removed(ruby_like, redis):
    restore(redis, golden("13_set_schedule")["redis"])

    assert sorted(ruby_like.schedules()) == ["nightly", "often"]
    assert ruby_like.get_schedule("nightly")["cron"] == "0 3 * * *"
    ruby_like.remove_schedule("nightly")

    assert ruby_like.get_schedule("nightly") is None
    assert redis.smembers("resque:schedules_changed") == {b"nightly", b"often", b"volatile"}
    assert list(redis.hgetall("resque:persistent_schedules")) == [b"often"]


def test_a_scheduler_fires_what_ruby_scheduled_and_leaves_what_ruby_leaves(run_daemon, redis):
    restore(redis, golden("13_set_schedule")["redis"])
    # CronJob's queue, which Ruby knows from its class.
    often = json.loads(redis.hget("resque:persistent_schedules", "often"))
    ours = json.dumps({**often, "queue": "cron"})
    redis.hset("resque:persistent_schedules", "often", ours)

    scheduler = run_daemon("pyres_scheduler", "--dynamic", env={"TZ": "UTC"})

    until(lambda: redis.llen("resque:queue:cron"), what="a job of the entry `often`")
    left = keyspace(redis)
    wanted = golden("13b_scheduler_running")["redis"]
    (payload,) = left["resque:queue:cron"]["values"]
    assert payload.startswith('{"class":"CronJob","args":[{"k":"v"}]')
    # What pyres adds: the active schedule, the moments fired, and the time in the payload.
    del left["resque:pyres:schedule"], left["resque:pyres:schedule_fired"]
    del left["resque:pyres:schedule_ranges"]
    left["resque:queue:cron"] = wanted["resque:queue:cron"]
    left["resque:persistent_schedules"] = wanted["resque:persistent_schedules"]
    when = left["resque:delayed:last_enqueued_at"]["fields"].pop("often")
    assert datetime.strptime(when, "%Y-%m-%d %H:%M:%S +0000")
    assert wanted["resque:delayed:last_enqueued_at"]["fields"].pop("often")
    lock = left["resque:resque:resque_scheduler_master_lock"]
    assert lock["value"].endswith(f":{scheduler.pid}")
    assert 170 < lock["ttl"] <= 180
    wanted["resque:resque:resque_scheduler_master_lock"] = lock
    assert left == wanted

    scheduler.send(signal.SIGTERM)

    assert scheduler.wait() == 0
    assert not redis.exists("resque:resque:resque_scheduler_master_lock")
