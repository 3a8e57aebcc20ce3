"""A MULTI whose keys are checked before: all of it is executed, or nothing. A full server refuses
each MULTI; there the commands are executed by a script.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis.exceptions import ResponseError, WatchError

from pyres.store import scripts
from pyres.store.errors import CannotWriteNow, is_full, logged_once, or_raise

#: The type that a command expects of its key.
_TYPES = {
    **dict.fromkeys(("RPUSH", "LPUSH", "LREM", "LTRIM", "LSET"), "list"),
    **dict.fromkeys(("SADD", "SREM"), "set"),
    **dict.fromkeys(("ZADD", "ZREM"), "zset"),
    **dict.fromkeys(("HSET", "HSETNX", "HDEL"), "hash"),
    **dict.fromkeys(("INCRBY", "DECRBY", "INCR", "DECR"), "integer"),
}

#: Commands that are left out where their key has the wrong type: there is nothing to remove, or
#: only a counter to change, and neither is a reason to lose a job.
_LEFT_OUT = frozenset(("SREM", "ZREM", "HDEL", "LREM", "INCRBY", "DECRBY", "INCR", "DECR"))

#: What a pipeline makes of the replies to these commands; a script returns them as lists.
_AS_READ: dict[str, Callable[[list[Any]], Any]] = {
    "HGETALL": lambda reply: dict(zip(reply[::2], reply[1::2], strict=True)),
    "SMEMBERS": set,
}

#: Commands that need no memory, and free some.
_FREEING = frozenset(("DEL", "SREM", "ZREM", "HDEL", "LREM"))

Command = tuple[Any, ...]


def execute(pipe: Any, watched: Mapping[Any, bytes | None]) -> list[Any]:
    """Execute the commands of a pipeline, without those of _LEFT_OUT whose key has the wrong type.

    Raises WatchError, with nothing executed, if a key of `watched` has another value now, and
    ResponseError, with nothing executed, if a key of another command has the wrong type.
    """
    checks = [_expected(command) for command, _ in pipe.command_stack]
    keys = [key for check in checks for key in check]
    all_faults = iter(_check(pipe, keys))
    kept = []
    for entry, check in zip(pipe.command_stack, checks, strict=True):
        faults = [(*pair, fault) for pair in check if (fault := next(all_faults))]
        if not faults:
            kept.append(entry)
        elif entry[0][0] not in _LEFT_OUT:
            pipe.reset()
            raise ResponseError(wrong_type(*faults[0]))
    pipe.command_stack[:] = kept
    return _send(pipe, watched)


def execute_tolerantly(pipe: Any) -> list[Any]:
    """The replies to the commands of a pipeline; None for one whose key has the wrong type, which
    is logged once.
    """
    commands = [command for command, _ in pipe.command_stack]
    replies = _send(pipe, {}, raise_on_error=False)
    return [
        logged_once(command[1], functools.partial(or_raise, reply))
        # A pipeline within a batch has no replies yet.
        for command, reply in zip(commands, replies, strict=False)
    ]


def _send(pipe: Any, watched: Mapping[Any, bytes | None], raise_on_error: bool = True) -> list[Any]:
    """pipe.execute(), which also works on a full server if the commands free memory before others
    need it.
    """
    commands = [command for command, _ in pipe.command_stack]
    is_atomic = pipe.transaction or pipe.explicit_transaction
    try:
        replies: list[Any] = pipe.execute(raise_on_error)
    except (CannotWriteNow, WatchError) as error:
        # While a key is watched, redis-py raises WatchError for a lost connection.
        if not (is_atomic and is_full(error, error.__context__)):
            raise
    else:
        return replies
    replies = _apply(pipe, commands, watched)
    refused = next((reply for reply in replies if isinstance(reply, ResponseError)), None)
    if refused is not None and is_full(refused):
        raise CannotWriteNow(str(refused))
    return [or_raise(reply) for reply in replies] if raise_on_error else replies


def _apply(
    pipe: Any, commands: Sequence[Command], watched: Mapping[Any, bytes | None]
) -> list[Any]:
    """Execute commands by one script, those first that free memory; the replies in the order of
    the commands.
    """
    order = sorted(range(len(commands)), key=lambda at: commands[at][0] not in _FREEING)
    sources = [command[1] for command in commands if command[0] == "EVAL"]
    words: list[Any] = [b"" if value is None else b"=" + value for value in watched.values()]
    for at in order:
        name, *rest = commands[at]
        if name == "EVAL":
            rest[0] = sources.index(rest[0])
        words += [1 + len(rest), name, *rest]
    script = _with_functions(sources)
    try:
        replies = pipe.immediate_execute_command("EVAL", script, len(watched), *watched, *words)
    finally:
        pipe.reset()
    if replies is None:
        raise WatchError("a watched key has changed")
    by_index = dict(zip(order, replies, strict=True))
    return [_as_read(command[0], by_index[at]) for at, command in enumerate(commands)]


def _as_read(name: str, reply: Any) -> Any:
    return _AS_READ[name](reply) if name in _AS_READ and isinstance(reply, list) else reply


def _with_functions(sources: Sequence[str]) -> str:
    """The script `apply`, with these scripts as functions."""
    functions = "".join(
        f'scripts["{at}"] = function(KEYS, ARGV)\n{source}\nend\n'
        for at, source in enumerate(sources)
    )
    return f"local scripts = {{}}\n{functions}{scripts.source('apply')}"


def wrong_type(key: Any, expected: str, fault: str) -> str:
    """The error text for a key of the wrong type, worded as the server's own WRONGTYPE."""
    name = key.decode("utf-8", "replace") if isinstance(key, bytes) else key
    return f"WRONGTYPE {name} is {fault}: expected a {expected}"


def _check(pipe: Any, keys: Sequence[tuple[Any, str]]) -> list[str]:
    """What is wrong with each of these (key, expected type), or "".

    Uses the pipeline's connection, on which it may watch a key.
    """
    if not keys:
        return []
    words = [key for key, _ in keys] + [expected for _, expected in keys]
    source = scripts.source("check_keys")
    faults = pipe.immediate_execute_command("EVAL", source, len(keys), *words)
    return [fault.decode("utf-8", "replace") for fault in faults]


def _expected(command: Command) -> list[tuple[Any, str]]:
    """The keys of a command, with the expected types; those of a script are from its head."""
    name = command[0]
    if name in _TYPES:
        return [(command[1], _TYPES[name])]
    if name == "EVAL":
        keys = command[3 : 3 + int(command[2])]
        return [(keys[at], kind) for at, kind in scripts.types(command[1], len(keys))]
    return []
