"""Samples of depth and counters for the charts, in memory: a page that is looked at must not
write to the servers it looks at, and a restart may begin a new chart."""

from __future__ import annotations

import threading
import time
from array import array
from collections import Counter, deque
from typing import Any, NamedTuple

from resweb.servers import Servers

#: Seconds between samples, and how many are kept: a day.
EVERY, KEPT = 10, 8640

#: Queues whose depth is kept; a day of one takes 35 kB.
QUEUES = 500

#: Points of a chart, and queues that it shows.
POINTS, SHOWN = 300, 5

#: The most that a sample can hold.
MOST = 2**32 - 1


class Sample(NamedTuple):
    """One look at all servers; `depths` are of the queues by their number."""

    at: int
    servers: dict[str, dict[str, int]]
    depths: array[int]


class Sampler:
    """Asks all servers every ten seconds, in a thread of its own."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._samples: deque[Sample] = deque(maxlen=KEPT)
        #: The number of each (server, queue) in the samples.
        self._numbers: dict[tuple[str, str], int] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="resweb-sampler", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.is_set():
            self.sample()
            self._end.wait(EVERY)

    def sample(self) -> None:
        """Take one sample; a server that is down leaves its line with a gap."""
        asked = self._servers.ask(lambda inspector: (inspector.stats(), inspector.queues()))
        answers = [answer for answer in asked if not answer.error]
        servers = {
            answer.server.name: {
                "pending": answer.value[0].pending,
                "processed": answer.value[0].processed,
                "failed": answer.value[0].failed,
            }
            for answer in answers
        }
        sizes = {(a.server.name, q.handle): q.size for a in answers for q in a.value[1]}
        for queue in sizes:
            if len(self._numbers) < QUEUES:
                self._numbers.setdefault(queue, len(self._numbers))
        depths = array("I", (min(MOST, sizes.get(queue, 0)) for queue in self._numbers))
        self._samples.append(Sample(int(time.time()), servers, depths))

    def since(self, seconds: int, name: str = "", queue: str = "") -> list[dict[str, Any]]:
        """The sums over the chosen servers of the last so many seconds; `queues` are the depths of
        the queue with this handle, or of the few that were the deepest.
        """
        start = time.time() - seconds
        found = [sample for sample in list(self._samples) if sample.at >= start]
        found = found[:: max(1, len(found) // POINTS)]
        names = {server.name for server in self._servers.chosen(name)}
        depths = [self._depths(sample, names) for sample in found]
        most: Counter[str] = Counter()
        for one in depths:
            most |= one
        shown = [queue] if queue else sorted(handle for handle, _ in most.most_common(SHOWN))
        return [
            {**_sum(sample, names), "queues": {handle: one[handle] for handle in shown}}
            for sample, one in zip(found, depths, strict=True)
        ]

    def _depths(self, sample: Sample, names: set[str]) -> Counter[str]:
        found: Counter[str] = Counter()
        for (server, queue), number in list(self._numbers.items()):
            if server in names and number < len(sample.depths):
                found[queue] += sample.depths[number]
        return found

    def close(self) -> None:
        """Take no more samples; returns when the last is taken."""
        self._end.set()
        self._thread.join()


def _sum(sample: Sample, names: set[str]) -> dict[str, int]:
    chosen = [values for name, values in sample.servers.items() if name in names]
    fields = ("pending", "processed", "failed")
    return {"at": sample.at, **{f: sum(v[f] for v in chosen) for f in fields}}
