"""Fixtures: two servers with different data, and the app over HTTP."""

from __future__ import annotations

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


class Serving:
    """An app served by waitress in a thread."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.server = waitress.create_server(app, host="127.0.0.1", port=0, threads=4)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="waitress-loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.server.asyncore.loop(timeout=60, map=self.server._map, count=1)

    def close(self) -> None:
        """End the threads, and only then close what they use.

        A thread that has sent its response writes to the loop's pipe once more. If that pipe was
        closed, it would write to another file that has got its descriptor.
        """
        self.server.task_dispatcher.shutdown(timeout=60)
        self._stopped.set()
        self.server.pull_trigger()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the loop of waitress is still running"
        self.server.asyncore.close_all(self.server._map)
        self.app.extensions["resweb"].close()


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """A function that serves an app on a free port and returns its URL."""
    running: list[Serving] = []

    def start(app: Any) -> str:
        running.append(Serving(app))
        return f"http://127.0.0.1:{running[-1].server.effective_port}"

    yield start
    for serving in running:
        serving.close()


@pytest.fixture
def site(serve: Callable[..., str], resq: ResQ, second: ResQ) -> str:
    """The URL of the page for the servers `one` and `two`."""
    from resweb.app import create_app

    dsns = [f"one={resq.dsn}", f"two={second.dsn}"]
    return serve(create_app(dsns, sample=False))


@pytest.fixture
def visitor(site: str) -> Visitor:
    return Visitor(site)
