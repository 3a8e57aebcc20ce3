"""Registrations that other processes remove come back, and no job is lost."""

from __future__ import annotations

import signal

from redis import Redis

from pyres import ResQ
from pyres.active_schedule import ActiveSchedule
from tests.daemons.pools import QUICK_BEATS, minions, start_pool
from tests.daemons.watching import echoed, records, registered
from tests.jobs import BEGUN, GATE, GateJob
from tests.servers import Daemons, until


def remove(redis: Redis, worker_id: bytes) -> None:
    """As another program does that leaves the in-flight record."""
    redis.srem("resque:workers", worker_id)
    redis.hdel("resque:workers:heartbeat", worker_id)


def test_a_pool_with_a_long_job_is_registered_again_after_flushall(
    run_daemon: Daemons, redis: Redis, resq: ResQ
) -> None:
    start_pool(run_daemon, redis, 2, command=("-c", QUICK_BEATS))
    khan, pids = redis.smembers("resque:khans"), sorted(minions(redis))
    resq.enqueue_to("basic", GateJob, "long")
    until(lambda: redis.llen(BEGUN) == 1)

    redis.flushall()

    until(lambda: redis.smembers("resque:khans") == khan)
    until(lambda: sorted(minions(redis)) == pids)
    until(lambda: redis.hlen("resque:workers:heartbeat") == 2)
    redis.rpush(GATE.format("long"), "go on")
    until(lambda: echoed(redis) == [["long"]])
    assert records(resq) == []


def test_the_job_of_a_worker_that_was_removed_and_then_killed_becomes_a_failure(
    run_daemon: Daemons, redis: Redis, resq: ResQ
) -> None:
    options = ("--queues", "basic", "--nonblocking-pop")
    worker = run_daemon("pyres_worker", *options)
    name = until(lambda: registered(redis, worker))
    resq.enqueue_to("basic", GateJob, "cut off")
    until(lambda: redis.llen(BEGUN) == 1)
    remove(redis, name)

    worker.send_group(signal.SIGKILL)
    worker.wait()
    run_daemon("pyres_worker", *options)

    until(lambda: [record["payload"]["args"] for record in records(resq)] == [["cut off"]])
    until(lambda: not redis.exists(b"resque:worker:" + name))


def test_an_idle_worker_that_was_removed_is_registered_while_it_does_its_next_job(
    run_daemon: Daemons, redis: Redis, resq: ResQ
) -> None:
    worker = run_daemon("pyres_worker", "--queues", "basic", "--nonblocking-pop")
    name = until(lambda: registered(redis, worker))
    remove(redis, name)

    resq.enqueue_to("basic", GateJob, "next")
    worker.send(signal.SIGCONT)
    until(lambda: redis.llen(BEGUN) == 1)

    assert registered(redis, worker) == name
    redis.rpush(GATE.format("next"), "go on")
    until(lambda: redis.get("resque:stat:processed") == b"1")
    assert echoed(redis) == [["next"]]


def test_the_schedule_is_published_again_after_it_was_removed(resq: ResQ, redis: Redis) -> None:
    resq.set_schedule("monthly", {"cron": "0 0 1 * *", "class": "A", "queue": "q"})
    resq.set_schedule("ruby", {"every": "1h", "class": "A", "queue": "q", "custom_job_class": "B"})
    active_schedule = ActiveSchedule(resq, dynamic=True)
    active_schedule.start(1800000000)
    published = redis.hgetall("resque:pyres:schedule")
    faults = redis.hgetall("resque:pyres:schedule_faults")
    assert (list(published), list(faults)) == ([b"monthly"], [b"ruby"])
    redis.flushall()

    active_schedule.publish_again()

    assert redis.hgetall("resque:pyres:schedule") == published
    assert redis.hgetall("resque:pyres:schedule_faults") == faults
