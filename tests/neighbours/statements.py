"""The statements of docs/ruby.md, and which tests prove them."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.servers import ROOT

PAGE = ROOT / "docs/ruby.md"

Test = TypeVar("Test", bound=Callable[..., object])


def holds(*phrases: str) -> Callable[[Test], Test]:
    """Declare the statements that a test proves: each phrase is in one statement of the page."""
    return lambda test: test


def statements(page: Path = PAGE) -> list[str]:
    """The page's list items, table rows and sentences after the first second-level heading.

    Without sentences that end with a colon: they introduce an example, which is run.
    """
    text = page.read_text("utf-8").partition("\n## ")[2]
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [statement for block in _blocks(text) for statement in _statements(block)]


def _blocks(text: str) -> list[str]:
    """The paragraphs, list items and rows, each on one line."""
    lines = re.sub(r"\n(?=- |\| |\|-)", "\n\n", text)
    return [" ".join(block.split()) for block in lines.split("\n\n") if block.strip()]


def _statements(block: str) -> list[str]:
    if block.startswith(("#", "|--", "| |")) or re.fullmatch(r"[\w ]+", block):
        return []
    if block.startswith(("- ", "| ")):
        return [block]
    sentences = re.split(r"(?<=[.:])\**\s+(?=[A-Z`*])", block)
    return [sentence for sentence in sentences if not sentence.endswith((":", ".**"))]


def held(file: Path) -> dict[str, list[str]]:
    """The phrases that a file's tests prove, by the test's name."""
    tests = [node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if _is_test(node)]
    return {test.name: _phrases(test) for test in tests}


def _is_test(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test_")


def _phrases(test: ast.FunctionDef) -> list[str]:
    marks = [mark for mark in test.decorator_list if isinstance(mark, ast.Call)]
    return [
        argument.value
        for mark in marks
        if ast.unparse(mark.func) == "holds"
        for argument in mark.args
        if isinstance(argument, ast.Constant)
    ]
