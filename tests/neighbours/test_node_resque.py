"""pyres and node-resque on one Redis: each performs the other's jobs."""

from __future__ import annotations

import itertools
import json
import signal
from datetime import datetime, timedelta

import pytest

from pyres import failure
from pyres.registry import job_in_flight
from pyres.worker import Worker
from tests.jobs import BEGUN, ECHOED, GATE
from tests.neighbours.jobs import Echo, FailsInPython, Slow
from tests.servers import until

pytestmark = pytest.mark.peer

#: Values that must arrive unchanged in both languages. JavaScript writes 1.0 as 1.
ARGS = [1, -2.5, 1e-7, 1e21, 'é ☃ 😀 日本 "\\/</script>\u2028', None, True, [], {}, [{"a": [[{}]]}]]


def echoed(redis, count=1):
    """The arguments of the first jobs that have finished."""
    until(lambda: redis.llen(ECHOED) >= count, what=f"{count} jobs done")
    return [json.loads(line) for line in redis.lrange(ECHOED, 0, -1)]


def test_python_performs_what_node_enqueued(call, start_worker, redis):
    call("enqueue", "peer", "Echo", ARGS)

    worker = start_worker("--burst")

    assert worker.wait() == 0
    assert echoed(redis) == [ARGS]
    assert not redis.exists("resque:failed")


def test_node_performs_what_python_enqueued(start_node, resq, redis):
    resq.enqueue(Echo, *ARGS)

    start_node("work", "peer")

    assert echoed(redis) == [ARGS]
    until(lambda: redis.get("resque:stat:processed") == b"1", what="the job counted")
    assert not redis.exists("resque:failed")


def test_python_lists_what_failed_in_node_and_retries_it(start_node, start_worker, resq, redis):
    resq.push("peer", {"class": "FailsInNode", "args": ARGS, "kept": True})
    peer = start_node("work", "peer")
    until(lambda: redis.llen("resque:failed") == 1, what="a failure")
    peer.send(signal.SIGTERM)
    assert peer.wait() == 0

    (record,) = failure.all(resq, 0, 10)

    assert (record["exception"], record["queue"]) == ("Error", "peer")
    assert record["error"].startswith("node cannot ☃ ")
    assert record["payload"]["args"] == ARGS
    assert isinstance(record["backtrace"], list)
    assert failure.retry(resq, record["queue"], record["redis_value"]) == 1
    assert resq.peek("peer") == [{"class": "FailsInNode", "args": ARGS, "kept": True}]
    assert start_worker("--burst").wait() == 0
    assert echoed(redis) == [ARGS]


def test_node_lists_what_failed_in_python_and_retries_it(
    call, start_node, start_worker, resq, redis
):
    args = ["é", [1, {"k": None}]]
    resq.push("peer", {"class": "FailsInPython", "args": args})
    assert start_worker("--burst").wait() == 0

    (record,) = call("failed", 0, -1)

    assert (record["exception"], record["queue"]) == ("ValueError", "peer")
    assert record["error"].startswith("Python cannot ☃ ")
    assert call("failedCount") == 1
    call("retryAndRemoveFailed", record)
    assert redis.llen("resque:failed") == 0
    start_node("work", "peer")
    assert echoed(redis) == [args]


def test_python_lists_and_removes_what_node_delayed(call, resq, redis):
    call("enqueueIn", 3_600_000, "peer", "Echo", ["é", 1])

    (due,) = resq.delayed_queue_peek(0, 10)

    hour = datetime.now().timestamp() + 3600
    assert hour - 60 < due < hour + 60
    job = {"class": "Echo", "queue": "peer", "args": ["é", 1]}
    assert resq.delayed_timestamp_peek(due, 0, 10) == [job]
    assert resq.delayed_at(Echo, "é", 1) == [due]
    assert resq.remove_delayed(Echo, "é", 1) == 1
    assert call("allDelayed") == {}
    assert [key for key in redis.keys("resque:*") if key != b"resque:connection_test_key"] == []


def test_node_lists_what_python_delayed(call, resq):
    due = datetime.now() + timedelta(hours=1)
    resq.enqueue_at(due, Echo, "é", 1)

    milliseconds = int(due.timestamp()) * 1000

    assert call("timestamps") == [milliseconds]
    (job,) = call("delayedAt", milliseconds)["tasks"]
    assert job == {"class": "Echo", "args": ["é", 1], "queue": "peer"}


def test_pythons_scheduler_promotes_what_node_delayed(call, run_daemon, resq, redis):
    call("enqueueAt", 1_000_000, "peer", "Echo", ARGS)

    run_daemon("pyres_scheduler")

    until(lambda: resq.size("peer") == 1, what="a job on its queue")
    (job,) = resq.peek("peer")
    assert (job["class"], job["args"]) == ("Echo", ARGS)
    assert resq.delayed_queue_schedule_size() == 0
    assert call("scheduledAt", "peer", "Echo", ARGS) == []


def test_nodes_scheduler_promotes_what_python_delayed(start_node, start_worker, resq, redis):
    resq.enqueue_at(datetime.now() - timedelta(seconds=5), Echo, *ARGS)

    start_node("schedule")

    until(lambda: resq.size("peer") == 1, what="a job on its queue")
    until(lambda: not redis.exists("resque:delayed_queue_schedule"), what="an empty schedule")
    assert redis.keys("resque:timestamps:*") == []
    assert start_worker("--burst").wait() == 0
    assert echoed(redis) == [ARGS]


def test_python_lists_the_worker_of_node_and_its_job(start_node, resq, redis):
    peer = start_node("work", "peer,other")
    resq.enqueue(Slow, "node")
    assert redis.blpop([BEGUN], timeout=20)

    (worker,) = Worker.working(resq)

    assert worker.pid == str(peer.pid)
    assert worker.queues == ["peer", "other"]
    assert worker.job()["payload"]["args"] == ["node"]
    assert worker.state() == "working"
    assert worker.started.isdigit()
    redis.rpush(GATE.format("node"), "go")
    until(lambda: worker.state() == "idle", what="an idle worker")
    assert [str(found) for found in Worker.all(resq)] == [str(worker)]


def test_node_lists_the_worker_of_python_and_its_job(call, start_worker, resq, redis):
    daemon = start_worker()
    resq.enqueue(Slow, "python")
    assert redis.blpop([BEGUN], timeout=20)

    workers = call("workers")

    ((name, queues),) = workers.items()
    assert name.endswith(f":{daemon.pid}")
    assert queues == "peer"
    job = json.loads(call("workingOn", name, queues))
    assert (job["queue"], job["payload"]["class"]) == ("peer", "Slow")
    redis.rpush(GATE.format("python"), "go")
    assert echoed(redis) == [["python"]]


def test_a_live_worker_of_node_is_not_pruned(start_node, start_worker, resq, redis):
    start_node("work", "nodes_own")
    (theirs,) = until(lambda: resq.workers(), what="a worker of node")
    redis.rpush(
        "resque:queue:nodes_own",
        '{"class":"Slow","queue":"nodes_own","args":["both"]}',
    )
    assert redis.blpop([BEGUN], timeout=20)

    start_worker().until_title(": Waiting")

    assert len(resq.workers()) == 2
    assert theirs in resq.workers()
    assert redis.llen("resque:failed") == 0
    redis.rpush(GATE.format("both"), "go")
    assert echoed(redis) == [["both"]]


def test_a_killed_worker_of_node_is_pruned_and_its_job_recorded(
    start_node, start_worker, resq, redis
):
    peer = start_node("work", "nodes_own")
    resq.enqueue_to("nodes_own", Slow, "never")
    assert redis.blpop([BEGUN], timeout=20)
    peer.send(signal.SIGKILL)
    peer.wait()

    daemon = start_worker()

    until(lambda: redis.llen("resque:failed") == 1, what="a record of the job that was cut")
    (record,) = failure.all(resq, 0, 10)
    assert record["payload"]["args"] == ["never"]
    assert (record["queue"], record["exception"]) == ("nodes_own", "DirtyExitError")
    daemon.until_title(": Waiting")
    assert [worker.pid for worker in Worker.all(resq)] == [str(daemon.pid)]


@pytest.mark.parametrize(
    "order", list(itertools.permutations(["queue", "run_at", "payload", "worker"]))
)
def test_an_in_flight_record_is_read_with_its_fields_in_any_order(resq, order):
    fields = {
        "queue": "peer",
        "run_at": "Mon Nov 23 2026 21:04:04 GMT+0000",
        "payload": {"class": "Echo", "queue": "peer", "args": ["é"]},
        "worker": "vm:1",
    }
    record = json.dumps({name: fields[name] for name in order}, separators=(",", ":")).encode()

    job = job_in_flight(record, resq, "vm:1:peer")

    assert (job._queue, job._payload) == ("peer", fields["payload"])


def test_the_keys_that_only_node_has_break_no_reader(start_node, call, resq, redis):
    start_node("schedule")
    start_node("work", "peer")
    until(lambda: redis.exists("resque:resque_scheduler_leader_lock"), what="a leader of node")
    until(lambda: redis.keys("resque:worker:ping:*"), what="a ping of node")
    resq.enqueue(FailsInPython, 1)
    assert echoed(redis) == [[1]]
    until(lambda: redis.get("resque:stat:processed") == b"1", what="the job counted")
    until(lambda: not resq.working(), what="an idle worker")

    keys = resq.keys()

    assert "resque_scheduler_leader_lock" in keys
    assert any(key.startswith("worker:ping:") for key in keys)
    assert resq.info()["workers"] == len(Worker.all(resq)) == 1
    assert failure.all(resq, 0, 10) == []
    assert call("stats")["processed"] == "1"
