"""Each cell of the kill matrix: a process is stopped at a step and has its fault; the job must have
the outcome in the table.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis import Redis

from pyres import ResQ
from pyres.store import scripts
from tests.daemons import kill_matrix
from tests.daemons.kill_jobs import Gate
from tests.daemons.kill_matrix import FIRED, KILLED, Cell
from tests.daemons.kill_stage import Stage
from tests.daemons.pools import busy_with
from tests.daemons.watching import burst, child_titled, counted
from tests.jobs import NoopJob
from tests.proxy import Proxy
from tests.servers import ROOT, Daemon, Daemons, Server, until

#: A call of a client, which prints how it ended.
CALL = (
    "import sys\n"
    "from datetime import UTC, datetime\n"
    "from pyres import ResQ\n"
    "from tests.daemons import kill_jobs\n"
    "resq = ResQ(sys.argv[1])\n"
    "try:\n"
    "    {call}\n"
    "except Exception as error:\n"
    "    print('raised', type(error).__name__)\n"
)
ENQUEUE = "resq.enqueue(kill_jobs.{job}, 'path')"
DELAY = "resq.enqueue_at(datetime.now(UTC), kill_jobs.{job}, 'path')"


def of(process: str) -> pytest.MarkDecorator:
    """The cells of a process, of which `make test` runs one of each kind."""
    params = [
        pytest.param(cell, id=cell.name, marks=() if cell.main else pytest.mark.killmatrix)
        for cell in kill_matrix.cells()
        if cell.row.process == process
    ]
    return pytest.mark.parametrize("cell", params)


@pytest.fixture
def stage(
    cell: Cell, server: Server, run_daemon: Daemons, resq: ResQ, tmp_path: Path
) -> Iterator[Stage]:
    for name in kill_matrix.SCRIPTS:
        resq.redis.script_load(scripts.source(name))
    with Proxy(server.port) as proxy:
        yield Stage(cell, proxy, run_daemon, resq, tmp_path)


def work_it_off(stage: Stage) -> None:
    """The next worker or pool does the remaining jobs, and removes dead registrations."""
    outcome = stage.cell.row.outcomes[stage.cell.fault]
    if stage.cell.fault == KILLED and outcome.waits is not None:
        assert (stage.tally().waiting == 1) == outcome.waits
    burst(stage.run_daemon)


def assert_outcome(stage: Stage) -> None:
    """The job has the outcome in the table, and no keys are left."""
    outcome, tally = stage.cell.row.outcomes[stage.cell.fault], stage.tally()
    assert tally.ended == outcome.ended
    assert len(tally.failures) == bool(outcome.failures)
    assert set(tally.failures) <= set(outcome.failures)
    assert tally.failed == len(tally.failures)
    # A worker killed after a failure was recorded does not count that job; none is counted twice.
    assert tally.processed <= stage.others + max(tally.begun, 1)
    assert tally.waiting == 0
    left = ("resque:workers", "resque:minions", "resque:khans", "resque:workers:heartbeat")
    assert not stage.redis.exists(*left)
    assert stage.redis.keys("resque:worker:*") == []
    assert stage.redis.keys("resque:pyres:unique:*") == []


def finish_worker(stage: Stage, daemon: Daemon) -> None:
    """It ends by itself, unless it was killed."""
    assert daemon.wait() in (0, -signal.SIGKILL), daemon.output()
    until(lambda: daemon.family() == [])
    work_it_off(stage)
    assert_outcome(stage)


@of("worker")
def test_a_worker(stage: Stage) -> None:
    stage.enqueue()
    daemon = stage.start("pyres_worker", "--queues", "basic", "--burst")
    stage.reach()

    stage.strike(daemon.pid, stage.neighbour)

    finish_worker(stage, daemon)


@of("job's process")
def test_a_jobs_process(stage: Stage) -> None:
    stage.enqueue()
    daemon = stage.start("pyres_worker", "--queues", "basic", "--burst")
    stage.reach()

    stage.strike(stage.only_child(), stage.neighbour)

    finish_worker(stage, daemon)


@of("standby child")
def test_a_standby_child(stage: Stage, tmp_path: Path) -> None:
    """It is forked while the second job of a backlog runs, for the third."""
    gate = tmp_path / "gate"
    stage.resq.enqueue_many([(NoopJob,), (Gate, str(gate))])
    stage.others = 2
    stage.enqueue()
    daemon = stage.start("pyres_worker", "--queues", "basic", "--burst")
    if stage.cell.row.at.place == "is ready":
        stage.strike(child_titled(daemon, "Ready"), lambda: let_on(gate, stage.redis))
        gate.touch()
    else:
        gate.touch()
        stage.reach()
        stage.strike(stage.stopper, stage.neighbour)

    finish_worker(stage, daemon)


def let_on(gate: Path, redis: Redis) -> None:
    """Let the first job end, so that the next one is assigned to the standby child."""
    gate.touch()
    until(lambda: busy_with(redis, "Traced"))


def start_pool(stage: Stage) -> Daemon:
    stage.enqueue()
    options = ("--pool", "1", "--queues", "basic", "--interval", "0.1", "--grace", "60")
    return stage.start("pyres_manager", *options)


def stop_if_it_unregisters(stage: Stage, daemon: Daemon) -> bool:
    """The last steps are those of a pool that has done its job and gets a signal to stop."""
    if "unregisters" not in stage.cell.row.step:
        return False
    until(lambda: counted(stage.redis) == (1, 0))
    daemon.send(signal.SIGTERM)
    return True


def finish_pool(stage: Stage, daemon: Daemon, ends: bool) -> None:
    if not ends:
        until(lambda: is_over(stage))
        daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0, daemon.output()
    work_it_off(stage)
    assert_outcome(stage)


def is_over(stage: Stage) -> bool:
    """Whether the job has its final outcome without another process."""
    outcome, tally = stage.cell.row.outcomes[stage.cell.fault], stage.tally()
    records = [key for key in stage.redis.keys("resque:worker:*") if not key.endswith(b":started")]
    return (
        (tally.ended, len(tally.failures)) == (outcome.ended, bool(outcome.failures))
        and not tally.waiting
        and not records
    )


@of("minion")
def test_a_minion(stage: Stage) -> None:
    daemon = start_pool(stage)
    ends = stop_if_it_unregisters(stage, daemon)
    stage.reach()

    stage.strike(stage.only_child(), stage.neighbour)

    finish_pool(stage, daemon, ends)


@of("manager")
def test_a_manager(stage: Stage) -> None:
    daemon = start_pool(stage)
    ends = stop_if_it_unregisters(stage, daemon)
    stage.reach()

    stage.strike(daemon.pid, stage.neighbour)

    if stage.cell.fault != KILLED:
        finish_pool(stage, daemon, ends)
        return
    until(lambda: daemon.family() == [], what="the end of its minions")
    work_it_off(stage)
    assert_outcome(stage)


@of("scheduler")
def test_a_scheduler(stage: Stage, tmp_path: Path) -> None:
    fires = stage.cell.row.outcomes[stage.cell.fault] is FIRED
    schedule = tmp_path / "schedule.json"
    schedule.write_text(json.dumps({"tick": TICK}) if fires else "{}")
    options = ("--lock-timeout", "1", "--interval", "0.2", "--schedule", str(schedule))
    stage.resq.enqueue_at(datetime(2020, 1, 1, tzinfo=UTC), NoopJob)
    daemon = stage.start("pyres_scheduler", *options)
    ends = "releases" in stage.cell.row.step
    if ends:
        until(lambda: stage.resq.size("basic") == 1)
        daemon.send(signal.SIGTERM)
    stage.reach()

    others: list[Daemon] = []

    def take_over() -> None:
        others.append(stage.run_daemon("pyres_scheduler", *options))
        until(lambda: master(stage.redis) == others[0].pid)

    before = jobs_and_moments(stage)[1]
    stage.strike(daemon.pid, take_over)
    if stage.cell.fault == KILLED:
        take_over()
    # Both, since a scheduler that gets a signal to stop only finishes its current batch.
    until(lambda: is_promoted(stage) and (not fires or jobs_and_moments(stage)[1] > before))
    for each in others if ends else (daemon, *others):
        each.send(signal.SIGTERM)
    for each in (daemon, *others):
        assert each.wait() in (0, -signal.SIGKILL), each.output()

    jobs, moments = jobs_and_moments(stage)
    assert jobs == 1 + moments
    assert stage.resq.delayed_queue_schedule_size() == 0


def is_promoted(stage: Stage) -> bool:
    return stage.resq.size("basic") > 0 and not stage.resq.delayed_queue_schedule_size()


#: An entry of a schedule that fires each second.
TICK = {"cron": "* * * * * *", "class": "tests.jobs.NoopJob", "queue": "basic"}


def master(redis: Redis) -> int:
    """The pid of the scheduler that holds the lock, or 0."""
    return int((redis.get("resque:resque:resque_scheduler_master_lock") or b":0").split(b":")[1])


def jobs_and_moments(stage: Stage) -> tuple[int, int]:
    """How many jobs are on the queue, and how many moments were fired, read in one step."""
    pipe = stage.redis.pipeline()
    pipe.llen("resque:queue:basic")
    pipe.hget("resque:pyres:schedule_ranges", "tick")
    jobs, ranges = pipe.execute()
    found = re.findall(rb"(\d+)\.\.(\d+)", ranges or b"")
    return jobs, sum(int(last) - int(first) + 1 for first, last in found)


@of("client")
def test_a_client(stage: Stage) -> None:
    row, outcome = stage.cell.row, stage.cell.row.outcomes[stage.cell.fault]
    call = (DELAY if "delays" in row.step else ENQUEUE).format(job=row.job)
    stage.arm()
    daemon = stage.run_daemon("-c", CALL.format(call=call), stage.proxy.dsn)
    stage.reach()

    stage.strike(daemon.pid, lambda: None)

    daemon.wait()
    assert stage.tally().waiting == outcome.ended
    raised = [line.split()[1] for line in daemon.output().splitlines()]
    assert raised == list(outcome.failures)


def test_the_documentation_shows_this_table() -> None:
    page = (ROOT / "docs/reliability.md").read_text("utf-8")

    for process, part in kill_matrix.parts():
        assert part in page, f"expected for {process}:\n{part}"
