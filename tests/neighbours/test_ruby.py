"""pyres and Ruby's Resque and resque-scheduler on one Redis: each performs the other's jobs."""

from __future__ import annotations

import json

import pytest

from pyres import ResQ, failure
from tests.jobs import ECHOED
from tests.neighbours.jobs import Echo, FailsInRuby
from tests.neighbours.statements import holds
from tests.servers import texts, until

pytestmark = pytest.mark.peer

#: Values that must arrive unchanged and be encoded to the same bytes in both languages.
VALUES = [
    *(0, 1, -1, 255, 2**31, 2**53, 2**53 + 1, 2**63, 10**30, -(10**30)),
    *(0.0, -0.0, 1.0, 0.1, -2.5, 1e-4, 1e-5, 1e-7, 1e15, 1e16, 1e17, 1e20, 1e21, 1e22, 1e300),
    *(1.7976931348623157e308, 5e-324, 123456789.123456789, 2.0**53, 1 / 3),
    *(True, False, None, "", " ", "plain", "é", "☃", "😀", "日本", "\u2028", "\x7f", "\x00\x1f"),
    *('"\\/', "</script>", "a\nb\tc", "@D:", "1", "null"),
    *([], {}, [[]], [{}], {"a": []}, {"": 0}, {"é": {"b": [None, True]}}, [1, [2, [3, [4]]]]),
    {"z": 1, "a": 2, "m": 3},
]


def echoed(redis, count=1):
    """The arguments of the first jobs that have finished."""
    until(lambda: redis.llen(ECHOED) >= count, what=f"{count} jobs done")
    return [json.loads(line) for line in redis.lrange(ECHOED, 0, -1)]


@holds("All JSON values arrive as they were sent")
def test_ruby_and_python_write_the_same_bytes_for_each_value(ruby, resq, redis):
    plain = ResQ(resq.dsn, enqueue_timestamp=False)
    for value in VALUES:
        plain.enqueue(Echo, value)
    for line in redis.lrange("resque:queue:peer", 0, -1):
        redis.rpush("from_python", line)

    ruby("Redis.new(port: PORT).lrange('from_python', 0, -1)"
         ".each { |raw| Resque.push(:from_ruby, JSON.parse(raw)) }.size")  # fmt: skip

    ours, theirs = redis.lrange("from_python", 0, -1), redis.lrange("resque:queue:from_ruby", 0, -1)
    assert texts(theirs) == texts(ours)
    plain.close()


@holds("All JSON values arrive as they were sent")
def test_a_failure_of_ruby_has_each_value_as_python_sent_it(start_ruby, resq, redis):
    for value in VALUES:
        resq.enqueue(FailsInRuby, value)
    start_ruby("work", "peer")
    until(lambda: redis.llen("resque:failed") == len(VALUES), what="a failure for each value")

    records = failure.all(resq, 0, len(VALUES))

    assert [repr(r["payload"]["args"]) for r in records] == [repr([value]) for value in VALUES]
    assert failure.retry_all(resq) == len(VALUES)


@holds("All JSON values arrive as they were sent")
def test_python_performs_what_ruby_enqueued(ruby, start_worker, redis):
    ruby(
        f"JSON.parse({json.dumps(json.dumps(VALUES))}).each {{ |v| Resque.enqueue(Echo, v) }}.size"
    )

    assert start_worker("--burst").wait() == 0

    assert [repr(args) for args in echoed(redis)] == [repr([value]) for value in VALUES]
    assert not redis.exists("resque:failed")


@holds("All JSON values arrive as they were sent")
def test_ruby_performs_what_python_enqueued(start_ruby, resq, redis):
    resq.enqueue(Echo, *VALUES)

    start_ruby("work", "peer")

    (args,) = echoed(redis)
    assert repr(args) == repr(VALUES)
    until(lambda: redis.get("resque:stat:processed") == b"1", what="the job counted")
    assert not redis.exists("resque:failed")
