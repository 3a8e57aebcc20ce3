"""Jobs of Rails' ActiveJob: reading and writing the payloads of its Resque adapter."""

from __future__ import annotations

import datetime
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from pyres.exceptions import UndecodableError, UnencodableError

#: The class of every payload of the adapter; the job's own class is inside.
WRAPPER = "ActiveJob::QueueAdapters::ResqueAdapter::JobWrapper"

#: Keys by which ActiveJob marks the type of an object in the arguments.
_GLOBAL_ID, _SERIALIZER = "_aj_globalid", "_aj_serialized"
_SYMBOL_KEYS, _KEYWORDS = "_aj_symbol_keys", "_aj_ruby2_keywords"
_ANY_KEYS = "_aj_hash_with_indifferent_access"
_RESERVED = frozenset((_GLOBAL_ID, _SERIALIZER, _SYMBOL_KEYS, _KEYWORDS, _ANY_KEYS))

_SERIALIZERS = "ActiveJob::Serializers::"


class Symbol(str):
    """A Ruby Symbol, as a str."""

    __slots__ = ()


class GlobalID(str):
    """The URI by which Rails finds a record: `gid://shop/User/1`."""

    __slots__ = ()


class Call(NamedTuple):
    """The arguments of a job."""

    args: list[Any]
    keywords: dict[str, Any]


def job_data(payload: Any) -> dict[str, Any] | None:
    """The job in a payload of Rails' adapter; None for any other payload."""
    if not isinstance(payload, dict) or payload.get("class") != WRAPPER:
        return None
    args = payload.get("args")
    data = args[0] if isinstance(args, list) and len(args) == 1 else None
    return data if isinstance(data, dict) and isinstance(data.get("job_class"), str) else None


def call(data: Mapping[str, Any]) -> Call:
    """The arguments of an ActiveJob as plain values. UndecodableError, with the place, for a value
    that cannot be converted.
    """
    arguments = data.get("arguments") or []
    if not isinstance(arguments, list):
        raise UndecodableError(f"invalid arguments {arguments!r}: expected a list")
    keywords: dict[str, Any] = {}
    if arguments and isinstance(arguments[-1], dict) and _KEYWORDS in arguments[-1]:
        keywords = _hash_value(arguments[-1], f"arguments[{len(arguments) - 1}]")
        arguments = arguments[:-1]
    return Call(
        [_value(item, f"arguments[{index}]") for index, item in enumerate(arguments)], keywords
    )


def _value(value: Any, place: str) -> Any:
    if isinstance(value, list):
        return [_value(item, f"{place}[{index}]") for index, item in enumerate(value)]
    return _object(value, place) if isinstance(value, dict) else value


def _object(value: dict[str, Any], place: str) -> Any:
    if _SERIALIZER in value:
        return _serialized(value, place)
    if value.keys() == {_GLOBAL_ID} and isinstance(value[_GLOBAL_ID], str):
        return GlobalID(value[_GLOBAL_ID])
    return _hash_value(value, place)


def _hash_value(value: dict[str, Any], place: str) -> dict[str, Any]:
    return {
        key: _value(item, f"{place}[{key!r}]")
        for key, item in value.items()
        if key not in (_SYMBOL_KEYS, _KEYWORDS, _ANY_KEYS)
    }


def _serialized(value: dict[str, Any], place: str) -> Any:
    name = value[_SERIALIZER]
    read = _READERS.get(name.removeprefix(_SERIALIZERS)) if isinstance(name, str) else None
    if read is None:
        raise UndecodableError(
            f"{place} was serialized by {name}, which is not supported: expected "
            f"{', '.join(_READERS)} or none"
        )
    try:
        return read(value)
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise UndecodableError(f"invalid value of {name} in {place}: {error!r}") from None


def _moment(value: dict[str, Any]) -> datetime.datetime:
    return datetime.datetime.fromisoformat(value["value"])


def _whole_range(value: dict[str, Any]) -> range:
    first, last = value["begin"], value["end"]
    return range(first, last + (not value["exclude_end"]))


#: The reader for each of ActiveJob's own serializers.
_READERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "SymbolSerializer": lambda value: Symbol(value["value"]),
    "TimeSerializer": _moment,
    "TimeWithZoneSerializer": _moment,
    "DateTimeSerializer": _moment,
    "DateSerializer": lambda value: datetime.date.fromisoformat(value["value"]),
    # Months and years in it are converted to seconds by Rails.
    "DurationSerializer": lambda value: datetime.timedelta(seconds=value["value"]),
    "BigDecimalSerializer": lambda value: Decimal(value["value"]),
    "ModuleSerializer": lambda value: str(value["value"]),
    "RangeSerializer": _whole_range,
}


def build(
    name: str, queue: str, args: Sequence[Any], keywords: Mapping[str, Any], now: datetime.datetime
) -> dict[str, Any]:
    """The job of a class as Rails' adapter serializes it: the wrapper's one argument.
    UnencodableError, with the place, for a value that ActiveJob cannot read.
    """
    arguments = [_encoded(item, f"args[{index}]") for index, item in enumerate(args)]
    if keywords:
        fields = {key: _encoded(item, key) for key, item in keywords.items()}
        arguments.append({**fields, _KEYWORDS: list(keywords)})
    return {
        "job_class": name,
        "job_id": str(uuid.uuid4()),
        "provider_job_id": None,
        "queue_name": queue,
        "priority": None,
        "arguments": arguments,
        "executions": 0,
        "exception_executions": {},
        # None: the application's own setting applies.
        "locale": None,
        "timezone": None,
        "enqueued_at": _iso(now),
        "scheduled_at": None,
    }


def _iso(moment: datetime.datetime) -> str:
    utc = moment.astimezone(datetime.UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S.%f}000Z"


def _encoded(value: Any, place: str) -> Any:
    if isinstance(value, list | tuple):
        return [_encoded(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return _encoded_hash(value, place)
    if isinstance(value, GlobalID):
        return {_GLOBAL_ID: str(value)}
    for kind, serializer, fields in _WRITERS:
        if isinstance(value, kind):
            return {_SERIALIZER: _SERIALIZERS + serializer, **fields(value)}
    if value is None or isinstance(value, str | int | float):
        return value
    raise UnencodableError(
        f"{place} is of type {type(value).__name__}, which ActiveJob cannot read: expected None, "
        "str, int, float, bool, list, dict, datetime, date, timedelta, Decimal, Symbol or GlobalID"
    )


def _encoded_hash(value: Mapping[Any, Any], place: str) -> dict[str, Any]:
    for key in value:
        if not isinstance(key, str) or key in _RESERVED:
            raise UnencodableError(
                f"invalid key {key!r} in {place}: expected a str that ActiveJob does not reserve"
            )
    fields = {str(key): _encoded(item, f"{place}[{key!r}]") for key, item in value.items()}
    return {**fields, _SYMBOL_KEYS: [str(key) for key in value if isinstance(key, Symbol)]}


def _duration(value: datetime.timedelta) -> dict[str, Any]:
    seconds: float = value.total_seconds()
    seconds = int(seconds) if math.floor(seconds) == seconds else seconds
    unit = {_SERIALIZER: f"{_SERIALIZERS}SymbolSerializer", "value": "seconds"}
    return {"value": seconds, "parts": [[unit, seconds]]}


#: The serializer for each type, and the fields that it writes; datetime is before its base date.
_WRITERS: list[tuple[type, str, Callable[[Any], dict[str, Any]]]] = [
    (Symbol, "SymbolSerializer", lambda value: {"value": str(value)}),
    (datetime.datetime, "TimeSerializer", lambda value: {"value": _iso(value)}),
    (datetime.date, "DateSerializer", lambda value: {"value": value.isoformat()}),
    (datetime.timedelta, "DurationSerializer", _duration),
    (Decimal, "BigDecimalSerializer", lambda value: {"value": str(value)}),
]
