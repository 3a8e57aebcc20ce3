"""The confirmation page says how many jobs or failures, counted now, and on which servers."""

from __future__ import annotations

import html
import json
import re
from datetime import datetime

import pytest

from pyres import inspector
from resweb.app import create_app
from resweb.posts import BUTTONS
from tests.servers import free_port
from tests.web.test_pages import RECORD, fail
from tests.web.test_rows import forms
from tests.web.visitor import Visitor


def asked(visitor: Visitor, path: str, **form: str) -> tuple[str, dict[str, str]]:
    """The question on the confirmation page, and the details shown_details it."""
    status, _, text = visitor.press(path, confirmed=False, **form)
    assert status == 200, text
    (question,) = re.findall(r"<h1>(.*?)</h1>", text)
    details = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text)
    assert "Yes, do it" in text
    return html.unescape(question), {html.unescape(n): html.unescape(v) for n, v in details}


@pytest.fixture
def failures(resq, second):
    """Three failures on one server, and five on the other, two of them in another list."""
    for number in range(3):
        fail(resq.redis, error=str(number))
    for number in range(3):
        fail(second.redis, error=str(number), exception="OSError")
    for number in range(2):
        record = json.dumps({**RECORD, "queue": "slow", "error": str(number)}).encode()
        second.store.failed.push_for_queue("slow", record)


@pytest.mark.parametrize(
    ("path", "form", "question", "details"),
    [
        (
            "/failed/delete_all",
            {},
            "Delete all 8 failures on 2 servers permanently?",
            {"Server one": "3 failures", "Server two": "5 failures"},
        ),
        (
            "/failed/retry_all",
            {"server": "two"},
            "Retry all 5 failures on two?",
            {"Server two": "5 failures"},
        ),
        (
            "/failed/retry_all",
            {"exception": "OSError"},
            "Retry 3 matching failures on 2 servers?",
            {
                "Exception": "OSError",
                "Server one": "0 of 3 failures",
                "Server two": "3 of 5 failures",
            },
        ),
        (
            "/failed/delete_all",
            {"list": "slow_failed", "text": '"error": "1"'},
            "Delete 1 matching failure on 2 servers permanently?",
            {
                "List": "slow_failed",
                "Server one": "0 of 0 failures",
                "Server two": "1 of 2 failures",
            },
        ),
    ],
)
def test_all_are_counted_for_each_server(visitor, failures, path, form, question, details):
    shown_question, shown_details = asked(visitor, path, **form)

    assert shown_question == question
    assert {name: shown_details.get(name) for name in details} == details


def test_failures_since_the_page_was_shown_are_counted(visitor, failures, resq):
    visitor.get("/failed/")
    fail(resq.redis, error="new")

    assert asked(visitor, "/failed/delete_all", server="one")[0].startswith("Delete all 4 failures")


def test_a_filter_reads_the_newest_failures_and_says_so(visitor, failures, monkeypatch):
    monkeypatch.setattr(inspector, "FILTER_SCAN_LIMIT", 2)

    question, details = asked(visitor, "/failed/delete_all", exception="OSError", list="failed")

    assert question == "Delete at least 2 matching failures on 2 servers permanently?"
    assert details["Server two"] == "2 of the newest 2, of 3 in all"


def test_a_server_that_is_down_is_named(serve, resq):
    fail(resq.redis)
    dsns = [f"up={resq.dsn}", f"gone=127.0.0.1:{free_port()}"]
    visitor = Visitor(serve(create_app(dsns, sample=False)))

    question, details = asked(visitor, "/failed/delete_all")

    assert question == "Delete 1 failure on 2 servers permanently?"
    assert details == {"Server up": "1 failure", "Server gone": "does not answer now"}


def test_selected_failures_are_counted_for_each_server(visitor, failures):
    text = visitor.get("/failed/")
    ticks = [html.unescape(t) for t in re.findall(r'name="record" value="([^"]+)"', text)]

    fields = [("csrf", visitor.token()), *(("record", tick) for tick in ticks)]
    _, _, text = visitor.ask("POST", "/failed/delete/", fields)

    assert "<h1>Delete the 8 selected failures permanently?</h1>" in text
    assert "<dt>Server one</dt><dd>3 failures</dd>" in text
    assert "<dt>Server two</dt><dd>5 failures</dd>" in text


@pytest.fixture
def filled(second):
    for number in range(4):
        second.push("q", {"class": "A", "args": [number]})
    second.push("r", {"class": "B", "args": []})
    due = datetime.fromtimestamp(2_000_000_000)
    second.delayed_push(due, {"class": "D", "args": ["x"], "queue": "later"})
    second.redis.sadd("resque:khans", "h:1:5")
    for pid in range(6):
        second.store.workers.register(f"h:{pid}:q", "1795435269")


@pytest.mark.parametrize(
    ("path", "form", "question", "details"),
    [
        ("/queues/remove", {"queue": "q"}, "Remove the queue q and 4 jobs on it?", {}),
        ("/queues/remove", {"queue": "none"}, "Remove the queue none and 0 jobs", {}),
        (
            "/queues/move",
            {"queue": "q", "target": "r"},
            "Move 4 jobs from q to r?",
            {"Queue r": "has 1 job now"},
        ),
        (
            "/queues/move",
            {"queue": "q", "target": "wrok"},
            "Move 4 jobs from q to wrok?",
            {"Queue wrok": "is new: it does not exist yet"},
        ),
        ("/workers/pause", {}, "Pause all workers of two: 6 now?", {}),
        (
            "/khans/command",
            {"khan": "h:1:5", "command": "SHUTDOWN"},
            "Send SHUTDOWN to the manager h:1:5?",
            {"Minions": "5"},
        ),
    ],
)
def test_what_a_button_would_change_is_counted(visitor, filled, path, form, question, details):
    shown_question, shown_details = asked(visitor, path, server="two", **form)

    assert shown_question.startswith(question)
    assert shown_details == {"Server": "two", **details}


@pytest.mark.parametrize(
    ("page", "path", "details"),
    [
        ("/queues/q/?server=two", "/queues/delete_job", "A [0]"),
        ("/delayed/2000000000/?server=two", "/delayed/cancel", 'D ["x"]'),
    ],
)
def test_one_job_is_named(visitor, filled, page, path, details):
    fields = forms(visitor.get(page), path)[0]

    question, shown_details = asked(visitor, path, **fields)

    assert " 1 " in question
    assert shown_details["Job"] == details


def test_every_confirmation_page_is_shown_here(visitor, filled, failures):
    """No button acts before it is confirmed, and none fails on its confirmation page."""
    form = {"queue": "q", "target": "r", "khan": "h:1:5", "command": "ADD", "job": "e30="}
    form |= {"timestamp": "2000000000", "server": "two", "failed_job": "e30="}
    for path, (_, asks) in BUTTONS.items():
        if asks:
            asked(visitor, path, **form)


@pytest.mark.parametrize("path", [path for path, (_, asks) in BUTTONS.items() if asks])
def test_no_leads_to_a_page_that_exists(visitor, filled, failures, path):
    form = {"queue": "q", "target": "r", "khan": "h:1:5", "command": "ADD", "job": "e30="}
    form |= {"timestamp": "2000000000", "server": "two", "failed_job": "e30="}

    _, _, text = visitor.press(path, confirmed=False, **form)

    (where,) = re.findall(r'<a href="([^"]+)">No, go back</a>', text)
    assert 'aria-current="page"' in visitor.get(where)


@pytest.mark.parametrize(
    ("back", "where"),
    [
        ("/failed/?class=Mail&start=20", "/failed/?class=Mail&amp;start=20"),
        (f"/failed/failed/{'0' * 32}?at=1", f"/failed/failed/{'0' * 32}?at=1"),
        ("https://evil.example/failed/", "/failed/"),
        ("", "/failed/"),
    ],
)
def test_no_leads_back_to_the_page_with_its_filter(visitor, back, where):
    _, _, text = visitor.press("/failed/delete_all", confirmed=False, back=back)

    assert f'<a href="{where}">No, go back</a>' in text
