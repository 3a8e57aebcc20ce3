"""Wake-up pipes: a byte that a signal handler or another greenlet writes to end a wait."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from pyres.process.native import close, native, pipe

#: POLLIN of poll.h, for systems whose select module has no poll.
POLLIN: int = getattr(select, "POLLIN", 1)


class PipeWakeup:
    """A pipe: wait for `reader`; `writer` is for signal.set_wakeup_fd."""

    def __init__(self) -> None:
        self.reader, self.writer = pipe()

    def wake(self) -> None:
        """End the wait, or the next one."""
        with contextlib.suppress(BlockingIOError):  # full: that ends the wait too
            os.write(self.writer, b"!")

    def drain(self) -> None:
        """Read the bytes that have come, so that they do not end the next wait."""
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self.reader, 4096)) == 4096:
                pass

    def close(self) -> None:
        """Close both ends."""
        close(self.reader)
        close(self.writer)


class SocketWakeup:
    """The same as a pair of sockets: on Windows select() can only wait for sockets."""

    def __init__(self) -> None:
        self._sockets = socket.socketpair()
        for end in self._sockets:
            end.setblocking(False)
        self.reader, self.writer = (end.fileno() for end in self._sockets)

    def wake(self) -> None:
        """End the wait, or the next one."""
        with contextlib.suppress(BlockingIOError):
            self._sockets[1].send(b"!")

    def drain(self) -> None:
        """Read the bytes that have come, so that they do not end the next wait."""
        with contextlib.suppress(BlockingIOError):
            while len(self._sockets[0].recv(4096)) == 4096:
                pass

    def close(self) -> None:
        """Close both ends."""
        for end in self._sockets:
            end.close()


class SelectPoller:
    """The part of select.poll that pyres uses, for systems without poll."""

    def __init__(self) -> None:
        self._fds: list[int] = []

    def register(self, fd: int, _events: int) -> None:
        """Wait for this file descriptor too."""
        self._fds.append(fd)

    def poll(self, milliseconds: float | None) -> list[tuple[int, int]]:
        """Each descriptor that is readable, with POLLIN; none if the time has passed first."""
        timeout = None if milliseconds is None else milliseconds / 1000
        if not self._fds and timeout is not None:
            # Without descriptors select() of Windows raises an error.
            time.sleep(timeout)
            return []
        ready, _, _ = select.select(self._fds, (), (), timeout)
        return [(fd, POLLIN) for fd in ready]


Wakeup = PipeWakeup | SocketWakeup

_has_poll = hasattr(select, "poll")

make_wakeup: Callable[[], Wakeup] = PipeWakeup if _has_poll else SocketWakeup
make_poller: Callable[[], Any] = native("select", "poll") if _has_poll else SelectPoller
