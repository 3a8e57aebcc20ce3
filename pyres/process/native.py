"""The kernel's own functions, also where gevent has put its own in their place."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from pyres.exceptions import NeedsForkError


def native(module: str, name: str) -> Any:
    """`module.name` as it was before gevent.monkey, if that is at work.

    A parent that forks waits for nothing but its children and signals: it must block, not switch.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(importlib.import_module(module), name)


#: gevent's own closes later, when its hub runs again; the other end of a pipe waits for that.
close: Callable[[int], None] = native("os", "close")


def require_fork(what: str) -> None:
    """NeedsForkError, with `what` as the one that needs it, on a system without os.fork."""
    if not hasattr(os, "fork"):
        raise NeedsForkError(
            f"{what} needs a system with os.fork (Linux, macOS, WSL); "
            "enqueueing, pyres_scheduler and pyres_web work here"
        )


def pipe(blocking: bool = False) -> tuple[int, int]:
    """The reading and the writing end of a pipe, closed in every program that is started."""
    require_fork("A pipe between processes")
    # Not os.pipe2, which macOS lacks. Where there is one os.pipe uses it, so that no other thread
    # can start a program between the pipe and its flag.
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, blocking)
    return ends


def is_patched() -> bool:
    """Whether gevent has put its own sockets in the place of Python's."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))


def make_gevent_anew() -> None:
    """In a forked child: give gevent a hub of its own in place of the parent's. ImportError without
    gevent.
    """
    importlib.import_module("gevent").reinit()
