"""The kernel's own functions, also where gevent has put its own in their place."""

from __future__ import annotations

import importlib
import sys
from typing import Any


def native(module: str, name: str) -> Any:
    """`module.name` as it was before gevent.monkey, if that is at work.

    A parent that forks waits for nothing but its children and signals: it must block, not switch.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(importlib.import_module(module), name)


def make_gevent_anew() -> None:
    """In a forked child: give gevent a hub of its own in place of the parent's. ImportError without
    gevent.
    """
    importlib.import_module("gevent").reinit()
