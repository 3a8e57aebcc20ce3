"""Waits for a push without popping, by client-side caching (CLIENT TRACKING, Redis 6 and newer).

A connection of its own looks at the queues; the server remembers which keys it looked at and tells
it, once, when one of them changes. What tells cannot get lost with a job in it, as BLPOP's reply
can. Not the taker's connection: that would be told of every pop of everybody, also while busy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hiredis
from redis.exceptions import ResponseError

from pyres.exceptions import TooOldError
from pyres.store.keys import Keys
from pyres.store.line import Line
from pyres.store.text import text


class Watch(Line):
    """Looks at queues, and hears of it when one that was empty is so no more."""

    def __init__(self, client: Any, keys: Keys) -> None:
        super().__init__(client)
        self.keys = keys
        self._heard = False

    def _greet(self) -> None:
        self._heard = False
        try:
            # Only in RESP3 the telling comes on this very connection.
            self.command("HELLO", "3")
            self.command("CLIENT", "TRACKING", "ON")
        except ResponseError as error:
            self.disconnect()
            if "unknown" in str(error).lower():
                raise TooOldError(f"the server knows no CLIENT TRACKING: {error}") from None
            raise

    def begin(self) -> None:
        """Forget what was told so far. Raises TooOldError where the server is older than Redis 6,
        else one of ConnectionLost, as the others do.
        """
        self.connect()
        self.told()
        self._heard = False

    def names(self) -> list[str]:
        """The queues that the server knows; a new one will be told."""
        return sorted(text(name) for name in self.command("SMEMBERS", self.keys.queues))

    def empty(self, queues: Sequence[str]) -> bool:
        """Whether all queues are empty; if so, the next push to one of them will be told."""
        count = 0
        if queues:
            count = self.command("EXISTS", *[self.keys.queue(queue) for queue in queues])
        return not count and not self.told()

    def told(self) -> bool:
        """Whether something changed since begin(); never waits."""
        self._receive_now()
        while (push := self._reader.gets()) is not False:
            self._note(push)
        return self._heard

    def _judged(self, reply: Any) -> Any:
        # What is told may come between a command and its reply.
        while isinstance(reply, hiredis.PushNotification):
            self._note(reply)
            while (reply := self._reader.gets()) is False:
                self._receive()
        return super()._judged(reply)

    def _note(self, push: Any) -> None:
        if isinstance(push, hiredis.PushNotification) and push[0] == b"invalidate":
            self._heard = True
