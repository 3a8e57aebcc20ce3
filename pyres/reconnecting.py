"""How daemons live with a server that is away or refuses: growing pauses, and one line a state."""

from __future__ import annotations

import logging
import time

from pyres.store import Store, cuts_connection, described

logger = logging.getLogger(__name__)

#: Seconds between two tries to reach a server: the first pause, and the longest, which is also that
#: between two tries to start a process that the system refuses.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 15.0


#: Seconds between two looks at who is the primary.
PRIMARY_INTERVAL = 1.0


class PrimaryCheck:
    """Leaves a primary that sentinels have replaced: it is the last to learn that."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.is_needed = store.has_sentinels
        #: The monotonic time of the next look.
        self.due = 0.0

    def leave_old(self, close_idle: bool = False) -> bool:
        """Look, once a second; whether all connections were closed. `rest` closes those to the
        sentinels, so that no forked child inherits one.
        """
        if not self.is_needed or time.monotonic() < self.due:
            return False
        left = self._store.leave_old_primary()
        if left:
            logger.warning("The sentinels name another primary; leaving the old one")
        if close_idle:
            self._store.close_idle()
        self.due = time.monotonic() + PRIMARY_INTERVAL
        return left


class ServerState:
    """What is wrong with the server, as far as is known; each change is logged once.

    `effect` says what follows from it. Of several requests each may be refused and another served.
    """

    def __init__(self, effect: str) -> None:
        self.effect = effect
        self._troubles: dict[str, str] = {}

    def failed(self, error: BaseException, request: str = "") -> None:
        """A request has failed."""
        trouble = described(error)
        if cuts_connection(error) or trouble not in self._troubles.values():
            logger.warning("%s; %s", trouble, self.effect)
        self._troubles[request] = trouble

    def succeeded(self, request: str = "") -> None:
        """The same request was carried out."""
        if self._troubles and self._troubles.pop(request, "") and not self._troubles:
            logger.info("Redis is back")
