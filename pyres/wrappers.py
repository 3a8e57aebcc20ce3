"""The functions inside decorators made with functools.wraps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

#: How many nested decorators are followed.
MAX_WRAPPERS = 20


def wrapped_by(function: Any) -> Iterator[Any]:
    """The functions that this one wraps, the outermost first."""
    for _ in range(MAX_WRAPPERS):
        function = getattr(function, "__wrapped__", None)
        if function is None:
            return
        yield function
