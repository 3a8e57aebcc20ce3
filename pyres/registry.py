"""Who is registered and alive, and what becomes of the job of one who is not."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from pyres import in_flight, payload
from pyres.client import Pipeline, ResQ
from pyres.exceptions import (
    DirtyExitError,
    PruneDeadWorkerDirtyExitError,
)
from pyres.failure import declared_dead
from pyres.failure.redis import RedisBackend
from pyres.job import Job
from pyres.liveness import HEARTBEAT, PRUNE_AFTER, Liveness, Pace, split_id
from pyres.process import identity
from pyres.process.children import alive as is_process
from pyres.process.title import is_worker
from pyres.store import CONNECTION_ERRORS, ResponseError, text

__all__ = [
    "HEARTBEAT",
    "PRUNE_AFTER",
    "Pace",
    "Registry",
    "job_in_flight",
    "save_failure",
    "split_id",
]

logger = logging.getLogger(__name__)


class _Removed(NamedTuple):
    """What came of unregistering a worker. `done` is False where its record changed meanwhile;
    `was_there` is False where nothing of it stood in Redis any more.
    """

    done: bool
    job_in_flight: bool
    was_there: bool


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
        pace: Pace | None = None,
    ) -> None:
        self.resq = resq
        self.worker_id = worker_id
        self.minion = minion
        self.alive = alive
        self.pace = pace or Pace()
        self.workers = resq.store.workers
        #: Whether the last prune() also looked for records of nobody.
        self.swept = False

    def register(self) -> None:
        """Announce this worker; a job that stands in its hand is one that a namesake died with.

        In a container every worker is pid 1 of the same host, so the dead one had our very id.
        """
        if self.workers.in_flight(self.worker_id) is not None:
            self.prune_worker(self.worker_id)
        self._announce(self._started(), self.workers.now_text())

    def _announce(self, started: str, heartbeat: str = "") -> None:
        pid = split_id(self.worker_id)[1]
        process_start = identity.process_start(pid)
        self.workers.register(self.worker_id, started, self.minion, process_start, heartbeat)

    def register_for_job(self) -> None:
        """Announce this worker until its job is recorded; without a heartbeat, for nobody would
        repeat it.
        """
        started = self.workers.started(self.worker_id)
        self._announce(self._started() if started is None else text(started))

    def unregister_after_job(self) -> None:
        """Forget this worker, but not what it has counted."""
        self.workers.unregister_keeping_counts(self.worker_id)

    def renew(self) -> None:
        """Register again, when somebody else has unregistered this worker."""
        logger.warning("%s was unregistered by somebody else; registering again", self.worker_id)
        self._announce(self._started(), self.workers.now_text())

    def _started(self) -> str:
        return str(int(self.resq.estimated_time()))

    def unregister(self) -> None:
        """Forget this worker; a job that it leaves in its hand becomes a failure, as in Resque."""
        while not (removed := self._remove(self.worker_id, None, silent=False)).done:
            pass
        if removed.job_in_flight:
            logger.error("%s leaves with a job in hand; that is now a failure", self.worker_id)

    def beat(self) -> bool:
        """Give a sign of life; whoever was pruned alive registers again, and is told by True."""
        missing = bool(self.workers.beat([self.worker_id]))
        if missing:
            self.renew()
        self.workers.note_heartbeat(self.pace.quiet)
        return missing

    def take_back(self, job: Job) -> None:
        """Of a job that ended well after its worker was declared dead: remove its failure."""
        if job.in_flight is None:
            return
        try:
            removed = self.resq.store.failed.take_back(self.worker_id, job.in_flight)
            if removed is None:
                removed = self._take_back_foreign_failure(job.in_flight)
        except CONNECTION_ERRORS:
            raise
        except ResponseError as error:
            logger.warning("%s ended well after it was declared dead: %s", job, error)
            return
        if removed:
            logger.warning("%s ended well after it was declared dead; took its failure back", job)
        elif removed is not None:
            logger.warning("%s has a failure or was retried, and also ended well", job)

    def _take_back_foreign_failure(self, record: bytes) -> bool | None:
        """take_back() of a failure that was written by who leaves no note: Ruby, node-resque."""
        running = in_flight.read(record)
        found = declared_dead.find(self.resq, self.worker_id, running) if running else None
        if found is None or found.retried:
            return None if found is None else False
        failed = self.resq.store.failed
        failed.note_declared_dead(self.worker_id, record, found.name, found.raw)
        return failed.take_back(self.worker_id, record, found.failed, found.processed)

    def prune(self, sweep: bool = False, except_for: Collection[str] = ()) -> list[str]:
        """Unregister workers that are dead, and record the jobs they held as failures; their ids.
        `sweep`: also of in-flight records whose worker is not registered. `except_for`: the ids of
        workers that the caller itself waits for.

        Who is dead is said by Liveness. Resque's lock keeps it to one at a time; the dead of this
        host need no lock among workers of pyres, who do it in one step. Dead managers are
        unregistered too, by the same rule.
        """
        liveness = Liveness(self.worker_id, self.workers, self.alive, pace=self.pace)
        self._prune_khans(liveness.of_khans())
        holder = self._lock(liveness)
        if holder and holder not in liveness.known.process_starts:
            return []  # Ruby's, which writes a failure in several steps
        dead = [(worker_id, False) for worker_id in self._dead_on_this_host(liveness)]
        if not holder:
            dead += [(each, True) for each in liveness.known.beats if liveness.is_silent(each)]
        pruned = [
            worker_id
            for worker_id, silent in dead
            if worker_id not in except_for and self.prune_worker(worker_id, silent=silent)
        ]
        if not holder:
            if sweep:
                left = [each for each in self._sweep(liveness) if each not in except_for]
                pruned += [worker_id for worker_id in left if self.prune_worker(worker_id)]
                self._unregister_unknown_minions(liveness)
                self._forget_counters(liveness)
            self.swept = sweep
        return pruned

    def _prune_khans(self, liveness: Liveness) -> None:
        known = sorted(liveness.known.ids.union(liveness.known.beats))
        dead = [
            khan_id for khan_id in known if liveness.is_gone(khan_id) or liveness.is_silent(khan_id)
        ]
        if dead:
            self.workers.unregister_khan(*dead)
            logger.warning("Pruned the dead managers %s", ", ".join(dead))

    def _unregister_unknown_minions(self, liveness: Liveness) -> None:
        """Forget minions that nobody has registered or heard of: one that lives registers again."""
        unknown = set(self.workers.minion_ids()) - liveness.known.ids - liveness.known.beats.keys()
        for worker_id in unknown:
            if self.workers.in_flight(worker_id) is None and not self.workers.exists(worker_id):
                self.workers.unregister_keeping_counts(worker_id)

    def _forget_counters(self, liveness: Liveness) -> None:
        """Remove what dead workers of this host have counted that somebody else had unregistered
        before they ended: nobody would look for it.
        """
        known = liveness.known.ids.union(liveness.known.beats)
        for worker_id in self.workers.counted():
            if worker_id in known or not self._has_no_process(worker_id):
                continue
            if self.workers.in_flight(worker_id) is None and not self.workers.exists(worker_id):
                self.workers.drop_counters(worker_id)

    def _lock(self, liveness: Liveness) -> str:
        """Take the prune lock; who has it, or "" when it is ours now."""
        holder = self.workers.prune_lock_holder()
        gone = holder if holder and liveness.is_gone(holder) else ""
        if self.workers.prune_lock(self.worker_id, math.ceil(self.pace.heartbeat), gone):
            return ""
        return holder or self.workers.prune_lock_holder()

    def _dead_on_this_host(self, liveness: Liveness) -> list[str]:
        """Burying is atomic here, so that two that find the same dead worker record its
        job once.
        """
        registered = liveness.known.ids
        gone = [worker_id for worker_id in sorted(registered) if liveness.is_gone(worker_id)]
        # A manager gives heartbeats for its minions, and one may die before it has registered; and
        # Ruby removes the dead from `workers` only.
        strays = sorted({*liveness.known.beats, *self.workers.minion_ids()} - registered)
        return gone + [stray for stray in strays if self._has_no_process(stray)]

    def _has_no_process(self, worker_id: str) -> bool:
        with contextlib.suppress(ValueError):  # no worker's id
            host, pid, _queues = split_id(worker_id)
            return host == split_id(self.worker_id)[0] and not is_process(pid)
        return False

    def _sweep(self, liveness: Liveness) -> list[str]:
        """Find in-flight records whose worker somebody has unregistered, and that is dead."""
        return [
            worker_id
            for worker_id, record in self.workers.records()
            # The second for those that registered since the first was read.
            if worker_id not in liveness.known.ids
            and self._is_left_behind(worker_id, record, liveness)
            and not self.workers.exists(worker_id)
        ]

    def _is_left_behind(self, worker_id: str, record: bytes, liveness: Liveness) -> bool:
        found = in_flight.read(record)
        if found is None:
            return False  # `worker:<id>:started`, node's `worker:ping:<name>`
        try:
            host = split_id(worker_id)[0]
        except ValueError:
            return False
        if host == liveness.host:
            return liveness.is_gone(worker_id)
        return worker_id not in liveness.known.beats and liveness.is_old(found.run_at)

    def prune_worker(
        self, worker_id: str, error: BaseException | None = None, silent: bool = False
    ) -> bool:
        """Unregister a dead worker; its job in hand becomes a failure, in the same transaction.

        `error` is what the failure says, where the caller knows how the worker died.

        False when somebody else was quicker, it works again, or it has unregistered itself; what a
        heartbeat that came later has left of it is removed.
        """
        if not self.workers.exists(worker_id) and self.workers.in_flight(worker_id) is None:
            self.workers.unregister(worker_id)
            return False
        removed = self._remove(worker_id, error, silent)
        if removed.done and removed.was_there:
            what = "its job is now a failure" if removed.job_in_flight else "it held no job"
            logger.warning("Pruned the dead worker %s; %s", worker_id, what)
            return True
        return False

    def finish(self, worker_id: str) -> None:
        """Unregister a worker that is gone and whose job is done; the job is counted."""
        done = False
        while not done:
            batch = self.resq.store.batch(atomic=True)
            if batch.watch(batch.keys.worker(worker_id)) is not None:
                batch.stats.incr("processed")
            batch.workers.unregister(worker_id)
            done = batch.send()

    def _remove(self, worker_id: str, error: BaseException | None, silent: bool) -> _Removed:
        """Unregister a worker, and make a failure of the job that it has in flight."""
        batch = self.resq.store.batch(atomic=True)
        record = batch.watch(batch.keys.worker(worker_id))
        if record is not None:
            try:
                self._record(batch, worker_id, record, error, silent)
                if silent and worker_id in self.workers.process_starts():
                    batch.failed.declare_dead(worker_id, record)
            except BaseException:
                batch.discard()
                raise
        batch.workers.unregister(worker_id)
        done = batch.send()
        return _Removed(
            done, job_in_flight=record is not None, was_there=done and any(batch.replies)
        )

    def _record(
        self, batch: Any, worker_id: str, record: bytes, error: BaseException | None, silent: bool
    ) -> None:
        job = job_in_flight(record, self.resq, worker_id)
        if silent:
            error = PruneDeadWorkerDirtyExitError(
                f"Worker {worker_id} did not gracefully exit while processing {job.shown_name}"
            )
        save_failure(job, DirtyExitError() if error is None else error, Pipeline(self.resq, batch))
        # Resque forgets to count these; here a job is counted once, however it ends.
        batch.stats.incr("processed")


def job_in_flight(record: bytes, resq: ResQ, worker_id: str) -> Job:
    """The job in an in-flight record; one that cannot be read is a malformed payload itself."""
    found = in_flight.read(record)
    if found is None:
        return Job("", payload.undecodable(record), resq, worker_id, raw=record)
    return Job.read(found.queue, found.payload, resq, worker_id, record)


def save_failure(job: Job, error: BaseException, resq: ResQ, count: bool = True) -> None:
    """Record a failure and, with `count`, count it, for the worker that had the job too."""
    try:
        job.fail(error, resq)
    except Exception:  # noqa: BLE001 - the border around a failure backend (rule 8)
        logger.exception(
            "The failure backend raised; keeping the failure of %s in Resque's list", job
        )
        recorded = payload.recordable(job._payload, job.raw)
        failed = RedisBackend(error, job._queue, recorded, job._worker)
        failed.raw_payload = payload.own_bytes(job._payload, job.raw)
        failed.save(resq)
    if count:
        resq.store.stats.incr("failed")
        resq.store.stats.incr(f"failed:{job._worker}")
