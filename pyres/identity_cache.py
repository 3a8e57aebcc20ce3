"""What was found out about an object, kept for as long as the object lives."""

from __future__ import annotations

import contextlib
import weakref
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class IdentityCache(Generic[T]):
    """A value for each object, found by identity: neither its hash nor its equality is asked.

    So an unhashable class is as good as any other, and a class that is gone leaves nothing behind.
    """

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Any], T]] = {}

    def get(self, target: Any) -> T | None:
        """What was kept for this object, or None."""
        entry = self._entries.get(id(target))
        return None if entry is None else entry[1]

    def keep(self, target: Any, value: T) -> T:
        """Keep a value for this object, and return it; not for one without weak references."""
        key = id(target)
        with contextlib.suppress(TypeError):
            # The entry is removed before the id can belong to another object.
            reference = weakref.ref(target, lambda _dead: self._entries.pop(key, None))
            self._entries[key] = reference, value
        return value
