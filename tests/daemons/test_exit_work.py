"""Work that a job leaves for the end of its process: threads, executors, exit hooks."""

from __future__ import annotations

import signal

import pytest
from redis import Redis

from pyres import ResQ
from tests.daemons.exit_jobs import (
    EndlessHookJob,
    EndlessThreadJob,
    ExecutorJob,
    FailingHookJob,
    HookJob,
    LateThreadJob,
    RaisingHookJob,
)
from tests.daemons.pools import end_pool, minions, start_pool
from tests.daemons.watching import burst, counted, echoed, start, until_counted
from tests.jobs import EchoJob
from tests.servers import Daemons, texts, until

#: A command in whose process an exit hook is registered before the first fork.
_HOOKED = (
    "import atexit, os\n"
    "from pyres import scripts\n"
    "atexit.register(lambda: os.write(1, b'inherited\\n'))\n"
    "raise SystemExit(scripts.{}())\n"
)
#: A command that has started a thread.
_THREADED = (
    "import threading, time\n"
    "from pyres import scripts\n"
    "threading.Thread(target=time.sleep, args=(3600,), daemon=True, name='agent 7').start()\n"
    "raise SystemExit(scripts.{}())\n"
)


#: A worker that never kills a job's process, which must end in time by itself.
_PATIENT = (
    "from pyres import scripts, worker\n"
    "worker.ALARM_MARGIN = 600.0\n"
    "raise SystemExit(scripts.pyres_worker())\n"
)


def ended(redis: Redis) -> list[str]:
    """The threads and hooks that have ended after their job."""
    return sorted(texts(redis.lrange("ended", 0, -1)))


@pytest.mark.parametrize("kind", [LateThreadJob, ExecutorJob])
def test_the_outcome_is_recorded_while_a_thread_of_the_job_goes_on(
    kind: type, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start(run_daemon, redis, "--queues", "basic", "--grace", "600")
    resq.enqueue(kind, "late")

    until_counted(redis, 1, 0)

    assert "late" not in ended(redis)
    assert not [key for key in redis.keys("resque:worker:*") if not key.endswith(b":started")]
    redis.rpush("gate:late", "go")
    until(lambda: "late" in ended(redis))
    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0
    assert counted(redis) == (1, 0)
    assert kind is LateThreadJob or ended(redis) == ["late", "late too"]


@pytest.mark.parametrize("kind", [HookJob, FailingHookJob])
def test_the_exit_hooks_of_a_job_run_in_its_own_process(
    kind: type, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    resq.enqueue_many([(kind, "1"), (EchoJob, 2), (kind, "3")])

    burst(run_daemon)

    assert ended(redis) == ["1", "3"]
    assert counted(redis) == (3, 2 * (kind is FailingHookJob))


def test_an_exit_hook_that_raises_fails_no_job(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    resq.enqueue(RaisingHookJob)

    daemon = burst(run_daemon)

    assert "ZeroDivisionError" in daemon.output()
    assert counted(redis) == (1, 0)


@pytest.mark.parametrize("kind", [EndlessThreadJob, EndlessHookJob])
def test_exit_work_longer_than_the_grace_is_ended_and_the_job_stays_done(
    kind: type, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    resq.enqueue(kind)
    resq.enqueue(EchoJob, "next")

    options = ("--queues", "basic", "--burst", "--grace", "0.2")
    daemon = run_daemon("-c", _PATIENT, *options)
    assert daemon.wait() == 0, daemon.output()

    assert echoed(redis) == [["next"]]
    assert counted(redis) == (2, 0)
    assert "atexit hooks of a job were still running" in daemon.output()


@pytest.mark.parametrize(
    "signals", [[signal.SIGUSR1, signal.SIGTERM], [signal.SIGTERM, signal.SIGINT]]
)
def test_a_signal_that_kills_the_threads_of_a_job_does_not_make_it_a_failure(
    signals: list[int], run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start(run_daemon, redis, "--queues", "basic", "--grace", "600")
    resq.enqueue(EndlessThreadJob)
    until_counted(redis, 1, 0)
    (child,) = daemon.children()

    for signum in signals:
        daemon.send(signum)
        if signum == signal.SIGUSR1:
            until(lambda: child not in daemon.children())

    assert daemon.wait() == 0
    assert counted(redis) == (1, 0)


@pytest.mark.parametrize("way", ["max jobs", "TERM"])
def test_a_minion_runs_hooks_and_waits_for_threads_at_its_end(
    way: str, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    options = ("--max-jobs", "2") if way == "max jobs" else ()
    daemon = start_pool(run_daemon, redis, 1, *options)
    (before,) = minions(redis)
    redis.rpush("gate:thread", "go")
    resq.enqueue_many([(HookJob, "hook"), (LateThreadJob, "thread")])
    until(lambda: len(redis.lrange("begun", 0, -1)) == 1 and counted(redis)[0] == 2)
    if way == "max jobs":
        until(lambda: minions(redis) and minions(redis) != [before])

    end_pool(daemon, redis)

    assert ended(redis) == ["hook", "thread"]


@pytest.mark.parametrize(
    ("options", "env", "count"),
    [
        ((), {}, 1),
        (("--run-at-exit-hooks",), {}, 3),
        ((), {"RUN_AT_EXIT_HOOKS": "1"}, 3),
    ],
)
def test_hooks_from_before_the_fork_run_in_jobs_processes_only_if_enabled(
    options: tuple[str, ...],
    env: dict[str, str],
    count: int,
    run_daemon: Daemons,
    resq: ResQ,
    redis: Redis,
) -> None:
    resq.enqueue_many([(EchoJob, 1), (EchoJob, 2)])
    program = _HOOKED.format("pyres_worker")

    daemon = run_daemon("-c", program, "--queues", "basic", "--burst", *options, env=env)

    assert daemon.wait() == 0
    assert daemon.output().count("inherited\n") == count


@pytest.mark.parametrize(("options", "count"), [((), 1), (("--run-at-exit-hooks",), 2)])
def test_hooks_from_before_the_fork_run_in_minions_only_if_enabled(
    options: tuple[str, ...], count: int, run_daemon: Daemons, redis: Redis
) -> None:
    program = ("-c", _HOOKED.format("pyres_manager"))
    daemon = start_pool(run_daemon, redis, 1, *options, command=program)

    end_pool(daemon, redis)

    assert daemon.output().count("inherited\n") == count


@pytest.mark.parametrize(
    ("name", "options"), [("pyres_worker", []), ("pyres_manager", ["--pool", "2"])]
)
def test_threads_from_before_the_fork_are_named_once(
    name: str, options: list[str], run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    resq.enqueue_many([(EchoJob, number) for number in range(3)])
    command = ("-c", _THREADED.format(name), "--queues", "basic")
    daemon = run_daemon(*command, *options)
    until(lambda: counted(redis)[0] == 3)

    daemon.send(signal.SIGTERM)

    assert daemon.wait() == 0
    assert daemon.output().count("(agent 7)") == 1
    assert "start threads after the fork" in daemon.output()


def test_a_daemon_without_threads_does_not_warn_about_threads(
    run_daemon: Daemons, redis: Redis
) -> None:
    assert "thread" not in burst(run_daemon).output()
