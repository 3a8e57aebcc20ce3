"""Unique jobs: `unique_for` seconds, and `unique_until` "start" or "done".

A duplicate, of the same class and arguments, is skipped while the first job has the unique lock.
The lock is a key with an expiry, so that a process that dies cannot block a job for ever.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from pyres import job_settings
from pyres.json_equality import digest
from pyres.json_spans import members
from pyres.store import UniqueJob

#: JSON that Python, Ruby and JavaScript write alike. Not so: blanks, exponents, floats without a
#: fraction, numbers of 16 digits, keys that JavaScript sorts, escapes, and what Rails escapes.
_SPELT_ALIKE = re.compile(
    r"""(?: [^"\d\s]
          | (?! "\d+": ) " (?: [^"\\<>&\u2028\u2029] | \\ [^u/] )*+ "
          | \d{1,15}+ (?! [\d.eE] )
          | \d++ \. (?! 0\b ) \d++ (?! [eE] )
        )*+""",
    re.VERBOSE | re.ASCII,
)


class UniqueLock(NamedTuple):
    """A unique lock as the scripts take it: the job's digest, the lock's value, its ms to live."""

    digest: str
    text: str
    ms: int


def lock_for(
    target: Any, name: str, args: Sequence[Any], now: float, wait: float = 0
) -> UniqueLock | None:
    """The lock for a job that is delayed `wait` seconds; None for a class that is not unique.

    Raises BadOptionError for an invalid unique_for or unique_until.
    """
    seconds = getattr(target, "unique_for", None)
    if seconds is None:
        return None
    job_settings.check("unique_for", seconds, name)
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    ms = max(1, round((seconds + max(0.0, wait)) * 1000))
    return UniqueLock(digest(name, args), f"{stage_of(target, name)}:{now!r}", ms)


def stage_of(target: Any, name: str) -> str:
    """The stage at which a job of the class releases its lock, or "" if the lock only expires."""
    stage = getattr(target, "unique_until", None) or ""
    job_settings.check("unique_until", stage, name)
    return str(stage)


def job(queue: str, raw: bytes, due: int | None = None) -> UniqueJob:
    """What is stored with a lock, to check later whether its job is still in Redis."""
    text = raw.decode("utf-8", "surrogateescape")
    spans = {member.key: member for member in members(text)}
    name, args = spans["class"], spans["args"]
    respelt = _SPELT_ALIKE.fullmatch(text, args.start, args.end) is None
    name_span = _trimmed(text, name.value_start, name.value_end)
    places = (_span(text, *name_span), _span(text, args.start, args.end))
    return UniqueJob(queue, raw, *places, due, respelt)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without the white space at both ends."""
    part = text[start:end]
    return end - len(part.lstrip()), start + len(part.rstrip())


def _span(text: str, start: int, end: int) -> str:
    """The 1-based indexes of the first and last byte of a part of a text."""
    sizes = (len(text[:at].encode("utf-8", "surrogateescape")) for at in (start, end))
    first, last = sizes
    return f"{first + 1} {last}"
