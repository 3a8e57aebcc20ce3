"""Unique locks whose jobs Ruby or node removed or performed: the next check releases them."""

from __future__ import annotations

import pytest

from tests.neighbours.jobs import Once
from tests.neighbours.statements import holds

pytestmark = pytest.mark.peer

ARGS = [1, -2.5, "é", {"b": [None], "a": 2}]

#: Ruby code that removes or performs a job on its queue (None), or a delayed one (seconds).
IN_RUBY = [
    (None, "Resque.remove_queue('peer')"),
    (None, "Resque.reserve(:peer).perform"),
    (None, "Resque.pop(:peer)"),
    (3600, "Resque.reset_delayed_queue"),
    (3600, "Resque.remove_delayed_selection { |args| true }"),
    (3600, "Resque.enqueue_delayed_selection { true }; Resque.remove_queue('peer')"),
]


def enqueue(resq, later):
    """Enqueue the job, delayed by `later` seconds if set."""
    if later is None:
        return resq.enqueue(Once, *ARGS)
    return resq.enqueue_in(later, Once, *ARGS)


def forget_the_last_check(redis):
    """Set the time of the last check to an hour ago."""
    (key,) = redis.keys("resque:pyres:unique_job:*")
    assert redis.hexists(key, "checked")
    redis.hincrbyfloat(key, "checked", -3600)


@holds("A unique job of Python that Ruby or node")
@pytest.mark.parametrize(("later", "code"), IN_RUBY)
def test_a_unique_job_that_ruby_removed_blocks_only_until_the_check(ruby, resq, redis, later, code):
    assert enqueue(resq, later) is True
    assert enqueue(resq, later) is False

    ruby(f"{code}; nil")
    forget_the_last_check(redis)

    assert enqueue(resq, later) is True
    assert enqueue(resq, later) is False


@holds("A unique job of Python that Ruby or node")
def test_a_unique_job_whose_queue_node_removed_blocks_only_until_the_check(call, resq, redis):
    assert enqueue(resq, None) is True
    assert enqueue(resq, None) is False

    call("delQueue", "peer")
    forget_the_last_check(redis)

    assert enqueue(resq, None) is True


@holds("A unique job of Python that Ruby or node")
def test_a_unique_job_that_still_exists_is_not_enqueued_again(ruby, resq, redis):
    assert enqueue(resq, None) is True
    ruby("Resque.remove_queue('another'); Resque.reset_delayed_queue; nil")
    for _ in range(2):
        assert enqueue(resq, None) is False
        forget_the_last_check(redis)

    assert enqueue(resq, None) is False
    assert resq.size("peer") == 1
