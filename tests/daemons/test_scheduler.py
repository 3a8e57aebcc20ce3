"""Schedulers as processes: even if they are killed, each job is promoted or fired once."""

from __future__ import annotations

import json
import os
import platform
import random
import re
import signal
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from pyres import ResQ
from pyres.active_schedule import ActiveSchedule
from pyres.exceptions import BadServerError
from pyres.scheduler import Scheduler
from pyres.version import __version__
from tests.jobs import EchoJob, NoopJob
from tests.servers import Daemons, keyspace, until

LOCK = "resque:resque:resque_scheduler_master_lock"
STATIC_LOCK = "resque:pyres:static_schedule_lock"
NOW = 1_800_000_000


@pytest.fixture
def start(run_daemon):
    """Starts a scheduler whose lock lives for a second."""

    def start(*options, **more):
        return run_daemon("pyres_scheduler", "--lock-timeout", "1", *options, **more)

    return start


def master(redis, lock=LOCK):
    """The pid in the lock, or 0."""
    return int((redis.get(lock) or b":0").rpartition(b":")[2])


def holder(schedulers, redis, lock=LOCK):
    """The daemon that is the master, as soon as one is: a lock of a second may expire."""
    return until(
        lambda: next((daemon for daemon in schedulers if daemon.pid == master(redis, lock)), None),
        what="a master among these",
    )


def delay(resq, count, timestamp):
    with resq.pipeline() as batch:
        for number in range(count):
            payload = b'{"class":"tests.jobs.NoopJob","args":[%d],"queue":"basic"}' % number
            batch.store.delayed.delay(timestamp, payload)


def fired(redis, queue="cron"):
    return [json.loads(raw) for raw in redis.lrange(f"resque:queue:{queue}", 0, -1)]


# Delayed jobs


def promoted(start, resq, redis):
    """The seconds until a job due now, and one due in 2 s, were on their queue."""
    start().until_title(": Waiting")

    began = time.time()
    resq.enqueue_at(datetime.now(UTC), EchoJob, "now")
    resq.enqueue_in(2, EchoJob, "later")

    until(lambda: redis.llen("resque:queue:basic") == 2)
    return [item["enqueue_timestamp"] - began for item in resq.peek("basic", 0, 2)]


def test_a_job_is_not_on_its_queue_before_its_time(start, resq, redis):
    # Times of delayed jobs are whole seconds, so the second may come up to a second early.
    assert promoted(start, resq, redis)[1] >= 1


@pytest.mark.timing
def test_a_job_is_on_its_queue_within_1_1_seconds_of_its_time(start, resq, redis):
    now, later = promoted(start, resq, redis)

    assert now <= 1.1
    assert later <= 3.1


@pytest.mark.chaos
def test_each_job_is_on_its_queue_once_though_schedulers_are_killed(
    run_daemon, redis, chaos_rounds
):
    resq = ResQ(redis)
    for seed in range(chaos_rounds):
        redis.flushall()
        dice = random.Random(seed)
        options = ("--lock-timeout", "0.5", "--interval", "0.05")
        # All wait for the same lock, until none holds it.
        redis.set(LOCK, "nobody:1", ex=300)
        schedulers = [run_daemon("pyres_scheduler", *options) for _ in range(3)]
        delay(resq, 10_000, int(time.time()) - 1)
        for daemon in schedulers:
            daemon.until_title(": Waiting for the lock of nobody:1")
        redis.delete(LOCK)

        until(lambda seed=seed: redis.llen("resque:queue:basic") > 0, what=f"a start, seed {seed}")
        middle = dice.randrange(9000)
        until(lambda middle=middle: redis.llen("resque:queue:basic") > middle)
        holder(schedulers, redis).send(signal.SIGKILL)

        until(lambda: redis.zcard("resque:delayed_queue_schedule") == 0, what=f"seed {seed}")
        counts = Counter(item["args"][0] for item in fired(redis, "basic"))
        assert counts == Counter(range(10_000)), f"seed {seed}"
        for daemon in schedulers:
            daemon.close()
    resq.close()


def test_two_that_both_think_they_are_the_master_move_nothing_twice(run_daemon, resq, redis):
    delay(resq, 5000, NOW - 10**9)
    code = f"from pyres.scheduler import Scheduler; Scheduler({resq.dsn!r}).handle_delayed_items()"

    both = [run_daemon("-c", code) for _ in range(2)]

    assert [daemon.wait() for daemon in both] == [0, 0]
    counts = Counter(item["args"][0] for item in fired(redis, "basic"))
    assert counts == Counter(range(5000))


# An item must not be lost between pop and push, and a malformed one must not end the scheduler.
def test_a_malformed_payload_stops_no_scheduler(start, resq, redis):
    for payload in (
        b"not json",
        b'{"class":"A","args":[]}',
        b'{"class":"A","args":[],"queue":"q"}',
    ):
        resq.store.delayed.delay(1, payload)

    scheduler = start()

    until(lambda: (redis.llen("resque:failed"), redis.llen("resque:queue:q")) == (2, 1))
    assert scheduler.returncode is None


# The lock


def test_the_lock_is_rubys_and_is_renewed_while_others_are_on_standby(start, redis):
    options = ("--lock-timeout", "100", "--interval", "0.2")
    first = start(*options)
    until(lambda: redis.get(LOCK) == f"{platform.node()}:{first.pid}".encode())
    second = start(*options)
    second.until_title(f"Waiting for the lock of {platform.node()}:{first.pid}")

    first.until_title(f"pyres_scheduler-{__version__}: Waiting")
    redis.expire(LOCK, 90)
    until(lambda: redis.pttl(LOCK) > 90_000)
    assert master(redis) == first.pid


def test_a_clean_stop_releases_the_lock_and_another_takes_over(start, redis):
    options = ("--lock-timeout", "100", "--interval", "0.2")
    first = start(*options)
    until(lambda: master(redis) == first.pid)
    second = start(*options)
    second.until_title("Waiting for the lock")

    first.send(signal.SIGTERM)

    assert first.wait() == 0
    until(lambda: master(redis) == second.pid)
    second.send(signal.SIGINT)
    assert second.wait() == 0
    assert redis.get(LOCK) is None


def taken_over(start, redis, lock_timeout):
    """The seconds until another scheduler has the lock of a killed master."""
    first = start("--lock-timeout", str(lock_timeout))
    until(lambda: master(redis) == first.pid)
    second = start("--lock-timeout", str(lock_timeout))
    second.until_title("Waiting for the lock")

    killed = time.monotonic()
    first.send(signal.SIGKILL)

    until(lambda: master(redis) == second.pid)
    return time.monotonic() - killed


def test_another_scheduler_takes_over_when_the_master_is_killed(start, redis):
    # Long enough for a busy machine to renew it.
    taken_over(start, redis, lock_timeout=3)


@pytest.mark.timing
def test_another_scheduler_takes_over_a_killed_master_within_the_lock_timeout(start, redis):
    assert taken_over(start, redis, lock_timeout=1) < 1.5


def test_a_stopping_scheduler_leaves_the_lock_of_another_alone(start, redis):
    redis.set(LOCK, "ruby:1", ex=100)
    scheduler = start()
    scheduler.until_title("Waiting for the lock of ruby:1")

    scheduler.send(signal.SIGQUIT)

    assert scheduler.wait() == 0
    assert redis.get(LOCK) == b"ruby:1"


def test_the_lock_may_have_rubys_prefix(start, redis):
    start(env={"RESQUE_SCHEDULER_MASTER_LOCK_PREFIX": "blue"})

    until(lambda: redis.get("resque:resque:blue:resque_scheduler_master_lock"))


# Starting and stopping


def test_a_stop_ends_a_pause_of_an_hour(run_daemon, redis):
    redis.set(LOCK, "other:1", ex=7200)
    scheduler = run_daemon("pyres_scheduler", "--interval", "3600")
    scheduler.until_title("Waiting for the lock of other:1")

    scheduler.send(signal.SIGTERM)

    assert scheduler.wait() == 0


def test_a_scheduler_outlives_its_server(own_server, tmp_path):
    resq = ResQ(own_server.dsn)
    with Daemons(tmp_path, own_server.url) as run:
        scheduler = run("pyres_scheduler", "--lock-timeout", "1")
        until(lambda: master(resq.redis))
        own_server.kill()
        scheduler.until_output("Redis is unreachable")

        own_server.restart()
        redis = own_server.client()
        until(lambda: redis.ping())
        ResQ(own_server.dsn).enqueue_in(0, EchoJob, "after")

        until(lambda: redis.llen("resque:queue:basic") == 1)
        assert scheduler.returncode is None


def test_a_scheduler_can_be_started_before_its_server(tmp_path, own_server):
    own_server.kill()
    with Daemons(tmp_path, own_server.url) as run:
        scheduler = run("pyres_scheduler")
        scheduler.until_output("Redis is unreachable")
        scheduler.send(signal.SIGTERM)

        assert scheduler.wait() == 0


def test_a_pidfile_exists_while_the_daemon_runs(start, tmp_path, redis):
    scheduler = start("-p", str(tmp_path / "pid"))
    until(lambda: (tmp_path / "pid").exists())

    assert int((tmp_path / "pid").read_text()) == scheduler.pid
    scheduler.send(signal.SIGTERM)
    scheduler.wait()
    assert not (tmp_path / "pid").exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--schedule", "gone.yml"], "the schedule gone.yml cannot be read: No such file"),
        (["--queue-for", "Report"], "invalid --queue-for 'Report': expected Class=queue"),
        (["--interval", "0"], "invalid value '0': expected a number of seconds above 0"),
        (["--lock-timeout", "soon"], "invalid value 'soon': expected a number of seconds"),
        (["--require", "no_such_module"], "'no_such_module' cannot be imported"),
    ],
)
def test_an_unusable_option_is_a_one_line_error_and_exit_code_2(run_daemon, options, complaint):
    scheduler = run_daemon("pyres_scheduler", *options)

    assert scheduler.wait() == 2
    assert complaint in scheduler.output()
    assert scheduler.output().count("\n") == 1


def test_an_invalid_server_is_refused():
    with pytest.raises(BadServerError, match="invalid server"):
        Scheduler(5)


@pytest.mark.usefixtures("own_title")
def test_the_handlers_are_the_public_methods(resq):
    scheduler = Scheduler(resq)

    scheduler.register_signal_handlers()
    try:
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            assert signal.getsignal(signum) == scheduler.schedule_shutdown
        os.kill(os.getpid(), signal.SIGTERM)
        scheduler()
    finally:
        scheduler.signals.restore()
    assert resq.redis.get(LOCK) is None


# Recurring jobs


def test_no_moment_fires_twice_or_is_lost_when_schedulers_are_killed(start, redis, tmp_path):
    # These are fired by the holder of their own lock, whichever scheduler is the master.
    redis.set(LOCK, "ruby:1", ex=300)
    schedule = tmp_path / "schedule.json"
    schedule.write_text('{"tick": {"cron": "* * * * * *", "class": "Tick", "queue": "cron"}}')
    both = [start("--schedule", str(schedule)) for _ in range(2)]
    until(lambda: redis.llen("resque:queue:cron") >= 2)

    killed = holder(both, redis, STATIC_LOCK)
    killed.send(signal.SIGKILL)
    killed.wait()

    before = int(redis.hget("resque:pyres:schedule_fired", "tick"))
    until(lambda: int(redis.hget("resque:pyres:schedule_fired", "tick")) >= before + 3)
    both[0].close()
    both[1].close()
    # The new master fired late what was due until the lock expired.
    lines = re.findall(r"Enqueued tick to cron for (.*)", both[0].output() + both[1].output())
    seconds = sorted(int(datetime.fromisoformat(line).timestamp()) for line in lines)
    assert len(seconds) == len(set(seconds))
    last = int(redis.hget("resque:pyres:schedule_fired", "tick"))
    assert redis.llen("resque:queue:cron") == last - seconds[0] + 1


def test_a_broken_entry_is_named_with_its_line_and_the_others_fire(start, redis, tmp_path):
    schedule = tmp_path / "schedule.yml"
    schedule.write_text("bad:\n  cron: nonsense\n  queue: q\ngood:\n  every: 1s\n  queue: q\n")

    scheduler = start("--schedule", str(schedule))

    scheduler.until_output(
        "schedule.yml:1: the schedule entry 'bad' is left out: invalid cron 'nonsense'"
    )
    until(lambda: redis.llen("resque:queue:q"))


def test_a_job_with_its_own_schedule_is_enqueued(start, redis, tmp_path):
    (tmp_path / "recurring.py").write_text(
        "from pyres import job\n"
        "@job(queue='low', cron='* * * * * *', timezone='Europe/Berlin')\n"
        "def tick(): pass\n"
    )

    start("--path", str(tmp_path), "--require", "recurring")

    until(lambda: redis.llen("resque:queue:low"))
    assert fired(redis, "low")[0]["class"] == "recurring.tick"


def test_dynamic_entries_come_and_go_while_it_runs(start, resq, redis):
    scheduler = start("--dynamic", "--interval", "0.1")
    until(lambda: master(redis) == scheduler.pid)

    resq.set_schedule("tick", {"every": "1s", "class": "A", "queue": "cron"})
    until(lambda: redis.llen("resque:queue:cron"))
    resq.remove_schedule("tick")
    until(lambda: not redis.exists("resque:schedules_changed"))

    scheduler.send(signal.SIGUSR1)
    scheduler.until_output("active entries: none")


def test_a_changed_schedule_file_is_read_after_usr2(start, redis, tmp_path):
    schedule = tmp_path / "schedule.json"
    schedule.write_text("{}")
    scheduler = start("--schedule", str(schedule), "--interval", "0.1")
    until(lambda: master(redis) == scheduler.pid)

    schedule.write_text('{"a": {"every": "1s", "queue": "cron"}}')
    scheduler.send(signal.SIGUSR2)
    until(lambda: redis.llen("resque:queue:cron"))
    schedule.write_text("{")
    scheduler.send(signal.SIGUSR2)

    scheduler.until_output("Keeping the previous schedule")
    assert scheduler.returncode is None


# The active schedule, with the clock as an argument


def active_schedule(resq, folder, entries, since=NOW, **options):
    path = folder / "schedule.json"
    path.write_text(json.dumps(entries))
    found = ActiveSchedule(resq, str(path), **options)
    found.load()
    found.start(since)
    return found


TICK = {"tick": {"cron": "* * * * * UTC", "class": "Tick", "queue": "cron", "args": {"k": "é"}}}
#: A whole minute.
MINUTE = NOW - NOW % 60 + 60


def test_a_moment_fires_once_whichever_scheduler_is_the_master(resq, redis, tmp_path):
    resq.enqueue_timestamp = False
    one, two = active_schedule(resq, tmp_path, TICK), active_schedule(resq, tmp_path, TICK)

    assert [one.fire(MINUTE - 1), one.fire(MINUTE), one.fire(MINUTE + 1)] == [0, 1, 0]
    assert two.fire(MINUTE + 1) == 0
    assert two.fire(MINUTE + 60) == 1
    assert one.fire(MINUTE + 60) == 0

    assert (
        redis.lrange("resque:queue:cron", 0, -1)
        == ['{"class":"Tick","args":[{"k":"é"}]}'.encode()] * 2
    )
    when = redis.hget("resque:delayed:last_enqueued_at", "tick").decode()
    assert datetime.strptime(when, "%Y-%m-%d %H:%M:%S %z").timestamp() == MINUTE + 60


def test_moments_missed_while_no_scheduler_ran_are_not_fired_late_as_in_ruby(resq, redis, tmp_path):
    active_schedule(resq, tmp_path, TICK).fire(MINUTE)

    later = active_schedule(resq, tmp_path, TICK, since=MINUTE + 3600)

    assert later.fire(MINUTE + 3601) == 0


def test_catch_up_fires_the_last_missed_moment_late(resq, redis, tmp_path):
    active_schedule(resq, tmp_path, TICK).fire(MINUTE)

    later = active_schedule(resq, tmp_path, TICK, since=MINUTE + 3599, catch_up=True, late=60)

    assert later.fire(MINUTE + 3599) == 1
    assert later.fire(MINUTE + 3599) == 0
    assert redis.hget("resque:pyres:schedule_fired", "tick") == str(MINUTE + 3540).encode()


def test_catch_up_has_nothing_to_make_up_of_an_entry_that_never_fired(resq, tmp_path):
    assert active_schedule(resq, tmp_path, TICK, since=MINUTE, catch_up=True).fire(MINUTE + 1) == 0


def test_a_scheduler_that_is_a_little_late_fires_every_moment(resq, tmp_path):
    found = active_schedule(resq, tmp_path, TICK, late=200)

    assert found.fire(MINUTE + 130) == 3


@pytest.mark.parametrize("zone", ["+0000", "UTC"])
def test_what_ruby_fired_is_not_fired_again(resq, redis, tmp_path, zone):
    when = f"{datetime.fromtimestamp(MINUTE, UTC):%Y-%m-%d %H:%M:%S} {zone}"
    redis.hset("resque:delayed:last_enqueued_at", "tick", when)

    found = active_schedule(resq, tmp_path, TICK, since=MINUTE - 5)

    assert found.fire(MINUTE + 1) == 0
    assert found.fire(MINUTE + 60) == 1


def test_every_goes_on_from_where_the_last_scheduler_was(resq, tmp_path):
    entries = {"often": {"every": "10m", "queue": "cron"}}
    active_schedule(resq, tmp_path, entries)

    # Restarted more often than every ten minutes, it still fires.
    second = active_schedule(resq, tmp_path, entries, since=NOW + 400)
    assert second.fire(NOW + 601) == 1
    third = active_schedule(resq, tmp_path, entries, since=NOW + 700)

    assert third.fire(NOW + 1200) == 0
    assert third.fire(NOW + 1201) == 1


@pytest.mark.parametrize(("text", "fired"), [("0.5s", 11), ("1.5s", 7), ("2.75s", 4)])
def test_an_interval_of_a_fraction_of_a_second_neither_loses_nor_repeats_firings(
    resq, redis, tmp_path, text, fired
):
    entries = {"often": {"every": text, "queue": "cron"}}
    one, two = active_schedule(resq, tmp_path, entries), active_schedule(resq, tmp_path, entries)

    for second in range(NOW + 1, NOW + 13):
        one.fire(second)
        two.fire(second)

    assert redis.llen("resque:queue:cron") == fired


def test_two_that_fire_every_so_often_do_not_do_so_side_by_side(resq, tmp_path):
    entries = {"often": {"every": "10m", "queue": "cron"}}
    one = active_schedule(resq, tmp_path, entries, since=NOW)
    two = active_schedule(resq, tmp_path, entries, since=NOW + 5)

    assert sum(found.fire(NOW + 615) for found in (one, two)) == 1


def test_an_entry_without_a_queue_uses_that_of_its_class(resq, redis, tmp_path, caplog):
    entries = {
        "ours": {"every": 1, "class": "tests.jobs.NoopJob"},
        "lost": {"every": 1, "class": "no.such.Class"},
    }

    assert active_schedule(resq, tmp_path, entries, since=NOW - 1).fire(NOW + 2) == 2

    assert redis.llen("resque:queue:basic") == 2
    assert "'lost' is left out: it names no queue, and its class cannot be imported" in caplog.text


def test_a_unique_recurring_job_waits_on_its_queue_once(resq, redis, tmp_path, monkeypatch):
    monkeypatch.setattr(NoopJob, "unique_for", 60, raising=False)
    entries = {"ours": {"every": 1, "class": "tests.jobs.NoopJob"}}

    assert active_schedule(resq, tmp_path, entries).fire(NOW + 3) == 1

    assert redis.llen("resque:queue:basic") == 1


def test_entries_for_another_environment_are_left_out(resq, tmp_path):
    entries = {"a": {"every": 1, "queue": "q", "rails_env": "production"}}

    assert active_schedule(resq, tmp_path, entries).fire(NOW + 5) == 0
    assert active_schedule(resq, tmp_path, entries, environment="production").fire(NOW + 5) == 4


def test_a_queue_key_of_another_type_stops_no_other_entry(resq, redis, tmp_path, caplog):
    redis.set("resque:queue:odd", "no list")
    entries = {name: {"every": 1, "queue": name} for name in ("odd", "good")}

    schedule = active_schedule(resq, tmp_path, entries, since=NOW - 1)

    assert [schedule.fire(NOW + second) for second in (1, 2, 3)] == [1, 1, 1]

    assert caplog.text.count("odd could not be enqueued to odd: WRONGTYPE") == 1


def test_the_active_schedule_can_be_logged(resq, tmp_path):
    (line,) = active_schedule(resq, tmp_path, TICK).lines()

    assert line.startswith("tick: cron * * * * * UTC to cron, next at ")


def test_nothing_is_left_of_a_scheduler_that_had_nothing_to_do(start, redis):
    scheduler = start()
    until(lambda: master(redis) == scheduler.pid)
    scheduler.send(signal.SIGTERM)
    scheduler.wait()

    assert keyspace(redis) == {}


def test_a_daylight_saving_change_does_not_affect_a_delayed_job(resq, redis):
    resq.enqueue_at(datetime.fromtimestamp(NOW, UTC) - timedelta(hours=1), EchoJob)
    resq._current_time = lambda: datetime.fromtimestamp(NOW)

    Scheduler(resq).handle_delayed_items()

    assert redis.llen("resque:queue:basic") == 1
