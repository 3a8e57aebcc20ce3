"""The wire's JSON: as Ruby writes it, back as it was, and refused with the place named."""

from __future__ import annotations

import datetime
import json
import uuid
from collections import namedtuple
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import simplejson
from hypothesis import given
from hypothesis import strategies as st

from pyres import json_parser, plain_json
from pyres.exceptions import UndecodableError, UnencodableError
from pyres.json_parser import dumps, encode, loads, ruby_float

GOLDEN = Path(__file__).parent.parent / "wire" / "golden" / "01_enqueue_all_types.json"

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.datetimes()
    | st.datetimes(timezones=st.just(datetime.timezone(datetime.timedelta(hours=5, minutes=30))))
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


@pytest.fixture(params=["msgspec", "simplejson"], scope="module", autouse=True)
def library(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test with the extra `fast` and without it."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "simplejson":
            patch.setattr(plain_json, "encoder", None)
            patch.setattr(plain_json, "decoder", None)
        else:
            pytest.importorskip("msgspec", reason="needs the extra 'fast'")
        yield


@given(VALUES)
def test_a_value_is_read_back_equal(value: object) -> None:
    assert loads(dumps(value)) == value


@given(VALUES)
def test_what_was_read_is_written_again_byte_for_byte(value: object) -> None:
    assert encode(loads(encode(value))) == encode(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rubys_digits_mean_the_same_float(value: float) -> None:
    assert float(ruby_float(value)) == value


@given(st.from_regex(r"@D:(@D:)*\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", fullmatch=True))
def test_a_string_that_looks_like_a_date_stays_a_string(text: str) -> None:
    assert loads(dumps([text])) == [text]


@given(st.binary())
def test_no_bytes_raise_anything_but_undecodable(raw: bytes) -> None:
    try:
        loads(raw)
    except UndecodableError as error:
        assert "not JSON" in str(error)


@pytest.mark.parametrize(
    "raw", [b' {"a":[1]}', b'\n\t\r {"a":[1]}', b'{"a":[1]}\n', b' { "a" : [ 1 ] } ']
)
def test_white_space_around_a_value_is_ignored(raw: bytes) -> None:
    assert loads(raw) == {"a": [1]}


def test_every_type_is_written_as_ruby_wrote_it() -> None:
    written = json.loads(GOLDEN.read_text())["commands"][1][2]

    assert dumps(loads(written)) == written


@pytest.mark.parametrize(
    ("value", "digits"),
    [
        (1e20, "1.0e+20"),
        (1e-7, "1.0e-07"),
        (1e16, "1.0e+16"),
        (1e15, "1.0e+15"),
        (123456789012345.6, "123456789012345.6"),
        (1234567890123456.0, "1.234567890123456e+15"),
        (0.0001, "0.0001"),
        (0.00001, "1.0e-05"),
        (-0.0, "-0.0"),
        (5e-324, "5.0e-324"),
        (100.0, "100.0"),
    ],
)
def test_a_float_has_rubys_digits(value: float, digits: str) -> None:
    assert dumps([value]) == f"[{digits}]"


@given(st.floats(allow_nan=False, allow_infinity=False), st.text("aeE+-.019:", max_size=20))
def test_a_float_has_rubys_digits_whatever_is_beside_it(value: float, text: str) -> None:
    assert dumps([text, value, text]) == f'["{text}",{ruby_float(value)},"{text}"]'


def test_unicode_is_raw_and_only_what_must_be_is_escaped() -> None:
    assert encode(["é☃😀\u2028</script>/\x7f", '"\\\n\x01']) == (
        '["é☃😀\u2028</script>/\x7f","\\"\\\\\\n\\u0001"]'.encode()
    )


def test_a_plain_date_is_written_as_pyres_1_5_wrote_it() -> None:
    assert dumps(datetime.datetime(2026, 11, 23, 16, 1, 8)) == '"@D:2026-11-23T16:01:08"'


class Unspeakable:
    """A value whose repr fails."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"args": [1, {"when": [float("nan")]}]}, "args[1]['when'][0] is nan"),
        ({"args": [float("inf")]}, "args[0] is inf"),
        ({"args": [b"x"]}, "args[0] is b'x' of type bytes"),
        ({"args": ["ok", {1, 2}]}, "args[1] is {1, 2} of type set"),
        ({"args": [Decimal("1.5")]}, "str(value) keeps its digits"),
        ({"args": [uuid.UUID(int=0)]}, "of type UUID"),
        ({"args": [datetime.date(2026, 1, 1)]}, "of type date"),
        ({"args": [object]}, "args[0] is <class 'object'> of type type"),
        ({"args": ["\ud800"]}, "args[0] is not valid Unicode"),
        ({"args": [{"n": [10**5000]}]}, "args[0]['n'][0] is an int of more than 4300 digits"),
        ({"args": [{10**5000: 1}]}, "a key of args[0] is an int of more than 4300 digits"),
        ({"args": [{Unspeakable(): 1}]}, "args[0] has the key something of type Unspeakable"),
        ({"args": [Unspeakable()]}, "args[0] is something of type Unspeakable"),
        ({"args": [{(1, 2): 3}]}, "args[0] has the key (1, 2) of type tuple"),
    ],
)
def test_a_value_that_cannot_be_encoded_is_refused_with_its_place(
    value: object, complaint: str
) -> None:
    with pytest.raises(UnencodableError) as refused:
        encode(value)

    assert complaint in str(refused.value)


#: Each with the text of its error after the place.
FAULTS: list[tuple[object, str]] = [
    (float("nan"), "is nan"),
    (float("-inf"), "is -inf"),
    (b"x", "is b'x' of type bytes"),
    ({1}, "is {1} of type set"),
    (Decimal("1.5"), "is Decimal('1.5') of type Decimal"),
    (datetime.date(2026, 1, 1), "is datetime.date(2026, 1, 1) of type date"),
    (1j, "is 1j of type complex"),
    ("a\ud800", "is not valid Unicode"),
]
FAULTY_KEYS: list[tuple[object, str]] = [
    ((1, 2), "has the key (1, 2) of type tuple"),
    (b"x", "has the key b'x' of type bytes"),
]


def surrounded(inner: st.SearchStrategy[tuple[object, str]]) -> st.SearchStrategy[object]:
    """(value, place) within one more list or dict, beside values that are well."""
    before = st.lists(LEAVES, max_size=2)
    in_list = st.tuples(before, inner, before).map(
        lambda found: ([*found[0], found[1][0], *found[2]], f"[{len(found[0])}]{found[1][1]}")
    )
    names = st.text("abc", min_size=1, max_size=3)
    in_dict = st.tuples(names, inner, st.dictionaries(st.text("xyz"), LEAVES, max_size=2)).map(
        lambda found: (
            {**found[2], found[0]: found[1][0]},
            f"[{found[0]!r}]{found[1][1]}",
        )
    )
    return in_list | in_dict


@given(st.data())
def test_the_place_of_a_value_that_json_does_not_have_is_named_wherever_it_is(
    data: st.DataObject,
) -> None:
    fault, complaint = data.draw(st.sampled_from(FAULTS))
    value, place = data.draw(st.recursive(st.just((fault, "")), surrounded, max_leaves=5))

    with pytest.raises(UnencodableError) as refused:
        encode({"args": value})

    assert str(refused.value).startswith(f"args{place} {complaint}")


@given(st.data())
def test_the_place_of_a_key_that_is_not_a_str_is_named_wherever_it_is(data: st.DataObject) -> None:
    key, complaint = data.draw(st.sampled_from(FAULTY_KEYS))
    value, place = data.draw(st.recursive(st.just(({key: 1}, "")), surrounded, max_leaves=5))

    with pytest.raises(UnencodableError) as refused:
        encode({"args": value})

    assert str(refused.value).startswith(f"args{place} {complaint}")


ANYTHING = (
    LEAVES
    | st.floats()
    | st.text()
    | st.binary()
    | st.decimals()
    | st.fractions()
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.complex_numbers()
    | st.functions()
    | st.sampled_from([object(), object, ..., NotImplemented, simplejson, range(3), iter(())])
)
KEYS = LEAVES | st.floats() | st.text() | st.binary() | st.tuples(st.integers())


@given(
    st.recursive(
        ANYTHING,
        lambda inner: (
            st.lists(inner)
            | st.tuples(inner)
            | st.dictionaries(KEYS, inner, max_size=3)
            | st.frozensets(KEYS, max_size=2)
        ),
        max_leaves=10,
    )
)
def test_a_value_is_encoded_or_refused_with_unencodable_error_and_nothing_else(
    value: object,
) -> None:
    try:
        raw = encode(value)
    except UnencodableError as error:
        assert "cannot be written as JSON" not in str(error)  # the text if no place was found
    else:
        loads(raw)


def test_a_value_that_contains_itself_or_is_too_deep_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]

    for value in (endless, deep):
        with pytest.raises(UnencodableError, match="nested deeper"):
            encode(value)
    while deep:
        deep = deep.pop()  # type: ignore[assignment]


@pytest.mark.parametrize("raw", [b"", b"\xff", b"nope", b'{"a":1', b"NaN", b"[" * 100_000])
def test_bytes_that_are_not_json_are_undecodable(raw: bytes) -> None:
    with pytest.raises(UndecodableError, match="is not JSON"):
        loads(raw)


def test_a_buffer_that_is_neither_bytes_nor_text_is_undecodable() -> None:
    with pytest.raises(UndecodableError, match="is not JSON"):
        loads(memoryview(b"1"))  # type: ignore[arg-type]


def test_tuples_are_lists_and_keys_are_strings() -> None:
    point = namedtuple("point", "x y")

    assert dumps([point(1, 2), {1: "a", 1.5: "b"}]) == '[[1,2],{"1":"a","1.5":"b"}]'


def test_the_public_encoder_and_decoder_of_1_5_work_with_simplejson() -> None:
    moment = datetime.datetime(2026, 11, 23, 16, 1, 8)

    text = simplejson.dumps({"at": moment}, cls=json_parser.CustomJSONEncoder)

    assert text == '{"at":"@D:2026-11-23T16:01:08"}'
    assert simplejson.loads(text, cls=json_parser.CustomJSONDecoder) == {"at": moment}
