"""What daemons share for a disconnected or refusing server: pauses, logging, primary checks."""

from __future__ import annotations

import logging
import time

from pyres.store import Store, cuts_connection, described

logger = logging.getLogger(__name__)

#: Seconds between two tries to reach a server: the first pause and the longest. The longest also
#: applies between two tries to start a process that the system refuses.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 15.0

#: Seconds between two checks of which server is the primary.
PRIMARY_INTERVAL = 1.0


class PrimaryCheck:
    """Disconnects from a primary that sentinels have replaced: that server learns of it last."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.is_needed = store.has_sentinels
        #: The monotonic time of the next check.
        self.due = 0.0

    def leave_old(self, close_idle: bool = False) -> bool:
        """Check, once a second; whether all connections were closed. `close_idle` also closes those
        to the sentinels, so that no forked child inherits one.
        """
        if not self.is_needed or time.monotonic() < self.due:
            return False
        was_replaced = self._store.leave_old_primary()
        if was_replaced:
            logger.warning("The sentinels name another primary; disconnecting from the old one")
        if close_idle:
            self._store.close_idle()
        self.due = time.monotonic() + PRIMARY_INTERVAL
        return was_replaced


class ServerState:
    """The errors that the server answers now; each change is logged once.

    `effect` is the end of the log line: what follows from the error. Errors are kept for each
    request, since a server may refuse one and serve another.
    """

    def __init__(self, effect: str) -> None:
        self.effect = effect
        self._errors: dict[str, str] = {}

    def failed(self, error: BaseException, request: str = "") -> None:
        """Note that a request has failed, and log the error if it is a new one."""
        text = described(error)
        if cuts_connection(error) or text not in self._errors.values():
            logger.warning("%s; %s", text, self.effect)
        self._errors[request] = text

    def succeeded(self, request: str = "") -> None:
        """Note that the request was served; log it when no request fails any more."""
        if self._errors and self._errors.pop(request, "") and not self._errors:
            logger.info("Redis is back")
