"""Pipes between a parent and its children: what a child reports, and the bell that wakes it."""

from __future__ import annotations

import contextlib
import os
import struct
from typing import Any, NamedTuple

from pyres.process.native import close, pipe

#: What a child says in place of seconds: its job is done and recorded; it waits to be woken; it
#: waits no more.
DONE, IDLE, BUSY = -1.0, -2.0, -3.0

#: What becomes of the job was written, or somebody else had written it: it did not end well.
WRITTEN = -4.0

#: Its job is done and recorded, and threads or exit hooks of the job go on.
LINGERING = -5.0

#: In place of a hand: the child ends, and what follows is how many jobs it has finished.
PROCESS_ENDS = -1


#: What a pipe holds, which is a whole number of records: one read leaves nothing in it.
PIPE_BYTES = 65536


class _Pipe:
    """Records of one layout, written whole; nobody ever waits for the other end."""

    #: The ends; -1 is none, as it is before they are opened and after they are closed.
    reader = _writer = -1

    def __init__(self, layout: str) -> None:
        self._layout = struct.Struct(layout)
        self.reader, self._writer = pipe()

    def _put(self, *fields: float) -> bool:
        # A reader that is gone needs no word, and a full pipe wakes it as well as one more would.
        try:
            os.write(self._writer, self._layout.pack(*fields))
        except OSError:
            return False
        return True

    def _get(self) -> list[Any]:
        raw = b""
        with contextlib.suppress(BlockingIOError):
            raw = os.read(self.reader, PIPE_BYTES)
        return list(self._layout.iter_unpack(raw))

    def close(self) -> None:
        """Close both ends; doing so again closes nothing."""
        ends = [end for end in (self.reader, self._writer) if end != -1]
        # First: the numbers may be another's as soon as they are closed.
        self.reader = self._writer = -1
        for end in ends:
            close(end)

    def __del__(self) -> None:
        # A Worker or a Khan that never ran has no end at which to close it.
        self.close()


class Report(NamedTuple):
    """What one hand of a child says: the seconds that its job may take, or DONE, IDLE, BUSY."""

    pid: int
    slot: int
    seconds: float


class Reports(_Pipe):
    """Made once by the parent and inherited by every child, so that it costs no job anything."""

    def __init__(self) -> None:
        super().__init__("<iid")

    def send(self, seconds: float, slot: int = 0) -> bool:
        """In the child: the job in this hand may take so many seconds from now; or one of DONE,
        IDLE, BUSY. Whether it was written.
        """
        return self._put(os.getpid(), slot, seconds)

    def receive(self) -> list[Report]:
        """In the parent: what was said since, in order."""
        return [Report(*fields) for fields in self._get()]


class WakeupPipe(_Pipe):
    """Wakes one hand of one child; made by the parent before the fork."""

    def __init__(self) -> None:
        super().__init__("<i")

    def abandon(self) -> None:
        """In a child that it is not for."""
        self.close()

    def wake(self, slot: int = 0) -> None:
        """In the parent."""
        self._put(slot)

    def woken_slots(self) -> list[int]:
        """In the child: the hands that it rang for since."""
        return [slot for (slot,) in self._get()]
