"""Whatever happens to server, network, host and jobs: every job is done or on record."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.__main__ import report
from tests.chaos.disturbances import DISTURBANCES, JOBS
from tests.chaos.monkey import LOSSLESS, Monkey

#: What is left to the long run, with the reason.
NOT_HERE = {
    "cut a host": "it wants root, and takes long",
}

EVERY = [name for name in (*DISTURBANCES, *JOBS) if name not in NOT_HERE]


@pytest.mark.chaos
@pytest.mark.parametrize("names", [EVERY[:3], EVERY[3:6], EVERY[6:]], ids="+".join)
def test_no_job_is_lost_or_done_twice_whatever_happens_to_the_host(
    tmp_path: Path, names: list[str]
) -> None:
    kinds = {"kill a minion": 2, "cut all connections": 1}
    monkey = Monkey(tmp_path, LOSSLESS, kinds, pace=4, flow=100, disturbances=names)

    ledger = monkey.run(seed=5, seconds=5)

    told = f"{report(monkey, ledger)}\n" + "\n".join(monkey.log)
    assert ledger.lost == [], told
    assert ledger.unexplained == [], told
    assert (ledger.waiting, ledger.left) == (set(), []), told
    # It was not for want of disturbances.
    assert monkey.done.keys() & set(names) or monkey.odd_jobs, told
