"""Whether a worker can find and perform a job: checked before it is enqueued."""

from __future__ import annotations

import inspect
import logging
import sys
from typing import Any

from pyres import calling, loading, main_module
from pyres.exceptions import NotAJobError
from pyres.identity_cache import IdentityCache
from pyres.wrappers import wrapped_by

logger = logging.getLogger(__name__)

_checked: IdentityCache[bool] = IdentityCache()
_warned: IdentityCache[bool] = IdentityCache()
_NOTHING = object()


def check(target: Any) -> None:
    """Raises NotAJobError for a class or function that no worker can find by name and perform.

    Checked once for each object. For a job in a script that no other process can import it logs a
    warning.
    """
    if _checked.get(target):
        return
    check_place(target)
    check_perform(target)
    check_runs(target)
    if not loading.wire_name(target) and (other := _other_object(target)) is not _NOTHING:
        shown = repr(other)[: loading.MAX_SHOWN_CHARS]
        raise _refused(target, f"expected the object of this name, which is now {shown}")
    warn_of_main(target)
    _checked.keep(target, True)


def check_place(target: Any) -> None:
    """Raises NotAJobError for what cannot be found by its name: a nested function, a method."""
    name = loading.name_of(target)
    if inspect.ismethod(target):
        raise _refused(target, "expected the class, or a function of a module, not a bound method")
    # With @job(name=...) it can be found wherever it is defined.
    if not loading.wire_name(target) and is_nested(name):
        raise _refused(
            target,
            "expected a class or function at the top of a module; no worker can find one that is "
            "defined inside a function",
        )


def check_perform(target: Any) -> None:
    """Raises NotAJobError for a class without perform(), and for a function without @job."""
    if not callable(getattr(target, "perform", None)):
        expected = "a class with perform()" if inspect.isclass(target) else "a function with @job"
        raise _refused(target, f"expected {expected}")


def check_runs(target: Any) -> None:
    """Raises NotAJobError for a generator: calling it runs none of its code. Not called by @job,
    where an error would make the import of the module fail, with all its jobs.
    """
    if calling.is_generator(calling.entry_point(target)):
        raise _refused(target, "expected a function that runs when it is called, not a generator")


def check_text(name: Any) -> str:
    """The name of a class that need not exist here, as Python or Ruby spells it.

    Raises NotAJobError for an invalid one: not a str, empty, with blanks or an empty part.
    """
    if isinstance(name, str) and (_is_spelt_well(name) or loading.registered(name) is not None):
        return name
    raise NotAJobError(
        f"invalid job {repr(name)[: loading.MAX_SHOWN_CHARS]}: expected a dotted name such as "
        "'app.jobs.Mail', or Ruby's 'App::Mail'"
    )


def is_nested(name: str) -> bool:
    """Whether a dotted name passes through a function: `f.<locals>.g`, `<lambda>`."""
    return "<" in name


def warn_of_main(target: Any) -> None:
    """Log once for each class that it is in a script that no other process can import."""
    name = loading.name_of(target)
    if name.partition(".")[0] not in main_module.NAMES or _warned.get(target):
        return
    _warned.keep(target, True)
    logger.warning(
        "%s can be performed only by this process: other processes cannot import what runs as "
        "__main__ here; move it into a module that the worker can import",
        name,
    )


def _is_spelt_well(name: str) -> bool:
    parts = name.replace("::", ".").split(".")
    printable = name.isprintable() and not any(char.isspace() for char in name)
    return all(parts) and printable and not is_nested(name)


def _other_object(target: Any) -> Any:
    """The object that its module has under its name, if it is another one.

    None there does not prove an error: perhaps the module is not, or only partly, imported.
    """
    current: Any = sys.modules.get(target.__module__, _NOTHING)
    for name in target.__qualname__.split("."):
        current = getattr(current, name, _NOTHING)
    return _NOTHING if _is_around(current, target) else current


def _is_around(wrapper: Any, target: Any) -> bool:
    """Whether `wrapper` is the target, has it as perform(), or was made from it by a decorator."""
    layers = (wrapper, *wrapped_by(wrapper))
    return any(layer is target or getattr(layer, "perform", None) is target for layer in layers)


def _refused(target: Any, expected: str) -> NotAJobError:
    shown = loading.name_of(target)
    return NotAJobError(f"invalid job {shown}: {expected}")
