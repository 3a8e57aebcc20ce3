"""Who waits for a job without popping, and who of many that wait is woken when one comes."""

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

#: Seconds after which another is woken when the one that was said nothing: it may be stopped.
WOKEN_LIMIT = 0.1

#: Of many watchers that get a report of one push, how many look at once, in the mean.
FIRST_WATCHERS = 3

#: Seconds within which the others look, for each watcher; and the longest such time.
SPREAD, LONGEST_SPREAD = 0.004, 4.0

#: Seconds after which a watcher counts the others again; and for which it is counted itself.
COUNT_INTERVAL, COUNTED_FOR = 60.0, 150

#: Seconds between two looks at the queues where the server reports no push.
POLL_INTERVAL = 1.0

#: Seconds after which such a server is asked again for reports.
WATCH_RETRY = 60.0

_CANNOT_COUNT: tuple[type[Exception], ...] = (ResponseError, CannotWriteNow, *REFUSAL_ERRORS)
_CANNOT_WITHDRAW: tuple[type[Exception], ...] = (ResponseError, *CONNECTION_ERRORS)

# Its own, from the system: jobs may seed the one of the module, the same in each process.
_random = random.SystemRandom()


logger = logging.getLogger(__name__)


@functools.lru_cache(maxsize=16)
def _warn_once(reason: str) -> None:
    logger.warning(
        "Cannot watch the queues, so this looks at them every second; --blocking-pop starts a job "
        "sooner, but can lose one when a host is cut off: %s",
        reason,
    )


def warn_cannot_watch(error: CannotWatchError) -> None:
    """Log why the queues are not watched, once for each reason."""
    _warn_once(str(error))


class Slot(NamedTuple):
    """One that performs jobs, one after the other: a process, or one of its greenlets."""

    pid: int
    number: int = 0


class QueueWatcher:
    """Reports a job in one of the queues without fetching it. Needs a server from Redis 6 on.

    `name` is the worker or manager that watches, to be counted among the watchers; `forks` closes
    the connection of that at once, so that no child inherits it.
    """

    def __init__(
        self, store: Store, queue_list: QueueList, name: str, *, forks: bool = False
    ) -> None:
        self._listener = store.push_listener()
        self._queue_list = queue_list
        self._watcher_count = WatcherCount(store, queue_list.names, name, forks)
        self._watching_since = self._watch_at = 0.0

    def connect(self) -> None:
        """Raises as all_empty() does; so that a reason not to watch is known at the start."""
        self._listener.connect()

    def all_empty(self) -> bool:
        """Whether there is no job now; if so, the next one makes fileno() readable.

        For wildcards a queue that is new counts as well. CannotWatchError when the server reports
        no push, one of CONNECTION_ERRORS when it is disconnected.
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
        """To be waited on after all_empty()."""
        return self._listener.fileno()

    def has_changed(self) -> bool:
        """Whether there may be a job since all_empty(); never waits for a push."""
        self._watcher_count.announce()
        return self._listener.has_changed()

    def delay(self) -> float:
        """Seconds to wait before the look that a report asks for: for a few of many watchers none.

        Each watcher of a queue hears of a push to it, and one of them fetches the job. If all of
        many looked at once, the server would have more to do for them than for the jobs.
        """
        watchers = self._watcher_count.size(self._listener.changed())
        if watchers <= FIRST_WATCHERS:
            return 0.0
        now = time.monotonic()
        spread = min(watchers * SPREAD, LONGEST_SPREAD)
        # Who waits for its look gets no report: that takes half of the spread in the mean, while
        # watching takes about twice the time since this one began.
        watched = 2 * (now - self._watching_since)
        reported = watchers * watched / (watched + spread / 2)
        delay = _random.random() * spread
        if _random.random() * reported >= FIRST_WATCHERS:
            return delay
        self._watch_at = now + delay
        return 0.0

    def pause(self) -> float:
        """Seconds to wait before the next all_empty(), for one of many that looked at once."""
        return max(0.0, self._watch_at - time.monotonic())

    def abandon(self) -> None:
        """In a forked child: let go of the parent's connection."""
        self._listener.abandon()

    def close(self) -> None:
        """Leave, and close the connection."""
        if self._listener.connected:
            self._watcher_count.withdraw()
        self._listener.close()


class WatcherCount:
    """How many watch the same queues: by the names and wildcards that they were told to watch."""

    def __init__(self, store: Store, patterns: Sequence[str], name: str, forks: bool) -> None:
        self._store = store
        self._forks = forks
        self._patterns = tuple(patterns)
        self._name = name
        self._sizes: dict[str, int] = {}
        self._announce_at = 0.0

    def announce(self) -> None:
        """Be counted, and count, every now and then. Who may not, or cannot now, counts nobody."""
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
        """How many watch these keys; 1 where that is unknown."""
        queues = {text(key) for key in changed or ()}
        if queues and queues <= self._sizes.keys():
            return max(self._sizes[queue] for queue in queues)
        # A queue that a wildcard stands for, or all of the database.
        return max(self._sizes.values(), default=1)

    def withdraw(self) -> None:
        """Be counted no more, if the server is there."""
        if self._sizes:
            try:
                self._store.watchers.withdraw(self._name, self._patterns)
            except _CANNOT_WITHDRAW as error:
                logger.debug("Could not withdraw the watcher %s: %s", self._name, error)


class Wakeups:
    """Khan's: one queue_watcher for the whole pool, which wakes one idle hand at a time.

    A push must not wake the whole fleet: eight takes for one job, of which seven find nothing. The
    one that is woken says whether it has taken a job, and only then the next look tells whether
    there is another for the next one.
    """

    def __init__(self, queue_watcher: QueueWatcher, wake: Callable[[Slot], None]) -> None:
        self._queue_watcher = queue_watcher
        self._wake = wake
        self._idle: dict[Slot, None] = {}
        self._woken: Slot | None = None
        self._woken_until = 0.0
        self._armed = False
        self._refresh_queues: float | None = None
        self._polls_until = 0.0

    def idle(self, slot: Slot) -> None:
        """This hand waits to be woken."""
        self._idle[slot] = None
        self._has_answered(slot)

    def busy(self, slot: Slot) -> None:
        """This hand has a job."""
        self._idle.pop(slot, None)
        self._has_answered(slot)
        if self._polls_until:
            # There may be another job for the next one.
            self._refresh_queues = None

    def remove(self, pid: int) -> None:
        """This process waits no more."""
        for slot in [slot for slot in self._idle if slot.pid == pid]:
            del self._idle[slot]
        if self._woken and self._woken.pid == pid:
            self._woken = None

    def _has_answered(self, slot: Slot) -> None:
        if slot == self._woken:
            self._woken = None

    def fds(self) -> tuple[int, ...]:
        """What is to be waited on, beside the reports of the hands."""
        return (self._queue_watcher.fileno(),) if self._armed else ()

    def until(self) -> float | None:
        """The monotonic time at which tend() is wanted, whatever comes; None for none."""
        if not self._idle:
            return None
        answer = self._woken_until if self._woken else None
        if self._refresh_queues is None:
            return answer
        return max(self._refresh_queues, answer or 0.0)

    def process_events(self, now: float) -> None:
        """Wake one if a job came; else see to it that the next push is reported. CONNECTION_ERRORS
        and CannotWatchError pass through, and the next call begins anew.
        """
        if now < self._polls_until:
            self._poll(now)
        elif self._armed:
            self._check_reports(now)
        elif self._is_check_due(now):
            self._check_queues(now)

    def restart(self) -> None:
        """The connection was closed: the next call of tend() opens another, and looks."""
        self._armed, self._refresh_queues = False, None

    def poll(self, now: float) -> None:
        """Wake one each second, for a while, in place of watching."""
        self._armed, self._refresh_queues = False, now
        self._polls_until = now + WATCH_RETRY

    def _poll(self, now: float) -> None:
        if self._is_check_due(now):
            self._refresh_queues = now + POLL_INTERVAL
            self._wake_one(now)

    def _check_reports(self, now: float) -> None:
        self._armed = False
        if not self._queue_watcher.has_changed():
            self._armed = True
        elif delay := self._queue_watcher.delay():
            self._refresh_queues = now + delay
        else:
            # Before another look at the queues: this is what the job waits for.
            self._wake_one(now)
            if pause := self._queue_watcher.pause():
                self._refresh_queues = now + pause

    def _is_check_due(self, now: float) -> bool:
        if not self._idle or (self._refresh_queues is not None and now < self._refresh_queues):
            return False
        return not (self._woken and now < self._woken_until)

    def _check_queues(self, now: float) -> None:
        self._refresh_queues, self._polls_until = None, 0.0
        if self._queue_watcher.all_empty():
            self._armed, self._woken = True, None
        else:
            self._wake_one(now)

    def _wake_one(self, now: float) -> None:
        """The one that went idle last: its memory is still warm."""
        if self._idle:
            slot, _ = self._idle.popitem()
            self._woken, self._woken_until = slot, now + WOKEN_LIMIT
            self._wake(slot)
