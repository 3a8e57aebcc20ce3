"""The settings of a job: the attributes of its class that pyres reads, and what each may be."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from numbers import Integral, Real
from typing import Any, NamedTuple

from pyres.exceptions import BadOptionError


class Setting(NamedTuple):
    """What a setting is expected to be, and whether a value is that."""

    expected: str
    accepts: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_seconds(value: Any) -> bool:
    # Some write `timeout = False` to switch off what a base class says.
    return value is False or (_is_number(value) and value >= 0)


def _is_timeout(value: Any) -> bool:
    return _is_seconds(value) or value == math.inf


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_pauses(value: Any) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return False
    return all(map(_is_seconds, value))


def _is_exceptions(value: Any) -> bool:
    kinds = [value] if isinstance(value, type) else value
    if not isinstance(kinds, list | tuple | set | frozenset):
        return False
    return all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds)


def _is_duration(value: Any) -> bool:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    return _is_number(seconds) and seconds > 0


_SECONDS = Setting("a number of seconds, 0 or more", _is_seconds)
_EXCEPTIONS = Setting("an exception class, or a tuple, list or set of them", _is_exceptions)

#: None stands for a setting that is not set, everywhere.
SETTINGS = {
    "timeout": Setting("a number of seconds, 0 or more", _is_timeout),
    "retry_every": _SECONDS,
    "retry_timeout": _SECONDS,
    "retry_limit": Setting("a whole number; one below 0 means for ever", _is_count),
    "retry_delay": _SECONDS,
    "retry_jitter": _SECONDS,
    "backoff_strategy": Setting("a list of numbers of seconds, 0 or more", _is_pauses),
    "retry_exceptions": _EXCEPTIONS,
    "fatal_exceptions": _EXCEPTIONS,
    "retry_dirty_exit": Setting("True or False", lambda value: value in (True, False)),
    "unique_for": Setting("a number of seconds above 0, or a timedelta", _is_duration),
    "unique_until": Setting("'start' or 'done'", lambda value: value in ("", "start", "done")),
}


def check(setting: str, value: Any, job: str = "") -> None:
    """Raises BadOptionError for a value that the setting cannot have; `job` is whose it is."""
    expected, accepts = SETTINGS[setting]
    if value is not None and not accepts(value):
        whose = f"{job}: " if job else ""
        raise BadOptionError(f"{whose}invalid {setting} {value!r}: expected {expected}")


def check_all(target: Any) -> None:
    """check() of every setting that a class or function has."""
    for setting in SETTINGS:
        check(setting, getattr(target, setting, None))


def check_known(option: str, others: Iterable[str]) -> None:
    """Raises BadOptionError, with the name that was meant, for neither a setting nor another."""
    known = [*SETTINGS, *others]
    if option in known:
        return
    meant = difflib.get_close_matches(option, known, n=1)
    hint = f"did you mean {meant[0]!r}?" if meant else f"expected one of {', '.join(known)}"
    raise BadOptionError(f"invalid option {option!r} of @job: {hint}")
