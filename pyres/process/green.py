"""Waits, alarms and event loops of one greenlet, while the others of its process go on. Requires
gevent.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from pyres.process.signals import Signals
from pyres.process.wakeup import make_wakeup


def _gevent(module: str = "gevent") -> Any:
    return importlib.import_module(module)


class GreenSignals(Signals):
    """The waits of one greenlet. Signals are sent to the process; wake() passes one on."""

    _poller: Callable[[], Any] = staticmethod(lambda: _gevent("gevent.select").poll())

    def __init__(self) -> None:
        super().__init__({})
        self._wakeup = make_wakeup()

    @classmethod
    def of(cls, real: Signals) -> GreenSignals:
        """Waits that are ended by the signals that `real` handles; the handlers stay with it."""
        waits = cls.__new__(cls)
        Signals.__init__(waits, {})
        waits._wakeup = real._wakeup
        return waits


@contextlib.contextmanager
def green_alarm(seconds: float | None, error: BaseException) -> Iterator[None]:
    """Raise `error` in the block when it takes longer than N seconds; code that never waits is not
    interrupted.
    """
    with _gevent().Timeout(seconds or None, error):
        yield


class _EventLoops:
    """Gives each greenlet an event loop of its own: asyncio stores the running loop per thread, so
    a greenlet would see that of another one.
    """

    def __init__(self, former: Callable[[str, Any], None] | None) -> None:
        self._former = former
        #: The running loop, and its hooks for asynchronous generators, of each waiting greenlet.
        self._kept: dict[Any, tuple[Any, Any]] = {}

    def __call__(self, event: str, args: Any) -> None:
        """Called by greenlet after each switch."""
        if self._former is not None:
            self._former(event, args)
        if event not in ("switch", "throw"):
            return
        origin, target = args
        current, kept = asyncio._get_running_loop(), self._kept.pop(target, None)
        if current is not None:
            self._kept[origin] = current, sys.get_asyncgen_hooks()
        if current is not None or kept is not None:
            loop, hooks = kept or (None, (None, None))
            asyncio._set_running_loop(loop)
            sys.set_asyncgen_hooks(*hooks)


@contextlib.contextmanager
def _own_event_loops() -> Iterator[None]:
    greenlet = _gevent("greenlet")
    former = greenlet.gettrace()
    greenlet.settrace(_EventLoops(former))
    try:
        yield
    finally:
        greenlet.settrace(former)


def run_together(works: list[Callable[[], object]], beside: Callable[[], object]) -> None:
    """Run all of `works` concurrently, each in a greenlet, and `beside` until the last one ends.

    An exception of one of them is raised when the others have ended. Each may run an event loop.
    """
    gevent = _gevent()
    with _own_event_loops():
        watching = gevent.spawn(beside)
        greenlets = [gevent.spawn(work) for work in works]
        try:
            gevent.joinall(greenlets)
        finally:
            watching.kill()
    for greenlet in greenlets:
        if greenlet.exception is not None:
            raise greenlet.exception
