"""A test in tests/neighbours proves each statement of docs/ruby.md, and names it."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.docs.blocks import blocks
from tests.neighbours.statements import PAGE, held, statements
from tests.servers import ROOT

FILES = sorted(ROOT.glob("tests/neighbours/test_*.py"))

#: Each phrase that a test proves, and the test.
PROVEN = [
    (phrase, f"{file.name}::{test}")
    for file in FILES
    for test, phrases in held(file).items()
    for phrase in phrases
]


@pytest.mark.parametrize("statement", statements())
def test_a_statement_of_the_page_is_proven_by_a_test(statement):
    assert [test for phrase, test in PROVEN if phrase in statement]


@pytest.mark.parametrize("phrase", sorted({phrase for phrase, _ in PROVEN}))
def test_a_phrase_that_a_test_names_is_in_exactly_one_statement(phrase):
    assert len([statement for statement in statements() if phrase in statement]) == 1


def test_each_example_of_the_page_is_a_file_or_a_command():
    unnamed = [block.line for block in blocks(PAGE) if not block.file_name]
    languages = Counter(block.language for block in blocks(PAGE))

    assert len(unnamed) == languages["sh"] == 1
    assert languages.keys() == {"python", "ruby", "sh"}
