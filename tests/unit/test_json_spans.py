"""The values of a JSON object as their bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyres.json_spans import values

VALUES = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), VALUES, max_size=4), st.sampled_from([None, 0, 2]))
def test_each_value_is_found_with_its_own_bytes(value: dict[str, Any], indent: int | None) -> None:
    raw = json.dumps(value, indent=indent).encode()

    found = values(raw)

    assert {name: json.loads(part) for name, part in found.items()} == value
    assert all(part in raw for part in found.values())


def test_blanks_digits_and_escapes_stay_and_of_two_values_the_last_counts() -> None:
    raw = b' {"a":1, "b" : [ 1e400 ,\t-0.0 ] ,"\\u0063":"\\ud800\\/","a":2}\n'

    assert values(raw) == {"a": b"2", "b": b" [ 1e400 ,\t-0.0 ] ", "c": b'"\\ud800\\/"'}


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{", b'{"a"', b'{"a":1', b'{"a":1,}', b"\xff", b'{"a":1}x', b"{1:2}"]
)
def test_json_that_is_not_an_object_has_no_values(raw: bytes) -> None:
    with pytest.raises(ValueError):
        values(raw)
