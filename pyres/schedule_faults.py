"""Which schedule entries cannot be fired here and why, and to which queues the others go."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from pyres import json_parser, loading
from pyres.exceptions import BadOptionError, BadScheduleError, UndecodableError
from pyres.schedule import STORED, Entry
from pyres.store import Schedules


@dataclasses.dataclass(frozen=True, slots=True)
class EntryFault:
    """Why an entry is not active; `source` is code, file or Redis."""

    text: str
    source: str

    def encoded(self) -> bytes:
        """The JSON that is published."""
        return json_parser.encode_again(dataclasses.asdict(self))

    @classmethod
    def read(cls, raw: bytes) -> EntryFault | None:
        """The fault that encoded() wrote; None for anything else."""
        try:
            fault = cls(**json_parser.loads(raw))
        except (TypeError, UndecodableError):
            return None
        return fault if isinstance(fault.text, str) and isinstance(fault.source, str) else None


class Faults:
    """The faults of the entries of one scheduler, and the publication of them.

    It replaces the published faults of entries in Redis if `stored`, of code and files if `static`.
    """

    def __init__(self, schedules: Schedules, *, stored: bool, static: bool) -> None:
        self._schedules = schedules
        self._stored = stored
        self._static = static
        self._faults: dict[str, EntryFault] = {}
        #: The faults that are published; None until those of former masters are read.
        self._published: dict[str, EntryFault] | None = None

    def begin(self, faults: Mapping[str, EntryFault]) -> None:
        """Set the faults; publish() will replace all that are published."""
        self._faults = dict(faults)
        self._published = None

    def change(self, names: Iterable[str], faults: Mapping[str, EntryFault]) -> None:
        """Replace the faults of the entries `names` by these."""
        for name in names:
            self._faults.pop(name, None)
        self._faults |= faults

    def publish(self) -> None:
        """Publish what has changed."""
        if self._published is None:
            self._published = self._published_by_others()
        if self._faults == self._published:
            return
        changed = {
            name: fault.encoded()
            for name, fault in self._faults.items()
            if self._published.get(name) != fault
        }
        removed = sorted(self._published.keys() - self._faults.keys())
        self._schedules.publish_faults(changed, removed)
        self._published = dict(self._faults)

    def publish_again(self) -> None:
        """Publish again the faults that were removed from Redis."""
        missing = self._faults.keys() - self._schedules.faults().keys()
        if missing:
            faults = {name: self._faults[name].encoded() for name in sorted(missing)}
            self._schedules.publish_faults(faults)

    def _published_by_others(self) -> dict[str, EntryFault]:
        faults = {name: EntryFault.read(raw) for name, raw in self._schedules.faults().items()}
        return {
            name: fault or EntryFault("", "")
            for name, fault in faults.items()
            if fault is None or (self._stored if fault.source == STORED else self._static)
        }


class Destinations:
    """The classes and queues of entries; `queue_for` has the queues of classes unknown here."""

    def __init__(self, queue_for: Mapping[str, str] | None = None) -> None:
        self._queue_for = dict(queue_for or {})

    def of(self, entry: Entry) -> tuple[Any, str]:
        """The class, if it is imported here, and the queue. Raises BadScheduleError for an entry
        that cannot be fired here. The class is imported only to read its queue.
        """
        entry.check_supported()
        queue = entry.queue or self._queue_for.get(entry.klass)
        return (loading.loaded(entry.klass), queue) if queue else self._from_class(entry)

    @staticmethod
    def _from_class(entry: Entry) -> tuple[Any, str]:
        left_out = f"the schedule entry {entry.name!r} is left out"
        remedy = f"set it with --queue-for {entry.klass}=QUEUE"
        try:
            target = loading.safe_str_to_class(entry.klass)
        except Exception as error:  # noqa: BLE001 - an import may run any code
            reason = f"its class cannot be imported: {type(error).__name__}: {error}"
            raise BadScheduleError(
                f"{left_out}: it names no queue, and {reason}; {remedy}"
            ) from None
        queue = getattr(target, "queue", None)
        if not isinstance(queue, str) or not queue:
            raise BadScheduleError(
                f"{left_out}: neither it nor {entry.klass} names a queue; {remedy}"
            )
        return target, queue


def queues_for(texts: Iterable[str]) -> dict[str, str]:
    """The queues of classes, from texts like `Report=mail`. BadOptionError for any other text."""
    queues = {}
    for text in texts:
        klass, _, queue = text.rpartition("=")
        if not klass.strip() or not queue.strip():
            raise BadOptionError(f"invalid --queue-for {text!r}: expected Class=queue")
        queues[klass.strip()] = queue.strip()
    return queues
