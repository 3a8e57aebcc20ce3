"""The golden data, and the three tables by which a whole keyspace is compared with it.

RULES are normalisations of both sides, DIFFERS_ON_PURPOSE are intended differences of pyres from
Ruby (an edit of the golden side, with the reason), NOT_OURS are files about features that pyres
does not have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from redis import Redis

from tests.servers import keyspace

Dump = dict[str, dict[str, Any]]

GOLDEN = Path(__file__).parent / "golden"


class Rule(NamedTuple):
    """In the strings of keys that match `key`, what matches `value` is written as `as_`."""

    what: str
    key: str
    value: str
    as_: str


#: What no two runs have in common. A zone, and the form of a time, is none of it: they stay.
RULES = [
    Rule(
        "when a job was fetched",
        r"^resque:worker:",
        r'"run_at":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"',
        '"run_at":"TIME Z"',
    ),
    Rule(
        "when a job failed, or was requeued",
        r"failed$",
        r'"(failed_at|retried_at)":"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d',
        r'"\1":"TIME',
    ),
    Rule(
        "when a worker sent a heartbeat",
        r"^resque:workers:heartbeat$",
        r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?=[+-]\d\d:\d\d$)",
        "TIME",
    ),
    Rule(
        "when a schedule entry fired",
        r"^resque:delayed:last_enqueued_at$",
        r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?= [+-]\d{4}$)",
        "TIME",
    ),
    Rule(
        "the ranges of the moments fired",
        r"^resque:pyres:schedule_ranges$",
        r"^\d{10}\.\.\d{10}$",
        "EPOCH",
    ),
    Rule("the last moment fired", r"^resque:pyres:schedule_fired$", r"^\d{10}$", "EPOCH"),
    Rule("the holder of the lock", r"master_lock$", r"^[\w.-]+:\d+$", "HOST:PID"),
    Rule("when a worker started", r":started$", r"^\d{10}$", "EPOCH"),
    Rule(
        "the folders that a worker imports from",
        r"failed$",
        r"(there is no module '\w+') in [^;]+;",
        r"\1 in FOLDERS;",
    ),
    Rule(
        "the lines of a backtrace; an empty one is compared",
        r"failed$",
        r'"backtrace":\[".*?"\],"worker"',
        '"backtrace":["LINES"],"worker"',
    ),
]

#: The longest TTL of a key; how much of it has passed differs from run to run.
DEADLINES = {
    "resque:pruning_dead_workers_in_progress": 60,
    "resque:resque:resque_scheduler_master_lock": 180,
}

#: `host:pid` of a golden worker.
_RUBY_WORKER = re.compile(r"\bvm:(\d+)")


class Difference(NamedTuple):
    """An edit of the golden dump after which it is what pyres leaves, and why."""

    files: tuple[str, ...]
    reason: str
    edit: Callable[[Dump], None]


def golden(name: str) -> dict[str, Any]:
    """A golden file."""
    loaded: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
    return loaded


def names() -> list[str]:
    """All golden files."""
    return sorted(path.stem for path in GOLDEN.glob("*.json"))


def restore(redis: Redis, dump: Dump) -> None:
    """Write the keys of a dump into a server; the other way round than keyspace()."""
    for key, held in dump.items():
        _WRITE[held["type"]](redis, key, held)
        if "ttl" in held:
            redis.expire(key, held["ttl"])


_WRITE: dict[str, Callable[[Redis, str, dict[str, Any]], Any]] = {
    "string": lambda redis, key, held: redis.set(key, held["value"]),
    "list": lambda redis, key, held: redis.rpush(key, *held["values"]),
    "set": lambda redis, key, held: redis.sadd(key, *held["values"]),
    "hash": lambda redis, key, held: redis.hset(key, mapping=held["fields"]),
    "zset": lambda redis, key, held: redis.zadd(
        key, {member: float(score) for member, score in held["members"]}
    ),
}


#: Keys of pyres' own, which no other program reads.
OWN = {
    "resque:pyres:schedule",
    "resque:pyres:process_starts",
    "resque:pyres:beats",
    "resque:pyres:khan_heartbeats",
}


def assert_as_golden(redis: Redis, name: str, workers: Iterable[str] = ()) -> None:
    """The whole keyspace is what Ruby left, except for the tables above.

    `workers`: `host:pid` of the workers in the order of the golden pids. A key in Redis that is not
    in the golden file fails, as does a missing one.
    """
    found = keyspace(redis)
    found = {key: value for key, value in found.items() if key not in OWN}
    assert normal(found, list(workers)) == expected(name)


def expected(name: str) -> Dump:
    """The golden keyspace as pyres is to leave it, normalised."""
    dump = golden(name)["redis"]
    for difference in DIFFERS_ON_PURPOSE:
        if name in difference.files or difference.files == EVERY:
            difference.edit(dump)
    return normal(dump, ruby_workers(dump))


def ruby_workers(dump: Dump) -> list[str]:
    """`host:pid` of the workers in a golden dump, by pid."""
    pids = set(map(int, _RUBY_WORKER.findall(json.dumps(dump))))
    return [f"vm:{pid}" for pid in sorted(pids)]


def normal(dump: Dump, workers: list[str]) -> Dump:
    """The dump under RULES and DEADLINES, its workers named by their place in `workers`."""
    for place, worker in enumerate(workers):
        dump = renamed(dump, f"{worker}:", f"HOST:PID{place}:")
    return {key: _normal(held, key) for key, held in dump.items()}


def renamed(dump: Dump, old: str, new: str) -> Dump:
    """The dump with one text in the place of another in all its keys and values."""
    renamed: Dump = _mapped(dump, lambda text: text.replace(old, new))
    return renamed


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    if isinstance(value, dict):
        return {change(field): _mapped(item, change) for field, item in value.items()}
    return value


def _normal(held: dict[str, Any], key: str) -> dict[str, Any]:
    held = dict(held)
    if key in DEADLINES and 0 < held.get("ttl", 0) <= DEADLINES[key]:
        held["ttl"] = f"<= {DEADLINES[key]}"
    for rule in RULES:
        if re.search(rule.key, key):
            held = {
                field: _mapped(item, lambda text, rule=rule: re.sub(rule.value, rule.as_, text))
                for field, item in held.items()
            }
    return held


# The edits


def _started_as_epoch(dump: Dump) -> None:
    for key, held in dump.items():
        if key.endswith(":started"):
            assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", held["value"])
            held["value"] = "EPOCH"


def _count(stat: str, more: int = 1) -> Callable[[Dump], None]:
    """A counter that is higher by some; with `<worker>` for the one worker that is registered."""

    def edit(dump: Dump) -> None:
        key = stat.replace("<worker>", dump.get("resque:workers", {}).get("values", [""])[0])
        held = dump.setdefault(f"resque:{key}", {"type": "string", "value": "0"})
        held["value"] = str(int(held["value"]) + more)

    return edit


def _record(index: int, **fields: Any) -> Callable[[Dump], None]:
    """A failure record some of whose fields differ."""

    def edit(dump: Dump) -> None:
        values = dump["resque:failed"]["values"]
        record = json.loads(values[index])
        assert _compact(record) == values[index]
        assert set(fields) <= set(record)
        values[index] = _compact({**record, **fields})

    return edit


def _one_more_record(**fields: Any) -> Callable[[Dump], None]:
    """One record more, as the last one but for these fields."""

    def edit(dump: Dump) -> None:
        values = dump["resque:failed"]["values"]
        values.append(_compact({**json.loads(values[-1]), **fields}))

    return edit


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _never_volatile(dump: Dump) -> None:
    dump["resque:schedules_changed"]["values"].remove("volatile")


def _fired_moment(dump: Dump) -> None:
    for key in ("resque:pyres:schedule_fired", "resque:pyres:schedule_ranges"):
        dump[key] = {"type": "hash", "fields": {"often": "EPOCH"}}


EVERY = ("*",)

_PRUNED = ("10b_pruned_by_heartbeat", "10c_pruned_by_pid", "17_remove_worker_mid_job")

_DIRTY = "a dirty exit, a prune and a killed worker count as failed; Ruby forgets them"
_WORDS = "exceptions have Python's names, and the message is that of the exception"

#: The intended differences, those of all files first.
DIFFERS_ON_PURPOSE = [
    Difference(EVERY, "`started` is whole epoch seconds, as in pyres 1.5", _started_as_epoch),
    Difference(("08_dirty_exit_sigkill",), _DIRTY, _count("stat:failed")),
    Difference(("08_dirty_exit_sigkill",), _DIRTY, _count("stat:failed:<worker>")),
    Difference(
        ("08_dirty_exit_sigkill", "08b_child_exit_nonzero"),
        _WORDS,
        _record(0, exception="CrashError", error="the process of the job was killed by SIGKILL"),
    ),
    Difference(("08b_child_exit_nonzero",), _DIRTY, _count("stat:failed")),
    Difference(("08b_child_exit_nonzero",), _DIRTY, _count("stat:failed:<worker>")),
    Difference(
        ("08b_child_exit_nonzero",),
        "pyres 1.5 calls every process that ends with a status a crash",
        _record(1, exception="CrashError", error="the job exited with status 3"),
    ),
    Difference(("09_term_no_term_child",), _DIRTY, _count("stat:failed")),
    Difference(
        ("09_term_no_term_child",),
        _WORDS,
        _record(0, exception="CrashError", error="the process of the job was killed by SIGKILL"),
    ),
    Difference(_PRUNED, _DIRTY, _count("stat:failed")),
    Difference(_PRUNED, "a job is processed once, whatever its outcome", _count("stat:processed")),
    Difference(
        ("10b_pruned_by_heartbeat",),
        _WORDS,
        _record(0, exception="PruneDeadWorkerDirtyExitError"),
    ),
    Difference(
        ("10c_pruned_by_pid", "17_remove_worker_mid_job"),
        _WORDS,
        _record(0, exception="DirtyExitError", error="Job still being processed."),
    ),
    Difference(
        ("18_poison_payloads",),
        _WORDS,
        _record(
            0,
            exception="ClassNotFoundError",
            error="class 'NoSuchClass' not found: there is no module 'NoSuchClass' in FOLDERS; "
            "--require the module that has @job(name='NoSuchClass'), or name the folder of its "
            "module with --path",
        ),
    ),
    Difference(
        ("18_poison_payloads",),
        _WORDS,
        _record(
            1,
            payload={
                "class": "<undecodable>",
                "args": ['{"args":[1]}', "eyJhcmdzIjpbMV19"],
                "raw": "eyJhcmdzIjpbMV19",
            },
            exception="UndecodableError",
            error="the payload's class is None, not a name",
        ),
    ),
    Difference(
        ("18_poison_payloads",),
        "a payload that is not JSON kills a Ruby worker and is lost; here it is a failure record",
        _one_more_record(
            payload={
                "class": "<undecodable>",
                "args": ["not json", "bm90IGpzb24="],
                "raw": "bm90IGpzb24=",
            },
            exception="UndecodableError",
            error="b'not json' is not JSON: Expecting value: line 1 column 1 (char 0)",
            backtrace=["where it was read"],
        ),
    ),
    Difference(
        ("13_set_schedule",),
        "an entry that does not persist is only in the Ruby process; here all entries persist",
        _never_volatile,
    ),
    Difference(
        ("13b_scheduler_running", "13c_remove_schedule_and_term"),
        "pyres notes the moment that was fired, so that none fires twice",
        _fired_moment,
    ),
    Difference(("18_poison_payloads",), "the third record is counted", _count("stat:failed")),
    Difference(("18_poison_payloads",), "the third record is counted", _count("stat:processed")),
]

#: Whole files about what pyres does not have, and why.
NOT_OURS = {
    "09b_term_with_term_child": "TERM_CHILD is a Ruby switch: here a job gets --grace seconds to "
    "finish and is then killed, and no exception is raised in it",
}
