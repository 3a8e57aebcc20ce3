"""Recurring jobs: schedule entries from code, from a YAML or JSON file, and from Redis.

The format is resque-scheduler's: `cron` or `every`, `class`, `queue`, `args`, `description`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pyres import json_parser, loading, nesting
from pyres.exceptions import BadOptionError, BadScheduleError, PyresError, UndecodableError
from pyres.json_spans import members, values
from pyres.timing import Cron, Every, Limits

#: The source of an entry in Redis.
STORED = "Redis"

#: The custom_job_class that stands for an ordinary job.
PLAIN_JOB = "Resque::Job"

#: The entries from @job: name to configuration.
_registered: dict[str, dict[str, Any]] = {}


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `queue` is None if the class's queue is to be used; `custom_job_class` is a Ruby
    class that must enqueue it; `raw_args` are the bytes of args that cannot be encoded again, or
    b"".
    """

    name: str
    klass: str
    queue: str | None
    args: list[Any]
    timing: Cron | Every
    description: str = ""
    environments: tuple[str, ...] = ()
    limits: Limits = Limits()
    custom_job_class: str = ""
    raw_args: bytes = b""

    @classmethod
    def read(cls, name: str, config: Any, raw: bytes | None = None) -> Entry:
        """The entry that a mapping describes. Raises BadScheduleError, which names the entry.

        `raw` are the bytes that it was read from, if another program may have written them.
        """
        try:
            return cls._read(name, config, raw)
        except BadScheduleError as error:
            raise BadScheduleError(f"the schedule entry {name!r} is left out: {error}") from None

    @classmethod
    def read_stored(cls, name: str, raw: bytes) -> Entry:
        """The entry in these bytes from Redis. Raises BadScheduleError, which names the entry."""
        return cls.read(name, _decoded(name, raw), raw)

    @classmethod
    def _read(cls, name: str, config: Any, raw: bytes | None) -> Entry:
        if not isinstance(config, Mapping):
            raise BadScheduleError(
                f"invalid entry {config!r}: expected a mapping with 'cron' or 'every'"
            )
        # Ruby's symbols are written in YAML with their colon.
        config = {str(key).lstrip(":"): value for key, value in config.items()}
        timing, limits = _timing(config)
        custom = _text(config, "custom_job_class", "")
        args, raw_args = _args(config.get("args"), raw)
        return cls(
            name,
            _unicode("class", _text(config, "class", name)),
            _unicode("queue", _text(config, "queue", "")) or None,
            args,
            timing,
            _description(config.get("description")),
            tuple(_text(config, "rails_env", _text(config, "env", "")).replace(",", " ").split()),
            limits,
            "" if custom == PLAIN_JOB else custom,
            raw_args,
        )

    def is_as(self, published: PublishedEntry | None) -> bool:
        """Whether this entry is published so, or replaced by one from Redis."""
        if published is None:
            return False
        fields = (published.klass, published.args, published.timing)
        is_same = (self.klass, self.args, self.when) == fields
        is_active = is_same and self.queue in (None, published.queue)
        return is_active or published.source == STORED

    @property
    def when(self) -> str:
        """Its timing with its limits, as text."""
        return f"{self.timing}{self.limits}"

    def check_supported(self) -> None:
        """Raises BadScheduleError for an entry that only resque-scheduler can run."""
        if self.custom_job_class:
            raise BadScheduleError(
                f"the schedule entry {self.name!r} is left out: its custom_job_class "
                f"{self.custom_job_class!r} is a Ruby class that enqueues it, which only "
                "resque-scheduler can call"
            )

    def is_for(self, environment: str | None) -> bool:
        """Whether the entry is for this environment: its `rails_env` names it, or none."""
        return not self.environments or environment in self.environments


@dataclasses.dataclass(frozen=True, slots=True)
class PublishedEntry:
    """An active entry as the master scheduler publishes it: `source` is code, file or Redis, `next`
    an epoch second, `unique_for` seconds or None.
    """

    klass: str
    queue: str
    args: list[Any]
    timing: str
    next: int
    description: str = ""
    source: str = ""
    unique_for: float | None = None
    unique_until: str = ""

    def encoded(self) -> bytes:
        """The JSON that is published."""
        return json_parser.encode_again(dataclasses.asdict(self))

    @classmethod
    def read(cls, raw: bytes) -> PublishedEntry | None:
        """The entry that encoded() wrote; None for anything else."""
        try:
            entry = cls(**json_parser.loads(raw))
        except (TypeError, UndecodableError):
            return None
        texts = (entry.klass, entry.queue, entry.timing, entry.source, entry.unique_until)
        are_texts = all(isinstance(value, str) for value in (*texts, entry.description))
        numbers = isinstance(entry.next, int) and isinstance(entry.unique_for, int | float | None)
        return entry if are_texts and numbers and isinstance(entry.args, list) else None


@dataclasses.dataclass(frozen=True, slots=True)
class Schedule:
    """Entries by name, all faults, and the faults by name of the entries that are left out."""

    entries: dict[str, Entry]
    faults: list[PyresError]
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)


def register(name: str, config: dict[str, Any]) -> None:
    """Add an entry from code; of two with the same name the later one wins."""
    _registered[name] = config


def from_code() -> Schedule:
    """The entries from @job in the modules imported so far."""
    return _schedule((name, config, "") for name, config in _registered.items())


def from_redis(stored: Mapping[str, bytes]) -> Schedule:
    """The entries of `persistent_schedules`: name to JSON."""
    return _schedule((name, _stored(name, raw), "") for name, raw in stored.items())


def from_file(path: str | Path) -> Schedule:
    """The entries of a YAML or JSON file; faults name the file and the line.

    Raises BadOptionError when it cannot be read, BadScheduleError when it is neither as a whole.
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadOptionError(f"the schedule {path} cannot be read: {reason}") from None
    read = _from_json if str(path).lower().endswith(".json") else _from_yaml
    return _schedule((name, config, f"{path}:{line}: ") for name, config, line in read(text, path))


def for_ruby(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The same entry in a form that resque-scheduler can run, too: it does not know `timezone`, nor
    use the entry's name as its class, nor read the queue of a Python class.
    """
    entry = Entry.read(name, config)
    written = {key: value for key, value in config.items() if key != "timezone"}
    queue = loading.queue_of(entry.klass)
    if isinstance(entry.timing, Cron) and config.get("timezone"):
        cron = entry.timing.with_zone(config["timezone"])
        written["cron"] = [cron, *config["cron"][1:]] if isinstance(config["cron"], list) else cron
    if written.get("class") is None and not entry.custom_job_class:
        written["class"] = entry.klass
    # A dotted name is not a Ruby class, which would have a queue itself.
    if entry.queue is None and queue and "." in entry.klass:
        written["queue"] = queue
    return written


def _schedule(configs: Iterator[tuple[str, Any, str]]) -> Schedule:
    """A schedule from names, configurations, and their places as prefixes of error texts."""
    entries: dict[str, Entry] = {}
    faults: list[PyresError] = []
    left_out: dict[str, str] = {}
    for name, config, where in configs:
        try:
            if isinstance(config, BadScheduleError):
                raise config
            if name in entries:
                faults.append(
                    BadScheduleError(f"{where}the entry {name!r} is duplicated; using this one")
                )
            entries[name] = config if isinstance(config, Entry) else Entry.read(name, config)
        except BadScheduleError as error:
            faults.append(BadScheduleError(f"{where}{error}"))
            left_out[name] = str(faults[-1])
    return Schedule(entries, faults, left_out)


def _from_json(text: str, path: str | Path) -> Iterator[tuple[str, Any, int]]:
    try:
        entries = members(text)
    except (ValueError, RecursionError) as error:
        raise BadScheduleError(
            f"invalid schedule {path}: expected a JSON object of schedule entries: {error}"
        ) from None
    for member in entries:
        yield member.key, member.value, text.count("\n", 0, member.start) + 1


def _from_yaml(text: str, path: str | Path) -> Iterator[tuple[str, Any, int]]:
    yaml = _yaml_library()
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return
        if not isinstance(root, yaml.MappingNode):
            raise BadScheduleError(
                f"invalid schedule {path}: expected a mapping of names to schedule entries"
            )
        loader.flatten_mapping(root)
        for key, value in root.value:
            yield (
                str(key.value).lstrip(":"),
                _constructed(yaml, loader, value),
                key.start_mark.line + 1,
            )
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise BadScheduleError(
            f"{path}:{mark.line + 1 if mark else 1}: invalid YAML: {error.problem}"
        ) from None
    finally:
        loader.dispose()


def _constructed(yaml: Any, loader: Any, node: Any) -> Any:
    try:
        return loader.construct_object(node, deep=True)
    except yaml.YAMLError as error:
        return BadScheduleError(f"the schedule entry is left out: {error.problem or error}")


def _yaml_library() -> Any:
    try:
        return importlib.import_module("yaml")
    except ModuleNotFoundError:
        raise BadOptionError(
            "a schedule in YAML requires PyYAML: pip install 'pyres[cron]'"
        ) from None


def _stored(name: str, raw: bytes) -> Entry | BadScheduleError:
    try:
        return Entry.read_stored(name, raw)
    except BadScheduleError as error:
        return error


def _decoded(name: str, raw: bytes) -> Any:
    try:
        return json_parser.loads(raw)
    except UndecodableError as error:
        # Bytes that are not UTF-8 are allowed in arguments, which are enqueued as they are.
        with contextlib.suppress(UndecodableError):
            return json_parser.loads(raw.decode("utf-8", "surrogateescape"))
        raise BadScheduleError(f"the schedule entry {name!r} is left out: {error}") from None


def _text(config: Mapping[str, Any], key: str, default: str) -> str:
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, str) or not value.strip():
        raise BadScheduleError(f"invalid {key} {value!r}: expected a name")
    return value


def _unicode(key: str, value: str) -> str:
    if not json_parser.is_unicode(value):
        raise BadScheduleError(f"invalid {key} {value!r}: expected valid Unicode")
    return value


def _description(value: Any) -> str:
    """The description as text, whatever its type."""
    return "" if value is None else str(value).encode("utf-8", "replace").decode()


def _args(value: Any, raw: bytes | None) -> tuple[list[Any], bytes]:
    """The arguments as Ruby reads them: a list is all of them, anything else is the only one. For
    arguments that cannot be encoded again, also their bytes in the entry; else b"".
    """
    args = [] if value is None or value is False else value if isinstance(value, list) else [value]
    try:
        nesting.check_depth(args)
        json_parser.encode(args)
    except TypeError as error:
        if raw is None:
            raise BadScheduleError(f"its args cannot be enqueued: {error}") from None
        span = {key.lstrip(":"): span.strip() for key, span in values(raw).items()}["args"]
        return args, span if isinstance(value, list) else b"[%b]" % span
    return args, b""


def _timing(config: Mapping[str, Any]) -> tuple[Cron | Every, Limits]:
    """The entry's `cron`, which wins unless it is empty, or its `every`; with its limits."""
    cron, options = _with_options(config.get("cron"))
    if cron not in (None, ""):
        return Cron(str(cron), _text(config, "timezone", "") or None), Limits.read(options)
    every, options = _with_options(config.get("every"))
    if every in (None, ""):
        raise BadScheduleError(
            f"it has neither 'cron' nor 'every', only {', '.join(config) or 'nothing'}"
        )
    limits = Limits.read(options)
    return Every.read(every, limits.first_in), limits.after_first_in()


def _with_options(value: Any) -> tuple[Any, dict[str, Any]]:
    """Ruby's `"30s"` and `["30s", {first_in: "1s"}]`."""
    if not isinstance(value, list):
        return value, {}
    options = value[1] if len(value) == 2 and isinstance(value[1], Mapping) else {}
    return (value[0] if value else None), {
        str(key).lstrip(":"): option for key, option in options.items()
    }
