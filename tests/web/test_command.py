"""The command pyres_web: it serves, warns, hashes, and reports an error in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from resweb.auth import BasicAuth, hash_password
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
            until(lambda: log.exists() and "Listening" in log.read_text(), 60)
            visitor = Visitor(f"http://127.0.0.1:{port}")
            until(lambda: _answers(visitor), 60)
        finally:
            process.terminate()

    assert process.returncode == 0
    assert ("no password is required" in log.read_text()) == warned


RECORD = '{"queue":"mail","payload":{"class":"M","args":[%d]},"exception":"E","error":"%s"}'


@pytest.mark.parametrize(("chosen", "count"), [({}, 40_000), ({"text": "wanted"}, 40_000)])
def test_a_page_killed_during_a_retry_of_all_loses_and_doubles_no_job(
    tmp_path, dsn, redis, chosen, count
):
    """Each record moves in one step, so the same button continues with the remaining ones."""
    for start in range(0, count, 5_000):
        records = (RECORD % (n, "wanted") for n in range(start, start + 5_000))
        redis.rpush("resque:failed", *records)
    remaining = count
    for times in range(2):
        port, log = free_port(), tmp_path / f"log{times}"
        command = [*COMMAND, "--port", str(port), "--dsn", dsn, "-f", str(log)]
        with subprocess.Popen(command, env=ENVIRONMENT) as process:
            try:
                until(lambda: log.exists() and "Listening" in log.read_text(), 60)  # noqa: B023
                visitor = Visitor(f"http://127.0.0.1:{port}")
                until(lambda: _answers(visitor), 60)  # noqa: B023
                visitor.press("/failed/retry_all", **chosen)
                until(lambda: redis.llen("resque:failed") < remaining, 60)  # noqa: B023
                if times:
                    until(lambda: not redis.llen("resque:failed"), 120)
            finally:
                process.kill()
        remaining = redis.llen("resque:failed")
        if not times:
            assert 0 < remaining < count
            assert redis.llen("resque:queue:mail") == count - remaining

    jobs = redis.lrange("resque:queue:mail", 0, -1)
    assert len(jobs) == len(set(jobs)) == count


def _answers(visitor: Visitor) -> bool:
    try:
        return "Overview" in visitor.get("/overview")
    except OSError:
        return False


def test_it_prints_a_hash_of_the_password():
    done = run("--hash-password", typed="secret\n")

    assert done.returncode == 0
    assert BasicAuth(f"ops:{done.stdout.strip()}").accepts("Basic b3BzOnNlY3JldA==")
    assert not BasicAuth(f"ops:{hash_password('other')}").accepts("Basic b3BzOnNlY3JldA==")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--auth", "ops:secret"], "--hash-password"),
        (["--dsn", "a=127.0.0.1:1,a=127.0.0.1:2"], "two servers are named 'a'"),
        (["--dsn", "host:port"], "invalid port"),
        (["--port", "0"], "--port"),
    ],
)
def test_an_invalid_option_is_one_line(args, message):
    done = run(*args)

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
