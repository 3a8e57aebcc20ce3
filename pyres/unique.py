"""Jobs of which one is enough: `unique_for` seconds, and `unique_until` "start" or "done".

A second enqueue of the same class and arguments is dropped while the claim of the first stands. The
claim is a key with a deadline, so that nothing that dies can block a job for ever.
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

#: JSON that all write alike. Not so: blanks, exponents, floats without a fraction, numbers of
#: 16 digits, keys that JavaScript sorts, escapes, and what Rails escapes.
_SPELT_ALIKE = re.compile(
    r"""(?: [^"\d\s]
          | (?! "\d+": ) " (?: [^"\\<>&\u2028\u2029] | \\ [^u/] )*+ "
          | \d{1,15}+ (?! [\d.eE] )
          | \d++ \. (?! 0\b ) \d++ (?! [eE] )
        )*+""",
    re.VERBOSE | re.ASCII,
)


class UniqueLock(NamedTuple):
    """What unique_push and its like want: which job, the claim's text, and milliseconds."""

    digest: str
    text: str
    ms: int


def lock_for(
    target: Any, name: str, args: Sequence[Any], now: float, wait: float = 0
) -> UniqueLock | None:
    """The claim for a job that waits `wait` seconds first; None where any number of it may be.

    Raises BadOptionError for a unique_for or unique_until that cannot be used.
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
    """How far a job of the class must come for its claim to end before the deadline, or ""."""
    stage = getattr(target, "unique_until", None) or ""
    job_settings.check("unique_until", stage, name)
    return str(stage)


def job(queue: str, raw: bytes, due: int | None = None) -> UniqueJob:
    """What a lock keeps of its payload, to see later whether it is still there."""
    text = raw.decode("utf-8", "surrogateescape")
    spans = {member.key: member for member in members(text)}
    name, args = spans["class"], spans["args"]
    respelt = _SPELT_ALIKE.fullmatch(text, args.start, args.end) is None
    name_span = _trimmed(text, name.value_start, name.value_end)
    places = (_span(text, *name_span), _span(text, args.start, args.end))
    return UniqueJob(queue, raw, *places, due, respelt)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without the blanks at both ends."""
    part = text[start:end]
    return end - len(part.lstrip()), start + len(part.rstrip())


def _span(text: str, start: int, end: int) -> str:
    """The indexes from 1 of the first and last byte of a part of a text."""
    sizes = (len(text[:at].encode("utf-8", "surrogateescape")) for at in (start, end))
    first, last = sizes
    return f"{first + 1} {last}"
