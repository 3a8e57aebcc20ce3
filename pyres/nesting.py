"""Checks how deep a job's arguments are nested."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pyres.exceptions import UnencodableError

#: Levels of lists and objects in a job's arguments; their list is the first. The limit of Ruby's
#: JSON is 100, and an in-flight record or a failure record adds two to those of the payload.
MAX_DEPTH = 96


def check_depth(args: Sequence[Any]) -> None:
    """Raises UnencodableError, with the place, for arguments that are nested too deep."""
    if is_too_deep(args):
        place = _deep_place(args, "args", MAX_DEPTH)[:60]
        raise UnencodableError(
            f"{place}… is nested deeper than {MAX_DEPTH} levels, or contains itself"
        )


def is_too_deep(value: Any, levels: int = MAX_DEPTH) -> bool:
    """Whether a list or object has more levels than this, its own included."""
    return not levels or any(is_too_deep(item, levels - 1) for _key, item in _nested(value))


def _deep_place(value: Any, place: str, levels: int) -> str:
    """The place of the first level that is too deep."""
    for key, item in _nested(value) if levels else ():
        if is_too_deep(item, levels - 1):
            return _deep_place(item, f"{place}[{key!r}]", levels - 1)
    return place


def _nested(value: Any) -> Iterator[tuple[Any, Any]]:
    """The lists and objects in a list or object, each with its index or key."""
    items: Iterable[tuple[Any, Any]]
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return ((key, item) for key, item in items if isinstance(item, list | tuple | dict))
