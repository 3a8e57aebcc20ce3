"""The outcome of each job, read from raw keys after the last daemon has stopped."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from redis import Redis

from tests.chaos.jobs import BEGUN, ENDED
from tests.servers import text, texts

#: The exceptions of a failure record when the job's process, or the one recording it, was cut off.
CUT = ("DirtyExitError", "PruneDeadWorkerDirtyExitError", "CrashError")

#: Keys that must not exist in Redis after all work is done.
REGISTRATIONS = (
    "resque:workers",
    "resque:minions",
    "resque:khans",
    "resque:workers:heartbeat",
    "resque:worker:*",
    "resque:stat:processed:*",
    "resque:stat:failed:*",
)


@dataclass
class Ledger:
    """The jobs by number, and the records of each."""

    jobs: int
    begun: dict[int, list[str]]
    ended: dict[int, list[str]]
    failed: dict[int, list[dict[str, Any]]]
    waiting: set[int]
    processed: int
    failures: int
    left: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, redis: Redis, jobs: int, queues: list[str]) -> Ledger:
        failed = defaultdict(list)
        for raw in redis.lrange("resque:failed", 0, -1):
            record = json.loads(raw)
            failed[record["payload"]["args"][0]].append(record)
        queued = [raw for queue in queues for raw in redis.lrange(f"resque:queue:{queue}", 0, -1)]
        return cls(
            jobs,
            _traces(redis, BEGUN),
            _traces(redis, ENDED),
            dict(failed),
            {json.loads(raw)["args"][0] for raw in queued},
            int(redis.get("resque:stat:processed") or 0),
            int(redis.get("resque:stat:failed") or 0),
            sorted(text(key) for like in REGISTRATIONS for key in redis.keys(like)),
        )

    @property
    def lost(self) -> list[int]:
        """The jobs that are neither done nor failed nor waiting."""
        known = self.ended.keys() | self.failed.keys() | self.waiting
        return sorted(set(range(self.jobs)) - known)

    @property
    def twice(self) -> list[int]:
        """The jobs that are both done and failed, or one of them more than once."""
        times = Counter({number: len(traces) for number, traces in self.ended.items()})
        times.update({number: len(records) for number, records in self.failed.items()})
        return sorted(number for number, count in times.items() if count > 1)

    @property
    def unexplained(self) -> list[int]:
        """Of those, all but jobs done, cut off before their record, and then recorded as failed."""
        return [number for number in self.twice if not self._was_cut(number)]

    def _was_cut(self, number: int) -> bool:
        records = self.failed.get(number, [])
        cut = [record["exception"] in CUT for record in records]
        return len(self.ended.get(number, [])) == 1 and cut == [True]

    @property
    def miscounted(self) -> dict[str, int]:
        """By how much each counter differs from the records; empty when they agree."""
        records = sum(len(records) for records in self.failed.values())
        expected = len(self.ended.keys() | self.failed.keys())
        off = {"processed": self.processed - expected, "failed": self.failures - records}
        return {name: amount for name, amount in off.items() if amount}

    def known_of(self, number: int) -> str:
        """The records of one job."""
        records = [
            f"{record['failed_at']} {record['exception']} {record['error']!r} by {record['worker']}"
            for record in self.failed.get(number, [])
        ]
        return (
            f"job {number}: begun {self.begun.get(number, [])}, ended {self.ended.get(number, [])},"
            f" failed {records}, waiting {number in self.waiting}"
        )


def _traces(redis: Redis, where: str) -> dict[int, list[str]]:
    traces = defaultdict(list)
    for trace in sorted(texts(redis.smembers(where))):
        traces[int(trace.split()[0])].append(trace)
    return dict(traces)
