"""Worker registration, heartbeats, and pruning of dead workers."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Collection, Iterator
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
    """The result of unregistering a worker. `done` is False if its in-flight record changed
    meanwhile; `was_there` is False if Redis held nothing of it any more.
    """

    done: bool
    job_in_flight: bool
    was_there: bool


class Registry:
    """Registers the worker `worker_id`, and prunes the dead among the others. `alive(pid)`: whether
    a process of this host is a live worker.
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
        #: Whether the last prune() also handled in-flight records without a registered worker.
        self.swept = False

    def register(self) -> None:
        """Register this worker; a job in flight under its id is that of a dead worker: prune it.

        In a container every worker may be pid 1 of the same host, so the dead one had the same id.
        """
        if self.workers.in_flight(self.worker_id) is not None:
            self.prune_worker(self.worker_id)
        self._announce(self._started(), self.workers.now_text())

    def _announce(self, started: str, heartbeat: str = "") -> None:
        pid = split_id(self.worker_id)[1]
        process_start = identity.process_start(pid)
        self.workers.register(self.worker_id, started, self.minion, process_start, heartbeat)

    def register_for_job(self) -> None:
        """Register this worker until its job is recorded; without a heartbeat, since none would
        follow.
        """
        started = self.workers.started(self.worker_id)
        self._announce(self._started() if started is None else text(started))

    def unregister_after_job(self) -> None:
        """Remove this worker's registration, but not its counters."""
        self.workers.unregister_keeping_counts(self.worker_id)

    def renew(self) -> None:
        """Register again after another process has unregistered this worker."""
        logger.warning("%s was unregistered by another process; registering again", self.worker_id)
        self._announce(self._started(), self.workers.now_text())

    def _started(self) -> str:
        return str(int(self.resq.estimated_time()))

    def unregister(self) -> None:
        """Unregister this worker; a job still in flight becomes a failure, as in Resque."""
        while not (removed := self._remove(self.worker_id, None, silent=False)).done:
            pass
        if removed.job_in_flight:
            logger.error(
                "%s was unregistered with a job in flight; recorded it as failed", self.worker_id
            )

    def beat(self) -> bool:
        """Write a heartbeat; True if this worker had been pruned, and is now registered again."""
        missing = bool(self.workers.beat([self.worker_id]))
        if missing:
            self.renew()
        self.workers.note_heartbeat(self.pace.quiet)
        return missing

    def retract_failure(self, job: Job) -> None:
        """Remove the failure of a job that succeeded after its worker was declared dead."""
        if job.in_flight is None:
            return
        try:
            removed = self.resq.store.failed.take_back(self.worker_id, job.in_flight)
            if removed is None:
                removed = self._retract_foreign_failure(job.in_flight)
        except CONNECTION_ERRORS:
            raise
        except ResponseError as error:
            logger.warning("%s succeeded after it was declared dead: %s", job, error)
            return
        if removed:
            logger.warning("%s succeeded after it was declared dead; removed its failure", job)
        elif removed is not None:
            logger.warning("%s has a failure or was retried, and also succeeded", job)

    def _retract_foreign_failure(self, record: bytes) -> bool | None:
        """Retract a failure written by Ruby or node-resque, which do not note whom they declare
        dead.
        """
        running = in_flight.read(record)
        failure = declared_dead.find(self.resq, self.worker_id, running) if running else None
        if failure is None or failure.retried:
            return None if failure is None else False
        failed = self.resq.store.failed
        failed.note_declared_dead(self.worker_id, record, failure.name, failure.raw)
        return failed.take_back(self.worker_id, record, failure.failed, failure.processed)

    def prune(self, sweep: bool = False, except_for: Collection[str] = ()) -> list[str]:
        """Unregister dead workers, and record their in-flight jobs as failures; returns their ids.
        `sweep`: also handle in-flight records whose worker is not registered. `except_for`: the ids
        of workers that the caller handles itself.

        Liveness decides which are dead. Resque's lock lets one process prune at a time; dead
        workers of this host need no lock between workers of pyres, which prune one in a single
        transaction. Dead managers are unregistered by the same rule.
        """
        liveness = Liveness(self.worker_id, self.workers, self.alive, pace=self.pace)
        self._prune_khans(liveness.of_khans())
        holder = self._lock(liveness)
        if holder and holder not in liveness.known.process_starts:
            return []  # a Ruby worker, which writes a failure in several steps
        self.swept = sweep and not holder
        pruned = [
            worker_id
            for worker_id, silent in self._dead(liveness, locked=not holder)
            if worker_id not in except_for and self.prune_worker(worker_id, silent=silent)
        ]
        if self.swept:
            self._unregister_unknown_minions(liveness)
            self._forget_counters(liveness)
        return pruned

    def _dead(self, liveness: Liveness, locked: bool) -> Iterator[tuple[str, bool]]:
        """The ids of dead workers, and whether each is dead by its silence. Those of other hosts,
        and those that only a sweep finds, only if this process has `locked` the pruning.
        """
        for worker_id in self._dead_on_this_host(liveness):
            yield worker_id, False
        if locked:
            for worker_id in filter(liveness.is_silent, liveness.known.beats):
                yield worker_id, True
        # Last, so that it does not find the records of those that were pruned before.
        for worker_id in self._sweep(liveness) if self.swept else ():
            yield worker_id, False

    def _prune_khans(self, liveness: Liveness) -> None:
        known = sorted(liveness.known.ids.union(liveness.known.beats))
        dead = [
            khan_id for khan_id in known if liveness.is_gone(khan_id) or liveness.is_silent(khan_id)
        ]
        if dead:
            self.workers.unregister_khan(*dead)
            logger.warning("Pruned the dead managers %s", ", ".join(dead))

    def _unregister_unknown_minions(self, liveness: Liveness) -> None:
        """Unregister minions without a worker entry or heartbeat: a live one registers again."""
        for worker_id in self.workers.minion_ids():
            if self._is_unknown(worker_id, liveness):
                self.workers.unregister_keeping_counts(worker_id)

    def _forget_counters(self, liveness: Liveness) -> None:
        """Delete the counters of dead workers of this host that another process had unregistered
        before they ended: nothing else would delete them.
        """
        for worker_id in self.workers.counted():
            if self._has_no_process(worker_id) and self._is_unknown(worker_id, liveness):
                self.workers.drop_counters(worker_id)

    def _is_unknown(self, worker_id: str, liveness: Liveness) -> bool:
        """Whether a worker has no registration, no heartbeat and no in-flight record."""
        known = liveness.known
        if worker_id in known.ids or worker_id in known.beats:
            return False
        # It may have registered after `known` was read.
        return self.workers.in_flight(worker_id) is None and not self.workers.exists(worker_id)

    def _lock(self, liveness: Liveness) -> str:
        """Acquire the prune lock; returns its holder, or "" when this process holds it now."""
        holder = self.workers.prune_lock_holder()
        dead_holder = holder if holder and liveness.is_gone(holder) else ""
        if self.workers.prune_lock(self.worker_id, math.ceil(self.pace.heartbeat), dead_holder):
            return ""
        return holder or self.workers.prune_lock_holder()

    def _dead_on_this_host(self, liveness: Liveness) -> list[str]:
        """The ids of this host's dead workers. Pruning one is atomic, so two processes that find
        the same dead worker record its job once.
        """
        registered = liveness.known.ids
        dead = [worker_id for worker_id in sorted(registered) if liveness.is_gone(worker_id)]
        # A manager writes heartbeats for its minions, and one may die before it has registered; and
        # Ruby removes dead workers from the set `workers` only.
        strays = sorted({*liveness.known.beats, *self.workers.minion_ids()} - registered)
        return dead + [stray for stray in strays if self._has_no_process(stray)]

    def _has_no_process(self, worker_id: str) -> bool:
        with contextlib.suppress(ValueError):  # not a worker id
            host, pid, _queues = split_id(worker_id)
            return host == split_id(self.worker_id)[0] and not is_process(pid)
        return False

    def _sweep(self, liveness: Liveness) -> list[str]:
        """The ids of dead workers that are not registered but have an in-flight record."""
        return [
            worker_id
            for worker_id, record in self.workers.records()
            # Checked twice, since a worker may have registered after `known` was read.
            if worker_id not in liveness.known.ids
            and self._is_left_behind(worker_id, record, liveness)
            and not self.workers.exists(worker_id)
        ]

    def _is_left_behind(self, worker_id: str, record: bytes, liveness: Liveness) -> bool:
        running = in_flight.read(record)
        if running is None:
            return False  # `worker:<id>:started`, node's `worker:ping:<name>`
        try:
            host = split_id(worker_id)[0]
        except ValueError:
            return False
        if host == liveness.host:
            return liveness.is_gone(worker_id)
        return worker_id not in liveness.known.beats and liveness.is_old(running.run_at)

    def prune_worker(
        self, worker_id: str, error: BaseException | None = None, silent: bool = False
    ) -> bool:
        """Unregister a dead worker and record its in-flight job as a failure, in one transaction.

        `error` is recorded in the failure, if the caller knows how the worker died. False when
        another process was quicker, the worker has fetched again, or it has unregistered itself;
        anything that a late heartbeat has written for it is then removed.
        """
        if not self.workers.exists(worker_id) and self.workers.in_flight(worker_id) is None:
            self.workers.unregister(worker_id)
            return False
        removed = self._remove(worker_id, error, silent)
        if removed.done and removed.was_there:
            job = "recorded its job as failed" if removed.job_in_flight else "it had no job"
            logger.warning("Pruned the dead worker %s; %s", worker_id, job)
            return True
        return False

    def finish(self, worker_id: str) -> None:
        """Unregister a worker that ended after finishing its job, and count the job."""
        done = False
        while not done:
            batch = self.resq.store.batch(atomic=True)
            if batch.watch(batch.keys.worker(worker_id)) is not None:
                batch.stats.incr("processed")
            batch.workers.unregister(worker_id)
            done = batch.send()

    def _remove(self, worker_id: str, error: BaseException | None, silent: bool) -> _Removed:
        """Unregister a worker, and record its in-flight job as a failure."""
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
        # Resque does not count these jobs; pyres counts each job once, however it ends.
        batch.stats.incr("processed")


def job_in_flight(record: bytes, resq: ResQ, worker_id: str) -> Job:
    """The job of an in-flight record; a malformed record is treated as a malformed payload."""
    running = in_flight.read(record)
    if running is None:
        return Job("", payload.undecodable(record), resq, worker_id, raw=record)
    return Job.read(running.queue, running.payload, resq, worker_id, record)


def save_failure(job: Job, error: BaseException, resq: ResQ, count: bool = True) -> None:
    """Record a failure and, with `count`, count it, in total and for the job's worker."""
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
