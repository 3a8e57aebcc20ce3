"""Times as other programs write them. Each of them is 10:00 UTC on 25 November 2026."""

from __future__ import annotations

import os
import time

import pytest

from pyres.times import certain_moment, moment

TEN = 1795600800.0

TEXTS = {
    "pyres, Ruby's run_at": "2026-11-25T10:00:00Z",
    "Ruby's heartbeat": "2026-11-25T10:00:00+00:00",
    "a heartbeat of a zone": "2026-11-25T11:00:00+01:00",
    "Ruby in UTC": "2026/11/25 10:00:00 UTC",
    "Ruby in Berlin": "2026/11/25 11:00:00 CET",
    "Ruby in Berlin in summer time": "2026/11/25 12:00:00 CEST",
    "Ruby in Kolkata": "2026/11/25 15:30:00 IST",
    "Ruby in Tokyo": "2026/11/25 19:00:00 JST",
    "Ruby in Sydney": "2026/11/25 21:00:00 AEDT",
    "Ruby in Auckland": "2026/11/25 23:00:00 NZDT",
    "Ruby in New York": "2026/11/25 05:00:00 EST",
    "Ruby in Chicago": "2026/11/25 04:00:00 CST",
    "Ruby in Los Angeles": "2026/11/25 02:00:00 PST",
    "Ruby in St. John's": "2026/11/25 06:30:00 NST",
    "Ruby in London": "2026/11/25 10:00:00 GMT",
    "Ruby in Moscow": "2026/11/25 13:00:00 MSK",
    "Ruby in Johannesburg": "2026/11/25 12:00:00 SAST",
    "Ruby in Guam": "2026/11/25 20:00:00 ChST",
    "Ruby in Sao Paulo": "2026/11/25 07:00:00 -03",
    "Ruby in Dubai": "2026/11/25 14:00:00 +04",
    "Ruby in Kathmandu": "2026/11/25 15:45:00 +0545",
    "Ruby in Eucla": "2026/11/25 18:45:00 +08:45",
    "Ruby's Time#to_s": "2026-11-25 11:00:00 +0100",
    "Ruby's Time#to_s in UTC": "2026-11-25 10:00:00 UTC",
    "Ruby's Time#to_s in India": "2026-11-25 15:30:00 +0530",
    "Ruby's rfc2822": "Wed, 25 Nov 2026 11:00:00 +0100",
    "node": "Wed Nov 25 2026 11:00:00 GMT+0100 (Central European Standard Time)",
    "node in UTC": "Wed Nov 25 2026 10:00:00 GMT+0000 (Coordinated Universal Time)",
    "node's ISO": "2026-11-25T10:00:00.000Z",
    "node's toUTCString": "Wed, 25 Nov 2026 10:00:00 GMT",
    "php-resque": "Wed Nov 25 10:00:00 UTC 2026",
    "php-resque in Berlin": "Wed Nov 25 11:00:00 CET 2026",
    "php-resque in Sao Paulo": "Wed Nov 25 07:00:00 -03 2026",
    "php's date with a colon": "Wed Nov 25 14:00:00 +04:00 2026",
    "jesque": "Wed Nov 25 10:00:00 +0000 2026",
    "jesque's failed_at": "2026/11/25 11:00:00 +0100",
    "jesque's run_at": "2026-11-25T11:00:00.000+0100",
    "goworker's started": "2026-11-25 10:00:00.000000789 +0000 UTC m=+0.01",
    "goworker in Berlin": "2026-11-25 11:00:00.000000123 +0100 CET m=+12.345678901",
    "goworker in Sao Paulo": "2026-11-25 07:00:00 -0300 -03",
    "goworker's failed_at": "2026-11-25T11:00:00.000000789+01:00",
    "epoch seconds": "1795600800",
    "epoch seconds of pyres": "1795600800.0",
}


@pytest.fixture(params=["UTC", "America/New_York", "Asia/Tokyo"])
def local_zone(request, monkeypatch):
    """This machine in another zone."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("local_zone")
def test_a_time_of_any_writer_is_the_same_moment_wherever_it_is_read():
    assert {who: moment(text) for who, text in TEXTS.items()} == dict.fromkeys(TEXTS, TEN)


def test_a_time_whose_zone_is_only_named_is_not_certain():
    uncertain = {who for who, text in TEXTS.items() if certain_moment(text) is None}

    assert {who.rpartition(" in ")[0] for who in uncertain} <= {
        "Ruby",
        "php-resque",
        "Ruby in Berlin",
    }
    assert {"Ruby in Kolkata", "Ruby in Chicago", "php-resque in Berlin"} <= uncertain
    assert not {"Ruby in UTC", "Ruby in London", "Ruby in Dubai", "php-resque", "node"} & uncertain


def test_a_number_is_epoch_seconds():
    assert moment(1795600800) == moment(TEN) == TEN
    assert moment("1795600800.25") == moment("2026-11-25 10:00:00.25 UTC") == TEN + 0.25


@pytest.mark.parametrize(
    "text",
    [
        "2026/11/25 10:00:00 XYZ",
        "2026/11/25 10:00:00 W. Europe Standard Time",
        "Wed Nov 25 10:00:00 ABC 2026",
        "2026/11/25 10:00:00 +99",
        "2026/02/30 10:00:00 UTC",
        "2026/11/25 25:00:00 UTC",
        "Wed Foo 25 10:00:00 UTC 2026",
        "2026/11/25 10:00:00 UTC yesterday",
        "soon",
        "",
        "nan",
        "1e99",
        "-5",
        "2026/11/25 10:00:00 " + "C" * 100,
        None,
        True,
        1e99,
        [],
        {},
        b"2026/11/25 10:00:00 UTC",
    ],
)
def test_a_text_without_a_certain_moment_is_none(text):
    assert moment(text) is None


@pytest.mark.parametrize(
    ("zone", "text", "expected"),
    [
        ("Asia/Shanghai", "2026/11/25 18:00:00 CST", TEN),
        ("Asia/Jerusalem", "2026/11/25 12:00:00 IST", TEN),
        ("Europe/Dublin", "2026/07/25 11:00:00 IST", 1784973600.0),
        ("America/Sao_Paulo", "2026/11/25 07:00:00", TEN),
        ("Europe/Berlin", "2026/10/25 02:30:00 CEST", 1792888200.0),
        ("Europe/Berlin", "2026/10/25 02:30:00 CET", 1792891800.0),
        ("GMT-3", "2026/11/25 10:00:00 GMT", TEN),
    ],
)
def test_a_name_of_this_machines_zone_means_that_zone(zone, text, expected, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert moment(text) == expected
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_time_without_a_zone_is_that_of_this_machine_whatever_was_read_before(monkeypatch):
    before = os.environ.get("TZ")
    found = []
    for zone in ("UTC", "Asia/Tokyo", "America/New_York"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        found.append(moment("2026/11/25 10:00:00"))
    monkeypatch.undo()
    time.tzset()

    assert found == [TEN, TEN - 9 * 3600, TEN + 5 * 3600]
    assert os.environ.get("TZ") == before
