"""--greenlets: many jobs at once in one minion, each in its own slot."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import pytest
from redis import Redis

from pyres import ResQ, failure
from pyres.exceptions import BadOptionError
from pyres.horde import Khan
from tests.daemons.green_jobs import TIMES, AskJob, CoroutineJob, DeafJob, LateJob, QuitJob
from tests.jobs import BEGUN, ECHOED, GATE, EchoJob, GateJob
from tests.servers import Daemon, Daemons, until

Start = Callable[..., Daemon]

#: A manager that never kills a minion for a job over its timeout.
PATIENT = (
    "-c",
    "from gevent import monkey\n"
    "monkey.patch_all()\n"
    "from pyres import horde, scripts\n"
    "horde.ALARM_MARGIN = 600.0\n"
    "raise SystemExit(scripts.pyres_manager())\n",
)


@pytest.fixture
def start(run_daemon: Daemons, redis: Redis) -> Start:
    """Starts one minion with N greenlets, and waits until all its slots are registered."""

    def run(count: int, *options: str, command: Sequence[str] = ("pyres_manager",)) -> Daemon:
        arguments = ["--greenlets", str(count), "--queues", "green,basic", *options]
        daemon = run_daemon(*command, *arguments)
        until(lambda: redis.scard("resque:minions") == count, what="the slots to register")
        return daemon

    return run


@pytest.fixture
def slow_port() -> Iterator[int]:
    """The port of a server that answers each connection after 0.1 s."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=500)
    listener.setblocking(False)
    ends, end = socket.socketpair()
    thread = threading.Thread(target=_answer_late, args=(listener, ends), daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    end.close()
    thread.join(20)
    for each in (listener, ends):
        each.close()


def _answer_late(listener: socket.socket, ends: socket.socket) -> None:
    due: deque[tuple[float, socket.socket]] = deque()
    selector = selectors.DefaultSelector()
    for each in (listener, ends):
        selector.register(each, selectors.EVENT_READ)
    while True:
        left = max(0.0, due[0][0] - time.monotonic()) if due else None
        for key, _ in selector.select(left):
            if key.fileobj is ends:
                return
            due.append((time.monotonic() + 0.1, listener.accept()[0]))
        while due and due[0][0] <= time.monotonic():
            due.popleft()[1].close()


def end(daemon: Daemon, redis: Redis) -> None:
    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0, daemon.output()
    assert not redis.exists("resque:workers", "resque:minions", "resque:workers:heartbeat")
    assert not redis.keys("resque:worker:*")


WAYS_TO_WAIT = ["--watch-pop", "--nonblocking-pop", "--blocking-pop"]


@pytest.mark.parametrize("wait", WAYS_TO_WAIT)
def test_two_hundred_jobs_wait_at_the_same_time(
    wait: str, start: Start, resq: ResQ, redis: Redis
) -> None:
    daemon = start(200, wait)
    with socket.create_server(("127.0.0.1", 0), backlog=500) as listener:
        listener.settimeout(60)

        resq.enqueue_many([(AskJob, listener.getsockname()[1])] * 200)

        # None is answered before all have asked.
        for asking in [listener.accept()[0] for _ in range(200)]:
            asking.close()
    until(lambda: redis.llen(TIMES) == 400)
    end(daemon, redis)
    assert redis.get("resque:stat:processed") == b"200"


@pytest.mark.timing
@pytest.mark.parametrize("wait", WAYS_TO_WAIT)
def test_two_hundred_jobs_that_wait_a_tenth_of_a_second_take_less_than_one(
    wait: str, start: Start, resq: ResQ, redis: Redis, slow_port: int
) -> None:
    daemon = start(200, wait)

    resq.enqueue_many([(AskJob, slow_port)] * 200)

    until(lambda: redis.llen(TIMES) == 400)
    times = [float(moment) for moment in redis.lrange(TIMES, 0, -1)]
    assert max(times) - min(times) < 1
    end(daemon, redis)
    assert redis.get("resque:stat:processed") == b"200"


def test_each_job_has_its_own_slot_and_in_flight_record(
    start: Start, resq: ResQ, redis: Redis
) -> None:
    daemon = start(3)
    resq.enqueue_many([(GateJob, "g")] * 3)
    until(lambda: redis.llen(BEGUN) == 3)

    workers = redis.smembers("resque:workers")
    records = [redis.get(b"resque:worker:" + worker) for worker in workers]

    assert len(records) == 3
    assert all(record and b"GateJob" in record for record in records)
    # Host and pid come first, as Ruby's pruning reads them.
    assert {worker.split(b":")[1] for worker in workers} == set(redis.lrange(BEGUN, 0, 0))
    (minion,) = daemon.children()
    until(lambda: "processing 3 of 3 jobs" in _title(minion))
    redis.rpush(GATE.format("g"), 1, 1, 1)
    until(lambda: redis.llen(ECHOED) == 3)
    end(daemon, redis)


def _title(pid: int) -> str:
    with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
        return file.read()


def test_running_jobs_are_finished_before_the_end(start: Start, resq: ResQ, redis: Redis) -> None:
    daemon = start(2)
    resq.enqueue_many([(GateJob, "g")] * 2)
    until(lambda: redis.llen(BEGUN) == 2)

    daemon.send(signal.SIGTERM)
    redis.rpush(GATE.format("g"), 1, 1)

    assert daemon.wait() == 0
    assert redis.llen(ECHOED) == 2
    assert redis.get("resque:stat:processed") == b"2"
    assert not redis.exists("resque:failed")


def test_all_jobs_of_a_minion_that_dies_are_failures(
    start: Start, resq: ResQ, redis: Redis
) -> None:
    daemon = start(3)
    resq.enqueue_many([(GateJob, "g")] * 2)
    until(lambda: redis.llen(BEGUN) == 2)

    resq.enqueue(QuitJob)

    records = until(lambda: failure.count(resq) == 3 and failure.all(resq, 0, 9))
    assert {record["error"] for record in records} == {
        "the minion that performed the job exited with status 3"
    }
    assert len({record["worker"] for record in records}) == 3
    until(lambda: redis.scard("resque:minions") == 3)
    assert redis.get("resque:stat:failed") == b"3"
    end(daemon, redis)


def test_a_job_over_its_timeout_is_ended_and_the_others_go_on(
    start: Start, resq: ResQ, redis: Redis
) -> None:
    daemon = start(2, command=PATIENT)
    resq.enqueue(GateJob, "g")
    until(lambda: redis.llen(BEGUN) == 1)

    resq.enqueue(LateJob)

    (record,) = until(lambda: failure.all(resq, 0, 9))
    assert "longer than its timeout of 0.2 s" in record["error"]
    redis.rpush(GATE.format("g"), 1)
    until(lambda: redis.llen(ECHOED) == 1)
    end(daemon, redis)


def test_a_job_that_blocks_all_greenlets_is_killed_by_the_manager(
    start: Start, resq: ResQ, redis: Redis
) -> None:
    daemon = start(2)

    resq.enqueue(DeafJob)

    (record,) = until(lambda: failure.all(resq, 0, 9))
    assert "longer than its timeout" in record["error"]
    resq.enqueue(EchoJob, "next")
    until(lambda: redis.llen(ECHOED) == 1)
    end(daemon, redis)


def test_idle_greenlets_end_with_a_killed_manager(start: Start, redis: Redis) -> None:
    daemon = start(5)

    daemon.send(signal.SIGKILL)

    until(lambda: not redis.exists("resque:minions"))


def test_greenlets_requires_a_number(run_daemon: Daemons) -> None:
    daemon = run_daemon("pyres_manager", "basic", "--greenlets", "0")

    assert daemon.wait() == 2
    assert "invalid value '0': expected a whole number from 1" in daemon.output()


@pytest.mark.parametrize("option", [["--reinit-gevent"], ["--greenlets", "5"]])
def test_without_gevent_one_line_names_the_extra_to_install(
    option: list[str], run_daemon: Daemons, tmp_path: object
) -> None:
    # An empty package earlier on the path hides the installed gevent.
    hidden = f"{tmp_path}/no_gevent"
    os.mkdir(hidden)
    with open(f"{hidden}/sitecustomize.py", "w", encoding="utf-8") as file:
        file.write(
            "import importlib.util as u\nfound = u.find_spec\n"
            "u.find_spec = lambda name, *more: None if name == 'gevent' else found(name, *more)\n"
        )
    daemon = run_daemon("pyres_manager", "basic", *option, env={"PYTHONPATH": hidden})

    assert daemon.wait() == 2
    (line,) = daemon.output().strip().splitlines()
    assert "pip install 'pyres[gevent]'" in line


def test_a_khan_refuses_greenlets_on_sockets_that_block() -> None:
    with pytest.raises(BadOptionError, match="patch_all"):
        Khan(1, ["basic"], greenlets=5)


def test_a_minion_of_many_slots_is_replaced_after_its_jobs_and_loses_none(
    start: Start, resq: ResQ, redis: Redis
) -> None:
    daemon = start(3, "--max-jobs", "10", "--watch-pop")

    resq.enqueue_many([(EchoJob, number) for number in range(60)])

    until(lambda: redis.llen(ECHOED) == 60, timeout=60)
    assert len(set(redis.lrange(ECHOED, 0, -1))) == 60
    until(lambda: redis.scard("resque:minions") == 3)
    end(daemon, redis)
    assert redis.get("resque:stat:processed") == b"60"


def test_signals_change_and_renew_a_pool_of_many_slots(
    start: Start, resq: ResQ, redis: Redis
) -> None:
    daemon = start(3)
    first = redis.smembers("resque:minions")

    daemon.send(signal.SIGUSR2)
    until(lambda: redis.scard("resque:minions") == 6)
    daemon.send(signal.SIGTTOU)
    until(lambda: redis.scard("resque:minions") == 3)
    daemon.send(signal.SIGHUP)
    until(
        lambda: redis.scard("resque:minions") == 3 and not redis.smembers("resque:minions") & first
    )
    resq.enqueue(EchoJob, "new")
    until(lambda: redis.llen(ECHOED) == 1)
    end(daemon, redis)


def test_a_job_may_use_greenlets_of_its_own(start: Start, resq: ResQ, redis: Redis) -> None:
    daemon = start(2)

    resq.enqueue_to("basic", "tests.daemons.green.GreenJob", 20)

    assert until(lambda: redis.lrange(ECHOED, 0, -1)) == [b"[20]"]
    end(daemon, redis)


def test_coroutines_run_concurrently_in_one_minion(start: Start, resq: ResQ, redis: Redis) -> None:
    daemon = start(6)

    resq.enqueue_many([(CoroutineJob, number) for number in range(6)])
    until(lambda: redis.get("resque:stat:processed") == b"6", what="six jobs counted")

    assert failure.all(resq, 0, 10) == []
    assert sorted(redis.lrange(ECHOED, 0, -1)) == [b"[%d]" % number for number in range(6)]
    assert "Warning" not in daemon.output()
    end(daemon, redis)
