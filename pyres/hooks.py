"""The hooks of a job class: methods found by the beginning of their name, as in Resque.

pyres 1.5's `before_perform` and `after_perform` are named exactly so and get the metadata; a name
that goes on (`before_perform_log`) is one of Ruby's and gets the job's arguments.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

#: Named exactly so, these are pyres 1.5's and not Ruby's.
WITH_METADATA = frozenset({"before_perform", "after_perform"})


@functools.cache
def _names(target: Any, prefix: str) -> tuple[str, ...]:
    found = (name for name in dir(target) if name.startswith(prefix) and name not in WITH_METADATA)
    return tuple(sorted(name for name in found if callable(getattr(target, name))))


def hooks(target: Any, prefix: str) -> list[Callable[..., Any]]:
    """The hooks of a class or decorated function whose names begin with `prefix`, by name."""
    return [getattr(target, name) for name in _names(target, prefix)]


@functools.cache
def hookless(target: Any) -> bool:
    """Whether nothing is to be called around the job, as with most: one look in place of four."""
    around = (_names(target, prefix) for prefix in PREFIXES[:3])
    return not any(around) and not any(hasattr(target, name) for name in WITH_METADATA)


def allow(target: Any, prefix: str, args: Any) -> bool:
    """Run every such hook; whether none of them returned exactly False (Resque's veto)."""
    return all([hook(*args) is not False for hook in hooks(target, prefix)])


#: Every prefix that Job asks for.
PREFIXES = ("before_perform", "around_perform", "after_perform", "on_failure")


def learn(target: Any) -> None:
    """Find the hooks of a class now; a parent that does it before it forks spares each child the
    search.
    """
    for prefix in PREFIXES:
        _names(target, prefix)
    hookless(target)
