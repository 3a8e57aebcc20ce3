"""Who waits for a job without popping, and who of many that wait is woken when one comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pyres.queue_list import QueueList
from pyres.store import Store

#: Seconds after which another is woken when the one that was said nothing: it may be stopped.
WOKEN_LIMIT = 0.1


class Hand(NamedTuple):
    """One that performs jobs, one after the other: a process, or one of its greenlets."""

    pid: int
    number: int = 0


class Lookout:
    """Tells of a job in one of the queues without taking it. Needs a server from Redis 6 on."""

    def __init__(self, store: Store, queue_list: QueueList) -> None:
        self._watch = store.push_watch()
        self._queue_list = queue_list

    def check(self) -> None:
        """Raises TooOldError when the server is too old, one of ConnectionLost when it is gone."""
        self._watch.connect()

    def nothing_there(self) -> bool:
        """Whether there is no job now; if so, the next one makes fileno() readable.

        For wildcards a queue that is new counts as well.
        """
        self._watch.begin()
        known = self._watch.names() if self._queue_list.dynamic else ()
        return self._watch.empty(self._queue_list.among(known))

    def fileno(self) -> int:
        """To be waited on after nothing_there()."""
        return self._watch.fileno()

    def told(self) -> bool:
        """Whether there may be a job since nothing_there(); never waits."""
        return self._watch.told()

    def forget(self) -> None:
        """In a forked child: let go of the parent's connection."""
        self._watch.forget()

    def close(self) -> None:
        self._watch.close()


class Waker:
    """Khan's: one lookout for the whole pool, which wakes one idle hand at a time.

    A push must not wake the whole fleet: eight takes for one job, of which seven find nothing. The
    one that is woken says whether it has taken a job, and only then the next look tells whether
    there is another for the next one.
    """

    def __init__(self, lookout: Lookout, wake: Callable[[Hand], None]) -> None:
        self._lookout = lookout
        self._wake = wake
        self._idle: dict[Hand, None] = {}
        self._woken: Hand | None = None
        self._woken_until = 0.0
        self._armed = False

    def idle(self, hand: Hand) -> None:
        """This hand waits to be woken."""
        self._idle[hand] = None
        self._has_answered(hand)

    def busy(self, hand: Hand) -> None:
        """This hand has a job."""
        self._idle.pop(hand, None)
        self._has_answered(hand)

    def gone(self, pid: int) -> None:
        """This process waits no more."""
        for hand in [hand for hand in self._idle if hand.pid == pid]:
            del self._idle[hand]
        if self._woken and self._woken.pid == pid:
            self._woken = None

    def _has_answered(self, hand: Hand) -> None:
        if hand == self._woken:
            self._woken = None

    def fds(self) -> tuple[int, ...]:
        """What is to be waited on, beside the reports of the hands."""
        return (self._lookout.fileno(),) if self._armed else ()

    def until(self) -> float | None:
        """The monotonic time at which tend() is wanted, whatever comes; None for none."""
        return self._woken_until if self._woken and self._idle else None

    def tend(self, now: float) -> None:
        """Wake one if a job came; else see to it that the next push is told. ConnectionLost passes
        through, and the next call begins anew.
        """
        armed, self._armed = self._armed, False
        if armed and not self._lookout.told():
            self._armed = True
        elif armed:
            # Before another look at the queues: this is what the job waits for.
            self._wake_one(now)
        elif self._idle and not (self._woken and now < self._woken_until):
            if self._lookout.nothing_there():
                self._armed, self._woken = True, None
            else:
                self._wake_one(now)

    def _wake_one(self, now: float) -> None:
        """The one that went idle last: its memory is still warm."""
        if self._idle:
            hand, _ = self._idle.popitem()
            self._woken, self._woken_until = hand, now + WOKEN_LIMIT
            self._wake(hand)
