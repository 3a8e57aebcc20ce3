"""Unique locks: while one exists, no job of the same class and arguments is enqueued."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from pyres.store import scripts
from pyres.store.errors import CannotWriteNow
from pyres.store.keys import Key, Keys
from pyres.store.text import spelt

#: Seconds between two checks of whether a lock's job is still there.
CHECK_EVERY = 10

#: Seconds for which a note that a process pops jobs lasts, and after which it is renewed.
POPS_KNOWN, POPS_EVERY = 15, 5


class UniqueJob(NamedTuple):
    """A payload that has a unique lock, and its queue. `name` and `args` are the indexes (from 1)
    of the first and last byte of its class and of its member args, separated by a space; `due` is
    when it is promoted, if it is delayed; `respelt` whether another program may write the same
    arguments as other JSON.
    """

    queue: str
    payload: bytes
    name: str
    args: str
    due: int | None = None
    respelt: bool = False

    def fields(self) -> list[Any]:
        """The fields of Keys.unique_job(), each followed by its value."""
        due = "" if self.due is None else self.due
        place = [*("queue", spelt(self.queue)), *("payload", self.payload), *("due", due)]
        return [*place, *("class", self.name), *("args", self.args), "respelt", int(self.respelt)]


class Unique:
    """One key with a TTL for each class and arguments: `digest` stands for these, `ms` is the TTL
    in milliseconds.
    """

    #: The monotonic time from which note_pops() renews its note.
    _next_note = 0.0

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def push(self, digest: str, lock: str, ms: int, job: UniqueJob, now: float) -> bool:
        """Append a payload to its queue and lock it for `ms`; False when another job has the lock.

        A lock whose job was removed by another program is ended, if that is certain; `now` is in
        epoch seconds.
        """
        script = scripts.load(self.client, "push_unique")
        keys: list[Key] = [self.keys.unique(digest), self.keys.unique_job(digest)]
        keys += [self.keys.queues, self.keys.queue(job.queue)]
        args = [lock, ms, spelt(job.queue), job.payload, *job.fields()]
        return self._locked(digest, now, lambda: script(keys=keys, args=args))

    def delay(self, digest: str, lock: str, ms: int, job: UniqueJob, now: float) -> bool:
        """The same for a payload that is delayed until its `due`."""
        assert job.due is not None
        script = scripts.load(self.client, "delay_unique")
        keys: list[Any] = [self.keys.unique(digest), self.keys.unique_job(digest)]
        keys += [self.keys.delayed(job.due), self.keys.timestamps(job.payload)]
        name = self.keys.delayed_name(job.due)
        args = [lock, ms, job.due, name, job.payload, *job.fields()]
        return self._locked(
            digest, now, lambda: script(keys=[*keys, self.keys.delayed_schedule], args=args)
        )

    def _locked(self, digest: str, now: float, lock: Callable[[], Any]) -> bool:
        # None in a batch, where the reply is not known yet.
        return lock() != 0 or (self.end_if_gone(digest, now) and lock() != 0)

    def end_if_gone(self, digest: str, now: float) -> bool:
        """End a lock whose job no longer exists; False if it exists, if that is not certain, or if
        the lock was checked within the last CHECK_EVERY seconds.
        """
        keys = [self.keys.unique(digest), self.keys.unique_job(digest), self.keys.workers]
        prefixes = [self.keys.queue(""), self.keys.worker(""), self.keys.timestamps_prefix]
        args = [int(now), CHECK_EVERY, *prefixes, self.keys.prefix]
        script = scripts.load(self.client, "check_unique")
        keys += [self.keys.pops, self.keys.moves, self.keys.process_starts]
        return bool(script(keys=keys, args=args))

    def note_pops(self) -> None:
        """Note that this process pops jobs, each of which is in no key for a moment."""
        if time.monotonic() >= self._next_note:
            # A full server stores neither this note nor a duplicate, and pops free its memory.
            with contextlib.suppress(CannotWriteNow):
                self.client.set(self.keys.pops, "1", ex=POPS_KNOWN)
            self._next_note = time.monotonic() + POPS_EVERY

    def leave(self, digest: str) -> None:
        """Keep a lock until its TTL, whether or not its job exists: the caller popped the job to
        run it itself.
        """
        self.client.delete(self.keys.unique_job(digest))

    def keep(self, digest: str, lock: str, ms: int, job: UniqueJob, prolong: bool) -> None:
        """Lock a job that waits again; `prolong`: an existing lock gets the new TTL too."""
        keys = [self.keys.unique(digest), self.keys.unique_job(digest)]
        args = [lock, ms, int(prolong), *job.fields()]
        scripts.load(self.client, "keep_unique")(keys=keys, args=args)

    def release(self, digest: str, stage: str, enqueued: float | None) -> None:
        """End the lock of a job that has reached `stage`, unless a later job has it."""
        script = scripts.load(self.client, "release_unique")
        since = "" if enqueued is None else repr(enqueued)
        keys = [self.keys.unique(digest), self.keys.unique_job(digest)]
        script(keys=keys, args=[stage, since])

    def forget(self, digests: Iterable[str]) -> None:
        """End locks, whichever job has them."""
        names = [
            key
            for digest in digests
            for key in (self.keys.unique(digest), self.keys.unique_job(digest))
        ]
        if names:
            self.client.delete(*names)
