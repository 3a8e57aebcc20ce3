"""Fixtures for other languages: node-resque, installed by npm, and Ruby's Resque from checkouts."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Daemon, Server, leashed

HERE = Path(__file__).parent

#: Seconds for `npm ci`, and for an answer of a Ruby or node program.
INSTALLATION, ANSWER = 120, 60

#: The checkouts: RESQUE_RUBY of resque, RESQUE_SCHEDULER_RUBY of resque-scheduler.
CHECKOUTS = ("RESQUE_RUBY", "RESQUE_SCHEDULER_RUBY")


class RubyError(Exception):
    """An exception in Ruby: its class and message."""


class Ruby:
    """A Ruby process with Resque loaded that evaluates code: `ruby("Resque.size('mail')")`."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            leashed(ruby_command(port, "evaluate")),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ruby_environment(),
        )

    def __call__(self, code: str) -> Any:
        """The value, decoded from JSON. Raises RubyError."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{json.dumps(code)}\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or "{}")
        if "value" not in answer:
            raise RubyError(answer.get("error", "Ruby has ended"))
        return answer["value"]

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream
            stream.close()
        self._process.wait(ANSWER)


def ruby_command(port: int, *args: str) -> list[str]:
    return ["ruby", str(HERE / "neighbour.rb"), str(port), *args]


def ruby_environment(**more: str) -> dict[str, str]:
    """The environment of a Ruby process: in UTC, as in the golden files, and with `more`."""
    folders = os.pathsep.join(f"{os.environ.get(name, '')}/lib" for name in CHECKOUTS)
    return {**os.environ, "TZ": "UTC", "LANG": "C.UTF-8", "RUBYLIB": folders, **more}


def cannot_run(reason: str) -> None:
    """Skip the test; in CI, where nobody notices a skipped test, fail it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def node() -> str:
    """The path of node, with node-resque installed; skips the test if that is not possible."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not (node and npm):
        cannot_run("no node and npm here")
    # Locked, since processes of pytest-xdist run this at the same time.
    with open(HERE / "package.json") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (HERE / "node_modules" / "node-resque").is_dir():
            _install(str(npm))
    return str(node)


def _install(npm: str) -> None:
    command = [npm, "ci", "--prefix", str(HERE), "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALLATION, check=False
        )
    except subprocess.TimeoutExpired:
        cannot_run(f"npm ci took longer than {INSTALLATION} s")
    else:
        if done.returncode:
            cannot_run(f"npm ci failed: {done.stderr.strip()[-200:]}")


@pytest.fixture
def run_node(node: str, server: Server, redis: Any) -> Callable[..., str]:
    """A function that runs a command of neighbour.mjs and returns its output."""

    def run(*args: str) -> str:
        done = subprocess.run(
            [node, str(HERE / "neighbour.mjs"), str(server.port), *args],
            capture_output=True,
            text=True,
            timeout=ANSWER,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def call(run_node: Callable[..., str]) -> Callable[..., Any]:
    """A function that calls a method of node-resque's Queue."""
    return lambda method, *args: json.loads(run_node("call", method, json.dumps(args)))


@pytest.fixture
def start_node(node: str, server: Server, redis: Any, tmp_path: Path) -> Iterator[Any]:
    """A function that starts a worker or a scheduler of node-resque."""
    started: list[Daemon] = []

    def start(*args: str) -> Daemon:
        command = [node, str(HERE / "neighbour.mjs"), str(server.port), *args]
        output = tmp_path / f"node-{len(started)}.out"
        started.append(Daemon(command, env=os.environ, cwd=HERE, output=output))
        return started[-1]

    yield start
    for daemon in started:
        daemon.close()


@pytest.fixture
def start_worker(run_daemon: Any) -> Callable[..., Daemon]:
    """A function that starts a pyres_worker with the jobs of this folder."""

    def start(*options: str) -> Daemon:
        return run_daemon(
            *("pyres_worker", "--queues", "peer", "--require", "tests.neighbours.jobs", *options)
        )

    return start


@pytest.fixture(scope="session")
def checkouts() -> None:
    """Skips the test if CHECKOUTS are not set; fails if they do not load."""
    missing = [name for name in CHECKOUTS if not os.environ.get(name)]
    if missing:
        pytest.skip(f"{' and '.join(missing)} are not set to a checkout of Ruby's Resque")
    done = subprocess.run(
        ruby_command(1, "load"), capture_output=True, text=True, env=ruby_environment(), check=False
    )
    assert done.returncode == 0, f"{' and '.join(CHECKOUTS)} do not load: {done.stderr[-2000:]}"


@pytest.fixture(scope="session")
def _ruby(checkouts: None, server: Server) -> Iterator[Ruby]:
    ruby = Ruby(server.port)
    yield ruby
    ruby.close()


@pytest.fixture
def ruby(_ruby: Ruby, redis: Any) -> Ruby:
    """A Ruby process that evaluates code on the test's server."""
    return _ruby


@pytest.fixture
def start_ruby(
    checkouts: None, server: Server, redis: Any, tmp_path: Path
) -> Iterator[Callable[..., Daemon]]:
    """A function that starts a worker or scheduler in Ruby, or a command; keywords are its
    environment.
    """
    started: list[Daemon] = []

    def start(
        *args: str, command: list[str] | None = None, cwd: Path = HERE, **more: str
    ) -> Daemon:
        command = command or ruby_command(server.port, *args)
        output = tmp_path / f"ruby-{len(started)}.out"
        environment = ruby_environment(VVERBOSE="1", **more)
        started.append(Daemon(command, env=environment, cwd=cwd, output=output))
        return started[-1]

    yield start
    for daemon in started:
        daemon.close()
