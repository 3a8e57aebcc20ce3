"""The failure record that another program wrote of a job whose worker it had declared dead."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from pyres import payload
from pyres.failure.records import record_of
from pyres.store.failed import NEWEST
from pyres.times import moment

if TYPE_CHECKING:
    from pyres.client import ResQ

#: The exceptions of such records, each with whether its writer has counted the failure, and the job
#: as processed: of Resque's prune, of node-resque's, and of pyres 2.0.0, which left no note.
PRUNERS = {
    "Resque::DirtyExit": (False, False),
    "Resque::PruneDeadWorkerDirtyExit": (False, False),
    "Worker Timeout (killed manually)": (True, False),
    "DirtyExitError": (True, True),
    "PruneDeadWorkerDirtyExitError": (True, True),
}

#: Seconds by which the clock of the writer's host may be behind.
CLOCK_DIFFERENCE = 300


class Running(NamedTuple):
    """The job: the id of its worker, its queue, the bytes of its payload and its run_at."""

    worker_id: str
    queue: str
    payload: bytes
    run_at: object


class Declared(NamedTuple):
    """A record that was found: the name of its list, its bytes, what its writer has counted, and
    whether it was retried since.
    """

    name: str
    raw: bytes
    failed: bool
    processed: bool
    retried: bool


def find(resq: ResQ, running: Running) -> Declared | None:
    """The newest record by which somebody else declared this job dead, or None."""
    for name, raw in _newest(resq, running.queue):
        record = record_of(raw)
        if _is_of(record, running):
            failed, processed = PRUNERS[record["exception"]]
            return Declared(name, raw, failed, processed, bool(record.get("retried_at")))
    return None


def _newest(resq: ResQ, queue: str) -> Iterator[tuple[str, bytes]]:
    store = resq.store.failed
    for name in ("failed", resq.store.keys.failed_name(queue)):
        pages = store.pages_down(store.count(name), NEWEST, name)
        records = (raw for _, page in pages for raw in reversed(page))
        yield from ((name, raw) for raw in itertools.islice(records, NEWEST))


def _is_of(record: dict[str, Any], running: Running) -> bool:
    # node-resque leaves the queues out.
    names = (running.worker_id, ":".join(running.worker_id.split(":", 2)[:2]))
    if str(record["exception"]) not in PRUNERS or record["worker"] not in names:
        return False
    written, began = moment(record["failed_at"]), moment(running.run_at)
    if written is not None and began is not None and written < began - CLOCK_DIFFERENCE:
        return False  # of an earlier run of an equal job
    queue, wanted = record["queue"], payload.show(running.payload)
    return bool(queue == running.queue) and _text(record["payload"]) == _text(wanted)


def _text(value: Any) -> str:
    """The same text for what is equal in JSON."""
    return json.dumps(value, sort_keys=True, default=str)
