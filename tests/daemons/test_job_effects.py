"""A job's changes to its minion's process do not affect the next job."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from redis import Redis

from pyres import ResQ
from pyres.process.job_effects import LIMITS_EVERY_JOBS, ProcessState
from pyres.process.signals import Signals, wake
from tests.daemons.effect_jobs import EFFECTS, AlarmJob, EffectJob, LimitJob, StateJob
from tests.daemons.pools import end_pool, minions, start_pool
from tests.daemons.watching import burst, counted, echoed
from tests.jobs import BEGUN, EchoJob, GateJob
from tests.servers import Daemons, state_of, until


@pytest.mark.parametrize("effect", sorted(EFFECTS))
def test_the_next_job_finds_the_process_as_the_first_one_did(
    effect: str, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start_pool(run_daemon, redis, 1)
    before = minions(redis)
    resq.enqueue_many([(StateJob,), (EffectJob, effect), (StateJob,)])
    until(lambda: counted(redis)[0] == 3)

    first, _, second = echoed(redis)

    assert first == second
    assert minions(redis) == before
    # It has no job: only the signal ends its wait of an hour.
    end_pool(daemon, redis)


@pytest.mark.parametrize("handled", [True, False])
def test_an_alarm_that_a_job_left_is_not_there_in_the_next(
    handled: bool, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start_pool(run_daemon, redis, 1)
    resq.enqueue_many([(StateJob,), (AlarmJob, handled), (StateJob,)])
    until(lambda: counted(redis)[0] == 3)

    first, _, second = echoed(redis)

    assert first == second
    end_pool(daemon, redis)


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("files", "a job has changed the limit RLIMIT_NOFILE"),
        ("cpu", "a job has changed the limit RLIMIT_CPU"),
        ("stdout", "a job has replaced stdout"),
    ],
)
def test_a_minion_near_a_limit_ends_after_its_job_and_logs_why(
    way: str, reason: str, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start_pool(run_daemon, redis, 1)
    before = minions(redis)

    resq.enqueue(LimitJob, way)
    resq.enqueue_many([(EchoJob, number) for number in range(100)])

    daemon.until_output(reason)
    until(lambda: len(minions(redis)) == 1 and minions(redis) != before)
    until(lambda: counted(redis)[0] == 101)
    assert len(echoed(redis)) == 100
    end_pool(daemon, redis)


@pytest.mark.parametrize("effect", ["ignored", "blocked", "default"])
def test_hup_replaces_a_minion_whose_job_changed_what_term_does(
    effect: str, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start_pool(run_daemon, redis, 1)
    before = minions(redis)
    resq.enqueue(EffectJob, effect)
    until(lambda: counted(redis)[0] == 1)

    daemon.send(signal.SIGHUP)

    until(lambda: len(minions(redis)) == 1 and minions(redis) != before)
    assert counted(redis) == (1, 0)
    end_pool(daemon, redis)


def test_a_minion_that_has_no_job_and_does_not_end_is_killed_after_the_grace(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start_pool(run_daemon, redis, 1, "--grace", "0.1", "--nonblocking-pop")
    (before,) = minions(redis)
    os.kill(before, signal.SIGSTOP)
    until(lambda: state_of(before) == "T")

    daemon.send(signal.SIGHUP)

    daemon.until_output(f"Killing minion {before}")
    until(lambda: len(minions(redis)) == 1 and minions(redis) != [before])
    end_pool(daemon, redis)


def reads(redis: Redis) -> int:
    """How often managers have read the in-flight records of their minions."""
    return redis.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"]


def test_hup_leaves_a_minion_its_job_for_longer_than_the_grace(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start_pool(run_daemon, redis, 1, "--grace", "0.1")
    (before,) = minions(redis)
    resq.enqueue(GateJob, "long")
    until(lambda: redis.llen(BEGUN) == 1)

    before_that = reads(redis)
    daemon.send(signal.SIGHUP)
    until(lambda: reads(redis) > before_that, what="a check of the retiring minion")

    redis.rpush("gate:long", "go")
    until(lambda: len(minions(redis)) == 1 and minions(redis) != [before])
    until(lambda: counted(redis) == (1, 0))
    assert echoed(redis) == [["long"]]
    end_pool(daemon, redis)


def test_each_new_process_has_its_own_random_numbers_of_numpy(
    run_daemon: Daemons, resq: ResQ, redis: Redis, tmp_path: Path
) -> None:
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text("")
    seeded = tmp_path / "seeded"
    (tmp_path / "numpy" / "random.py").write_text(
        f"import os\ndef seed():\n    open({str(seeded)!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
    )
    resq.enqueue_many([(EchoJob, number) for number in range(3)])

    burst(run_daemon, "--path", str(tmp_path), "--require", "numpy.random")

    assert counted(redis) == (3, 0)
    assert len(set(seeded.read_text().split())) >= 3


@pytest.mark.timing
def test_the_check_after_a_job_without_effects_takes_at_most_five_microseconds() -> None:
    signals = Signals(dict.fromkeys((signal.SIGTERM, signal.SIGINT, signal.SIGQUIT), wake))
    signals.install()
    state = ProcessState(signals)
    seconds = []
    try:
        for _ in range(1000):
            began = time.perf_counter()
            for _ in range(LIMITS_EVERY_JOBS):
                state.restore()
                state.exhausted()
            seconds.append(time.perf_counter() - began)
    finally:
        state.close()
        signals.restore()

    assert min(seconds) / LIMITS_EVERY_JOBS <= 5e-6
