"""Retries promoted by another language's scheduler, which keeps only class and arguments."""

from __future__ import annotations

import pytest

from pyres import failure
from tests.jobs import BEGUN
from tests.neighbours.jobs import BackedOff, Limited
from tests.neighbours.statements import holds
from tests.servers import Monitor, until

pytestmark = pytest.mark.peer

#: Equal jobs of each class, and how often each of them is performed. node writes 1.0 as 1.
JOBS, ATTEMPTS, ARGS = 2, 3, [1.0, "é", {"b": [None], "a": 2}]


@pytest.fixture(params=["ruby", "node"])
def scheduler(request):
    """A scheduler of node or Ruby."""
    if request.param == "node":
        return request.getfixturevalue("start_node")("schedule")
    return request.getfixturevalue("start_ruby")("schedule", RESQUE_SCHEDULER_INTERVAL="0.2")


@holds("The limits of retries")
@pytest.mark.parametrize("kind", [Limited, BackedOff])
def test_retries_end_whichever_scheduler_promotes_them(
    kind, scheduler, start_worker, resq, redis, server
):
    with Monitor(server) as monitor:
        for _ in range(JOBS):
            resq.enqueue(kind, *ARGS)
        for _ in range(JOBS):
            start_worker()

        until(lambda: failure.count(resq) == JOBS, what="all attempts made")

        promotions = [step for step in monitor.commands if step.name == "RPUSH"]

    until(lambda: not redis.keys("resque:pyres:attempts:*"), what="no count of attempts")
    assert redis.llen(BEGUN) == JOBS * ATTEMPTS
    pushed = [step for step in promotions if step.args[0] == "resque:queue:peer"]
    assert len(pushed) == JOBS * (ATTEMPTS - 1), "promoted by the other scheduler"
    assert resq.size("peer") == resq.delayed_queue_schedule_size() == 0
