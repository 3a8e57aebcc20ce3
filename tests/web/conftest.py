"""Two servers with different data, and the real app over HTTP."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from pyres import ResQ
from tests.servers import Server
from tests.web.visitor import Visitor

waitress = pytest.importorskip("waitress")
pytest.importorskip("flask")


@pytest.fixture(scope="session")
def second_server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def second(second_server: Server) -> Iterator[ResQ]:
    second_server.client().flushall()
    with closing(ResQ(second_server.dsn)) as resq:
        yield resq


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Serves an app on a free port; the URL."""
    running: list[tuple[Any, Any, threading.Thread]] = []

    def start(app: Any) -> str:
        server = waitress.create_server(app, host="127.0.0.1", port=0, threads=4)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        running.append((app, server, thread))
        return f"http://127.0.0.1:{server.effective_port}"

    yield start
    for app, server, thread in running:
        # In the server's own thread: it may be waiting on the sockets that are closed here.
        server.trigger.pull_trigger(functools.partial(server.asyncore.close_all, server._map))
        thread.join(10)
        server.task_dispatcher.shutdown()
        app.extensions["resweb"].close()


@pytest.fixture
def site(serve: Callable[..., str], resq: ResQ, second: ResQ) -> str:
    """The URL of the page over the servers `one` and `two`."""
    from resweb.app import create_app

    dsns = [f"one={resq.dsn}", f"two={second.dsn}"]
    return serve(create_app(dsns, sample=False))


@pytest.fixture
def visitor(site: str) -> Visitor:
    return Visitor(site)
