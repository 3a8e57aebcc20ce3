"""Installs, restores and holds signal handlers; and waits that a signal ends."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _thread
import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

from pyres.process.wakeup import POLLIN, Wakeup, make_poller, make_wakeup

# The signal module converts what these return to enum members, which are not used here. That is
# three quarters of their cost, twice a job, and in a child each page touched is copied.
_sigmask: Any = getattr(_signal, "pthread_sigmask", None)
_set_handler, _getsignal = _signal.signal, _signal.getsignal
_set_wakeup_fd = _signal.set_wakeup_fd
_RAW: dict[Any, Any] = {signal.SIG_DFL: _signal.SIG_DFL, signal.SIG_IGN: _signal.SIG_IGN}

#: Seconds of the longest wait. poll() has milliseconds in a C int, at most 24 days.
LONGEST_WAIT = 86400.0

Handler = Callable[[int, FrameType | None], Any] | signal.Handlers

#: The signals that daemons handle and that end a process which does not. Not SIGINT: it raises
#: KeyboardInterrupt, which cleans up.
_BEFORE_HANDLERS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
]
#: What hold_until_installed() keeps: the former handler of each signal, and the signals that came.
_early_former: dict[int, Any] = {}
_came_early: list[int] = []


@contextlib.contextmanager
def hold_until_installed() -> Iterator[None]:
    """In the block a daemon's signals are held until it has installed its handlers.

    A signal may be sent as soon as the pidfile exists. They are not held by the signal mask, which
    applies to one thread only: if a job module has started another thread, the process would end.
    """
    for signum in _BEFORE_HANDLERS:
        _early_former[signum] = _set_handler(signum, _note_early)
    try:
        yield
    finally:
        _release_early()


def _note_early(signum: int, _frame: FrameType | None) -> None:
    _came_early.append(signum)


def _release_early() -> None:
    """Restore the former handlers that were not replaced, and raise the signals that came."""
    while _early_former:
        signum, former = _early_former.popitem()
        _set_handler(signum, _signal.SIG_DFL if former is None else former)
    while _came_early:
        signal.raise_signal(_came_early.pop(0))


def existing(**handlers: Handler) -> dict[int, Handler]:
    """The handlers by signal number, for those signal names that this system has."""
    return {
        getattr(signal, name): handler
        for name, handler in handlers.items()
        if hasattr(signal, name)
    }


def wake(_signum: int, _frame: FrameType | None) -> None:
    """A handler that does nothing: the signal only ends a wait."""


class Signals:
    """The signal handlers of a daemon, and its waits.

    The interpreter writes the wake-up byte before any handler runs, so a signal between the check
    of a flag and the wait after it still ends that wait.
    """

    #: Makes the poller of a wait; another one where only a greenlet waits, not the process.
    _poller: Callable[[], Any] = staticmethod(make_poller)

    def __init__(self, handlers: Mapping[int, Handler]) -> None:
        self.handlers = dict(handlers)
        #: The same in the form in which the interpreter stores them.
        self._raw = [(signum, _RAW.get(handler, handler)) for signum, handler in handlers.items()]
        self._former: dict[int, Any] = {}
        self._wakeup: Wakeup | None = None
        self._former_wakeup = -1
        #: Whether a signal ended the last wait().
        self.signalled = False
        #: The signals that came while they were held; None while they are not.
        self._kept: list[tuple[int, FrameType | None]] | None = None

    @property
    def installed(self) -> bool:
        return self._wakeup is not None

    def install(self) -> None:
        """Install the handlers; ValueError outside the main thread."""
        if self._wakeup:
            return
        wakeup = make_wakeup()
        try:
            self._former_wakeup = signal.set_wakeup_fd(wakeup.writer, warn_on_full_buffer=False)
        except ValueError:
            wakeup.close()
            raise
        self._wakeup = wakeup
        for signum, handler in {**self._needed(), **self.handlers}.items():
            former = _set_handler(signum, _RAW.get(handler, handler))
            self._former[signum] = _early_former.pop(signum, former)
        _release_early()

    def replace(self, handlers: Mapping[int, Handler]) -> Signals:
        """Restore the former handlers and install these instead; the new Signals."""
        self.restore()
        others = Signals(handlers)
        others.install()
        return others

    def reassert(self) -> list[str]:
        """Install the handlers and the wake-up descriptor again where other code has replaced them;
        a text for what could not be restored.
        """
        if self._wakeup is None:
            return []
        for signum, handler in self._raw:
            if _getsignal(signum) is not handler:
                _set_handler(signum, handler)
        try:
            _set_wakeup_fd(self._wakeup.writer, warn_on_full_buffer=False)
        except (OSError, ValueError) as error:
            return [f"its signals no longer end a wait ({error})"]
        return []

    def replaced(self) -> list[int]:
        """The signals whose handlers other code has replaced."""
        return [signum for signum, handler in self._raw if _getsignal(signum) is not handler]

    def _needed(self) -> dict[int, Handler]:
        if not hasattr(signal, "SIGCHLD"):
            return {}
        # Some launchers leave SIGCHLD ignored; then the kernel keeps no exit status of a child.
        ignored = signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
        return {signal.SIGCHLD: signal.SIG_DFL} if ignored else {}

    def restore(self) -> None:
        """Restore the handlers from before install()."""
        if not self._wakeup:
            return
        self._put_back(self._former_wakeup)

    def reset_in_child(self) -> None:
        """In a forked child: restore the handlers from before install(), without a wake-up."""
        if self._wakeup:
            self._put_back(-1)

    def _put_back(self, wakeup: int) -> None:
        assert self._wakeup
        signal.set_wakeup_fd(wakeup)
        for signum, handler in self._former.items():
            _set_handler(signum, _signal.SIG_DFL if handler is None else handler)
        self._former, self._kept = {}, None
        self._wakeup.close()
        self._wakeup = None

    def hold(self) -> set[int]:
        """Hold the handled signals; the signal mask to pass to release()."""
        # The mask applies to one thread. With other threads a signal goes to one of these, and its
        # handler would still be called in this one.
        if self._wakeup and _thread._count():
            self._kept = kept = []
            for signum in self._callable():
                _set_handler(signum, lambda signum, frame: kept.append((signum, frame)))
        return set(_sigmask(signal.SIG_BLOCK, self.handlers))

    def release(self, former: set[int]) -> None:
        """Deliver the held signals, and hold no more."""
        kept, self._kept = self._kept, None
        if kept is not None:
            for signum, handler in self._callable().items():
                _set_handler(signum, handler)
        _sigmask(signal.SIG_SETMASK, former)
        for signum, frame in kept or ():
            self._callable()[signum](signum, frame)

    def _callable(self) -> dict[int, Callable[[int, FrameType | None], Any]]:
        return {signum: handler for signum, handler in self.handlers.items() if callable(handler)}

    def wake(self) -> None:
        """End the wait, or the next one, as a signal would."""
        if self._wakeup:
            self._wakeup.wake()

    def wait(self, fds: Sequence[int] = (), timeout: float | None = None) -> list[int]:
        """Wait until one of `fds` is readable, a signal comes, or `timeout` seconds have passed;
        the readable fds.

        A signal that came before the call ends it at once. A wait ends after a day at most: callers
        that wait longer check and wait again.
        """
        poller = self._poller()
        for fd in fds:
            poller.register(fd, POLLIN)
        if self._wakeup:
            poller.register(self._wakeup.reader, POLLIN)
        milliseconds = None if timeout is None else max(0, min(timeout, LONGEST_WAIT)) * 1000
        ready = [fd for fd, _ in poller.poll(milliseconds)]
        self.signalled = self._wakeup is not None and self._wakeup.reader in ready
        if self._wakeup and self.signalled:
            ready.remove(self._wakeup.reader)
            self._wakeup.drain()
        return ready

    def sleep(self, seconds: float) -> bool:
        """Wait N seconds; whether a signal ended the wait."""
        self.wait((), seconds)
        return self.signalled
