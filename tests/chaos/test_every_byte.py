"""A connection cut after any byte, of a request or of a reply, loses no job."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyres import ResQ
from tests.chaos.jobs import SOCKET, TracedJob
from tests.chaos.ledger import Ledger
from tests.proxy import Limit, Proxy
from tests.servers import Daemons, Server, until

#: A daemon with shorter waits: seconds after a cut, and between two fetches.
IMPATIENT = (
    "from pyres import liveness, performer, scripts\n"
    "performer.FIRST_PAUSE = liveness.Pace.longest_pause = 0.001\n"
    "performer.FIRST_IDLE = performer.LONGEST_IDLE = 0.01\n"
    "raise SystemExit(scripts.{script}())\n"
)

#: Bytes of replies and of requests after which a connection is cut: well over one whole fetch.
REPLIES, REQUESTS = 300, 900

#: How many jobs: in `make test`, and in `make chaos`.
JOBS = int(os.environ.get("PYRES_CHAOS_JOBS", "800"))


def sweep() -> Iterator[Limit]:
    """Every number of bytes, from 0 on, and then again; requests and replies in turn.

    Now and then more, so that longer exchanges, such as a registration, can succeed.
    """
    dice = random.Random(4)
    for number in itertools.count():
        yield Limit(of_replies=number % REPLIES)
        yield Limit(of_requests=number % REQUESTS)
        yield Limit(of_requests=dice.randrange(REQUESTS, 10 * REQUESTS))


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("pyres_manager", ("--nonblocking-pop", "--pool", "2")),
        ("pyres_manager", ("--watch-pop", "--pool", "2", "--interval", "0.05")),
        ("pyres_worker", ("--watch-pop",)),
    ],
)
def test_a_connection_cut_after_any_byte_neither_loses_nor_repeats_a_job(
    script: str, options: tuple[str, ...], own_server: Server, tmp_path: Path
) -> None:
    jobs = JOBS if script == "pyres_manager" else JOBS // 4
    redis, dice = own_server.client(), random.Random(5)
    env = {SOCKET: str(own_server.unix_socket)}
    command = ("-c", IMPATIENT.format(script=script), "--queues", "basic", *options)
    with (
        Proxy(own_server.port) as proxy,
        Daemons(tmp_path, f"redis://{proxy.dsn}") as start,
        contextlib.closing(ResQ(own_server.dsn)) as resq,
    ):
        proxy.limit_each(sweep())
        daemon = start(*command, env=env)
        number = 0
        while number < jobs:
            # Now and then all queues are empty, so that a wait for a job is cut, too.
            until(lambda: not redis.exists("resque:queue:basic"), timeout=60)
            size = dice.randrange(1, 12)
            resq.enqueue_many([(TracedJob, number + each, 0) for each in range(size)])
            number += size
        until(lambda: int(redis.get("resque:stat:processed") or 0) >= number, timeout=60)
        proxy.forgive()
        proxy.cut_all()
        daemon.send(signal.SIGTERM)

        assert daemon.wait() == 0, daemon.output()

    ledger = Ledger.read(redis, number, ["basic"])
    assert ledger.lost == ledger.twice == [], "\n".join(map(ledger.known_of, ledger.lost))
    assert (ledger.failed, ledger.waiting, ledger.left) == ({}, set(), [])
    assert ledger.miscounted == {}
