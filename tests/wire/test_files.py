"""No golden file is forgotten, and none was changed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.servers import ROOT, keyspace
from tests.wire.comparing import (
    DIFFERS_ON_PURPOSE,
    EVERY,
    GOLDEN,
    NOT_OURS,
    RULES,
    assert_as_golden,
    golden,
    names,
    restore,
)

#: The originals, where they are beside the repository.
ORIGINALS = ROOT.parent / "shared" / "golden"


def files_named_in_tests():
    """The golden files that the tests of this folder name."""
    sources = [path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py")]
    return {name for name in names() if any(f'"{name}"' in source for source in sources)}


def test_each_golden_file_is_compared_or_excluded_for_a_reason():
    # Its commands only read; their data are in 11_delayed, which is compared instead.
    reads_only = {"11b_delayed_reads"}

    assert files_named_in_tests() | set(NOT_OURS) | reads_only == set(names())
    assert not files_named_in_tests() & set(NOT_OURS)
    assert golden("11b_delayed_reads")["redis"] == {}


def test_each_row_of_the_tables_has_a_reason():
    assert all(rule.what and re.compile(rule.value) for rule in RULES)
    assert all(len(difference.reason) > 10 for difference in DIFFERS_ON_PURPOSE)
    compared = {name for each in DIFFERS_ON_PURPOSE if each.files != EVERY for name in each.files}
    assert compared <= set(names())


@pytest.mark.parametrize("name", names())
def test_a_dump_that_is_restored_is_dumped_the_same(redis, name):
    dump = golden(name)["redis"]

    restore(redis, dump)

    assert keyspace(redis) == dump


@pytest.mark.parametrize(
    "change", ["SET resque:stray 1", "SREM resque:queues raw", "DEL resque:queues"]
)
def test_a_key_too_many_or_too_few_is_noticed(redis, change):
    restore(redis, golden("01b_enqueue_queues")["redis"])
    assert_as_golden(redis, "01b_enqueue_queues")

    redis.execute_command(*change.split())

    with pytest.raises(AssertionError):
        assert_as_golden(redis, "01b_enqueue_queues")


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason="the originals are not beside the repository")
def test_the_files_equal_the_originals():
    copies = {path.name: path.read_bytes() for path in GOLDEN.glob("*.json")}
    originals = {path.name: path.read_bytes() for path in ORIGINALS.glob("*.json")}

    assert copies == originals
