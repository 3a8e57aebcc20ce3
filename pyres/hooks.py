"""The hooks of a job class: methods found by the beginning of their name, as in Resque.

pyres 1.5's `before_perform` and `after_perform` are named exactly so and get the metadata; a name
that goes on (`before_perform_log`) is one of Ruby's and gets the job's arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyres.identity_cache import IdentityCache

#: Named exactly so, these are pyres 1.5's and not Ruby's.
WITH_METADATA = frozenset({"before_perform", "after_perform"})


#: Of each class: prefix -> the names of its hooks.
_found: IdentityCache[dict[str, tuple[str, ...]]] = IdentityCache()
_hookless: IdentityCache[bool] = IdentityCache()


def _names(target: Any, prefix: str) -> tuple[str, ...]:
    by_prefix = _found.get(target)
    if by_prefix is None:
        by_prefix = _found.keep(target, {})
    if prefix not in by_prefix:
        by_prefix[prefix] = _search(target, prefix)
    return by_prefix[prefix]


def _search(target: Any, prefix: str) -> tuple[str, ...]:
    found = (name for name in dir(target) if name.startswith(prefix) and name not in WITH_METADATA)
    return tuple(sorted(name for name in found if callable(getattr(target, name))))


def hooks(target: Any, prefix: str) -> list[Callable[..., Any]]:
    """The hooks of a class or decorated function whose names begin with `prefix`, by name."""
    return [getattr(target, name) for name in _names(target, prefix)]


def hookless(target: Any) -> bool:
    """Whether nothing is to be called around the job, as with most: one look in place of four."""
    known = _hookless.get(target)
    return _hookless.keep(target, _is_hookless(target)) if known is None else known


def _is_hookless(target: Any) -> bool:
    around = (_names(target, prefix) for prefix in PREFIXES[:3])
    return not any(around) and not any(hasattr(target, name) for name in WITH_METADATA)


def allow(target: Any, prefix: str, args: Any) -> bool:
    """Run every such hook; whether none of them returned exactly False (Resque's veto)."""
    return all([hook(*args) is not False for hook in hooks(target, prefix)])


#: Every prefix that Job asks for.
PREFIXES = ("before_perform", "around_perform", "after_perform", "on_failure")


#: Every beginning of the name of a hook.
EVERY_PREFIX = (
    *PREFIXES,
    "before_enqueue",
    "after_enqueue",
    "before_dequeue",
    "after_dequeue",
)


def is_hook_name(name: str) -> bool:
    """Whether a method of this name is called as a hook."""
    return name.startswith(EVERY_PREFIX)


def learn(target: Any) -> None:
    """Find the hooks of a class now; a parent that does it before it forks spares each child the
    search.
    """
    for prefix in PREFIXES:
        _names(target, prefix)
    hookless(target)
