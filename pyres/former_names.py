"""Names that pyres 1.5's modules had besides their own, and where each of them is now."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

#: As in pyres.compat, without the warning that its import gives.
string_types = (str,)


def former_names(module: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's __getattr__ for these names: each is at `module:name`, or is that module.

    Who asks for one gets it with a DeprecationWarning that names its place.
    """

    def getter(name: str) -> Any:
        place = places.get(name)
        if place is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(
            f"{module}.{name} is kept for pyres 1.5's users; it is {place.replace(':', '.')}",
            DeprecationWarning,
            stacklevel=2,
        )
        home, _, attribute = place.partition(":")
        found = importlib.import_module(home)
        return getattr(found, attribute) if attribute else found

    return getter
