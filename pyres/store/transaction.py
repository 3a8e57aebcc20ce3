"""A MULTI of which all that can fail is checked before: it is done whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from pyres.store import scripts

#: The type that a command expects of its key.
_TYPES = {
    **dict.fromkeys(("RPUSH", "LPUSH", "LREM", "LTRIM", "LSET"), "list"),
    **dict.fromkeys(("SADD", "SREM"), "set"),
    **dict.fromkeys(("ZADD", "ZREM"), "zset"),
    **dict.fromkeys(("HSET", "HSETNX", "HDEL"), "hash"),
    **dict.fromkeys(("INCRBY", "DECRBY", "INCR", "DECR"), "integer"),
}

#: What does nothing to a key of another type, and a counter, which never costs a job: left out.
_LEFT_OUT = frozenset(("SREM", "ZREM", "HDEL", "LREM", "INCRBY", "DECRBY", "INCR", "DECR"))

Command = tuple[Any, ...]


def execute(pipe: Any) -> list[Any]:
    """Send what a pipeline has collected, but for what does nothing to keys of another type.

    ResponseError, and nothing done, where another command meets a key of another type.
    """
    checks = [_expected(command) for command, _ in pipe.command_stack]
    keys = [key for check in checks for key in check]
    found = iter(_check(pipe, keys))
    kept = []
    for entry, check in zip(pipe.command_stack, checks, strict=True):
        faults = [(*pair, fault) for pair in check if (fault := next(found))]
        if not faults:
            kept.append(entry)
        elif entry[0][0] not in _LEFT_OUT:
            pipe.reset()
            raise ResponseError(described(*faults[0]))
    pipe.command_stack[:] = kept
    replies: list[Any] = pipe.execute()
    return replies


def described(key: Any, expected: str, fault: str) -> str:
    """What is wrong with a key, in the words of the server's own error."""
    name = key.decode("utf-8", "replace") if isinstance(key, bytes) else key
    return f"WRONGTYPE {name} is {fault}: expected a {expected}"


def _check(pipe: Any, keys: Sequence[tuple[Any, str]]) -> list[str]:
    """What is wrong with each of these keys (and the types expected of them), or "".

    Over the connection of the pipeline, which may watch a key on it.
    """
    if not keys:
        return []
    words = [key for key, _ in keys] + [expected for _, expected in keys]
    source = scripts.source("check_keys")
    found = pipe.immediate_execute_command("EVAL", source, len(keys), *words)
    return [fault.decode("utf-8", "replace") for fault in found]


def _expected(command: Command) -> list[tuple[Any, str]]:
    """The keys of a command, with the types that it expects; of a script as its head says."""
    name = command[0]
    if name in _TYPES:
        return [(command[1], _TYPES[name])]
    if name == "EVAL":
        keys = command[3 : 3 + int(command[2])]
        return [(keys[at], kind) for at, kind in scripts.types(command[1], len(keys))]
    return []
