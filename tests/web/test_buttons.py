"""Buttons act only on their row's server; authentication and CSRF tokens are required."""

from __future__ import annotations

import base64
import html
import json
import re
from datetime import datetime

import pytest

from resweb import csrf
from resweb.app import create_app
from resweb.auth import hash_password
from resweb.posts import BUTTONS
from tests.servers import until
from tests.web.test_pages import RECORD, fail
from tests.web.visitor import Visitor


def keyspace(redis):
    return {key: redis.dump(key) for key in redis.scan_iter()}


def test_a_retry_on_the_second_server_changes_only_the_second(visitor, resq, second):
    raw = fail(second.redis)
    fail(resq.redis)
    before = keyspace(resq.redis)

    status, headers, _ = visitor.press(
        "/failed/retry/", server="two", failed_job=base64.b64encode(raw).decode()
    )

    assert (status, headers["Location"]) == (303, "/failed/")
    assert second.redis.lrange("resque:queue:mail", 0, -1) == [b'{"class":"Mail","args":[1]}']
    assert second.redis.llen("resque:failed") == 0
    assert keyspace(resq.redis) == before
    assert "Retried 1 failure." in visitor.get("/failed/")


def test_selected_records_are_retried_on_their_own_servers(visitor, resq, second):
    one, two = fail(resq.redis), fail(second.redis)
    tokens = [
        f"{name} {base64.b64encode(raw).decode()}" for name, raw in (("one", one), ("two", two))
    ]

    visitor.ask(
        "POST",
        "/failed/retry/",
        [("csrf", visitor.token()), *(("record", token) for token in tokens)],
    )

    assert [r.redis.llen("resque:queue:mail") for r in (resq, second)] == [1, 1]
    assert [r.redis.llen("resque:failed") for r in (resq, second)] == [0, 0]


def test_retry_all_that_match_leaves_the_rest(visitor, resq, second):
    fail(resq.redis, error="a")
    fail(resq.redis, error="b")
    fail(second.redis, error="a")

    visitor.press(
        "/failed/retry_all", text="", exception="", queue="", server="one", **{"class": ""}
    )
    visitor.press("/failed/delete_all", text='"error": "a"')

    assert resq.size("mail") == 2
    assert [r.redis.llen("resque:failed") for r in (resq, second)] == [0, 0]
    assert second.size("mail") == 0


def test_a_hundred_thousand_are_retried_in_the_background_each_once(visitor, resq, redis):
    record = '{"queue":"mail","payload":{"class":"M","args":[%d]},"exception":"E"}'
    for start in range(0, 100_000, 10_000):
        redis.rpush("resque:failed", *(record % n for n in range(start, start + 10_000)))

    visitor.press("/failed/retry_all")

    assert until(lambda: not visitor.json("/api/tasks")["tasks"][0]["running"], 120)
    assert redis.llen("resque:failed") == 0
    jobs = redis.lrange("resque:queue:mail", 0, -1)
    assert len(jobs) == len(set(jobs)) == 100_000
    assert visitor.json("/api/tasks")["tasks"][0]["done"] == 100_000


def test_all_that_match_of_a_hundred_thousand_are_processed_in_the_background(visitor, resq, redis):
    record = '{"queue":"mail","payload":{"class":"M","args":[%d]},"exception":"E%d"}'
    for start in range(0, 100_000, 10_000):
        redis.rpush("resque:failed", *(record % (n, n % 2) for n in range(start, start + 10_000)))

    def done() -> dict:
        assert until(lambda: not visitor.json("/api/tasks")["tasks"][0]["running"], 120)
        return visitor.json("/api/tasks")["tasks"][0]

    visitor.press("/failed/retry_all", exception="E1")
    retried = done()
    remaining = redis.llen("resque:failed")
    visitor.press("/failed/delete_all", text='"exception":"E0"')

    assert (retried["done"], retried["left"], retried["percent"]) == (50_000, 0, 100)
    assert remaining == done()["done"] == 50_000
    assert redis.llen("resque:failed") == 0
    args = [json.loads(raw)["args"][0] for raw in redis.lrange("resque:queue:mail", 0, -1)]
    assert args == list(range(1, 100_000, 2))


@pytest.fixture
def lists(second):
    """One failure in each of three lists of the second server."""
    fail(second.redis, error="in failed")
    for queue in ("mail", "slow"):
        record = json.dumps({**RECORD, "queue": queue, "error": f"in {queue}"}).encode()
        second.store.failed.push_for_queue(queue, record)
    return lambda: {name: second.store.failed.count(name) for name in LISTS}


LISTS = ("failed", "mail_failed", "slow_failed")


def test_one_failure_of_a_queues_own_list_is_retried_or_deleted(visitor, second, lists):
    rows = {row["of"]: row["record"] for row in visitor.json("/api/failed")["rows"]}

    visitor.press("/failed/retry/", server="two", failed_job=rows["mail_failed"])
    visitor.press("/failed/delete/", server="two", failed_job=rows["slow_failed"])

    assert lists() == {"failed": 1, "mail_failed": 0, "slow_failed": 0}
    assert second.queue_sizes() == {"mail": 1}


@pytest.mark.parametrize(
    ("path", "form", "left", "queued"),
    [
        ("/failed/retry_all", {}, (0, 0, 0), {"mail": 2, "slow": 1}),
        ("/failed/retry_all", {"list": "slow_failed"}, (1, 1, 0), {"slow": 1}),
        ("/failed/retry_all", {"queue": "mail"}, (0, 0, 1), {"mail": 2}),
        ("/failed/retry_all", {"text": "in mail"}, (1, 0, 1), {"mail": 1}),
        ("/failed/delete_all", {}, (0, 0, 0), {}),
        ("/failed/delete_all", {"list": "mail_failed"}, (1, 0, 1), {}),
        ("/failed/delete_all", {"text": "in slow", "server": "two"}, (1, 1, 0), {}),
        ("/failed/delete_all", {"list": "queue:x"}, (1, 1, 1), {}),
    ],
)
def test_buttons_for_all_reach_every_list_or_the_one_named(
    visitor, resq, second, lists, path, form, left, queued
):
    second.redis.rpush("resque:queue:x", "no list of failures")

    visitor.press(path, **form)

    assert tuple(lists().values()) == left
    assert second.queue_sizes() == queued
    assert second.size("x") == 1


def test_failures_that_ruby_has_retried_can_be_cleared(visitor, resq):
    fail(resq.redis, error="once")
    fail(resq.redis, error="again", retried_at="2026/11/23 16:05:00")

    assert "Clear retried" in visitor.get("/failed/")
    visitor.press("/failed/delete_all", retried="yes")

    assert [row["error"] for row in visitor.json("/api/failed")["rows"]] == ["once"]
    assert "Clear retried" not in visitor.get("/failed/")


def test_failures_that_ruby_has_retried_are_retried_only_on_request(visitor, resq):
    fail(resq.redis, error="once")
    fail(resq.redis, error="again", retried_at="2026/11/23 16:05:00")

    visitor.press("/failed/retry_all")
    assert [row["error"] for row in visitor.json("/api/failed")["rows"]] == ["again"]

    visitor.press("/failed/retry_all", retried="yes")
    assert visitor.json("/api/failed")["rows"] == []


def test_queues_are_moved_and_removed_and_one_job_is_deleted(visitor, resq, second):
    for number in range(3):
        second.push("a", {"class": "A", "args": [number]})
    second.push("gone", {"class": "A", "args": []})
    raw = base64.b64encode(second.redis.lindex("resque:queue:a", 1)).decode()

    visitor.press("/queues/delete_job", server="two", queue="a", job=raw)
    visitor.press("/queues/move", server="two", queue="a", target="b")
    visitor.press("/queues/remove", server="two", queue="gone")

    assert [item["args"] for item in second.peek("b", 0, 9)] == [[0], [2]]
    assert second.queues() == ["a", "b"]
    assert resq.queues() == []


def test_delayed_jobs_are_enqueued_now_or_cancelled(visitor, second):
    for name in ("now", "never"):
        second.delayed_push(
            datetime.fromtimestamp(2_000_000_000), {"class": name, "args": [], "queue": "q"}
        )
    raws = [
        base64.b64encode(raw).decode()
        for raw in second.redis.lrange("resque:delayed:2000000000", 0, -1)
    ]
    form = {"server": "two", "timestamp": "2000000000"}

    visitor.press("/delayed/now", **form, job=raws[0])
    visitor.press("/delayed/cancel", **form, job=raws[1])

    assert [item["class"] for item in second.peek("q", 0, 9)] == ["now"]
    assert second.delayed_queue_schedule_size() == 0


def test_workers_pause_managers_get_commands_and_a_schedule_entry_runs(visitor, second):
    second.set_schedule("night", {"cron": "0 3 * * *", "class": "N", "queue": "q", "args": [1]})
    second.redis.sadd("resque:khans", "h:1:5")

    visitor.press("/workers/pause", server="two")
    paused = second.redis.get("resque:pause-all-workers")
    visitor.press("/workers/resume", server="two")
    visitor.press("/khans/command", server="two", khan="h:1:5", command="ADD")
    visitor.press("/schedule/run", server="two", name="night")

    assert paused == b"true"
    assert second.redis.get("resque:pause-all-workers") is None
    assert second.redis.lrange("resque:khan:h:1:5", 0, -1) == [b"ADD"]
    assert [(item["class"], item["args"]) for item in second.peek("q", 0, 9)] == [("N", [1])]


@pytest.mark.parametrize("path", BUTTONS)
def test_no_button_works_without_its_token(visitor, resq, path):
    resq.push("q", {"class": "A", "args": []})
    fail(resq.redis)
    before = keyspace(resq.redis)
    form = {"server": "one", "queue": "q", "confirmed": "yes", "target": "z"}

    statuses = [
        visitor.ask("POST", path, {**form, "csrf": token})[0]
        for token in ("", "1.x", "x", csrf.token("other", "someone"))
    ]

    assert statuses == [403] * 4
    assert keyspace(resq.redis) == before


@pytest.mark.parametrize(
    ("back", "page"),
    [
        ("/failed/?class=Mail&start=20", "/failed/?class=Mail&start=20"),
        ("/failed/mail_failed/?server=two", "/failed/mail_failed/?server=two"),
        (f"/failed/failed/{'0' * 32}?at=1", "/failed/"),
        ("/overview", "/failed/"),
        ("", "/failed/"),
        ("//evil.example/failed/", "/failed/"),
        ("//[", "/failed/"),
        ("https://evil.example/failed/", "/failed/"),
        ("/\\evil.example/failed/", "/failed/"),
        ("/failed/\r\nSet-Cookie: a=b", "/failed/"),
        ("/failed/?a=\r\nb", "/failed/"),
    ],
)
def test_a_button_leads_back_to_its_page_and_never_elsewhere(visitor, resq, back, page):
    record = base64.b64encode(fail(resq.redis)).decode()

    status, headers, _ = visitor.press("/failed/retry/", server="one", failed_job=record, back=back)

    assert (status, headers["Location"]) == (303, page)


def test_a_button_leads_back_to_a_list_of_any_name(visitor, second):
    second.store.failed.push_for_queue("a?b%2e/c", json.dumps(RECORD).encode())
    (row,) = visitor.json("/api/failed")["rows"]
    path = f"/failed/{row['list_path']}/"
    back = re.search(r'name="back" value="([^"]*)"', visitor.get(path))

    _, headers, _ = visitor.press(
        "/failed/retry/", server="two", failed_job=row["record"], back=html.unescape(back[1])
    )

    assert "Retried 1 failure." in visitor.get(headers["Location"])
    assert "in a?b%2e/c_failed</h1>" in visitor.get(headers["Location"])


def test_the_forms_of_a_page_contain_its_address(serve, resq):
    fail(resq.redis)
    visitor = Visitor(serve(create_app([resq.dsn], url_prefix="/ops", sample=False)))
    text = visitor.get("/ops/failed/?class=Mail&text=")

    backs = re.findall(r'name="back" value="([^"]*)"', text)
    token = re.findall(r'name="csrf" value="([^"]*)"', text)[0]
    form = {"csrf": token, "confirmed": "yes", "class": "Mail", "back": html.unescape(backs[0])}
    status, headers, _ = visitor.ask("POST", "/ops/failed/retry_all", form)

    assert len(backs) == text.count('name="csrf"')
    assert (status, headers["Location"]) == (303, "/ops/failed/?class=Mail")


def test_a_token_expires():
    token = csrf.token("s", "v", 1000)

    assert csrf.valid("s", "v", token, 1001)
    assert not csrf.valid("s", "v", token, 1000 + csrf.MAX_AGE + 5)
    assert not csrf.valid("s", "w", token, 1001)


def test_a_destructive_button_asks_for_confirmation(visitor, resq):
    fail(resq.redis)

    status, _, text = visitor.press("/failed/delete_all", confirmed=False)

    assert status == 200
    assert "Yes, do it" in text
    assert resq.redis.llen("resque:failed") == 1


@pytest.mark.parametrize(
    "path",
    [
        "/failed/retry_all",
        "/failed/delete_all/",
        "/failed/remove/3",
        "/failed/mail_failed/requeue/1",
        "/failed/a/b/remove/7",
    ],
)
def test_old_links_that_changed_something_name_the_page_of_the_button(visitor, path):
    status, _, text = visitor.ask("GET", path)

    assert status == 405
    assert "/failed/" in text


def test_no_path_is_served_without_the_password(serve, resq):
    site = serve(create_app([resq.dsn], auth=f"ops:{hash_password('pa:ss')}", sample=False))
    right = base64.b64encode(b"ops:pa:ss").decode()
    wrong = base64.b64encode(b"ops:pass").decode()

    for path in ("/overview", "/api/stats", "/metrics", "/static/style.css"):
        assert Visitor(site).ask("GET", path)[0] == 401
        assert Visitor(site, {"Authorization": f"Basic {wrong}"}).ask("GET", path)[0] == 401
        assert Visitor(site, {"Authorization": f"Basic {right}"}).ask("GET", path)[0] == 200


def test_a_read_only_page_has_no_buttons_and_refuses_post(serve, resq):
    fail(resq.redis)
    visitor = Visitor(serve(create_app([resq.dsn], read_only=True, sample=False)))

    assert "<button>Retry" not in visitor.get("/failed/")
    assert visitor.ask("POST", "/failed/delete_all", {"confirmed": "yes"})[0] == 403
    assert resq.redis.llen("resque:failed") == 1


def test_headers_are_strict_and_no_page_has_inline_script(visitor):
    _, headers, text = visitor.ask("GET", "/overview")

    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert " style=" not in text
    assert text.count("<script") == 1
    cookie = Visitor(f"http://{visitor.host}").ask("GET", "/failed/")[1]["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie


def test_a_form_of_many_megabytes_is_refused(visitor):
    assert visitor.ask("POST", "/failed/retry/", {"csrf": "x" * 3_000_000})[0] == 413


def test_every_path_of_the_openapi_document_answers(visitor):
    document = visitor.json("/api/openapi.json")

    for path in document["paths"]:
        if "{" not in path:
            json.dumps(visitor.json(path))
