"""ResQ: the client by which an application enqueues jobs and reads the queues."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pyres import (
    active_job,
    attempts,
    hooks,
    job_names,
    json_equality,
    json_parser,
    loading,
    payload,
    promotion,
    schedule,
    unique,
)
from pyres.exceptions import (
    BadScheduleError,
    BadServerError,
    NoQueueError,
    UndecodableError,
    UnencodableError,
)
from pyres.schedule import Entry, PublishedEntry
from pyres.stat import Stat
from pyres.store import PAGE, Batch, Move, Redis, ResponseError, Store, peek, text
from pyres.store.dsn import DSN, connect, from_client

if TYPE_CHECKING:
    from pyres.job import Job
    from pyres.worker import Worker

logger = logging.getLogger(__name__)

#: Jobs that enqueue_many() sends in one round trip.
BATCH = 1000

#: Seconds that one BLPOP waits at most, so that a read timeout of the socket never ends it.
LONGEST_POP = 5


class ResQ:
    """Resque's queues on one Redis server.

    `server` is a DSN (`host:port[/db]`, redis://, rediss://, unix://, redis+sentinel://,
    redis+cluster://) or a redis.Redis. For a Redis Cluster `namespace` needs a part in braces.
    `enqueue_timestamp=False` writes payloads equal to Ruby's, byte for byte.
    """

    def __init__(
        self,
        server: str | Redis = "localhost:6379",
        password: str | None = None,
        blocking_pop: bool | None = None,
        *,
        namespace: str = "resque",
        enqueue_timestamp: bool = True,
    ) -> None:
        self.password = password
        self.blocking_pop = blocking_pop
        self.namespace = namespace
        self.enqueue_timestamp = enqueue_timestamp
        self._watched_queues: set[str] = set()
        self.redis = server

    @property
    def redis(self) -> Any:
        """The redis-py client; may be set to a DSN or to another client."""
        return self._redis

    @redis.setter
    def redis(self, server: str | Redis) -> None:
        if isinstance(server, str):
            self._dsn = DSN.parse(server, self.password)
            client = connect(self._dsn, slot_key=self.namespace.encode())
            self._redis: Any = client
        elif isinstance(server, Redis):
            # `redis` returns the caller's client, but a client of our own does the work: with
            # redis-py's defaults a pop is repeated after a lost reply, and the first popped job
            # is lost.
            client, self._dsn = from_client(server, slot_key=self.namespace.encode())
            self._redis = server
        else:
            raise BadServerError(f"invalid server {server!r}. {BadServerError.__doc__}")
        self.store = Store(client, self.namespace)
        self._watched_queues = set()

    @property
    def dsn(self) -> str:
        """The DSN of the server, without the password."""
        return str(self._dsn)

    @property
    def host(self) -> str | None:
        return self._dsn.host

    @property
    def port(self) -> int | None:
        return self._dsn.port

    def __str__(self) -> str:
        return f"PyRes Client connected to {self.dsn}"

    def close(self) -> None:
        """Close the connections; the next call opens a new one."""
        self.store.close()

    @staticmethod
    def _current_time() -> datetime:
        """The one wall clock; tests replace it."""
        return datetime.now()

    @property
    def has_own_clock(self) -> bool:
        """Whether `_current_time` was replaced: then every time is read from it."""
        return self._current_time is not _OWN_CLOCK

    def server_time(self) -> datetime:
        """The time by the server's clock, as naive local time; delays are counted from it."""
        if self.has_own_clock:
            return self._current_time()
        return datetime.fromtimestamp(self.store.clock.now())

    def estimated_time(self) -> float:
        """server_time() as epoch seconds, estimated from one reading of the server's clock."""
        if self.has_own_clock:
            return self._current_time().timestamp()
        return self.store.clock.estimate()

    @classmethod
    def encode(cls, item: Any) -> str:
        """A value as the JSON that Resque writes. UnencodableError names the invalid place."""
        return json_parser.dumps(item)

    @classmethod
    def decode(cls, item: bytes | str) -> Any:
        """The value of a JSON text. Raises UndecodableError."""
        return json_parser.loads(item)

    # Enqueueing

    def push(self, queue: str, item: Any) -> None:
        """Append any JSON value to a queue; mostly for existing payloads."""
        self._append(queue, [payload.encode(item)])

    def _push_all(self, queue: str, payloads: Sequence[bytes]) -> None:
        """Append payloads; each by push() if a subclass overrides it, as pyres 1.5 did."""
        if not self.overrides_push:
            self._append(queue, payloads)
            return
        for raw in payloads:
            self.push(queue, payload.pushable(raw))

    @property
    def overrides_push(self) -> bool:
        """Whether a subclass overrides push(), which is then called for every enqueued job."""
        return type(self).push is not _OWN_PUSH or "push" in self.__dict__

    def _append(self, queue: str, payloads: Sequence[bytes]) -> None:
        self.store.queues.push(queue, payloads)
        self._watched_queues.add(queue)

    def enqueue(self, klass: Any, *args: Any) -> bool:
        """Enqueue a job of a class, decorated function or dotted name on the queue that it names.

        False when a before_enqueue hook vetoed it, and with a warning when it is a duplicate of a
        unique job (`unique_for`) or when a class has no queue (as in pyres 1.5). Raises
        UnencodableError for an argument that JSON cannot hold, NotAJobError for what no worker can
        find or perform, NoQueueError for a function or a dotted name without a queue.
        """
        target, name, queue = _job(klass)
        if not queue:
            return _warn_without_queue(klass, name)
        return self._enqueue_target(queue, target, name, args)

    def enqueue_to(self, queue: str, klass: Any, *args: Any) -> bool:
        """enqueue() on this queue instead of the class's own; a dotted name is not imported."""
        target, name = _enqueueable(klass)
        return self._enqueue_target(_valid_queue(queue), target, name, args)

    def enqueue_from_string(
        self, klass_as_string: str, queue: str, *args: Any, **kwargs: Any
    ) -> None:
        """Enqueue a job of a class that need not exist here; `first_attempt=` goes into the
        payload.
        """
        more = _attempt("enqueue_from_string", kwargs)
        name = job_names.check_text(klass_as_string)
        self._push_all(_valid_queue(queue), [self._payload(name, args, **more)])

    def enqueue_active_job(
        self, klass_as_string: str, queue: str, *args: Any, **keywords: Any
    ) -> None:
        """Enqueue a job for Rails' ActiveJob, of a class in the Rails application.

        `keywords` are Ruby's keyword arguments. Raises UnencodableError for a value that ActiveJob
        does not support; `pyres.active_job` has Symbol and GlobalID.
        """
        encoded = self._payload(*self._active_job(klass_as_string, queue, args, keywords))
        self._push_all(queue, [encoded])

    def enqueue_active_job_at(
        self, datetime: datetime, klass_as_string: str, queue: str, *args: Any, **keywords: Any
    ) -> None:
        """enqueue_active_job() at `datetime`; a naive one is local time."""
        name, data = self._active_job(klass_as_string, queue, args, keywords)
        self.delayed_push(datetime, payload.build(name, data, queue=queue))

    def _active_job(
        self, klass_as_string: str, queue: str, args: Sequence[Any], keywords: dict[str, Any]
    ) -> tuple[str, list[Any]]:
        """Class and arguments of the payload that Rails' adapter would write."""
        name = job_names.check_text(klass_as_string)
        now = self._current_time()
        return active_job.WRAPPER, [
            active_job.build(name, _valid_queue(queue), args, keywords, now)
        ]

    @classmethod
    def _enqueue(cls, klass: Any, *args: Any) -> bool:
        """enqueue() on a ResQ of the default server."""
        return cls().enqueue(klass, *args)

    def enqueue_many(self, jobs: Iterable[Sequence[Any]]) -> int:
        """enqueue() many (klass, *args), a thousand per round trip; returns how many were
        enqueued.
        """
        enqueued = 0
        jobs = iter(jobs)
        while batch := list(itertools.islice(jobs, BATCH)):
            enqueued += self._enqueue_batch(batch)
        return enqueued

    def _enqueue_batch(self, jobs: list[Sequence[Any]]) -> int:
        by_queue: dict[str, list[bytes]] = {}
        unique_jobs: list[tuple[Any, str, str, Sequence[Any]]] = []
        sent: list[tuple[Any, Sequence[Any]]] = []
        for klass, *args in jobs:
            target, name, queue = _job_with_queue(klass, "nothing of this batch was sent")
            if not hooks.allow(target, "before_enqueue", args):
                continue
            if getattr(target, "unique_for", None) is not None:
                unique_jobs.append((target, name, queue, args))
                continue
            by_queue.setdefault(queue, []).append(self._payload(name, args))
            sent.append((target, args))
        if by_queue:
            self._append_batch(by_queue)
        for job in sent:
            self._enqueued(*job)
        return len(sent) + sum(self._lock_and_push(*job) for job in unique_jobs)

    def _append_batch(self, by_queue: dict[str, list[bytes]]) -> None:
        if self.overrides_push:
            for queue, payloads in by_queue.items():
                self._push_all(queue, payloads)
            return
        self.store.queues.push_many(by_queue)
        self._watched_queues.update(by_queue)

    def _enqueue_target(self, queue: str, target: Any, name: str, args: Sequence[Any]) -> bool:
        if getattr(target, "unique_for", None) is not None:
            allowed = hooks.allow(target, "before_enqueue", args)
            return allowed and self._lock_and_push(target, name, queue, args)
        encoded = self._payload(name, args)
        if not hooks.allow(target, "before_enqueue", args):
            return False
        self._push_all(queue, [encoded])
        self._enqueued(target, args)
        return True

    def _lock_and_push(self, target: Any, name: str, queue: str, args: Sequence[Any]) -> bool:
        """Enqueue a unique job; False when it is a duplicate."""
        now = self.server_time().timestamp()
        lock = unique.lock_for(target, name, args, now)
        assert lock is not None
        job = unique.job(queue, self._payload(name, args, now))
        if not self.store.unique.push(*lock, job, now):
            _log_duplicate(name, args)
            return False
        self._watched_queues.add(queue)
        self._enqueued(target, args)
        return True

    def _enqueued(self, target: Any, args: Sequence[Any]) -> None:
        for hook in hooks.hooks(target, "after_enqueue"):
            hook(*args)

    def _payload(
        self, name: str, args: Sequence[Any], now: float | None = None, **more: Any
    ) -> bytes:
        if self.enqueue_timestamp:
            more = {"enqueue_timestamp": now or self.server_time().timestamp(), **more}
        return json_parser.encode(payload.build(name, args, **more))

    @contextlib.contextmanager
    def pipeline(self, atomic: bool = False) -> Iterator[Pipeline]:
        """A ResQ that sends its writes together at the end of the `with`; in one transaction if
        `atomic`.

        An exception inside the `with` discards them all. after_enqueue hooks run once the jobs are
        on their queues. Inside, enqueue() returns True also for a duplicate of a unique job.
        """
        batch = Pipeline(self, self.store.batch(atomic))
        try:
            yield batch
        except BaseException:
            batch.store.discard()
            raise
        if len(batch.store):
            batch.send()

    # Popping and removing jobs

    def pop(self, queues: str | Sequence[str], timeout: float = 10) -> tuple[str | None, Any]:
        """The oldest item of the first queue that has one, as (queue, item), or (None, None).

        Waits up to `timeout` seconds, by BLPOP; with 0 or `blocking_pop=False` it does not wait.
        Workers fetch jobs in another way: the item popped here is removed from Redis, and lost if
        the caller dies.
        """
        names = [queues] if isinstance(queues, str) else list(queues)
        popped = self._pop(names, 0 if self.blocking_pop is False else timeout)
        if popped is None:
            return None, None
        queue, raw = popped
        try:
            return queue, self.decode(raw)
        except UndecodableError:
            self.store.queues.put_back("", queue, raw)
            raise

    def _pop(self, queues: list[str], timeout: float) -> tuple[str, bytes] | None:
        deadline = time.monotonic() + timeout
        popped = self.store.queues.pop(queues)
        while popped is None and queues and (remaining := deadline - time.monotonic()) > 0:
            popped = self.store.queues.pop_blocking(queues, min(remaining, LONGEST_POP))
        if popped and (digest := _digest_of(popped[1])):
            self.store.unique.leave(digest)
        return popped

    def reserve(self, queues: str | Sequence[str]) -> Job | None:
        """Pop the next job of these queues, or None: a plain pop that writes no in-flight record.
        From pyres 1.5.
        """
        # An upward import on purpose: pyres 1.5's ResQ has it, and Job is a floor above.
        from pyres.job import Job  # noqa: PLC0415

        return Job.reserve(queues, self)

    def dequeue(self, klass: Any, *args: Any) -> int:
        """Remove the jobs of a class, with these arguments if any are passed; returns how many.

        Resque matches the bytes `{"class":…,"args":…}`; this compares the values, so it also finds
        jobs with more fields. A before_dequeue hook may veto it; after_dequeue hooks run after it.
        """
        target, name, queue = _target(klass)
        if not queue:
            raise NoQueueError(
                f"{name} has no attribute 'queue'; name it: dequeue_from(queue, ...)"
            )
        if not hooks.allow(target, "before_dequeue", args):
            return 0
        removed = self.dequeue_from(queue, name, *args)
        for hook in hooks.hooks(target, "after_dequeue"):
            hook(*args)
        return removed

    def dequeue_from(self, queue: str, klass: Any, *args: Any) -> int:
        """dequeue() from the queue of this name, without hooks."""
        _target_, name = _target_and_name(klass)
        matches = json_equality.job_filter(name, args or None)
        removed = 0
        for count, payloads in self.store.queues.delete_each(queue, matches):
            removed += count
            self._delete_unique_locks(payloads)
        return removed

    def _delete_unique_locks(self, payloads: Iterable[bytes]) -> None:
        """Release the unique locks of payloads that an operator removed, and end their retries."""
        raws = list(payloads)
        digests = {_digest_of(raw) for raw in raws}
        self.store.unique.forget(digest for digest in digests if digest)
        retried = [raw for raw in raws if b'"retry_attempt"' in raw]
        if retried:
            batch, now = self.store.batch(), self.server_time()
            for raw in retried:
                attempts.Attempts(payload.show(raw), None).end(batch, now)
            batch.send()

    def remove_queue(self, queue: str) -> int:
        """Remove a queue and every job on it; returns how many jobs."""
        self._watched_queues.discard(queue)
        return self.store.queues.remove(queue)

    def move_queue(self, source: str, target: str) -> int:
        """Move the jobs of a queue to the end of another, in their order; returns how many."""
        if source == target:
            return 0
        moved = self.store.queues.move(source, _valid_queue(target))
        self._watched_queues.add(target)
        return moved

    def delete_job(self, queue: str, raw: bytes, index: int | None = None) -> int:
        """Remove one job of a queue by its exact bytes, of equal ones the one at `index`; 0 if it
        is no longer there.
        """
        if index is None:
            removed = int(self.store.queues.delete(queue, raw))
        else:
            removed = self.store.queues.delete_at(queue, index, raw)
        if removed:
            self._delete_unique_locks([raw])
        return removed

    def cancel_delayed(self, timestamp: int, raw: bytes, index: int | None = None) -> int:
        """Remove a job delayed until a timestamp, by its exact bytes: every copy, or the one at
        `index`; returns how many.
        """
        if index is None:
            removed = self.store.delayed.cancel(timestamp, raw)
        else:
            removed = self.store.delayed.cancel_at(timestamp, index, raw)
        if removed:
            self._delete_unique_locks([raw])
        return removed

    def promote_job(self, timestamp: int, raw: bytes, index: int | None = None) -> int:
        """Move a job delayed until a timestamp to its queue now, by its exact bytes: every copy, or
        the one at `index`; returns how many.
        """
        moves = self._moves([raw])
        if not moves:
            return 0
        if index is None:
            moved = self.store.delayed.promote_one(timestamp, moves[0])
        else:
            moved = self.store.delayed.promote_one_at(timestamp, index, moves[0])
        for error in moved.refused.values():
            raise ResponseError(error)
        return moved.number

    def _moves(self, payloads: Iterable[bytes]) -> list[Move]:
        """The moves that promote these delayed payloads; malformed ones are left out."""
        now = self.server_time().timestamp() if self.enqueue_timestamp else None
        moves = []
        for raw in payloads:
            with contextlib.suppress(UndecodableError):  # it stays: see promote_delayed()
                moves.append(Move(raw, *promotion.promoted(raw, now)))
        return moves

    def pause_all(self) -> None:
        """Let no worker, Ruby's included, fetch a job until resume_all()."""
        self.store.workers.pause()

    def resume_all(self) -> None:
        """Let workers fetch jobs again."""
        self.store.workers.resume()

    def command_khan(self, khan_id: str, word: str) -> bool:
        """Send ADD, REMOVE or SHUTDOWN to a manager; False when none has this id."""
        if khan_id not in self.store.workers.khan_ids():
            return False
        self.store.workers.command(khan_id, word)
        return True

    # Reading

    def watch_queue(self, queue: str) -> None:
        """Register a queue, so that it is listed before its first job."""
        self._watched_queues.add(queue)
        self.store.queues.watch(queue)

    def size(self, queue: str) -> int:
        """How many jobs are on a queue."""
        return self.store.queues.size(queue)

    def queues(self) -> list[str]:
        """The names of all queues, sorted."""
        return self.store.queues.names()

    def queue_sizes(self) -> dict[str, int]:
        """How many jobs are on each queue."""
        return self.store.queues.sizes()

    def peek(self, queue: str, start: int = 0, count: int = 1) -> list[Any]:
        """`count` items of a queue from index `start`; always a list, as in pyres 1.5."""
        return [_for_display(raw) for raw in self.store.queues.peek(queue, start, count)]

    def list_range(self, key: str, start: int, count: int) -> list[Any]:
        """`count` decoded elements of the list at a key; the namespace may be left out."""
        full = key if key.startswith(self.store.keys.prefix) else self.store.keys.prefix + key
        self.store.client.llen(full)  # raises if it is not a list
        return [_for_display(raw) for raw in peek(self.store.client, full, start, count)]

    def workers(self) -> list[str]:
        """The ids of all registered workers."""
        return self.store.workers.ids()

    def working(self) -> list[Worker]:
        """The workers that have a job in flight now."""
        # An upward import on purpose: pyres 1.5's ResQ has it, and Worker is a floor above.
        from pyres.worker import Worker  # noqa: PLC0415

        return Worker.working(self)

    def keys(self) -> list[str]:
        """Every key of the namespace, without the namespace; uses SCAN, never KEYS."""
        return sorted(self.store.scan())

    def info(self) -> dict[str, Any]:
        """Totals: pending, processed, queues, workers, working, failed, servers."""
        sizes = self.queue_sizes()
        workers = self.workers()
        processed, failed = self.store.stats.get_many(["processed", "failed"])
        return {
            "pending": sum(sizes.values()),
            "processed": processed,
            "queues": len(sizes),
            "workers": len(workers),
            "working": sum(self.store.workers.have_jobs(workers)),
            "failed": failed,
            "servers": [self._dsn.address],
        }

    def stat(self, name: str) -> Stat:
        """A counter."""
        return Stat(name, self)

    # Delayed jobs

    def enqueue_at(self, datetime: datetime, klass: Any, *args: Any, **kwargs: Any) -> bool:
        """Delay a job until `datetime`; a naive one is local time.

        `pyres_scheduler` (or resque-scheduler) moves it to its queue when it is due, also if the
        time is in the past. False for a duplicate of a unique job (`unique_for`), or when a class
        has no queue; raises as enqueue() does. `first_attempt=` goes into the payload.
        """
        more = _attempt("enqueue_at", kwargs)
        target, name, queue = _job(klass)
        if not queue:
            return _warn_without_queue(klass, name)
        if getattr(target, "unique_for", None) is not None:
            item = payload.build(name, args, queue=queue, **more)
            return self._lock_and_delay(datetime, target, item)
        self.enqueue_at_from_string(datetime, name, queue, *args, **more)
        return True

    def _lock_and_delay(self, datetime: datetime, target: Any, item: dict[str, Any]) -> bool:
        now, due = self.server_time().timestamp(), datetime.timestamp()
        # Not later than the enqueue time that the scheduler writes, whose clock may differ.
        locked_at = min(now, int(due))
        lock = unique.lock_for(target, item["class"], item["args"], locked_at, due - now)
        assert lock is not None
        job = unique.job(item["queue"], payload.encode(item), int(due))
        if self.store.unique.delay(*lock, job, now):
            return True
        _log_duplicate(item["class"], item["args"])
        return False

    def enqueue_at_from_string(
        self, datetime: datetime, klass_as_string: str, queue: str, *args: Any, **kwargs: Any
    ) -> None:
        """enqueue_at() of a class that need not exist here; `first_attempt=` goes into the
        payload.
        """
        more = _attempt("enqueue_at_from_string", kwargs)
        name = job_names.check_text(klass_as_string)
        self.delayed_push(datetime, payload.build(name, args, queue=_valid_queue(queue), **more))

    def enqueue_in(self, delay: float | timedelta, klass: Any, *args: Any) -> bool:
        """enqueue_at() `delay` seconds from now. NoQueueError also for a class without a queue."""
        _job_with_queue(klass, "nothing was enqueued")
        return self.enqueue_at(self._in(delay), klass, *args)

    def _in(self, delay: float | timedelta) -> datetime:
        wait = delay if isinstance(delay, timedelta) else timedelta(seconds=delay)
        # Aware and in UTC, so that the delay is exact when daylight saving time starts or ends.
        return self.server_time().astimezone(UTC) + wait

    def delayed_push(self, datetime: datetime, item: Any) -> None:
        """Delay a payload, which names its `queue`, until `datetime`."""
        self.store.delayed.delay(int(datetime.timestamp()), payload.encode(item))

    def delayed_queue_peek(self, start: int, count: int) -> list[int]:
        """`count` timestamps (epoch seconds) of delayed jobs, from index `start`."""
        return self.store.delayed.timestamps(start, count)

    def delayed_timestamp_peek(self, timestamp: int, start: int, count: int) -> list[Any]:
        """`count` items delayed until a timestamp, from index `start`."""
        return [_for_display(raw) for raw in self.store.delayed.peek(int(timestamp), start, count)]

    def delayed_queue_schedule_size(self) -> int:
        """How many jobs are delayed, at all timestamps together."""
        total = 0
        for start in range(0, self.store.delayed.timestamp_count(), PAGE):
            total += sum(self.store.delayed.sizes(self.store.delayed.timestamps(start, PAGE)))
        return total

    def delayed_timestamp_size(self, timestamp: int) -> int:
        """How many jobs are delayed until a timestamp."""
        return self.store.delayed.size(int(timestamp))

    def next_delayed_timestamp(self) -> str | None:
        """The earliest due timestamp, as text, or None."""
        due = self.store.delayed.due_timestamp(self.server_time().timestamp())
        return None if due is None else str(due)

    def next_item_for_timestamp(self, timestamp: int | str) -> Any:
        """Remove and return the oldest item of a timestamp, or None; the timestamp is removed with
        its last item.
        """
        raw = self.store.delayed.pop_due(int(timestamp))
        return None if raw is None else payload.pushable(raw)

    def remove_delayed(self, klass: Any, *args: Any) -> int:
        """Remove the delayed jobs of a class with exactly these arguments; returns how many.

        Only those for the class's own queue; those for any queue if a dotted name has no class
        here.
        """
        return self._remove_delayed(*_name_and_queue(klass), args)

    def remove_delayed_in_queue(self, klass: Any, queue: str, *args: Any) -> int:
        """remove_delayed() of the jobs for this queue."""
        return self._remove_delayed(_target_and_name(klass)[1], _valid_queue(queue), args)

    def _remove_delayed(self, name: str, queue: str | None, args: Sequence[Any]) -> int:
        selection = _DelayedSelection(name, queue, args)
        return self._for_delayed(selection, self.cancel_delayed, self._cancel_each)

    def _cancel_each(self, timestamp: int, matches: Callable[[bytes], bool]) -> int:
        removed = 0
        for count, payloads in self.store.delayed.cancel_each(timestamp, matches):
            removed += count
            self._delete_unique_locks(payloads)
        return removed

    def _for_delayed(
        self,
        selection: _DelayedSelection,
        act: Callable[[int, bytes], int],
        act_on_matches: Callable[[int, Callable[[bytes], bool]], int],
    ) -> int:
        """Act on the selected delayed jobs; returns on how many.

        They are looked up first in the sets that hold their timestamps. All delayed jobs are
        scanned if there are few, or if that found none: some writers keep no such sets.
        """
        number = sum(act(*found) for found in self.store.delayed.named(selection.spellings()))
        if digest := attempts.digest(selection.name, selection.args):
            due = self.store.attempts.due(digest)
            number += sum(act_on_matches(timestamp, selection.matches) for timestamp in due)
        if not number or self.store.delayed.are_few():
            due = self._delayed(selection.matches)
            number += sum(act_on_matches(timestamp, selection.matches) for timestamp in due)
        return number

    def delayed_at(self, klass: Any, *args: Any) -> list[int]:
        """The timestamps (epoch seconds, sorted) at which remove_delayed() would find jobs."""
        return self._delayed(_DelayedSelection(*_name_and_queue(klass), args).matches)

    def delay_or_enqueue_in(self, delay: float | timedelta, klass: Any, *args: Any) -> int:
        """Delay again the delayed jobs of this class and these arguments, or delay a new one;
        returns how many.

        As in resque-scheduler: each call postpones the job, and there is only one.
        """
        _job_with_queue(klass, "nothing was enqueued")
        due, count = self._in(delay), max(1, self.remove_delayed(klass, *args))
        return sum(self.enqueue_at(due, klass, *args) for _ in range(count))

    def enqueue_delayed_now(self, klass: Any, *args: Any) -> int:
        """Move the delayed jobs that remove_delayed() would find to their queues now; returns how
        many.
        """
        selection = _DelayedSelection(*_name_and_queue(klass), args)
        return self._for_delayed(
            selection,
            lambda timestamp, raw: self._promote(timestamp, selection.matches),
            self._promote,
        )

    def promote_delayed(self, timestamp: int) -> int:
        """Move all jobs of a timestamp to their queues, due or not; returns how many.

        A malformed payload stays: the scheduler records it as a failure when it is due.
        """
        return self._promote(int(timestamp), lambda raw: True)

    def _promote(self, timestamp: int, matches: Callable[[bytes], bool]) -> int:
        """Move the matching jobs of a timestamp, one page per step; returns how many."""
        delayed, moved, start, complete = self.store.delayed, 0, 0, False
        refused: dict[str | None, str] = {}
        while not complete:
            payloads, complete = delayed.page(timestamp, start, PAGE)
            moves = self._moves(filter(matches, payloads))
            if not moves:
                start += len(payloads)
                continue
            last = start + len(payloads) - 1
            result = delayed.promote(timestamp, moves, start=start, last=last)
            moved, start = moved + result.number, start + len(payloads) - result.number
            refused |= result.refused
        for error in refused.values():
            logger.error("Cannot move some jobs to their queue; they stay delayed: %s", error)
        return moved

    def reset_delayed_queue(self) -> int:
        """Remove every delayed job; returns how many."""
        removed = 0
        while timestamps := self.store.delayed.timestamps(0, PAGE):
            for timestamp in timestamps:
                for payloads in self.store.delayed.drop(timestamp):
                    removed += len(payloads)
                    self._delete_unique_locks(payloads)
        return removed

    def _delayed(self, matches: Callable[[bytes], bool]) -> list[int]:
        """The timestamps, sorted, of the delayed payloads that match."""
        return sorted({timestamp for timestamp, raw in self.store.delayed.walk() if matches(raw)})

    # Recurring jobs

    def set_schedule(self, name: str, config: dict[str, Any]) -> None:
        """Write an entry of the dynamic schedule, which schedulers with --dynamic load.

        `config` is resque-scheduler's: cron or every, class, queue, args, description; and
        timezone. Raises BadScheduleError for an entry that no scheduler could run. It is written so
        that Ruby can run it, too: with class and queue, and the zone after the cron expression.
        """
        fields = {str(key): value for key, value in config.items() if key != "persist"}
        Entry.read(name, fields)
        self.store.schedules.put(name, json_parser.encode(schedule.for_ruby(name, fields)))

    def get_schedule(self, name: str) -> dict[str, Any] | None:
        """An entry of the dynamic schedule, or None."""
        return self.schedules().get(name)

    def schedules(self) -> dict[str, dict[str, Any]]:
        """The dynamic schedule: the entries stored in Redis, by name."""
        return {name: _for_display(raw) for name, raw in sorted(self.store.schedules.all().items())}

    def run_schedule(self, name: str) -> bool:
        """Enqueue the job of a schedule entry now; False when it is a duplicate of a unique job.

        The entry is stored in Redis or published by the master scheduler; for a class that is not
        imported here, the published entry has its `unique_for`. Raises BadScheduleError if there is
        no such entry, or if its queue is not known.
        """
        raw = self.store.schedules.published().get(name)
        published = PublishedEntry.read(raw) if raw else None
        stored = self.store.schedules.all().get(name)
        if stored is None and published is None:
            raise BadScheduleError(f"no active or stored schedule entry {name!r}")
        entry = published if stored is None else Entry.read_stored(name, stored)
        assert entry is not None
        if isinstance(entry, Entry):
            entry.check_supported()
        target = loading.loaded(entry.klass) or published
        published_queue = published.queue if published else None
        queue = entry.queue or published_queue or getattr(target, "queue", None)
        if not queue:
            raise BadScheduleError(
                f"the schedule entry {name!r} has no queue, and the class {entry.klass} is not "
                "imported here"
            )
        now = self.server_time().timestamp()
        encoded = self._recurring_payload(entry, now)
        lock = unique.lock_for(target, entry.klass, entry.args, now)
        if lock is None:
            self._push_all(_valid_queue(queue), [encoded])
            return True
        return self.store.unique.push(*lock, unique.job(_valid_queue(queue), encoded), now)

    def _recurring_payload(self, entry: Entry | PublishedEntry, now: float) -> bytes:
        """The payload that a schedule entry enqueues."""
        raw_args = entry.raw_args if isinstance(entry, Entry) else b""
        if not raw_args:
            return self._payload(entry.klass, entry.args, now)
        fields = payload.fields_of(self._payload(entry.klass, [], now))
        return payload.joined({**fields, "args": raw_args})

    def remove_schedule(self, name: str) -> None:
        """Remove an entry from the dynamic schedule."""
        self.store.schedules.remove(name)


#: pyres' own push(), to detect an override.
_OWN_PUSH = ResQ.push

#: pyres' own wall clock, to detect a replacement.
_OWN_CLOCK = ResQ._current_time


class Pipeline(ResQ):
    """A ResQ over a batch: its writes are collected until send()."""

    store: Batch

    def __init__(self, resq: ResQ, batch: Batch) -> None:
        # Not ResQ.__init__(), which would make a client: this one shares everything with `resq`.
        self.__dict__.update(resq.__dict__)
        self.store = batch
        self._redis = self.store.client
        self._after_send: list[Callable[[], None]] = []

    def _enqueued(self, target: Any, args: Sequence[Any]) -> None:
        self._after_send.append(functools.partial(super()._enqueued, target, args))

    def send(self) -> bool:
        """Send the collected writes; False, and nothing written, if a watched key had changed."""
        sent = self.store.send()
        for hook in self._after_send if sent else ():
            hook()
        return sent


def as_resq(server: Any, password: str | None = None) -> ResQ:
    """The ResQ of a DSN, a redis.Redis or a ResQ; BadServerError for anything else."""
    return server if isinstance(server, ResQ) else ResQ(server, password)


def now_text(resq: ResQ) -> str:
    """The server's time now in the format of Resque's run_at: `2026-11-23T16:01:09Z`."""
    return _iso(int(resq.estimated_time()))


@functools.lru_cache(maxsize=8)
def _iso(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


def _target_and_name(klass: Any) -> tuple[Any, str]:
    """The class or function with the hooks, and the name on the wire; a dotted name is not
    imported.
    """
    if isinstance(klass, str):
        return loading.registered(klass), klass
    return klass, loading.name_of(klass)


def _target(klass: Any) -> tuple[Any, str, str | None]:
    """The class or function with the hooks, the name on the wire, and the queue."""
    target, name = _target_and_name(klass)
    if target is None:
        target = loading.safe_str_to_class(name)
    return target, name, getattr(target, "queue", None)


def _enqueueable(klass: Any) -> tuple[Any, str]:
    """_target_and_name(). NotAJobError for what certainly no worker can find or perform."""
    if isinstance(klass, str):
        return loading.registered(klass), job_names.check_text(klass)
    job_names.check(klass)
    return klass, loading.name_of(klass)


def _job(klass: Any) -> tuple[Any, str, str | None]:
    """_target(), checked if it has a queue. NotAJobError for what no worker can find or perform."""
    if isinstance(klass, str):
        target, name, queue = _target(job_names.check_text(klass))
        if queue:
            job_names.check_perform(target)
            job_names.check_runs(target)
        return target, name, queue
    queue = getattr(klass, "queue", None)
    if queue:
        job_names.check(klass)
    return klass, loading.name_of(klass), queue


def _job_with_queue(klass: Any, hint: str) -> tuple[Any, str, str]:
    """_job(); NoQueueError, with the hint, if it has no queue."""
    target, name, queue = _job(klass)
    if not queue:
        raise _no_queue(klass, name, hint)
    return target, name, queue


def _warn_without_queue(klass: Any, name: str) -> bool:
    """Log a warning for a class and return False, as in pyres 1.5; else raise NoQueueError."""
    if isinstance(klass, type):
        logger.warning("unable to enqueue %s: it has no attribute 'queue'", name)
        return False
    raise _no_queue(klass, name, "set it with @job(queue=...)")


def _no_queue(klass: Any, name: str, hint: str) -> NoQueueError:
    if not isinstance(klass, str):
        job_names.check_place(klass)  # raises the better error for what is not a job at all
    return NoQueueError(f"{name} has no attribute 'queue'; {hint}")


def _name_and_queue(klass: Any) -> tuple[str, str | None]:
    """The name on the wire, and the queue of the class if it can be loaded."""
    target, name = _target_and_name(klass)
    return name, getattr(loading.str_to_class(name) if target is None else target, "queue", None)


def _valid_queue(queue: Any) -> str:
    if isinstance(queue, str) and queue:
        return queue
    raise NoQueueError(f"invalid queue name {queue!r}: expected a non-empty string")


def _attempt(call: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The `first_attempt` of a call. TypeError for any other keyword, which would be lost."""
    for name in kwargs:
        if name != "first_attempt":
            raise TypeError(
                f"{call}() got an unexpected keyword argument {name!r}: expected a job's "
                "arguments by position, or first_attempt"
            )
    return kwargs


class _DelayedSelection:
    """The delayed jobs of a class, with these arguments, and for a queue, if it is known."""

    def __init__(self, name: str, queue: str | None, args: Sequence[Any]) -> None:
        self.name, self.queue, self.args = name, queue, args
        self.matches = json_equality.job_filter(name, args, queue)

    def spellings(self) -> list[bytes]:
        """Such a job as Ruby and enqueue_at() write it, and as node-resque does."""
        if self.queue is None:
            return []
        item = payload.build(self.name, self.args, queue=self.queue)
        in_other_order = {field: item[field] for field in json_equality.JAVASCRIPT_MEMBERS}
        try:
            return [json_parser.encode(item), json_parser.encode(in_other_order)]
        except UnencodableError:  # a lone surrogate, which other programs write in many ways
            return []


def _digest_of(raw: bytes) -> str | None:
    """The digest of the unique job that this payload may be; None if it is malformed."""
    item = payload.show(raw)
    name, args = item.get("class"), item.get("args")
    return unique.digest(name, args) if isinstance(name, str) and isinstance(args, list) else None


def _log_duplicate(name: str, args: Sequence[Any]) -> None:
    logger.warning("Skipped duplicate of unique job %s with %r", name, list(args))


def _for_display(raw: bytes) -> Any:
    """The decoded value; a placeholder for malformed JSON."""
    try:
        return json_parser.loads(raw)
    except UndecodableError:
        return payload.undecodable(text(raw))
