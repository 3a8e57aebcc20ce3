"""The files of the project are consistent with each other."""

from __future__ import annotations

import ast
import os
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from pyres.version import __version__
from tests.servers import ROOT

SCRIPTS = sorted((ROOT / "scripts").iterdir())
LUA = sorted((ROOT / "pyres/store/lua").glob("*.lua"))

#: The header of a Lua script: its name and purpose, its KEYS and ARGV, and what it returns.
HEAD = re.compile(
    r"-- {name}: [^\n]+\.\n"
    r"--\n"
    r"(-- KEYS\[[^]]+\] +\(?(STRING|LIST|SET|ZSET|HASH)\)? +\S[^\n]*\n(--  +[^\n]+\n)*)+"
    r"(-- ARGV\[[^]]+\] +\S[^\n]*\n(--  +[^\n]+\n)*)*"
    r"-- returns +\S[^\n]*\n"
)


SLEEPS = {"sleep", "time.sleep", "gevent.sleep", "asyncio.sleep", "threading.Event().wait"}

#: Helpers that poll a condition, and jobs whose purpose is to take time.
MAY_SLEEP = (
    "tests/servers.py::until",
    "tests/guard.py::_leaks",
    "tests/jobs.py::",
    "tests/chaos/jobs.py::",
    "tests/compat/jobs.py::",
    "tests/daemons/bad_jobs.py::perform",
    "tests/daemons/green.py::",
    "tests/daemons/green_jobs.py::",
    "tests/daemons/kill_jobs.py::perform",
    "tests/daemons/later.py::perform",
    "tests/daemons/odd_jobs.py::",
    "tests/failover/jobs.py::perform",
    "tests/neighbours/jobs.py::perform",
)


def metadata() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_the_top_release_of_the_changelog_is_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")

    entries = re.findall(r"^## (.*)$", changelog, re.MULTILINE)

    assert __version__ in next(entry for entry in entries if entry != "Unreleased")


def test_the_tree_has_a_script_for_each_installed_command():
    assert [script.name for script in SCRIPTS] == sorted(metadata()["project"]["scripts"])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_can_be_executed_and_calls_its_entry_point(script):
    source = script.read_text("utf-8")

    assert os.access(script, os.X_OK)
    assert source.startswith("#!/usr/bin/env python3\n")
    assert f"from pyres.scripts import {script.name}\n" in source


@pytest.mark.parametrize("script", LUA, ids=lambda path: path.stem)
def test_a_lua_script_begins_with_its_contract(script):
    head = HEAD.pattern.replace("{name}", script.stem)

    assert re.match(head, script.read_text("utf-8")), f"{script.name} has no head like {head}"


@pytest.mark.parametrize("script", LUA, ids=lambda path: path.stem)
def test_a_lua_script_uses_only_keys_and_arguments_of_its_contract(script):
    lines = script.read_text("utf-8").splitlines()
    head = "\n".join(line for line in lines if line.startswith("--"))
    body = "\n".join(line for line in lines if not line.startswith("--"))

    for used in set(re.findall(r"(KEYS|ARGV)\[(\d+)\]", body)):
        assert is_named(*used, head), f"{script.name} uses {used[0]}[{used[1]}]"


def test_a_part_of_lua_is_used_by_more_than_one_script():
    used = Counter(
        part
        for script in LUA
        for parts in re.findall(r"^-- uses +(.+)$", script.read_text("utf-8"), re.MULTILINE)
        for part in parts.split(", ")
    )

    assert set(used) == {part.stem for part in (ROOT / "pyres/store/lua_parts").glob("*.lua")}
    assert min(used.values()) > 1


def is_named(kind: str, number: str, head: str) -> bool:
    """Whether a header has it, by itself or in a range such as KEYS[2..n]."""
    for first, last in re.findall(rf"{kind}\[(\d+)(?:\.\.(\w+))?\]", head):
        if int(first) <= int(number) <= int(last if last.isdigit() else last and 9999 or first):
            return True
    return False


def test_the_extra_all_contains_every_extra_for_users():
    extras = metadata()["project"]["optional-dependencies"]

    (everything,) = extras["all"]
    assert set(re.findall(r"\w+", everything)) == {"pyres", *extras} - {"all", "bench", "dev"}


def test_the_extra_dev_contains_every_extra_but_the_server():
    extras = metadata()["project"]["optional-dependencies"]

    (own,) = [extra for extra in extras["dev"] if extra.startswith("pyres[")]
    assert set(re.findall(r"\w+", own)) == {"pyres", *extras} - {"all", "dev", "embedded"}


def test_no_test_waits_for_a_fixed_time():
    files = [file for file in ROOT.glob("tests/**/*.py") if "node_modules" not in file.parts]

    sleepers = {f"{file.relative_to(ROOT)}::{name}" for file in files for name in sleepers_of(file)}

    assert {name for name in sleepers if not name.startswith(MAY_SLEEP)} == set()
    assert [name for name in MAY_SLEEP if not any(s.startswith(name) for s in sleepers)] == []


def sleepers_of(file: Path) -> set[str]:
    """The innermost function around each call that sleeps."""
    sleepers = set()

    def visit(node: ast.AST, name: str) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            name = node.name
        if isinstance(node, ast.Call) and ast.unparse(node.func) in SLEEPS:
            sleepers.add(name)
        for child in ast.iter_child_nodes(node):
            visit(child, name)

    visit(ast.parse(file.read_text("utf-8")), "")
    return sleepers
