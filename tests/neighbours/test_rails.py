"""Jobs of Rails' ActiveJob, with the ActiveJob that is installed in this Ruby."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import pytest

from pyres import ResQ
from pyres.active_job import GlobalID, Symbol
from tests.jobs import ECHOED
from tests.neighbours.conftest import Ruby
from tests.neighbours.jobs import Echo, Once
from tests.neighbours.statements import holds

pytestmark = pytest.mark.peer

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)


@pytest.fixture
def rails(checkouts, server, redis):
    """A separate Ruby process, since Rails changes how the process writes JSON."""
    ruby = Ruby(server.port)
    missing = ruby("load_rails")
    if missing:
        ruby.close()
        pytest.skip(f"no ActiveJob here (ruby-activejob): {missing}")
    yield ruby
    ruby.close()


@holds("performs what the ActiveJob class of this name enqueued")
def test_python_performs_the_active_jobs_of_rails(rails, start_worker, redis):
    rails("""MailJob.perform_later(1, "é", 2.5, nil, [:a], {"b" => :c}, User.new(7),
        Time.utc(2026, 1, 2, 3, 4, 5.678r), Date.new(2026, 1, 2), 90.seconds, to: "x"); nil""")
    rails("MailJob.set(wait: -1).perform_later(2); Resque::Scheduler.handle_delayed_items; nil")

    assert start_worker("--burst").wait() == 0

    values = [1, "é", 2.5, None, ["a"], {"b": "c"}, "gid://shop/User/7"]
    values += [str(MOMENT), "2026-01-02", "0:01:30"]
    assert [json.loads(line) for line in redis.lrange(ECHOED, 0, -1)] == [
        [values, {"to": "x"}],
        [[2], {}],
    ]
    assert not redis.exists("resque:failed")


@holds('`resq.enqueue_active_job("MailJob", "mail", 7)` enqueues')
def test_rails_performs_the_active_jobs_of_python(rails, resq, redis):
    values = [1, "<é>", 2.5, None, Symbol("a"), {"b": Symbol("c")}, GlobalID("gid://shop/User/7")]
    values += [MOMENT, date(2026, 1, 2), timedelta(seconds=90)]
    resq.enqueue_active_job("MailJob", "peer", *values, to="x")
    resq.enqueue_active_job_at(datetime(2026, 1, 1), "MailJob", "peer", 2)

    rails("""Resque::Scheduler.handle_delayed_items
        2.times { Resque.reserve(:peer).perform }; nil""")

    assert [json.loads(line) for line in redis.lrange(ECHOED, 0, -1)] == [
        [
            [
                ["Integer", 1], ["String", "<é>"], ["Float", 2.5], ["NilClass", None],
                ["Symbol", "a"], ["Hash", {"b": "c"}], ["User", {"id": 7}],
                ["Time", "2026-01-02T03:04:05.678Z"], ["Date", "2026-01-02"],
                ["ActiveSupport::Duration", 90],
            ],
            [["to", "x"]],
        ],
        [[["Integer", 2]], []],
    ]  # fmt: skip


@holds("A unique job of Python that Ruby or node")
def test_a_unique_job_that_rails_promoted_is_found_as_rails_writes_it(rails, resq, redis):
    assert resq.enqueue_in(3600, Once, "<b>&") is True

    (due,) = resq.delayed_queue_peek(0, 2)
    rails(f"Resque::Scheduler.enqueue_delayed_items_for_timestamp({due}); nil")
    (raw,) = redis.lrange("resque:queue:peer", 0, -1)

    assert resq.enqueue(Once, "<b>&") is False
    redis.delete("resque:queue:peer")
    (key,) = redis.keys("resque:pyres:unique_job:*")
    redis.hincrbyfloat(key, "checked", -3600)
    assert resq.enqueue(Once, "<b>&") is True
    assert b"\\u003c" in raw


@holds("Rails writes `<`, `>` and `&` as escapes")
def test_rails_does_not_find_jobs_with_characters_that_it_escapes_and_python_does(rails, resq, dsn):
    plain = ResQ(dsn, enqueue_timestamp=False)
    for text in ("a<b", "a>b", "a&b", "ab"):
        plain.enqueue(Echo, text)
        plain.enqueue_in(3600, Echo, text)
        rails(f"Resque.enqueue(Echo, '{text}'); Resque.enqueue_in(3600, Echo, '{text}'); nil")

        removed = rails(f"[Resque.dequeue(Echo, '{text}'), Resque.remove_delayed(Echo, '{text}')]")

        assert removed == ([2, 2] if text == "ab" else [1, 1])
        assert [resq.dequeue(Echo, text), resq.remove_delayed(Echo, text)] == [
            2 - removed[0], 2 - removed[1],
        ]  # fmt: skip
    plain.close()
