"""Hooks are found by the identity of a class, whatever its hash and equality."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from pyres.hooks import hookless, hooks
from pyres.identity_cache import IdentityCache


class Unhashable(type):
    """As an ORM's metaclass: classes are compared by what they describe."""

    def __eq__(cls, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class AlwaysEqual(type):
    def __eq__(cls, other: object) -> bool:
        return True

    def __hash__(cls) -> int:
        return 1


def test_the_hooks_of_an_unhashable_class_are_found() -> None:
    class Job(metaclass=Unhashable):
        @staticmethod
        def before_perform_log(*args: Any) -> None: ...

    assert [hook.__name__ for hook in hooks(Job, "before_perform")] == ["before_perform_log"]
    assert not hookless(Job)


def test_classes_that_are_equal_keep_their_own_hooks() -> None:
    class Plain(metaclass=AlwaysEqual):
        pass

    class Hooked(metaclass=AlwaysEqual):
        @staticmethod
        def after_perform_log(*args: Any) -> None: ...

    assert hookless(Plain)
    assert not hookless(Hooked)
    assert hooks(Plain, "after_perform") == []
    assert len(hooks(Hooked, "after_perform")) == 1


def test_a_class_whose_hooks_were_read_can_be_collected() -> None:
    class Job:
        pass

    hooks(Job, "before_perform")
    hookless(Job)
    gone = weakref.ref(Job)
    del Job
    gc.collect()

    assert gone() is None


def test_what_is_kept_ends_with_its_object() -> None:
    cache: IdentityCache[str] = IdentityCache()
    keys = [type(f"Job{number}", (), {}) for number in range(100)]
    for key in keys:
        assert cache.keep(key, key.__name__) == key.__name__
    assert [cache.get(key) for key in keys] == [key.__name__ for key in keys]

    keys.clear()
    del key
    gc.collect()

    assert cache._entries == {}


def test_an_object_without_weak_references_is_not_kept() -> None:
    cache: IdentityCache[str] = IdentityCache()

    assert cache.keep(7, "seven") == "seven"
    assert cache.get(7) is None
