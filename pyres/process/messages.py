"""Pipes between a parent and its children: one for the children's reports, and one for each child
to wake it up.
"""

from __future__ import annotations

import contextlib
import os
import struct
from typing import Any, NamedTuple

from pyres.process.native import close, pipe

#: What a child reports in place of seconds: its job has finished and is recorded; it waits to be
#: woken up; it has stopped waiting.
DONE, IDLE, BUSY = -1.0, -2.0, -3.0

#: The job's outcome, not a success, was recorded, by this child or before by another process.
WRITTEN = -4.0

#: The job has finished and is recorded, but threads or exit hooks of it are still running.
LINGERING = -5.0

#: In place of a slot: the child ends; in place of seconds is the number of jobs it has finished.
PROCESS_ENDS = -1


#: The capacity of a pipe, a multiple of the record size: one read empties it.
PIPE_BYTES = 65536


class _Pipe:
    """A pipe for records of one layout, each written whole; neither end ever blocks."""

    #: The two ends; -1 before they are opened and after they are closed.
    reader = _writer = -1

    def __init__(self, layout: str) -> None:
        self._layout = struct.Struct(layout)
        self.reader, self._writer = pipe()

    def _put(self, *fields: float) -> bool:
        # The reader may have ended; and a full pipe wakes it up as well as one more record.
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
        """Close both ends; a second call does nothing."""
        ends = [end for end in (self.reader, self._writer) if end != -1]
        # Before they are closed: then the numbers may be reused.
        self.reader = self._writer = -1
        for end in ends:
            close(end)

    def __del__(self) -> None:
        # A Worker or a Khan that never ran does not close it.
        self.close()


class Report(NamedTuple):
    """A report of one slot of a child: the seconds that its job may take, or one of the constants
    above.
    """

    pid: int
    slot: int
    seconds: float


class Reports(_Pipe):
    """The pipe for reports: opened once by the parent and inherited by every child, so that it
    costs a job nothing.
    """

    def __init__(self) -> None:
        super().__init__("<iid")

    def send(self, seconds: float, slot: int = 0) -> bool:
        """In the child: report that the job in this slot may take N seconds from now, or one of the
        constants above. Whether it was written.
        """
        return self._put(os.getpid(), slot, seconds)

    def receive(self) -> list[Report]:
        """In the parent: the reports since the last call, in order."""
        return [Report(*fields) for fields in self._get()]


class WakeupPipe(_Pipe):
    """The pipe that wakes up slots of one child; opened by the parent before the fork."""

    def __init__(self) -> None:
        super().__init__("<i")

    def abandon(self) -> None:
        """In another child, which has inherited it: close it."""
        self.close()

    def wake(self, slot: int = 0) -> None:
        """In the parent: wake up a slot."""
        self._put(slot)

    def woken_slots(self) -> list[int]:
        """In the child: the slots that were woken up since the last call."""
        return [slot for (slot,) in self._get()]
