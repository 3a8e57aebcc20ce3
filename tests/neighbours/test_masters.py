"""Which scheduler is the master, where Ruby has entries that Python does not have."""

from __future__ import annotations

import json
import signal

import pytest

from tests.neighbours.statements import holds
from tests.servers import until

pytestmark = pytest.mark.peer

LOCK = "resque:resque:resque_scheduler_master_lock"

EACH_SECOND = {"every": "1s", "class": "Echo"}


@pytest.fixture
def start_python(run_daemon, tmp_path):
    """A function that starts a scheduler with its own entry, for the queue "python"."""
    file = tmp_path / "schedule.json"
    file.write_text(json.dumps({"of python": {**EACH_SECOND, "queue": "python"}}))
    common = ("--dynamic", "--schedule", file, "--interval", 1)
    return lambda *options: run_daemon("pyres_scheduler", *common, *options)


@pytest.fixture
def start_static_ruby(start_ruby):
    """A function that starts a scheduler in Ruby with a static entry, for the queue "ruby"."""
    entries = json.dumps({"of ruby": {**EACH_SECOND, "queue": "ruby"}})
    return lambda: start_ruby(
        "schedule", entries, RESQUE_SCHEDULER_INTERVAL="0.2", LOCK_TIMEOUT="30"
    )


def until_fired(resq, queue):
    """Return when another job of an entry is on this queue."""
    size = resq.size(queue)
    until(lambda: resq.size(queue) > size, what=f"a moment fired for {queue}")


@holds("`pyres_scheduler --take-lock never` leaves it to Ruby")
def test_with_take_lock_never_python_fires_its_own_entries_and_ruby_its_own(
    start_python, start_static_ruby, resq, redis
):
    start_python("--take-lock", "never")
    until_fired(resq, "python")
    assert not redis.exists(LOCK)

    start_static_ruby()

    until_fired(resq, "ruby")
    until_fired(resq, "python")


@holds("`--take-lock able` takes the lock only")
def test_with_take_lock_able_python_leaves_the_lock_to_ruby_for_an_entry_of_ruby(
    start_python, start_static_ruby, resq, redis
):
    former = start_static_ruby()
    until_fired(resq, "ruby")
    former.send(signal.SIGTERM)
    former.wait()

    python = start_python("--take-lock", "able")

    python.until_output("'of ruby'")
    until_fired(resq, "python")
    assert not redis.exists(LOCK)
    last = start_static_ruby()
    until_fired(resq, "ruby")
    last.send(signal.SIGTERM)
    last.wait()
    redis.hdel("resque:delayed:last_enqueued_at", "of ruby")
    until(lambda: redis.get(LOCK), what="a master in Python")


@holds("An entry without a queue goes to that of its class")
def test_an_entry_of_a_class_that_only_ruby_has_goes_to_the_queue_of_queue_for(
    start_python, ruby, resq
):
    ruby("""Resque.set_schedule("report", {class: "Report", every: "1s", persist: true})
        Resque::Scheduler.enqueue_from_config(Resque.fetch_schedule("report")); nil""")
    assert resq.peek("reports", 0, 9) == [{"class": "Report", "args": []}]
    without = start_python()
    without.until_output("'report'")
    until_fired(resq, "python")
    assert resq.size("reports") == 1
    without.send(signal.SIGTERM)
    without.wait()

    start_python("--queue-for", "Report=reports")

    until_fired(resq, "reports")
