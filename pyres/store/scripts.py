"""Loads a Lua script of `lua/` by name; a missing one is noticed at the first load, not at
3 a.m.
"""

from __future__ import annotations

import functools
import hashlib
from importlib.resources import files
from typing import Any


@functools.cache
def source(name: str) -> str:
    """The text of `lua/<name>.lua`."""
    return files("pyres.store").joinpath("lua", f"{name}.lua").read_text("utf-8")


@functools.cache
def sha(name: str) -> str:
    """The name under which EVALSHA knows the script."""
    return hashlib.sha1(source(name).encode(), usedforsecurity=False).hexdigest()


def load(client: Any, name: str) -> Any:
    """The script as a callable of `keys` and `args`, sent as EVALSHA and loaded when unknown."""
    return client.register_script(source(name))
