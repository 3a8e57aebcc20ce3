"""Waits for a push without popping, by client-side caching (CLIENT TRACKING, Redis 6 and newer).

A connection of its own looks at the queues; the server remembers which keys it looked at and
reports, once, when one of them changes. A report cannot get lost with a job in it, as BLPOP's reply
can. Not the fetcher's connection: that would get reports of every pop of everybody, also while
busy.
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
    """Looks at queues, and gets a report when one that was empty is so no more."""

    def __init__(self, client: Any, keys: Keys) -> None:
        super().__init__(client)
        self.keys = keys
        self._changed: set[bytes] | None = set()

    def _greet(self) -> None:
        self._changed = set()
        try:
            # Only in RESP3 the reports come on this very connection.
            self.command("HELLO", "3")
            self.command("CLIENT", "TRACKING", "ON")
        except ResponseError as error:
            self.disconnect()
            raise _cannot_watch(error) from None

    def begin(self) -> None:
        """Forget all reports so far. CannotWatchError where the server gives this user none, else
        one of CONNECTION_ERRORS, as the others raise.
        """
        self.connect()
        self.has_changed()
        self._changed = set()

    def names(self) -> list[str]:
        """The queues that the server knows; a new one will be reported."""
        return sorted(text(name) for name in self.command("SMEMBERS", self.keys.queues))

    def empty(self, queues: Sequence[str]) -> bool:
        """Whether all queues are empty; if so, the next push to one of them will be reported."""
        count = 0
        if queues:
            count = self.command("EXISTS", *[self.keys.queue(queue) for queue in queues])
        return not count and not self.has_changed()

    def has_changed(self) -> bool:
        """Whether something changed since begin(); never waits."""
        self._receive_now()
        while (push := self._next()) is not False:
            self._note(push)
        return self._changed is None or bool(self._changed)

    def changed(self) -> frozenset[bytes] | None:
        """The keys that changed since begin(); None when all may have."""
        return None if self._changed is None else frozenset(self._changed)

    def _translated(self, reply: Any) -> Any:
        # A report may come between a command and its reply.
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
    """The reason why this server reports no push."""
    words = str(error)
    if "unknown" in words.lower():
        return TooOldError(f"the server knows no CLIENT TRACKING: {words}")
    return CannotWatchError(f"the server refuses CLIENT TRACKING: {words}")
