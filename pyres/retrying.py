"""Whether a failed job is tried again, and when: pyres 1.5's attributes and resque-retry's."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

#: Any of these attributes on a class selects resque-retry's way of retrying.
RESQUE_RETRY = (
    "retry_limit",
    "retry_delay",
    "backoff_strategy",
    "retry_exceptions",
    "retry_jitter",
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """The facts about a job that has just failed. Times are epoch seconds."""

    error: BaseException
    retried: int
    first: float
    now: float


def delay(target: Any, attempt: Attempt) -> float | None:
    """Seconds until the job of this class is to be retried; None when it has failed for good.

    `retry_every` (seconds) with `retry_timeout` (seconds since the first attempt; none: no limit)
    are pyres 1.5's. `retry_limit`, `retry_delay`, `backoff_strategy` (a list of seconds),
    `retry_exceptions`, `fatal_exceptions` and `retry_jitter` (the most seconds to add at random)
    are resque-retry's.
    """
    if _is(attempt.error, getattr(target, "fatal_exceptions", None)):
        return None
    retried = getattr(target, "retry_exceptions", None)
    if retried is not None and not _is(attempt.error, retried):
        return None
    every = getattr(target, "retry_every", None)
    if every:
        return _every(target, float(every), attempt)
    if any(getattr(target, name, None) is not None for name in RESQUE_RETRY):
        return _limited(target, attempt)
    return None


def is_retried(target: Any) -> bool:
    """Whether failed jobs of this class are retried at all."""
    names = ("retry_every", *RESQUE_RETRY)
    return any(getattr(target, name, None) is not None for name in names)


def longest_delay(target: Any) -> float:
    """The most seconds that a job of this class waits for a retry."""
    names = ("retry_every", "retry_delay")
    delays = [float(getattr(target, name, None) or 0) for name in names]
    strategy = map(float, getattr(target, "backoff_strategy", None) or ())
    return max(*delays, *strategy) + float(getattr(target, "retry_jitter", None) or 0)


def _every(target: Any, every: float, attempt: Attempt) -> float | None:
    timeout = getattr(target, "retry_timeout", None)
    limit = getattr(target, "retry_limit", None)
    if limit is not None and attempt.retried >= limit:
        return None
    if timeout and attempt.now + every >= attempt.first + timeout:
        return None
    return every + _jitter(target)


def _limited(target: Any, attempt: Attempt) -> float | None:
    strategy = list(getattr(target, "backoff_strategy", None) or ())
    limit = getattr(target, "retry_limit", None)
    if limit is None:
        # resque-retry's defaults: as many times as the strategy has delays, else once.
        limit = len(strategy) or 1
    # A negative limit means "no limit" in resque-retry.
    if 0 <= limit <= attempt.retried:
        return None
    if strategy:
        return float(strategy[min(attempt.retried, len(strategy) - 1)]) + _jitter(target)
    return float(getattr(target, "retry_delay", None) or 0) + _jitter(target)


def _jitter(target: Any) -> float:
    return random.uniform(0, float(getattr(target, "retry_jitter", None) or 0))


def _is(error: BaseException, kinds: Any) -> bool:
    """Whether the error is one of these: a class, or a tuple, list or set of classes."""
    if kinds is None:
        return False
    return isinstance(error, kinds if isinstance(kinds, type) else tuple(kinds))
