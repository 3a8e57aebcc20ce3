"""No error reply of the server ends a daemon that has started; at the start, it is one line."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from redis import Redis

from pyres import ResQ
from tests.daemons.watching import counted
from tests.jobs import EchoJob
from tests.proxy import Proxy
from tests.servers import Daemon, Daemons, Server, until

#: What replaces every reply, and the text in the log for it.
REPLIES = {
    "an unknown error": (b"-WEIRD never seen\r\n", "Redis answered: WEIRD never seen"),
    "unknown command": (b"-ERR unknown command 'X'\r\n", "Redis answered: "),
    "of a proxy": (b"-ERR upstream failure\r\n", "Redis answered: "),
    "no right": (b"-NOPERM this user has no permissions\r\n", "Redis denied access (this user"),
    "another password": (b"-WRONGPASS invalid password\r\n", "Redis denied access (invalid pass"),
    "max clients": (b"-ERR max number of clients reached\r\n", "Redis cannot serve now (max numb"),
    "protected": (b"-DENIED protected mode. More.\r\n", "Redis denied access (DENIED protected"),
    "no Redis": (b"HTTP/1.1 400 Bad\r\n\r\n", "The server is not the one that the DSN names"),
    "busy": (b"-BUSY Redis is busy\r\n", "Redis cannot serve now (BUSY"),
    "in a script": (
        b"-ERR Error running script (call to f_0): @user_script:1: @user_script: 1: -WEIRD no\r\n",
        "Redis answered: ",
    ),
}

LOCK = "resque:resque:resque_scheduler_master_lock"

DAEMONS = {
    "pyres_worker": ("--queues", "basic"),
    "pyres_manager": ("--pool", "1", "--queues", "basic"),
    "pyres_scheduler": ("--interval", "1"),
}


@pytest.fixture
def between(server: Server) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


def start(run_daemon: Daemons, redis: Redis, proxy: Proxy, command: str) -> Daemon:
    daemon = run_daemon(command, *DAEMONS[command], "--dsn", proxy.dsn)
    if command == "pyres_scheduler":
        # Then its first cycle is over.
        daemon.until_title("Waiting")
    else:
        ResQ(redis).enqueue(EchoJob, "before")
        until(lambda: counted(redis) == (1, 0))
    return daemon


def works(redis: Redis, command: str) -> None:
    """Wait until the daemon has done its work."""
    resq = ResQ(redis)
    if command == "pyres_scheduler":
        resq.enqueue_in(0, EchoJob, "after")
        until(lambda: redis.llen("resque:queue:basic") == 1)
    else:
        resq.enqueue(EchoJob, "after")
        until(lambda: counted(redis) == (2, 0))


@pytest.mark.parametrize("kind", REPLIES)
@pytest.mark.parametrize("command", DAEMONS)
def test_no_error_reply_ends_a_daemon_that_has_started(
    command: str, kind: str, run_daemon: Daemons, redis: Redis, between: Proxy
) -> None:
    reply, words = REPLIES[kind]
    daemon = start(run_daemon, redis, between, command)

    between.answer(reply)
    between.cut_all()
    daemon.until_output(words)
    between.forgive()
    between.cut_all()

    works(redis, command)
    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0, daemon.output()
    assert "Traceback" not in daemon.output()


@pytest.mark.parametrize("command", ["pyres_worker", "pyres_manager"])
@pytest.mark.parametrize("request_", [b"workers:heartbeat", b"pruning_dead_workers", b"TRACKING"])
def test_a_refusal_of_another_request_stops_no_fetch(
    command: str, request_: bytes, run_daemon: Daemons, redis: Redis, between: Proxy
) -> None:
    daemon = start(run_daemon, redis, between, command)

    between.answer(b"-WEIRD not this\r\n", request_)
    between.cut_all()

    works(redis, command)
    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0, daemon.output()


STARTS = {
    "no Redis": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak the Redis protocol"),
    "TLS": (b"\x15\x03\x01\x00\x02\x02\x46", "TLS"),
    "protected": (b"-DENIED Redis is running in protected mode. More.\r\n", "protected mode\n"),
    "too old": (b"-ERR unknown command 'CLIENT'\r\n", "needs Redis 5.0 or newer"),
    "no right": (b"-NOPERM this user has no permissions\r\n", "refuses us: this user"),
    "unknown": (b"-WEIRD never seen\r\n", "Redis answered: WEIRD never seen"),
}


@pytest.mark.parametrize("kind", STARTS)
@pytest.mark.parametrize("command", DAEMONS)
def test_a_start_on_an_unusable_server_is_a_one_line_error_and_exit_code_2(
    command: str, kind: str, run_daemon: Daemons, between: Proxy
) -> None:
    reply, words = STARTS[kind]
    between.answer(reply)

    daemon = run_daemon(command, *DAEMONS[command], "--dsn", between.dsn)

    assert daemon.wait() == 2, daemon.output()
    assert "Traceback" not in daemon.output()
    line = daemon.output().splitlines(True)[-1]
    assert line.startswith(f"{command}: error: ")
    assert words in line


@pytest.mark.parametrize("command", DAEMONS)
def test_a_start_waits_for_a_server_that_cannot_serve_now(
    command: str, run_daemon: Daemons, redis: Redis, between: Proxy
) -> None:
    between.answer(b"-LOADING Redis is loading the dataset in memory\r\n")
    daemon = run_daemon(command, *DAEMONS[command], "--dsn", between.dsn)
    daemon.until_output("Redis cannot serve now")

    between.forgive()
    between.cut_all()

    until(lambda: redis.exists("resque:workers", LOCK))
    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0, daemon.output()
