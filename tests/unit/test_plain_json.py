"""JSON by msgspec: the same bytes, values and errors as by simplejson alone."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import subprocess
import sys
import uuid
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from decimal import Decimal

import pytest
import simplejson
from hypothesis import example, given
from hypothesis import strategies as st

from pyres import json_parser, payload, plain_json
from pyres.exceptions import UndecodableError, UnencodableError

msgspec = pytest.importorskip("msgspec", reason="needs the extra 'fast'")


class Number(int):
    """A subclass of int."""

    def __str__(self) -> str:
        return "no number"


class Fraction(float):
    """A subclass of float."""


class Text(str):
    """A subclass of str."""

    __slots__ = ()


class Items(list[object]):
    """A subclass of list."""


class Colour(enum.Enum):
    """An Enum that msgspec writes and a queue refuses."""

    RED = "red"


class Level(enum.IntEnum):
    """An Enum that is an int."""

    HIGH = 3


class Tone(enum.StrEnum):
    """An Enum that is a str."""

    DARK = "dark"


@dataclasses.dataclass
class Data:
    """A dataclass, which msgspec writes and a queue refuses."""

    field: int = 1


class Struct(msgspec.Struct):
    """msgspec's own kind of class."""

    field: int = 1


Point = namedtuple("Point", "x y")

ODD: list[object] = [
    *(float("nan"), float("inf"), float("-inf"), 1e15, 1e16, -1e16, 1e-5, 9.9e-5, 5e-324, 1e300),
    *(2**63, 2**64, -(2**63) - 1, 10**400),
    *(Number(5), Fraction(1.5), Fraction("nan"), Text("a"), Items([1])),
    *(Colour.RED, Level.HIGH, Tone.DARK, Data(), Struct()),
    *((), (1, "a"), ((float("nan"),),), Point(1, 2)),
    *("\ud800", "a\udfff", "😀", "\u2028", "\x00\x1f\x7f", '"\\/'),
    *("@D:2026-11-23T16:01:08", "@D:@D:x", "@D:", 'x"@D:y', "@D:2026-02-30T00:00:00"),
    datetime.datetime(2026, 11, 23, 16, 1, 8),
    datetime.datetime(2026, 11, 23, 16, 1, 8, 9, datetime.UTC),
    *(datetime.date(2026, 1, 1), datetime.time(1), datetime.timedelta(1)),
    *(b"x", bytearray(b"x"), memoryview(b"x"), {1}, frozenset("a"), 1j, range(2), ...),
    *(Decimal("1.5"), uuid.UUID(int=0), object, len),
    *(simplejson.RawJSON("[1]"), msgspec.Raw(b"[1]")),
    *({1: 2}, {None: 1}, {True: 1}, {1.5: 1}, {1e16: 1}, {float("nan"): 1}, {(1,): 1}),
    *({Text("a"): 1}, {Tone.DARK: 1}, {"\ud800": 1}, {b"a": 1}, OrderedDict(a=1)),
]

PLAIN = (
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(-1e15, 1e15) | st.just(-0.0)
)
ANY = PLAIN | st.floats() | st.sampled_from(ODD) | st.datetimes()


def nested(leaves: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """These in lists and dicts."""
    return st.recursive(
        leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=15
    )


def answer(act: Callable[[], object]) -> tuple[object, str]:
    """What this returns or refuses; 1, 1.0 and True differ, and 0.0 and -0.0 do."""
    try:
        return "returned", repr(act())
    except (UnencodableError, UndecodableError) as error:
        return type(error), str(error)


def answers(act: Callable[[], object]) -> tuple[tuple[object, str], tuple[object, str]]:
    """The answers with msgspec and without; both at the same depth of the stack."""
    with_msgspec = answer(act)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_json, "encoder", None)
        patch.setattr(plain_json, "decoder", None)
        return with_msgspec, answer(act)


@given(nested(PLAIN) | nested(ANY))
def test_with_msgspec_a_value_has_the_bytes_or_the_error_that_it_has_without(value: object) -> None:
    def act() -> bytes:
        return json_parser.encode(value)

    with_msgspec, without = answers(act)
    assert with_msgspec == without


@pytest.mark.parametrize("value", [*ODD, 10**5000], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("wrap", [list, lambda items: {"k": items}, lambda items: items[0]])
def test_with_msgspec_an_odd_value_has_the_answer_that_it_has_without(
    value: object, wrap: Callable[[list[object]], object]
) -> None:
    wrapped = wrap([value])

    def act() -> bytes:
        return json_parser.encode(wrapped)

    with_msgspec, without = answers(act)
    assert with_msgspec == without


@given(st.floats(1e-4, 1e15, exclude_max=True), st.booleans())
@example(2.0**49, True)
@example(1e-4, False)
@example(999999999999999.9, False)
def test_a_float_that_is_left_to_msgspec_has_rubys_digits(value: float, below: bool) -> None:
    signed = -value if below else value

    assert plain_json.encode(signed) == json_parser.ruby_float(signed).encode()


def test_every_character_is_written_as_simplejson_writes_it() -> None:
    text = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))

    assert plain_json.encode(text) == json_parser.dumps(text).encode()


def test_a_payload_as_the_client_builds_it_is_left_to_msgspec() -> None:
    args = [1, "two", None, {"on": True, "at": [1.5, 0.0, -(2**70)]}, (1, "é")]
    values = payload.build("app.Mail", args, enqueue_timestamp=1795573988.123456)

    assert plain_json.encode(values) == json_parser.dumps(values).encode()


SIGNS = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "-",
    "e",
    ".",
    "\\",
    '"',
    " ",
    "\n",
    "\t",
    "\r",
    "\x00",
    "\ufeff",
]
WORDS = ["true", "false", "null", "NaN", "Infinity", "-Infinity", "0", "-0", "01", "-0.0", "+1"]
NUMBERS = [
    *("1", "1.5", ".5", "1.", "1e5", "1E+5", "1e-7", "1e22", "1e400", "-1e400", "1e-400", "5e-324"),
    *("9007199254740993", "9007199254740993.0", "18446744073709551616", "-9223372036854775809"),
    *("1" * 400, "1" * 4400, "0." + "0" * 400 + "1", "1" * 400 + ".0"),
]
STRINGS = [
    *('""', '"a"', '"b"', '"é"', '"😀"', r'"\u00e9"', r'"\ud83d\ude00"', r'"\ud83d"', r'"\/"'),
    *(r'"\x"', r'"\u12"', '"\x7f"', '"\x01"', '"@D:2026-11-23T16:01:08"', r'"\u0040D:"'),
]
TEXTS = [
    *SIGNS,
    *WORDS,
    *NUMBERS,
    *STRINGS,
    *('{"a":1,"b":2,"a":3}', '{"a":1,}', "[1,]", "{1:2}", '{"a":1}x', " 1", "1 ", "1 2"),
]


def decodable(leaves: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """JSON objects and arrays of these, with duplicate keys and white space."""
    blank = st.sampled_from(["", "", " ", "\n"])
    keys = st.sampled_from(['"a"', '"b"', r'"\u0061"', '""', '"@D:"'])
    member = st.tuples(blank, keys, blank, st.just(":"), blank, leaves).map("".join)
    item = st.tuples(blank, leaves, blank).map("".join)
    return st.lists(member, max_size=4).map(lambda found: f"{{{','.join(found)}}}") | st.lists(
        item, max_size=4
    ).map(lambda found: f"[{','.join(found)}]")


JSON_TEXTS = st.recursive(st.sampled_from([*WORDS, *NUMBERS, *STRINGS]), decodable, max_leaves=8)


@given(
    JSON_TEXTS.map(str.encode)
    | st.lists(st.sampled_from(TEXTS), max_size=6).map("".join).map(str.encode)
    | st.binary()
    | st.floats().map(repr).map(str.encode)
    | nested(PLAIN).map(simplejson.dumps).map(str.encode)
)
def test_with_msgspec_bytes_are_read_or_refused_as_without(raw: bytes) -> None:
    def act() -> object:
        return json_parser.loads(raw)

    with_msgspec, without = answers(act)
    assert with_msgspec == without


@pytest.mark.parametrize("text", [*TEXTS, '"\ud800"', "\udcff"], ids=range(len(TEXTS) + 2))
def test_with_msgspec_an_odd_text_is_read_or_refused_as_without(text: str) -> None:
    raw = text.encode("utf-8", "surrogatepass")

    for given_as in (text, raw, bytearray(raw), Text(text)):

        def act(value: object = given_as) -> object:
            return json_parser.loads(value)  # type: ignore[arg-type]

        with_msgspec, without = answers(act)
        assert with_msgspec == without


#: Around the limit of msgspec's part, around Python's recursion limit, and far beyond.
DEPTHS = [1, 499, 500, 501, 502, *range(850, 1002), 100_000]


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_with_msgspec_the_same_nesting_is_too_deep_as_without(kind: str) -> None:
    for depth in DEPTHS:
        start, end = ("[", "]") if kind == "list" else ('{"a":', "}")
        raw = f"{start * depth}1{end * depth}".encode()
        value = nest(kind, depth)

        def is_read(raw: bytes = raw) -> bool:
            return json_parser.loads(raw) is not None

        def written(value: object = value) -> bytes:
            return json_parser.encode(value)

        with_msgspec, without = answers(is_read)
        assert with_msgspec == without, depth
        with_msgspec, without = answers(written)
        assert with_msgspec == without, depth


def nest(kind: str, depth: int) -> object:
    """1 inside N lists or dicts."""
    value: object = 1
    for _ in range(depth):
        value = [value] if kind == "list" else {"a": value}
    return value


def test_without_the_extra_pyres_reads_and_writes_the_same() -> None:
    program = (
        "import sys; sys.modules['msgspec'] = None\n"
        "from pyres import json_parser, plain_json\n"
        "assert plain_json.encoder is None\n"
        "print(json_parser.dumps(json_parser.loads(json_parser.encode([1, 'é', 1e20]))))"
    )

    run = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", program], capture_output=True, text=True, check=False
    )

    assert (run.stdout, run.stderr) == ('[1,"é",1.0e+20]\n', "")
