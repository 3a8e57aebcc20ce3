"""The pages over two real servers: sums, rows and where each is from."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime

import pytest
from redis import Redis

from resweb.app import create_app
from tests.servers import free_port
from tests.web.visitor import Visitor
from tests.wire.comparing import golden, names, restore

WORKERS = "resque:workers"
TABS = ["/overview", "/working/", "/failed/", "/queues/", "/workers/", "/delayed/", "/schedule/"]
TABS += ["/stats/resque", "/stats/redis", "/stats/keys", "/stats.txt", "/metrics", "/healthz"]
RECORD = {
    "failed_at": "2026/11/23 16:01:09 UTC",
    "payload": {"class": "Mail", "args": [1]},
    "exception": "ValueError",
    "error": "no such address",
    "backtrace": ["a.rb:1"],
    "worker": "h:1:mail",
    "queue": "mail",
}


def fail(redis: Redis, **more: object) -> bytes:
    raw = json.dumps({**RECORD, **more}).encode()
    redis.rpush("resque:failed", raw)
    return raw


def test_every_number_is_the_sum_over_the_servers_and_every_row_names_its_own(
    visitor, resq, second
):
    resq.push("mail", {"class": "A", "args": []})
    for _ in range(2):
        second.push("mail", {"class": "B", "args": []})
    second.push("only_two", {"class": "C", "args": []})
    resq.stat("processed").incr(3)
    second.stat("processed").incr(4)
    fail(second.redis)

    overview, stats = visitor.json("/api/overview"), visitor.json("/api/stats")["total"]

    rows = {(row["server"], row["name"], row["size"]) for row in overview["queues"]}
    assert rows == {("one", "mail", 1), ("two", "mail", 2), ("two", "only_two", 1)}
    assert (overview["pending"], overview["failed"]) == (4, 1)
    assert (stats["pending"], stats["processed"], stats["queues"]) == (4, 7, 2)
    assert [row["size"] for row in visitor.json("/api/queues?server=one")["queues"]] == [1]


def test_a_server_that_is_down_is_told_and_the_others_stay(serve, resq):
    resq.push("mail", {"class": "A", "args": []})
    app = create_app([f"up={resq.dsn}", f"gone=:secret@127.0.0.1:{free_port()}"], sample=False)
    visitor = Visitor(serve(app))

    pages = [visitor.get(path) for path in TABS]

    assert "gone is down" in pages[0]
    assert ">mail<" in pages[0]
    assert not any("secret" in page for page in pages)
    assert 'resque_up{server="gone"} 0.0' in visitor.get("/metrics")


def test_a_server_that_hangs_is_told_and_keeps_no_page_from_the_others(serve, resq, own_server):
    """It takes connections, as the kernel does for it, and never answers."""
    resq.push("mail", {"class": "A", "args": []})
    app = create_app([f"up={resq.dsn}", f"hung={own_server.dsn}"], sample=False)
    visitor = Visitor(serve(app))
    assert "hung is down" not in visitor.get("/overview")
    own_server.pause()

    try:
        pages = [visitor.get(path) for path in ("/overview", "/queues/", "/failed/", "/metrics")]
        answer = visitor.json("/api/overview")
    finally:
        own_server.resume()

    assert "hung is down" in pages[0]
    assert ">mail<" in pages[0]
    assert 'resque_up{server="hung"} 0.0' in pages[3]
    assert [row["name"] for row in answer["queues"]] == ["mail"]
    assert "hung is down" not in visitor.get("/overview")


def test_every_tab_of_an_empty_server_shows(visitor):
    for path in TABS:
        visitor.get(path)

    assert visitor.ask("GET", "/")[1]["Location"] == "/overview"
    assert visitor.ask("GET", "/workers/h:1:q/")[0] == 404
    assert visitor.ask("GET", "/failed/?start=x1")[0] == 400
    assert visitor.ask("GET", "/queues/?server=none")[0] == 404


def test_pages_of_failures_hold_every_record_once_newest_first(visitor, resq, second):
    for number in range(25):
        fail(resq.redis, error=f"one{number:02}")
    fail(second.redis, error="two")

    first = visitor.json("/api/failed")
    following = visitor.json(f"/api/failed?start={first['following']}")

    errors = [row["error"] for row in [*first["rows"], *following["rows"]]]
    assert sorted(errors) == sorted([*(f"one{number:02}" for number in range(25)), "two"])
    assert "one24" in [row["error"] for row in first["rows"]]
    assert following["following"] is None


@pytest.mark.parametrize("query", ["queue=mail", "class=Mail", "exception=ValueError", "text=such"])
def test_a_filter_shows_only_what_matches(visitor, resq, query):
    fail(resq.redis)
    fail(resq.redis, queue="q", payload={"class": "X", "args": []}, exception="E", error="x")

    rows = visitor.json(f"/api/failed?{query}")["rows"]

    assert [row["error"] for row in rows] == ["no such address"]


def test_no_record_breaks_a_page(visitor, resq):
    poison = [b"", b"{", b"\xff\xfe", b"null", b"[1]", b'"x"', b"{}", b'{"class":7,"args":{}}']
    poison += [b'{"payload":null,"queue":3,"worker":null,"failed_at":1e99,"backtrace":"x"}']
    poison += [b'{"queue":"q","run_at":[],"payload":7}', b'{"a":' * 500 + b"1" + b"}" * 500]
    poison += ['{"class":"<script>alert(1)</script>","args":["{{mustache}}","\u202e"]}'.encode()]
    client = resq.redis
    for raw in poison:
        client.rpush("resque:failed", raw)
        client.rpush("resque:queue:q", raw)
        client.rpush("resque:delayed:5", raw)
        worker = f"h:{len(raw)}:q"
        client.sadd("resque:workers", worker)
        client.set(f"resque:worker:{worker}", raw)
        client.hset("resque:persistent_schedules", worker, raw)
    client.zadd("resque:delayed_queue_schedule", {"5": 5, "x": 6})
    client.sadd("resque:queues", "q", b"\xff")
    client.sadd("resque:workers", b"\xff\xfe", "no colon")

    texts = [visitor.get(path) for path in [*TABS, "/queues/q/", "/delayed/5/"]]

    assert not any("<script>alert" in text for text in texts)
    assert "{{mustache}}" in visitor.get("/queues/q/")
    assert len(visitor.json("/api/queues/q")["rows"]) == len(poison)


def test_five_megabytes_of_arguments_make_a_small_page_and_can_be_deleted(visitor, resq):
    resq.push("big", {"class": "Big", "args": ["x" * 5_000_000]})
    (row,) = visitor.json("/api/queues/big")["rows"]

    assert len(visitor.get("/queues/big/")) < 40_000
    visitor.press("/queues/delete_job", server="one", queue="big", job=row["raw"])

    assert resq.size("big") == 0


@pytest.mark.parametrize("name", names())
def test_what_ruby_wrote_shows(visitor, redis, name):
    dump = golden(name)["redis"]
    restore(redis, dump)

    failed = visitor.json("/api/failed")["rows"]
    workers = visitor.json("/api/workers")["rows"]
    delayed = visitor.json("/api/delayed")["rows"]
    texts = [visitor.get(path) for path in TABS]

    raws = [redis.lrange(key, 0, -1) for key in redis.scan_iter("resque:*failed", _type="LIST")]
    records = [json.loads(raw) for found in raws for raw in found]
    assert sorted(row["error"] for row in failed) == sorted(found["error"] for found in records)
    assert {row["klass"] for row in failed} == {
        found["payload"].get("class", "<no class>") for found in records
    }
    assert all(row["failed_at"] for row in failed)
    assert {row["id"] for row in workers} == set(map(bytes.decode, redis.smembers(WORKERS)))
    assert all(row["started"] for row in workers if row["heartbeat"])
    assert len(delayed) == redis.zcard("resque:delayed_queue_schedule")
    assert all("<h1>" in text for text in texts[:7])


def test_times_of_ruby_node_and_pyres_are_understood():
    from pyres.inspector import moment

    noon = 1795435269.0
    for text in (
        "2026/11/23 12:01:09 UTC",
        "2026/11/23 07:01:09 EST",
        "2026-11-23 07:01:09 -0500",
        "2026-11-23T12:01:09Z",
        "Mon Nov 23 2026 12:01:09 GMT+0000 (Coordinated Universal Time)",
        "1795435269",
        1795435269,
    ):
        assert moment(text) == noon, text
    assert [moment(odd) for odd in (None, [], "soon", 1e99, True, "nan")] == [None] * 6


def test_pages_of_a_million_jobs_and_a_thousand_workers_come_within_200_ms(visitor, resq, redis):
    redis.eval(
        "local t={} for i=1,5000 do t[i]='{\"class\":\"A\",\"args\":[1]}' end "
        "for i=1,200 do redis.call('RPUSH',KEYS[1],unpack(t)) end "
        "for i=1,1000 do local w='h:'..i..':q' redis.call('SADD',KEYS[2],w) "
        "redis.call('SET','resque:worker:'..w,'{\"queue\":\"q\",\"run_at\":\"2026-11-23T12:01:09Z\","
        "\"payload\":{\"class\":\"A\",\"args\":[1]}}') end redis.call('SADD','resque:queues','q')",
        2, "resque:queue:q", "resque:workers",
    )  # fmt: skip
    took = {}
    for path in ("/overview", "/working/", "/workers/", "/queues/", "/queues/q/?start=900000"):
        rounds = []
        for _ in range(3):
            begun = time.perf_counter()
            visitor.get(path)
            rounds.append(time.perf_counter() - begun)
        took[path] = min(rounds)

    assert max(took.values()) < 0.2, took


def test_stats_txt_is_as_rubys(visitor, resq):
    resq.push("mail", {"class": "A", "args": []})

    assert visitor.get("/stats.txt").splitlines() == [
        "resque.pending=1",
        "resque.processed+=0",
        "resque.failed+=0",
        "resque.workers=0",
        "resque.working=0",
        "queues.mail=1",
    ]


def test_the_page_works_under_a_prefix(serve, resq):
    visitor = Visitor(serve(create_app([resq.dsn], url_prefix="/ops/jobs", sample=False)))

    text = visitor.get("/ops/jobs/overview")

    links = re.findall(r'(?:href|src|action)="(/[^"]*)"', text)
    assert links
    assert all(link.startswith("/ops/jobs/") for link in links)


def test_delayed_jobs_and_each_template_show(visitor, resq):
    resq.delayed_push(
        datetime.fromtimestamp(2_000_000_000), {"class": "A", "args": [], "queue": "q"}
    )

    assert visitor.json("/api/delayed")["rows"][0]["timestamp"] == 2_000_000_000
    assert "<code>A</code>" in visitor.get("/delayed/2000000000/")
    assert "A zset of 1" in visitor.get("/stats/keys/delayed_queue_schedule")
