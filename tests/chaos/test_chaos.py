"""Whatever is killed, stopped or cut off, and when: every job is done or recorded as failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import plan
from tests.chaos.__main__ import report
from tests.chaos.monkey import LOSSLESS, Monkey


@pytest.mark.chaos
def test_no_job_is_lost_and_only_jobs_cut_off_before_their_record_repeat(
    tmp_path: Path,
) -> None:
    monkey = Monkey(tmp_path, LOSSLESS, pace=10, flow=200)

    ledger = monkey.run(seed=3, seconds=6)

    details = f"{report(monkey, ledger)}\n" + "\n".join(monkey.log)
    assert ledger.lost == [], details
    assert ledger.unexplained == [], details
    assert (ledger.waiting, ledger.left) == (set(), []), details
    assert ledger.miscounted.keys() <= {"processed"}, details
    assert len(ledger.ended) + len(ledger.failed) - len(ledger.twice) == ledger.jobs
    # The run did have faults.
    assert ledger.jobs > 500
    assert monkey.done.keys() >= {"kill a minion", "kill the server", "cut a reply"}


def test_a_seed_decides_the_same_each_time() -> None:
    again = [list(plan.faults(7, 30, plan.FAULTS, 3)) for _ in range(2)]
    jobs = [list(plan.bursts(7, 30, ["a", "b"], 100)) for _ in range(2)]

    assert again[0] == again[1] != list(plan.faults(8, 30, plan.FAULTS, 3))
    assert jobs[0] == jobs[1] != list(plan.bursts(8, 30, ["a", "b"], 100))
    assert {fault.kind for fault in again[0]} > {"kill a minion", "cut a reply"}
