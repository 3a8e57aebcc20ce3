"""Names that could be imported from pyres 1.5's modules, and where each of them is now."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

#: As in pyres.compat, without the warning at its import.
string_types = (str,)


def former_names(module: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's __getattr__ for these names: each is at `module:name`, or is that module.

    Each use emits a DeprecationWarning that names the place.
    """

    def getter(name: str) -> Any:
        place = places.get(name)
        if place is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(
            f"{module}.{name} is deprecated: use {place.replace(':', '.')}",
            DeprecationWarning,
            stacklevel=2,
        )
        module_name, _, attribute = place.partition(":")
        target = importlib.import_module(module_name)
        return getattr(target, attribute) if attribute else target

    return getter
