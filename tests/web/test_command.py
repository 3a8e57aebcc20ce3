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
            until(lambda: log.exists() and "Listening" in log.read_text(), 60)
            visitor = Visitor(f"http://127.0.0.1:{port}")
            until(lambda: _answers(visitor), 60)
        finally:
            process.terminate()

    assert process.returncode == 0
    assert ("nobody is asked for a password" in log.read_text()) == warned


RECORD = '{"queue":"mail","payload":{"class":"M","args":[%d]},"exception":"E","error":"%s"}'


@pytest.mark.parametrize(("chosen", "count"), [({}, 40_000), ({"text": "wanted"}, 40_000)])
def test_a_page_killed_in_the_middle_of_a_retry_of_all_lost_and_doubled_none(
    tmp_path, dsn, redis, chosen, count
):
    """Each record moves whole, so the same button goes on with those that are left."""
    for start in range(0, count, 5_000):
        records = (RECORD % (n, "wanted") for n in range(start, start + 5_000))
        redis.rpush("resque:failed", *records)
    left = count
    for times in range(2):
        port, log = free_port(), tmp_path / f"log{times}"
        command = [*COMMAND, "--port", str(port), "--dsn", dsn, "-f", str(log)]
        with subprocess.Popen(command, env=ENVIRONMENT) as process:
            try:
                until(lambda: log.exists() and "Listening" in log.read_text(), 60)  # noqa: B023
                visitor = Visitor(f"http://127.0.0.1:{port}")
                until(lambda: _answers(visitor), 60)  # noqa: B023
                visitor.press("/failed/retry_all", **chosen)
                until(lambda: redis.llen("resque:failed") < left, 60)  # noqa: B023
                if times:
                    until(lambda: not redis.llen("resque:failed"), 120)
            finally:
                process.kill()
        left = redis.llen("resque:failed")
        if not times:
            assert 0 < left < count
            assert redis.llen("resque:queue:mail") == count - left

    jobs = redis.lrange("resque:queue:mail", 0, -1)
    assert len(jobs) == len(set(jobs)) == count


def _answers(visitor: Visitor) -> bool:
    try:
        return "Overview" in visitor.get("/overview")
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
        (["--dsn", "host:port"], "invalid port"),
        (["--port", "0"], "--port"),
    ],
)
def test_what_cannot_be_used_is_one_line(args, told):
    done = run(*args)

    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
