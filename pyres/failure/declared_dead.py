"""Failure records that another program wrote for a job of a worker that it declared dead."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from pyres import json_equality, payload
from pyres.exceptions import UndecodableError, UnencodableError
from pyres.failure.records import payload_bytes, record_of
from pyres.in_flight import InFlight
from pyres.store import without_queues
from pyres.store.failed import NEWEST
from pyres.times import moment

if TYPE_CHECKING:
    from pyres.client import ResQ

#: The exceptions of such records, each with whether its writer has counted the job as failed, and
#: as processed: those of Resque's prune, of node-resque, and of pyres 2.0.0.
PRUNERS = {
    "Resque::DirtyExit": (False, False),
    "Resque::PruneDeadWorkerDirtyExit": (False, False),
    "Worker Timeout (killed manually)": (True, False),
    "DirtyExitError": (True, True),
    "PruneDeadWorkerDirtyExitError": (True, True),
}

#: Seconds by which the clock of the writer's host may be slow.
CLOCK_DIFFERENCE = 300


class Declared(NamedTuple):
    """Such a record: its list and bytes, whether its writer has counted the job as failed and as
    processed, and whether it has been retried.
    """

    name: str
    raw: bytes
    failed: bool
    processed: bool
    retried: bool


def find(resq: ResQ, worker_id: str, running: InFlight) -> Declared | None:
    """The newest record by which another program declared this worker's job dead, or None."""
    names = (worker_id, without_queues(worker_id))  # the second is node-resque's
    for name, raw in _newest(resq, running.queue):
        record = record_of(raw)
        if record["worker"] in names and _is_of(record, running) and _has_payload(raw, running):
            failed, processed = PRUNERS[record["exception"]]
            return Declared(name, raw, failed, processed, bool(record.get("retried_at")))
    return None


def _newest(resq: ResQ, queue: str) -> Iterator[tuple[str, bytes]]:
    store = resq.store.failed
    for name in ("failed", resq.store.keys.failed_name(queue)):
        pages = store.pages_down(store.count(name), NEWEST, name)
        records = (raw for _, page in pages for raw in reversed(page))
        yield from ((name, raw) for raw in itertools.islice(records, NEWEST))


def _is_of(record: dict[str, Any], running: InFlight) -> bool:
    if str(record["exception"]) not in PRUNERS or record["queue"] != running.queue:
        return False
    written, began = moment(record["failed_at"]), moment(running.run_at)
    # An older record is for an earlier run of an equal job.
    return written is None or began is None or written >= began - CLOCK_DIFFERENCE


def _has_payload(raw: bytes, running: InFlight) -> bool:
    try:
        return json_equality.are_equal(payload_bytes(raw), payload.original(running.payload))
    except (UndecodableError, UnencodableError):
        return False
