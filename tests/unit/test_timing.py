"""When what recurs is due, on good nights and on bad ones. The clock is an argument."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from pyres.exceptions import BadScheduleError
from pyres.timing import Cron, Every, duration

BERLIN = "Europe/Berlin"

#: Nights on which the clocks change: forward (2 to 3) and back (3 to 2) in Berlin, in New York, by
#: half an hour on Lord Howe; at midnight in Havana; and a day that Samoa left out.
FORWARD, BACK = "2026-03-29", "2026-10-25"


def at(text: str, zone: str = BERLIN, fold: int = 0) -> int:
    """The epoch second at which the clocks of a zone show this."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp())


def moments(cron: str, start: str, count: int, zone: str = BERLIN) -> list[str]:
    """The next moments after a time, as UTC's `day hour:minute`."""
    timing, second = Cron(cron, zone), at(start, zone)
    found = []
    for _ in range(count):
        second = timing.next_after(second)
        found.append(f"{datetime.fromtimestamp(second, UTC):%d %H:%M}")
    return found


def test_a_nightly_job_runs_at_its_hour_of_the_zone_in_winter_and_summer():
    assert moments("0 3 * * *", "2026-01-10 04:00", 2) == ["11 02:00", "12 02:00"]
    assert moments("0 3 * * *", "2026-07-10 04:00", 2) == ["11 01:00", "12 01:00"]


def test_an_hour_that_the_clocks_leave_out_comes_when_they_have_jumped():
    # There is no 2:30 on the 29th: at 3:00 summer time, which is 1:00 UTC, it is past.
    assert moments("30 2 * * *", f"{FORWARD} 00:00", 2) == ["29 01:00", "30 00:30"]


def test_an_hour_that_the_clocks_jump_to_comes_once():
    assert moments("0 3 * * *", f"{FORWARD} 00:00", 2) == ["29 01:00", "30 01:00"]
    assert moments("0 2,3 * * *", f"{FORWARD} 00:00", 2) == ["29 01:00", "30 00:00"]


def test_an_hour_that_comes_twice_fires_the_first_time_only():
    assert moments("30 2 * * *", f"{BACK} 00:00", 2) == ["25 00:30", "26 01:30"]


def test_one_that_starts_in_the_second_of_two_equal_hours_waits_for_the_next_day():
    timing = Cron("30 2 * * *", BERLIN)

    assert timing.next_after(at(f"{BACK} 02:10", fold=1)) == at("2026-10-26 02:30")


def test_every_quarter_of_an_hour_is_one_in_a_night_of_25_hours_and_in_one_of_23():
    back = moments("*/15 * * * *", f"{BACK} 01:45", 9)
    forward = moments("*/15 * * * *", f"{FORWARD} 01:45", 3)

    assert back == [
        f"25 {hour:02}:{minute:02}" for hour in (0, 1) for minute in (0, 15, 30, 45)
    ] + ["25 02:00"]
    assert forward == ["29 01:00", "29 01:15", "29 01:30"]


def test_an_hourly_job_has_no_moment_twice_and_leaves_none_out():
    assert moments("40 * * * *", f"{BACK} 01:50", 3) == ["25 00:40", "25 01:40", "25 02:40"]
    assert moments("40 * * * *", f"{FORWARD} 01:50", 2) == ["29 01:40", "29 02:40"]


@pytest.mark.parametrize(
    ("zone", "cron", "start", "first"),
    [
        ("America/New_York", "30 2 * * *", "2026-03-08 00:00", "08 07:00"),
        ("America/New_York", "30 1 * * *", "2026-11-01 00:00", "01 05:30"),
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-04 00:00", "03 15:30"),
        ("America/Havana", "30 0 * * *", "2026-03-07 12:00", "08 05:00"),
        ("Pacific/Apia", "0 12 30 12 *", "2011-12-29 23:00", "30 10:00"),
    ],
)
def test_other_zones_have_other_bad_nights(zone, cron, start, first):
    assert moments(cron, start, 1, zone) == [first]


def test_without_a_zone_it_is_the_time_of_this_machine(monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        found = Cron("30 2 * * *").next_after(at("2026-03-08 00:00", "America/New_York"))
        again = Cron("30 1 * * *").next_after(at("2026-11-01 01:31", "America/New_York"))
    finally:
        monkeypatch.undo()
        time.tzset()

    assert found == at("2026-03-08 03:00", "America/New_York")
    assert again == at("2026-11-02 01:30", "America/New_York")


def test_the_zone_may_stand_behind_the_fields():
    expected = at("2026-01-10 03:00")

    assert Cron(f"0 3 * * * {BERLIN}").next_after(at("2026-01-10 00:00")) == expected
    assert Cron(f"0 0 3 * * * {BERLIN}", "UTC").next_after(at("2026-01-10 00:00")) == expected
    assert Cron("0 3 * * mon").next_after(0)


def test_six_fields_begin_with_the_seconds():
    timing = Cron("*/20 * * * * *", "UTC")

    assert [timing.next_after(second) for second in (0, 19, 20, 59)] == [20, 20, 40, 60]


def test_a_word_stands_for_its_fields():
    assert Cron("@daily", "UTC").next_after(0) == 86400
    assert Cron("@hourly", "UTC").next_after(0) == 3600


def test_the_last_moment_that_was_missed_is_found_however_long_ago():
    yearly, often = Cron("0 0 1 1 *", "UTC"), Cron("* * * * * *", "UTC")
    now = at("2026-11-23 12:00", "UTC")

    assert yearly.latest(0, now) == at("2026-01-01 00:00", "UTC")
    assert often.latest(0, now) == now
    assert yearly.latest(now - 3600, now) is None


@pytest.mark.parametrize(
    ("cron", "complaint"),
    [
        ("61 * * * *", "'61 \\* \\* \\* \\*' means nothing"),
        ("* * *", "3 fields"),
        ("", "0 fields"),
        ("0 0 30 2 *", "means nothing"),
        ("0 3 * * * Europe/Berlim", "'Europe/Berlim' is no time zone"),
        ("sometimes", "1 fields"),
    ],
)
def test_a_cron_that_cannot_be_followed_says_why(cron, complaint):
    with pytest.raises(BadScheduleError, match=complaint):
        Cron(cron)


def test_a_zone_that_does_not_exist_is_named():
    with pytest.raises(BadScheduleError, match=r"'Mars/Olympus' is no time zone"):
        Cron("* * * * *", "Mars/Olympus")


def test_every_counts_from_when_it_was_last_fired():
    timing = Every.read("30s").anchored(1000)

    assert [timing.next_after(second) for second in (1000, 1029, 1030)] == [1030, 1030, 1060]
    assert timing.latest(1000, 1095) == 1090
    assert timing.latest(1000, 1029) is None


def test_one_that_is_new_fires_after_its_time_or_after_first_in():
    plain, soon = Every.read("1h"), Every.read("1h", "10s")

    assert plain.anchored(plain.begun(5000)).next_after(5000) == 8600
    assert soon.anchored(soon.begun(5000)).next_after(5000) == 5010


def test_the_moment_that_an_entry_is_counted_from_is_not_due_again():
    """A new entry, which counts from the second after the last look, was shown as due at once."""
    new, later = Every.read("1h"), Every.read("1h", "2h")

    assert new.anchored(new.begun(5001)).next_after(5000) == 8601
    assert later.anchored(later.begun(5001)).next_after(5000) == 12201
    assert new.anchored(5001).latest(4000, 5000) is None


def test_a_last_time_in_the_future_does_not_silence_an_entry():
    assert Every.read("30s").anchored(10**9).next_after(1000) == 1030


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("1h30m", 5400),
        ("2d", 172800),
        ("1w", 604800),
        (45, 45),
        ("45", 45),
        ("1.5m", 90),
    ],
)
def test_durations_are_those_of_rufus(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "10x", "0s", -1, None, True, "5s later", []])
def test_what_is_no_duration_is_named(text):
    with pytest.raises(BadScheduleError, match="is no duration"):
        duration(text)
