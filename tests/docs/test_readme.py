"""README's quickstart, copied from README, does what README says."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyres.version import __version__
from tests.docs.blocks import Step, files, steps
from tests.servers import ROOT, Daemon, free_port, until

README = ROOT / "README.md"

#: Seconds after which a test fails, enough for a busy machine.
PATIENCE = 120

#: Patterns of what differs between runs in README's output, and what may replace it.
VARYING = {
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
    r" +\b42\d\d\b": r" +\d+",
    r"\b42\d\d\b": r"\d+",
    r"\bhost1\b": r"[\w.-]+",
    r"\blocalhost:6379\b": r"[\w.:/-]+",
    r"\bpyres \d+\.\d+\.\d+\b": r"pyres [\w.]+",
    r"\b\d+\.\d{3} s\b": r"\d+\.\d{3} s",
}


def pattern(lines: list[str]) -> str:
    """A regular expression for these lines, at any time, in any process, on any host."""
    text = "".join(f"{line}\n" for line in lines)
    parts = re.split(f"({'|'.join(VARYING)})", text)
    return "".join(_expression(part) for part in parts)


def _expression(part: str) -> str:
    for varying, expression in VARYING.items():
        if re.fullmatch(varying, part):
            return expression
    return re.escape(part)


@pytest.fixture
def folder(tmp_path: Path, dsn: str) -> Path:
    """A folder with README's files, which use the test's server instead of localhost:6379."""
    for name, text in files(README).items():
        (tmp_path / name).write_text(text.replace("localhost:6379", dsn))
    return tmp_path


@pytest.fixture
def start(folder: Path, server) -> Iterator[Callable[[str], Daemon]]:
    """Starts a command in that folder, with the folder of this Python first in PATH."""
    started: list[Daemon] = []
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "REDIS_URL": server.url, "PYTHONUNBUFFERED": "1"}
    env.pop("PYTHONPATH", None)

    def start(command: str) -> Daemon:
        output = folder / f"{len(started)}.out"
        started.append(Daemon(shlex.split(command), env=env, cwd=folder, output=output))
        return started[-1]

    yield start
    for daemon in started:
        daemon.close()


def check(step: Step, daemon: Daemon, is_idle: Callable[[], bool] = lambda: True) -> None:
    """Wait for the step's output, end the daemon as the step does, and compare all output."""
    if step.interrupted:
        wait_for(pattern(step.output), daemon)
        until(is_idle, timeout=PATIENCE, what="a daemon without a running job")
        daemon.send_group(signal.SIGINT)
    assert daemon.wait(PATIENCE) == 0, daemon.output()
    assert re.fullmatch(pattern(step.output + step.rest), daemon.output()), daemon.output()


def wait_for(expected: str, daemon: Daemon) -> None:
    """Wait until the daemon's output matches this regular expression."""

    def is_written() -> bool:
        assert daemon.returncode is None, daemon.output()
        assert re.fullmatch(expected, daemon.output()), daemon.output()
        return True

    until(is_written, timeout=PATIENCE, what=expected)


def at_port(step: Step, port: int) -> Step:
    """The step with this port for the web page, since 8080 may be in use."""
    output = [line.replace("8080", str(port)) for line in step.output]
    return Step(f"{step.command} --port {port}", output, step.interrupted, step.rest)


def test_the_quickstart_names_two_files_and_shows_four_commands():
    assert list(files(README)) == ["jobs.py", "enqueue.py"]
    assert [step.command.split()[0] for step in steps(README)] == [
        "python", "pyres_worker", "pyres_scheduler", "pyres_web",
    ]  # fmt: skip


def test_the_quickstart_prints_what_readme_shows(start, redis):
    def is_idle() -> bool:
        # Ctrl-C also reaches the process of a running job, which would then fail.
        return all(key.endswith(b":started") for key in redis.keys("resque:worker:*"))

    for step in steps(README)[:3]:
        check(step, start(step.command), is_idle)

    assert redis.llen("resque:failed") == 0
    assert redis.zcard("resque:delayed_queue_schedule") == 1


def test_the_quickstarts_web_page_is_where_readme_says(start):
    port = free_port()
    step = at_port(steps(README)[3], port)
    daemon = start(step.command)
    wait_for(pattern(step.output), daemon)

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as page:
        assert b"pyres" in page.read()
    check(step, daemon)


def test_readme_names_the_wheel_of_this_version():
    wheels = set(re.findall(r"pyres-([\d.]+)-py3", README.read_text("utf-8")))

    assert wheels == {__version__}


def test_readme_links_every_page_of_the_documentation():
    pages = {f"docs/{page.name}" for page in ROOT.glob("docs/*.md")}

    assert pages - set(re.findall(r"\]\(([^)#]+)\)", README.read_text("utf-8"))) == set()
