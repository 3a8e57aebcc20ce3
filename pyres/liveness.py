"""Deciding which workers and managers are dead: the only place that does."""

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

#: The shortest gap in seconds that is certain: heartbeats are noted in whole seconds.
SHORTEST_QUIET = 3.0


@dataclasses.dataclass(frozen=True)
class Pace:
    """Seconds between heartbeats, and seconds without one after which a worker counts as dead; None
    means HEARTBEAT and PRUNE_AFTER. All workers of a server should have the same.
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
        """Seconds without a heartbeat of any worker that mean an outage of the server or of all
        workers; and the seconds that all workers then get for the next one.
        """
        return max(2 * self.heartbeat, SHORTEST_QUIET)

    @property
    def longest_pause(self) -> float:
        """The most seconds between two tries to reach a server: well within one heartbeat."""
        return min(LONGEST_PAUSE, self.heartbeat / 4)


#: Host names that another machine or container has too, and that were logged.
_warned_hosts: set[str] = set()


def split_id(worker_id: str) -> tuple[str, int, list[str]]:
    """Host, pid and queues of a worker id; a queue's name may hold colons. Raises ValueError
    for text that is not a worker id.
    """
    host, pid, queues = worker_id.split(":", 2)
    return host, int(pid), queues.split(",")


class Known(NamedTuple):
    """What Redis knows of the workers at one moment: the registered ids, heartbeats and process
    starts by id; the server's clock; and of all heartbeats together the last one, and since when
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
    """Decides which workers are dead, from the host of the worker `own_id`. `shows_worker(pid)`:
    whether the title of a process of this host is that of a worker.
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
        """The same for managers, by their ids, heartbeats and process titles."""
        ids, heartbeats, process_starts = self._workers.khan_snapshot()
        known = self.known._replace(ids=ids, beats=heartbeats, process_starts=process_starts)
        return Liveness(self.own_id, self._workers, title.is_manager, known, self._pace)

    def is_gone(self, worker_id: str) -> bool:
        """Whether this worker is of this host and certainly dead, whatever its heartbeat."""
        try:
            host, pid, _queues = split_id(worker_id)
        except ValueError:
            return False
        if host != self.host or worker_id == self.own_id:
            return False
        process_start = self.known.process_starts.get(worker_id)
        if process_start is None:
            # A process that registers its start does so for all of its ids.
            ghost = pid == self.pid or f"{host}:{pid}" in self._with_process_start
            return ghost or self._is_gone(worker_id, pid)
        place, _, start = process_start.rpartition(" ")
        if place != identity.place():
            return self._ended_with_its_place(worker_id)
        return self._is_another(pid, start) if start else self._is_gone(worker_id, pid)

    def _is_another(self, pid: int, start: str) -> bool:
        """Whether another process, or none, has this pid, of a worker with a known start."""
        return not is_process(pid) or identity.start(pid) not in ("", start)

    def _is_gone(self, worker_id: str, pid: int) -> bool:
        """Whether a worker is dead whose process start is unknown: Ruby's, node's, pyres 1.5's."""
        if self.shows_worker(pid):
            return False
        if not is_process(pid):
            return True
        if self._age(worker_id) is not None and not self._is_old(worker_id):
            return False
        # A title that cannot be read, as with hidepid=2, proves nothing.
        return title.is_readable(pid) and not self._pings(f"{self.host}:{pid}")

    def _ended_with_its_place(self, worker_id: str) -> bool:
        """Whether a worker from another boot or container with this host's name ended with it."""
        age = self._age(worker_id)
        if age is None or age <= self._pace.quiet:
            self._warn_shared_name(worker_id)
            return False
        return age > identity.uptime() > 0

    def _warn_shared_name(self, worker_id: str) -> None:
        if self.host not in _warned_hosts:
            _warned_hosts.add(self.host)
            logger.warning(
                "%s is on another machine or container that also has the host name %s: give each "
                "its own host name, or dead workers are found only after %g s",
                worker_id,
                self.host,
                self._pace.prune_after,
            )

    def is_silent(self, worker_id: str) -> bool:
        """Whether a worker of any host has written no heartbeat for so long that it counts as dead.

        Not after an outage of the server or of all workers, or a change of the server's clock: then
        all get the time of two heartbeats.
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
        """Seconds since the last heartbeat by the server's clock; None without a readable one."""
        return self._since(self.known.beats.get(worker_id))

    def is_old(self, written: object) -> bool:
        """Whether a timestamp is older than a worker may be without a heartbeat."""
        age = self._since(written)
        return age is not None and age > self._pace.prune_after

    def _since(self, written: object) -> float | None:
        then = certain_moment(written)
        return None if then is None else self.known.now.timestamp() - then

    def _pings(self, name: str) -> bool:
        """Whether node-resque has a live worker of this name: a process title does not show it."""
        try:
            ping = json_parser.loads(self._workers.ping(name) or b"null")
        except UndecodableError:
            return False
        at = ping.get("time") if isinstance(ping, dict) else None
        oldest = self.known.now.timestamp() - self._pace.prune_after
        return isinstance(at, int | float) and at > oldest
