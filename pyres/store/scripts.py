"""Lua scripts by name. The head of each is its contract: the types of its keys are checked before
the script's first line, so that a wrong one is an error before anything is written. Code shared by
several scripts is in `lua_parts`; a head names the parts that its script uses.
"""

from __future__ import annotations

import functools
import hashlib
import re
from importlib.resources import files
from typing import Any

#: A key, or a range of keys, in the head of a script. A type in parentheses is checked by the
#: script itself.
_KEYS = re.compile(r"^-- KEYS\[(\d+)(\.\.n?)?\]\s+(STRING|LIST|SET|ZSET|HASH)\b", re.MULTILINE)

#: The parts that a script uses, in its head.
_USES = re.compile(r"^-- uses +(.+)$", re.MULTILINE)

_CHECK = """\
for _, range in ipairs({%s}) do
    for at = range[1], range[2] do
        local kind = redis.call("TYPE", KEYS[at]).ok
        if kind ~= "none" and kind ~= range[3] then
            local expected = " is a " .. kind .. ": expected a " .. range[3]
            return redis.error_reply("WRONGTYPE " .. KEYS[at] .. expected)
        end
    end
end
"""


@functools.cache
def source(name: str) -> str:
    """The text of `lua/<name>.lua`, preceded by the check of its keys and the parts it uses."""
    text = _text("lua", name)
    ranges = [
        f'{{{first}, {"#KEYS" if more else first}, "{kind.lower()}"}}'
        for first, more, kind in _KEYS.findall(text)
    ]
    check = _CHECK % ", ".join(ranges) if ranges else ""
    used = [part for line in _USES.findall(text) for part in line.split(", ")]
    return "".join([check, *(_text("lua_parts", part) for part in used), text])


def _text(folder: str, name: str) -> str:
    return files("pyres.store").joinpath(folder, f"{name}.lua").read_text("utf-8")


def types(source: str, count: int) -> list[tuple[int, str]]:
    """The index (from 0) and the type of each checked key of a script that has `count` keys."""
    return [
        (at, kind.lower())
        for first, more, kind in _KEYS.findall(source)
        for at in range(int(first) - 1, count if more else int(first))
    ]


@functools.cache
def sha(name: str) -> str:
    """The SHA-1 of the script, for EVALSHA."""
    return hashlib.sha1(source(name).encode(), usedforsecurity=False).hexdigest()


def load(client: Any, name: str) -> Any:
    """The script as a callable of `keys` and `args`: sent as EVALSHA, loaded if the server does not
    have it.
    """
    return client.register_script(source(name))
