"""first, last and times of a recurring job, as rufus-scheduler has them."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from pyres.exceptions import BadScheduleError
from pyres.schedule import Entry
from pyres.timing import NEVER, Every

NOW = 1_800_000_000  # 2027-01-15 08:00:00 UTC


EACH_NINE = [3600 + 86400 * day for day in range(5)]


def moments(config, begun=NOW, count=5):
    """The first moments of an entry that is first followed at `begun`."""
    entry = Entry.read("a", config)
    timing = entry.timing
    if isinstance(timing, Every):
        first = entry.limits.first
        timing = timing.with_anchor(first.seconds if first else timing.first_anchor(begun))
    bounded, found, second = entry.limits.bound(timing, begun), [], begun
    while len(found) < count and (second := bounded.next_after(second)) != NEVER:
        found.append(second - begun)
        assert bounded.latest(second - 1, second) == second
    assert bounded.latest(begun, second) == (found[-1] + begun if found else None)
    return found


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"every": ["2s", {"first_at": NOW_TEXT}]}, [7, 9, 11, 13, 15])
        for NOW_TEXT in (
            "2027-01-15 08:00:07 UTC",
            "2027-01-15 09:00:07 +0100",
            "2027-01-15T08:00:07Z",
            "2027-01-15 17:00:07 Asia/Tokyo",
            datetime(2027, 1, 15, 8, 0, 7),
            datetime(2027, 1, 15, 8, 0, 7, tzinfo=UTC),
        )
    ]
    + [
        ({"every": ["2s", {"first_at": "2027-01-15 07:59:59 UTC"}]}, [1, 3, 5, 7, 9]),
        ({"every": ["2s", {"first_in": "5s"}]}, [5, 7, 9, 11, 13]),
        ({"every": ["2s", {"first": 5, "last": "8s"}]}, [5, 7]),
        ({"every": ["2s", {"last_in": "6s"}]}, [2, 4]),
        ({"every": ["2s", {"last_at": "2027-01-15 08:00:05 UTC"}]}, [2, 4]),
        ({"every": ["2s", {"last_at": "2027-01-15 07:00:00 UTC"}]}, []),
        ({"every": ["2s", {"last_at": "2027-01-01"}]}, []),
        ({"every": ["2s", {"first_in": "1.5", "last_in": "4.0"}]}, [1, 3]),
        ({"every": ["1m", {"first": ":now"}]}, [60, 120, 180, 240, 300]),
        ({"cron": ["* * * * * UTC", {"first_in": "70s"}]}, [70, 120, 180, 240, 300]),
        ({"cron": ["* * * * * UTC", {"first_in": "70s", "last_in": "4m"}]}, [70, 120, 180]),
        ({"cron": ["* * * * * UTC", {"last_at": "2027-01-15 08:02:00 UTC"}]}, [60]),
        ({"cron": ["0 9 * * * UTC", {"first_at": date(2027, 1, 14)}]}, EACH_NINE),
        ({"cron": ["* * * * * UTC", None, {"last_in": "1s"}]}, [60, 120, 180, 240, 300]),
    ],
)  # fmt: skip
def test_an_entry_has_no_moments_before_its_first_and_from_its_last_on(config, expected):
    assert moments(config) == expected


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"times": "2"}, "invalid times '2': expected a whole number"),
        ({"times": True}, "invalid times True"),
        ({"times": 1.5}, r"invalid times 1\.5"),
        ({"last_in": "soon"}, "invalid last_in 'soon': expected a time like"),
        ({"first_at": "2027-13-01"}, "invalid first_at '2027-13-01'"),
        ({"last_at": []}, r"invalid last_at \[\]"),
        ({"first_in": "-5s"}, "invalid first_in '-5s'"),
    ],
)
@pytest.mark.parametrize("timing", [{"every": "2s"}, {"cron": "* * * * *"}], ids=list)
def test_a_limit_that_cannot_be_read_is_refused(timing, options, complaint):
    ((kind, text),) = timing.items()

    with pytest.raises(BadScheduleError, match=f"'a' is left out: {complaint}"):
        Entry.read("a", {kind: [text, options]})


def test_an_entry_describes_its_limits():
    entry = Entry.read("a", {"every": ["2s", {":last_in": "5s", "times": 2, "overlap": False}]})

    assert entry.when == "every 2 s (last_in 5s, times 2)"


@pytest.mark.parametrize("config", [{"cron": ""}, {"cron": None}, {"cron": [""]}])
def test_an_empty_cron_is_ignored_beside_every(config):
    assert str(Entry.read("a", {"every": "2s", **config}).timing) == "every 2 s"
