"""One row is one job: its button acts on that job only, and reads few other elements."""

from __future__ import annotations

import html
import json
import re

import pytest

from tests.web.test_pages import RECORD, fail
from tests.web.visitor import Visitor

JOB = '{"class":"Same","args":[]}'
DELAYED = '{"class":"Same","args":[],"queue":"q"}'
FORM = re.compile(r'<form method="post" action="([^"]+)">(.*?)</form>', re.DOTALL)
INPUT = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')


def forms(page: str, action: str) -> list[dict[str, str]]:
    """The hidden fields of each form of a page with this action, in order."""
    return [
        {name: html.unescape(value) for name, value in INPUT.findall(body)}
        for where, body in FORM.findall(page)
        if where == action or f'formaction="{action}"' in body
    ]


def press(visitor: Visitor, page: str, action: str, row: int) -> str:
    """Press the button of a row as a browser would; returns the next page."""
    fields = forms(visitor.get(page), action)[row]
    status, headers, _ = visitor.ask("POST", action, {**fields, "confirmed": "yes"})
    assert status == 303
    return visitor.get(headers["Location"])


def mixed(redis, key: str, equal: str, other: str) -> list[bytes]:
    """Equal elements, with different ones between them to see which was removed."""
    redis.rpush(key, *(equal if n % 2 else other % n for n in range(10)))
    return redis.lrange(key, 0, -1)


@pytest.mark.parametrize("row", [1, 3, 5, 9])
def test_delete_on_a_queue_removes_the_shown_one_of_equal_jobs(visitor, second, row):
    second.store.queues.watch("q")
    before = mixed(second.redis, "resque:queue:q", JOB, '{"class":"Other","args":[%d]}')

    text = press(visitor, "/queues/q/?server=two", "/queues/delete_job", row)

    assert "Deleted a job of q." in text
    assert second.redis.lrange("resque:queue:q", 0, -1) == before[:row] + before[row + 1 :]


@pytest.mark.parametrize("row", [0, 4, 8])
def test_delete_and_retry_act_on_the_shown_one_of_equal_failures(visitor, second, row):
    same = json.dumps(RECORD)
    before = mixed(second.redis, "resque:failed", same, same.replace("[1]", "[%d]"))
    at = len(before) - 1 - row  # the newest first

    press(visitor, "/failed/?server=two", "/failed/delete/", row)
    assert second.redis.lrange("resque:failed", 0, -1) == before[:at] + before[at + 1 :]

    press(visitor, "/failed/?server=two", "/failed/retry/", row)
    assert second.redis.lrange("resque:failed", 0, -1) == before[: at - 1] + before[at + 1 :]
    assert second.size("mail") == 1


def delay(resq, count: int = 5) -> None:
    for number in range(count):
        resq.store.delayed.delay(2_000_000_000, DELAYED.encode())
        other = json.dumps({"class": "Other", "args": [number], "queue": "q"})
        resq.store.delayed.delay(2_000_000_000, other.encode())


@pytest.mark.parametrize("row", [0, 4, 8])
@pytest.mark.parametrize(
    ("button", "message", "queued"),
    [("now", "Enqueued 1 job.", [b"Same"]), ("cancel", "Cancelled 1 job.", [])],
)
def test_one_of_equal_delayed_jobs_is_enqueued_or_cancelled(
    visitor, second, row, button, message, queued
):
    delay(second)
    before = second.redis.lrange("resque:delayed:2000000000", 0, -1)

    path = "/delayed/2000000000/?server=two"
    fields = forms(visitor.get(path), "/delayed/now")[row]
    status, headers, _ = visitor.ask("POST", f"/delayed/{button}", {**fields, "confirmed": "yes"})

    assert (status, message in visitor.get(headers["Location"])) == (303, True)
    after = second.redis.lrange("resque:delayed:2000000000", 0, -1)
    assert after == before[:row] + before[row + 1 :]
    jobs = [json.loads(raw)["class"].encode() for raw in second.store.queues.peek("q", 0, 9)]
    assert jobs == queued
    assert second.delayed_at("Same") == [2_000_000_000]


def test_of_equal_failures_only_the_selected_ones_are_deleted(visitor, second):
    same = json.dumps(RECORD)
    before = mixed(second.redis, "resque:failed", same, same.replace("[1]", "[%d]"))
    text = visitor.get("/failed/?server=two")
    ticks = [html.unescape(t) for t in re.findall(r'name="record" value="([^"]+)"', text)]

    ticked = [("record", ticks[row]) for row in (0, 2, 6, 6)]
    visitor.ask(
        "POST", "/failed/delete/", [("csrf", visitor.token()), *ticked, ("confirmed", "yes")]
    )

    deleted = {9 - row for row in (0, 2, 6)}
    remaining = [raw for at, raw in enumerate(before) if at not in deleted]
    assert second.redis.lrange("resque:failed", 0, -1) == remaining


def test_a_job_that_moved_towards_the_head_is_the_one_that_is_deleted(visitor, second):
    second.store.queues.watch("q")
    mixed(second.redis, "resque:queue:q", JOB, '{"class":"Other","args":[%d]}')
    fields = forms(visitor.get("/queues/q/?server=two"), "/queues/delete_job")[8]
    second.redis.lpop("resque:queue:q", 3)
    before = second.redis.lrange("resque:queue:q", 0, -1)

    visitor.ask("POST", "/queues/delete_job", {**fields, "confirmed": "yes"})

    assert second.redis.lrange("resque:queue:q", 0, -1) == before[:5] + before[6:]


@pytest.mark.parametrize(
    ("page", "action"),
    [
        ("/queues/q/?server=two", "/queues/delete_job"),
        ("/delayed/2000000000/?server=two", "/delayed/now"),
        ("/failed/?server=two", "/failed/retry/"),
    ],
)
def test_the_button_of_a_removed_row_changes_nothing(visitor, second, page, action):
    second.store.queues.push("q", [JOB.encode()])
    second.store.delayed.delay(2_000_000_000, DELAYED.encode())
    fail(second.redis)
    (fields,) = forms(visitor.get(page), action)
    second.redis.flushall()
    second.push("other", {"class": "Other", "args": []})
    before = second.redis.keys()

    status, _, _ = visitor.ask("POST", action, {**fields, "confirmed": "yes"})

    assert status == 303
    assert second.redis.keys() == before


@pytest.mark.parametrize("size", [100, 5000])
@pytest.mark.parametrize("row", [0, 19])
@pytest.mark.parametrize(
    ("page", "action", "key"),
    [
        ("/queues/q/?server=two&start=1400", "/queues/delete_job", "resque:queue:q"),
        ("/delayed/2000000000/?server=two&start=1400", "/delayed/now", "resque:delayed:2000000000"),
        ("/failed/?server=two&start=1400", "/failed/retry/", "resque:failed"),
        ("/failed/?server=two", "/failed/delete/", "resque:failed"),
    ],
)
def test_a_button_on_a_row_reads_few_elements_of_a_long_list(
    visitor, second, second_server, page, action, key, row, size
):
    job = {"class": "M", "queue": "q", "payload": {"class": "M"}, "error": "x" * size}
    record = json.dumps(job)[:-1] + ',"n":%d}'
    for start in range(0, 3000, 1000):
        second.redis.rpush(key, *(record % n for n in range(start, start + 1000)))
    fields = forms(visitor.get(page), action)[row]

    with second_server.monitor() as monitor:
        status, _, _ = visitor.ask("POST", action, {**fields, "confirmed": "yes"})
        sent = monitor.everything

    assert status == 303
    assert second.redis.llen(key) == 2999
    elements_read = [
        int(command.args[2]) - int(command.args[1]) + 1
        for command in sent
        if command.name == "LRANGE"
    ]
    assert sum(elements_read) < 10
    assert "KEYS" not in {command.name for command in sent}


def test_an_empty_payload_can_be_deleted(visitor, second):
    second.store.queues.push("q", [b"a", b"", b"b", b""])

    press(visitor, "/queues/q/?server=two", "/queues/delete_job", 1)

    assert second.redis.lrange("resque:queue:q", 0, -1) == [b"a", b"b", b""]
