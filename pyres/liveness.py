"""Who is dead: the one place that decides it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from pyres import json_parser
from pyres.exceptions import BadOptionError, UndecodableError
from pyres.process import identity, title
from pyres.process.children import alive as is_process
from pyres.reconnecting import LONGEST_PAUSE
from pyres.store import Workers, without_queues
from pyres.times import certain_moment

logger = logging.getLogger(__name__)

#: Seconds between two heartbeats of a worker (Resque.heartbeat_interval).
HEARTBEAT = 60

#: Seconds without a heartbeat after which a worker of any host is dead (Resque.prune_interval).
PRUNE_AFTER = 300


#: Seconds that show as a gap for certain: heartbeats are noted in whole seconds.
SHORTEST_QUIET = 3.0


@dataclasses.dataclass(frozen=True)
class Pace:
    """How often a worker gives a heartbeat, and after how many seconds without one it is dead; None
    stands for HEARTBEAT and PRUNE_AFTER. All workers of a server want the same.
    """

    heartbeat_interval: float | None = None
    prune_interval: float | None = None

    def __post_init__(self) -> None:
        if self.heartbeat_interval is not None and self.heartbeat_interval < 1:
            raise BadOptionError(
                f"invalid heartbeat_interval {self.heartbeat_interval!r}: expected 1 second or more"
            )
        if self.prune_after < 3 * self.heartbeat:
            raise BadOptionError(
                f"invalid prune_interval {self.prune_after!r}: expected three times the heartbeat "
                f"interval of {self.heartbeat:g} s or more"
            )

    @property
    def heartbeat(self) -> float:
        """Seconds between two heartbeats."""
        return HEARTBEAT if self.heartbeat_interval is None else self.heartbeat_interval

    @property
    def prune_after(self) -> float:
        """Seconds without a heartbeat after which a worker of any host is dead."""
        return PRUNE_AFTER if self.prune_interval is None else self.prune_interval

    @property
    def quiet(self) -> float:
        """Seconds without a heartbeat of anybody that say that the server, or everybody, was away;
        and those that all then get.
        """
        return max(2 * self.heartbeat, SHORTEST_QUIET)

    @property
    def longest_pause(self) -> float:
        """Seconds between two tries to reach a server, at most: within one heartbeat."""
        return min(LONGEST_PAUSE, self.heartbeat / 4)


#: Hosts that were said to share a name with this one.
_said: set[str] = set()


def split_id(worker_id: str) -> tuple[str, int, list[str]]:
    """Host, pid and queues of a worker's id; a queue's name may hold colons. ValueError
    for no id.
    """
    host, pid, queues = worker_id.split(":", 2)
    return host, int(pid), queues.split(",")


class Known(NamedTuple):
    """What Redis tells of the workers at one moment: who is registered, heartbeats and process
    starts by id; the server's clock, and the heartbeats of everybody: the last one, and since when
    there was no gap (epoch seconds).
    """

    ids: frozenset[str]
    beats: Mapping[str, str]
    process_starts: Mapping[str, str]
    now: datetime
    last: float
    since: float

    @classmethod
    def of(cls, workers: Workers) -> Known:
        return cls(*workers.snapshot(), workers.now(), *workers.noted())


class Liveness:
    """Tells the dead from the living, as the worker `own_id` sees it. `shows_worker(pid)` tells
    whether a process of this host shows in `ps` that it is one.
    """

    def __init__(
        self,
        own_id: str,
        workers: Workers,
        shows_worker: Callable[[int], bool] = title.is_worker,
        known: Known | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.own_id = own_id
        self.host, self.pid, _ = split_id(own_id)
        self.shows_worker = shows_worker
        self._workers = workers
        self._pace = pace or Pace()
        self.known = known or Known.of(workers)
        self._with_process_start = set(map(without_queues, self.known.process_starts))

    def of_khans(self) -> Liveness:
        """The same of managers: by their ids, their own heartbeats and what they show in `ps`."""
        ids, heartbeats, process_starts = self._workers.khan_snapshot()
        known = self.known._replace(ids=ids, beats=heartbeats, process_starts=process_starts)
        return Liveness(self.own_id, self._workers, title.is_manager, known, self._pace)

    def is_gone(self, worker_id: str) -> bool:
        """Whether it is of this host and certainly dead, whatever its heartbeat says."""
        try:
            host, pid, _queues = split_id(worker_id)
        except ValueError:
            return False
        if host != self.host or worker_id == self.own_id:
            return False
        process_start = self.known.process_starts.get(worker_id)
        if process_start is None:
            # Of a process that registers its start no id is without it.
            ghost = pid == self.pid or f"{host}:{pid}" in self._with_process_start
            return ghost or self._is_gone(worker_id, pid)
        place, _, start = process_start.rpartition(" ")
        if place != identity.place():
            return self._ended_with_its_place(worker_id)
        return self._is_another(pid, start) if start else self._is_gone(worker_id, pid)

    def _is_another(self, pid: int, start: str) -> bool:
        """Of one whose process start is known: another process has its pid now, or none."""
        return not is_process(pid) or identity.start(pid) not in ("", start)

    def _is_gone(self, worker_id: str, pid: int) -> bool:
        """Of one whose process start is unknown, as those of Ruby, node and pyres 1.5."""
        if self.shows_worker(pid):
            return False
        if not is_process(pid):
            return True
        if self._age(worker_id) is not None and not self._is_old(worker_id):
            return False
        # One that cannot be read, as with hidepid=2, proves nothing.
        return title.is_readable(pid) and not self._pings(f"{self.host}:{pid}")

    def _ended_with_its_place(self, worker_id: str) -> bool:
        """Of one with our host's name in another boot or container: whether that boot is over."""
        age = self._age(worker_id)
        if age is None or age <= self._pace.quiet:
            self._say(worker_id)
            return False
        return age > identity.uptime() > 0

    def _say(self, worker_id: str) -> None:
        if self.host not in _said:
            _said.add(self.host)
            logger.warning(
                "%s is of another machine or container with the name %s of this one: give each a "
                "host name of its own, for a dead worker is found only after %g s now",
                worker_id,
                self.host,
                self._pace.prune_after,
            )

    def is_silent(self, worker_id: str) -> bool:
        """Whether it gave no heartbeat for so long that it counts as dead, on any host.

        Not where the server, its clock or everybody was away: all then get two heartbeats' time.
        """
        return self._is_old(worker_id) and not self._after_outage()

    def _is_old(self, worker_id: str) -> bool:
        age = self._age(worker_id)
        return age is not None and (
            age > self._pace.prune_after or (age < -self._pace.prune_after and self.known.since > 0)
        )

    def _after_outage(self) -> bool:
        if not self.known.last:
            return False
        now, quiet = self.known.now.timestamp(), self._pace.quiet
        return now - self.known.last > quiet or now - self.known.since < quiet

    def _age(self, worker_id: str) -> float | None:
        """Seconds since the last heartbeat by the server's clock; None for none to be read."""
        return self._since(self.known.beats.get(worker_id))

    def is_old(self, written: object) -> bool:
        """Whether a time that was written is longer ago than a worker may be silent."""
        age = self._since(written)
        return age is not None and age > self._pace.prune_after

    def _since(self, written: object) -> float | None:
        then = certain_moment(written)
        return None if then is None else self.known.now.timestamp() - then

    def _pings(self, name: str) -> bool:
        """Whether node-resque has a live worker of this name: its title says nothing of that."""
        try:
            pinged = json_parser.loads(self._workers.ping(name) or b"null")
        except UndecodableError:
            return False
        at = pinged.get("time") if isinstance(pinged, dict) else None
        oldest = self.known.now.timestamp() - self._pace.prune_after
        return isinstance(at, int | float) and at > oldest
