"""System functions as they are without gevent's monkey patching."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from pyres.exceptions import NeedsForkError


def native(module: str, name: str) -> Any:
    """`module.name` as it was before gevent.monkey has patched it, if it has.

    A parent that forks only waits for its children and signals: it must block, not switch to
    another greenlet.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(importlib.import_module(module), name)


#: gevent's close() acts later, when its hub runs again; until then the reader of a pipe would wait.
close: Callable[[int], None] = native("os", "close")


def require_fork(what: str) -> None:
    """Raise NeedsForkError, which names `what` needs it, on a system without os.fork."""
    if not hasattr(os, "fork"):
        raise NeedsForkError(
            f"{what} needs a system with os.fork (Linux, macOS, WSL); "
            "enqueueing, pyres_scheduler and pyres_web work here"
        )


def pipe(blocking: bool = False) -> tuple[int, int]:
    """The reading and the writing end of a pipe, not inherited by programs that are executed."""
    require_fork("A pipe between processes")
    # Not os.pipe2, which macOS lacks. Where it exists os.pipe uses it, so that no other thread can
    # execute a program between the creation of the pipe and the setting of its flag.
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, blocking)
    return ends


def is_patched() -> bool:
    """Whether gevent has patched Python's sockets."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))


def make_gevent_anew() -> None:
    """In a forked child: give gevent a new hub in place of the parent's. Raises ImportError without
    gevent.
    """
    importlib.import_module("gevent").reinit()
