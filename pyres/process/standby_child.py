"""A child forked ahead of its job, while the job before it runs.

Forking takes longer than a small job. A worker with a backlog forks the next child while it waits
for the current one, so that on a second core the fork costs no time. Each child still performs only
one job.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from pyres.process.children import Children
from pyres.process.native import close, pipe


class StandbyChild:
    """At most one standby child; it calls `run` with the bytes that are assigned to it."""

    def __init__(
        self, children: Children, run: Callable[[bytes], int], warm_up: Callable[[], object]
    ) -> None:
        self.children = children
        self._run = run
        self._warm_up = warm_up
        self._waiting: tuple[int, int] | None = None

    def prepare(self) -> None:
        """Fork a standby child, if there is none."""
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
        """In the child: warm up, then wait for a job, or for the end of the parent."""
        close(writer)
        self._waiting = None
        self._warm_up()
        parts = []
        while part := os.read(reader, 1 << 16):
            parts.append(part)
        close(reader)
        return self._run(b"".join(parts)) if parts else 0

    def assign(self, data: bytes) -> int | None:
        """Pass the data to the standby child; its pid, or None if there is none or it has ended."""
        if self._waiting is None:
            return None
        pid, writer = self._waiting
        self._waiting = None
        try:
            remaining = memoryview(data)
            while remaining:
                remaining = remaining[os.write(writer, remaining) :]
        except BrokenPipeError:
            self.children.detach(pid)
            return None
        finally:
            close(writer)
        return pid

    def stop(self) -> None:
        """End the standby child."""
        if self._waiting is not None:
            pid, writer = self._waiting
            self._waiting = None
            with contextlib.suppress(OSError):
                close(writer)
            self.children.detach(pid)
