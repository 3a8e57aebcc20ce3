"""docs/internals.md: each row of its table of fetch calls, done to a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from pyres.store import CONNECTION_ERRORS, Fetched, Fetcher, NotRegistered, Store, scripts
from tests.proxy import Proxy
from tests.servers import ROOT

ME = "here:1:mail"
NOW = "2026-11-23T16:01:09Z"
JOBS = {"A": b'{"class":"A","args":[]}', "B": b'{"class":"B","args":[]}'}
NAMES = {payload: name for name, payload in JOBS.items()}

#: Stop: count the finished job, and put back what no call has returned.
STOP = ", then stop"


def rows() -> Iterator[list[str]]:
    """The cells of each row below the heading `worker`."""
    lines = (ROOT / "docs/internals.md").read_text("utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("| worker | queue before"))
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


ROWS = list(rows())


@pytest.fixture
def fetcher(store: Store, redis: Redis) -> Iterator[Fetcher]:
    redis.script_load(scripts.source("fetch"))
    redis.sadd("resque:workers", ME)
    fetcher = store.fetcher(ME)
    fetcher.set_queues(["mail"])
    yield fetcher
    fetcher.close()


def jobs(names: str) -> list[bytes]:
    return [] if names == "-" else [JOBS[name] for name in names.split()]


def arrange(worker: str, queue: str, fetcher: Fetcher, redis: Redis) -> None:
    """The state before the call; a finished job before it makes the counter a number."""
    redis.rpush("resque:queue:mail", JOBS["B"])
    fetcher.fetch(False, NOW)
    fetcher.finish(NOW)
    if worker == "runs A":
        redis.rpush("resque:queue:mail", JOBS["A"])
        assert fetcher.fetch(False, NOW)
    if worker == "unregistered":
        redis.srem("resque:workers", ME)
    if worker == "paused":
        redis.set("resque:pause-all-workers", "true")
    for payload in jobs(queue):
        redis.rpush("resque:queue:mail", payload)


def calls(call: str, fetcher: Fetcher) -> Callable[[], Fetched | None]:
    """What the worker does, and does again when the connection was lost."""
    if call == "finish":
        return lambda: fetcher.finish(NOW)
    return lambda: fetcher.fetch("finished" in call, NOW)


def disturb(connection: str, proxy: Proxy) -> None:
    at = b"EVALSHA"
    faults: dict[str, Callable[[bytes], Any]] = {
        "request lost": proxy.lose_request,
        "reply lost": proxy.lose_reply,
        "late": proxy.delay_request,
    }
    if connection != "holds":
        faults[connection](at)


def outcome(call: str, connection: str, fetcher: Fetcher, proxy: Proxy) -> str:
    act = calls(call.removesuffix(STOP), fetcher)
    if connection != "holds":
        with pytest.raises(CONNECTION_ERRORS):
            act()
    if call.endswith(STOP):
        if "finished" in call:
            fetcher.finish(NOW)
        fetcher.put_back_undelivered(NOW)
        return "-"
    try:
        fetched = act()
    except NotRegistered:
        return "NotRegistered"
    if connection == "late":
        proxy.pass_late()
    return "-" if fetched is None else NAMES[fetched.payload]


def in_flight(redis: Redis) -> str:
    record = redis.get(f"resque:worker:{ME}")
    return "-" if record is None else next(n for n, payload in JOBS.items() if payload in record)


def waiting(redis: Redis) -> str:
    payloads = redis.lrange("resque:queue:mail", 0, -1)
    return " ".join(NAMES[payload] for payload in payloads) or "-"


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_a_fetch_call_leads_to_what_the_table_says(
    row: list[str], fetcher: Fetcher, proxy: Proxy, redis: Redis
) -> None:
    worker, queue, call, connection, *expected = row
    arrange(worker, queue, fetcher, redis)
    before = int(redis.get("resque:stat:processed"))

    disturb(connection, proxy)
    returned = outcome(call, connection, fetcher, proxy)

    processed = str(int(redis.get("resque:stat:processed")) - before)
    assert [returned, in_flight(redis), waiting(redis), processed] == expected


def test_the_table_has_each_fate_of_a_connection() -> None:
    assert {row[3] for row in ROWS} == {"holds", "request lost", "reply lost", "late"}
    assert len(ROWS) > 20
