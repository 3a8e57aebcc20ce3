"""The cost of a push while many idle workers of many hosts wait for it: microseconds of the
server's CPU time. All workers are in one process, each with its own connections.
"""

from __future__ import annotations

import heapq
import itertools
import resource
import select
import time
from collections.abc import Callable

from pyres import ResQ
from pyres.queue_list import QueueList
from pyres.wakeups import QueueWatcher

QUEUE, RUN_AT = "crowd", "2026-11-23T16:01:09Z"
PAYLOAD = {"class": "benchmarks.jobs.Noop", "args": []}

#: Idle workers, and pushes a second.
WORKERS, RATE = 1000, 100


class Waiting:
    """An idle worker; `later` calls a function after N seconds."""

    def __init__(
        self, resq: ResQ, number: int, later: Callable[[float, Callable[[], None]], None]
    ) -> None:
        self.resq = resq
        self.id = f"host{number}:1:{QUEUE}"
        self.later = later
        resq.store.workers.register(self.id, "1763913669", minion=False)
        self.fetcher = resq.store.fetcher(self.id)
        self.fetcher.set_queues([QUEUE])
        self.fetch(False)

    def fetch(self, finished: bool) -> None:
        """Fetch and finish all jobs."""
        while self.fetcher.fetch(finished, RUN_AT):
            finished = True


class Blocking(Waiting):
    """It waits in BLPOP."""

    def begin(self) -> None:
        self.fetcher.start_pop(3600)

    def fileno(self) -> int:
        return self.fetcher.fileno()

    def ready(self) -> None:
        if self.fetcher.answered():
            self.fetch(self.fetcher.end_pop(RUN_AT) is not None)
            self.begin()


class Watching(Waiting):
    """It waits as workers do by default."""

    def begin(self) -> None:
        self.queue_watcher = QueueWatcher(self.resq.store, QueueList(QUEUE), self.id)
        self.watch()

    def fileno(self) -> int:
        return self.queue_watcher.fileno()

    def watch(self) -> None:
        while not self.queue_watcher.all_empty():
            self.fetch(False)
        self.watches = True

    def ready(self) -> None:
        if not (self.queue_watcher.has_changed() and self.watches):
            return
        self.watches = False
        delay = self.queue_watcher.delay()
        if not delay:
            self.fetch(False)
            delay = self.queue_watcher.pause()
        self.later(delay, self.watch)


def server_time(dsn: str, count: int, kind: type[Blocking | Watching]) -> float:
    """Microseconds of server time for each of `count` pushes and the fetch of its job."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    resq, order = ResQ(dsn), itertools.count()
    later: list[tuple[float, int, Callable[[], None]]] = []

    def call_later(seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(later, (time.monotonic() + seconds, next(order), call))

    workers = [kind(resq, number, call_later) for number in range(WORKERS)]
    ready = select.epoll()
    for worker in workers:
        worker.begin()
        ready.register(worker.fileno(), select.EPOLLIN)
    by_fileno = {worker.fileno(): worker for worker in workers}
    before, began, pushed = _used(resq), time.monotonic(), 0
    while pushed < count or resq.stat("processed").get() < count:
        now = time.monotonic()
        if pushed < min(count, (now - began) * RATE):
            resq.push(QUEUE, PAYLOAD)
            pushed += 1
        while later and later[0][0] <= now:
            heapq.heappop(later)[2]()
        for fileno, _ in ready.poll(0.0005, 64):
            by_fileno[fileno].ready()
    return (_used(resq) - before) / count * 1e6


def _used(resq: ResQ) -> float:
    cpu = resq.redis.info("cpu")
    return float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])
