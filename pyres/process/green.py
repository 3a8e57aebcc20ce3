"""Waits and alarms of one greenlet, while the others of its process go on. Needs gevent."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any

from pyres.process.signals import Signals
from pyres.process.wakeup import make_wakeup


def _gevent(module: str = "gevent") -> Any:
    return importlib.import_module(module)


class GreenSignals(Signals):
    """The waits of one greenlet. Signals come to the process; ring() passes one on."""

    _poller: Callable[[], Any] = staticmethod(lambda: _gevent("gevent.select").poll())

    def __init__(self) -> None:
        super().__init__({})
        self._wakeup = make_wakeup()

    @classmethod
    def of(cls, real: Signals) -> GreenSignals:
        """Waits for the signals that these handle; what they handle stays theirs."""
        waits = cls.__new__(cls)
        Signals.__init__(waits, {})
        waits._wakeup = real._wakeup
        return waits


@contextlib.contextmanager
def green_alarm(seconds: float | None, error: BaseException) -> Iterator[None]:
    """Raise `error` in the block when it takes longer; code that never waits is not interrupted."""
    with _gevent().Timeout(seconds or None, error):
        yield


def run_together(works: list[Callable[[], object]], beside: Callable[[], object]) -> None:
    """Do all of `works` at once, each in a greenlet, and `beside` as long as one of them lasts.

    What one of them raises is raised when the others have ended, too.
    """
    gevent = _gevent()
    watching = gevent.spawn(beside)
    greenlets = [gevent.spawn(work) for work in works]
    try:
        gevent.joinall(greenlets)
    finally:
        watching.kill()
    for greenlet in greenlets:
        if greenlet.exception is not None:
            raise greenlet.exception
