"""Runs one contestant in its own process: `python -m benchmarks.contestants NAME DSN COUNT` prints
its rate per second, or its other measurement.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import redis

from benchmarks import crowd
from benchmarks.jobs import Noop, Timed, noop
from pyres import ResQ
from pyres.horde import Minion
from pyres.store import scripts
from pyres.worker import Worker

PAYLOAD = b'{"class":"benchmarks.jobs.Noop","args":[1,"two"]}'


def _rate(count: int, act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return count / (time.perf_counter() - began)


def bare_fork(dsn: str, count: int) -> float:
    """fork, exit, wait, in a process with the same imports as a worker."""

    def forks() -> None:
        for _ in range(count):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)

    return _rate(count, forks)


def pyres_fork(dsn: str, count: int) -> float:
    """A forking Worker on a queue that was filled before."""
    resq = ResQ(dsn)
    resq.enqueue_many([(Noop, 1, "two")] * count)
    return _rate(count, lambda: Worker([Noop.queue], resq).work(0))


def rq_fork(dsn: str, count: int) -> float:
    """RQ's forking Worker, in the same way."""
    from rq import Queue
    from rq import Worker as RQWorker

    connection = redis.Redis.from_url(f"redis://{dsn}")
    queue = Queue("bench", connection=connection)
    for _ in range(count):
        queue.enqueue(noop, 1, "two")
    worker = RQWorker([queue], connection=connection)
    return _rate(count, lambda: worker.work(burst=True, logging_level="ERROR"))


def bare_evalsha(dsn: str, count: int) -> float:
    """redis-py's EVALSHA of LPOP, SET and INCR in a loop."""
    client = redis.Redis.from_url(f"redis://{dsn}")
    client.rpush("bare", *[PAYLOAD] * count)
    script = client.register_script(
        "local p = redis.call('LPOP', KEYS[1]) if p then redis.call('SET', KEYS[2], p) "
        "redis.call('INCR', KEYS[3]) end return p"
    )

    def fetch_all() -> None:
        while script(keys=["bare", "in-flight", "count"]):
            pass

    fetch_all()
    client.rpush("bare", *[PAYLOAD] * count)
    return _rate(count, fetch_all)


def pyres_minion(dsn: str, count: int) -> float:
    """A minion on a queue that was filled before."""
    resq = ResQ(dsn)
    resq.enqueue_many([(Noop, 1, "two")] * count)
    minion = Minion([Noop.queue], resq, max_jobs=count)
    return _rate(count, minion.work)


def huey_process(dsn: str, count: int) -> float:
    """One process worker of Huey, from its first task to its last."""
    from huey import RedisHuey

    host, port = dsn.split("/")[0].split(":")
    huey = RedisHuey("bench", host=host, port=int(port), results=False)
    marks = redis.Redis.from_url(f"redis://{dsn}")
    seen = 0

    @huey.task()
    def task(*args: object) -> None:
        nonlocal seen
        seen += 1
        if seen in (1, count):
            marks.rpush("marks", time.time())

    for _ in range(count):
        task(1, "two")
    pid = os.fork()
    if pid == 0:
        logging.disable(logging.CRITICAL)
        huey.create_consumer(workers=1, worker_type="process", initial_delay=0.01).run()
        os._exit(0)
    while marks.llen("marks") < 2:
        time.sleep(0.02)
    os.kill(pid, 15)
    os.waitpid(pid, 0)
    first, last = [float(mark) for mark in marks.lrange("marks", 0, 1)]
    return (count - 1) / (last - first)


@contextlib.contextmanager
def _manager(dsn: str, minions: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "scripts/pyres_manager", "--dsn", dsn, "--pool", str(minions)]
    khan = subprocess.Popen([*command, "-l", "error", "--queues", Noop.queue, *options])
    try:
        yield khan
    finally:
        khan.terminate()
        khan.wait()


def pyres_pool(dsn: str, count: int, minions: int) -> float:
    """A manager's pool, measured from one tenth of the jobs done to nine tenths."""
    resq = ResQ(dsn)
    resq.enqueue_many([(Noop, 1, "two")] * count)
    marks = []
    with _manager(dsn, minions, "--nonblocking-pop"):
        for part in (count // 10, count * 9 // 10):
            while (done := resq.stat("processed").get()) < part:
                time.sleep(0.005)
            marks.append((time.perf_counter(), done))
    (began, first), (ended, last) = marks
    return (last - first) / (ended - began)


def idle_to_start(dsn: str, count: int, share: float, *options: str) -> float:
    """Milliseconds from enqueue() to a job's first line in an idle pool: the quantile `share`."""
    resq = ResQ(dsn)
    waits = []
    with _manager(dsn, 4, *options):
        for number in range(-20, count):
            _until_idle(resq)
            resq.enqueue(Timed, time.time())
            while (waited := resq.redis.lpop(Timed.key)) is None:
                time.sleep(0.0005)
            # The first jobs import the class, and do not count.
            waits += [1000 * float(waited)] if number >= 0 else []
    return sorted(waits)[int(len(waits) * share)]


def _until_idle(resq: ResQ) -> None:
    while len(resq.store.workers.minion_ids()) < 4 or resq.working():
        time.sleep(0.002)
    time.sleep(random.uniform(0.002, 0.01))


def unique_megabytes(dsn: str, count: int, *options: str) -> float:
    """The unique set size of a minion (its unshared memory), as the average of a pool."""
    resq = ResQ(dsn)
    with _manager(dsn, count, "--require", "benchmarks.heavy", *options) as khan:
        while len(resq.store.workers.minion_ids()) < count:
            time.sleep(0.01)
        resq.enqueue_many([(Noop, 1, "two")] * 1000)
        while resq.stat("processed").get() < 1000:
            time.sleep(0.01)
        with open(f"/proc/{khan.pid}/task/{khan.pid}/children", encoding="ascii") as file:
            sizes = [_unique_kilobytes(pid) for pid in file.read().split()]
    return sum(sizes) / len(sizes) / 1024


def _unique_kilobytes(pid: str) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_"))


def pyres_enqueue(dsn: str, count: int) -> float:
    """enqueue, one at a time."""
    resq = ResQ(dsn)
    return _rate(count, lambda: [resq.enqueue(Noop, 1, "two") for _ in range(count)])


def pyres_bulk(dsn: str, count: int) -> float:
    """enqueue_many."""
    resq = ResQ(dsn)
    return _rate(count, lambda: resq.enqueue_many((Noop, 1, "two") for _ in range(count)))


def bare_rpush(dsn: str, count: int) -> float:
    """redis-py's RPUSH of a ready-made payload, one at a time."""
    client = redis.Redis.from_url(f"redis://{dsn}")
    return _rate(count, lambda: [client.rpush("bare", PAYLOAD) for _ in range(count)])


def bare_pipelined(dsn: str, count: int) -> float:
    """The same in pipelines of a thousand."""
    client = redis.Redis.from_url(f"redis://{dsn}")

    def pushes() -> None:
        for _ in range(count // 1000):
            pipe = client.pipeline(transaction=False)
            for _ in range(1000):
                pipe.rpush("bare", PAYLOAD)
            pipe.execute()

    return _rate(count, pushes)


def round_trips(dsn: str, count: int) -> float:
    """Commands that the server received for each job of a minion, by its own count."""
    resq = ResQ(dsn)
    resq.enqueue_many([(Noop, 1, "two")] * count)
    resq.redis.script_load(scripts.source("fetch"))
    minion = Minion([Noop.queue], resq, max_jobs=count)
    resq.redis.config_resetstat()
    minion.work()
    stats = resq.redis.info("commandstats")
    inside = {"lindex", "set", "lpop", "incrby", "get", "del", "exists", "sismember"}
    sent = sum(s["calls"] for name, s in stats.items() if name.split("_")[1] not in inside)
    return sent / count


CONTESTANTS: dict[str, Callable[[str, int], float]] = {
    "bare_fork": bare_fork,
    "pyres_fork": pyres_fork,
    "rq_fork": rq_fork,
    "bare_evalsha": bare_evalsha,
    "pyres_minion": pyres_minion,
    "huey_process": huey_process,
    "pyres_pool_1": lambda dsn, count: pyres_pool(dsn, count, 1),
    "pyres_pool_2": lambda dsn, count: pyres_pool(dsn, count, 2),
    "start_blpop": lambda dsn, count: idle_to_start(dsn, count, 0.99, "--blocking-pop"),
    "start_watch": lambda dsn, count: idle_to_start(dsn, count, 0.99),
    "start_blpop_median": lambda dsn, count: idle_to_start(dsn, count, 0.5, "--blocking-pop"),
    "start_watch_median": lambda dsn, count: idle_to_start(dsn, count, 0.5),
    "crowd_blpop": lambda dsn, count: crowd.server_time(dsn, count, crowd.Blocking),
    "crowd_watch": lambda dsn, count: crowd.server_time(dsn, count, crowd.Watching),
    "unique_each": unique_megabytes,
    "unique_preloaded": lambda dsn, count: unique_megabytes(dsn, count, "--preload"),
    "pyres_enqueue": pyres_enqueue,
    "pyres_bulk": pyres_bulk,
    "bare_rpush": bare_rpush,
    "bare_pipelined": bare_pipelined,
    "round_trips": round_trips,
}


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    print(CONTESTANTS[sys.argv[1]](sys.argv[2], int(sys.argv[3])))
