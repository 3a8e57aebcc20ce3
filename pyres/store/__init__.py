"""All access to Redis: the connections, and a class for each kind of key."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError, WatchError

from pyres.store import transaction
from pyres.store.attempts import Attempts, Earlier
from pyres.store.clock import Clock, Reading, elapsed
from pyres.store.connections import Sentinels
from pyres.store.delayed import Delayed, Move, Moved
from pyres.store.dsn import mask
from pyres.store.elements import PAGE, Removal, Removed, peek
from pyres.store.errors import (
    CONNECTION_ERRORS,
    REFUSAL_ERRORS,
    SERVER_ERRORS,
    CannotWriteNow,
    NotRedis,
    NotRegistered,
    NotTrusted,
    WrongServer,
    cuts_connection,
    described,
    is_answered,
    is_lasting,
    own_error,
    refusal,
)
from pyres.store.failed import Failed
from pyres.store.fetcher import Fetched, Fetcher, format_in_flight, parse_in_flight
from pyres.store.key_types import KeyTypes
from pyres.store.keys import Key, Keys
from pyres.store.queue_watch import PushListener
from pyres.store.queues import CollectedQueues, Queues
from pyres.store.rows import SEARCHED, Row, Rows, Wanted
from pyres.store.schedules import (
    LOCK_TIMEOUT,
    MAX_AHEAD,
    Firing,
    Lock,
    Range,
    SchedulerLock,
    Schedules,
)
from pyres.store.stats import Stats
from pyres.store.text import text
from pyres.store.unique import Unique, UniqueJob
from pyres.store.views import Views
from pyres.store.watchers import Watchers
from pyres.store.workers import Workers, without_queues

__all__ = [
    "CONNECTION_ERRORS",
    "LOCK_TIMEOUT",
    "MAX_AHEAD",
    "PAGE",
    "REFUSAL_ERRORS",
    "SEARCHED",
    "SERVER_ERRORS",
    "Batch",
    "CannotWriteNow",
    "Earlier",
    "Failed",
    "Fetched",
    "Fetcher",
    "Firing",
    "Keys",
    "Lock",
    "Move",
    "Moved",
    "NotRedis",
    "NotRegistered",
    "NotTrusted",
    "Range",
    "Reading",
    "Redis",
    "Removal",
    "Removed",
    "ResponseError",
    "Row",
    "SchedulerLock",
    "Schedules",
    "Store",
    "UniqueJob",
    "Wanted",
    "Watch",
    "WatchError",
    "Workers",
    "WrongServer",
    "cuts_connection",
    "described",
    "elapsed",
    "format_in_flight",
    "is_answered",
    "is_lasting",
    "mask",
    "own_error",
    "parse_in_flight",
    "peek",
    "refusal",
    "text",
    "without_queues",
]


class Store:
    """The keys of one namespace, over one client."""

    def __init__(self, client: Any, namespace: str = "resque") -> None:
        self.client = client
        self.keys = Keys(namespace)
        self.clock = Clock(client)
        self.queues = Queues(client, self.keys)
        self.delayed = Delayed(client, self.keys)
        self.schedules = Schedules(client, self.keys)
        self.unique = Unique(client, self.keys)
        self.attempts = Attempts(client, self.keys)
        self.workers = Workers(client, self.keys, self.clock)
        self.failed = Failed(client, self.keys)
        self.key_types = KeyTypes(client, self.keys)
        self.rows = Rows(client, self.keys)
        self.stats = Stats(client, self.keys)
        self.views = Views(client, self.keys)
        self.watchers = Watchers(client, self.keys)

    def fetcher(self, worker_id: str) -> Fetcher:
        """A fetcher of jobs for this worker, with a connection of its own."""
        return Fetcher(self.client, self.keys, worker_id)

    def push_listener(self) -> PushListener:
        """A listener that reports pushes, with a connection of its own."""
        return PushListener(self.client, self.keys)

    def mark_in_flight(self, worker_id: str, queue: str, run_at: str, payload: bytes) -> bytes:
        """Write a payload as a worker's in-flight record; that record."""
        record = format_in_flight(queue, run_at, payload)
        self.workers.set_in_flight(worker_id, record)
        return record

    def batch(self, atomic: bool = False) -> Batch:
        """A store whose writes are collected and sent together by send()."""
        batch = Batch(self.client, self.keys.namespace, atomic)
        # TIME must be sent at once, not with the batch.
        batch.clock = self.clock
        return batch

    def scan(self, match: str = "*", count: int = 1000) -> Iterator[str]:
        """Every key of the namespace, without the namespace; does not block the server as KEYS
        does.
        """
        for key in self.client.scan_iter(match=f"{self.keys.prefix}{match}", count=count):
            yield self.keys.without_prefix(text(key))

    @property
    def has_sentinels(self) -> bool:
        """Whether sentinels name the primary."""
        manager = getattr(self.client.connection_pool, "sentinel_manager", None)
        return isinstance(manager, Sentinels)

    def leave_old_primary(self) -> bool:
        """Close all connections to a primary that was replaced in a failover; whether one was."""
        pool = self.client.connection_pool
        present = getattr(pool, "master_address", None)
        if not present or pool.sentinel_manager.next_primary(pool.service_name, present) is None:
            return False
        pool.disconnect()
        return True

    def close_idle(self) -> None:
        """Close the connections that are not in use, so that no forked child inherits one."""
        for pool in self._pools():
            pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close every connection, to sentinels too."""
        for pool in self._pools():
            pool.disconnect()

    def _pools(self) -> list[Any]:
        pool = self.client.connection_pool
        sentinels = getattr(getattr(pool, "sentinel_manager", None), "sentinels", ())
        return [pool, *(sentinel.connection_pool for sentinel in sentinels)]


class Batch(Store):
    """Writes that are sent together; it cannot read.

    `atomic`: all of them in one MULTI. A batch that watches a key is not executed when the key has
    changed since.
    """

    def __init__(self, client: Any, namespace: str, atomic: bool) -> None:
        self._pipe = client.pipeline(transaction=atomic)
        super().__init__(_Collecting(self._pipe), namespace)
        self.queues = CollectedQueues(self.client, self.keys)
        self._watched: dict[Key, bytes | None] = {}
        #: The reply to each command of send() that was executed.
        self.replies: list[Any] = []

    def watch(self, key: Key) -> bytes | None:
        """The value of a string key that must not change before send(); None for a key of the wrong
        type.
        """
        with _watch_errors():
            self._pipe.watch(key)
            value: bytes | None = self._pipe.mget([key])[0]
        self._watched[key] = value
        self._pipe.multi()
        return value

    def watch_for(self, key: Key, value: bytes) -> bool:
        """watch(), and whether the key has this value; also True for a key of the wrong type, which
        belongs to no job.
        """
        with _watch_errors():
            self._pipe.watch(key)
            current, kind = self._pipe.mget([key])[0], b""
            if current is None:
                kind = self._pipe.type(key)
        self._watched[key] = current
        self._pipe.multi()
        return bool(current == value or kind not in (b"", b"none", b"string"))

    def __len__(self) -> int:
        return len(self._pipe.command_stack)

    def send(self) -> bool:
        """Execute what was collected; False, with nothing executed, if a watched key has changed.
        Raises ResponseError, with nothing executed, if a key has the wrong type.
        """
        try:
            with _watch_errors():
                self.replies = transaction.execute(self._pipe, self._watched)
        except WatchError:
            return False
        return True

    def discard(self) -> None:
        """Discard what was collected."""
        self._watched = {}
        self._pipe.reset()


@contextlib.contextmanager
def _watch_errors() -> Iterator[None]:
    """Raise the connection error where redis-py raises a WatchError for a connection that was lost
    while a key was watched: the key need not have changed, and the caller has to retry.
    """
    try:
        yield
    except WatchError as error:
        if isinstance(error.__context__, CONNECTION_ERRORS):
            raise error.__context__ from None
        raise


class _Collecting:
    """A pipeline used as a client: a pipeline of it adds to it and sends nothing."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)

    def pipeline(self, transaction: bool = True) -> _Collecting:
        return self

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        return []

    def register_script(self, source: str) -> Any:
        """The script as an EVAL: before a pipeline is sent, it is unknown whether the server has
        the script.
        """

        def run(keys: list[Any], args: list[Any], client: Any = None) -> Any:
            return self._pipe.eval(source, len(keys), *keys, *args)

        return run
