"""No process of a daemon outlives its parent."""

from __future__ import annotations

import signal
from pathlib import Path

from redis import Redis

from tests.daemons.odd_jobs import FileGateJob, open_file_gate
from tests.daemons.watching import begun
from tests.servers import Daemons, Server, alive, until


def test_a_jobs_process_ends_when_its_worker_and_the_server_have_ended(
    own_server: Server, tmp_path: Path
) -> None:
    from pyres import ResQ

    redis: Redis = own_server.client()
    resq = ResQ(own_server.dsn)
    gate = tmp_path / "gate"
    with Daemons(tmp_path, own_server.url) as run_daemon:
        daemon = run_daemon("pyres_worker", "--queues", "basic", "--nonblocking-pop")
        resq.enqueue(FileGateJob, str(gate))
        child = begun(redis)
        own_server.kill()

        daemon.send(signal.SIGKILL)
        daemon.wait()
        open_file_gate(gate, "fails")

        until(lambda: not alive(child))
    resq.close()
    redis.close()
