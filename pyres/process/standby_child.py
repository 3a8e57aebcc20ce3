"""A child forked ahead of its job, while the job before it runs.

Forking takes longer than a small job. A worker with a backlog forks the next child while it waits
for the present one, so that on a second core the fork costs no time. Each child still performs one
job.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from pyres.process.children import Children
from pyres.process.native import close, pipe


class StandbyChild:
    """At most one child in waiting; `run` gets the bytes that it is given, and does its job."""

    def __init__(
        self, children: Children, run: Callable[[bytes], int], warm_up: Callable[[], object]
    ) -> None:
        self.children = children
        self._run = run
        self._warm_up = warm_up
        self._waiting: tuple[int, int] | None = None

    def prepare(self) -> None:
        """Fork a child in waiting, if there is none."""
        if self._waiting is None:
            reader, writer = pipe(blocking=True)
            try:
                pid = self.children.fork(lambda: self._wait(reader, writer))
            except OSError:
                close(writer)
                raise
            finally:
                close(reader)
            self._waiting = (pid, writer)

    def _wait(self, reader: int, writer: int) -> int:
        """The child's part: touch what a job needs, then wait for one, or for the parent's end."""
        close(writer)
        self._waiting = None
        self._warm_up()
        parts = []
        while part := os.read(reader, 1 << 16):
            parts.append(part)
        close(reader)
        return self._run(b"".join(parts)) if parts else 0

    def assign(self, data: bytes) -> int | None:
        """Let the child in waiting do this; its pid. None when there is none, or it has died."""
        if self._waiting is None:
            return None
        pid, writer = self._waiting
        self._waiting = None
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(writer, left) :]
        except BrokenPipeError:
            self.children.detach(pid)
            return None
        finally:
            close(writer)
        return pid

    def stop(self) -> None:
        """Send the child in waiting home."""
        if self._waiting is not None:
            pid, writer = self._waiting
            self._waiting = None
            with contextlib.suppress(OSError):
                close(writer)
            self.children.detach(pid)
