"""ResQ: what an application holds to put jobs on queues and to look at them."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pyres import hooks, json_parser, loading, payload
from pyres.exceptions import BadServerError, NoQueueError, UndecodableError
from pyres.stat import Stat
from pyres.store import PAGE, Redis, Store, text
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

    `server` is a DSN (`host:port[/db]`, redis://, rediss://, unix://, redis+sentinel://) or a
    redis.Redis. `enqueue_timestamp=False` writes payloads equal to Ruby's, byte for byte.
    """

    def __init__(
        self,
        server: str | Redis = "localhost:6379",
        password: str | None = None,
        blocking_pop: bool = True,
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
            client, self._dsn = from_client(server)
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

    @classmethod
    def encode(cls, item: Any) -> str:
        """A value as the JSON that Resque writes. Raises UnencodableError naming the place at fault."""
        return json_parser.dumps(item)

    @classmethod
    def decode(cls, item: bytes | str) -> Any:
        """The value in some JSON. Raises UndecodableError."""
        return json_parser.loads(item)

    # Putting jobs on queues

    def push(self, queue: str, item: Any) -> None:
        """Append any JSON value to a queue; mostly for payloads that stand already."""
        self._append(queue, [payload.encode(item)])

    def _append(self, queue: str, payloads: Sequence[bytes]) -> None:
        self.store.queues.push(queue, payloads)
        self._watched_queues.add(queue)

    def enqueue(self, klass: Any, *args: Any) -> bool:
        """Queue a job of a class, decorated function or dotted name on the queue that it names.

        False when a before_enqueue hook said no, or when there is no queue (with a warning, as in
        pyres 1.5). Raises UnencodableError for an argument that JSON cannot hold.
        """
        target, name, queue = _target(klass)
        if not queue:
            logger.warning("unable to enqueue %s: it has no attribute 'queue'", name)
            return False
        return self._enqueue_target(queue, target, name, args)

    def enqueue_to(self, queue: str, klass: Any, *args: Any) -> bool:
        """enqueue() to another queue than the class names; a dotted name is not imported."""
        target, name = _named(klass)
        return self._enqueue_target(_checked(queue), target, name, args)

    def enqueue_from_string(self, klass_as_string: str, queue: str, *args: Any, **kwargs: Any) -> None:
        """Queue a job of a class that need not exist here; `first_attempt=` goes into the payload."""
        self._append(_checked(queue), [self._payload(klass_as_string, args, **_attempt(kwargs))])

    @classmethod
    def _enqueue(cls, klass: Any, *args: Any) -> bool:
        """enqueue() on a ResQ of the default server."""
        return cls().enqueue(klass, *args)

    def enqueue_many(self, jobs: Iterable[Sequence[Any]]) -> int:
        """enqueue() of many (klass, *args), a thousand in a round trip; how many went onto queues."""
        queued = 0
        jobs = iter(jobs)
        while batch := list(itertools.islice(jobs, BATCH)):
            queued += self._enqueue_batch(batch)
        return queued

    def _enqueue_batch(self, jobs: list[Sequence[Any]]) -> int:
        by_queue: dict[str, list[bytes]] = {}
        sent = []
        for klass, *args in jobs:
            target, name, queue = _target(klass)
            if not queue:
                raise NoQueueError(f"{name} has no attribute 'queue'; nothing of this batch was sent")
            if hooks.allow(target, "before_enqueue", args):
                by_queue.setdefault(queue, []).append(self._payload(name, args))
                sent.append((target, args))
        if by_queue:
            pipe = self.store.client.pipeline(transaction=False)
            for queue, payloads in by_queue.items():
                self.store.queues.push_into(pipe, queue, payloads)
            pipe.execute()
            self._watched_queues.update(by_queue)
        for target, args in sent:
            self._enqueued(target, args)
        return len(sent)

    def _enqueue_target(self, queue: str, target: Any, name: str, args: Sequence[Any]) -> bool:
        encoded = self._payload(name, args)
        if not hooks.allow(target, "before_enqueue", args):
            return False
        self._append(queue, [encoded])
        self._enqueued(target, args)
        return True

    def _enqueued(self, target: Any, args: Sequence[Any]) -> None:
        for hook in hooks.hooks(target, "after_enqueue"):
            hook(*args)

    def _payload(self, name: str, args: Sequence[Any], **more: Any) -> bytes:
        if self.enqueue_timestamp:
            more = {"enqueue_timestamp": self._current_time().timestamp(), **more}
        return json_parser.encode(payload.build(name, args, **more))

    @contextlib.contextmanager
    def pipeline(self, atomic: bool = False) -> Iterator[ResQ]:
        """A ResQ whose writes go out together at the end of the `with`, `atomic`ally if asked.

        An exception inside drops them all. after_enqueue hooks run once the jobs are on their queues.
        """
        batch = _Pipeline(self, atomic)
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

        Waits up to `timeout` seconds; 0 looks once. A worker takes jobs by itself, without this: what
        is popped here stands nowhere but with the caller.
        """
        names = [queues] if isinstance(queues, str) else list(queues)
        found = self._pop(names, timeout if self.blocking_pop else 0)
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
        while found is None and (left := deadline - time.monotonic()) > 0:
            found = self.store.queues.pop_blocking(queues, min(left, LONGEST_POP))
        return found

    def reserve(self, queues: str | Sequence[str]) -> Job | None:
        """Take the next job of these queues, or None; pyres 1.5 has it here."""
        # Looks up on purpose: pyres 1.5's ResQ has this method, and Job stands above it.
        from pyres.job import Job  # noqa: PLC0415

        return Job.reserve(queues, self)

    def dequeue(self, klass: Any, *args: Any) -> int:
        """Remove the jobs of a class, with these arguments if any are given; how many there were.

        Resque matches the bytes `{"class":…,"args":…}`; this compares the values, so that jobs with
        more fields are found too. before_dequeue hooks may say no; after_dequeue hooks run after it.
        """
        target, name, queue = _target(klass)
        if not queue:
            raise NoQueueError(f"{name} has no attribute 'queue'; name it: dequeue_from(queue, ...)")
        if not hooks.allow(target, "before_dequeue", args):
            return 0
        removed = self.dequeue_from(queue, name, *args)
        for hook in hooks.hooks(target, "after_dequeue"):
            hook(*args)
        return removed

    def dequeue_from(self, queue: str, klass: Any, *args: Any) -> int:
        """dequeue() from a queue given by name, without hooks."""
        _target_, name = _named(klass)
        wanted = json_parser.loads(json_parser.dumps(list(args)))
        found = {
            raw
            for raw in self.store.queues.walk(queue)
            if _is_job(payload.show(raw), name, wanted if args else None)
        }
        return self.store.queues.delete_all(queue, found)

    def remove_queue(self, queue: str) -> None:
        """Forget a queue and every job on it."""
        self._watched_queues.discard(queue)
        self.store.queues.remove(queue)

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
        if count == 0:
            return []
        end = -1 if count < 0 else start + count - 1
        full = key if key.startswith(self.store.keys.prefix) else self.store.keys.prefix + key
        return [_shown(raw) for raw in self.store.client.lrange(full, start, end)]

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
            "working": sum(hand is not None for hand in self.store.workers.hands(workers)),
            "failed": failed,
            "servers": [self._dsn.address],
        }

    def stat(self, name: str) -> Stat:
        """A counter."""
        return Stat(name, self)

    # Later

    def enqueue_at(self, datetime: datetime, klass: Any, *args: Any, **kwargs: Any) -> None:
        """Queue a job when its time has come; a naive `datetime` is local time.

        It is `pyres_scheduler` (or resque-scheduler) that moves it then.
        """
        _target_, name, queue = _target(klass)
        if not queue:
            logger.warning("unable to enqueue %s: it has no attribute 'queue'", name)
            return
        self.enqueue_at_from_string(datetime, name, queue, *args, **kwargs)

    def enqueue_at_from_string(
        self, datetime: datetime, klass_as_string: str, queue: str, *args: Any, **kwargs: Any
    ) -> None:
        """enqueue_at() of a class that need not exist here; `first_attempt=` goes into the payload."""
        item = payload.build(klass_as_string, args, queue=_checked(queue), **_attempt(kwargs))
        self.delayed_push(datetime, item)

    def enqueue_in(self, delay: float | timedelta, klass: Any, *args: Any) -> None:
        """enqueue_at() so many seconds from now."""
        wait = delay if isinstance(delay, timedelta) else timedelta(seconds=delay)
        self.enqueue_at(self._current_time().astimezone() + wait, klass, *args)

    def delayed_push(self, datetime: datetime, item: Any) -> None:
        """Lay a payload (with its `queue`) by until `datetime`."""
        self.store.delayed.put_off(int(datetime.timestamp()), payload.encode(item))

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
        due = self.store.delayed.due_timestamp(self._current_time().timestamp())
        return None if due is None else str(due)

    def next_item_for_timestamp(self, timestamp: int | str) -> Any:
        """Remove and return the oldest item due then, or None; the last takes the timestamp with it."""
        raw = self.store.delayed.take_due(int(timestamp))
        return None if raw is None else _shown(raw)


class _Pipeline(ResQ):
    """A ResQ over a batch: what it writes is kept until send()."""

    def __init__(self, resq: ResQ, atomic: bool) -> None:
        # Not ResQ's own: that would open a connection, and this one borrows everything.
        self.__dict__.update(resq.__dict__)
        self.store = resq.store.batch(atomic)
        self._redis = self.store.client
        self._later: list[Callable[[], None]] = []

    def _enqueued(self, target: Any, args: Sequence[Any]) -> None:
        self._later.append(functools.partial(super()._enqueued, target, args))

    def send(self) -> bool:
        """Send what was collected; False when a watched key had changed, and then nothing was sent."""
        sent = self.store.send()
        for hook in self._later if sent else ():
            hook()
        return sent


def as_resq(server: Any, password: str | None = None) -> ResQ:
    """The one place that turns a DSN, a redis.Redis or a ResQ into a ResQ; else BadServerError."""
    return server if isinstance(server, ResQ) else ResQ(server, password)


def now_text(resq: ResQ) -> str:
    """The time now as Resque's run_at: `2026-11-23T16:01:09Z`."""
    return _iso(int(resq._current_time().timestamp()))


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


def _checked(queue: Any) -> str:
    if isinstance(queue, str) and queue:
        return queue
    raise NoQueueError(f"{queue!r} is no queue; its name is a str that is not empty")


def _attempt(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {"first_attempt": kwargs["first_attempt"]} if "first_attempt" in kwargs else {}


def _is_job(item: dict[str, Any], name: str, args: list[Any] | None) -> bool:
    return item.get("class") == name and (args is None or item.get("args") == args)


def _shown(raw: bytes) -> Any:
    """A value for a reader; what is no JSON comes as its stand-in and breaks no page."""
    try:
        return json_parser.loads(raw)
    except UndecodableError:
        return payload.undecodable(text(raw))
