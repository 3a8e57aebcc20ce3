"""Waits for a push without popping, by client-side caching (CLIENT TRACKING, Redis 6 and newer).

A connection of its own reads the queues; the server remembers which keys it has read and reports,
once, when one of them changes. No job can get lost with a report, as with BLPOP's reply. The
fetcher's connection is not used: it would get a report of every pop of every client, also while
its worker is busy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hiredis
from redis.exceptions import ResponseError

from pyres.exceptions import CannotWatchError, TooOldError
from pyres.store.keys import Keys
from pyres.store.raw_connection import RawConnection
from pyres.store.text import text


class PushListener(RawConnection):
    """Checks whether queues are empty, and gets a report when an empty one is pushed to."""

    def __init__(self, client: Any, keys: Keys) -> None:
        super().__init__(client)
        self.keys = keys
        self._changed: set[bytes] | None = set()

    def _greet(self) -> None:
        self._changed = set()
        try:
            # Only with RESP3 the reports come on this same connection.
            self.command("HELLO", "3")
            self.command("CLIENT", "TRACKING", "ON")
        except ResponseError as error:
            self.disconnect()
            raise _cannot_watch(error) from None

    def begin(self) -> None:
        """Discard all reports so far. Raises CannotWatchError if the server does not allow them to
        this user, and, as the other methods, one of CONNECTION_ERRORS.
        """
        self.connect()
        self.has_changed()
        self._changed = set()

    def names(self) -> list[str]:
        """The names of all queues; a new one will be reported."""
        return sorted(text(name) for name in self.command("SMEMBERS", self.keys.queues))

    def empty(self, queues: Sequence[str]) -> bool:
        """Whether all queues are empty; if so, the next push to one of them will be reported."""
        count = 0
        if queues:
            count = self.command("EXISTS", *[self.keys.queue(queue) for queue in queues])
        return not count and not self.has_changed()

    def has_changed(self) -> bool:
        """Whether a key changed since begin(); never waits."""
        self._receive_now()
        while (push := self._next()) is not False:
            self._note(push)
        return self._changed is None or bool(self._changed)

    def changed(self) -> frozenset[bytes] | None:
        """The keys that changed since begin(); None if all may have changed."""
        return None if self._changed is None else frozenset(self._changed)

    def _translated(self, reply: Any) -> Any:
        # A report can arrive between a command and its reply.
        while isinstance(reply, hiredis.PushNotification):
            self._note(reply)
            while (reply := self._next()) is False:
                self._receive()
        return super()._translated(reply)

    def _note(self, push: Any) -> None:
        if not isinstance(push, hiredis.PushNotification) or push[0] != b"invalidate":
            return
        if push[1] is None:  # FLUSHALL
            self._changed = None
        elif self._changed is not None:
            self._changed.update(push[1])


def _cannot_watch(error: ResponseError) -> Exception:
    """The exception for a server that does not report pushes."""
    words = str(error)
    if "unknown" in words.lower():
        return TooOldError(f"the server does not support CLIENT TRACKING: {words}")
    return CannotWatchError(f"the server refuses CLIENT TRACKING: {words}")
