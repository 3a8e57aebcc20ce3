"""Add to a failed test's report: the output of its daemons, and the contents of Redis."""

from __future__ import annotations

import pprint
from collections.abc import Iterator

import pytest
from redis import RedisError

from tests.servers import Daemons, keyspace

#: Characters of an output or a keyspace that are shown, the last ones.
MAX_CHARS = 6000


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add it while the fixtures still exist."""
    report = yield
    if call.when == "call" and report.failed:
        report.sections += [(title, text[-MAX_CHARS:]) for title, text in _evidence(item)]
    return report


def _evidence(item: pytest.Item) -> Iterator[tuple[str, str]]:
    fixtures = getattr(item, "funcargs", {})
    for value in fixtures.values():
        if isinstance(value, Daemons):
            yield from ((f"Output of {name}", text) for name, text in value.outputs().items())
    if "redis" in fixtures:
        try:
            yield "Redis", pprint.pformat(keyspace(fixtures["redis"]), width=110)
        except (RedisError, OSError) as error:
            yield "Redis", repr(error)
