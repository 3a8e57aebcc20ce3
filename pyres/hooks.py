"""The hooks of a job class: methods found by their name's prefix, as in Resque.

Methods named exactly `before_perform` and `after_perform` are pyres 1.5's and get the metadata; a
longer name (`before_perform_log`) is a hook as in Ruby and gets the job's arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyres.identity_cache import IdentityCache

#: With exactly these names, hooks are pyres 1.5's and not Ruby's.
WITH_METADATA = frozenset({"before_perform", "after_perform"})


#: Of each class: prefix -> the names of its hooks.
_hook_names: IdentityCache[dict[str, tuple[str, ...]]] = IdentityCache()
_hookless: IdentityCache[bool] = IdentityCache()


def _names(target: Any, prefix: str) -> tuple[str, ...]:
    by_prefix = _hook_names.get(target)
    if by_prefix is None:
        by_prefix = _hook_names.keep(target, {})
    if prefix not in by_prefix:
        by_prefix[prefix] = _search(target, prefix)
    return by_prefix[prefix]


def _search(target: Any, prefix: str) -> tuple[str, ...]:
    names = (name for name in dir(target) if name.startswith(prefix) and name not in WITH_METADATA)
    return tuple(sorted(name for name in names if callable(getattr(target, name))))


def hooks(target: Any, prefix: str) -> list[Callable[..., Any]]:
    """The hooks of a class or decorated function whose names begin with `prefix`, by name."""
    return [getattr(target, name) for name in _names(target, prefix)]


def hookless(target: Any) -> bool:
    """Whether the class has no perform hooks, like most; one cached lookup instead of four."""
    cached = _hookless.get(target)
    return _hookless.keep(target, _is_hookless(target)) if cached is None else cached


def _is_hookless(target: Any) -> bool:
    hook_names = (_names(target, prefix) for prefix in PREFIXES[:3])
    return not any(hook_names) and not any(hasattr(target, name) for name in WITH_METADATA)


def allow(target: Any, prefix: str, args: Any) -> bool:
    """Run every such hook; False if one of them returned exactly False (Resque's veto)."""
    return all([hook(*args) is not False for hook in hooks(target, prefix)])


#: The prefixes that Job uses.
PREFIXES = ("before_perform", "around_perform", "after_perform", "on_failure")


#: The prefixes of all hooks.
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
    """Cache the hooks of a class now: a parent that does it before a fork saves each child the
    search.
    """
    for prefix in PREFIXES:
        _names(target, prefix)
    hookless(target)
