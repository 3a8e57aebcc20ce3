"""The statements of docs/ruby.md about calls, bytes and pages, and its examples."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from pyres import ResQ, failure
from pyres.job import Job
from pyres.scheduler import Scheduler
from pyres.worker import Worker
from tests.docs.blocks import commands, files
from tests.jobs import ECHOED
from tests.neighbours.jobs import Echo, FailsInPython, Hooked
from tests.neighbours.statements import PAGE, holds
from tests.servers import ROOT, texts, until

pytestmark = pytest.mark.peer

#: Code for a failure in Ruby without a worker.
FAILURE = """Resque::Failure.create(
  exception: ArgumentError.new("Ruby cannot"), worker: Resque::Worker.new("peer"), queue: "peer",
  payload: {"class" => "Echo", "args" => [1], "more" => 2}
); nil"""


@pytest.fixture
def page(tmp_path, server, redis):
    """A folder with the files of docs/ruby.md, which use the test's server."""
    for name, text in files(PAGE).items():
        (tmp_path / name).write_text(text.replace("localhost:6379", f"localhost:{server.port}"))
    return tmp_path


@pytest.fixture
def plain(dsn):
    """A ResQ that writes the same bytes as Ruby."""
    resq = ResQ(dsn, enqueue_timestamp=False)
    yield resq
    resq.close()


@pytest.fixture
def web(ruby):
    """Sends a request to resque-web with resque-scheduler's tabs; returns (status, body)."""

    def request(method, path, **params):
        quoted = json.dumps(json.dumps(params))
        return tuple(ruby(f"web({json.dumps(method)}, {json.dumps(path)}, JSON.parse({quoted}))"))

    return request


def fail_in_python(resq):
    """Make a failure in Python without a daemon."""
    resq.enqueue(FailsInPython, 1)
    Worker(["peer"], resq).process()


@holds("Ruby enqueues, Python performs")
def test_the_pages_worker_performs_what_the_pages_ruby_enqueued(page, ruby, run_daemon, server):
    ruby(files(PAGE)["enqueue.rb"])
    (command,) = (line for line in commands(PAGE) if line.startswith("pyres_worker"))

    worker = run_daemon(*shlex.split(command.replace("6379", str(server.port))), cwd=page)

    assert worker.wait() == 0
    assert "archived stable of 7\n" in worker.output()


@holds("Python enqueues, Ruby performs", "Start Ruby's worker as usual")
def test_rubys_worker_performs_what_the_pages_python_enqueued(page, start_ruby, server):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "enqueue.py"], cwd=page, env=env, check=True, timeout=60)
    tasks = 'require "resque"\nrequire "resque/tasks"\nrequire "./mail"\n'
    tasks += f'Resque.redis = "127.0.0.1:{server.port}"\n'
    (page / "Rakefile").write_text(tasks)

    worker = start_ruby(command=["rake", "resque:work"], cwd=page, QUEUE="mail", INTERVAL="0.1")

    worker.until_output("sent mail to ada@example.org")


@holds("resque-web and `pyres_web` show and can retry")
def test_both_pages_show_the_failures_of_both_and_can_retry_them(ruby, web, resq, redis):
    ruby(FAILURE)
    fail_in_python(resq)

    status, body = web("GET", "/failed")
    of_ruby, of_python = failure.all(resq, 0, 10)

    assert status == 200
    assert "Ruby cannot" in body
    assert "Python cannot ☃" in body
    assert of_ruby["error"] == "Ruby cannot"
    assert of_python["error"].startswith("Python cannot")
    assert web("GET", "/failed/requeue/1")[0] == 302
    assert failure.retry(resq, "peer", of_ruby["redis_value"]) == 1
    assert [job["class"] for job in resq.peek("peer", 0, 9)] == ["FailsInPython", "Echo"]


@holds("| retry on the web page |")
def test_a_retry_keeps_the_bytes_in_python_and_class_and_args_in_ruby(ruby, web, resq, redis):
    for _ in range(2):
        ruby(FAILURE)

    web("GET", "/failed/requeue/0")
    (kept, other) = failure.all(resq, 0, 10)
    failure.retry(resq, "peer", other["redis_value"])

    assert "retried_at" in kept
    assert redis.llen("resque:failed") == 1
    assert texts(redis.lrange("resque:queue:peer", 0, -1)) == [
        '{"class":"Echo","args":[1]}', '{"class":"Echo","args":[1],"more":2}',
    ]  # fmt: skip


@holds("lists, cancels and promotes the delayed jobs of the other")
def test_each_side_lists_cancels_and_promotes_what_the_other_delayed(ruby, resq, redis):
    for number in range(3):
        resq.enqueue_in(3600, Echo, number)
        ruby(f"Resque.enqueue_in(3600, Echo, {number + 3})")

    assert len(ruby("Resque.scheduled_at(Echo, 0)")) == len(resq.delayed_at(Echo, 3)) == 1
    assert (ruby("Resque.remove_delayed(Echo, 1)"), resq.remove_delayed(Echo, 4)) == (1, 1)
    assert (ruby("Resque.enqueue_delayed(Echo, 2)"), resq.enqueue_delayed_now(Echo, 5)) == (1, 1)

    assert [job["args"] for job in resq.peek("peer", 0, 9)] == [[2], [5]]
    assert ruby("Resque.count_all_scheduled_jobs") == 2


@holds("`Resque.remove_delayed(Archive, 7)` finds")
def test_ruby_cancels_what_python_delayed_for_the_queue_of_the_class_only(ruby, resq):
    hour = datetime.now(UTC) + timedelta(hours=1)
    resq.enqueue_at(hour, Echo, 7)
    resq.enqueue_at_from_string(hour, "Echo", "another", 7)

    assert ruby("Resque.remove_delayed(Echo, 7)") == 1
    assert resq.delayed_timestamp_size(int(hour.timestamp())) == 1


@holds("`Resque.dequeue(Archive, 7)` finds")
def test_ruby_dequeues_only_jobs_with_its_bytes_and_python_both(ruby, resq, plain):
    for _ in range(2):
        resq.enqueue(Echo, 7)
        plain.enqueue(Echo, 7)
        ruby("Resque.enqueue(Echo, 7)")

    assert ruby("Resque.dequeue(Echo, 7)") == 4
    ruby("Resque.enqueue(Echo, 7)")
    assert resq.dequeue(Echo, 7) == 3


@holds("Cancel on the page of resque-scheduler")
def test_rubys_page_cancels_the_delayed_jobs_whose_class_ruby_has(ruby, web, resq):
    hour = datetime.now(UTC) + timedelta(hours=1)
    resq.enqueue_at(hour, Echo, 7)
    at = str(int(hour.timestamp()))

    status, body = web("POST", "/delayed/cancel_now", klass="a.b", timestamp=at, args="[7]")
    assert status == 500
    assert "NameError" in body
    assert resq.delayed_at(Echo, 7) == [int(at)]
    assert web("POST", "/delayed/cancel_now", klass="Echo", timestamp=at, args="[7]")[0] == 302
    assert resq.delayed_at(Echo, 7) == []


@holds("| payload |")
def test_python_adds_the_enqueue_time_unless_it_writes_rubys_bytes(ruby, resq, plain, redis):
    resq.enqueue(Echo, 1)
    plain.enqueue(Echo, 1)
    ruby("Resque.enqueue(Echo, 1)")

    with_time, without, of_ruby = texts(redis.lrange("resque:queue:peer", 0, -1))

    assert list(json.loads(with_time)) == ["class", "args", "enqueue_timestamp"]
    assert without == of_ruby == '{"class":"Echo","args":[1]}'
    assert ruby("Resque.reserve(:peer).perform; Redis.new(port: PORT).llen('echoed')") == 1


@holds("| datetimes in arguments |")
def test_a_datetime_is_equal_in_python_and_text_in_ruby(ruby, resq, redis):
    when = datetime(2026, 11, 25, 10, 30)
    resq.enqueue(Echo, when)
    ruby("Resque.enqueue(Echo, Time.at(0).utc)")

    assert ruby("Resque.peek(:peer)['args']") == ["@D:2026-11-25T10:30:00"]
    assert Job.reserve("peer", resq)._payload["args"] == [when]
    assert resq.peek("peer")[0]["args"] == ["1970-01-01 00:00:00 UTC"]


@holds("| promotion of a delayed job |")
def test_a_promotion_keeps_class_and_args_in_ruby_and_all_fields_in_python(ruby, resq, redis):
    raw = '{"class":"Echo","args":[1],"queue":"peer","more":2}'
    for timestamp in (1000, 2000):
        redis.rpush(f"resque:delayed:{timestamp}", raw)
        redis.zadd("resque:delayed_queue_schedule", {str(timestamp): timestamp})

    ruby("Resque::Scheduler.enqueue_delayed_items_for_timestamp(1000)")
    Scheduler(resq).handle_delayed_items()

    of_ruby, of_python = resq.peek("peer", 0, 2)
    assert of_ruby == {"class": "Echo", "args": [1]}
    assert of_python.keys() - {"enqueue_timestamp"} == {"class", "args", "more"}


@holds('`Resque.redis.set("pause-all-workers", "true")`')
def test_either_side_pauses_the_workers_of_both(ruby, resq, own_title):
    resq.enqueue(Echo, 1)
    resq.pause_all()
    assert ruby("Resque::Worker.new('peer').paused?") is True
    resq.resume_all()
    assert ruby("Resque::Worker.new('peer').paused?") is False

    ruby('Resque.redis.set("pause-all-workers", "true")')

    assert Worker(["peer"], resq).reserve(timeout=0) is None
    assert resq.size("peer") == 1


@holds("Job hooks have Ruby's names")
def test_hooks_named_as_in_ruby_run_in_python(resq, redis, own_title):
    for doomed in (False, True):
        resq.enqueue(Hooked, doomed)
        Worker(["peer"], resq).process()

    names = [json.loads(line)[0] for line in redis.lrange(ECHOED, 0, -1)]
    assert names == [
        *("before_perform_log", "around_perform_log"),
        *("before_perform_log", "around_perform_log", "on_failure_log"),
    ]


@holds("`resque:stat:processed` and `resque:stat:failed`")
def test_the_counters_count_the_jobs_of_both_sides(ruby, resq, redis, own_title):
    for name in ("Echo", "FailsInRuby"):
        resq.enqueue_to("peer", name, 1)
    ruby("""ENV["FORK_PER_JOB"] = "false"; worker = Resque::Worker.new("peer")
        2.times { worker.work_one_job }; worker.unregister_worker; nil""")
    resq.enqueue(Echo, 2)
    Worker(["peer"], resq).process()
    fail_in_python(resq)

    assert redis.mget("resque:stat:processed", "resque:stat:failed") == [b"4", b"2"]
    assert ruby("[Resque.info[:processed], Resque.info[:failed]]") == [4, 2]
    until(lambda: resq.info()["processed"] == 4)
