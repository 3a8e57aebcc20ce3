"""Samples of queue sizes and counters for the charts, kept in memory: showing a page must not
write to the servers, and a restart may begin a new chart."""

from __future__ import annotations

import threading
import time
from array import array
from collections import Counter, deque
from typing import Any, NamedTuple

from resweb.servers import Servers

#: Seconds between samples, and how many are kept: those of one day.
SAMPLE_INTERVAL, MAX_SAMPLES = 10, 8640

#: Queues whose sizes are kept; one day of a queue takes 35 kB.
MAX_QUEUES = 500

#: Points per chart, and queues in it.
MAX_POINTS, MAX_SHOWN_QUEUES = 300, 5

#: The largest queue size that a sample can hold.
MAX_DEPTH = 2**32 - 1


class Sample(NamedTuple):
    """One sample of all servers; `depths` are the queue sizes, by the queue's number."""

    at: int
    servers: dict[str, dict[str, int]]
    depths: array[int]


class Sampler:
    """Queries all servers every ten seconds, in its own thread."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._samples: deque[Sample] = deque(maxlen=MAX_SAMPLES)
        #: The number of each (server, queue) in the samples.
        self._numbers: dict[tuple[str, str], int] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="resweb-sampler", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.is_set():
            self.sample()
            self._end.wait(SAMPLE_INTERVAL)

    def sample(self) -> None:
        """Take one sample; a server that is down leaves a gap."""
        answers = self._servers.ask(lambda inspector: (inspector.stats(), inspector.queues()))
        answers = [answer for answer in answers if not answer.error]
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
            if len(self._numbers) < MAX_QUEUES:
                self._numbers.setdefault(queue, len(self._numbers))
        depths = array("I", (min(MAX_DEPTH, sizes.get(queue, 0)) for queue in self._numbers))
        self._samples.append(Sample(int(time.time()), servers, depths))

    def since(self, seconds: int, name: str = "", queue: str = "") -> list[dict[str, Any]]:
        """The samples of the last `seconds`, summed over the chosen servers; `queues` are the sizes
        of the queue with this handle, or of the largest few.
        """
        start = time.time() - seconds
        samples = [sample for sample in list(self._samples) if sample.at >= start]
        samples = samples[:: max(1, len(samples) // MAX_POINTS)]
        names = {server.name for server in self._servers.chosen(name)}
        depths = [self._depths(sample, names) for sample in samples]
        largest: Counter[str] = Counter()
        for sizes in depths:
            largest |= sizes
        common = largest.most_common(MAX_SHOWN_QUEUES)
        handles = [queue] if queue else sorted(handle for handle, _ in common)
        return [
            {**_sum(sample, names), "queues": {handle: sizes[handle] for handle in handles}}
            for sample, sizes in zip(samples, depths, strict=True)
        ]

    def _depths(self, sample: Sample, names: set[str]) -> Counter[str]:
        sizes: Counter[str] = Counter()
        for (server, queue), number in list(self._numbers.items()):
            if server in names and number < len(sample.depths):
                sizes[queue] += sample.depths[number]
        return sizes

    def close(self) -> None:
        """Stop sampling; returns when a sample in progress is finished."""
        self._end.set()
        self._thread.join()


def _sum(sample: Sample, names: set[str]) -> dict[str, int]:
    chosen = [values for name, values in sample.servers.items() if name in names]
    fields = ("pending", "processed", "failed")
    return {"at": sample.at, **{f: sum(v[f] for v in chosen) for f in fields}}
