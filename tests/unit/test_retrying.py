"""Whether a failed job is tried again, and after how many seconds."""

from __future__ import annotations

import pytest

from pyres.retrying import Attempt, delay

ERROR = ValueError("no")


def job(**attributes: object) -> type:
    return type("AJob", (), attributes)


def after(seconds: float = 0, retried: int = 0, error: BaseException = ERROR) -> Attempt:
    """An attempt N seconds after the first, which was at 1000."""
    return Attempt(error, retried, 1000.0, 1000.0 + seconds)


def test_a_class_without_retry_settings_is_not_retried():
    assert delay(job(), after()) is None
    assert delay(job(retry_every=None, retry_timeout=30), after()) is None


# pyres 1.5 never retried with retry_every but no retry_timeout


def test_retry_every_without_a_timeout_has_no_end():
    assert delay(job(retry_every=5), after(10**6, retried=1000)) == 5


@pytest.mark.parametrize("timeout", [None, 0])
def test_a_timeout_of_zero_is_no_timeout(timeout):
    assert delay(job(retry_every=5, retry_timeout=timeout), after(100)) == 5


@pytest.mark.parametrize(("passed", "wanted"), [(0, 5), (24.9, 5), (25, None), (31, None)])
def test_the_last_retry_is_the_last_that_falls_before_the_timeout(passed, wanted):
    assert delay(job(retry_every=5, retry_timeout=30), after(passed)) == wanted


def test_retry_every_may_have_a_limit_too():
    assert delay(job(retry_every=5, retry_limit=2), after(retried=1)) == 5
    assert delay(job(retry_every=5, retry_limit=2), after(retried=2)) is None


def test_retry_every_may_be_a_fraction():
    assert delay(job(retry_every=0.5), after()) == 0.5


# resque-retry's


def test_a_limit_alone_retries_at_once_so_many_times():
    assert [delay(job(retry_limit=2), after(retried=n)) for n in range(3)] == [0, 0, None]


def test_a_delay_alone_retries_once():
    assert [delay(job(retry_delay=7), after(retried=n)) for n in range(2)] == [7, None]


def test_a_negative_limit_is_for_ever():
    assert delay(job(retry_limit=-1, retry_delay=3), after(retried=10**6)) == 3


def test_a_limit_of_nought_is_never():
    assert delay(job(retry_limit=0, retry_delay=3), after()) is None


def test_a_strategy_is_walked_through_and_its_length_is_the_limit():
    target = job(backoff_strategy=[1, 10, 100])
    assert [delay(target, after(retried=n)) for n in range(4)] == [1, 10, 100, None]


def test_the_last_of_a_strategy_is_kept_up_to_the_limit():
    target = job(backoff_strategy=[1, 10], retry_limit=4)
    assert [delay(target, after(retried=n)) for n in range(5)] == [1, 10, 10, 10, None]


def test_a_jitter_adds_up_to_so_many_seconds():
    waits = [delay(job(retry_every=10, retry_jitter=2), after()) for _ in range(200)]
    assert all(10 <= wait <= 12 for wait in waits if wait is not None)
    assert len(set(waits)) > 1


@pytest.mark.parametrize("kinds", [ValueError, (ValueError, OSError), [ValueError], {ValueError}])
def test_only_the_named_errors_are_tried_again(kinds):
    target = job(retry_exceptions=kinds, retry_delay=1)
    assert delay(target, after()) == 1
    assert delay(target, after(error=KeyError("x"))) is None
    assert delay(target, after(error=UnicodeError())) == 1


def test_named_errors_narrow_retry_every_too():
    assert delay(job(retry_every=5, retry_exceptions=(OSError,)), after()) is None


def test_a_fatal_error_is_never_tried_again():
    target = job(retry_every=5, fatal_exceptions=(ValueError,), retry_exceptions=Exception)
    assert delay(target, after()) is None
    assert delay(target, after(error=OSError())) == 5
