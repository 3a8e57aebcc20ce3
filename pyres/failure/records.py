"""What a failure record says of itself, also one that is none; and which records are meant."""

from __future__ import annotations

import base64
import dataclasses
import re
from typing import Any

from pyres import json_parser, loading, payload
from pyres.exceptions import BadOptionError, UndecodableError
from pyres.json_spans import have_blanks


def shown(raw: bytes) -> dict[str, Any]:
    """A record for a reader, with `redis_value`; one that is no record is shown as a record about
    itself.
    """
    try:
        record = json_parser.loads(raw)
    except UndecodableError as error:
        record = _in_parts(raw) or _about_itself(raw, str(error))
    if not isinstance(record, dict):
        record = _about_itself(raw, "this element of the failure list is no failure record")
    for field, default in DEFAULTS.items():
        record.setdefault(field, default)
    record["payload"] = payload.unpacked(record["payload"])
    record["redis_value"] = base64.b64encode(raw).decode()
    return record


def _in_parts(raw: bytes) -> dict[str, Any] | None:
    """A record that is not UTF-8, or whose payload is nested too deep to be read with it."""
    fields = payload.fields_of(raw)
    if "payload" not in fields:
        return None
    found = {name: _text_or_value(value) for name, value in fields.items() if name != "payload"}
    return {**found, "payload": payload.look(fields["payload"].strip())}


def _text_or_value(raw: bytes) -> Any:
    text = raw.decode("utf-8", "surrogateescape")
    try:
        return json_parser.loads(text)
    except UndecodableError:
        return text


#: What a record without a field is shown with: other programs leave some of them out.
DEFAULTS: dict[str, Any] = {
    "failed_at": "",
    "payload": {},
    "exception": "",
    "error": "",
    "backtrace": [],
    "worker": "",
    "queue": "",
}


def _about_itself(raw: bytes, error: str) -> dict[str, Any]:
    return {"payload": payload.undecodable(raw), "exception": "UndecodableError", "error": error}


def raw_record(record: bytes | str) -> bytes:
    """The exact bytes of a record that is given raw or as `redis_value` (base64). BadOptionError if
    neither.
    """
    octets = record.encode("utf-8", "surrogateescape") if isinstance(record, str) else record
    if octets.lstrip()[:1] in (b"{", b""):
        return octets
    try:
        return base64.b64decode(octets, validate=True)
    except ValueError:
        raise BadOptionError(
            f"{octets[:60]!r} is no failure record: give its bytes or its redis_value"
        ) from None


def record_of(raw: bytes) -> dict[str, Any]:
    """A record without `redis_value`, as it would be written again."""
    record = shown(raw)
    del record["redis_value"]
    return record


def destination(raw: bytes) -> tuple[str, bytes] | None:
    """The queue and the payload of a record; None for what cannot be retried and so stays.

    A record without a queue is one for that of its class, where this is known here.
    """
    record = record_of(raw)
    queue = record["queue"] or loading.queue_of(job_in(record["payload"])[0])
    if not isinstance(queue, str) or not queue:
        return None
    try:
        queue.encode("utf-8", "surrogateescape")
        return queue, payload_bytes(raw)
    except ValueError:
        return None


def payload_bytes(raw: bytes) -> bytes:
    """What a record's payload is on a queue: the bytes that stand in the record, or those that a
    placeholder there stands for. UndecodableError where the record has none.
    """
    fields = payload.fields_of(raw)
    if "payload" not in fields:
        raise UndecodableError(f"{raw[:80]!r} is no failure record with a payload")
    encoded = fields["payload"]
    inner = payload.bytes_in(encoded)
    if inner is not None:
        return payload.original(inner)
    return payload.encode(payload.show(encoded)) if have_blanks(fields) else encoded


def with_field(raw: bytes, name: str, value: Any) -> bytes:
    """A record with one more field, or another value in it; all others as they were."""
    fields = payload.fields_of(raw)
    if not fields:
        return json_parser.encode({**record_of(raw), name: value})
    return payload.joined({**fields, name: json_parser.encode(value)})


#: Text that stands in a record's JSON as it is, whoever wrote it.
_AS_IT_IS = re.compile(r"[\w .:-]+", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class FailureFilter:
    """Which failures are meant; a field that is None matches all.

    `klass` is the payload's class, or the one that ActiveJob wraps; `text` stands in the record or
    its message; `retried` are those that a requeue of Resque's has marked, or those it has not.
    """

    queue: str | None = None
    klass: str | None = None
    exception: str | None = None
    text: str | None = None
    retried: bool | None = None

    def __bool__(self) -> bool:
        return self != FailureFilter()

    def for_retry(self) -> FailureFilter:
        """The same, and where it does not say which, only those that no requeue has marked: the
        jobs of the others were pushed.
        """
        return dataclasses.replace(self, retried=False) if self.retried is None else self

    def matches(self, raw: bytes) -> bool:
        """Whether a record is meant."""
        # Most records are not marked, and that can be seen without reading them.
        if self.retried is False and _is_unmarked(raw):
            return dataclasses.replace(self, retried=None).matches(raw)
        return not self or (self._may_match(raw) and self._matches(raw))

    def _may_match(self, raw: bytes) -> bool:
        """False where it is plain without reading the record: most of those that are passed by."""
        if raw[:1] != b"{" or raw[-1:] != b"}" or b"\\u" in raw or b"undecodable" in raw:
            # No record or a placeholder, and what is shown does not stand in it; or a name may be
            # written in another way.
            return True
        wanted = (self.queue, self.klass, self.exception, self.text)
        certain = (text for text in wanted if text and _AS_IT_IS.fullmatch(text))
        return all(text.encode() in raw for text in certain)

    def _matches(self, raw: bytes) -> bool:
        record = shown(raw)
        return (
            self.queue in (None, record["queue"], plain(record["queue"]))
            and (self.klass is None or self.klass in classes_of(record["payload"]))
            and self.exception in (None, plain(record["exception"]))
            and self.retried in (None, bool(record.get("retried_at")))
            and (
                not self.text
                or self.text.encode("utf-8", "surrogateescape") in raw
                or self.text in plain(record["error"])
            )
        )


def _is_unmarked(raw: bytes) -> bool:
    return b"retried_at" not in raw and b"\\u" not in raw


def job_in(found: Any) -> tuple[Any, Any]:
    """Class and arguments of a payload; of ActiveJob's wrapper those of the job within."""
    if not isinstance(found, dict):
        return "<no job>", found
    name, args = found.get("class", "<no class>"), found.get("args", [])
    inner = args[0] if isinstance(args, list) and args and isinstance(args[0], dict) else {}
    if isinstance(name, str) and name.endswith("::JobWrapper") and "job_class" in inner:
        return inner["job_class"], inner.get("arguments", [])
    return name, args


def classes_of(found: Any) -> tuple[Any, ...]:
    """The names that a record may be asked for by."""
    outer = found.get("class") if isinstance(found, dict) else None
    return outer, plain(job_in(found)[0])


def plain(value: object) -> str:
    """Text that any output can hold: what was no UTF-8 shows as a mark."""
    found = value if isinstance(value, str) else _dumped(value)
    try:
        return found.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # half a pair, which an escape in JSON can say
        return found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _dumped(value: object) -> str:
    try:
        return json_parser.dumps(value)
    except (TypeError, ValueError):
        return repr(value)
