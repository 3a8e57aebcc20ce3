"""Which of pyres' own methods a subclass, or an instance, overrides."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any


def own_methods(owner: type, names: Iterable[str]) -> dict[str, Any]:
    """The methods with these names, as the class defines or inherits them now."""
    return {name: inspect.getattr_static(owner, name) for name in names}


def overridden(thing: object, own: Mapping[str, Any]) -> frozenset[str]:
    """The names for which this class, or this instance or its class, has another method."""
    kind = thing if isinstance(thing, type) else type(thing)
    patched = () if isinstance(thing, type) else vars(thing)
    return frozenset(
        name
        for name, method in own.items()
        if name in patched or inspect.getattr_static(kind, name) is not method
    )
