"""Parsing failure records, malformed ones too, and filtering them."""

from __future__ import annotations

import base64
import dataclasses
import re
from typing import Any

from pyres import json_parser, loading, payload
from pyres.exceptions import BadOptionError, UndecodableError
from pyres.json_spans import have_blanks


def for_display(raw: bytes) -> dict[str, Any]:
    """A record to display, with `redis_value`; a placeholder record for a malformed one."""
    try:
        record = json_parser.loads(raw)
    except UndecodableError as error:
        record = _in_parts(raw) or _placeholder(raw, str(error))
    if not isinstance(record, dict):
        record = _placeholder(raw, "this element of the failure list is not a failure record")
    for field, default in DEFAULTS.items():
        record.setdefault(field, default)
    record["payload"] = payload.unpacked(record["payload"])
    record["redis_value"] = base64.b64encode(raw).decode()
    return record


def _in_parts(raw: bytes) -> dict[str, Any] | None:
    """A record parsed field by field: for one that is not UTF-8, or whose payload is nested too
    deep.
    """
    fields = payload.fields_of(raw)
    if "payload" not in fields:
        return None
    others = {name: _text_or_value(value) for name, value in fields.items() if name != "payload"}
    return {**others, "payload": payload.look(fields["payload"].strip())}


def _text_or_value(raw: bytes) -> Any:
    text = raw.decode("utf-8", "surrogateescape")
    try:
        return json_parser.loads(text)
    except UndecodableError:
        return text


#: Defaults for missing fields of a record: other programs leave some of them out.
DEFAULTS: dict[str, Any] = {
    "failed_at": "",
    "payload": {},
    "exception": "",
    "error": "",
    "backtrace": [],
    "worker": "",
    "queue": "",
}


def _placeholder(raw: bytes, error: str) -> dict[str, Any]:
    return {"payload": payload.undecodable(raw), "exception": "UndecodableError", "error": error}


def raw_record(record: bytes | str) -> bytes:
    """The exact bytes of a record, from these bytes or from its `redis_value` (base64).
    BadOptionError for anything else.
    """
    octets = record.encode("utf-8", "surrogateescape") if isinstance(record, str) else record
    if octets.lstrip()[:1] in (b"{", b""):
        return octets
    try:
        return base64.b64decode(octets, validate=True)
    except ValueError:
        raise BadOptionError(
            f"invalid failure record {octets[:60]!r}: expected its bytes or its redis_value"
        ) from None


def record_of(raw: bytes) -> dict[str, Any]:
    """A record without `redis_value`, as it can be written again."""
    record = for_display(raw)
    del record["redis_value"]
    return record


def destination(raw: bytes) -> tuple[str, bytes] | None:
    """The queue and the payload for a retry of a record; None if it cannot be retried.

    For a record without a queue, that of its class, if the class is imported here.
    """
    record = record_of(raw)
    queue = record["queue"] or loading.queue_of(class_and_args(record["payload"])[0])
    if not isinstance(queue, str) or not queue:
        return None
    try:
        queue.encode("utf-8", "surrogateescape")
        return queue, payload_bytes(raw)
    except ValueError:
        return None


def payload_bytes(raw: bytes) -> bytes:
    """A record's payload as it is on a queue: the bytes in the record, or those of which the record
    has a placeholder. UndecodableError if it has no payload.
    """
    fields = payload.fields_of(raw)
    if "payload" not in fields:
        raise UndecodableError(f"invalid failure record {raw[:80]!r}: expected one with a payload")
    encoded = fields["payload"]
    inner = payload.bytes_in(encoded)
    if inner is not None:
        return payload.original(inner)
    return payload.encode(payload.show(encoded)) if have_blanks(fields) else encoded


def with_field(raw: bytes, name: str, value: Any) -> bytes:
    """A record with this field added or changed; all others unchanged."""
    fields = payload.fields_of(raw)
    if not fields:
        return json_parser.encode({**record_of(raw), name: value})
    return payload.joined({**fields, name: json_parser.encode(value)})


#: Text that every JSON encoder writes unescaped.
_UNESCAPED = re.compile(r"[\w .:-]+", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class FailureFilter:
    """A filter for failures; a field that is None matches all.

    `klass` is the payload's class, or the one that ActiveJob wraps; `text` is in the record or in
    its error; `retried` is whether Resque's requeue has marked the record.
    """

    queue: str | None = None
    klass: str | None = None
    exception: str | None = None
    text: str | None = None
    retried: bool | None = None

    def __bool__(self) -> bool:
        return self != FailureFilter()

    def for_retry(self) -> FailureFilter:
        """The filter for a retry: unless `retried` is set, only unmarked records, because the jobs
        of the marked ones were already pushed.
        """
        return dataclasses.replace(self, retried=False) if self.retried is None else self

    def matches(self, raw: bytes) -> bool:
        """Whether a record matches."""
        # Most records are not marked, and that can be seen without decoding them.
        if self.retried is False and _is_unmarked(raw):
            return dataclasses.replace(self, retried=None).matches(raw)
        return not self or (self._may_match(raw) and self._matches(raw))

    def _may_match(self, raw: bytes) -> bool:
        """False if the record certainly does not match: true of most, and found without decoding
        it.
        """
        if raw[:1] != b"{" or raw[-1:] != b"}" or b"\\u" in raw or b"undecodable" in raw:
            # A malformed record or a placeholder, whose displayed text is not in the bytes; or a
            # name with escapes.
            return True
        wanted = (self.queue, self.klass, self.exception, self.text)
        certain = (text for text in wanted if text and _UNESCAPED.fullmatch(text))
        return all(text.encode() in raw for text in certain)

    def _matches(self, raw: bytes) -> bool:
        record = for_display(raw)
        return (
            self.queue in (None, record["queue"], printable(record["queue"]))
            and (self.klass is None or self.klass in classes_of(record["payload"]))
            and self.exception in (None, printable(record["exception"]))
            and self.retried in (None, bool(record.get("retried_at")))
            and (
                not self.text
                or self.text.encode("utf-8", "surrogateescape") in raw
                or self.text in printable(record["error"])
            )
        )


def _is_unmarked(raw: bytes) -> bool:
    return b"retried_at" not in raw and b"\\u" not in raw


def class_and_args(item: Any) -> tuple[Any, Any]:
    """Class and arguments of a payload; for ActiveJob's wrapper those of the wrapped job."""
    if not isinstance(item, dict):
        return "<no job>", item
    name, args = item.get("class", "<no class>"), item.get("args", [])
    inner = args[0] if isinstance(args, list) and args and isinstance(args[0], dict) else {}
    if isinstance(name, str) and name.endswith("::JobWrapper") and "job_class" in inner:
        return inner["job_class"], inner.get("arguments", [])
    return name, args


def classes_of(item: Any) -> tuple[Any, ...]:
    """The class names by which a filter finds a payload: the wrapper's and the wrapped job's."""
    outer = item.get("class") if isinstance(item, dict) else None
    return outer, printable(class_and_args(item)[0])


def printable(value: object) -> str:
    """Text that any output can hold: bytes that were not UTF-8 become replacement characters."""
    text = value if isinstance(value, str) else _dumped(value)
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # a lone surrogate, from an escape in JSON
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _dumped(value: object) -> str:
    try:
        return json_parser.dumps(value)
    except (TypeError, ValueError):
        return repr(value)
