"""Unique locks: while one stands, a job like the one it was made for is not enqueued again."""

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

#: Seconds for which a process that pops jobs is known, and after which it says so again.
POPS_KNOWN, POPS_EVERY = 15, 5


class UniqueJob(NamedTuple):
    """A payload that has a lock, and where it is. `name` and `args` are the indexes from 1 of the
    first and last byte of its class and of the member args, with a blank between; `due` is when it
    leaves the delayed jobs; `respelt` whether another program may write its arguments otherwise.
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
        known = [*("queue", spelt(self.queue)), *("payload", self.payload), *("due", due)]
        return [*known, *("class", self.name), *("args", self.args), "respelt", int(self.respelt)]


class Unique:
    """One key with a deadline for each class and arguments; `digest` says which, `ms` how long."""

    #: The monotonic time from which on note_pops() says so again.
    _next_note = 0.0

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def push(self, digest: str, lock: str, ms: int, job: UniqueJob, now: float) -> bool:
        """Append a payload to its queue and lock it for `ms`; False when another has the lock.

        A lock whose job was removed by others ends, where that is certain; `now` are epoch seconds.
        """
        script = scripts.load(self.client, "push_unique")
        keys: list[Key] = [self.keys.unique(digest), self.keys.unique_job(digest)]
        keys += [self.keys.queues, self.keys.queue(job.queue)]
        args = [lock, ms, spelt(job.queue), job.payload, *job.fields()]
        return self._locked(digest, now, lambda: script(keys=keys, args=args))

    def delay(self, digest: str, lock: str, ms: int, job: UniqueJob, now: float) -> bool:
        """push() of a payload that waits until its `due`."""
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
        # In a batch nobody knows yet.
        return lock() != 0 or (self.end_if_gone(digest, now) and lock() != 0)

    def end_if_gone(self, digest: str, now: float) -> bool:
        """End a lock whose job is nowhere any more; False as well when that is not certain, or was
        looked for within the last seconds.
        """
        keys = [self.keys.unique(digest), self.keys.unique_job(digest), self.keys.workers]
        prefixes = [self.keys.queue(""), self.keys.worker(""), self.keys.timestamps_prefix]
        args = [int(now), CHECK_EVERY, *prefixes, self.keys.prefix]
        script = scripts.load(self.client, "check_unique")
        keys += [self.keys.pops, self.keys.moves, self.keys.process_starts]
        return bool(script(keys=keys, args=args))

    def note_pops(self) -> None:
        """Say that this process pops jobs, which for a moment stand in no key."""
        if time.monotonic() >= self._next_note:
            # A full server takes neither this nor a duplicate, but is emptied by pops.
            with contextlib.suppress(CannotWriteNow):
                self.client.set(self.keys.pops, "1", ex=POPS_KNOWN)
            self._next_note = time.monotonic() + POPS_EVERY

    def leave(self, digest: str) -> None:
        """Never look again for the job that has the lock: somebody popped it for himself."""
        self.client.delete(self.keys.unique_job(digest))

    def keep(self, digest: str, lock: str, ms: int, job: UniqueJob, prolong: bool) -> None:
        """Lock what waits again; `prolong`: a lock that stands gets the new deadline too."""
        keys = [self.keys.unique(digest), self.keys.unique_job(digest)]
        args = [lock, ms, int(prolong), *job.fields()]
        scripts.load(self.client, "keep_unique")(keys=keys, args=args)

    def release(self, digest: str, stage: str, enqueued: float | None) -> None:
        """End the lock of a job that has come to `stage`, unless it is that of a later job."""
        script = scripts.load(self.client, "release_unique")
        since = "" if enqueued is None else repr(enqueued)
        keys = [self.keys.unique(digest), self.keys.unique_job(digest)]
        script(keys=keys, args=[stage, since])

    def forget(self, digests: Iterable[str]) -> None:
        """End locks, whosever they are."""
        names = [
            key
            for digest in digests
            for key in (self.keys.unique(digest), self.keys.unique_job(digest))
        ]
        if names:
            self.client.delete(*names)
