"""The replies of a server that cannot serve now, and how they are reported."""

from __future__ import annotations

import threading

import pytest
from redis import Redis
from redis.exceptions import BusyLoadingError, ConnectionError

from pyres import ResQ
from pyres.store import CannotWriteNow, described
from pyres.store.errors import lacking_right, refusal
from tests.servers import Server

REFUSALS = [
    "READONLY You can't write against a read only replica.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "MISCONF Redis is configured to save RDB snapshots, but it's unable to persist on disk.",
    "NOREPLICAS Not enough good replicas to write.",
]

#: Redis 6.2's reply for a command inside a script; redis-py removes "ERR".
IN_SCRIPT = "Error running script (call to f_0a1b): @user_script:41: @user_script: 41: -{}"


@pytest.mark.parametrize("words", REFUSALS)
def test_a_refused_write_is_recognised_in_each_wording(words: str) -> None:
    for text in (words, IN_SCRIPT.format(words), "ERR " + IN_SCRIPT.format(words)):
        assert refusal(text) == words


@pytest.mark.parametrize("text", ["WRONGTYPE a key", "ERR unknown command 'X'", "ERR OO"])
def test_another_error_is_not_a_refused_write(text: str) -> None:
    assert refusal(text) is None
    assert refusal(IN_SCRIPT.format(text)) is None


@pytest.mark.parametrize(
    "text",
    [
        "NOPERM this user has no permissions to run the 'sadd' command",
        "ACL failure in script: User u has no permissions to run the 'sadd' command",
        "ERR ACL failure in script: User u has no permissions to run the 'sadd' command",
        IN_SCRIPT.format("NOPERM this user has no permissions to run the 'sadd' command"),
        IN_SCRIPT.format("The user executing the script can't run this command or subcommand"),
    ],
)
def test_a_missing_right_is_recognised_in_each_wording(text: str) -> None:
    assert (lacking_right(text) or "").endswith(("'sadd' command", "command or subcommand"))
    assert refusal(text) is None


@pytest.mark.parametrize("text", [*REFUSALS, "WRONGTYPE a key", "ERR unknown command 'NOPERM'"])
def test_another_error_is_not_a_missing_right(text: str) -> None:
    assert lacking_right(text) is None
    assert lacking_right(IN_SCRIPT.format(text)) is None


def test_only_a_server_that_does_not_reply_is_unreachable() -> None:
    assert described(ConnectionError("closed")) == "Redis is unreachable (closed)"
    for error in (CannotWriteNow(REFUSALS[0]), BusyLoadingError("loading")):
        assert described(error) == f"Redis cannot serve now ({error})"


def test_a_server_that_keeps_forgetting_its_scripts_loses_no_job(
    server: Server, redis: Redis, resq: ResQ
) -> None:
    ended = threading.Event()

    def forget() -> None:
        with server.client() as client:
            while not ended.is_set():
                client.script_flush()

    redis.rpush("resque:queue:basic", *range(200))
    redis.sadd("resque:workers", "host:1:basic")
    fetcher = resq.store.fetcher("host:1:basic")
    fetcher.set_queues(["basic"])
    forgetting = threading.Thread(target=forget)
    forgetting.start()
    try:
        fetched = [fetcher.fetch(number > 0, "2026-11-23T16:01:09Z") for number in range(200)]
    finally:
        ended.set()
        forgetting.join()
        fetcher.close()
    assert [each.payload for each in fetched if each] == [b"%d" % number for number in range(200)]
