"""What the server says when it cannot serve now, and how that is told."""

from __future__ import annotations

import pytest
from redis.exceptions import BusyLoadingError, ConnectionError

from pyres.store import CannotWriteNow, described
from pyres.store.errors import refusal

REFUSALS = [
    "READONLY You can't write against a read only replica.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "MISCONF Redis is configured to save RDB snapshots, but it's unable to persist on disk.",
    "NOREPLICAS Not enough good replicas to write.",
]

#: Redis 6.2 says so of a command inside a script; redis-py takes ERR away.
IN_SCRIPT = "Error running script (call to f_0a1b): @user_script:41: @user_script: 41: -{}"


@pytest.mark.parametrize("words", REFUSALS)
def test_a_refused_write_is_known_in_each_wording(words: str) -> None:
    for text in (words, IN_SCRIPT.format(words), "ERR " + IN_SCRIPT.format(words)):
        assert refusal(text) == words


@pytest.mark.parametrize("text", ["WRONGTYPE a key", "ERR unknown command 'X'", "ERR OO"])
def test_another_error_is_no_refused_write(text: str) -> None:
    assert refusal(text) is None
    assert refusal(IN_SCRIPT.format(text)) is None


def test_only_a_server_that_does_not_answer_is_gone() -> None:
    assert described(ConnectionError("closed")) == "Redis is gone (closed)"
    for error in (CannotWriteNow(REFUSALS[0]), BusyLoadingError("loading")):
        assert described(error) == f"Redis cannot serve now ({error})"
