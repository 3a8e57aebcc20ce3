"""Samples of depth and counters for the charts, in memory: a page that is looked at must not
write to the servers it looks at, and a restart may begin a new chart."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

from resweb.servers import Servers

#: Seconds between samples, and how many are kept: a day.
EVERY, KEPT = 10, 8640


class Sampler:
    """Asks all servers every ten seconds, in a thread of its own."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._samples: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._end = threading.Event()
        threading.Thread(target=self._run, name="resweb-sampler", daemon=True).start()

    def _run(self) -> None:
        while not self._end.is_set():
            self.sample()
            self._end.wait(EVERY)

    def sample(self) -> None:
        """Take one sample; a server that is down leaves its line with a gap."""
        servers = {
            answer.server.name: {
                "pending": answer.value.pending,
                "processed": answer.value.processed,
                "failed": answer.value.failed,
            }
            for answer in self._servers.ask(lambda inspector: inspector.stats())
            if not answer.error
        }
        self._samples.append({"at": int(time.time()), "servers": servers})

    def since(self, seconds: int, name: str = "") -> list[dict[str, int]]:
        """The sums over the chosen servers of the last so many seconds."""
        start = time.time() - seconds
        found = [sample for sample in list(self._samples) if sample["at"] >= start]
        names = {server.name for server in self._servers.chosen(name)}
        return [_sum(sample, names) for sample in found[:: max(1, len(found) // 300)]]

    def close(self) -> None:
        """Take no more samples."""
        self._end.set()


def _sum(sample: dict[str, Any], names: set[str]) -> dict[str, int]:
    chosen = [values for name, values in sample["servers"].items() if name in names]
    fields = ("pending", "processed", "failed")
    return {"at": sample["at"], **{f: sum(v[f] for v in chosen) for f in fields}}
