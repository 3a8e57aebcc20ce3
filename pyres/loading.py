"""From a dotted name in a payload to the class or function that it names, and back."""

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

#: What @job(name=...) gave a name of its own on the wire.
_registered: dict[str, Any] = {}


def register(name: str, target: Any) -> None:
    """Let a name on the wire lead to this class or function; the last one given wins."""
    _registered[name] = target


def registered(name: str) -> Any:
    """What register() was given for this name, or None."""
    return _registered.get(name)


def wire_name(target: Any) -> str | None:
    """The name that @job(name=...) gave exactly this class or function, or None."""
    name = vars(target).get("wire_name") if hasattr(target, "__dict__") else None
    return str(name) if name else None


def name_of(target: Any) -> str:
    """The name on the wire: what @job says, else `module.Name`.

    A script that runs as `__main__` goes by the name under which others import it. Raises
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
    """safe_str_to_class(), with None instead of an error."""
    try:
        return safe_str_to_class(s)
    except ImportError:
        return None


#: The module and the name in it that a payload's class has led to: a minion looks for the same few
#: classes again and again. Looked up in the module each time, so that it may be another one by now.
_places: dict[str, tuple[str, str]] = {}
MOST_PLACES = 1000


def safe_str_to_class(s: str) -> Any:
    """What `module.Name`, `module.Outer.Inner` or Ruby's `A::B` leads to.

    A bare `Name` means the class `Name` in the module `Name`, for jobs that Ruby queued. Raises
    ClassNotFoundError, an ImportError, when nothing is there; an error that a module raises while
    it is imported comes through as it is.
    """
    if isinstance(s, str) and (found := _known(s)) is not None:
        return found
    parts = s.replace("::", ".").split(".") if isinstance(s, str) else [""]
    # With a dot in front it would be a relative import, and there is nothing to be relative to.
    if not all(parts):
        raise ClassNotFoundError(f"{s!r} names no class; a job's class is named 'module.Class'")
    if len(parts) == 1:
        parts = [*parts, *parts]
    # The longest part that is a module; what follows are its attributes.
    for length in range(len(parts) - 1, 0, -1):
        module = _module(".".join(parts[:length]))
        if module is not None:
            if length == len(parts) - 1 and len(_places) < MOST_PLACES:
                _places[s] = module.__name__, parts[-1]
            return _known(s) if s in _registered else _attribute(module, parts[length:], s)
    raise ClassNotFoundError(not_found.no_module(s, parts[0]))


def _known(name: str) -> Any:
    """What is registered for a name, or stands where it was found the last time; else None."""
    if name in _registered:
        return _outermost(_registered[name])
    module, attribute = _places.get(name, ("", ""))
    return getattr(sys.modules.get(module), attribute, None) if module else None


def _outermost(target: Any) -> Any:
    """The function that decorators above @job made of this one, as its module holds it; itself
    where there is none.
    """
    module = sys.modules.get(getattr(target, "__module__", None) or "")
    found = getattr(module, getattr(target, "__name__", ""), None)
    return found if any(inner is target for inner in wrapped_by(found)) else target


def loaded(name: str) -> Any:
    """What a name leads to if no import is needed for that, else None."""
    if name in _registered:
        return _outermost(_registered[name])
    module = main_module.module_named(name.replace("::", ".").rpartition(".")[0])
    return None if module is None else getattr(module, name.rpartition(".")[2], None)


def queue_of(name: Any) -> str | None:
    """The queue that the class of this name is for, if no import is needed to know that."""
    queue = getattr(loaded(name), "queue", None) if isinstance(name, str) else None
    return queue if isinstance(queue, str) and queue else None


def _module(name: str) -> ModuleType | None:
    known = main_module.module_named(name)
    if known is not None:
        return known
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only when it is this very module (or one above it) that is missing; else the module is
        # there and what it imports is not.
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        raise


def _attribute(module: ModuleType, names: list[str], whole: str) -> Any:
    found: Any = module
    for name in names:
        if not hasattr(found, name):
            raise ClassNotFoundError(not_found.no_attribute(whole, module, found, name))
        found = getattr(found, name)
    return found


class Allowed:
    """The names that payloads may hold: everything under one of these dotted prefixes."""

    def __init__(self, prefixes: Iterable[str]) -> None:
        self.prefixes = [prefix.rstrip(".") for prefix in prefixes]

    def load(self, name: str) -> Any:
        """safe_str_to_class(), if the name is allowed; else NotAllowedError, before any import."""
        self._check(name, name)
        target = safe_str_to_class(name)
        if registered(name) is None:
            # `app.jobs.os.system` begins well and ends elsewhere.
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
    """A dotted name, and the other one that leads to the same where it is about `__main__`."""
    script = main_module.importable_name()
    module, _, rest = dotted.partition(".")
    if script and module in main_module.NAMES:
        return [dotted, f"{script}.{rest}"]
    if script and dotted.startswith(f"{script}."):
        return [dotted, f"__main__.{dotted.removeprefix(f'{script}.')}"]
    return [dotted]
