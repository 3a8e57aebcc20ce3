"""A daemon on a host that refuses files or processes waits, and reports no disconnect."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal

import pytest
from redis import Redis
from redis.exceptions import ConnectionError

from pyres import ResQ
from pyres.store import described, own_error
from tests.daemons.hosts import AS_NOBODY, can_limit, limit_processes
from tests.daemons.limit_jobs import FullJob
from tests.daemons.pools import end_pool, minions, start_pool
from tests.daemons.watching import watches
from tests.jobs import ECHOED, EchoJob
from tests.servers import Daemon, Daemons, until

#: Fewer than any daemon has open: the system refuses the next one, and poll() of some still works.
FEW_FILES = 5

#: A worker to which the system refuses the first three processes.
REFUSED_FORKS = (
    "import errno\n"
    "from pyres import scripts, worker\n"
    "from pyres.process import children\n"
    "worker.FIRST_IDLE = 0.1\n"
    "fork, refusals = children._fork, [errno.EAGAIN, errno.ENOMEM, errno.EAGAIN]\n"
    "def refused():\n"
    "    if refusals:\n"
    "        raise OSError(refusals.pop(), 'refused for a test')\n"
    "    return fork()\n"
    "children._fork = refused\n"
    "raise SystemExit(scripts.pyres_worker())\n"
)


def limited(daemon: Daemon, files: int) -> int:
    """Set how many files it may have open; returns the former limit."""
    former, most = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (files, most))
    return former


def one_more_file(daemon: Daemon) -> int:
    """The limit that leaves it one more descriptor."""
    used = {int(number) for number in os.listdir(f"/proc/{daemon.pid}/fd")}
    unused = [number for number in range(len(used) + 2) if number not in used]
    return unused[1]


def counted(redis: Redis, name: str) -> int:
    return int(redis.get(f"resque:stat:{name}") or 0)


def test_a_worker_without_a_descriptor_puts_its_job_back_until_it_has_one(
    run_daemon: Daemons, redis: Redis, resq: ResQ
) -> None:
    daemon = run_daemon("pyres_worker", "--queues", "basic")
    until(lambda: watches(redis), what="the worker to have all open that it keeps open")
    # A connection can be opened, and no pipe.
    former = limited(daemon, one_more_file(daemon))
    resq.enqueue(EchoJob, 1)
    daemon.until_output("Too many open files); trying again in 1 s")
    # After each pause it is tried again.
    until(lambda: redis.llen("resque:queue:basic") == 1)
    assert daemon.returncode is None

    limited(daemon, former)
    until(lambda: redis.lrange(ECHOED, 0, -1) == [b"[1]"])
    until(lambda: counted(redis, "processed") == 1)
    assert counted(redis, "failed") == 0
    assert "Redis is unreachable" not in daemon.output()


def test_a_worker_that_is_refused_processes_fails_no_job(
    run_daemon: Daemons, redis: Redis, resq: ResQ
) -> None:
    for number in (1, 2, 3):
        resq.enqueue(EchoJob, number)
    daemon = run_daemon("-c", REFUSED_FORKS, "--queues", "basic")
    until(lambda: counted(redis, "processed") == 3)
    assert redis.lrange(ECHOED, 0, -1) == [b"[1]", b"[2]", b"[3]"]
    assert counted(redis, "failed") == 0
    assert daemon.output().count("No process can be started") == 3


def test_a_manager_that_can_start_no_minion_goes_on_with_those_it_has(
    run_daemon: Daemons, redis: Redis, resq: ResQ
) -> None:
    daemon = start_pool(run_daemon, redis, 1, "--interval", "0.1")
    former = limited(daemon, FEW_FILES)
    redis.rpush(f"resque:khan:{redis.srandmember('resque:khans').decode()}", "ADD")
    daemon.until_output("No minion could be started")
    resq.enqueue(EchoJob, 1)
    until(lambda: counted(redis, "processed") == 1)
    assert len(minions(redis)) == 1

    limited(daemon, former)
    until(lambda: len(minions(redis)) == 2)
    assert "Redis is unreachable" not in daemon.output()
    end_pool(daemon, redis)


@can_limit
def test_a_worker_whose_user_may_have_no_more_processes_waits_and_goes_on(
    run_daemon: Daemons, redis: Redis, resq: ResQ
) -> None:
    daemon = run_daemon("-c", AS_NOBODY, "pyres_worker", "--queues", "basic")
    daemon.until_title("Waiting")
    assert limit_processes(daemon.pid, 0)
    resq.enqueue(EchoJob, 1)
    daemon.until_output("No process can be started")
    until(lambda: redis.llen("resque:queue:basic") == 1)

    assert limit_processes(daemon.pid, None)
    until(lambda: counted(redis, "processed") == 1)
    assert redis.lrange(ECHOED, 0, -1) == [b"[1]"]
    assert counted(redis, "failed") == 0
    assert daemon.returncode is None


@can_limit
def test_a_manager_whose_user_may_have_no_more_processes_waits_and_goes_on(
    run_daemon: Daemons, redis: Redis, resq: ResQ
) -> None:
    """A minion that dies meanwhile is replaced as soon as that is possible."""
    daemon = start_pool(run_daemon, redis, 2, command=("-c", AS_NOBODY, "pyres_manager"))
    assert limit_processes(daemon.pid, 0)
    killed, stays = minions(redis)
    os.kill(killed, signal.SIGKILL)
    daemon.until_output("No minion could be started")
    resq.enqueue(EchoJob, 1)
    until(lambda: counted(redis, "processed") == 1)
    until(lambda: minions(redis) == [stays])

    assert limit_processes(daemon.pid, None)
    until(lambda: len(minions(redis)) == 2)
    assert counted(redis, "failed") == 0
    end_pool(daemon, redis)


@pytest.mark.parametrize("script", ["pyres_worker", "pyres_manager"])
def test_a_job_that_uses_up_all_descriptors_and_fails_is_recorded(
    run_daemon: Daemons, redis: Redis, resq: ResQ, script: str
) -> None:
    pool = ("--pool", "1") if script == "pyres_manager" else ()
    resq.enqueue(FullJob)
    resq.enqueue(EchoJob, 2)
    daemon = run_daemon(script, *pool, "--queues", "basic")
    until(lambda: counted(redis, "processed") == 2)
    assert redis.lrange(ECHOED, 0, -1) == [b"[2]"]
    (record,) = redis.lrange("resque:failed", 0, -1)
    assert json.loads(record)["payload"]["class"].endswith(".FullJob")
    assert counted(redis, "failed") == 1
    assert "Redis is unreachable" not in daemon.output()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES])
def test_what_this_process_lacks_is_not_called_a_lost_server(number: int) -> None:
    ours = OSError(number, "refused")
    caused = ConnectionError("lost")
    caused.__cause__ = ours
    for error in (ours, caused, ConnectionError(f"Error {number} connecting to h:1. refused.")):
        assert own_error(error) == number
        assert "Redis is unreachable" not in described(error)


def test_an_error_of_the_job_does_not_hide_a_lost_server() -> None:
    lost = ConnectionError("Error 111 connecting to 127.0.0.1:1. Connection refused.")
    lost.__context__ = OSError(errno.EMFILE, "the job's own")
    assert own_error(lost) is None
    assert described(lost).startswith("Redis is unreachable (")
