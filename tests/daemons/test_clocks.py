"""Clocks that are set, or that differ: of the scheduler, the server, a client."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pyres import ResQ, failure
from pyres.active_schedule import ActiveSchedule
from pyres.clock_jumps import ClockJumps
from pyres.job import Job
from pyres.scheduler import Scheduler
from pyres.times import moment
from pyres.worker import Worker
from tests.proxy import Proxy
from tests.servers import until

NOW = 1_800_000_000 - 1_800_000_000 % 3600 + 1800
LOCK = "resque:resque:resque_scheduler_master_lock"
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")

ENTRIES = {
    "second": {"cron": "* * * * * * UTC", "class": "Tick", "queue": "cron"},
    "minute": {"cron": "* * * * * UTC", "class": "Tick", "queue": "cron"},
    "hour": {"cron": "30 * * * * UTC", "class": "Tick", "queue": "cron"},
    "two": {"every": "2s", "class": "Tick", "queue": "cron"},
    "ten": {"every": "10m", "class": "Tick", "queue": "cron"},
}


@pytest.fixture
def proxy(server, redis):
    """A proxy that can shift the server's clock; tests with it must not fork."""
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def distant(proxy):
    resq = ResQ(proxy.dsn)
    yield resq
    resq.close()


class Run:
    """Active schedules under a clock that a test sets, and the moments that they fired."""

    def __init__(self, resq, folder, **options):
        self.resq, self.options = resq, options
        self.path = folder / "schedule.json"
        self.path.write_text(json.dumps(ENTRIES))
        self.fired: list[tuple[str, int]] = []
        self._fire, resq.store.schedules.fire = resq.store.schedules.fire, self._note
        self.active_schedule = None

    def _note(self, firing):
        outcome = self._fire(firing)
        if outcome == 1:
            self.fired.append((firing.name, firing.moment))
        return outcome

    def begin(self, now):
        """Start over, as a scheduler that has just started."""
        self.active_schedule = ActiveSchedule(self.resq, str(self.path), **self.options)
        self.active_schedule.load()
        self.active_schedule.start(now - 1)

    def seconds(self, first, count, jumped=False):
        """Check once a second; what was fired."""
        start = len(self.fired)
        for second in range(first, first + count):
            self.active_schedule.fire(second, jumped and second == first)
        return self.fired[start:]

    def next(self):
        """The next moment of each entry as it is published."""
        published = self.resq.store.schedules.published()
        return {name: json.loads(raw)["next"] for name, raw in published.items()}


@pytest.mark.parametrize("restarted", [False, True], ids=["one process", "restarted"])
@pytest.mark.parametrize("catch_up", [False, True], ids=["", "catch-up"])
@pytest.mark.parametrize("jump", [7, 40, 3600, 86400, -7, -40, -3600, -86400])
def test_a_clock_that_was_wrong_for_a_while_neither_repeats_nor_skips_firings(
    resq, tmp_path, jump, catch_up, restarted
):
    run = Run(resq, tmp_path, catch_up=catch_up, late=185)
    run.begin(NOW)
    right = run.seconds(NOW, 20)

    if restarted:
        run.begin(NOW + 20 + jump)
    run.seconds(NOW + 20 + jump, 5, jumped=jump > 0)
    if restarted:
        run.begin(NOW + 25)
    right += run.seconds(NOW + 25, 100, jumped=jump < 0)

    assert len(set(right)) == len(right), "a moment was fired twice under the right clock"
    assert len(set(run.fired)) == len(run.fired)
    seconds = {moment for name, moment in right if name == "second"}
    late = {moment for name, moment in run.fired if name == "second"}
    # A jump of less than a minute may have fired some of them already.
    assert set(range(NOW + 85, NOW + 125)) <= seconds
    assert set(range(NOW + 26, NOW + 85)) <= late
    following = run.next()
    assert (following["second"], following["minute"]) == (NOW + 125, NOW + 180)
    assert following["hour"] == NOW + 3600
    assert NOW + 125 <= following["two"] <= NOW + 126
    assert following["ten"] <= NOW + 725


@pytest.mark.parametrize("jump", [5, 60, 3 * 3600, 400 * 86400])
@pytest.mark.parametrize("catch_up", [False, True], ids=["", "catch-up"])
def test_after_a_forward_jump_an_entry_fires_late_at_most_once(resq, tmp_path, jump, catch_up):
    run = Run(resq, tmp_path, catch_up=catch_up, late=185)
    run.begin(NOW)
    run.seconds(NOW, 10)

    made_up = run.seconds(NOW + 9 + jump, 1, jumped=True)

    names = [name for name, _moment in made_up]
    assert len(set(names)) == len(names)
    assert ("second", NOW + 9 + jump) in made_up
    assert run.seconds(NOW + 10 + jump, 1).count(("second", NOW + 10 + jump)) == 1


def test_a_scheduler_that_is_late_fires_each_moment_when_no_clock_jumped(resq, tmp_path):
    run = Run(resq, tmp_path, late=185)
    run.begin(NOW)
    run.seconds(NOW, 10)

    late = run.seconds(NOW + 30, 1)

    assert {moment for name, moment in late if name == "second"} == set(range(NOW + 10, NOW + 31))


def test_a_future_firing_noted_by_an_older_version_blocks_for_a_minute_at_most(
    resq, redis, tmp_path
):
    """An older version notes only the moment, not ranges."""
    redis.hset("resque:pyres:schedule_fired", "second", NOW + 30)
    redis.hset("resque:pyres:schedule_fired", "minute", NOW + 86400)
    when = datetime.fromtimestamp(NOW + 86400, UTC)
    redis.hset("resque:delayed:last_enqueued_at", "hour", f"{when:%Y-%m-%d %H:%M:%S} +0000")
    run = Run(resq, tmp_path)

    run.begin(NOW)

    assert [moment for name, moment in run.seconds(NOW, 33) if name == "second"] == [
        NOW + 31,
        NOW + 32,
    ]
    assert (run.next()["minute"], run.next()["hour"]) == (NOW + 60, NOW + 3600)
    assert ("minute", NOW + 60) in run.seconds(NOW + 33, 28)


@pytest.mark.parametrize(
    ("readings", "jumps"),
    [
        ([(100, 0, 0), (101, 1, 1)], [False, False]),
        ([(100, 0, 0), (3701, 1, 1), (3702, 2, 2)], [False, True, False]),
        ([(100, 0, 0), (50, 1, 1), (102, 2, 2)], [False, False, True]),
        ([(100, 0, 0), (160, 60, 60)], [False, False]),
        # The time in a late reply is one between its request and its arrival.
        ([(100, 0, 10), (111, 11, 11), (121, 12, 22)], [False, False, False]),
    ],
    ids=["right", "forward", "back and right", "a long pause", "slow replies"],
)
def test_only_a_clock_that_was_set_forward_has_jumped(readings, jumps):
    clock = ClockJumps()

    assert [clock.forward(*reading) for reading in readings] == jumps


# The server's clock counts


@pytest.mark.parametrize("shift", [3600, -3600, 86400, -20])
def test_a_delay_is_counted_from_the_servers_clock(distant, proxy, shift):
    proxy.clock_shift = shift
    before = int(time.time())

    distant.enqueue_in(5, Quick, 1)
    distant.enqueue_in(timedelta(seconds=7), Quick, 2)

    first, second = distant.delayed_queue_peek(0, 2)
    assert before + shift + 5 <= first <= time.time() + shift + 5
    assert second >= before + shift + 7


def test_an_absolute_time_is_not_shifted(distant, proxy):
    proxy.clock_shift = 3600

    distant.enqueue_at(datetime.fromtimestamp(NOW), Quick, 1)

    assert distant.delayed_queue_peek(0, 1) == [NOW]


def test_a_clock_of_the_users_wins_over_the_servers(distant, proxy):
    proxy.clock_shift = 3600
    distant._current_time = lambda: datetime.fromtimestamp(NOW)

    distant.enqueue_in(5, Quick, 1)

    assert distant.delayed_queue_peek(0, 1) == [NOW + 5]
    assert distant.next_delayed_timestamp() is None


def test_a_retry_is_counted_from_the_servers_clock(distant, proxy):
    proxy.clock_shift = 7200
    distant.enqueue(Retried, 1)

    Worker("quick", distant).process(Job.reserve("quick", distant, timeout=0))

    (due,) = distant.delayed_queue_peek(0, 9)
    assert abs(due - (time.time() + 7200 + 30)) < 60


def test_a_first_attempt_by_a_clock_ahead_does_not_make_retries_endless(resq):
    ahead = datetime.now().replace(microsecond=0) + timedelta(days=1)
    payload = {"class": f"{__name__}.Retried", "args": [1], "first_attempt": ahead}
    job = Job("quick", payload, resq)

    assert job.retry(Retried, [1])

    (timestamp,) = resq.delayed_queue_peek(0, 9)
    (item,) = resq.delayed_timestamp_peek(timestamp, 0, 9)
    assert item["first_attempt"] < ahead


def test_the_servers_clock_is_read_once_for_many_delays(resq, server):
    with server.monitor() as monitor:
        for number in range(20):
            resq.enqueue_in(5, Quick, number)

        assert monitor.names.count("TIME") == 1


def test_a_server_that_refuses_time_leaves_this_hosts_clock(resq, server, redis, caplog):
    redis.execute_command("ACL", "SETUSER", "timeless", "on", "nopass", "~*", "+@all", "-time")
    user = ResQ(f"redis://timeless:x@127.0.0.1:{server.port}/0")
    redis.execute_command("CONFIG", "RESETSTAT")
    try:
        user.enqueue_in(5, Quick, 1)
        user.enqueue_in(5, Quick, 2)
        user.enqueue(Quick, 3)
        waiting = user.delayed_queue_schedule_size()
    finally:
        user.close()
        redis.execute_command("ACL", "DELUSER", "timeless")

    assert waiting == 2
    assert redis.info("commandstats")["cmdstat_time"]["rejected_calls"] == 1
    assert caplog.text.count("This host's clock is used") == 1


def test_a_host_whose_clock_differs_logs_that_once(distant, proxy, caplog):
    proxy.clock_shift = 600

    for _ in range(3):
        distant.store.clock.read()
        distant.store.workers.now()

    assert caplog.text.count("s behind the Redis server's") == 1
    proxy.clock_shift = 2
    distant.store.clock.read()
    proxy.clock_shift = -600
    distant.store.clock.read()
    assert caplog.text.count("s ahead of the Redis server's") == 1


@pytest.mark.parametrize("shift", [3600, -3600])
def test_after_a_jump_of_the_server_the_next_moments_are_those_of_its_clock(
    own_title, distant, proxy, tmp_path, shift, caplog
):
    caplog.set_level(logging.INFO)
    schedule = tmp_path / "schedule.json"
    schedule.write_text(json.dumps(ENTRIES))
    scheduler = Scheduler(distant, schedule=str(schedule))
    scheduler.static.load()
    scheduler._run_once()
    before = distant.store.schedules.published()

    for clock_shift in (shift, 0):
        proxy.clock_shift = clock_shift
        began = time.time() + clock_shift
        scheduler._run_once()
        now = time.time() + clock_shift
        published = distant.store.schedules.published()
        following = {name: json.loads(raw)["next"] for name, raw in published.items()}
        assert began - 5 < following["second"] < now + 10
        assert began - 5 < following["minute"] < now + 70
        assert began - 5 < following["ten"] < now + 610

    assert before.keys() == published.keys()
    assert caplog.text.count("The clock went forward") == 1
    assert caplog.text.count("The clock went back") >= 1


def test_a_delayed_job_waits_for_the_servers_clock(own_title, distant, proxy):
    distant.enqueue_in(60, Quick, 1)
    scheduler = Scheduler(distant)

    scheduler._run_once()
    assert distant.size("quick") == 0
    proxy.clock_shift = 61
    scheduler._run_once()

    assert distant.size("quick") == 1


@pytest.mark.skipif(not FAKETIME.exists(), reason="libfaketime is not installed")
@pytest.mark.parametrize("offset", ["+1h", "-1h"])
def test_a_scheduler_whose_host_clock_is_wrong_fires_by_the_servers_clock(
    run_daemon, resq, redis, tmp_path, offset
):
    schedule = tmp_path / "schedule.json"
    schedule.write_text(json.dumps({"second": ENTRIES["second"]}))
    resq.enqueue_in(1, Quick, 1)
    before = time.time()

    scheduler = run_daemon(
        "pyres_scheduler",
        "--schedule",
        schedule,
        env={"LD_PRELOAD": str(FAKETIME), "FAKETIME": offset, "TZ": "UTC"},
    )

    until(lambda: redis.llen("resque:queue:cron") >= 2, what="moments fired by the server's clock")
    until(lambda: redis.llen("resque:queue:quick"), what="the delayed job on its queue")
    moment = int(redis.hget("resque:pyres:schedule_fired", "second"))
    assert before - 2 < moment < time.time() + 2
    assert scheduler.output().count("The clock of this host is ") == 1


@pytest.mark.skipif(not FAKETIME.exists(), reason="libfaketime is not installed")
def test_a_worker_whose_host_clock_is_wrong_logs_that_once(run_daemon, resq, redis):
    worker = run_daemon(
        "pyres_worker",
        "--queues",
        "quick",
        env={"LD_PRELOAD": str(FAKETIME), "FAKETIME": "-10m"},
    )

    for number in range(3):
        resq.enqueue(Quick, number)
    until(lambda: redis.get("resque:stat:processed") == b"3", what="three jobs counted")

    assert worker.output().count("behind the Redis server's") == 1


@pytest.mark.parametrize("shift", [3600, -3600])
def test_all_moments_that_are_written_are_of_the_servers_clock(own_title, distant, proxy, shift):
    proxy.clock_shift = shift
    now = time.time() + shift
    distant.enqueue(Fails)
    worker = Worker("quick", distant)
    worker.registry.register()
    worker._announced = True

    job = worker._fetch()
    record = json.loads(job.in_flight)
    worker.process(job)
    (failed,) = failure.all(distant, 0, 1)

    written = [
        record["run_at"],
        failed["failed_at"],
        failed["payload"]["enqueue_timestamp"],
        Fails.metadata["perform_timestamp"],
        worker.started.decode(),
        distant.store.workers.heartbeats()[str(worker)],
    ]
    assert [moment(each) for each in written] == pytest.approx([now] * len(written), abs=60)
    worker.fetcher.close()


def test_the_servers_time_is_not_read_for_each_job(own_title, resq, redis):
    resq.enqueue_many([(Quick, number) for number in range(20)])
    worker = Worker("quick", resq)
    worker.registry.register()
    worker._announced = True
    asked = redis.info("commandstats")["cmdstat_time"]["calls"]

    while job := worker._fetch():
        worker.process(job)

    assert redis.get("resque:stat:processed") == b"20"
    assert redis.info("commandstats")["cmdstat_time"]["calls"] <= asked + 1
    worker.fetcher.close()


# Locks


@pytest.mark.parametrize(
    "expiry", [{}, {"px": 86_400_000}, {"ex": 10 * 365 * 86400}], ids=["none", "a day", "years"]
)
def test_a_scheduler_lock_with_a_wrong_expiry_gets_a_new_one(
    own_title, resq, redis, caplog, expiry
):
    redis.set(LOCK, "gone-host:4711", **expiry)
    scheduler = Scheduler(resq, lock_timeout=0.2, interval=0.1)

    scheduler._run_once()
    scheduler._run_once()
    until(lambda: scheduler._run_once() and scheduler.master, what="the lock")

    assert caplog.text.count("The master's lock of gone-host:4711") == 1


@pytest.mark.parametrize("seconds", [60, 180, 350])
def test_the_lock_of_another_master_is_left_as_it_is(resq, redis, seconds):
    redis.set(LOCK, "other:1", px=1000 * seconds)

    began = time.monotonic()
    lock = resq.store.schedules.master_lock().acquire("me:1", 120)

    assert (lock.ours, lock.corrected) == (False, "")
    left = redis.pttl(LOCK) / 1000
    assert left > seconds - 1 - (time.monotonic() - began)


# Unique jobs


@pytest.mark.parametrize("ahead", [0.4, 2, 3600])
@pytest.mark.parametrize("stage", ["start", "done"])
def test_the_unique_lock_of_a_client_whose_clock_is_ahead_ends_with_its_job(
    resq, redis, stage, ahead
):
    kind = {"start": UniqueUntilStart, "done": UniqueUntilDone}[stage]
    now = time.time()
    client = ResQ(resq.dsn)
    client._current_time = lambda: datetime.fromtimestamp(now + ahead)
    client.enqueue_in(0, kind, 1)
    client.close()
    # The scheduler's clock is a little behind, and comes up to the second that the job is due.
    resq._current_time = lambda: datetime.fromtimestamp(int(now + ahead))

    Scheduler(resq).handle_delayed_items()
    Worker("quick", resq).process(Job.reserve("quick", resq, timeout=0))

    assert list(redis.scan_iter("resque:pyres:unique:*")) == []
    assert resq.enqueue(kind, 1) is True


def claim_of(redis):
    (key,) = redis.scan_iter("resque:pyres:unique:*")
    return key


def enqueue_again(resq, how):
    if how == "enqueue":
        return resq.enqueue(UniqueUntilDone, 1)
    return resq.enqueue_in(0, UniqueUntilDone, 1)


@pytest.mark.parametrize("how", ["enqueue", "enqueue_in"])
@pytest.mark.parametrize("expiry", [None, 86_400], ids=["none", "a day too long"])
def test_a_unique_lock_with_a_wrong_expiry_gets_a_new_one(resq, redis, how, expiry):
    resq.enqueue(UniqueUntilDone, 1)
    key = claim_of(redis)
    # As on a server whose clock was a day ahead and was set back.
    redis.set(key, f"done:{time.time() + 86_400 - 10!r}", ex=expiry and expiry + 60)

    assert enqueue_again(resq, how) is False

    assert 0 < redis.pttl(key) <= 80_000


@pytest.mark.parametrize("how", ["enqueue", "enqueue_in"])
def test_the_unique_lock_of_a_job_that_waits_long_is_unchanged(resq, redis, how):
    resq.enqueue_in(10_000, UniqueUntilDone, 1)

    assert enqueue_again(resq, how) is False

    assert redis.pttl(claim_of(redis)) > 10_000_000


class Quick:
    queue = "quick"

    @classmethod
    def perform(cls, *args):
        pass


class Fails(Quick):
    metadata: dict[str, float]

    @classmethod
    def before_perform(cls, metadata):
        cls.metadata = metadata

    @classmethod
    def perform(cls, *args):
        raise ValueError


class Retried(Quick):
    retry_every = 30
    retry_timeout = 600

    @classmethod
    def perform(cls, *args):
        raise ValueError("again")


class UniqueUntilStart(Quick):
    unique_for = 60
    unique_until = "start"


class UniqueUntilDone(Quick):
    unique_for = 60
    unique_until = "done"
