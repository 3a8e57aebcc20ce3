"""A cache of values by object, each kept for as long as the object exists."""

from __future__ import annotations

import contextlib
import weakref
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class IdentityCache(Generic[T]):
    """A value for each object by its identity, without its hash or equality: so for unhashable
    classes too. The value is removed with the object.
    """

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Any], T]] = {}

    def get(self, target: Any) -> T | None:
        """The value for this object, or None."""
        entry = self._entries.get(id(target))
        return None if entry is None else entry[1]

    def keep(self, target: Any, value: T) -> T:
        """Store a value for this object, and return it; an object without support for weak
        references is not stored.
        """
        key = id(target)
        with contextlib.suppress(TypeError):
            # The entry is removed before the id can be reused for another object.
            reference = weakref.ref(target, lambda _dead: self._entries.pop(key, None))
            self._entries[key] = reference, value
        return value
