"""A key of an unexpected type is named on the pages, and its server does not count as down."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from redis.exceptions import ResponseError

from pyres import ResQ
from resweb.app import create_app
from tests.servers import free_port
from tests.web.test_pages import TABS
from tests.web.visitor import Visitor

KEYS = [
    "queues",
    "workers",
    "minions",
    "khans",
    "failed",
    "failed_queues",
    "workers:heartbeat",
    "pause-all-workers",
    "pruning_dead_workers_in_progress",
    "delayed_queue_schedule",
    "delayed:last_enqueued_at",
    "persistent_schedules",
    "schedules_changed",
    "pyres:schedule",
    "pyres:schedule_fired",
    "pyres:schedule_ranges",
    "pyres:process_starts",
    "pyres:beats",
    "pyres:khan_heartbeats",
    "resque:resque_scheduler_master_lock",
    "stat:processed",
    "stat:failed",
    "queue:q",
    "slow_failed",
]

#: Keys of one worker, timestamp or queue, and the pages that read them.
SOME = {
    "worker:h:1:q": ["/overview", "/working/", "/workers/", "/workers/h:1:q/"],
    "delayed:2000000000": ["/delayed/", "/delayed/2000000000/"],
    "queue:unknown": ["/queues/unknown/"],
}

MORE = ["/queues/q/", "/delayed/2000000000/", "/workers/h:1:q/", "/failed/slow_failed/"]
MORE += ["/overview.poll", "/working.poll", "/workers.poll"]
APIS = ["overview", "queues", "queues/q", "working", "workers", "workers/h:1:q", "failed"]
APIS += ["failed/slow_failed", "delayed", "delayed/2000000000", "schedule", "stats", "redis"]


@pytest.fixture
def filled(second: ResQ) -> ResQ:
    second.push("q", {"class": "A", "args": []})
    second.store.failed.push_for_queue("slow", b"{}")
    second.store.failed.push(b"{}")
    second.store.workers.register("h:1:q", "1795435269")
    second.store.delayed.delay(2_000_000_000, b'{"class":"D","args":[],"queue":"q"}')
    return second


def spoil(resq: ResQ, name: str) -> str:
    """Replace a key by one of another type; returns the beginning of the error about it."""
    key = f"resque:{name}"
    kind = resq.redis.type(key)
    strings = ("stat:", "worker:", "pause", "pruning", "resque:")
    resq.redis.delete(key)
    if kind == b"string" or name.startswith(strings):
        resq.redis.rpush(key, "x")
        return f"{key} is a list: expected "
    resq.redis.set(key, "x")
    return f"{key} is a string: expected a "


@pytest.mark.parametrize("name", KEYS)
def test_a_key_of_an_unexpected_type_is_named_on_every_page_and_nothing_is_down(
    visitor, filled, name
):
    error = spoil(filled, name)
    # Of the pages in TABS and MORE, those with a layout, which has a place for the error.
    html = [path for path in [*TABS[:9], *MORE[:4]] if _shows(visitor, path)]

    texts = {path: visitor.get(path) for path in [*TABS, *MORE] if _shows(visitor, path)}
    assert [path for path, text in texts.items() if "is down" in text] == []
    assert [path for path in html if error not in texts[path]] == []
    for api in APIS:
        status, _, text = visitor.ask("GET", f"/api/{api}")
        if status == 200:
            data = json.loads(text)
            assert data["down"] == []
            assert [one["key"] for one in data["unreadable"]] == [f"resque:{name}"]
    assert 'resque_up{server="two"} 1.0' in texts["/metrics"]
    assert f'key="resque:{name}"' in texts["/metrics"]
    assert visitor.json("/healthz") == {"ok": True, "down": []}


def _shows(visitor: Visitor, path: str) -> bool:
    """Whether the page still exists: its object is unknown when the set with it is unreadable."""
    return visitor.ask("GET", path)[0] == 200


@pytest.mark.parametrize("name", SOME)
def test_a_key_of_one_row_is_named_where_the_row_is_shown(visitor, filled, name):
    error = spoil(filled, name)

    texts = {path: visitor.get(path) for path in SOME[name]}

    assert [path for path, text in texts.items() if error not in text or "is down" in text] == []


@pytest.mark.parametrize("value", ["x", "1.5", "99999999999999999999", ""])
def test_a_counter_that_is_not_an_integer_is_named(visitor, filled, value):
    filled.redis.set("resque:stat:processed", value)

    (counter,) = visitor.json("/api/stats")["unreadable"]

    assert counter["error"] == f"resque:stat:processed is '{value}': expected an integer"


def test_every_page_works_if_every_key_has_an_unexpected_type(visitor, filled):
    for name in [*KEYS, *SOME]:
        spoil(filled, name)

    for path in TABS:
        assert "is down" not in visitor.get(path)


MAIL = base64.b64encode(b'{"queue":"mail","payload":{}}').decode()


@contextlib.contextmanager
def user(resq: ResQ, *rights: str):
    """A user with these rights only, on the server of a ResQ."""
    resq.redis.acl_setuser("few", enabled=True, nopass=True, keys=["*"], commands=rights)
    yield f"few=redis://few:x@127.0.0.1:{resq.port}"
    resq.redis.acl_deluser("few")


def test_a_refused_query_is_reported_and_nothing_is_down(serve, second):
    second.push("q", {"class": "A", "args": []})
    with user(second, "+@all", "-info", "-ping") as dsn:
        visitor = Visitor(serve(create_app([dsn], sample=False)))
        text, metrics = visitor.get("/stats/redis"), visitor.get("/metrics")
        health, queues = visitor.json("/healthz"), visitor.json("/api/queues")

    assert "On few a query was refused" in text
    assert "info" in text
    assert "is down" not in text
    assert 'resque_up{server="few"} 1.0' in metrics
    assert health["ok"] is True
    assert [row["name"] for row in queues["queues"]] == ["q"]


def test_a_user_without_the_right_to_run_scripts_sees_the_pages(serve, second):
    second.push("q", {"class": "A", "args": []})
    with user(second, "+@all", "-@scripting") as dsn:
        visitor = Visitor(serve(create_app([dsn], sample=False)))
        texts = {path: visitor.get(path) for path in TABS}

    assert [path for path, text in texts.items() if "is down" in text] == []
    assert [path for path, text in texts.items() if "query was refused" in text] == []


def test_a_server_that_is_down_is_still_down(serve, second):
    dsns = [f"up={second.dsn}", f"gone=127.0.0.1:{free_port()}"]
    visitor = Visitor(serve(create_app(dsns, sample=False)))
    second.redis.set("resque:workers", "x")

    page = visitor.json("/api/overview")

    assert [one["server"] for one in page["down"]] == ["gone"]
    assert [one["server"] for one in page["unreadable"]] == ["up"]
    assert 'resque_up{server="gone"} 0.0' in visitor.get("/metrics")
    assert visitor.json("/healthz")["down"][0]["server"] == "gone"


def test_the_page_is_unhealthy_if_no_server_answers(serve):
    visitor = Visitor(serve(create_app([f"127.0.0.1:{free_port()}"], sample=False)))

    assert visitor.ask("GET", "/healthz")[0] == 503


@pytest.mark.parametrize(
    ("path", "form", "key"),
    [
        ("/queues/move", {"queue": "q", "target": "r"}, "queue:r"),
        ("/queues/delete_job", {"queue": "q", "job": "e30=", "index": "0"}, "queue:q"),
        ("/failed/retry/", {"failed_job": MAIL, "list": "failed", "index": "1"}, "queues"),
        ("/khans/command", {"khan": "h:1:5", "command": "ADD"}, "khan:h:1:5"),
    ],
)
def test_a_button_that_needs_such_a_key_reports_it_and_loses_nothing(
    visitor, filled, path, form, key
):
    filled.redis.sadd("resque:khans", "h:1:5")
    filled.redis.rpush("resque:failed", base64.b64decode(MAIL))
    spoil(filled, key)
    before = filled.redis.llen("resque:failed")

    status, _, text = visitor.press(path, server="two", **form)

    assert status in (303, 409)
    assert "is down" not in text
    assert filled.redis.llen("resque:failed") == before
    with contextlib.suppress(ResponseError):
        assert filled.redis.llen("resque:queue:q") == 1
