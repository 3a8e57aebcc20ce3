"""The statements of docs/ruby.md about workers and schedulers."""

from __future__ import annotations

import functools
import json
import re
import signal

import pytest

from pyres import failure
from pyres.exceptions import UnencodableError
from pyres.worker import Worker
from tests.jobs import BEGUN, ECHOED, GATE
from tests.neighbours.conftest import RubyError
from tests.neighbours.fleet import cron_at
from tests.neighbours.jobs import Echo, Exits, Slow
from tests.neighbours.statements import holds
from tests.servers import Monitor, texts, until

pytestmark = pytest.mark.peer

#: A worker that pruned prevents other workers from pruning for a minute; Ruby's here for a second.
PRUNE_LOCK = "resque:pruning_dead_workers_in_progress"

#: Lets Ruby's scheduler check often whether the lock is free.
SHORT_INTERVALS = {
    "RESQUE_SCHEDULER_INTERVAL": "0.2",
    "LOCK_TIMEOUT": "30",
    "DYNAMIC_SCHEDULE": "true",
}


def until_registered(redis, pid):
    """The id of the worker with this pid, as soon as it is registered."""

    def registered():
        ids = [member for member in texts(redis.smembers("resque:workers")) if f":{pid}:" in member]
        return ids[0] if ids else ""

    return until(registered, what=f"a worker {pid}")


def until_failed(resq, number=1):
    """The failure records, as soon as there are `number` of them."""
    until(lambda: failure.count(resq) >= number, what=f"{number} failures")
    return failure.all(resq, 0, number)


def until_started(redis):
    """Return when a Slow job has started."""
    assert redis.blpop([BEGUN], timeout=60)


@holds("A worker that starts removes no live worker")
def test_a_worker_that_starts_removes_no_live_worker_of_the_other_side(
    start_worker, start_ruby, resq, redis
):
    living = [until_registered(redis, start_worker().pid)]
    redis.delete(PRUNE_LOCK)
    living.append(until_registered(redis, start_ruby("work", "*").pid))
    redis.delete(PRUNE_LOCK)

    last = start_worker()

    living.append(until_registered(redis, last.pid))
    last.until_title(": Waiting")
    assert sorted(texts(redis.smembers("resque:workers"))) == sorted(living)


@holds("| job of a killed worker |")
def test_any_python_worker_records_the_job_of_a_dead_worker_but_ruby_only_for_its_own_queues(
    start_worker, start_ruby, resq, redis
):
    dead = start_worker("--queues", "peer")
    resq.enqueue(Slow, "python")
    until_started(redis)
    former = until_registered(redis, dead.pid)
    dead.send_group(signal.SIGKILL)
    redis.delete(PRUNE_LOCK)
    until_registered(redis, start_ruby("work", "another").pid)
    assert former in texts(redis.smembers("resque:workers"))
    redis.delete(PRUNE_LOCK)

    ruby = start_ruby("work", "peer")

    assert until_failed(resq)[0]["exception"] == "Resque::DirtyExit"
    resq.enqueue(Slow, "ruby")
    until_started(redis)
    ruby.send_group(signal.SIGKILL)
    ruby.wait()
    redis.delete(PRUNE_LOCK)
    start_worker("--queues", "unrelated")
    record = until_failed(resq, 2)[1]
    assert (record["exception"], record["payload"]["args"]) == ("DirtyExitError", ["ruby"])


@holds("| TERM to a worker |")
def test_term_ends_a_job_of_ruby_and_waits_for_a_job_of_python(
    start_worker, start_ruby, resq, redis
):
    ruby = start_ruby("work", "peer")
    resq.enqueue(Slow, "ruby")
    until_started(redis)
    ruby.send(signal.SIGTERM)
    assert ruby.wait() == 0
    assert until_failed(resq)[0]["exception"] == "Resque::DirtyExit"
    python = start_worker("--grace", "80")
    resq.enqueue(Slow, "python")
    until_started(redis)

    python.send(signal.SIGTERM)
    redis.rpush(GATE.format("python"), "go")

    assert python.wait() == 0
    assert redis.lrange(ECHOED, 0, -1) == [b'["python"]']
    assert failure.count(resq) == 1
    assert Worker(["peer"], resq).grace == 10


@holds("| fetching a job |")
def test_ruby_fetches_in_two_steps_and_python_in_one(start_worker, start_ruby, resq, redis, server):
    with Monitor(server) as monitor:
        resq.enqueue(Echo, 1)
        start_ruby("work", "peer")
        until(lambda: redis.get("resque:stat:processed") == b"1", what="a job of Ruby's")
        steps = monitor.commands
    with Monitor(server) as monitor:
        resq.enqueue_to("other", Echo, 2)
        assert start_worker("--queues", "other", "--burst").wait() == 0
        at_once = monitor.inside_lua
        apart = monitor.commands

    popped = next(n for n, step in enumerate(steps) if step == ("LPOP", ["resque:queue:peer"]))
    noted = next(n for n, step in enumerate(steps) if writes_record(step))
    assert popped < noted
    assert ("LPOP", ["resque:queue:other"]) in at_once
    assert any(writes_record(step) for step in at_once)
    assert ("LPOP", ["resque:queue:other"]) not in apart


def writes_record(step):
    return step.name == "SET" and re.match(r"resque:worker:[^:]+:\d+:\w+$", step.args[0])


@holds("| job that ends its process by `exit!(1)` |")
def test_a_job_that_exits_its_process_is_a_success_in_ruby_and_a_failure_in_python(
    start_worker, start_ruby, resq, redis
):
    resq.enqueue(Exits, 1)
    ruby = start_ruby("work", "peer")
    until(lambda: redis.get("resque:stat:processed") == b"1", what="the job counted")
    assert failure.count(resq) == 0
    ruby.send(signal.SIGQUIT)
    assert ruby.wait() == 0
    resq.enqueue(Exits, 1)

    assert start_worker("--burst").wait() == 0

    assert until_failed(resq)[0]["exception"] == "CrashError"


@holds("| malformed payload |")
def test_a_malformed_payload_ends_a_worker_of_ruby_and_is_a_failure_in_python(
    start_worker, start_ruby, resq, redis
):
    redis.rpush("resque:queue:peer", "{")
    assert start_ruby("work", "peer").wait() == 0
    assert (redis.llen("resque:queue:peer"), failure.count(resq)) == (0, 0)
    redis.rpush("resque:queue:peer", "{")
    resq.enqueue(Echo, 1)

    assert start_worker("--burst").wait() == 0

    assert redis.lrange(ECHOED, 0, -1) == [b"[1]"]
    assert failure.count(resq) == 1


@holds("| nested arguments |")
def test_arguments_of_99_levels_end_a_worker_of_ruby_and_are_performed_in_python(
    start_worker, start_ruby, ruby, resq, redis
):
    """A job's list of arguments is the first level."""
    ruby("""def deep(levels) = levels.zero? ? [] : [deep(levels - 1)]
        [:peer, :other].each { |queue| Resque.enqueue_to(queue, Echo, deep(97)) }; nil""")
    with pytest.raises(RubyError, match="nesting of 100 is too deep"):
        ruby("Resque.enqueue(Echo, deep(98))")
    assert start_ruby("work", "peer").wait() == 0
    assert (redis.llen("resque:queue:peer"), failure.count(resq)) == (0, 0)

    assert start_worker("--queues", "other", "--burst").wait() == 0

    assert redis.lrange(ECHOED, 0, -1) == [b"[" * 99 + b"]" * 99]


@holds("| nested arguments |")
def test_96_levels_of_python_fail_in_ruby_and_97_are_refused(start_ruby, resq):
    args = functools.reduce(lambda inner, _level: [inner], range(96), 1)
    with pytest.raises(UnencodableError, match=r"args\[0\].* nested deeper than 96 levels"):
        resq.enqueue_to("peer", "FailsInRuby", args)
    resq.enqueue_to("peer", "FailsInRuby", *args)

    start_ruby("work", "peer")

    (record,) = until_failed(resq)
    assert record["payload"]["args"] == args
    assert failure.retry(resq, "peer", record["redis_value"]) == 1


@holds("| name of a class |", "A worker fails a job of a class that it does not have")
def test_each_worker_fails_a_job_of_a_class_that_only_the_other_side_has(
    start_worker, start_ruby, resq
):
    resq.enqueue_to("peer", "OnlyInRuby", 1)
    assert start_worker("--burst").wait() == 0
    resq.enqueue_to("peer", "archive.archive", 1)
    start_ruby("work", "peer")

    records = until_failed(resq, 2)

    assert [record["exception"] for record in records] == ["ClassNotFoundError", "NameError"]


@holds("resque-web lists workers and minions of Python")
def test_each_page_lists_the_workers_of_the_other_side_with_their_jobs(
    start_worker, start_ruby, run_daemon, ruby, resq, redis
):
    common = ("--queues", "minions", "--require", "tests.neighbours.jobs")
    run_daemon("pyres_manager", *common, "--pool", "1")
    start_worker("--queues", "workers")
    start_ruby("work", "ruby")
    for queue in ("minions", "workers", "ruby"):
        resq.enqueue_to(queue, Slow, f"slow-{queue}")
        until_started(redis)

    pages = "".join(ruby(f"web('GET', '/{path}')")[1] for path in ("workers", "working"))

    listed = {worker.job()["payload"]["args"][0]: worker for worker in Worker.working(resq)}
    assert listed.keys() == {"slow-minions", "slow-workers", "slow-ruby"}
    assert all(f":{worker.pid}" in pages for worker in listed.values())
    assert pages.count("Slow") >= 3
    for name in listed:
        redis.rpush(GATE.format(name), "go")
    until(lambda: redis.llen(ECHOED) == 3, what="the end of all jobs")


@holds("share one lock: its holder promotes")
def test_one_scheduler_promotes_and_the_other_takes_over_when_it_ends(
    run_daemon, start_ruby, resq, redis
):
    python = run_daemon("pyres_scheduler")
    python.until_title(": Waiting")
    ruby = start_ruby("schedule", **SHORT_INTERVALS)
    ruby.until_output("Child scheduler")
    delay(redis, 1000)
    until(lambda: resq.size("peer") == 1, what="a job promoted in Python")

    python.send(signal.SIGTERM)

    assert python.wait() == 0
    ruby.until_output("Master scheduler")
    delay(redis, 2000)
    until(lambda: resq.size("peer") == 2, what="a job promoted in Ruby")


def delay(redis, timestamp):
    """Delay a job that is already due, as pyres and Ruby write it."""
    redis.rpush(f"resque:delayed:{timestamp}", '{"class":"Echo","args":[1],"queue":"peer"}')
    redis.zadd("resque:delayed_queue_schedule", {str(timestamp): timestamp})


@holds("Recurring jobs that Ruby has in `Resque.schedule=` fire only")
def test_rubys_static_entries_do_not_fire_while_python_has_the_lock(run_daemon, start_ruby, resq):
    python = run_daemon("pyres_scheduler", "--dynamic")
    python.until_title(": Waiting")
    entry = {"every": "1s", "class": "Echo", "queue": "ruby"}
    ruby = start_ruby("schedule", json.dumps({"of ruby": entry}), **SHORT_INTERVALS)
    ruby.until_title("Schedules Loaded")
    resq.set_schedule("of both", {**entry, "queue": "both"})

    until(lambda: resq.size("both") >= 3, what="three moments fired in Python")

    assert resq.size("ruby") == 0
    python.send(signal.SIGTERM)
    until(lambda: resq.size("ruby") >= 1, what="a moment fired in Ruby")


@holds("| a moment that a recurring job missed between two masters |")
def test_ruby_skips_moments_from_before_it_took_over(run_daemon, start_ruby, resq, redis):
    """The last test of test_fleet.py checks that Python catches up on them."""
    lock = "resque:resque:resque_scheduler_master_lock"
    redis.set(lock, "a scheduler that was killed:1", ex=600)
    ruby = start_ruby("schedule", **SHORT_INTERVALS)
    ruby.until_title("Schedules Loaded")
    moment = int(redis.time()[0]) + 1
    entry = {"class": "Echo", "queue": "missed"}
    resq.set_schedule("missed", {**entry, "cron": cron_at(moment)})
    resq.set_schedule("after", {**entry, "queue": "after", "every": "1s"})
    until(lambda: int(redis.time()[0]) > moment, what="the moment gone")

    redis.delete(lock)

    until(lambda: resq.size("after") >= 1, what="a moment fired in Ruby")
    assert resq.size("missed") == 0


@holds("The Scheduler of node-resque has a lock of its own")
def test_node_promotes_though_another_scheduler_holds_the_lock(start_node, resq, redis):
    redis.set("resque:resque:resque_scheduler_master_lock", "another:1", ex=600)
    delay(redis, 1000)

    start_node("schedule")

    until(lambda: resq.size("peer") == 1, what="a job promoted by node")
    assert redis.get("resque:resque:resque_scheduler_master_lock") == b"another:1"
