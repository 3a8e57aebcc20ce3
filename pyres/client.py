"""ResQ: what an application holds to put jobs on queues and to look at them."""

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

#: Jobs that enqueue_many sends in one round trip.
BATCH = 1000

#: The longest that one BLPOP waits, so that a read timeout of the socket never ends it.
LONGEST_POP = 5


class ResQ:
    """Resque's queues on one Redis server.

    `server` is a DSN (`host:port[/db]`, redis://, rediss://, unix://, redis+sentinel://,
    redis+cluster://) or a redis.Redis. In a Redis Cluster `namespace` has a part in braces.
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
            # Theirs is shown to them again, ours does the work: with redis-py's defaults a pop is
            # repeated after a lost reply, and what the first one popped is gone.
            client, self._dsn = from_client(server, slot_key=self.namespace.encode())
            self._redis = server
        else:
            raise BadServerError(f"{server!r} is no server. {BadServerError.__doc__}")
        self.store = Store(client, self.namespace)
        self._watched_queues = set()

    @property
    def dsn(self) -> str:
        """Where the server is, without the password."""
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
        """Close the connections; the next call opens one again."""
        self.store.close()

    @staticmethod
    def _current_time() -> datetime:
        """The one wall clock; tests put another in its place."""
        return datetime.now()

    @property
    def has_own_clock(self) -> bool:
        """Whether another clock was put in the place of `_current_time`: it is used for all."""
        return self._current_time is not _OWN_CLOCK

    def server_time(self) -> datetime:
        """The time by the server's clock, as a naive local time: from it delays are counted."""
        if self.has_own_clock:
            return self._current_time()
        return datetime.fromtimestamp(self.store.clock.now())

    def estimated_time(self) -> float:
        """server_time() as epoch seconds, by what the server has said last: asks it only once."""
        if self.has_own_clock:
            return self._current_time().timestamp()
        return self.store.clock.estimate()

    @classmethod
    def encode(cls, item: Any) -> str:
        """A value as the JSON that Resque writes. UnencodableError names the place at fault."""
        return json_parser.dumps(item)

    @classmethod
    def decode(cls, item: bytes | str) -> Any:
        """The value in some JSON. Raises UndecodableError."""
        return json_parser.loads(item)

    # Putting jobs on queues

    def push(self, queue: str, item: Any) -> None:
        """Append any JSON value to a queue; mostly for payloads that stand already."""
        self._append(queue, [payload.encode(item)])

    def _push_all(self, queue: str, payloads: Sequence[bytes]) -> None:
        """Append payloads, each by push() where a subclass overrides it, as pyres 1.5 did."""
        if not self.overrides_push:
            self._append(queue, payloads)
            return
        for raw in payloads:
            self.push(queue, payload.pushable(raw))

    @property
    def overrides_push(self) -> bool:
        """Whether a subclass has a push() of its own, which then gets every job that is queued."""
        return type(self).push is not _OWN_PUSH or "push" in self.__dict__

    def _append(self, queue: str, payloads: Sequence[bytes]) -> None:
        self.store.queues.push(queue, payloads)
        self._watched_queues.add(queue)

    def enqueue(self, klass: Any, *args: Any) -> bool:
        """Queue a job of a class, decorated function or dotted name on the queue that it names.

        False when a before_enqueue hook said no, and with a warning when there is a job like it and
        one is enough (`unique_for`), or when a class has no queue (as in pyres 1.5). Raises
        UnencodableError for an argument that JSON cannot hold, NotAJobError for what no worker can
        find or perform, NoQueueError for a function or a dotted name without a queue.
        """
        target, name, queue = _job(klass)
        if not queue:
            return _warn_without_queue(klass, name)
        return self._enqueue_target(queue, target, name, args)

    def enqueue_to(self, queue: str, klass: Any, *args: Any) -> bool:
        """enqueue() to another queue than the class names; a dotted name is not imported."""
        target, name = _enqueueable(klass)
        return self._enqueue_target(_checked(queue), target, name, args)

    def enqueue_from_string(
        self, klass_as_string: str, queue: str, *args: Any, **kwargs: Any
    ) -> None:
        """Queue a job of a class that need not exist here; the payload gets `first_attempt=`."""
        more = _attempt("enqueue_from_string", kwargs)
        name = job_names.check_text(klass_as_string)
        self._push_all(_checked(queue), [self._payload(name, args, **more)])

    def enqueue_active_job(
        self, klass_as_string: str, queue: str, *args: Any, **keywords: Any
    ) -> None:
        """Queue a job that Rails' ActiveJob performs, of a class that its application has.

        `keywords` are Ruby's keyword arguments. Raises UnencodableError for a value that ActiveJob
        does not know; `pyres.active_job` has Symbol and GlobalID.
        """
        encoded = self._payload(*self._active_job(klass_as_string, queue, args, keywords))
        self._push_all(queue, [encoded])

    def enqueue_active_job_at(
        self, datetime: datetime, klass_as_string: str, queue: str, *args: Any, **keywords: Any
    ) -> None:
        """enqueue_active_job() when its time has come; a naive `datetime` is local time."""
        name, data = self._active_job(klass_as_string, queue, args, keywords)
        self.delayed_push(datetime, payload.build(name, data, queue=queue))

    def _active_job(
        self, klass_as_string: str, queue: str, args: Sequence[Any], keywords: dict[str, Any]
    ) -> tuple[str, list[Any]]:
        """Class and arguments of the payload that Rails' adapter would write."""
        name = job_names.check_text(klass_as_string)
        now = self._current_time()
        return active_job.WRAPPER, [active_job.build(name, _checked(queue), args, keywords, now)]

    @classmethod
    def _enqueue(cls, klass: Any, *args: Any) -> bool:
        """enqueue() on a ResQ of the default server."""
        return cls().enqueue(klass, *args)

    def enqueue_many(self, jobs: Iterable[Sequence[Any]]) -> int:
        """enqueue() of many (klass, *args), a thousand in a round trip; how many were queued."""
        queued = 0
        jobs = iter(jobs)
        while batch := list(itertools.islice(jobs, BATCH)):
            queued += self._enqueue_batch(batch)
        return queued

    def _enqueue_batch(self, jobs: list[Sequence[Any]]) -> int:
        by_queue: dict[str, list[bytes]] = {}
        claimed: list[tuple[Any, str, str, Sequence[Any]]] = []
        sent: list[tuple[Any, Sequence[Any]]] = []
        for klass, *args in jobs:
            target, name, queue = _job_with_queue(klass, "nothing of this batch was sent")
            if not hooks.allow(target, "before_enqueue", args):
                continue
            if getattr(target, "unique_for", None) is not None:
                claimed.append((target, name, queue, args))
                continue
            by_queue.setdefault(queue, []).append(self._payload(name, args))
            sent.append((target, args))
        if by_queue:
            self._append_batch(by_queue)
        for job in sent:
            self._enqueued(*job)
        return len(sent) + sum(self._lock_and_push(*job) for job in claimed)

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
        """Queue a job of which one is enough; False when there is one."""
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
        """A ResQ whose writes go out together at the end of the `with`, `atomic`ally if asked.

        An exception inside drops them all. after_enqueue hooks run once the jobs are on their
        queues; that one of them was dropped (`unique_for`) is not known inside.
        """
        batch = Pipeline(self, self.store.batch(atomic))
        try:
            yield batch
        except BaseException:
            batch.store.discard()
            raise
        if len(batch.store):
            batch.send()

    # Taking jobs off queues

    def pop(self, queues: str | Sequence[str], timeout: float = 10) -> tuple[str | None, Any]:
        """The oldest item of the first queue that has one, as (queue, item), or (None, None).

        Waits up to `timeout` seconds, by BLPOP; 0 looks once, and so does each call with
        `blocking_pop=False`. A worker takes jobs by itself, without this:
        what is popped here stands nowhere but with the caller.
        """
        names = [queues] if isinstance(queues, str) else list(queues)
        found = self._pop(names, 0 if self.blocking_pop is False else timeout)
        if found is None:
            return None, None
        queue, raw = found
        try:
            return queue, self.decode(raw)
        except UndecodableError:
            self.store.queues.put_back("", queue, raw)
            raise

    def _pop(self, queues: list[str], timeout: float) -> tuple[str, bytes] | None:
        deadline = time.monotonic() + timeout
        found = self.store.queues.pop(queues)
        while found is None and queues and (left := deadline - time.monotonic()) > 0:
            found = self.store.queues.pop_blocking(queues, min(left, LONGEST_POP))
        if found and (digest := _digest_of(found[1])):
            self.store.unique.leave(digest)
        return found

    def reserve(self, queues: str | Sequence[str]) -> Job | None:
        """Pop the next job of these queues, or None: a plain pop, with no record of who has it.
        From pyres 1.5.
        """
        # Looks up on purpose: pyres 1.5's ResQ has this method, and Job stands above it.
        from pyres.job import Job  # noqa: PLC0415

        return Job.reserve(queues, self)

    def dequeue(self, klass: Any, *args: Any) -> int:
        """Remove the jobs of a class, with these arguments if any are given; how many there were.

        Resque matches the bytes `{"class":…,"args":…}`; this compares the values, so that jobs with
        more fields are found too. before_dequeue hooks may say no; after_dequeue hooks follow.
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
        """dequeue() from a queue given by name, without hooks."""
        _target_, name = _named(klass)
        chosen = json_equality.job_filter(name, args or None)
        removed = 0
        for count, raws in self.store.queues.delete_each(queue, chosen):
            removed += count
            self._delete_unique_locks(raws)
        return removed

    def _delete_unique_locks(self, payloads: Iterable[bytes]) -> None:
        """What is taken out by hand may be enqueued again, and will not be tried again."""
        raws = list(payloads)
        found = {_digest_of(raw) for raw in raws}
        self.store.unique.forget(digest for digest in found if digest)
        retried = [raw for raw in raws if b'"retry_attempt"' in raw]
        if retried:
            batch, now = self.store.batch(), self.server_time()
            for raw in retried:
                attempts.Attempts(payload.show(raw), None).end(batch, now)
            batch.send()

    def remove_queue(self, queue: str) -> int:
        """Forget a queue and every job on it; how many those were."""
        self._watched_queues.discard(queue)
        return self.store.queues.remove(queue)

    def move_queue(self, source: str, target: str) -> int:
        """Move the jobs of a queue to the end of another, in their order; how many."""
        if source == target:
            return 0
        moved = self.store.queues.move(source, _checked(target))
        self._watched_queues.add(target)
        return moved

    def delete_job(self, queue: str, raw: bytes, index: int | None = None) -> int:
        """Remove one job of a queue by its exact bytes, of equal ones that at `index`; 0 when it is
        gone already.
        """
        if index is None:
            removed = int(self.store.queues.delete(queue, raw))
        else:
            removed = self.store.queues.delete_at(queue, index, raw)
        if removed:
            self._delete_unique_locks([raw])
        return removed

    def cancel_delayed(self, timestamp: int, raw: bytes, index: int | None = None) -> int:
        """Remove a job that waits at a timestamp, by its exact bytes: every copy, or that at
        `index`; how many.
        """
        if index is None:
            removed = self.store.delayed.cancel(timestamp, raw)
        else:
            removed = self.store.delayed.cancel_at(timestamp, index, raw)
        if removed:
            self._delete_unique_locks([raw])
        return removed

    def promote_job(self, timestamp: int, raw: bytes, index: int | None = None) -> int:
        """Move a job that waits at a timestamp to its queue now, by its exact bytes: every copy, or
        that at `index`; how many.
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
        """What is pushed for each of these delayed payloads; what is no job is left out."""
        now = self.server_time().timestamp() if self.enqueue_timestamp else None
        moves = []
        for raw in payloads:
            with contextlib.suppress(UndecodableError):  # promote_delayed() says what becomes of it
                moves.append(Move(raw, *promotion.promoted(raw, now)))
        return moves

    def pause_all(self) -> None:
        """Let no worker, Ruby's either, take a job until resume_all()."""
        self.store.workers.pause()

    def resume_all(self) -> None:
        """Let workers take jobs again."""
        self.store.workers.resume()

    def command_khan(self, khan_id: str, word: str) -> bool:
        """Tell a khan ADD, REMOVE or SHUTDOWN; False when there is none of this id."""
        if khan_id not in self.store.workers.khan_ids():
            return False
        self.store.workers.command(khan_id, word)
        return True

    # Looking

    def watch_queue(self, queue: str) -> None:
        """Announce a queue, so that it is listed before its first job."""
        self._watched_queues.add(queue)
        self.store.queues.watch(queue)

    def size(self, queue: str) -> int:
        """How many jobs wait on a queue."""
        return self.store.queues.size(queue)

    def queues(self) -> list[str]:
        """The names of all queues, sorted."""
        return self.store.queues.names()

    def queue_sizes(self) -> dict[str, int]:
        """How many jobs wait on each queue."""
        return self.store.queues.sizes()

    def peek(self, queue: str, start: int = 0, count: int = 1) -> list[Any]:
        """`count` items of a queue from index `start`; always a list, as in pyres 1.5."""
        return [_shown(raw) for raw in self.store.queues.peek(queue, start, count)]

    def list_range(self, key: str, start: int, count: int) -> list[Any]:
        """`count` decoded elements of the list at a key, which is given without the namespace."""
        full = key if key.startswith(self.store.keys.prefix) else self.store.keys.prefix + key
        self.store.client.llen(full)  # says so when it is no list
        return [_shown(raw) for raw in peek(self.store.client, full, start, count)]

    def workers(self) -> list[str]:
        """The ids of all registered workers."""
        return self.store.workers.ids()

    def working(self) -> list[Worker]:
        """The workers that hold a job now."""
        # Looks up on purpose: pyres 1.5's ResQ has this method, and Worker stands above it.
        from pyres.worker import Worker  # noqa: PLC0415

        return Worker.working(self)

    def keys(self) -> list[str]:
        """Every key of the namespace, without the namespace; found by SCAN, never by KEYS."""
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

    # Later

    def enqueue_at(self, datetime: datetime, klass: Any, *args: Any, **kwargs: Any) -> bool:
        """Queue a job when its time has come; a naive `datetime` is local time.

        It is `pyres_scheduler` (or resque-scheduler) that moves it then, also where the time has
        passed already. False when there is a job like it and one is enough (`unique_for`), or when
        a class has no queue; raises as enqueue() does. The payload gets `first_attempt=`.
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
        # Not later than what the scheduler, whose clock may be another, says that it was enqueued.
        made = min(now, int(due))
        lock = unique.lock_for(target, item["class"], item["args"], made, due - now)
        assert lock is not None
        job = unique.job(item["queue"], payload.encode(item), int(due))
        if self.store.unique.delay(*lock, job, now):
            return True
        _log_duplicate(item["class"], item["args"])
        return False

    def enqueue_at_from_string(
        self, datetime: datetime, klass_as_string: str, queue: str, *args: Any, **kwargs: Any
    ) -> None:
        """enqueue_at() of a class that need not exist here; the payload gets `first_attempt=`."""
        more = _attempt("enqueue_at_from_string", kwargs)
        name = job_names.check_text(klass_as_string)
        self.delayed_push(datetime, payload.build(name, args, queue=_checked(queue), **more))

    def enqueue_in(self, delay: float | timedelta, klass: Any, *args: Any) -> bool:
        """enqueue_at() so many seconds from now. NoQueueError for a class without a queue, too."""
        _job_with_queue(klass, "nothing was enqueued")
        return self.enqueue_at(self._in(delay), klass, *args)

    def _in(self, delay: float | timedelta) -> datetime:
        wait = delay if isinstance(delay, timedelta) else timedelta(seconds=delay)
        # Aware and in UTC: that many seconds pass, also when the clocks change meanwhile.
        return self.server_time().astimezone(UTC) + wait

    def delayed_push(self, datetime: datetime, item: Any) -> None:
        """Lay a payload (with its `queue`) by until `datetime`."""
        self.store.delayed.delay(int(datetime.timestamp()), payload.encode(item))

    def delayed_queue_peek(self, start: int, count: int) -> list[int]:
        """`count` timestamps (epoch seconds) at which jobs wait, from index `start`."""
        return self.store.delayed.timestamps(start, count)

    def delayed_timestamp_peek(self, timestamp: int, start: int, count: int) -> list[Any]:
        """`count` items that wait at a timestamp, from index `start`."""
        return [_shown(raw) for raw in self.store.delayed.peek(int(timestamp), start, count)]

    def delayed_queue_schedule_size(self) -> int:
        """How many jobs wait at all timestamps together."""
        total = 0
        for start in range(0, self.store.delayed.timestamp_count(), PAGE):
            total += sum(self.store.delayed.sizes(self.store.delayed.timestamps(start, PAGE)))
        return total

    def delayed_timestamp_size(self, timestamp: int) -> int:
        """How many jobs wait at a timestamp."""
        return self.store.delayed.size(int(timestamp))

    def next_delayed_timestamp(self) -> str | None:
        """The earliest timestamp that has come, as text, or None."""
        due = self.store.delayed.due_timestamp(self.server_time().timestamp())
        return None if due is None else str(due)

    def next_item_for_timestamp(self, timestamp: int | str) -> Any:
        """Remove and return the oldest item due then, or None; the last takes the timestamp too."""
        raw = self.store.delayed.pop_due(int(timestamp))
        return None if raw is None else payload.pushable(raw)

    def remove_delayed(self, klass: Any, *args: Any) -> int:
        """Remove the delayed jobs of a class with exactly these arguments; how many there were.

        Those for the class's own queue; for all queues where a dotted name leads to no class here.
        """
        return self._remove_delayed(*_whose(klass), args)

    def remove_delayed_in_queue(self, klass: Any, queue: str, *args: Any) -> int:
        """remove_delayed() of those for this queue."""
        return self._remove_delayed(_named(klass)[1], _checked(queue), args)

    def _remove_delayed(self, name: str, queue: str | None, args: Sequence[Any]) -> int:
        wanted = _Wanted(name, queue, args)
        return self._each_delayed(wanted, self.cancel_delayed, self._cancel_each)

    def _cancel_each(self, timestamp: int, chosen: Callable[[bytes], bool]) -> int:
        removed = 0
        for count, raws in self.store.delayed.cancel_each(timestamp, chosen):
            removed += count
            self._delete_unique_locks(raws)
        return removed

    def _each_delayed(
        self,
        wanted: _Wanted,
        act: Callable[[int, bytes], int],
        act_on_chosen: Callable[[int, Callable[[bytes], bool]], int],
    ) -> int:
        """Do something to the delayed jobs that are meant; to how many that was.

        Found first by the sets that name their timestamps. All delayed jobs are walked over where
        these are few, or it has found none: some writers keep no such sets.
        """
        number = sum(act(*one) for one in self.store.delayed.named(wanted.spellings()))
        if tried := attempts.digest(wanted.name, wanted.args):
            due = self.store.attempts.due(tried)
            number += sum(act_on_chosen(timestamp, wanted.chosen) for timestamp in due)
        if not number or self.store.delayed.are_few():
            due = self._delayed(wanted.chosen)
            number += sum(act_on_chosen(timestamp, wanted.chosen) for timestamp in due)
        return number

    def delayed_at(self, klass: Any, *args: Any) -> list[int]:
        """The timestamps (epoch seconds, sorted) at which remove_delayed() would find jobs."""
        return self._delayed(_Wanted(*_whose(klass), args).chosen)

    def delay_or_enqueue_in(self, delay: float | timedelta, klass: Any, *args: Any) -> int:
        """Put off what waits for this class and these arguments anew, or put off one; how many.

        As resque-scheduler has it: each call moves the job further away, and there is one job.
        """
        _job_with_queue(klass, "nothing was enqueued")
        due, count = self._in(delay), max(1, self.remove_delayed(klass, *args))
        return sum(self.enqueue_at(due, klass, *args) for _ in range(count))

    def enqueue_delayed_now(self, klass: Any, *args: Any) -> int:
        """Move the delayed jobs that remove_delayed() would find to their queues now; how many."""
        wanted = _Wanted(*_whose(klass), args)
        return self._each_delayed(
            wanted, lambda timestamp, raw: self._promote(timestamp, wanted.chosen), self._promote
        )

    def promote_delayed(self, timestamp: int) -> int:
        """Move all that waits at a timestamp to its queues, due or not; how many.

        What is no job stays, for the scheduler to make a failure of it when its time has come.
        """
        return self._promote(int(timestamp), lambda raw: True)

    def _promote(self, timestamp: int, chosen: Callable[[bytes], bool]) -> int:
        """Move what is chosen of a timestamp, a page in one step; how many."""
        delayed, moved, start, complete = self.store.delayed, 0, 0, False
        refused: dict[str | None, str] = {}
        while not complete:
            payloads, complete = delayed.page(timestamp, start, PAGE)
            moves = self._moves(filter(chosen, payloads))
            if not moves:
                start += len(payloads)
                continue
            last = start + len(payloads) - 1
            result = delayed.promote(timestamp, moves, start=start, last=last)
            moved, start = moved + result.number, start + len(payloads) - result.number
            refused |= result.refused
        for error in refused.values():
            logger.error("jobs that cannot be moved stay delayed: %s", error)
        return moved

    def reset_delayed_queue(self) -> int:
        """Forget every delayed job; how many there were."""
        forgotten = 0
        while timestamps := self.store.delayed.timestamps(0, PAGE):
            for timestamp in timestamps:
                for raws in self.store.delayed.drop(timestamp):
                    forgotten += len(raws)
                    self._delete_unique_locks(raws)
        return forgotten

    def _delayed(self, chosen: Callable[[bytes], bool]) -> list[int]:
        """The timestamps, sorted, at which payloads wait that are chosen."""
        return sorted({timestamp for timestamp, raw in self.store.delayed.walk() if chosen(raw)})

    # Again and again

    def set_schedule(self, name: str, config: dict[str, Any]) -> None:
        """Write an entry of the dynamic schedule, which schedulers with --dynamic take up.

        `config` is resque-scheduler's: cron or every, class, queue, args, description; and
        timezone. Raises BadScheduleError for what no scheduler could follow. It is written so that
        Ruby can follow it, too: with class and queue, and the zone behind the cron expression.
        """
        kept = {str(key): value for key, value in config.items() if key != "persist"}
        Entry.read(name, kept)
        self.store.schedules.put(name, json_parser.encode(schedule.for_ruby(name, kept)))

    def get_schedule(self, name: str) -> dict[str, Any] | None:
        """An entry of the dynamic schedule, or None."""
        return self.schedules().get(name)

    def schedules(self) -> dict[str, dict[str, Any]]:
        """The dynamic schedule: the entries that stand in Redis, by name."""
        return {name: _shown(raw) for name, raw in sorted(self.store.schedules.all().items())}

    def run_schedule(self, name: str) -> bool:
        """Enqueue what a schedule entry enqueues, now; False when there is a job like it and one is
        enough.

        The entry is one that stands in Redis, or one that a master scheduler said it has in force;
        of a class that is not imported here the latter knows `unique_for`. Raises BadScheduleError
        where there is no such entry, or nobody knows its queue.
        """
        raw = self.store.schedules.published().get(name)
        published = PublishedEntry.read(raw) if raw else None
        stored = self.store.schedules.all().get(name)
        if stored is None and published is None:
            raise BadScheduleError(f"there is no schedule entry {name!r} in force")
        found = published if stored is None else Entry.read_stored(name, stored)
        assert found is not None
        if isinstance(found, Entry):
            found.check_supported()
        target = loading.loaded(found.klass) or published
        known = published.queue if published else None
        queue = found.queue or known or getattr(target, "queue", None)
        if not queue:
            raise BadScheduleError(
                f"the entry {name!r} names no queue, and {found.klass} is not known here"
            )
        now = self.server_time().timestamp()
        encoded = self._recurring_payload(found, now)
        lock = unique.lock_for(target, found.klass, found.args, now)
        if lock is None:
            self._push_all(_checked(queue), [encoded])
            return True
        return self.store.unique.push(*lock, unique.job(_checked(queue), encoded), now)

    def _recurring_payload(self, entry: Entry | PublishedEntry, now: float) -> bytes:
        """What a schedule entry enqueues."""
        raw_args = entry.raw_args if isinstance(entry, Entry) else b""
        if not raw_args:
            return self._payload(entry.klass, entry.args, now)
        fields = payload.fields_of(self._payload(entry.klass, [], now))
        return payload.joined({**fields, "args": raw_args})

    def remove_schedule(self, name: str) -> None:
        """Remove an entry from the dynamic schedule."""
        self.store.schedules.remove(name)


#: push() as pyres has it, to find what overrides it.
_OWN_PUSH = ResQ.push

#: The wall clock as pyres has it, to find what was put in its place.
_OWN_CLOCK = ResQ._current_time


class Pipeline(ResQ):
    """A ResQ over a batch: what it writes is kept until send()."""

    store: Batch

    def __init__(self, resq: ResQ, batch: Batch) -> None:
        # Not ResQ's own: that would open a connection, and this one borrows everything.
        self.__dict__.update(resq.__dict__)
        self.store = batch
        self._redis = self.store.client
        self._later: list[Callable[[], None]] = []

    def _enqueued(self, target: Any, args: Sequence[Any]) -> None:
        self._later.append(functools.partial(super()._enqueued, target, args))

    def send(self) -> bool:
        """Send what was collected; False when a watched key had changed: nothing was sent."""
        sent = self.store.send()
        for hook in self._later if sent else ():
            hook()
        return sent


def as_resq(server: Any, password: str | None = None) -> ResQ:
    """The one place that turns a DSN, a redis.Redis or a ResQ into a ResQ; else BadServerError."""
    return server if isinstance(server, ResQ) else ResQ(server, password)


def now_text(resq: ResQ) -> str:
    """The server's time now as Resque's run_at: `2026-11-23T16:01:09Z`."""
    return _iso(int(resq.estimated_time()))


@functools.lru_cache(maxsize=8)
def _iso(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


def _named(klass: Any) -> tuple[Any, str]:
    """What holds the hooks, and the name on the wire; a dotted name is taken as it is."""
    if isinstance(klass, str):
        return loading.registered(klass), klass
    return klass, loading.name_of(klass)


def _target(klass: Any) -> tuple[Any, str, str | None]:
    """What holds the hooks, the name on the wire, and the queue."""
    target, name = _named(klass)
    if target is None:
        target = loading.safe_str_to_class(name)
    return target, name, getattr(target, "queue", None)


def _enqueueable(klass: Any) -> tuple[Any, str]:
    """_named() of what a worker can find and perform, as far as that is certain; NotAJobError."""
    if isinstance(klass, str):
        return loading.registered(klass), job_names.check_text(klass)
    job_names.check(klass)
    return klass, loading.name_of(klass)


def _job(klass: Any) -> tuple[Any, str, str | None]:
    """_target() of what a worker can find and perform; one without a queue may lack perform()."""
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


def _job_with_queue(klass: Any, more: str) -> tuple[Any, str, str]:
    """_job(), or NoQueueError with what that means."""
    target, name, queue = _job(klass)
    if not queue:
        raise _no_queue(klass, name, more)
    return target, name, queue


def _warn_without_queue(klass: Any, name: str) -> bool:
    """False and a warning for a class, as in pyres 1.5; NoQueueError for anything else."""
    if isinstance(klass, type):
        logger.warning("unable to enqueue %s: it has no attribute 'queue'", name)
        return False
    raise _no_queue(klass, name, "@job(queue=...) gives it one")


def _no_queue(klass: Any, name: str, more: str) -> NoQueueError:
    if not isinstance(klass, str):
        job_names.check_place(klass)  # of what is no job at all, that is said instead
    return NoQueueError(f"{name} has no attribute 'queue'; {more}")


def _whose(klass: Any) -> tuple[str, str | None]:
    """The name on the wire, and the queue of the class where it can be had."""
    target, name = _named(klass)
    return name, getattr(loading.str_to_class(name) if target is None else target, "queue", None)


def _checked(queue: Any) -> str:
    if isinstance(queue, str) and queue:
        return queue
    raise NoQueueError(f"{queue!r} is no queue; its name is a str that is not empty")


def _attempt(call: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The `first_attempt` of a call. TypeError for any other keyword: it would be lost."""
    for name in kwargs:
        if name != "first_attempt":
            raise TypeError(
                f"{call}() got an unexpected keyword argument {name!r}: expected a job's "
                "arguments by position, or first_attempt"
            )
    return kwargs


class _Wanted:
    """The delayed jobs that a call means: of a class, with these arguments, and for a queue, if it
    is known.
    """

    def __init__(self, name: str, queue: str | None, args: Sequence[Any]) -> None:
        self.name, self.queue, self.args = name, queue, args
        self.chosen = json_equality.job_filter(name, args, queue)

    def spellings(self) -> list[bytes]:
        """Such a job as Ruby and enqueue_at() write it, and as node-resque does."""
        if self.queue is None:
            return []
        item = payload.build(self.name, self.args, queue=self.queue)
        in_other_order = {field: item[field] for field in json_equality.JAVASCRIPT_MEMBERS}
        try:
            return [json_parser.encode(item), json_parser.encode(in_other_order)]
        except UnencodableError:  # half a surrogate pair, which others write in many ways
            return []


def _digest_of(raw: bytes) -> str | None:
    """Which unique job's payload this may be; None for what is no job."""
    item = payload.show(raw)
    name, args = item.get("class"), item.get("args")
    return unique.digest(name, args) if isinstance(name, str) and isinstance(args, list) else None


def _log_duplicate(name: str, args: Sequence[Any]) -> None:
    logger.warning(
        "dropped %s with %r: a job like it was enqueued, and one is enough", name, list(args)
    )


def _shown(raw: bytes) -> Any:
    """A value for a reader; what is no JSON comes as its stand-in and breaks no page."""
    try:
        return json_parser.loads(raw)
    except UndecodableError:
        return payload.undecodable(text(raw))
