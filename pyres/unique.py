"""Jobs of which one is enough: `unique_for` seconds, and `unique_until` "start" or "done".

A second enqueue of the same class and arguments is dropped while the claim of the first stands. The
claim is a key with a deadline, so that nothing that dies can block a job for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from pyres import job_settings
from pyres.json_equality import digest


class Claim(NamedTuple):
    """What unique_push and its like want: which job, the claim's text, and milliseconds."""

    digest: str
    text: str
    ms: int


def claim(target: Any, name: str, args: Sequence[Any], now: float, wait: float = 0) -> Claim | None:
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
    return Claim(digest(name, args), f"{stage_of(target, name)}:{now!r}", ms)


def stage_of(target: Any, name: str) -> str:
    """How far a job of the class must come for its claim to end before the deadline, or ""."""
    stage = getattr(target, "unique_until", None) or ""
    job_settings.check("unique_until", stage, name)
    return str(stage)
