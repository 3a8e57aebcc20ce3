"""All that pyres knows of Redis: a connection, and the tables below it."""

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
    """The tables of one namespace over one client."""

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
        """A taker of jobs for this worker, with a connection of its own."""
        return Fetcher(self.client, self.keys, worker_id)

    def push_listener(self) -> PushListener:
        """What reports pushes, with a connection of its own."""
        return PushListener(self.client, self.keys)

    def mark_in_flight(self, worker_id: str, queue: str, run_at: str, payload: bytes) -> bytes:
        """Put a payload into a worker's hand; the bytes that then stand there."""
        record = format_in_flight(queue, run_at, payload)
        self.workers.set_in_flight(worker_id, record)
        return record

    def batch(self, atomic: bool = False) -> Batch:
        """A store whose writes are collected and sent together by send()."""
        batch = Batch(self.client, self.keys.namespace, atomic)
        # A reply to TIME is wanted now, not when the batch is sent.
        batch.clock = self.clock
        return batch

    def scan(self, match: str = "*", count: int = 1000) -> Iterator[str]:
        """Every key of the namespace, without the namespace; never blocks the server as
        KEYS does.
        """
        for key in self.client.scan_iter(match=f"{self.keys.prefix}{match}", count=count):
            yield self.keys.bare(text(key))

    @property
    def has_sentinels(self) -> bool:
        """Whether sentinels say who is the primary."""
        manager = getattr(self.client.connection_pool, "sentinel_manager", None)
        return isinstance(manager, Sentinels)

    def leave_old_primary(self) -> bool:
        """Close all connections to a primary that sentinels have replaced; whether it was so."""
        pool = self.client.connection_pool
        present = getattr(pool, "master_address", None)
        if not present or pool.sentinel_manager.next_primary(pool.service_name, present) is None:
            return False
        pool.disconnect()
        return True

    def close_idle(self) -> None:
        """Close the connections that nobody uses now, so that no forked child inherits one."""
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
    """Writes that go out together; reads make no sense here.

    `atomic`: all of them in one MULTI. A batch that watches a key is not carried out when the key
    has changed since.
    """

    def __init__(self, client: Any, namespace: str, atomic: bool) -> None:
        self._pipe = client.pipeline(transaction=atomic)
        super().__init__(_Collecting(self._pipe), namespace)
        self.queues = CollectedQueues(self.client, self.keys)
        self._watched: dict[Key, bytes | None] = {}
        #: What the server replied to each command of send() that it carried out.
        self.replies: list[Any] = []

    def watch(self, key: Key) -> bytes | None:
        """The value of a string key that must not change before send(); None for another type."""
        with _watch_errors():
            self._pipe.watch(key)
            value: bytes | None = self._pipe.mget([key])[0]
        self._watched[key] = value
        self._pipe.multi()
        return value

    def watch_for(self, key: Key, value: bytes) -> bool:
        """watch(), and whether the key has this value; one of another type is nobody's, and counts
        as if it had.
        """
        with _watch_errors():
            self._pipe.watch(key)
            found, kind = self._pipe.mget([key])[0], b""
            if found is None:
                kind = self._pipe.type(key)
        self._watched[key] = found
        self._pipe.multi()
        return bool(found == value or kind not in (b"", b"none", b"string"))

    def __len__(self) -> int:
        return len(self._pipe.command_stack)

    def send(self) -> bool:
        """Carry out what was collected; False when a watched key had changed, and then
        nothing was. ResponseError, and nothing carried out, where a key is of another type.
        """
        try:
            with _watch_errors():
                self.replies = transaction.execute(self._pipe, self._watched)
        except WatchError:
            return False
        return True

    def discard(self) -> None:
        """Drop what was collected."""
        self._watched = {}
        self._pipe.reset()


@contextlib.contextmanager
def _watch_errors() -> Iterator[None]:
    """redis-py calls it a WatchError, too, when the connection goes while it watches a key.

    That says nothing of the key: whoever took it for a change would not write what he has to.
    """
    try:
        yield
    except WatchError as error:
        if isinstance(error.__context__, CONNECTION_ERRORS):
            raise error.__context__ from None
        raise


class _Collecting:
    """A pipeline in a client's place: a pipeline within it adds to it and sends nothing."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)

    def pipeline(self, transaction: bool = True) -> _Collecting:
        return self

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        return []

    def register_script(self, source: str) -> Any:
        """The script as an EVAL: a pipeline cannot learn of an unknown EVALSHA before it
        is sent.
        """

        def run(keys: list[Any], args: list[Any], client: Any = None) -> Any:
            return self._pipe.eval(source, len(keys), *keys, *args)

        return run
