"""The beginning of a repr."""

from __future__ import annotations

from typing import Any

import pytest

from pyres import ResQ
from pyres.job import Job
from pyres.shortening import shortened


@pytest.mark.parametrize("value", [[], [1, "two", {"three": [None, 4.5]}], {"a": {}}, None, "x"])
def test_what_is_short_is_its_repr(value: Any) -> None:
    assert shortened(value, 200) == repr(value)


@pytest.mark.parametrize(
    "value", [["x" * 10**6], list(range(10**6)), {"k" * 500: 1}, [[["y" * 300]], {"a": "b" * 300}]]
)
def test_what_is_long_is_the_beginning_of_its_repr(value: Any) -> None:
    assert shortened(value, 200) == repr(value)[:200] + "..."


def test_the_text_of_a_job_has_some_hundred_characters_of_its_arguments(resq: ResQ) -> None:
    text = str(Job("q", {"class": "A", "args": ["z" * 10**6]}, resq))

    assert text.startswith("(Job{q} | A | ['zzz")
    assert len(text) < 300
