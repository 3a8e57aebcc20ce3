"""From a dotted name in a payload to the class or function that it names, and back.

safe_str_to_class() imports the module if needed and raises ClassNotFoundError; str_to_class() is
the same with None instead. loaded() imports nothing. registered() knows only @job(name=...).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from pyres import main_module, not_found
from pyres.exceptions import ClassNotFoundError, NotAJobError, NotAllowedError
from pyres.wrappers import wrapped_by

#: Characters of an object that an error shows.
MAX_SHOWN_CHARS = 200

#: The classes and functions with @job(name=...), by that name.
_registered: dict[str, Any] = {}


def register(name: str, target: Any) -> None:
    """Register a class or function under a name on the wire; the last one wins."""
    _registered[name] = target


def registered(name: str) -> Any:
    """The class or function registered under this name, or None."""
    return _registered.get(name)


def wire_name(target: Any) -> str | None:
    """The name that @job(name=...) set on this class or function itself, or None."""
    name = vars(target).get("wire_name") if hasattr(target, "__dict__") else None
    return str(name) if name else None


def name_of(target: Any) -> str:
    """The name on the wire: that of @job(name=...), else `module.Name`.

    For a script that runs as `__main__` the module is the name under which others import it. Raises
    NotAJobError for what has no such name.
    """
    return wire_name(target) or dotted_name(target)


def dotted_name(target: Any) -> str:
    """`module.Name` of a class or function. Raises NotAJobError for what has no such name."""
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    if not (isinstance(module, str) and isinstance(name, str)):
        raise NotAJobError(
            f"invalid job {repr(target)[:MAX_SHOWN_CHARS]}: expected a class with perform(), "
            "a function with @job, or the dotted name of one"
        )
    if module in main_module.NAMES:
        module = main_module.importable_name() or "__main__"
    return f"{module}.{name}"


def my_import(name: str) -> ModuleType:
    """Import `a.b.c` and return the module `a.b.c`."""
    return importlib.import_module(name)


def str_to_class(s: str) -> Any:
    """safe_str_to_class(), but None instead of an ImportError."""
    try:
        return safe_str_to_class(s)
    except ImportError:
        return None


#: Cache of the module and attribute that a payload's class led to: a minion loads the same few
#: classes all the time. The attribute is read each time, since the module may replace the class.
_places: dict[str, tuple[str, str]] = {}
MAX_PLACES = 1000


def safe_str_to_class(s: str) -> Any:
    """The class or function that `module.Name`, `module.Outer.Inner` or Ruby's `A::B` names.

    A bare `Name` means the class `Name` in the module `Name`, for jobs that Ruby enqueued. Raises
    ClassNotFoundError, an ImportError, if it does not exist; an error that the module raises on
    import is passed on unchanged.
    """
    if isinstance(s, str) and (target := _cached(s)) is not None:
        return target
    parts = s.replace("::", ".").split(".") if isinstance(s, str) else [""]
    # A leading dot would be a relative import, and there is nothing to be relative to.
    if not all(parts):
        raise ClassNotFoundError(f"invalid class name {s!r}: expected 'module.Class'")
    if len(parts) == 1:
        parts = [*parts, *parts]
    # The longest prefix that is a module; the rest are its attributes.
    for length in range(len(parts) - 1, 0, -1):
        module = _module(".".join(parts[:length]))
        if module is not None:
            if length == len(parts) - 1 and len(_places) < MAX_PLACES:
                _places[s] = module.__name__, parts[-1]
            return _cached(s) if s in _registered else _attribute(module, parts[length:], s)
    raise ClassNotFoundError(not_found.no_module(s, parts[0]))


def _cached(name: str) -> Any:
    """The class registered under a name, or the one at the cached place of the name, or None."""
    if name in _registered:
        return _outermost(_registered[name])
    module, attribute = _places.get(name, ("", ""))
    return getattr(sys.modules.get(module), attribute, None) if module else None


def _outermost(target: Any) -> Any:
    """The object in the target's module that decorators above @job made of it; the target itself
    if there is none.
    """
    module = sys.modules.get(getattr(target, "__module__", None) or "")
    current = getattr(module, getattr(target, "__name__", ""), None)
    return current if any(inner is target for inner in wrapped_by(current)) else target


def loaded(name: str) -> Any:
    """The class or function of this name if its module is imported already, else None."""
    if name in _registered:
        return _outermost(_registered[name])
    module = main_module.module_named(name.replace("::", ".").rpartition(".")[0])
    return None if module is None else getattr(module, name.rpartition(".")[2], None)


def queue_of(name: Any) -> str | None:
    """The queue of the class of this name, if its module is imported already."""
    queue = getattr(loaded(name), "queue", None) if isinstance(name, str) else None
    return queue if isinstance(queue, str) and queue else None


def _module(name: str) -> ModuleType | None:
    module = main_module.module_named(name)
    if module is not None:
        return module
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # None only if this module (or a parent package) is missing; else the module exists, and
        # something that it imports is missing.
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        raise


def _attribute(module: ModuleType, names: list[str], whole: str) -> Any:
    owner: Any = module
    for name in names:
        if not hasattr(owner, name):
            raise ClassNotFoundError(not_found.no_attribute(whole, module, owner, name))
        owner = getattr(owner, name)
    return owner


class Allowed:
    """The class names that payloads may contain: those under one of these dotted prefixes."""

    def __init__(self, prefixes: Iterable[str]) -> None:
        self.prefixes = [prefix.rstrip(".") for prefix in prefixes]

    def load(self, name: str) -> Any:
        """safe_str_to_class(), if the name is allowed; else NotAllowedError, before any import."""
        self._check(name, name)
        target = safe_str_to_class(name)
        if registered(name) is None:
            # `app.jobs.os.system` has an allowed prefix, but is a function of another module.
            self._check(
                f"{getattr(target, '__module__', None)}.{getattr(target, '__qualname__', '')}", name
            )
        return target

    def _check(self, name: Any, shown: Any) -> None:
        if not any(map(self._covers, _spellings(str(name).replace("::", ".")))):
            raise NotAllowedError(
                f"{shown!r} is not under any of the allowed {', '.join(self.prefixes)}"
            )

    def _covers(self, dotted: str) -> bool:
        return any(dotted == prefix or dotted.startswith(f"{prefix}.") for prefix in self.prefixes)


def _spellings(dotted: str) -> list[str]:
    """A dotted name, and for the main script its other name, with or without `__main__`."""
    script = main_module.importable_name()
    module, _, rest = dotted.partition(".")
    if script and module in main_module.NAMES:
        return [dotted, f"{script}.{rest}"]
    if script and dotted.startswith(f"{script}."):
        return [dotted, f"__main__.{dotted.removeprefix(f'{script}.')}"]
    return [dotted]
