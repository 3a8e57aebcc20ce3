"""Which fault is done to which target and when, drawn from a seed, so that it can be repeated."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

#: Each kind of fault with its weight. They are implemented in `monkey.py`.
FAULTS = {
    "kill a minion": 8,
    "kill a khan": 3,
    "kill a worker": 3,
    "kill a job's process": 6,
    "kill a worker and its children": 2,
    "kill a khan and its minions": 2,
    "stop a process for a while": 6,
    "kill the server": 2,
    "stop the server for a while": 1,
    "cut all connections": 2,
    "cut a reply": 14,
    "cut a request": 8,
    "delay a request": 6,
    "tell a daemon to end": 2,
    "roll a pool": 1,
}

#: The percentage of jobs that fail by themselves.
DOOMED_PERCENT = 3


class Fault(NamedTuple):
    """At `at` seconds do `kind`; `choice` from 0 to 1 selects the target, `amount` the extent."""

    at: float
    kind: str
    choice: float
    amount: float


class Burst(NamedTuple):
    """At `at` seconds enqueue these jobs: (seconds it takes, whether it fails, its queue)."""

    at: float
    jobs: list[tuple[float, bool, str]]


def faults(seed: int, seconds: float, kinds: dict[str, int], pace: float) -> Iterator[Fault]:
    """The faults of a run in their order, about `pace` a second."""
    dice = random.Random(f"faults {seed}")
    at = 0.0
    while (at := at + dice.expovariate(pace)) < seconds:
        kind = dice.choices(list(kinds), list(kinds.values()))[0]
        yield Fault(at, kind, dice.random(), dice.random())


def bursts(seed: int, seconds: float, queues: list[str], pace: float) -> Iterator[Burst]:
    """The jobs to enqueue, about `pace` a second: often a few, sometimes many."""
    dice = random.Random(f"bursts {seed}")
    at, mean = 0.0, 40.0
    yield Burst(0.0, [_job(dice, queues) for _ in range(int(pace))])
    while (at := at + dice.expovariate(pace / mean)) < seconds:
        size = dice.choice((1, 2, 5, 20, 50, 162))
        yield Burst(at, [_job(dice, queues) for _ in range(size)])


def _job(dice: Any, queues: list[str]) -> tuple[float, bool, str]:
    seconds = dice.choice((0.0, 0.0, 0.001, 0.005, 0.02, 0.1))
    return seconds, dice.random() * 100 < DOOMED_PERCENT, dice.choice(queues)
