"""Installs, restores and holds signal handlers; the one sleep that a signal cuts short."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _thread
import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

from pyres.process.wakeup import POLLIN, Wakeup, make_poller, make_wakeup

# The signal module makes enum members of what these return: three quarters of their cost, for what
# is thrown away here, twice a job; and in a child each page that they touch has to be copied first.
_sigmask: Any = getattr(_signal, "pthread_sigmask", None)
_set_handler, _getsignal = _signal.signal, _signal.getsignal
_set_wakeup_fd = _signal.set_wakeup_fd
_RAW: dict[Any, Any] = {signal.SIG_DFL: _signal.SIG_DFL, signal.SIG_IGN: _signal.SIG_IGN}

#: Seconds of the longest wait. poll() counts milliseconds in a C int, which ends after 24 days.
LONGEST_WAIT = 86400.0

Handler = Callable[[int, FrameType | None], Any] | signal.Handlers

#: What the daemons handle and what ends a process that does not. INT is not among them: it raises
#: KeyboardInterrupt, which cleans up.
_BEFORE_HANDLERS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
]
#: What hold_until_installed() keeps: the handler from before of each signal, and what came.
_early_former: dict[int, Any] = {}
_came_early: list[int] = []


@contextlib.contextmanager
def hold_until_installed() -> Iterator[None]:
    """In the block a daemon's signals wait until it has installed its handlers, and then come.

    Whoever finds the pidfile of a daemon may send it a signal at once. Not by the mask, which is
    one thread's: with a job module's thread beside it the process would die all the same.
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
    """Put back what no handler has replaced, and let come what came."""
    while _early_former:
        signum, former = _early_former.popitem()
        _set_handler(signum, _signal.SIG_DFL if former is None else former)
    while _came_early:
        signal.raise_signal(_came_early.pop(0))


def existing(**handlers: Handler) -> dict[int, Handler]:
    """The handlers, given by the names of their signals, of the signals that this system has."""
    return {
        getattr(signal, name): handler
        for name, handler in handlers.items()
        if hasattr(signal, name)
    }


def wake(_signum: int, _frame: FrameType | None) -> None:
    """A handler that does nothing but end a wait."""


class Signals:
    """The signals that a daemon handles, while it does.

    The wake-up byte is written by the interpreter before any handler runs, so that a signal between
    a look at a flag and the wait after it still ends that wait.
    """

    #: What a wait waits with; another one where a greenlet waits and not the process.
    _poller: Callable[[], Any] = staticmethod(make_poller)

    def __init__(self, handlers: Mapping[int, Handler]) -> None:
        self.handlers = dict(handlers)
        #: The same as the interpreter keeps them.
        self._raw = [(signum, _RAW.get(handler, handler)) for signum, handler in handlers.items()]
        self._former: dict[int, Any] = {}
        self._wakeup: Wakeup | None = None
        self._former_wakeup = -1
        #: Whether a signal ended the last wait().
        self.signalled = False
        #: What came while the handlers were out of the way; None while they are in place.
        self._kept: list[tuple[int, FrameType | None]] | None = None

    @property
    def installed(self) -> bool:
        return self._wakeup is not None

    def install(self) -> None:
        """Put the handlers in place; only in the main thread. ValueError elsewhere."""
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
        """Put back what stood there before, and install these in place of ours; they are
        returned.
        """
        self.restore()
        others = Signals(handlers)
        others.install()
        return others

    def reassert(self) -> list[str]:
        """Put our handlers and wake-up descriptor back where other code has replaced them; what
        could not be put back, as a text.
        """
        if self._wakeup is None:
            return []
        for signum, handler in self._raw:
            if _getsignal(signum) is not handler:
                _set_handler(signum, handler)
        try:
            _set_wakeup_fd(self._wakeup.writer, warn_on_full_buffer=False)
        except (OSError, ValueError) as error:
            return [f"its signals end no wait any more ({error})"]
        return []

    def replaced(self) -> list[int]:
        """The signals whose handlers are not ours any more."""
        return [signum for signum, handler in self._raw if _getsignal(signum) is not handler]

    def _needed(self) -> dict[int, Handler]:
        if not hasattr(signal, "SIGCHLD"):
            return {}
        # Some launchers leave SIGCHLD ignored; then the kernel keeps no child's end for its parent.
        ignored = signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
        return {signal.SIGCHLD: signal.SIG_DFL} if ignored else {}

    def restore(self) -> None:
        """Put back what stood there before install()."""
        if not self._wakeup:
            return
        self._put_back(self._former_wakeup)

    def reset_in_child(self) -> None:
        """In a forked child: the handlers that were there before, without ours and our wakeup."""
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
        """Hold the handled signals back; returns what release() wants."""
        # The mask is one thread's. A signal then goes to another one, if there is any, and its
        # handler would be called here all the same.
        if self._wakeup and _thread._count():
            self._kept = kept = []
            for signum in self._callable():
                _set_handler(signum, lambda signum, frame: kept.append((signum, frame)))
        return set(_sigmask(signal.SIG_BLOCK, self.handlers))

    def release(self, former: set[int]) -> None:
        """Let the held signals come."""
        kept, self._kept = self._kept, None
        if kept is not None:
            for signum, handler in self._callable().items():
                _set_handler(signum, handler)
        _sigmask(signal.SIG_SETMASK, former)
        for signum, frame in kept or ():
            self._callable()[signum](signum, frame)

    def _callable(self) -> dict[int, Callable[[int, FrameType | None], Any]]:
        return {signum: found for signum, found in self.handlers.items() if callable(found)}

    def wake(self) -> None:
        """End the wait, or the next one, as a signal would."""
        if self._wakeup:
            self._wakeup.wake()

    def wait(self, fds: Sequence[int] = (), timeout: float | None = None) -> list[int]:
        """Block until one of `fds` can be read, a signal came, or `timeout` seconds passed.

        The fds that can be read. A signal that came before the call ends it at once. A timeout of
        more than a day is one of a day: who waits longer looks around and waits again.
        """
        poller = self._poller()
        for fd in fds:
            poller.register(fd, POLLIN)
        if self._wakeup:
            poller.register(self._wakeup.reader, POLLIN)
        patience = None if timeout is None else max(0, min(timeout, LONGEST_WAIT)) * 1000
        ready = [fd for fd, _ in poller.poll(patience)]
        self.signalled = self._wakeup is not None and self._wakeup.reader in ready
        if self._wakeup and self.signalled:
            ready.remove(self._wakeup.reader)
            self._wakeup.drain()
        return ready

    def sleep(self, seconds: float) -> bool:
        """Wait; whether a signal cut it short."""
        self.wait((), seconds)
        return self.signalled
