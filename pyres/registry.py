"""Who is registered and alive, and what becomes of the job of one who is not."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from pyres import json_parser, payload
from pyres.client import Pipeline, ResQ
from pyres.exceptions import (
    DirtyExitError,
    PruneDeadWorkerDirtyExitError,
    UndecodableError,
)
from pyres.failure.redis import RedisBackend
from pyres.job import Job
from pyres.process.children import alive as is_process
from pyres.process.title import is_manager, is_worker
from pyres.store import open_hand

logger = logging.getLogger(__name__)

#: Seconds between two signs of life of a worker (Resque.heartbeat_interval).
HEARTBEAT = 60

#: Seconds without a sign of life after which a worker of any host is dead (Resque.prune_interval).
PRUNE_AFTER = 300


def split_id(worker_id: str) -> tuple[str, int, list[str]]:
    """Host, pid and queues of a worker's id; a queue's name may hold colons. ValueError
    for no id.
    """
    host, pid, queues = worker_id.split(":", 2)
    return host, int(pid), queues.split(",")


class Registry:
    """The worker `worker_id` among the others. `alive(pid)` tells workers of this host from the
    dead.
    """

    def __init__(
        self,
        resq: ResQ,
        worker_id: str,
        minion: bool = False,
        alive: Callable[[int], bool] = is_worker,
    ) -> None:
        self.resq = resq
        self.worker_id = worker_id
        self.minion = minion
        self.alive = alive
        self.workers = resq.store.workers

    def register(self) -> None:
        """Announce this worker; a job that stands in its hand is one that a namesake died with.

        In a container every worker is pid 1 of the same host, so the dead one had our very id.
        """
        if self.workers.hand(self.worker_id) is not None:
            self.bury(self.worker_id)
        self.workers.register(self.worker_id, self._started(), self.minion)
        self.workers.beat([self.worker_id])

    def _started(self) -> str:
        return str(int(self.resq._current_time().timestamp()))

    def unregister(self) -> None:
        """Forget this worker; a job that it leaves in its hand becomes a failure, as in Resque."""
        gone = held = False
        while not gone:
            gone, held = self._forget(self.worker_id, None, silent=False)
        if held:
            logger.error("%s leaves with a job in hand; that is now a failure", self.worker_id)

    def beat(self) -> None:
        """Give a sign of life; whoever was pruned alive registers again."""
        if self.workers.beat([self.worker_id]):
            logger.warning(
                "%s was unregistered by somebody else; registering again", self.worker_id
            )
            self.workers.register(self.worker_id, self._started(), self.minion)

    def prune(self) -> list[str]:
        """Unregister workers that are dead, and record the jobs they held as failures; their ids.

        Dead are those of this host whose pid is no worker, and those of any host that gave no sign
        of life for 300 s by the server's clock. Resque's lock keeps it to one at a time. Khans of
        this host that are gone are forgotten too.
        """
        self._forget_khans()
        buried = [worker_id for worker_id in self._gone_from_here() if self.bury(worker_id)]
        if self._lock():
            buried += [
                worker_id for worker_id in self._silent() if self.bury(worker_id, silent=True)
            ]
        return buried

    def _forget_khans(self) -> None:
        # Who was killed took no leave.
        own_host = split_id(self.worker_id)[0]
        for khan_id in self.workers.khan_ids():
            with contextlib.suppress(ValueError):  # no khan's id
                host, pid, _size = split_id(khan_id)
                if host == own_host and not is_manager(pid):
                    self.workers.unregister_khan(khan_id)

    def _lock(self) -> bool:
        holder = self.workers.prune_lock_holder()
        gone = holder if holder and self._is_gone(holder) else ""
        return self.workers.prune_lock(self.worker_id, HEARTBEAT, gone)

    def _gone_from_here(self) -> list[str]:
        """Burying is atomic here, so that two that find the same dead worker record its
        job once.
        """
        registered = self.workers.ids()
        gone = [worker_id for worker_id in registered if self._is_gone(worker_id)]
        # A khan gives signs of life for his minions, and one may die before it has registered.
        strays = sorted(self.workers.heartbeats().keys() - registered)
        return gone + [stray for stray in strays if self._is_gone(stray, by_pid=True)]

    def _is_gone(self, worker_id: str, by_pid: bool = False) -> bool:
        """Whether it was registered from this host, and its pid is no live worker now; `by_pid`: no
        process at all, for one that may not show yet what it is.
        """
        try:
            host, pid, _queues = split_id(worker_id)
        except ValueError:
            return False
        own_host, own_pid, _ = split_id(self.worker_id)
        if host != own_host or pid == own_pid or self.alive(pid) or (by_pid and is_process(pid)):
            return False
        return not (is_process(pid) and self._pings(f"{host}:{pid}"))

    def _pings(self, name: str) -> bool:
        """Whether node-resque has a live worker of this name: its title says nothing of that."""
        try:
            pinged = json_parser.loads(self.workers.ping(name) or b"null")
        except UndecodableError:
            return False
        at = pinged.get("time") if isinstance(pinged, dict) else None
        oldest = self.workers.now().timestamp() - PRUNE_AFTER
        return isinstance(at, int | float) and at > oldest

    def _silent(self) -> list[str]:
        beats = self.workers.heartbeats()
        oldest = self.workers.now() - timedelta(seconds=PRUNE_AFTER)
        return [worker_id for worker_id, beat in beats.items() if _is_before(beat, oldest)]

    def bury(
        self, worker_id: str, error: BaseException | None = None, silent: bool = False
    ) -> bool:
        """Unregister a dead worker; its job in hand becomes a failure, in the same transaction.

        `error` is what the failure says, where the caller knows how the worker died.

        False when somebody else was quicker, or it works again.
        """
        gone, held = self._forget(worker_id, error, silent)
        if gone:
            what = "its job is now a failure" if held else "it held no job"
            logger.warning("Pruned the dead worker %s; %s", worker_id, what)
        return gone

    def _forget(
        self, worker_id: str, error: BaseException | None, silent: bool
    ) -> tuple[bool, bool]:
        """Unregister a worker, and make what is in its hand a failure: whether that was done, and
        whether there was a job.
        """
        batch = self.resq.store.batch(atomic=True)
        hand = batch.watch(batch.keys.worker(worker_id))
        if hand is not None:
            try:
                self._record(batch, worker_id, hand, error, silent)
            except BaseException:
                batch.discard()
                raise
        batch.workers.unregister(worker_id)
        return batch.send(), hand is not None

    def _record(
        self, batch: Any, worker_id: str, hand: bytes, error: BaseException | None, silent: bool
    ) -> None:
        job = held_job(hand, self.resq, worker_id)
        if silent:
            error = PruneDeadWorkerDirtyExitError(
                f"Worker {worker_id} did not gracefully exit while processing {job.name}"
            )
        save_failure(job, error or DirtyExitError(), Pipeline(self.resq, batch))
        # Resque forgets to count these; here a job is counted once, however it ends.
        batch.stats.incr("processed")


def held_job(hand: bytes, resq: ResQ, worker_id: str) -> Job:
    """The job in a hand; a hand that cannot be read is a poison job of its own."""
    foreign = _foreign_job(hand, resq, worker_id)
    try:
        taken = open_hand(hand)
    except ValueError:
        return foreign or Job("", payload.undecodable(hand), resq, worker_id, raw=hand)
    job = Job.read(taken.queue, taken.payload, resq, worker_id, hand)
    return foreign if foreign and job.name == payload.UNDECODABLE else job


def _foreign_job(hand: bytes, resq: ResQ, worker_id: str) -> Job | None:
    """The job in a hand whose fields may stand in any order, as node-resque writes them."""
    held = payload.show(hand)
    queue, item = held.get("queue"), held.get("payload")
    if isinstance(queue, str) and isinstance(item, dict):
        return Job(queue, item, resq, worker_id, hand=hand)
    return None


def save_failure(job: Job, error: BaseException, resq: ResQ, count: bool = True) -> None:
    """Record a failure and, with `count`, count it, for the worker that had the job too."""
    try:
        job.fail(error, resq)
    except Exception:  # noqa: BLE001 - the border around a failure backend (rule 8)
        logger.exception(
            "The failure backend raised; keeping the failure of %s in Resque's list", job
        )
        recorded = payload.recordable(job._payload, job.raw)
        RedisBackend(error, job._queue, recorded, job._worker).save(resq)
    if count:
        resq.store.stats.incr("failed")
        resq.store.stats.incr(f"failed:{job._worker}")


def _is_before(beat: str, moment: datetime) -> bool:
    """Whether a heartbeat is older; one that cannot be read says nothing."""
    with contextlib.suppress(ValueError):
        then = datetime.fromisoformat(beat)
        return (then if then.tzinfo else then.astimezone()) < moment
    return False
