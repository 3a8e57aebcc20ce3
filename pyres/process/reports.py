"""A pipe on which children tell their parent how long they may take, and that they are done."""

from __future__ import annotations

import contextlib
import os
import struct

from pyres.process.native import close

_ONE = struct.Struct("<id")

#: What a child says in place of seconds when its job is done and recorded.
DONE = -1.0


class Reports:
    """Made once by the parent and inherited by every child, so that it costs no job anything."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def tell(self, seconds: float) -> None:
        """In the child: my job may take so many seconds from now."""
        with contextlib.suppress(OSError):  # the parent is gone: nobody is there to kill us either
            os.write(self._writer, _ONE.pack(os.getpid(), seconds))

    def tell_done(self) -> None:
        """In the child: what is left is to exit."""
        self.tell(DONE)

    def hear(self) -> dict[int, float]:
        """In the parent: each pid that has said something since, and the last thing: seconds, or
        DONE.
        """
        raw = b""
        with contextlib.suppress(BlockingIOError):
            raw = os.read(self.reader, 1024 * _ONE.size)
        return dict(_ONE.iter_unpack(raw))

    def close(self) -> None:
        """Close both ends."""
        close(self.reader)
        close(self._writer)
