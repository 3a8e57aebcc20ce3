"""Waiting for pushes by client-side tracking, and waking one idle minion for each."""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pyres.exceptions import CannotWatchError
from pyres.queue_list import QueueList
from pyres.store import (
    CONNECTION_ERRORS,
    REFUSAL_ERRORS,
    CannotWriteNow,
    ResponseError,
    Store,
    text,
)

#: Seconds after which another slot is woken if the woken one has not reported: it may be stopped.
WOKEN_LIMIT = 0.1

#: How many of the watchers that are notified of a push check the queue at once, on average.
FIRST_WATCHERS = 3

#: Seconds for each watcher over which the others' checks are spread; and the longest such time.
SPREAD, LONGEST_SPREAD = 0.004, 4.0

#: Seconds after which a watcher counts the others again; and for how long it is counted itself.
COUNT_INTERVAL, COUNTED_FOR = 60.0, 150

#: Seconds between two checks of the queues where the server does not report pushes.
POLL_INTERVAL = 1.0

#: Seconds after which watching is tried again on such a server.
WATCH_RETRY = 60.0

_CANNOT_COUNT: tuple[type[Exception], ...] = (ResponseError, CannotWriteNow, *REFUSAL_ERRORS)
_CANNOT_WITHDRAW: tuple[type[Exception], ...] = (ResponseError, *CONNECTION_ERRORS)

# From the system: jobs may seed the module's generator, to the same value in each process.
_random = random.SystemRandom()

logger = logging.getLogger(__name__)


@functools.lru_cache(maxsize=16)
def _warn_once(reason: str) -> None:
    logger.warning(
        "Cannot watch the queues, so they are checked every second; --blocking-pop starts a job "
        "sooner, but can lose one when a host is cut off: %s",
        reason,
    )


def warn_cannot_watch(error: CannotWatchError) -> None:
    """Log why the queues are not watched, once for each reason."""
    _warn_once(str(error))


class Slot(NamedTuple):
    """One place that performs jobs, one after the other: a process, or one of its greenlets."""

    pid: int
    number: int = 0


class QueueWatcher:
    """Detects a job in one of the queues without fetching it. Needs Redis 6 or later.

    `name`: the id under which this watcher is counted; `forks`: close the connection for counting
    after each use, so that no child inherits it.
    """

    def __init__(
        self, store: Store, queue_list: QueueList, name: str, *, forks: bool = False
    ) -> None:
        self._listener = store.push_listener()
        self._queue_list = queue_list
        self._watcher_count = WatcherCount(store, queue_list.names, name, forks)
        self._watching_since = self._watch_at = 0.0

    def connect(self) -> None:
        """Connect now, so that a reason not to watch is known at the start; raises as all_empty()
        does.
        """
        self._listener.connect()

    def all_empty(self) -> bool:
        """Whether there is no job now; if so, the next push makes fileno() readable.

        With wildcards a new queue does so, too. Raises CannotWatchError when the server does not
        report pushes, one of CONNECTION_ERRORS when it is disconnected.
        """
        self._listener.begin()
        self._watcher_count.announce()
        self._watching_since = time.monotonic()
        try:
            known = self._listener.names() if self._queue_list.dynamic else ()
            return self._listener.empty(self._queue_list.among(known))
        except CONNECTION_ERRORS:
            raise
        except ResponseError as error:
            raise CannotWatchError(f"Redis answered: {error}") from error

    def fileno(self) -> int:
        """The file descriptor to wait on after all_empty()."""
        return self._listener.fileno()

    def has_changed(self) -> bool:
        """Whether there may be a job since all_empty(); never waits for a push."""
        self._watcher_count.announce()
        return self._listener.has_changed()

    def delay(self) -> float:
        """Seconds to wait before checking the queues after a notification; 0 for a few watchers.

        Every watcher of a queue is notified of a push to it, and one of them fetches the job. If
        many watchers all checked at once, that would load the server more than the jobs do.
        """
        watchers = self._watcher_count.size(self._listener.changed())
        if watchers <= FIRST_WATCHERS:
            return 0.0
        now = time.monotonic()
        spread = min(watchers * SPREAD, LONGEST_SPREAD)
        # A watcher that waits before its check is not notified: that lasts half of the spread on
        # average, while watching lasts about twice the time since this one began.
        watched = 2 * (now - self._watching_since)
        notified = watchers * watched / (watched + spread / 2)
        delay = _random.random() * spread
        if _random.random() * notified >= FIRST_WATCHERS:
            return delay
        self._watch_at = now + delay
        return 0.0

    def pause(self) -> float:
        """Seconds to wait before the next all_empty(), for one of many that checked at once."""
        return max(0.0, self._watch_at - time.monotonic())

    def abandon(self) -> None:
        """In a forked child: drop the parent's connection without closing it on the server."""
        self._listener.abandon()

    def close(self) -> None:
        """Stop being counted, and close the connection."""
        if self._listener.connected:
            self._watcher_count.withdraw()
        self._listener.close()


class WatcherCount:
    """How many watchers the same queues have, counted by each queue name and wildcard."""

    def __init__(self, store: Store, patterns: Sequence[str], name: str, forks: bool) -> None:
        self._store = store
        self._forks = forks
        self._patterns = tuple(patterns)
        self._name = name
        self._sizes: dict[str, int] = {}
        self._announce_at = 0.0

    def announce(self) -> None:
        """Once a minute, be counted and count the others. Without the right to, or while the server
        refuses writes, the old counts stay.
        """
        if time.monotonic() < self._announce_at:
            return
        self._announce_at = time.monotonic() + COUNT_INTERVAL
        watchers, least = self._store.watchers, FIRST_WATCHERS + 1
        try:
            sizes = watchers.announce(self._name, self._patterns, COUNTED_FOR, least)
        except _CANNOT_COUNT as error:
            logger.debug("Could not count the watchers: %s", error)
        else:
            queues = [text(self._store.keys.queue(pattern)) for pattern in self._patterns]
            self._sizes = dict(zip(queues, sizes, strict=False))
        if self._forks:
            self._store.close_idle()

    def size(self, changed: frozenset[bytes] | None) -> int:
        """How many watchers these keys have; 1 if that is unknown."""
        queues = {text(key) for key in changed or ()}
        if queues and queues <= self._sizes.keys():
            return max(self._sizes[queue] for queue in queues)
        # A queue that only a wildcard matches, or an invalidation of the whole database.
        return max(self._sizes.values(), default=1)

    def withdraw(self) -> None:
        """Stop being counted, if the server can be reached."""
        if self._sizes:
            try:
                self._store.watchers.withdraw(self._name, self._patterns)
            except _CANNOT_WITHDRAW as error:
                logger.debug("Could not withdraw the watcher %s: %s", self._name, error)


class Wakeups:
    """The manager's: one queue watcher for the whole pool, which wakes one idle slot at a time.

    A push must not wake the whole pool: of eight fetches for one job, seven would find nothing. The
    woken slot reports whether it has fetched a job; only then are the queues checked again, and
    another slot is woken if they still hold a job.
    """

    def __init__(self, queue_watcher: QueueWatcher, wake: Callable[[Slot], None]) -> None:
        self._queue_watcher = queue_watcher
        self._wake = wake
        self._idle: dict[Slot, None] = {}
        self._woken: Slot | None = None
        self._woken_until = 0.0
        self._armed = False
        #: The monotonic time of the next check of the queues; None: at once.
        self._next_check: float | None = None
        self._polls_until = 0.0

    def idle(self, slot: Slot) -> None:
        """Note that this slot waits to be woken."""
        self._idle[slot] = None
        self._has_answered(slot)

    def busy(self, slot: Slot) -> None:
        """Note that this slot has a job."""
        self._idle.pop(slot, None)
        self._has_answered(slot)
        if self._polls_until:
            # There may be another job, for the next slot.
            self._next_check = None

    def remove(self, pid: int) -> None:
        """Forget the slots of this process, which has ended."""
        for slot in [slot for slot in self._idle if slot.pid == pid]:
            del self._idle[slot]
        if self._woken and self._woken.pid == pid:
            self._woken = None

    def _has_answered(self, slot: Slot) -> None:
        if slot == self._woken:
            self._woken = None

    def fds(self) -> tuple[int, ...]:
        """The file descriptors to wait on, beside the one for the slots' reports."""
        return (self._queue_watcher.fileno(),) if self._armed else ()

    def until(self) -> float | None:
        """The monotonic time at which process_events() must be called, in any case; None: never."""
        if not self._idle:
            return None
        answer = self._woken_until if self._woken else None
        if self._next_check is None:
            return answer
        return max(self._next_check, answer or 0.0)

    def process_events(self, now: float) -> None:
        """Wake one slot if there is a job; else make sure that the next push is reported. May raise
        CONNECTION_ERRORS and CannotWatchError; the next call then starts over.
        """
        if now < self._polls_until:
            self._poll(now)
        elif self._armed:
            self._check_reports(now)
        elif self._is_check_due(now):
            self._check_queues(now)

    def restart(self) -> None:
        """Note that the connection was closed: the next process_events() reconnects and checks."""
        self._armed, self._next_check = False, None

    def poll(self, now: float) -> None:
        """Wake one slot each second, for a minute, instead of watching."""
        self._armed, self._next_check = False, now
        self._polls_until = now + WATCH_RETRY

    def _poll(self, now: float) -> None:
        if self._is_check_due(now):
            self._next_check = now + POLL_INTERVAL
            self._wake_one(now)

    def _check_reports(self, now: float) -> None:
        self._armed = False
        if not self._queue_watcher.has_changed():
            self._armed = True
        elif delay := self._queue_watcher.delay():
            self._next_check = now + delay
        else:
            # Before the queues are checked again: the new job waits for this.
            self._wake_one(now)
            if pause := self._queue_watcher.pause():
                self._next_check = now + pause

    def _is_check_due(self, now: float) -> bool:
        if not self._idle or (self._next_check is not None and now < self._next_check):
            return False
        return not (self._woken and now < self._woken_until)

    def _check_queues(self, now: float) -> None:
        self._next_check, self._polls_until = None, 0.0
        if self._queue_watcher.all_empty():
            self._armed, self._woken = True, None
        else:
            self._wake_one(now)

    def _wake_one(self, now: float) -> None:
        """Wake the slot that became idle last: its memory is most likely still cached."""
        if self._idle:
            slot, _ = self._idle.popitem()
            self._woken, self._woken_until = slot, now + WOKEN_LIMIT
            self._wake(slot)
