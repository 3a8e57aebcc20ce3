"""A disconnected server at a job's end changes neither the outcome nor the attempts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyres import ResQ
from tests.daemons.odd_jobs import open_file_gate
from tests.daemons.outage_jobs import Dies, Retried, RetriedOnce, UniqueUntilDone
from tests.daemons.watching import counted, records
from tests.jobs import BEGUN
from tests.servers import Daemons, Server, until

#: Each job's class, what it raises, its attempts, and the recorded failures.
ENDS: list[tuple[Any, str, int, list[str]]] = [
    (Retried, "at a bad time", 3, ["ValueError"]),
    (RetriedOnce, "at a bad time", 2, ["ValueError"]),
    (Dies, "", 2, ["CrashError"]),
    (UniqueUntilDone, "", 1, []),
]


@pytest.mark.parametrize("script", ["pyres_worker", "pyres_manager"])
@pytest.mark.parametrize(("job", "text", "attempts", "failures"), ENDS)
def test_a_disconnected_server_at_the_end_of_a_job_changes_nothing(
    run_daemon: Daemons,
    tmp_path: Path,
    script: str,
    job: Any,
    text: str,
    attempts: int,
    failures: list[str],
) -> None:
    with Server(appendonly=True) as server:
        redis, resq = server.client(), ResQ(server.url)
        pool = ("--pool", "1") if script == "pyres_manager" else ()
        gate = tmp_path / "gate"
        resq.enqueue(job, str(gate))
        daemon = run_daemon(script, *pool, "--queues", "basic", "--dsn", server.dsn)
        until(lambda: redis.llen(BEGUN) == 1)

        server.kill()
        open_file_gate(gate, text)
        daemon.until_output("Redis is unreachable")
        server.restart()

        redis = server.client()
        # A manager does not count an attempt that is retried.
        until(lambda: counted(redis)[0] >= 1 and counted(redis)[1] == len(failures))
        assert redis.llen(BEGUN) == attempts
        assert [record["exception"] for record in records(resq)] == failures
        assert redis.keys("resque:pyres:unique:*") == []
        resq.close()
