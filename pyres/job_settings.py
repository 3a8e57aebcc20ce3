"""The settings of a job: the attributes of its class that pyres reads, and their valid values."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from numbers import Integral, Real
from typing import Any, NamedTuple

from pyres.exceptions import BadOptionError


class Setting(NamedTuple):
    """A description of a setting's valid values, and whether a value is valid."""

    expected: str
    accepts: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_seconds(value: Any) -> bool:
    # `timeout = False` is a common way to switch off the setting of a base class.
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

#: None means "not set" for every setting.
SETTINGS = {
    "timeout": Setting("a number of seconds, 0 or more", _is_timeout),
    "retry_every": _SECONDS,
    "retry_timeout": _SECONDS,
    "retry_limit": Setting("an integer; one below 0 means no limit", _is_count),
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
    """Raises BadOptionError for an invalid value of a setting; `job` is the name of its class."""
    expected, accepts = SETTINGS[setting]
    if value is not None and not accepts(value):
        prefix = f"{job}: " if job else ""
        raise BadOptionError(f"{prefix}invalid {setting} {value!r}: expected {expected}")


def check_all(target: Any) -> None:
    """check() of every setting that a class or function has."""
    for setting in SETTINGS:
        check(setting, getattr(target, setting, None))


def check_known(option: str, others: Iterable[str]) -> None:
    """Raises BadOptionError, with a hint, for an option not among the settings and `others`."""
    known = [*SETTINGS, *others]
    if option in known:
        return
    similar = difflib.get_close_matches(option, known, n=1)
    hint = f"did you mean {similar[0]!r}?" if similar else f"expected one of {', '.join(known)}"
    raise BadOptionError(f"invalid option {option!r} of @job: {hint}")
