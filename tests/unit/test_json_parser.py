"""The wire's JSON: as Ruby writes it, back as it was, and refused with the place named."""

from __future__ import annotations

import datetime
import json
import uuid
from collections import namedtuple
from decimal import Decimal
from pathlib import Path

import pytest
import simplejson
from hypothesis import given
from hypothesis import strategies as st

from pyres import json_parser
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


@given(VALUES)
def test_a_value_comes_back_equal(value: object) -> None:
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
def test_white_space_around_a_value_means_nothing(raw: bytes) -> None:
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
def test_a_float_has_rubys_digits_whatever_stands_beside_it(value: float, text: str) -> None:
    assert dumps([text, value, text]) == f'["{text}",{ruby_float(value)},"{text}"]'


def test_unicode_is_raw_and_only_what_must_be_is_escaped() -> None:
    assert encode(["é☃😀\u2028</script>/\x7f", '"\\\n\x01']) == (
        '["é☃😀\u2028</script>/\x7f","\\"\\\\\\n\\u0001"]'.encode()
    )


def test_a_plain_date_is_written_as_pyres_1_5_wrote_it() -> None:
    assert dumps(datetime.datetime(2026, 11, 23, 16, 1, 8)) == '"@D:2026-11-23T16:01:08"'


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
        ({"args": ["\ud800"]}, "args[0] is text that is no Unicode"),
        ({"args": [{(1, 2): 3}]}, "args[0] has the key (1, 2) of type tuple"),
    ],
)
def test_what_a_queue_cannot_hold_is_refused_with_its_place(value: object, complaint: str) -> None:
    with pytest.raises(UnencodableError) as refused:
        encode(value)

    assert complaint in str(refused.value)


def test_what_holds_itself_and_what_is_too_deep_is_refused() -> None:
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
def test_what_is_no_json_is_undecodable(raw: bytes) -> None:
    with pytest.raises(UndecodableError, match="is not JSON"):
        loads(raw)


def test_tuples_are_lists_and_keys_are_strings() -> None:
    point = namedtuple("point", "x y")

    assert dumps([point(1, 2), {1: "a", 1.5: "b"}]) == '[[1,2],{"1":"a","1.5":"b"}]'


def test_the_public_encoder_and_decoder_of_1_5_work_with_simplejson() -> None:
    moment = datetime.datetime(2026, 11, 23, 16, 1, 8)

    text = simplejson.dumps({"at": moment}, cls=json_parser.CustomJSONEncoder)

    assert text == '{"at":"@D:2026-11-23T16:01:08"}'
    assert simplejson.loads(text, cls=json_parser.CustomJSONDecoder) == {"at": moment}
