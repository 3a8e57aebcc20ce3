"""When what recurs is due, on good nights and on bad ones. The clock is an argument."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pyres.exceptions import BadScheduleError
from pyres.timing import Cron, Every, duration
from pyres.timing.cron import NEVER

BERLIN = "Europe/Berlin"

#: Nights on which the clocks change: forward (2 to 3) and back (3 to 2) in Berlin, in New York, by
#: half an hour on Lord Howe; at midnight in Havana; and a day that Samoa skipped.
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


def table(name: str) -> Iterator[list[str]]:
    """The rows of a table that lies beside this file."""
    text = Path(__file__).with_name(name).read_text("utf-8")
    return (line.split(" | ") for line in text.splitlines() if not line.startswith("#"))


def following(cron: str, zone: str, start: str, count: int, form: str) -> str:
    """The next moments after a time in UTC, or "refused"."""
    found, second = [], at(start, "UTC")
    try:
        timing = Cron(cron, zone)
    except BadScheduleError as error:
        assert str(error).startswith(f"invalid cron {cron!r}: expected "), error  # noqa: PT017
        return "refused"
    for _ in range(count):
        second = timing.next_after(second)
        found.append(f"{datetime.fromtimestamp(second, UTC):{form}}")
    return ", ".join(found)


def test_each_expression_has_the_next_five_moments_of_fugit_or_is_refused():
    rows = list(table("cron_table.txt"))

    wrong = [
        (cron, expected, got)
        for cron, expected in rows
        if expected != (got := following(cron, "UTC", "2026-01-15 10:30", 5, "%Y-%m-%d %H:%M:%S"))
    ]

    assert wrong == []
    assert len(rows) >= 350


def test_in_nights_of_14_zones_in_which_the_clocks_change_each_cron_fires_as_it_always_did():
    rows = list(table("clock_changes.txt"))

    wrong = [
        (zone, start, cron, expected, got)
        for zone, start, cron, expected in rows
        if expected != (got := following(cron, zone, start, expected.count(",") + 1, "%d %H:%M"))
    ]

    assert wrong == []
    assert len({zone for zone, *_ in rows}) == 14


def test_a_nightly_job_runs_at_its_hour_of_the_zone_in_winter_and_summer():
    assert moments("0 3 * * *", "2026-01-10 04:00", 2) == ["11 02:00", "12 02:00"]
    assert moments("0 3 * * *", "2026-07-10 04:00", 2) == ["11 01:00", "12 01:00"]


def test_an_hour_that_the_clocks_skip_fires_after_the_change():
    # There is no 2:30 on the 29th: at 3:00 summer time, which is 1:00 UTC, it has passed.
    assert moments("30 2 * * *", f"{FORWARD} 00:00", 2) == ["29 01:00", "30 00:30"]


def test_an_hour_that_the_clocks_jump_to_fires_once():
    assert moments("0 3 * * *", f"{FORWARD} 00:00", 2) == ["29 01:00", "30 01:00"]
    assert moments("0 2,3 * * *", f"{FORWARD} 00:00", 2) == ["29 01:00", "30 00:00"]


def test_an_hour_that_occurs_twice_fires_the_first_time_only():
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


def test_the_zone_may_follow_the_fields():
    expected = at("2026-01-10 03:00")

    assert Cron(f"0 3 * * * {BERLIN}").next_after(at("2026-01-10 00:00")) == expected
    assert Cron(f"0 0 3 * * * {BERLIN}", "UTC").next_after(at("2026-01-10 00:00")) == expected
    assert Cron("0 3 * * mon").next_after(0)


def test_six_fields_begin_with_the_seconds():
    timing = Cron("*/20 * * * * *", "UTC")

    assert [timing.next_after(second) for second in (0, 19, 20, 59)] == [20, 20, 40, 60]


def test_a_keyword_means_its_fields():
    assert Cron("@daily", "UTC").next_after(0) == 86400
    assert Cron("@hourly", "UTC").next_after(0) == 3600


def test_the_last_moment_that_was_missed_is_found_however_long_ago():
    yearly, often = Cron("0 0 1 1 *", "UTC"), Cron("* * * * * *", "UTC")
    now = at("2026-11-23 12:00", "UTC")

    assert yearly.latest(0, now) == at("2026-01-01 00:00", "UTC")
    assert often.latest(0, now) == now
    assert yearly.latest(now - 3600, now) is None


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 9 * * fri-mon/2", "16 09:00, 18 09:00, 23 09:00, 25 09:00"),
        ("0 9 * * mon#1,mon#3", "19 09:00, 02 09:00, 16 09:00, 02 09:00"),
        ("0 9 * * wed%4+1,wed%4", "04 09:00, 11 09:00, 04 09:00, 11 09:00"),
        ("@noon UTC", "15 12:00, 16 12:00, 17 12:00, 18 12:00"),
        (" 0 9 * * *\n", "16 09:00, 17 09:00, 18 09:00, 19 09:00"),
    ],
)
def test_what_fugit_corrected_after_1_5_2_is_read_as_it_is_now(cron, expected):
    assert following(cron, "UTC", "2026-01-15 10:30", 4, "%d %H:%M") == expected


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("61 * * * *", "a minute from 0 to 59, .* instead of '61'"),
        ("0 9 15W * *", "a day of the month, .* instead of '15W'"),
        ("0 9 ? * *", "a day of the month, .* instead of '\\?'"),
        ("0 9 * * 5L", "a weekday, like .* instead of '5L'"),
        ("0 9 * * mon%0", "a weekday, like .* instead of 'mon%0'"),
        ("99 0 9 * * *", "a second from 0 to 59, instead of '99'"),
        ("* * *", "5 fields, or 6 with the seconds first"),
        ("", "5 fields"),
        ("sometimes", "5 fields"),
        ("0 0 30 2 *", "a day that its months have"),
        ("0 0 -31 2 *", "days that exist in some year"),
        ("0 3 * * * Europe/Berlim", "a time zone like .* instead of 'Europe/Berlim'"),
        ("0 3 * * * JST", "a time zone like .* instead of 'JST'"),
        ("0 3 * * * GMT+1", "a time zone like .* instead of 'GMT\\+1'"),
        ("0 3 * * * +12:00", "a time zone like .* instead of '\\+12:00'"),
    ],
)
def test_an_invalid_cron_is_an_error_that_says_what_was_expected(cron, expected):
    start = re.escape(f"invalid cron {cron!r}: expected ")
    with pytest.raises(BadScheduleError, match=f"^{start}{expected}"):
        Cron(cron)


def test_a_zone_that_does_not_exist_is_named():
    with pytest.raises(BadScheduleError, match=r"invalid time zone 'Mars/Olympus': expected one"):
        Cron("* * * * *", "Mars/Olympus")


def test_an_offset_may_be_the_zone_of_a_key_of_its_own():
    assert Cron("0 9 * * *", "+02:00").next_after(0) == 7 * 3600
    assert Cron("0 9 * * * -0330", "Europe/Berlin").next_after(0) == 12 * 3600 + 1800


def test_a_cron_whose_next_moment_is_far_in_the_future_stops_nothing():
    """Each 52nd week is in February for some years, and then is not for centuries."""
    timing, second = Cron("0 0 * 2 mon%52", "UTC"), 0
    while (moment := timing.next_after(second)) != NEVER:
        second = moment

    assert timing.latest(second - 1, second) == second


def test_every_counts_from_when_it_was_last_fired():
    timing = Every.read("30s").with_anchor(1000)

    assert [timing.next_after(second) for second in (1000, 1029, 1030)] == [1030, 1030, 1060]
    assert timing.latest(1000, 1095) == 1090
    assert timing.latest(1000, 1029) is None


def test_one_that_is_new_fires_after_its_time_or_after_first_in():
    plain, soon = Every.read("1h"), Every.read("1h", "10s")

    assert plain.with_anchor(plain.first_anchor(5000)).next_after(5000) == 8600
    assert soon.with_anchor(soon.first_anchor(5000)).next_after(5000) == 5010


def test_the_moment_that_an_entry_is_counted_from_is_not_due_again():
    """A new entry, which counts from the second after the last check, was shown as due at once."""
    new, later = Every.read("1h"), Every.read("1h", "2h")

    assert new.with_anchor(new.first_anchor(5001)).next_after(5000) == 8601
    assert later.with_anchor(later.first_anchor(5001)).next_after(5000) == 12201
    assert new.with_anchor(5001).latest(4000, 5000) is None


def test_a_last_time_in_the_future_does_not_silence_an_entry():
    assert Every.read("30s").with_anchor(10**9).next_after(1000) == 1030


@pytest.mark.parametrize(
    ("text", "milliseconds", "moments"),
    [
        ("1.5s", 1500, [1, 3, 4, 6, 7]),
        ("0.5s", 500, [1, 2, 3, 4, 5]),
        (2.75, 2750, [2, 5, 8, 11, 13]),
    ],
)
def test_an_interval_below_a_second_fires_at_most_once_a_second(text, milliseconds, moments):
    timing, second, found = Every.read(text).with_anchor(0), 0, []
    for _ in moments:
        second = timing.next_after(second)
        found.append(second)

    assert timing.milliseconds == milliseconds
    assert found == moments
    assert [timing.latest(0, moment) for moment in moments] == moments
    assert all(later - moment >= timing.step for moment, later in itertools.pairwise(found))
    new = timing.with_anchor(timing.first_anchor(5001))
    assert new.next_after(5000) == 5001 + timing.step


def test_an_interval_describes_its_seconds():
    assert [str(Every.read(text)) for text in ("30s", "1.5m", "0.5s", "30d", 2.25)] == [
        "every 30 s",
        "every 90 s",
        "every 0.5 s",
        "every 2592000 s",
        "every 2.25 s",
    ]


def test_the_first_time_may_be_at_once():
    now = Every.read("1h", 0)

    assert now.with_anchor(now.first_anchor(5001)).next_after(5000) == 5001


#: As Debian's fugit 1.5.2 reads them (`Fugit::Duration.do_parse(text).to_sec`).
DURATIONS = {
    "30s": 30,
    "30 s": 30,
    "30sec": 30,
    "30 secs": 30,
    "1 second": 1,
    "10S": 10,
    "5m": 300,
    "5min": 300,
    "5mins": 300,
    "5 minutes": 300,
    "1 minute": 60,
    "1h": 3600,
    "1H": 3600,
    "1 hour": 3600,
    "2 Hours": 7200,
    "2d": 172800,
    "1 day": 86400,
    "2 DAYS": 172800,
    "1w": 604800,
    "3 weeks": 1814400,
    "1M": 2592000,
    "1 month": 2592000,
    "2 months": 5184000,
    "1y": 31536000,
    "1 Year": 31536000,
    "1h30m": 5400,
    "1h30": 3630,
    "1h+5m": 3900,
    "1h-5m": 3300,
    "1h -5m": 3300,
    "1h 5m 2s": 3902,
    "1 hour, 5 minutes": 3900,
    "1 hour and 5 minutes": 3900,
    "1y2M3w4d5h6m7s": 38898367,
    "1.5m": 90,
    "0.5s": 0.5,
    ".5s": 0.5,
    "5.s": 5,
    "0.5": 0.5,
    "1h5": 3605,
    "45": 45,
    " 45 ": 45,
    "PT1H": 3600,
    "pt1h": 3600,
    "P1D": 86400,
    "P1W": 604800,
    "P1M": 2592000,
    "PT1M": 60,
    "PT0.5S": 0.5,
    "P1Y2M3W4DT5H6M7S": 38898367,
    "P1DT-1H": 82800,
}


@pytest.mark.parametrize("text", [*DURATIONS, 45, 0.5])
def test_durations_are_those_of_rufus(text):
    assert duration(text) == DURATIONS.get(text, text)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "10x", "5 mo", "5MIN", "5s later", "5m,", "-1s", "5m - 1h", "PT", "P1H", "1;2"]
    + [-1, None, True, [], 10**400, float("nan"), float("inf"), "101y"],
)
def test_an_invalid_duration_is_named(text):
    with pytest.raises(
        BadScheduleError, match="^invalid duration .*: expected one like 30s, 1h30m"
    ):
        duration(text)


@pytest.mark.parametrize("text", ["0s", "0.2s", 0, "P", 0.25])
def test_an_interval_that_is_shorter_than_rufus_allows_is_refused(text):
    with pytest.raises(BadScheduleError, match="from 0.3 s to 100 years"):
        Every.read(text)
