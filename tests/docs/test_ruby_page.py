"""Each statement of docs/ruby.md is held by a test, which names it."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.docs.blocks import blocks
from tests.neighbours.statements import PAGE, held, statements
from tests.servers import ROOT

FILES = sorted(ROOT.glob("tests/neighbours/test_*.py"))

#: What the tests hold, and by which of them.
HELD = [
    (phrase, f"{file.name}::{test}")
    for file in FILES
    for test, phrases in held(file).items()
    for phrase in phrases
]


@pytest.mark.parametrize("statement", statements())
def test_a_statement_of_the_page_is_held_by_a_test(statement):
    assert [test for phrase, test in HELD if phrase in statement]


@pytest.mark.parametrize("phrase", sorted({phrase for phrase, _ in HELD}))
def test_what_a_test_holds_stands_in_one_statement_of_the_page(phrase):
    assert len([statement for statement in statements() if phrase in statement]) == 1


def test_each_example_of_the_page_is_a_file_or_a_command():
    unnamed = [block.line for block in blocks(PAGE) if not block.file_name]
    languages = Counter(block.language for block in blocks(PAGE))

    assert len(unnamed) == languages["sh"] == 1
    assert languages.keys() == {"python", "ruby", "sh"}
