"""How tests are spread over the processes of pytest-xdist, and what these send back."""

from __future__ import annotations

import os
from typing import Any

import pytest

try:
    from xdist.scheduler import LoadScopeScheduling
except ImportError:  # then the tests run in this process, one after another
    LoadScopeScheduling = object

#: Most tests wait for a daemon, so more processes than processors; not so many that servers starve.
PER_PROCESSOR, MOST = 3, 16

#: Their fixtures start a cluster, sentinels, a browser or certificates once for the whole file.
WHOLE_FILES = (
    "tests/failover/test_cluster.py",
    "tests/failover/test_sentinel.py",
    "tests/failover/test_tls.py",
    "tests/neighbours/test_node_resque.py",
    "tests/neighbours/test_ruby.py",
    "tests/neighbours/test_ruby_page.py",
    "tests/web/test_browser.py",
    "tests/test_guard.py",
)


class BySetUp(LoadScopeScheduling):
    """A file with a costly set-up goes to one process, each other test to whichever is idle."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file in WHOLE_FILES else nodeid

    def _reschedule(self, node: Any) -> None:
        # One that takes the place of a process that was killed has not collected its tests yet.
        if node in self.registered_collections:
            super()._reschedule(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means."""
    return min(PER_PROCESSOR * _processors(), MOST)


def _processors() -> int:
    """Those that this process may use; all where the system does not say, as on macOS."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> BySetUp:
    return BySetUp(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable(config: pytest.Config, report: Any) -> Any:
    """Output that is no UTF-8 must not end the run: xdist cannot send it."""
    return _sendable((yield))


def _sendable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_sendable(name): _sendable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_sendable, value))
    return value
