"""Reads the fenced blocks of the documentation, so that tests can run them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.servers import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")])

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMPT = "$ "
_INTERRUPT = "^C"


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the number of its first line, its language and its text."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def file_name(self) -> str:
        """The file name in a first line such as `# jobs.py`, or ""."""
        named = re.match(r"# (\w+\.\w+)\n", self.text)
        return named[1] if named else ""


@dataclass(frozen=True)
class Step:
    """A command of a console block: its output, and its further output if Ctrl-C ends it."""

    command: str
    output: list[str]
    interrupted: bool
    rest: list[str]


def blocks(page: Path, language: str = "") -> list[Block]:
    """The fenced blocks of a page, or only those of one language."""
    text = page.read_text("utf-8")
    all_blocks = [
        Block(page, text.count("\n", 0, match.start(2)) + 1, match[1], match[2])
        for match in _FENCE.finditer(text)
    ]
    return [block for block in all_blocks if language in ("", block.language)]


def files(page: Path) -> dict[str, str]:
    """The files that a page shows, by name."""
    return {block.file_name: block.text for block in blocks(page) if block.file_name}


def steps(page: Path) -> list[Step]:
    """The commands of a page's console blocks, in order."""
    return [step for block in blocks(page, "console") for step in _steps(block.text)]


def _steps(text: str) -> list[Step]:
    commands = re.split(rf"^{re.escape(_PROMPT)}", text, flags=re.MULTILINE)[1:]
    return [_step(*command.splitlines()) for command in commands]


def _step(command: str, *lines: str) -> Step:
    if _INTERRUPT not in lines:
        return Step(command, list(lines), False, [])
    at = lines.index(_INTERRUPT)
    return Step(command, list(lines[:at]), True, list(lines[at + 1 :]))


def commands(page: Path) -> list[str]:
    """The lines of a page's sh blocks, without comments; continued lines are joined."""
    text = "".join(block.text for block in blocks(page, "sh")).replace("\\\n", " ")
    lines = [re.sub(r"(^|\s)#.*$", "", line).strip() for line in text.splitlines()]
    return [line for line in lines if line]
