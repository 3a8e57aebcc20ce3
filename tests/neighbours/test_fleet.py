"""With kills of processes of any language, no job is lost and none performed twice."""

from __future__ import annotations

import json
import signal
import time
from datetime import timedelta

import pytest

from tests.neighbours.fleet import Fleet, cron_at, fired
from tests.neighbours.statements import holds
from tests.servers import until

pytestmark = pytest.mark.peer

#: Jobs that are enqueued at once, and kills while they are performed.
PORTION, KILLS = 250, 3

#: A lock remains for 6 s after its holder was killed. A moment counts as missed only if it is later
#: than the sum of both numbers.
SCHEDULER = ("pyres_scheduler", "--dynamic", "--lock-timeout", 6, "--interval", 10)


@pytest.fixture
def python_starters(run_daemon):
    """Functions that start the daemons in Python, by name."""
    common = ("--require", "tests.neighbours.jobs", "--queues", "python,all")
    return {
        "python worker 1": lambda: run_daemon("pyres_worker", *common),
        "python manager 1": lambda: run_daemon("pyres_manager", *common, "--pool", "2"),
        **{f"python scheduler {n}": lambda: run_daemon(*SCHEDULER) for n in (1, 2)},
    }


@pytest.fixture
def node_starters(start_node):
    return {f"node worker {n}": lambda: start_node("work", "node,all") for n in (1, 2)}


@pytest.fixture
def ruby_starters(start_ruby):
    return {f"ruby worker {n}": lambda: start_ruby("work", "ruby,all") for n in (1, 2)}


@pytest.fixture
def python_client(resq):
    """A function that enqueues jobs in Python."""

    def enqueue(jobs):
        for queue, later, args in jobs:
            if later:
                due = resq.server_time() + timedelta(seconds=later)
                resq.enqueue_at_from_string(due, "Trace", queue, *args)
            else:
                resq.enqueue_from_string("Trace", queue, *args)

    return enqueue


@pytest.fixture
def node_client(run_node):
    return lambda jobs: run_node("trace", json.dumps(jobs))


@pytest.fixture
def ruby_client(ruby):
    return lambda jobs: ruby(f"trace(JSON.parse({json.dumps(json.dumps(jobs))}))")


@pytest.fixture
def last_worker(run_daemon):
    """Starts the worker that performs the remaining jobs and records those of dead workers."""
    options = ("--queues", "all,node,python,ruby", "--burst", "--require", "tests.neighbours.jobs")
    return lambda: run_daemon("pyres_worker", *options)


def work_under_kills(fleet, clients, jobs):
    for number in range(jobs // PORTION):
        fleet.enqueue(clients[number % len(clients)], PORTION)
        for _ in range(KILLS):
            fleet.until_few_are_left(PORTION)
            fleet.kill_one()


def check(fleet, books, languages):
    report = fleet.report(books)
    assert books.lost == [], report
    assert books.unexplained == [], report
    assert (books.waiting, books.left) == (set(), []), report
    # Each language has performed jobs, and there were enough kills.
    assert books.languages.keys() == languages
    assert fleet.kills.total() >= fleet.jobs // PORTION


def test_no_job_is_lost_between_python_and_node_under_kills(
    python_starters, node_starters, python_client, node_client, last_worker, redis
):
    fleet = Fleet(redis, python_starters | node_starters, seed=1)

    work_under_kills(fleet, [python_client, node_client], 1500)

    check(fleet, fleet.end(last_worker), {"python", "node"})


class Moments:
    """Schedule entries that each fire at one moment only, one second after the previous one."""

    def __init__(self, name, first, number):
        self.at = {f"{name}-{n}": int(first) + n for n in range(number)}

    def entries(self):
        """The entries for a schedule file: their jobs go to a queue without workers."""
        return {name: entry(name, moment) for name, moment in self.at.items()}

    def due(self, now):
        """The names of due entries."""
        return {name for name, moment in self.at.items() if moment <= now}


def entry(name, moment):
    return {"cron": cron_at(moment), "class": "Note", "queue": "notes", "args": [name]}


def published_in_time(name, publish, number=10):
    """Moments that `publish` has published before the first one is due, even if it is slow."""
    for ahead in (4, 8, 16, 32, 64):
        moments = Moments(f"{name}-{ahead}", time.time() + ahead, number)
        publish(moments)
        if not moments.due(time.time() + 1):
            return moments
    raise AssertionError(f"it takes too long to publish the entries of {name}")


@pytest.fixture
def ruby_scheduler(start_ruby):
    """A function that starts Ruby's scheduler as the master, with these static entries."""
    started = []

    def publish(moments):
        for daemon in started:
            daemon.send(signal.SIGTERM)
            daemon.wait()
        timing = {"RESQUE_SCHEDULER_INTERVAL": "0.5", "LOCK_TIMEOUT": "30"}
        started[:] = [start_ruby("schedule", json.dumps(moments.entries()), **timing)]
        started[0].until_title("Schedules Loaded")

    publish.started = started
    return publish


@pytest.fixture
def dynamic(ruby, resq, redis):
    """A function that writes entries to Redis, in Python and in Ruby, and waits until the master
    has them.
    """

    def publish(moments):
        for number, (name, config) in enumerate(moments.entries().items()):
            if number % 2:
                resq.set_schedule(name, config)
            else:
                persisted = json.dumps(json.dumps({**config, "persist": True}))
                ruby(f"Resque.set_schedule({json.dumps(name)}, JSON.parse({persisted})); nil")
        until(lambda: not redis.exists("resque:schedules_changed"), what="a master that knows them")

    return publish


def until_fired(redis, *all_moments):
    """Wait until each moment has fired, and assert that each has fired once."""
    names = {name for moments in all_moments for name in moments.at}
    until(lambda: fired(redis, "notes").keys() >= names, what="each entry fired")
    assert {name: times for name, times in fired(redis, "notes").items() if times > 1} == {}


@holds("What either side stored with `set_schedule`")
def test_no_job_is_lost_between_three_languages_and_both_schedulers_under_kills(
    python_starters, node_starters, ruby_starters, python_client, node_client, ruby_client,
    ruby_scheduler, dynamic, last_worker, redis,
):  # fmt: skip
    clients = [python_client, node_client, ruby_client]
    of_ruby = published_in_time("ruby", ruby_scheduler)
    fleet = Fleet(redis, python_starters | node_starters | ruby_starters, seed=2)
    under_ruby = published_in_time("under-ruby", dynamic)

    work_under_kills(fleet, clients, 2500)
    until_fired(redis, of_ruby, under_ruby)
    (former,) = ruby_scheduler.started
    former.send(signal.SIGTERM)
    assert former.wait() == 0
    under_python = published_in_time("under-python", dynamic)
    work_under_kills(fleet, clients, 2500)
    until_fired(redis, of_ruby, under_ruby, under_python)

    check(fleet, fleet.end(last_worker), {"python", "node", "ruby"})
    until_fired(redis, of_ruby, under_ruby, under_python)


@holds(
    "Python's recurring jobs from code and files fire",
    "| a moment that a recurring job missed between two masters |",
)
def test_entries_of_one_language_only_fire_once_per_moment_across_takeovers(
    run_daemon, ruby_scheduler, redis, tmp_path
):
    of_ruby = published_in_time("ruby", ruby_scheduler)
    file = tmp_path / "schedule.json"
    file.write_text("{}")
    options = (*SCHEDULER, "--schedule", file)
    names = [f"python scheduler {n}" for n in (1, 2)]
    fleet = Fleet(redis, {name: lambda: run_daemon(*options) for name in names}, seed=3)

    def reload(moments):
        file.write_text(json.dumps(moments.entries()))
        fleet.send(signal.SIGUSR2)
        first = min(moments.at)
        until(lambda: redis.hexists("resque:pyres:schedule", first), what="the file read")

    of_python = published_in_time("python", reload, number=40)

    for number in range(3):
        name = sorted(of_python.at, key=of_python.at.get)[number * 10]
        until(lambda name=name: name in fired(redis, "notes"), what=name)
        fleet.kill_one("python scheduler is killed")
    until_fired(redis, of_ruby)
    (former,) = ruby_scheduler.started
    former.send(signal.SIGTERM)
    assert former.wait() == 0
    fleet.kill_one("python scheduler is killed")

    until_fired(redis, of_ruby, of_python)
    fleet.stop("")
    until_fired(redis, of_ruby, of_python)
