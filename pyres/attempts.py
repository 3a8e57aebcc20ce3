"""How often a job was tried: the number in its payload, else a record that pyres keeps in Redis."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pyres import json_equality, retrying
from pyres.exceptions import UnencodableError
from pyres.store import MAX_AHEAD, Earlier, Store


class Attempts:
    """The attempts of one job before the current one.

    A payload without a number may be a retry that another scheduler has promoted, unless it has an
    enqueue_timestamp, which such a scheduler drops.
    """

    def __init__(self, payload: Any, worker: Any) -> None:
        self._payload: dict[str, Any] = payload if isinstance(payload, dict) else {}
        self._worker = worker
        self._earlier: Earlier | None = None
        self._was_looked_for = False

    @property
    def own_number(self) -> int | None:
        """The payload's own count of retries; None without one, or where it is not a number."""
        number = self._payload.get("retry_attempt")
        if not isinstance(number, int) or isinstance(number, bool):
            return None
        return max(0, number)

    @property
    def retried(self) -> int:
        """How often the job was retried so far."""
        if self.own_number is not None:
            return self.own_number
        return self._earlier.attempts if self._earlier else 0

    def first(self, now: datetime) -> datetime:
        """When the job was tried first; `now` where that is unknown."""
        # A time from a clock that was ahead is ignored: retry_timeout would not end.
        latest = now.timestamp() + MAX_AHEAD
        own = self._payload.get("first_attempt")
        if isinstance(own, datetime):
            return own if own.timestamp() <= latest else now.replace(microsecond=0)
        if self._earlier and self._earlier.first <= latest:
            return datetime.fromtimestamp(self._earlier.first)
        return now.replace(microsecond=0)

    def may_be_retry(self, target: Any) -> bool:
        """Whether this may be a retry; `target` is the class, None if it is unknown."""
        if self.own_number is not None:
            return True
        if "enqueue_timestamp" in self._payload and "first_attempt" not in self._payload:
            return False
        return target is None or retrying.is_retried(target)

    def look(self, store: Store, now: datetime) -> None:
        """Read the record of earlier attempts, and mark it as held by this job's worker."""
        if digest := self._digest():
            self._earlier = store.attempts.hold(digest, *self._known(now))
        self._was_looked_for = True

    def end(self, store: Store, now: datetime) -> None:
        """Delete the record: the job has succeeded, or has failed for good."""
        digest = self._digest()
        if digest is None:
            return
        if not self._was_looked_for:
            store.attempts.end(digest, *self._known(now))
        elif self._earlier:
            store.attempts.drop(digest, self._earlier.token)

    def keep(
        self, store: Store, target: Any, payload: bytes, due: int | None, first: datetime
    ) -> None:
        """Record one more attempt, and that this payload waits for the next."""
        digest = self._digest()
        if digest is None or due is None:
            return
        if self._earlier:
            store.attempts.drop(digest, self._earlier.token)
        longest = retrying.longest_delay(target)
        began = int(first.timestamp())
        store.attempts.keep(digest, self.retried + 1, began, due, payload, longest)

    def _known(self, now: datetime) -> tuple[str, float, int | None, int | None]:
        own = self._payload.get("first_attempt")
        first = int(own.timestamp()) if isinstance(own, datetime) else None
        worker = "" if self._worker is None else str(self._worker)
        return worker, now.timestamp(), self.own_number, first

    def _digest(self) -> str | None:
        name, args = self._payload.get("class"), self._payload.get("args")
        if not isinstance(name, str) or not isinstance(args or [], list):
            return None
        return digest(name, args or [])


def digest(name: str, args: Sequence[Any]) -> str | None:
    """A digest that equal jobs share, whichever program wrote them; None if not comparable."""
    try:
        return json_equality.digest(name, args, javascript=True)
    except (UnencodableError, RecursionError):
        return None
