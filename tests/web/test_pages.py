"""The pages for two real servers: totals, rows, and the server of each row."""

from __future__ import annotations

import html
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from redis import Redis

from pyres import inspector
from pyres.active_schedule import ActiveSchedule
from pyres.schedule import PublishedEntry
from resweb import sampler
from resweb.app import create_app
from tests.servers import free_port, until
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


def test_every_number_is_the_total_of_all_servers_and_every_row_names_its_server(
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


def test_a_server_that_is_down_is_reported_and_the_others_are_shown(serve, resq):
    resq.push("mail", {"class": "A", "args": []})
    app = create_app([f"up={resq.dsn}", f"gone=:secret@127.0.0.1:{free_port()}"], sample=False)
    visitor = Visitor(serve(app))

    pages = [visitor.get(path) for path in TABS]

    assert "gone is down" in pages[0]
    assert ">mail<" in pages[0]
    assert not any("secret" in page for page in pages)
    assert 'resque_up{server="gone"} 0.0' in visitor.get("/metrics")


HUNG = [path for path in TABS if path not in ("/stats.txt", "/metrics", "/healthz")]
HUNG += ["/queues/mail/", "/delayed/5/", "/workers/h:1:q/", "/stats/keys?server=hung"]


def test_servers_that_hang_are_reported_on_every_page_and_queried_in_parallel(
    serve, resq, own_server, second_server
):
    """They accept connections, as the kernel does for a stopped process, and never answer."""
    resq.push("mail", {"class": "A", "args": []})
    dsns = [f"hung={own_server.dsn}", f"up={resq.dsn}", f"dead={second_server.dsn}"]
    visitor = Visitor(serve(create_app(dsns, sample=False)))
    assert "hung is down" not in visitor.get("/overview")
    own_server.pause()
    second_server.pause()

    try:
        with ThreadPoolExecutor(4) as pool:
            texts = dict(zip(HUNG, pool.map(visitor.get, HUNG), strict=True))
            answers = list(pool.map(visitor.json, ["/api/overview", "/api/failed", "/healthz"]))
        metrics = visitor.get("/metrics")
        plain = visitor.get("/stats.txt")
    finally:
        own_server.resume()
        second_server.resume()

    assert {path: text.count("is down.</strong>") for path, text in texts.items()} == {
        path: 1 if "server=" in path or path == "/stats/keys" else 2 for path in HUNG
    }
    assert ">mail<" in texts["/overview"]
    assert 'resque_up{server="hung"} 0.0' in metrics
    assert [row["name"] for row in answers[0]["queues"]] == ["mail"]
    assert answers[2]["ok"] is True
    assert "queues.mail=1" in plain
    assert until(lambda: "is down" not in visitor.get("/overview"), 30)


def test_every_tab_of_an_empty_server_shows(visitor):
    for path in TABS:
        visitor.get(path)

    assert visitor.ask("GET", "/")[1]["Location"] == "/overview"
    assert visitor.ask("GET", "/workers/h:1:q/")[0] == 404
    assert visitor.ask("GET", "/failed/?start=x1")[0] == 400
    assert visitor.ask("GET", "/queues/?server=none")[0] == 404


@pytest.mark.parametrize("query", ["queue=mail", "class=Mail", "exception=ValueError", "text=such"])
def test_a_filter_shows_only_what_matches(visitor, resq, query):
    fail(resq.redis)
    fail(resq.redis, queue="q", payload={"class": "X", "args": []}, exception="E", error="x")

    rows = visitor.json(f"/api/failed?{query}")["rows"]

    assert [row["error"] for row in rows] == ["no such address"]


def test_no_record_breaks_a_page(visitor, resq):
    malformed = [b"", b"{", b"\xff\xfe", b"null", b"[1]", b'"x"', b"{}", b'{"class":7,"args":{}}']
    malformed += [b'{"payload":null,"queue":3,"worker":null,"failed_at":1e99,"backtrace":"x"}']
    malformed += [b'{"queue":"q","run_at":[],"payload":7}', b'{"a":' * 500 + b"1" + b"}" * 500]
    malformed += ['{"class":"<script>alert(1)</script>","args":["{{mustache}}","\u202e"]}'.encode()]
    client = resq.redis
    for raw in malformed:
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

    paths = [*TABS, "/queues/q/", "/delayed/5/", "/overview.poll"]
    texts = [visitor.get(path) for path in paths]

    assert not any("is down" in text for text in texts)
    assert not any("<script>alert" in text for text in texts)
    assert "{{mustache}}" in visitor.get("/queues/q/")
    assert len(visitor.json("/api/queues/q")["rows"]) == len(malformed)


def test_keys_of_an_unexpected_type_break_no_page(visitor, resq):
    client = resq.redis
    client.sadd("resque:queues", "typed")
    client.sadd("resque:failed_queues", "typed_failed")
    client.mset({"resque:queue:typed": "x", "resque:typed_failed": "x", "resque:stat:failed": "x"})
    client.hset("resque:pyres:schedule", mapping={"a": "7", "b": '{"klass":"A"}', "c": b"\xff"})
    client.hset("resque:delayed:last_enqueued_at", b"\xff", "never")

    paths = [*TABS, "/failed/typed_failed/", "/overview.poll"]

    assert [path for path in paths if "is down" in visitor.get(path)] == []


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
    records = [json.loads(raw) for elements in raws for raw in elements]
    assert sorted(row["error"] for row in failed) == sorted(record["error"] for record in records)
    assert {row["klass"] for row in failed} == {
        record["payload"].get("class", "<no class>") for record in records
    }
    assert all(row["failed_at"] for row in failed)
    assert {row["id"] for row in workers} == set(map(bytes.decode, redis.smembers(WORKERS)))
    assert all(row["started"] for row in workers if row["heartbeat"])
    assert len(delayed) == redis.zcard("resque:delayed_queue_schedule")
    assert all("<h1>" in text for text in texts[:7])


@pytest.mark.timing
def test_pages_of_a_million_jobs_and_a_thousand_workers_take_less_than_200_ms(visitor, resq, redis):
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


# Failures of several servers and lists


def at(second: int) -> str:
    return f"2026/11/23 16:00:{second:02} UTC"


def all_pages(visitor: Visitor, path: str, between=lambda: None) -> list[dict]:
    rows, start = [], ""
    while True:
        page = visitor.json(f"{path}{'&' if '?' in path else '?'}start={start}")
        rows += page["rows"]
        if not page["has_following"]:
            return rows
        start = quote(page["following"])
        between()


def test_failures_of_all_servers_and_lists_are_one_list_newest_first(visitor, resq, second):
    for second_ in range(50):
        server = (resq, second)[second_ % 2]
        fail(server.redis, error=str(second_), failed_at=at(second_))
    own = json.dumps({**RECORD, "queue": "odd", "error": "own", "failed_at": at(25)})
    second.redis.rpush("resque:odd_failed", own)
    second.redis.sadd("resque:failed_queues", "odd_failed")

    first = visitor.json("/api/failed")
    rows = all_pages(visitor, "/api/failed")

    times = [row["failed_at"] for row in rows]
    assert times == sorted(times, reverse=True)
    assert sorted(row["error"] for row in rows) == sorted([*map(str, range(50)), "own"])
    assert first["span"] == {"first": 1, "last": 20, "of": 51}
    assert {row["of"] for row in rows} == {"failed", "odd_failed"}


def test_new_failures_shift_no_page(visitor, resq, second):
    for second_ in range(50):
        fail((resq, second)[second_ % 2].redis, error=str(second_), failed_at=at(second_))

    def another() -> None:
        fail(resq.redis, error="new", failed_at=at(59))
        fail(second.redis, error="new", failed_at=at(59))

    rows = all_pages(visitor, "/api/failed", another)

    assert [row["error"] for row in rows] == [str(number) for number in range(49, -1, -1)]


def test_failures_are_oldest_first_on_request(visitor, resq, second):
    for second_ in range(50):
        fail((resq, second)[second_ % 2].redis, error=str(second_), failed_at=at(second_))
    fail(second.redis, error="some day", failed_at="some day")
    new = iter(["50", "51", "52"])

    def another() -> None:
        if error := next(new, ""):
            fail(resq.redis, error=error, failed_at=at(int(error)))

    rows = all_pages(visitor, "/api/failed?order=asc", another)

    errors = [row["error"] for row in rows if row["error"] != "some day"]
    assert errors[:50] == list(map(str, range(50)))
    assert len(rows) == len(errors) + 1 >= 53
    assert visitor.json("/api/failed?order=asc&server=one&start=20")["rows"][0]["error"] == "40"
    assert visitor.json("/api/failed?order=asc&server=one&start=20")["span"]["first"] == 21
    assert "Newest first" in visitor.get("/failed/?order=asc&start=20")
    assert visitor.ask("GET", "/failed/?order=up")[0] == 400


@pytest.mark.parametrize("order", ["desc", "asc"])
def test_a_filter_finds_all_in_order_though_it_reads_few_per_page(
    visitor, resq, second, monkeypatch, order
):
    monkeypatch.setattr(inspector, "FILTER_SCAN_LIMIT", 7)
    wanted = []
    for second_ in range(50):
        error = "wanted" if second_ % 9 == 0 or second_ > 45 else "other"
        fail((resq, second)[second_ % 2].redis, error=error, failed_at=at(second_))
        wanted += [at(second_)] if error == "wanted" else []

    rows = all_pages(visitor, f"/api/failed?text=wanted&order={order}")

    times = [row["failed_at_text"] for row in rows]
    assert times == (wanted if order == "asc" else wanted[::-1])


def test_resques_start_skips_that_many_failures(visitor, resq):
    for number in range(45):
        fail(resq.redis, error=str(number))

    page = visitor.json("/api/failed?start=20")

    assert [row["error"] for row in page["rows"]] == [str(n) for n in range(24, 4, -1)]
    assert page["span"] == {"first": 21, "last": 40, "of": 45}
    assert 'rel="prev"' in visitor.get("/failed/?start=20&server=one")


def test_a_failure_keeps_its_address_until_it_is_removed(visitor, resq, second):
    for number in range(30):
        fail(second.redis, error=str(number))
    row = visitor.json("/api/failed")["rows"][12]
    path, error = f"/failed/{row['path']}", row["error"]

    second.redis.lpop("resque:failed", 3)
    fail(second.redis, error="newer")

    hinted = visitor.get(f"{path}?at={row['index']}")
    assert f"<summary>{error}<" in hinted
    assert "[[" not in hinted
    assert f"<summary>{error}<" in visitor.get(path)
    assert f'href="{path}?server=two' in visitor.get("/failed/")
    (shown,) = visitor.json(f"/api{path}?server=two")["rows"]
    assert (shown["error"], shown["index"]) == (error, row["index"] - 3)
    visitor.press("/failed/delete/", server="two", failed_job=row["record"])
    status, _, text = visitor.ask("GET", path)
    assert status == 404
    assert "no longer" in text
    assert visitor.ask("GET", f"/failed/{'0' * 32}/{'0' * 32}")[0] == 404


def test_a_polling_page_searches_little_for_a_removed_failure(visitor, second, second_server):
    for number in range(4000):
        fail(second.redis, error=str(number))
    row = visitor.json("/api/failed?server=two")["rows"][0]
    path = f"/failed/{row['path']}?at={row['index']}"
    visitor.headers = {"X-Resweb-Poll": "1"}
    visitor.press("/failed/delete/", server="two", failed_job=row["record"])

    with second_server.monitor() as monitor:
        polled = visitor.ask("GET", path)
        few = monitor.everything
        visitor.headers = {}
        clicked = visitor.ask("GET", path)
        many = monitor.everything

    assert (polled[0], clicked[0]) == (404, 404)
    assert "no longer" in polled[2]
    assert _elements_read(few) < 2200
    assert _elements_read(many) > 4000


@pytest.mark.parametrize("path", ["/api/failed", "/api/failed?text=none", "/api/failed?order=asc"])
def test_large_failures_are_read_in_small_steps(visitor, second, second_server, path):
    for number in range(60):
        fail(second.redis, error="x" * 300_000, payload={"class": "M", "args": [number]})

    with second_server.monitor() as monitor:
        visitor.get(path)
        spans = [
            int(c.args[2]) - int(c.args[1]) + 1 for c in monitor.everything if c.name == "LRANGE"
        ]

    assert max(spans) <= 8


def test_the_kinds_of_large_failures_are_counted_in_a_small_sample(visitor, second):
    for number in range(60):
        fail(second.redis, error="x" * 300_000, payload={"class": "M", "args": [number]})

    (kind,) = visitor.json("/api/failed?server=two")["classes"]

    assert 10 < kind["count"] < 20


def _elements_read(commands) -> int:
    return sum(int(c.args[2]) - int(c.args[1]) + 1 for c in commands if c.name == "LRANGE")


def test_links_and_forms_work_with_any_server_name(serve, second):
    fail(second.redis)
    second.push("q", {"class": "A", "args": []})
    name = "a+b & c#d"
    visitor = Visitor(serve(create_app([f"{name}={second.dsn}"], sample=False)))

    text = visitor.get(f"/failed/?server={quote(name)}")
    links = {html.unescape(found) for found in re.findall(r'href="(/[^"]*server=[^"]*)"', text)}

    assert len(links) > len(TABS) - 6
    for link in links:
        visitor.get(link)
    record = visitor.json("/api/failed")["rows"][0]["record"]
    visitor.press("/failed/retry/", record=f"{name} {record}")
    assert second.redis.llen("resque:failed") == 0


def test_no_other_key_is_read_as_a_failure_list(visitor, resq):
    resq.push("secret", {"class": "A", "args": ["treasure"]})
    digest = inspector.digest_of(resq.redis.lindex("resque:queue:secret", 0))

    page = visitor.json("/api/failed/failed?start=0:queue%253Asecret:5")
    assert "treasure" not in json.dumps(page)
    for path in ("/failed/queue:secret/", f"/failed/queue:secret/{digest}"):
        status, _, text = visitor.ask("GET", path)
        assert status == 404
        assert "treasure" not in text


def test_kinds_of_the_newest_failures_link_to_these_failures(visitor, resq):
    for number in range(3):
        fail(resq.redis, exception="IOError" if number else "KeyError")

    page = visitor.json("/api/failed")

    kinds = [(kind["kind"], kind["count"]) for kind in page["exceptions"]]
    assert kinds == [("IOError", 2), ("KeyError", 1)]
    assert '<a href="?exception=IOError">IOError (2)</a>' in visitor.get("/failed/")
    assert [row["exception"] for row in visitor.json("/api/failed?exception=IOError")["rows"]] == [
        "IOError"
    ] * 2


# Names that cannot be part of a URL

NAMES = [b"\xff\xfe", b"a/b", b"..", b"a//b", b"/", b"b64:x", b"a?b=c&d#e", b" ", b"%2e"]
NAMES += ["caf\u00e9".encode()]


@pytest.mark.parametrize("name", NAMES)
def test_a_link_finds_an_object_of_any_name(visitor, second, name):
    redis = second.redis
    redis.sadd("resque:queues", name)
    redis.rpush(b"resque:queue:" + name, b'{"class":"Found","args":[]}')
    redis.sadd("resque:workers", b"h:1:" + name)
    redis.sadd("resque:failed_queues", name + b"_failed")
    redis.rpush(b"resque:" + name + b"_failed", json.dumps(RECORD))

    def follow(page: str, among: str) -> str:
        link = re.search(rf'href="(/(?:{among})/[^"]+)"', visitor.get(page))
        assert link, page
        return visitor.get(html.unescape(link[1]))

    assert "<code>Found</code>" in follow("/queues/", "queues")
    assert "<dt>Pid</dt><dd>1</dd>" in follow("/workers/", "workers")
    assert "no such address" in follow("/failed/", r"failed/[^\"/]*_failed|failed/b64[^\"/]*")
    (row,) = visitor.json("/api/queues")["queues"]
    assert visitor.json(f"/api/queues/{row['path']}")["total"] == 1
    visitor.press("/queues/move", server="two", queue=row["handle"], target="else")
    assert redis.lrange("resque:queue:else", 0, -1) == [b'{"class":"Found","args":[]}']
    visitor.press("/queues/remove", server="two", queue=row["handle"])
    assert redis.smembers("resque:queues") == {b"else"}


# Keys


@pytest.mark.parametrize("size", [25, 700])
def test_all_elements_of_a_key_of_each_type_are_shown_page_by_page(visitor, second, size):
    names = [f"member{number:03}" for number in range(size)]
    redis = second.redis
    redis.rpush("resque:list", *names)
    redis.sadd("resque:set", *names)
    redis.zadd("resque:zset", {name: number for number, name in enumerate(names)})
    redis.hset("resque:hash", mapping={name: "v" for name in names})
    redis.set("resque:string", "".join(names))

    for kind in ("list", "set", "zset", "hash", "string"):
        for server in ("", "&server=two"):
            elements, start, most = [], "0", 0
            while start is not None:
                page = visitor.json(f"/api/keys/{kind}?start={start}{server}")
                (row,) = page["rows"]
                elements += row["elements"]
                most = max(most, len(row["elements"]))
                start = page["following"]
            assert row["kind"] == kind
            if kind == "string":
                assert "".join(elements) == "".join(names)
            else:
                assert {text.partition(" = ")[0] for text in elements} == set(names)
            assert most < 200 or size == 25


def test_a_key_of_a_million_is_read_a_page_at_a_time(visitor, resq, server):
    for start in range(0, 1_000_000, 50_000):
        # In steps, since the server must answer before the client times out.
        resq.redis.eval(
            "for i=0,49 do local t={} for j=1,1000 do t[j]=ARGV[1]+i*1000+j end "
            "redis.call('SADD',KEYS[1],unpack(t)) redis.call('RPUSH',KEYS[2],unpack(t)) end",
            2, "resque:set", "resque:list", start,
        )  # fmt: skip

    with server.monitor() as monitor:
        assert len(visitor.json("/api/keys/set?server=one")["rows"][0]["elements"]) < 100
        assert len(visitor.json("/api/keys/list?server=one")["rows"][0]["elements"]) == 20
        assert not {"SMEMBERS", "HGETALL", "KEYS"} & set(monitor.names)
    assert "A set of 1000000" in visitor.get("/stats/keys/set?server=one")


# Like resque-web


def test_workers_of_a_host_have_a_page_with_its_name(visitor, resq, second):
    for worker in ("web1:1:a", "web1:2:a", "web2:1:a"):
        resq.store.workers.register(worker, "1795435269")
    second.store.workers.register("web1:3:b", "1795435269")

    assert "web1 (3)" in visitor.get("/workers/")
    assert len(visitor.json("/api/workers/web1")["rows"]) == 3
    assert "<h1>3 workers on web1</h1>" in visitor.get("/workers/web1/")
    assert "<h1>4 workers</h1>" in visitor.get("/workers/all")
    assert visitor.ask("GET", "/workers/nobody/")[0] == 404


@pytest.mark.parametrize("path", ["/overview", "/working", "/workers"])
def test_a_polled_page_is_the_page_without_its_layout(visitor, path):
    text = visitor.get(f"{path}.poll")

    assert text.lstrip().startswith("<h1>")
    assert "<html" not in text
    whole = re.sub(r'<div class="actions">.*?</div>', "", visitor.get(path), flags=re.DOTALL)
    assert " ".join(text.split()) in " ".join(whole.split())


def test_the_oldest_job_of_each_queue_is_shown(visitor, resq):
    resq.enqueue_timestamp = True
    resq.push("q", {"class": "A", "args": [], "enqueue_timestamp": 1795435269})

    assert visitor.json("/api/queues")["queues"][0]["oldest"] == 1795435269
    assert 'datetime="2026-11-23T12:01:09+00:00"' in visitor.get("/queues/")


def test_samples_have_the_sizes_of_the_largest_queues_or_of_one(serve, resq, second, monkeypatch):
    monkeypatch.setattr(sampler, "SAMPLE_INTERVAL", 0.1)
    app = create_app([f"one={resq.dsn}", f"two={second.dsn}"])
    visitor = Visitor(serve(app))
    for number, queue in enumerate("abcdefg"):
        resq.store.queues.push(queue, [b"{}"] * (number + 1))
    second.store.queues.push("a", [b"{}"] * 10)

    def last() -> dict:
        return (visitor.json("/api/samples")["samples"] or [{"pending": 0}])[-1]

    until(lambda: last()["pending"] == 38, 60)

    assert last()["queues"] == {"a": 11, "d": 4, "e": 5, "f": 6, "g": 7}
    assert visitor.json("/api/samples?server=one&queue=b")["samples"][-1]["queues"] == {"b": 2}


def test_a_time_in_an_unknown_zone_is_shown_as_written_without_an_age(visitor, resq):
    fail(resq.redis, failed_at="2026/11/23 16:01:09 XYZ")
    resq.redis.sadd(WORKERS, "php:1:mail")
    resq.redis.set("resque:worker:php:1:mail:started", "Mon Nov 23 16:01:08 QQQ 2026")
    record = {"queue": "mail", "run_at": "Mon Nov 23 16:01:10 WWW 2026", "payload": {"class": "A"}}
    resq.redis.set("resque:worker:php:1:mail", json.dumps(record))
    (failure,) = visitor.json("/api/failed?server=one")["rows"]
    (worker,) = visitor.json("/api/workers?server=one")["rows"]
    shown = visitor.get("/failed/"), visitor.get("/workers/php%3A1%3Amail/?server=one")

    assert (failure["failed_at"], worker["started"], worker["run_at"]) == (None, None, None)
    assert "2026/11/23 16:01:09 XYZ" in shown[0]
    assert "Mon Nov 23 16:01:08 QQQ 2026" in shown[1]
    assert "Mon Nov 23 16:01:10 WWW 2026" in shown[1]
    assert not any("<time" in page for page in shown)


def test_the_age_of_a_failure_takes_its_time_zone_into_account(visitor, resq):
    for at in ("13:01:10 CET", "17:31:09 IST", "09:01:11 -03"):
        fail(resq.redis, failed_at=f"2026/11/23 {at}", error=at)

    rows = visitor.json("/api/failed?server=one")["rows"]

    assert [row["error"] for row in rows] == ["09:01:11 -03", "17:31:09 IST", "13:01:10 CET"]
    assert sorted(row["failed_at"] for row in rows) == [1795435269, 1795435270, 1795435271]


@pytest.mark.parametrize("ahead", [-7200, 600])
def test_ages_are_by_the_servers_clock_and_not_by_that_of_the_pages_host(
    visitor, resq, monkeypatch, ahead
):
    now = resq.redis.time()[0]
    resq.store.workers.register("h:1:q", str(now - 300))
    resq.store.delayed.delay(now + 4000, b'{"class":"D","args":[],"queue":"q"}')
    fail(resq.redis, failed_at=f"{datetime.fromtimestamp(now - 7300, UTC):%Y/%m/%d %H:%M:%S} UTC")
    resq.redis.hset("resque:workers:heartbeat", "h:1:q", str(datetime.fromtimestamp(now, UTC)))
    host_time = time.time
    monkeypatch.setattr(time, "time", lambda: host_time() + ahead)

    assert ">5 min ago<" in visitor.get("/workers/h:1:q/")
    assert ">1 h from now<" in visitor.get("/delayed/")
    assert visitor.json(f"/api/delayed/{now + 4000}")["due"]["ago"] == "1 h from now"
    assert ">2 h ago<" in visitor.get("/failed/")
    (age,) = re.findall(r'heartbeat_age_seconds{server="one"} (\S+)', visitor.get("/metrics"))
    assert 0 <= float(age) < 300


# The schedule


def test_the_schedule_shows_the_masters_entries_from_code_file_and_redis(visitor, resq, tmp_path):
    path = tmp_path / "schedule.json"
    path.write_text('{"filed": {"every": "1h", "class": "F", "queue": "low", "args": [1]}}')
    resq.set_schedule("stored", {"cron": "0 3 * * *", "class": "S", "queue": "low"})
    resq.redis.hset("resque:delayed:last_enqueued_at", "gone", "2026-11-23 12:01:09 +0000")
    active_schedule = ActiveSchedule(resq, str(path), dynamic=True)
    active_schedule.load()
    since = int(time.time())
    active_schedule.start(since)

    rows = {row["name"]: row for row in visitor.json("/api/schedule?server=one")["rows"]}
    text = visitor.get("/schedule/")

    assert {name: row["source"] for name, row in rows.items()} == {
        "filed": "file", "stored": "Redis", "gone": "",
    }  # fmt: skip
    assert rows["filed"]["next"] == since + 1 + 3600
    assert since < rows["stored"]["next"] <= since + 25 * 3600
    assert rows["gone"]["last"] == 1795435269
    assert "no longer known" in text
    assert "No scheduler is the master" in text
    assert "No scheduler enqueues entries from code and files" in text
    visitor.press("/schedule/run", server="one", name="filed")
    assert resq.peek("low", 0, 9)[0]["args"] == [1]


def test_the_schedule_shows_the_error_of_each_entry(visitor, resq, tmp_path):
    path = tmp_path / "schedule.json"
    path.write_text('{"bad": {"cron": "<b>"}, "lost": {"every": "1h", "class": "No.Such"}}')
    plain = {"every": "1h", "class": "A::B", "queue": "low"}
    for name, config in {
        "garbled": 5,
        "custom": {**plain, "custom_job_class": "X"},
        "lost_too": {"every": "1h", "class": "A::B"},
        "limited": {**plain, "every": ["1h", {"last_in": "2h", "times": 1}]},
        "over": {**plain, "every": ["1h", {"last_at": "2020-01-01"}]},
    }.items():
        resq.redis.hset("resque:persistent_schedules", name, json.dumps(config))
    active_schedule = ActiveSchedule(resq, str(path), dynamic=True)
    active_schedule.load()
    active_schedule.start(int(time.time()))
    resq.store.schedules.master_lock().acquire("ruby:1", 100)
    resq.store.schedules.static_lock().acquire("here:2", 100)

    rows = {row["name"]: row for row in visitor.json("/api/schedule?server=one")["rows"]}
    text = visitor.get("/schedule/")

    assert {name: row["source"] for name, row in rows.items() if row["fault"]} == {
        "bad": "file", "lost": "file", "garbled": "Redis", "custom": "Redis", "lost_too": "Redis",
    }  # fmt: skip
    assert [name for name, row in rows.items() if row["next"]] == ["limited"]
    assert rows["limited"]["timing"] == "every 3600 s (last_in 2h, times 1)"
    assert "The master scheduler is ruby:1." in text
    assert "Entries from code and files are enqueued by here:2." in text
    assert "custom_job_class &#x27;X&#x27;" in text or "custom_job_class &#39;X&#39;" in text
    # Invalid entries cannot be run.
    assert text.count("Run now") == 2
    resq.redis.hset("resque:persistent_schedules", "garbled", json.dumps(plain))
    resq.store.schedules.publish_faults({}, ["garbled"])
    resq.redis.hdel("resque:persistent_schedules", "custom")
    rows = {row["name"]: row for row in visitor.json("/api/schedule?server=one")["rows"]}
    assert "custom" not in rows
    assert rows["garbled"]["fault"] == ""


def test_a_schedule_entry_run_now_is_skipped_as_a_duplicate_of_a_unique_job(visitor, resq):
    entry = PublishedEntry("No.Such.Class", "low", [], "every 60 s", 2_000_000_000, unique_for=60.0)
    resq.store.schedules.publish({"once": entry.encoded()})

    for _ in range(2):
        visitor.press("/schedule/run", server="one", name="once")

    assert resq.size("low") == 1
    assert "Skipped duplicate of unique job once" in visitor.get("/schedule/")


def test_an_entry_that_is_neither_active_nor_stored_cannot_be_run(visitor):
    status, _, text = visitor.press("/schedule/run", server="one", name="nothing")

    assert status == 400
    assert "nothing" in text
