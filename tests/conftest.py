"""Fixtures: a private server for the whole run, flushed before each test, and daemons."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import setproctitle
from hypothesis import settings
from redis import Redis

from pyres import loading, schedule
from pyres.store import scripts
from tests import servers
from tests.servers import Daemons, Server

if TYPE_CHECKING:
    from pyres import ResQ

# So that a failed comparison of keyspaces shows what differs. Here, since tests in several folders
# import the module, and it must be registered before the first import.
pytest.register_assert_rewrite("tests.wire.comparing")

pytest_plugins = ["tests.evidence", "tests.guard", "tests.parts", "tests.spread"]

# The time of an example depends more on the machine than on pyres.
settings.register_profile("pyres", deadline=None)
settings.load_profile("pyres")

# Environment variables that pyres reads must be set by the test.
for name in ("REDIS_URL", "QUEUE", "QUEUES", "INTERVAL", "RESWEB_SETTINGS"):
    os.environ.pop(name, None)


def _keep_off_the_default_port(event: str, args: tuple[Any, ...]) -> None:
    if event == "socket.connect" and isinstance(args[1], tuple) and args[1][1] == 6379:
        raise AssertionError("a test must not touch port 6379: someone's data may live there")


sys.addaudithook(_keep_off_the_default_port)


_ports = pytest.StashKey[Any]()


def pytest_configure(config: pytest.Config) -> None:
    """Reserve ports; the processes of pytest-xdist share those of their parent."""
    if "PYRES_TEST_PORTS" not in os.environ:
        config.stash[_ports] = servers.reserve_ports()


def pytest_unconfigure(config: pytest.Config) -> None:
    if lock := config.stash.get(_ports, None):
        lock.close()
        del os.environ["PYRES_TEST_PORTS"]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Report once if there is no Redis server for a run of the whole suite."""
    if session.config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        try:
            servers.server_binary()
        except FileNotFoundError as error:
            raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Disconnect clients that a test has left on servers that outlive it."""
    for server in servers.STARTED:
        server.disconnect_clients()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of the whole run; a test that stops or pauses its server uses `own_server`."""
    with Server() as server:
        yield server


@pytest.fixture(scope="session")
def _session_client(server: Server) -> Redis:
    return server.client()


@pytest.fixture
def redis(_session_client: Redis) -> Redis:
    """A raw client (bytes) on an empty server."""
    _session_client.flushall()
    # Load all scripts, or a test that cuts the reply of an EVALSHA would cut the error NOSCRIPT on
    # a server that no test has used yet, or after a test that flushed the scripts.
    pipe = _session_client.pipeline(transaction=False)
    for file in files("pyres.store").joinpath("lua").iterdir():
        pipe.script_load(scripts.source(file.name.removesuffix(".lua")))
    pipe.execute()
    return _session_client


@pytest.fixture
def dsn(server: Server, redis: Redis) -> str:
    """The DSN of an empty server: 127.0.0.1:PORT/0."""
    return server.dsn


@pytest.fixture
def resq(dsn: str) -> Iterator[ResQ]:
    """A ResQ on an empty server."""
    from pyres import ResQ

    resq = ResQ(dsn)
    yield resq
    resq.close()


@pytest.fixture
def own_title() -> Iterator[None]:
    """Restore this process's title, which a worker in it changes."""
    title = setproctitle.getproctitle()
    yield
    setproctitle.setproctitle(title)


@pytest.fixture
def own_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo registrations by @job at the end of the test."""
    monkeypatch.setattr(loading, "_registered", {**loading._registered})
    monkeypatch.setattr(schedule, "_registered", {**schedule._registered})


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server for this test only, which may kill, pause and restart it."""
    with Server() as server:
        yield server


@pytest.fixture
def run_daemon(server: Server, redis: Redis, tmp_path: Path) -> Iterator[Daemons]:
    """Start daemons: `run_daemon("pyres_worker", "--queues", "a,b", env=..., cwd=...)`.

    At the end all are killed; the test fails if one that ended by itself left a process running.
    """
    with Daemons(tmp_path, server.url) as daemons:
        yield daemons


@pytest.fixture(scope="session")
def chaos_rounds() -> int:
    """The number of rounds of a chaos test: few in `make test`, many in `make chaos`."""
    return int(os.environ.get("PYRES_CHAOS_ROUNDS", "5"))
