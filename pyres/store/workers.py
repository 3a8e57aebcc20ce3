"""Registered workers and managers, their in-flight jobs and heartbeats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pyres.store import scripts
from pyres.store.clock import Clock
from pyres.store.elements import PAGE, read_strings
from pyres.store.errors import (
    log_wrong_types,
    logged_once,
    or_nothing,
)
from pyres.store.keys import Keys
from pyres.store.stats import integer
from pyres.store.text import spelt, text
from pyres.store.transaction import execute_tolerantly


class Workers:
    """Resque's registry of workers; minions are workers that are also in the set `minions`."""

    def __init__(self, client: Any, keys: Keys, clock: Clock) -> None:
        self.client = client
        self.keys = keys
        self.clock = clock

    def register(
        self,
        worker_id: str,
        started: str,
        minion: bool = False,
        process_start: str = "",
        heartbeat: str = "",
    ) -> None:
        """Register a worker with its start time, its process and its first heartbeat (as
        now_text() returns it, if any), in one step: no worker is registered without the rest.
        """
        keys = [
            self.keys.workers,
            self.keys.minions,
            self.keys.started(worker_id),
            self.keys.process_starts,
            self.keys.heartbeats,
        ]
        script = scripts.load(self.client, "register")
        args = [spelt(worker_id), started, "1" if minion else "0", process_start, heartbeat]
        log_wrong_types(script(keys=keys, args=args))

    def unregister_keeping_counts(self, worker_id: str) -> None:
        """Unregister a worker that was registered for one job, and keep its counters."""
        pipe = self.client.pipeline(transaction=True)
        pipe.srem(self.keys.workers, spelt(worker_id))
        pipe.srem(self.keys.minions, spelt(worker_id))
        pipe.delete(self.keys.started(worker_id))
        pipe.hdel(self.keys.process_starts, spelt(worker_id))
        execute_tolerantly(pipe)

    def unregister(self, worker_id: str) -> None:
        """Remove a worker: registration, in-flight record, start time, heartbeat and counters."""
        pipe = self.client.pipeline(transaction=True)
        self.unregister_into(pipe, worker_id)
        execute_tolerantly(pipe)

    def unregister_into(self, pipe: Any, worker_id: str) -> None:
        """Add the commands of unregister() to a pipeline. They also remove the ping and counters of
        a node-resque worker, which are named by its id without queues.
        """
        name = without_queues(worker_id)
        pipe.srem(self.keys.workers, spelt(worker_id))
        pipe.srem(self.keys.minions, spelt(worker_id))
        pipe.delete(
            self.keys.worker(worker_id),
            self.keys.started(worker_id),
            self.keys.stat(f"processed:{worker_id}"),
            self.keys.stat(f"failed:{worker_id}"),
            self.keys.ping(name),
            self.keys.stat(f"processed:{name}"),
            self.keys.stat(f"failed:{name}"),
        )
        pipe.hdel(self.keys.heartbeats, spelt(worker_id))
        pipe.hdel(self.keys.process_starts, spelt(worker_id))

    def ids(self) -> list[str]:
        return self._members(self.keys.workers)

    def minion_ids(self) -> list[str]:
        return self._members(self.keys.minions)

    def _members(self, key: str) -> list[str]:
        members: Iterable[bytes] = or_nothing(lambda: self.client.smembers(key), ())
        return [text(member) for member in sorted(members)]

    def exists(self, worker_id: str) -> bool:
        return or_nothing(
            lambda: bool(self.client.sismember(self.keys.workers, spelt(worker_id))), False
        )

    def in_flight(self, worker_id: str) -> bytes | None:
        """A worker's in-flight record (JSON), or None."""
        return self.in_flight_records([worker_id])[0]

    def has_in_flight(self, worker_id: str, in_flight: bytes | None) -> bool:
        """Whether this is a worker's in-flight record; also True where the key has the wrong type,
        and so is not a record of any job.
        """
        key = self.keys.worker(worker_id)
        record = self.in_flight(worker_id)
        return record == in_flight or (
            record is None and self.client.type(key) not in (b"none", b"string")
        )

    def in_flight_records(self, worker_ids: Sequence[str]) -> list[bytes | None]:
        """The same for many workers, in steps that are bounded by bytes."""
        return read_strings(self.client, [self.keys.worker(worker_id) for worker_id in worker_ids])

    def have_jobs(self, worker_ids: Sequence[str]) -> list[bool]:
        """Whether each of these workers has a job in flight, in one round trip."""
        pipe = self.client.pipeline(transaction=False)
        for worker_id in worker_ids:
            pipe.type(self.keys.worker(worker_id))
        return [kind == b"string" for kind in pipe.execute()]

    def set_in_flight(self, worker_id: str, in_flight: bytes) -> None:
        self.client.set(self.keys.worker(worker_id), in_flight)

    def delete_in_flight(self, worker_id: str) -> None:
        self.client.delete(self.keys.worker(worker_id))

    def finish(self, worker_id: str) -> None:
        """Count the in-flight job and delete its record, in one transaction."""
        pipe = self.client.pipeline(transaction=True)
        pipe.delete(self.keys.worker(worker_id))
        pipe.incrby(self.keys.stat("processed"), 1)
        pipe.incrby(self.keys.stat(f"processed:{worker_id}"), 1)
        pipe.execute()

    def started(self, worker_id: str) -> bytes | None:
        started: bytes | None = self.client.mget([self.keys.started(worker_id)])[0]
        return started

    def set_started(self, worker_id: str, started: str) -> None:
        self.client.set(self.keys.started(worker_id), started)

    def drop_started(self, worker_id: str) -> None:
        self.client.delete(self.keys.started(worker_id))

    def now(self) -> datetime:
        """The server's clock, as an aware UTC time of whole seconds."""
        return datetime.fromtimestamp(int(self.clock.ask().now), UTC)

    def now_text(self) -> str:
        """The server's time in the local zone, as Resque writes heartbeats."""
        return self.now().astimezone().isoformat(timespec="seconds")

    def beat(self, worker_ids: Sequence[str]) -> list[str]:
        """Write a heartbeat for each worker; return those that are not registered."""
        now = self.now_text()
        script = scripts.load(self.client, "heartbeat")
        ids = [spelt(worker_id) for worker_id in worker_ids]
        missing, wrong = script(keys=[self.keys.heartbeats, self.keys.workers], args=[now, *ids])
        log_wrong_types(wrong)
        return [text(worker_id) for worker_id in missing]

    def note_heartbeat(self, gap: float) -> None:
        """Note that a periodic heartbeat was written, not that of a start. After `gap` seconds
        without one, the server or all workers were down, and the period without a gap starts anew.
        """
        now = int(self.now().timestamp())
        script = scripts.load(self.client, "note_heartbeat")
        or_nothing(lambda: script(keys=[self.keys.beats], args=[now, gap]), None)

    def noted(self) -> tuple[float, float]:
        """The epoch seconds of the last heartbeat of any worker, and since when there was no gap
        between heartbeats; 0 for never.
        """
        times: list[bytes | None] = or_nothing(
            lambda: self.client.hmget(self.keys.beats, "last", "since"), [None, None]
        )
        last, since = map(integer, times)
        return last, since

    def process_starts(self) -> dict[str, str]:
        """The process of each worker that has registered it, by worker id."""
        starts: dict[bytes, bytes] = or_nothing(
            lambda: self.client.hgetall(self.keys.process_starts), {}
        )
        return _texts(starts)

    def snapshot(self) -> tuple[frozenset[str], dict[str, str], dict[str, str]]:
        """The registered ids, heartbeats() and process_starts(), read at one moment: otherwise a
        worker that registers between two requests would seem to have no process.
        """
        return self._snapshot(self.keys.workers, self.keys.heartbeats)

    def khan_snapshot(self) -> tuple[frozenset[str], dict[str, str], dict[str, str]]:
        """The same for the managers."""
        return self._snapshot(self.keys.khans, self.keys.khan_heartbeats)

    def _snapshot(
        self, members: str, heartbeats: str
    ) -> tuple[frozenset[str], dict[str, str], dict[str, str]]:
        pipe = self.client.pipeline(transaction=True)
        pipe.smembers(members)
        pipe.hgetall(heartbeats)
        pipe.hgetall(self.keys.process_starts)
        ids, beats, process_starts = execute_tolerantly(pipe)
        return frozenset(map(text, ids or ())), _texts(beats or {}), _texts(process_starts or {})

    def records(self) -> Iterator[tuple[str, bytes]]:
        """Each `worker:<id>` that is a string, as (id, value); read by SCAN, step by step."""
        prefix = f"{self.keys.prefix}worker:"
        for names in self._scan(f"{prefix}*"):
            values = read_strings(self.client, names)
            for name, value in zip(names, values, strict=True):
                if value is not None:
                    yield text(name).removeprefix(prefix), value

    def counted(self) -> Iterator[str]:
        """The worker id of each counter of a worker, so an id may come twice; read by SCAN, step by
        step.
        """
        prefix = f"{self.keys.prefix}stat:"
        for names in self._scan(f"{prefix}*:*:*:*"):
            for name in names:
                counter, _, worker_id = text(name).removeprefix(prefix).partition(":")
                if counter in ("processed", "failed"):
                    yield worker_id

    def _scan(self, pattern: str) -> Iterator[list[bytes]]:
        """The keys that match a pattern, a step of SCAN at a time."""
        cursor = -1
        while cursor:
            cursor, names = self.client.scan(max(cursor, 0), match=pattern, count=PAGE)
            yield names

    def drop_counters(self, worker_id: str) -> None:
        """Remove the counters of a worker."""
        counters = ("processed", "failed")
        self.client.delete(*[self.keys.stat(f"{name}:{worker_id}") for name in counters])

    def heartbeats(self) -> dict[str, str]:
        """Each worker's last heartbeat, as it was written."""
        beats: dict[bytes, bytes] = or_nothing(
            lambda: self.client.hgetall(self.keys.heartbeats), {}
        )
        return _texts(beats)

    def ping(self, name: str) -> bytes | None:
        """The heartbeat of a node-resque worker (`host:pid`) as it was written, or None."""
        written: bytes | None = self.client.mget([self.keys.ping(name)])[0]
        return written

    def prune_lock(self, worker_id: str, seconds: int, dead: str = "") -> bool:
        """Acquire or renew the prune lock for N seconds; whether it was free, the worker's own, or
        held by `dead`.
        """
        script = scripts.load(self.client, "prune_lock")
        key, args = self.keys.prune_lock, [spelt(worker_id), seconds, spelt(dead)]
        return bool(logged_once(key, lambda: script(keys=[key], args=args)))

    def prune_lock_holder(self) -> str:
        """The id of the worker that holds the prune lock, or an empty string."""
        return text(self.client.mget([self.keys.prune_lock])[0] or b"")

    def paused(self) -> bool:
        """Whether all workers are paused."""
        return text(self.client.mget([self.keys.pause])[0] or b"").strip().lower() == "true"

    def pause(self) -> None:
        self.client.set(self.keys.pause, "true")

    def resume(self) -> None:
        self.client.delete(self.keys.pause)

    def register_khan(self, khan_id: str, former: str = "", process_start: str = "") -> None:
        """Register a manager with its process and a heartbeat, and remove its `former` id, in one
        step.
        """
        script = scripts.load(self.client, "register_khan")
        now = datetime.fromtimestamp(int(self.clock.read().now), UTC).isoformat(timespec="seconds")
        keys = [self.keys.khans, self.keys.process_starts, self.keys.khan_heartbeats]
        log_wrong_types(script(keys=keys, args=[khan_id, former, process_start, now]))

    def unregister_khan(self, *khan_ids: str) -> None:
        """Remove managers and the commands left for them."""
        members = [spelt(khan_id) for khan_id in khan_ids]
        pipe = self.client.pipeline(transaction=True)
        pipe.srem(self.keys.khans, *members)
        pipe.hdel(self.keys.process_starts, *members)
        pipe.hdel(self.keys.khan_heartbeats, *members)
        pipe.delete(*[spelt(self.keys.khan(khan_id)) for khan_id in khan_ids])
        execute_tolerantly(pipe)

    def khan_ids(self) -> list[str]:
        return self._members(self.keys.khans)

    def command(self, khan_id: str, word: str) -> None:
        """Leave a command for a manager."""
        self.client.rpush(self.keys.khan(khan_id), word)

    def _next_command(self, khan_id: str) -> bytes | None:
        word: bytes | None = or_nothing(lambda: self.client.lpop(self.keys.khan(khan_id)), None)
        return word

    def pop_command(self, *khan_ids: str) -> str | None:
        """Remove and return the oldest command left under any of a manager's ids, or None."""
        for khan_id in khan_ids:
            word = self._next_command(khan_id)
            if word is not None:
                return text(word)
        return None


def without_queues(worker_id: str) -> str:
    """The host and pid of a worker's id, by which node-resque names a worker."""
    return ":".join(worker_id.split(":", 2)[:2])


def _texts(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {text(name): text(value) for name, value in fields.items()}
