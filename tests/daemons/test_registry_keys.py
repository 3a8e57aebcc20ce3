"""Keys of the wrong type in place of the registry's stop no daemon."""

from __future__ import annotations

import signal

import pytest
from redis import Redis

from pyres import ResQ
from tests.jobs import ECHOED, EchoJob
from tests.servers import Daemons, until

WORKER = ["pyres_worker", "--queues", "basic"]
MANAGER = ["pyres_manager", "--queues", "basic", "--pool", "1"]


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (WORKER, "workers"),
        (WORKER, "workers:heartbeat"),
        (WORKER, "pyres:process_starts"),
        (WORKER, "pruning_dead_workers_in_progress"),
        (MANAGER, "workers"),
        (MANAGER, "minions"),
        (MANAGER, "khans"),
        (MANAGER, "pyres:khan_heartbeats"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_daemon_starts_works_and_stops_despite_a_key_of_another_type(
    run_daemon: Daemons, resq: ResQ, redis: Redis, command: list[str], key: str
) -> None:
    redis.rpush(f"resque:{key}", "not the registry's")
    resq.enqueue_many([(EchoJob, 1), (EchoJob, 2)])

    daemon = run_daemon(*command)
    until(lambda: redis.get("resque:stat:processed") == b"2")
    daemon.send(signal.SIGTERM)

    assert daemon.wait() == 0, daemon.output()
    assert sorted(redis.lrange(ECHOED, 0, -1)) == [b"[1]", b"[2]"]
    assert redis.lrange(f"resque:{key}", 0, -1) == [b"not the registry's"]
    assert f"the key resque:{key} has the wrong type" in daemon.output()
    assert "Traceback" not in daemon.output()
