"""The size of a pool, decided from what is seen and an explicit clock."""

from __future__ import annotations

import pytest

from pyres.horde import Khan
from pyres.scaling import GROW_PAUSE, LoadSample, Scale


def grown(scale: Scale, looks: list[tuple[float, LoadSample]], size: int) -> list[int]:
    """The sizes after each of these samples, of a pool that does what the autoscaler decides."""
    sizes = []
    for now, look in looks:
        size = scale.size(size, look, now)
        sizes.append(size)
    return sizes


def test_a_pool_grows_while_jobs_wait_longer_than_they_may() -> None:
    scale = Scale(2, 16, wait=5)
    # Ten jobs a second are done, and a hundred wait: ten seconds for the last one.
    looks = [(t, LoadSample(waiting=100, finished=int(10 * t), idle=0)) for t in (0.0, 1, 2, 3)]

    assert grown(scale, looks, 2)[-1] > 2


def test_a_pool_does_not_grow_for_jobs_that_are_soon_done() -> None:
    scale = Scale(2, 16, wait=5)
    looks = [(float(t), LoadSample(waiting=100, finished=100 * t, idle=0)) for t in range(20)]

    assert set(grown(scale, looks, 2)) == {2}


def test_a_pool_whose_jobs_never_end_grows_when_others_have_waited_long_enough() -> None:
    scale = Scale(1, 4, wait=5)
    looks = [(t, LoadSample(waiting=1, finished=0, idle=0)) for t in (0.0, 4.9, 5.1)]

    assert grown(scale, looks, 1) == [1, 1, 2]


def test_a_pool_grows_to_its_most_and_no_further_and_pauses_between() -> None:
    scale = Scale(1, 5, wait=1)
    looks = [(t / 10, LoadSample(waiting=1000, finished=t, idle=0)) for t in range(300)]

    sizes = grown(scale, looks, 1)

    assert sizes[-1] == 5
    steps = [n for n in range(1, 300) if sizes[n] != sizes[n - 1]]
    assert all((b - a) / 10 >= GROW_PAUSE for a, b in zip(steps, steps[1:], strict=False))


def test_a_pool_with_idle_minions_does_not_grow() -> None:
    """They have just been started, or are paused: more of them would not help."""
    scale = Scale(2, 16, wait=5)
    looks = [(float(t), LoadSample(waiting=1000, finished=0, idle=1)) for t in range(30)]

    assert set(grown(scale, looks, 4)) == {4}


def test_a_pool_shrinks_by_those_that_were_idle_all_the_time() -> None:
    scale = Scale(2, 16, calm=30)
    looks = [(0.0, LoadSample(0, 0, 9)), (10.0, LoadSample(0, 50, 4)), (29.0, LoadSample(0, 60, 8))]

    assert grown(scale, looks, 10) == [10, 10, 10]
    assert scale.size(10, LoadSample(0, 60, 9), 31.0) == 6


def test_a_pool_never_shrinks_below_its_least() -> None:
    scale = Scale(3, 16, calm=30)

    assert grown(scale, [(0.0, LoadSample(0, 0, 8)), (31.0, LoadSample(0, 0, 8))], 8)[-1] == 3


def test_a_waiting_job_restarts_the_scale_down_delay() -> None:
    scale = Scale(2, 16, calm=30)
    looks = [(0.0, LoadSample(0, 0, 5)), (29.0, LoadSample(1, 0, 5)), (31.0, LoadSample(0, 1, 5))]

    assert set(grown(scale, looks, 8)) == {8}


def test_a_size_set_by_an_operator_extends_the_range() -> None:
    scale = Scale(2, 4)

    scale.include(7)

    assert (scale.least, scale.most) == (2, 7)


def test_a_fixed_size_changed_by_an_operator_stays_fixed() -> None:
    scale = Scale(2, 2)

    scale.include(3)

    assert (scale.least, scale.most) == (3, 3)


@pytest.mark.parametrize("size", ["2..", "..4", "a..b", "2...4", "many", None])
def test_an_invalid_pool_size_is_an_error_that_names_it(size: object) -> None:
    with pytest.raises(ValueError, match="invalid pool size"):
        Khan(size, ["basic"])  # type: ignore[arg-type]


def test_a_range_of_sizes_has_its_smaller_end_first() -> None:
    with pytest.raises(ValueError, match=r"invalid pool size '4\.\.2'"):
        Khan("4..2", ["basic"])
