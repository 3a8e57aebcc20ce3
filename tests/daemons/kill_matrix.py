"""The kill matrix: which process is stopped at which step, and the outcome of the job.

docs/reliability.md has the same table; test_kill_matrix.py tests each cell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from pyres.store import scripts
from tests.daemons.kill_jobs import OWN_ERROR

#: Kinds of faults, as the columns of the table are called.
KILLED = "killed"
STOPPED = "stopped, then continued"
SILENT = "stopped for more than 300 s"
CUT = "connection cut"


class Outcome(NamedTuple):
    """The outcome of a job: how often it ends, and the exceptions that its failure may have.

    `waits`: whether it waits on its queue after the fault, before another process works.
    """

    text: str
    ended: int = 1
    failures: tuple[str, ...] = ()
    waits: bool | None = None


CRASHES = ("CrashError", "DirtyExitError")

DONE = Outcome("done once")
WAITS = Outcome("waits on its queue, then done once", waits=True)
RETRIED = Outcome("retried once, and done")
FAILED = Outcome("failed once, with its own error", 0, ("ValueError",))
CRASHED = Outcome("failed once: its process died", 0, CRASHES)
DIED = Outcome(CRASHED.text, 0, (*CRASHES, "PruneDeadWorkerDirtyExitError"))
BOTH = Outcome("done, and also recorded as failed", 1, CRASHES)

ENQUEUED = Outcome("on its queue once")
STORED = Outcome("stored once")
NOT_STORED = Outcome("not stored", 0)
RAISES = Outcome("not stored; the call raises", 0, ("ConnectionError",))
UNKNOWN = Outcome("stored once; the call raises", 1, ("ConnectionError",))
FIRED = Outcome("each moment enqueued once")


class At(NamedTuple):
    """Where a process is stopped: before a request that contains these bytes, after the server has
    carried it out but before the reply, or at a place in the code.
    """

    request: bytes = b""
    after: bool = False
    place: str = ""


#: The scripts at which a process is stopped. The server must have loaded them: else it refuses the
#: first request for one.
SCRIPTS: set[str] = set()


def before(request: bytes | str) -> At:
    return At(_bytes(request))


def after(request: bytes | str) -> At:
    return At(_bytes(request), after=True)


def place(name: str) -> At:
    return At(place=name)


def _bytes(request: bytes | str) -> bytes:
    if isinstance(request, bytes):
        return request
    SCRIPTS.add(request)
    return scripts.sha(request).encode()


#: Bytes in requests, or the name of a script.
JOINS = "register"
LEAVES = b"SREM\r\n$14\r\nresque:workers\r\n"
KHAN_JOINS = "register_khan"
KHAN_LEAVES = b"SREM\r\n$12\r\nresque:khans\r\n"
#: `fetch` with the flag that the previous job is finished, before the time, which has 20 bytes.
COUNTS = b"$1\r\n1\r\n$20\r\n"
FAILS = OWN_ERROR.encode()
RETRIES = b"retry_attempt"
#: A failure record of a job whose process died.
DIES = b'"CrashError"'


class Row(NamedTuple):
    """One step of a process: where it is stopped, and the outcome of the job after each fault.

    `job` is a class of kill_jobs. `of_parent`: the fault is done to the parent of the process that
    reaches the step.
    """

    process: str
    step: str
    at: At
    outcomes: dict[str, Outcome]
    job: str = "Traced"
    of_parent: bool = False


class Cell(NamedTuple):
    """One fault of one row; `main`: the one of its process and kind that `make test` runs."""

    row: Row
    fault: str
    main: bool

    @property
    def name(self) -> str:
        return re.sub(r"\W+", "-", f"{self.row.process} {self.row.step} {self.fault}")


def _all(
    outcome: Outcome, killed: Outcome | None = None, silent: Outcome | None = None
) -> dict[str, Outcome]:
    more = {} if silent is None else {SILENT: silent}
    return {KILLED: killed or outcome, STOPPED: outcome, **more, CUT: outcome}


WORKER = [
    Row("worker", "registers, before the request", before(JOINS), _all(DONE, WAITS)),
    Row("worker", "registers, before the reply", after(JOINS), _all(DONE, WAITS, DONE)),
    Row("worker", "fetches the job, before the request", before("fetch"), _all(DONE, WAITS, DONE)),
    Row("worker", "has fetched it, before the reply", after("fetch"), _all(DONE, CRASHED, DONE)),
    Row("worker", "is about to fork", place("before fork"), _all(DONE, CRASHED, DONE)),
    Row("worker", "has forked", place("after fork"), _all(DONE, BOTH, DONE)),
    Row(
        "worker",
        "waits while the job runs",
        place("perform"),
        _all(DONE, BOTH, DONE),
        of_parent=True,
    ),
    Row(
        "worker",
        "records that the job's process died, before the request",
        before(DIES),
        _all(CRASHED, silent=DIED),
        "Crashing",
        of_parent=True,
    ),
    Row(
        "worker",
        "records that the job's process died, before the reply",
        after(DIES),
        _all(CRASHED, silent=DIED),
        "Crashing",
        of_parent=True,
    ),
    Row("worker", "counts the job, before the request", before(COUNTS), _all(DONE, BOTH, DONE)),
    Row("worker", "counts the job, before the reply", after(COUNTS), _all(DONE, silent=DONE)),
    Row("worker", "unregisters, before the request", before(LEAVES), _all(DONE, silent=DONE)),
    Row("worker", "unregisters, before the reply", after(LEAVES), _all(DONE)),
]

STANDBY = [
    Row("standby child", "waits for its job", place("is ready"), _all(DONE)),
    Row(
        "standby child",
        "has received its job",
        place("is given its job"),
        _all(DONE, CRASHED),
    ),
]


def _performer(process: str) -> list[Row]:
    """The steps of a process that performs jobs: a job's process, or a minion."""
    return [
        Row(process, "is in a before_perform hook", place("before hook"), _all(DONE, CRASHED)),
        Row(process, "performs", place("perform"), _all(DONE, CRASHED)),
        Row(
            process,
            "performs a job with retry_dirty_exit",
            place("perform"),
            _all(DONE, RETRIED),
            "Repeatable",
        ),
        Row(process, "is in an after_perform hook", place("after hook"), _all(DONE, BOTH)),
        Row(
            process,
            "records the failure, before the request",
            before(FAILS),
            _all(FAILED, CRASHED),
            "Failing",
        ),
        Row(
            process, "records the failure, before the reply", after(FAILS), _all(FAILED), "Failing"
        ),
        Row(
            process,
            "writes the retry, before the request",
            before(RETRIES),
            _all(RETRIED, CRASHED),
            "Retried",
        ),
        Row(
            process, "writes the retry, before the reply", after(RETRIES), _all(RETRIED), "Retried"
        ),
        Row(
            process,
            "releases the unique lock, before the request",
            before("release_unique"),
            _all(DONE, BOTH),
            "Unique",
        ),
        Row(
            process,
            "releases the unique lock, before the reply",
            after("release_unique"),
            _all(DONE, BOTH),
            "Unique",
        ),
    ]


CHILD = [
    Row("job's process", "starts", place("process starts"), _all(DONE, CRASHED)),
    *_performer("job's process"),
    Row("job's process", "reports that it is done", place("before report"), _all(DONE, BOTH)),
]

MINION = [
    Row("minion", "registers, before the request", before(JOINS), _all(DONE)),
    Row("minion", "registers, before the reply", after(JOINS), _all(DONE)),
    Row("minion", "fetches the job, before the request", before("fetch"), _all(DONE)),
    Row("minion", "has fetched it, before the reply", after("fetch"), _all(DONE, CRASHED)),
    *_performer("minion"),
    Row("minion", "counts the job, before the request", before(COUNTS), _all(DONE, BOTH)),
    Row("minion", "counts the job, before the reply", after(COUNTS), _all(DONE)),
    Row("minion", "unregisters, before the request", before(LEAVES), _all(DONE)),
    Row("minion", "unregisters, before the reply", after(LEAVES), _all(DONE)),
]

MANAGER = [
    Row("manager", "registers, before the request", before(KHAN_JOINS), _all(DONE)),
    Row("manager", "registers, before the reply", after(KHAN_JOINS), _all(DONE)),
    Row("manager", "is about to fork a minion", place("before fork"), _all(DONE, WAITS)),
    Row("manager", "has forked a minion", place("after fork"), _all(DONE)),
    Row("manager", "has a minion that performs", place("perform"), _all(DONE), of_parent=True),
    Row(
        "manager",
        "records that a minion died, before the request",
        before(DIES),
        _all(CRASHED),
        "Crashing",
        of_parent=True,
    ),
    Row(
        "manager",
        "records that a minion died, before the reply",
        after(DIES),
        _all(CRASHED),
        "Crashing",
        of_parent=True,
    ),
    Row("manager", "unregisters, before the request", before(KHAN_LEAVES), _all(DONE)),
    Row("manager", "unregisters, before the reply", after(KHAN_LEAVES), _all(DONE)),
]

SCHEDULER = [
    Row(
        "scheduler", "takes the lock, before the request", before("scheduler_lock"), _all(ENQUEUED)
    ),
    Row("scheduler", "takes the lock, before the reply", after("scheduler_lock"), _all(ENQUEUED)),
    Row(
        "scheduler", "promotes a delayed job, before the request", before("promote"), _all(ENQUEUED)
    ),
    Row("scheduler", "promotes a delayed job, before the reply", after("promote"), _all(ENQUEUED)),
    Row("scheduler", "fires an entry, before the request", before("fire"), _all(FIRED)),
    Row("scheduler", "fires an entry, before the reply", after("fire"), _all(FIRED)),
    Row(
        "scheduler",
        "releases the lock, before the request",
        before("scheduler_unlock"),
        _all(ENQUEUED),
    ),
    Row(
        "scheduler",
        "releases the lock, before the reply",
        after("scheduler_unlock"),
        _all(ENQUEUED),
    ),
]


def _call(step: str, script: str, job: str = "Traced") -> list[Row]:
    """The two steps of a call by which a client enqueues."""
    return [
        Row(
            "client",
            f"{step}, before the request",
            before(script),
            {KILLED: NOT_STORED, STOPPED: STORED, CUT: RAISES},
            job,
        ),
        Row(
            "client",
            f"{step}, before the reply",
            after(script),
            {KILLED: STORED, STOPPED: STORED, CUT: UNKNOWN},
            job,
        ),
    ]


CLIENT = [
    *_call("enqueues a job", "push"),
    *_call("enqueues a unique job", "push_unique", "Unique"),
    *_call("delays a job", "delay"),
]

ROWS = [*WORKER, *CHILD, *STANDBY, *MINION, *MANAGER, *SCHEDULER, *CLIENT]

#: The step of each process that `make test` runs.
MAIN = {
    "worker": "has fetched it, before the reply",
    "job's process": "records the failure, before the request",
    "standby child": "waits for its job",
    "minion": "has fetched it, before the reply",
    "manager": "records that a minion died, before the request",
    "scheduler": "promotes a delayed job, before the reply",
    "client": "enqueues a job, before the reply",
}


def cells() -> Iterator[Cell]:
    """Every cell of the table."""
    for row in ROWS:
        for fault in row.outcomes:
            yield Cell(row, fault, main=MAIN[row.process] == row.step)


def parts() -> Iterator[tuple[str, str]]:
    """The part of each process, as docs/reliability.md shows it."""
    return ((process, _part(process)) for process in MAIN)


def _part(process: str) -> str:
    rows = [row for row in ROWS if row.process == process]
    faults = [
        fault
        for fault in (KILLED, STOPPED, SILENT, CUT)
        if any(fault in row.outcomes for row in rows)
    ]
    lines = [[f"the {process} ...", *faults], ["---"] * (len(faults) + 1)]
    for row in rows:
        lines.append([row.step, *(_text(row, fault) for fault in faults)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _text(row: Row, fault: str) -> str:
    return row.outcomes[fault].text if fault in row.outcomes else "-"
