"""What several tests of the store use."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest
from redis import Redis

from pyres import ResQ
from pyres.store import Store
from pyres.worker import Worker
from tests.proxy import Proxy
from tests.servers import Server

#: When the clock starts, epoch seconds.
NOW = 1_800_000_000


@pytest.fixture
def proxy(server: Server, redis: Redis) -> Iterator[Proxy]:
    """A proxy before the server, which loses or holds what the test asks for."""
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def store(proxy: Proxy) -> Iterator[Store]:
    """A store all of whose requests go through the proxy."""
    resq = ResQ(proxy.dsn)
    yield resq.store
    resq.close()


@pytest.fixture
def clock(resq: ResQ) -> dict[str, float]:
    """`now`: the time that `resq` uses, for the test to change."""
    times: dict[str, float] = {"now": NOW}
    resq._current_time = lambda: datetime.fromtimestamp(times["now"])  # type: ignore[method-assign]
    return times


@pytest.fixture
def worker(resq: ResQ) -> Iterator[Worker]:
    """A worker of the queue `basic` that is not registered, for its process()."""
    worker = Worker(["basic"], resq)
    yield worker
    worker._close_children()
    if worker._fetcher is not None:
        worker._fetcher.close()
