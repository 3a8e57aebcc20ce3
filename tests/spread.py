"""Distribute tests over the processes of pytest-xdist, and make their reports sendable."""

from __future__ import annotations

import os
from typing import Any

import pytest

try:
    from xdist.scheduler import LoadScopeScheduling
except ImportError:  # without xdist the tests run in this process
    LoadScopeScheduling = object

#: More processes than processors, since most tests wait for a daemon; limited, so that the servers
#: get enough CPU time.
PER_PROCESSOR, MAX_PROCESSES = 3, 16

#: Files whose fixtures start a cluster, sentinels, a browser or the like once for all tests.
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
    """Runs a file with a costly set-up in one process, every other test in any idle one."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file in WHOLE_FILES else nodeid

    def _reschedule(self, node: Any) -> None:
        # A process that replaces a killed one has not collected its tests yet.
        if node in self.registered_collections:
            super()._reschedule(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """The number of processes for `-n auto`."""
    return min(PER_PROCESSOR * _processors(), MAX_PROCESSES)


def _processors() -> int:
    """The processors that this process may use; all if the system does not tell, as on macOS."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> BySetUp:
    return BySetUp(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable(config: pytest.Config, report: Any) -> Any:
    """Escape output that is not UTF-8, which xdist cannot send and would end the run."""
    return _sendable((yield))


def _sendable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_sendable(name): _sendable(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_sendable, value))
    return value
