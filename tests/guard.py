"""A test that leaves something behind fails itself: a pytest plugin.

After each test, when its fixtures are torn down, what the process has is compared with what it had
before. Fixtures of a wider scope may open things: these belong to the fixture until it ends.
"""

from __future__ import annotations

import gc
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import leaks
from tests.leaks import Resource

#: Seconds for which a thread or process that was asked to end may still exist.
PATIENCE = 10.0


@dataclass
class Snapshot:
    """What the process had at one moment."""

    resources: dict[Resource, str] = field(default_factory=leaks.resources)
    settings: dict[str, Any] = field(default_factory=leaks.settings)


@dataclass
class Loan:
    """What a fixture of a wider scope added, and the settings that it changed, as they were."""

    resources: set[Resource]
    settings: dict[str, tuple[Any, Any]]


class Guard:
    def __init__(self, patience: float) -> None:
        self._seconds_left = patience
        self._before = Snapshot()
        #: What no test may close: it was there before the first test, or a fixture owns it.
        self._kept = {r for r in self._before.resources if r.kind == "descriptor"}
        self._bindings: dict[Any, Loan] = {}
        self._failed = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Iterator[None]:
        self._before = Snapshot()
        self._failed = False
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Iterator[None]:
        report = yield
        self._failed |= report.failed
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
        if fixturedef.scope == "function":
            return (yield)
        before = Snapshot()
        try:
            return (yield)
        finally:
            self._bind_resq(fixturedef, before, Snapshot())

    def _bind_resq(self, owner: Any, before: Snapshot, after: Snapshot) -> None:
        changed = {
            name: (before.settings.get(name), value)
            for name, value in after.settings.items()
            if before.settings.get(name) != value
        }
        binding = Loan(after.resources.keys() - before.resources.keys(), changed)
        self._bindings[owner] = binding
        self._before.resources.update({r: after.resources[r] for r in binding.resources})
        self._before.settings.update({name: new for name, (_, new) in changed.items()})
        self._kept |= {r for r in binding.resources if r.kind == "descriptor"}

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        if binding := self._bindings.pop(fixturedef, None):
            self._kept -= binding.resources
            for resource in binding.resources:
                self._before.resources.pop(resource, None)
            for name, (old, new) in binding.settings.items():
                if self._before.settings.get(name) == new:
                    self._before.settings[name] = old

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        try:
            result = yield
        except BaseException:
            self._failed = True
            raise
        finally:
            found = self._check()
        # What failed could not clean up, and its traceback keeps what it had.
        if found and not self._failed:
            pytest.fail(f"{item.nodeid} leaves behind:\n" + "\n".join(found), pytrace=False)
        return result

    def _check(self) -> list[str]:
        found = self._leaks()
        if found or self._failed:
            found = self._garbage() + self._leaks(self._seconds_left if not self._failed else 0)
        self._kept &= leaks.resources().keys()
        return found

    def _leaks(self, patience: float = 0) -> list[str]:
        """What differs from before, once nothing does or the patience is over."""
        end = time.monotonic() + patience
        while (opened := self._opened()) and time.monotonic() < end:
            time.sleep(0.01)
        closed = [
            f"{kept.kind} {kept.key[0]} closed, which was not its own: {kept.key[1]}"
            for kept in self._kept - leaks.resources().keys()
        ]
        return [*opened, *closed, *_changes(self._before.settings, leaks.settings())]

    def _opened(self) -> list[str]:
        return [
            f"{text}{leaks.more_about(resource)}"
            for resource, text in leaks.resources().items()
            if resource not in self._before.resources
        ]

    def _garbage(self) -> list[str]:
        """What warns when it is collected: here, and not in a later test."""
        if self._failed:
            # The tracebacks that pytest keeps for a debugger keep what the test had open.
            for name in ("last_type", "last_value", "last_traceback", "last_exc"):
                vars(sys).pop(name, None)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            # A daemon that ran in this process has frozen itself among all the rest.
            gc.unfreeze()
            gc.collect()
        return [f"left to the garbage collector: {warning.message}" for warning in caught]


def _changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [
        f"{name}: {_shown(after.get(name))}, before it was {_shown(before.get(name))}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 300 else f"{text[:300]}..."


@pytest.fixture(scope="session", autouse=True)
def _where_tests_write(tmp_path_factory: pytest.TempPathFactory) -> None:
    leaks.STRAYS.folder = str(tmp_path_factory.getbasetemp())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--leak-patience",
        type=float,
        default=PATIENCE,
        help="seconds that a thread or process of a test may take to end before it is a leak",
    )


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and getattr(config.option, "numprocesses", None):
        return  # xdist's controller runs no test
    if not Path("/proc/self/fd").is_dir():
        return  # not Linux
    config.pluginmanager.register(Guard(config.option.leak_patience), "leak-guard")
