"""The command pyres_web: it serves, warns, hashes, and says what is wrong in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from resweb.auth import Door, hash_password
from tests.servers import free_port, until
from tests.web.visitor import Visitor

START = "from pyres.scripts import pyres_web; raise SystemExit(pyres_web())"
COMMAND = [sys.executable, "-c", START]
ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parents[2])}


def run(*args: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *args], input=typed, capture_output=True, text=True, timeout=60, env=ENVIRONMENT
    )


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_it_serves_and_warns_of_a_public_address_without_a_password(tmp_path, dsn, host, warned):
    port, log = free_port(), tmp_path / "log"
    command = [*COMMAND, "--host", host, "--port", str(port), "--dsn", f"main={dsn}"]
    with subprocess.Popen([*command, "-f", str(log)], env=ENVIRONMENT) as process:
        try:
            until(lambda: log.exists() and "Listening" in log.read_text(), 30)
            visitor = Visitor(f"http://127.0.0.1:{port}")
            until(lambda: _answers(visitor), 30)
        finally:
            process.terminate()

    assert process.returncode == 0
    assert ("nobody is asked for a password" in log.read_text()) == warned


def _answers(visitor: Visitor) -> bool:
    try:
        return "main" in visitor.get("/overview")
    except OSError:
        return False


def test_it_prints_a_hash_that_opens_the_door():
    done = run("--hash-password", typed="secret\n")

    assert done.returncode == 0
    assert Door(f"ops:{done.stdout.strip()}").opens("Basic b3BzOnNlY3JldA==")
    assert not Door(f"ops:{hash_password('other')}").opens("Basic b3BzOnNlY3JldA==")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--auth", "ops:secret"], "--hash-password"),
        (["--dsn", "a=127.0.0.1:1,a=127.0.0.1:2"], "two servers are named 'a'"),
        (["--dsn", "host:port"], "is no port"),
        (["--port", "0"], "--port"),
    ],
)
def test_what_cannot_be_used_is_one_line(args, told):
    done = run(*args)

    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
