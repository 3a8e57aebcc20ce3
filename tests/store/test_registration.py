"""A worker that is not registered fetches nothing, and each in-flight record belongs to a
registered one.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis

from pyres import ResQ
from pyres.horde import Minion
from pyres.registry import PRUNE_AFTER, Registry
from pyres.worker import Worker

JOB = '{"class":"tests.store.test_registration.Seen","args":[1]}'
NOBODY = 4194304


class Seen:
    """A job that notes who is registered while it runs."""

    queue = "mail"
    resq: ResQ

    @staticmethod
    def perform(number: int) -> list[str]:
        registered = Seen.resq.workers()
        Seen.resq.redis.rpush("seen", json.dumps(registered))
        return registered


def seen(redis: Redis) -> list[list[str]]:
    return [json.loads(raw) for raw in redis.lrange("seen", 0, -1)]


def remove_as_ruby(redis: Redis, worker_id: str) -> None:
    redis.srem("resque:workers", worker_id)
    redis.hdel("resque:workers:heartbeat", worker_id)
    redis.delete(
        f"resque:worker:{worker_id}",
        f"resque:worker:{worker_id}:started",
        f"resque:stat:processed:{worker_id}",
        f"resque:stat:failed:{worker_id}",
    )


def remove_as_node(redis: Redis, worker_id: str) -> None:
    redis.srem("resque:workers", worker_id)


def remove_all(redis: Redis, worker_id: str) -> None:
    waiting = redis.lrange("resque:queue:mail", 0, -1)
    redis.flushall()
    if waiting:
        redis.rpush("resque:queue:mail", *waiting)


@pytest.fixture(params=[Worker, Minion])
def daemon(request, resq):
    """A worker or a minion that has registered, in this process."""
    daemon = request.param(["mail"], resq)
    daemon.registry.register()
    daemon._announced = True
    yield daemon
    daemon.fetcher.close()


@pytest.mark.parametrize("remove", [remove_as_ruby, remove_as_node, remove_all])
@pytest.mark.parametrize("between", ["before the first job", "between two jobs"])
def test_a_worker_that_was_unregistered_registers_before_it_fetches(
    daemon, redis, remove, between, caplog
):
    if between == "between two jobs":
        redis.rpush("resque:queue:mail", JOB)
        daemon.process(daemon._fetch())
        daemon._finished = True
        redis.delete("seen")
    redis.rpush("resque:queue:mail", JOB)
    remove(redis, str(daemon))

    daemon.process(daemon._fetch())

    assert seen(redis) == [[str(daemon)]]
    assert "was unregistered by another process; registering again" in caplog.text
    assert redis.hexists("resque:workers:heartbeat", str(daemon))
    assert redis.exists(f"resque:worker:{daemon}:started")
    assert redis.llen("resque:queue:mail") == 0


def test_fetching_while_unregistered_leaves_the_queue_alone(resq, redis):
    fetcher = resq.store.fetcher("here:1:mail")
    fetcher.set_queues(["mail"])
    redis.rpush("resque:queue:mail", JOB)

    with pytest.raises(Exception, match="here:1:mail"):
        fetcher.fetch(False, "2026-11-23T16:01:09Z")

    assert redis.llen("resque:queue:mail") == 1
    assert not redis.exists("resque:worker:here:1:mail")
    fetcher.close()


# Without startup()


@pytest.fixture(params=[Worker, Minion])
def unstarted(request, resq):
    daemon = request.param(["mail"], resq)
    yield daemon
    daemon.fetcher.close()


def assert_unregistered(redis: Redis, worker_id: str) -> None:
    assert not redis.exists("resque:workers", "resque:minions", "resque:pyres:process_starts")
    assert not redis.exists(f"resque:worker:{worker_id}", f"resque:worker:{worker_id}:started")


def test_a_process_without_startup_is_registered_for_that_job(unstarted, redis):
    redis.rpush("resque:queue:mail", JOB)

    assert unstarted.process() == [str(unstarted)]

    assert_unregistered(redis, str(unstarted))
    assert unstarted.get_processed() == 1
    assert unstarted.process() is None
    assert_unregistered(redis, str(unstarted))


def test_a_reserve_without_startup_is_registered_until_the_job_is_recorded(unstarted, redis):
    redis.rpush("resque:queue:mail", JOB)

    job = unstarted.reserve(0)

    assert redis.smembers("resque:workers") == {str(unstarted).encode()}
    assert redis.get(f"resque:worker:{unstarted}") == job.in_flight
    unstarted.process(job)
    assert_unregistered(redis, str(unstarted))
    assert seen(redis) == [[str(unstarted)]]


def test_a_job_of_the_callers_own_is_registered_too(unstarted, redis, resq):
    job = unstarted.job_class("mail", json.loads(JOB), resq)

    assert unstarted.process(job) == [str(unstarted)]

    assert_unregistered(redis, str(unstarted))


@pytest.mark.usefixtures("own_title")
def test_a_forked_job_without_startup_is_registered_while_it_runs(resq, redis):
    worker = Worker(["mail"], resq)
    redis.rpush("resque:queue:mail", JOB)

    worker.fork_worker(worker.reserve(0))

    assert seen(redis) == [[str(worker)]]
    assert_unregistered(redis, str(worker))
    assert redis.get("resque:stat:processed") == b"1"
    worker.fetcher.close()


def test_a_failure_without_startup_unregisters_as_well(unstarted, redis):
    redis.rpush("resque:queue:mail", '{"class":"tests.no.such.Job","args":[]}')

    assert unstarted.process() is None

    assert_unregistered(redis, str(unstarted))
    assert redis.llen("resque:failed") == 1


def test_one_that_was_registered_by_its_user_stays_so(resq, redis):
    worker = Worker(["mail"], resq)
    worker.register_worker()
    redis.rpush("resque:queue:mail", JOB)

    worker.process()

    assert redis.smembers("resque:workers") == {str(worker).encode()}
    worker.unregister_worker()
    worker.fetcher.close()


# Records without a registered worker


def record(run_ago: float = 0) -> str:
    run_at = (datetime.now(UTC) - timedelta(seconds=run_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f'{{"queue":"mail","run_at":"{run_at}","payload":{{"class":"A","args":[7]}}}}'


def sweep(resq: ResQ) -> list[str]:
    return Registry(resq, f"here:{os.getpid()}:mail").prune(sweep=True)


@pytest.mark.parametrize(
    ("worker_id", "ago"),
    [
        (f"here:{NOBODY}:mail", 0),
        (f"here:{NOBODY}:a:b,c", 0),
        (f"here:{os.getpid()}:old", 0),
        ("there:7:mail", PRUNE_AFTER + 60),
    ],
    ids=["no process", "colons", "our own pid", "another host"],
)
def test_the_job_of_a_dead_and_unregistered_worker_becomes_a_failure(resq, redis, worker_id, ago):
    redis.set(f"resque:worker:{worker_id}", record(ago))

    assert sweep(resq) == [worker_id]

    (failed,) = map(json.loads, redis.lrange("resque:failed", 0, -1))
    assert failed["payload"] == {"class": "A", "args": [7]}
    assert failed["worker"] == worker_id
    assert not redis.exists(f"resque:worker:{worker_id}")
    assert sweep(resq) == []
    assert redis.llen("resque:failed") == 1


def test_node_writes_its_fields_in_another_order(resq, redis):
    held = '{"payload":{"class":"A","args":[7]},"queue":"mail","worker":"here:4194304"}'
    redis.set(f"resque:worker:here:{NOBODY}:mail", held)

    assert sweep(resq) == [f"here:{NOBODY}:mail"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        # Their age is that at the time of the test, which may be minutes after this is read.
        ("there:7:mail", PRUNE_AFTER - 60),
        ("there:7:mail", '{"queue":"mail","payload":{"class":"A","args":[]}}'),
        (f"here:{NOBODY}:mail:started", "1763913669"),
        (f"ping:here:{NOBODY}", '{"time":1,"name":"here:4194304","queues":["mail"]}'),
        (f"here:{NOBODY}:mail", "no record"),
        (f"here:{NOBODY}:mail", '{"class":"A","args":[]}'),
        ("nonsense", PRUNE_AFTER + 60),
    ],
    ids=["young", "no time", "started", "node's ping", "no JSON", "a payload", "no id"],
)
def test_a_key_that_is_not_an_in_flight_record_of_a_dead_worker_stays(resq, redis, key, value):
    value = value if isinstance(value, str) else record(value)
    redis.set(f"resque:worker:{key}", value)

    assert sweep(resq) == []

    assert redis.get(f"resque:worker:{key}") == value.encode()
    assert not redis.exists("resque:failed")


def test_a_live_ruby_worker_that_was_removed_keeps_its_job(resq, redis, run_daemon):
    program = (
        "import setproctitle, signal; setproctitle.setproctitle('resque-2.6.0: Forked 1 at 2');"
        "print('on', flush=True); signal.pause()"
    )
    ruby = run_daemon("-c", program)
    ruby.until_output("on")
    worker = f"here:{ruby.pid}:mail"
    redis.set(f"resque:worker:{worker}", record(PRUNE_AFTER + 60))

    assert sweep(resq) == []

    assert redis.exists(f"resque:worker:{worker}")


def test_a_worker_of_another_host_that_sends_heartbeats_keeps_its_job(resq, redis):
    redis.set("resque:worker:there:7:mail", record(PRUNE_AFTER + 60))
    resq.store.workers.beat(["there:7:mail"])

    assert sweep(resq) == []


def test_only_the_holder_of_the_prune_lock_prunes(resq, redis):
    redis.set(f"resque:worker:here:{NOBODY}:mail", record())
    resq.store.workers.register("there:9:mail", "1", process_start="of a worker of pyres")
    redis.set("resque:pruning_dead_workers_in_progress", "there:9:mail", ex=60)

    assert sweep(resq) == []

    redis.delete("resque:pruning_dead_workers_in_progress")
    assert sweep(resq) == [f"here:{NOBODY}:mail"]
