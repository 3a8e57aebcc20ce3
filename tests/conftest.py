"""One private server for the whole run, flushed before each test; daemons that never stay."""

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

# So that a keyspace that is not as it should be is shown by what differs. Here, since tests of
# several folders import it, and it must be known before the first does.
pytest.register_assert_rewrite("tests.wire.comparing")

pytest_plugins = ["tests.evidence", "tests.guard", "tests.parts", "tests.spread"]

# How long an example takes says more of the machine than of pyres.
settings.register_profile("pyres", deadline=None)
settings.load_profile("pyres")

# What pyres reads from the environment must come from the test.
for name in ("REDIS_URL", "QUEUE", "QUEUES", "INTERVAL", "RESWEB_SETTINGS"):
    os.environ.pop(name, None)


def _keep_off_the_default_port(event: str, args: tuple[Any, ...]) -> None:
    if event == "socket.connect" and isinstance(args[1], tuple) and args[1][1] == 6379:
        raise AssertionError("a test must not touch port 6379: someone's data may live there")


sys.addaudithook(_keep_off_the_default_port)


_ports = pytest.StashKey[Any]()


def pytest_configure(config: pytest.Config) -> None:
    """The processes of pytest-xdist share what their parent has reserved."""
    if "PYRES_TEST_PORTS" not in os.environ:
        config.stash[_ports] = servers.reserve_ports()


def pytest_unconfigure(config: pytest.Config) -> None:
    if lock := config.stash.get(_ports, None):
        lock.close()
        del os.environ["PYRES_TEST_PORTS"]


def pytest_sessionstart(session: pytest.Session) -> None:
    """A run of the whole suite without any server says so once."""
    if session.config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        try:
            servers.server_binary()
        except FileNotFoundError as error:
            raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """A test may leave the clients of servers that go on to them."""
    for server in servers.STARTED:
        server.disconnect_clients()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of the whole run; a test that ends or pauses its server takes `own_server`."""
    with Server() as server:
        yield server


@pytest.fixture(scope="session")
def _session_client(server: Server) -> Redis:
    return server.client()


@pytest.fixture
def redis(_session_client: Redis) -> Redis:
    """A raw client (bytes) on an empty server."""
    _session_client.flushall()
    # A test that cuts an EVALSHA means the script, not the answer that it is unknown: which is
    # given by a server that no test has used yet, and after a test that made it forget them.
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
    """This process has its title again after a worker within it has changed that."""
    title = setproctitle.getproctitle()
    yield
    setproctitle.setproctitle(title)


@pytest.fixture
def own_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What @job registers in a test is known until its end only."""
    monkeypatch.setattr(loading, "_registered", {**loading._registered})
    monkeypatch.setattr(schedule, "_registered", {**schedule._registered})


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that this test alone uses and may kill, pause and restart."""
    with Server() as server:
        yield server


@pytest.fixture
def run_daemon(server: Server, redis: Redis, tmp_path: Path) -> Iterator[Daemons]:
    """Starts daemons: `run_daemon("pyres_worker", "--queues", "a,b", env=..., cwd=...)`.

    At the end all are killed; the test fails if one that ended by itself left a process behind.
    """
    with Daemons(tmp_path, server.url) as daemons:
        yield daemons


@pytest.fixture(scope="session")
def chaos_rounds() -> int:
    """How often a chaos test does its worst: a little in `make test`, long in `make chaos`."""
    return int(os.environ.get("PYRES_CHAOS_ROUNDS", "5"))
