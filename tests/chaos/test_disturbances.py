"""Whatever happens to server, network, host and jobs: each is done or recorded as failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.__main__ import report
from tests.chaos.disturbances import DISTURBANCES, JOBS
from tests.chaos.monkey import LOSSLESS, Monkey

#: The disturbances that only the long run has, with the reason.
NOT_HERE = {
    "cut a host": "it requires root, and is slow",
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

    details = f"{report(monkey, ledger)}\n" + "\n".join(monkey.log)
    assert ledger.lost == [], details
    assert ledger.unexplained == [], details
    assert (ledger.waiting, ledger.left) == (set(), []), details
    # The run did have disturbances.
    assert monkey.done.keys() & set(names) or monkey.odd_jobs, details
