"""The commands and code in the documentation run exactly as printed."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from pyres import schedule
from tests.docs.blocks import PAGES, blocks, commands, steps
from tests.servers import ROOT

LANGUAGES = {
    *("console", "dockerfile", "ini", "mermaid", "python", "redis", "ruby", "sh", "text", "yaml"),
}

#: Server addresses on the pages, for which a test uses its own server.
SERVERS = re.compile(r"\b(localhost|db1|db2):6379(?!\d)")

#: An expression with its value in a comment: `resq.size("mail")  # 2`.
VALUED = re.compile(r"^(\S.*?)  # (True|False|None|\d+|\[.*?\])(?=$|[:,;])")

#: Programs of other projects, which these tests do not run.
FOREIGN = {"gh", "git", "pip"}

with_python = [page for page in PAGES if blocks(page, "python")]
with_settings = [page for page in PAGES if blocks(page, "redis")]


def page_name(page: Path) -> str:
    return page.name


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_block_has_a_language_that_the_tests_know(page):
    unknown = [(b.line, b.language) for b in blocks(page) if b.language not in LANGUAGES]

    assert unknown == []


@pytest.mark.parametrize("page", with_python, ids=page_name)
def test_the_python_blocks_of_a_page_run_one_after_the_other(page, tmp_path, dsn, redis):
    redis.rpush("resque:failed", failure_record())
    (tmp_path / "page.py").write_text(program(page, dsn))

    done = run("-c", "import page", cwd=tmp_path, dsn=dsn)

    assert done.returncode == 0, done.stdout + done.stderr


def failure_record() -> str:
    payload = {"class": "page.Mail", "args": ["ada@example.org", "hello"]}
    return json.dumps({
        "failed_at": "2026/11/25 10:00:00 UTC", "payload": payload, "exception": "TimeoutError",
        "error": "timed out", "backtrace": [], "worker": "host1:1:mail", "queue": "mail",
    })  # fmt: skip


def program(page: Path, dsn: str) -> str:
    """The blocks as one module that asserts each value named by a comment."""
    text = "\n".join(block.text for block in blocks(page, "python") if not block.file_name)
    return "".join(f"{asserted(line)}\n" for line in SERVERS.sub(dsn, text).splitlines())


def asserted(line: str) -> str:
    valued = VALUED.match(line)
    if not valued or re.match(r"[\w.]+ = ", line):
        return line
    return f"value = {valued[1]}\nassert value == {valued[2]}, value"


def run(*args: str, cwd: Path, dsn: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "REDIS_URL": f"redis://{dsn}", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *args],
        cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "value"),
    [("resq.size('a')  # 2", "2"), ("f(1)  # False: skipped", "False"), ("f()  # [1]", "[1]")],
)
def test_a_value_in_a_comment_is_asserted(line, value):
    assert f"== {value}" in asserted(line)


@pytest.mark.parametrize("line", ["f(300)  # seconds", "f(1)  # 1 a second", "    f()  # 1"])
def test_any_other_comment_is_not_changed(line):
    assert asserted(line) == line


class Parsed(BaseException):
    """Raised when a command line has been parsed without an error."""


def shown_commands(page: Path) -> list[str]:
    """Every command line on a page: in sh and console blocks, systemd units and containers."""
    text = page.read_text("utf-8")
    units = re.findall(r"^ExecStart=(?:\S*/)?(pyres_.*)$", text, re.MULTILINE)
    arrays = re.findall(r'^(?:CMD| *args:) (\[".*\])$', text, re.MULTILINE)
    containers = [shlex.join(json.loads(array)) for array in arrays]
    listed = [step.command for step in steps(page)] + commands(page) + units + containers
    return [*listed, *re.findall(r"^    (pyres_\w+ .*?)(?:  +#.*)?$", text, re.MULTILINE)]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_option_of_a_pyres_command_exists(page, monkeypatch):
    programs = {point.name: point for point in entry_points(group="console_scripts")}
    parse = argparse.ArgumentParser.parse_args

    def parse_only(parser, args=None, namespace=None):
        parse(parser, args, namespace)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)

    for command in shown_commands(page):
        name, *args = shlex.split(command.replace("$MAINPID", "1").rstrip("&"))
        if name.startswith("pyres_"):
            with pytest.raises(Parsed):
                programs[name].load()(args)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_command_runs_a_program_that_the_tests_know(page):
    programs = {shlex.split(command)[0] for command in shown_commands(page)}

    known = {*FOREIGN, "make", "python", "redis-cli"}
    assert {name for name in programs if not name.startswith("pyres_")} <= known


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_make_target_exists(page):
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z][\w-]*):(?!=)", makefile, re.MULTILINE))

    # In prose a command is in backticks: `make chaos SECONDS=60`.
    named = re.findall(r"(?:`|^ *)make ([a-z][\w-]*)", page.read_text("utf-8"), re.MULTILINE)

    assert set(named) <= targets


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_redis_commands_are_understood_by_the_server(page, redis):
    for command in commands(page):
        if command.startswith("redis-cli "):
            redis.execute_command(*shlex.split(command)[1:])


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_python_commands_run(page, tmp_path, dsn, redis):
    for command in commands(page):
        if command.startswith("python -c "):
            done = run(*shlex.split(command)[1:], cwd=tmp_path, dsn=dsn)

            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", with_settings, ids=page_name)
def test_server_settings_are_understood_by_the_server(page, own_server):
    redis = own_server.client()
    text = "".join(block.text for block in blocks(page, "redis"))

    for line in filter(None, re.sub(r" *#.*", "", text).splitlines()):
        name, *words = line.split()
        if name == "user" and "+sentinel|masters" not in words:  # for sentinels only
            redis.execute_command("ACL", "SETUSER", *words)
        elif name != "user":
            redis.config_set(name, " ".join(words))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_a_yaml_file_of_schedule_entries_is_read_without_a_fault(page, tmp_path):
    for block in blocks(page, "yaml"):
        if re.search(r"^  (cron|every):", block.text, re.MULTILINE):
            path = tmp_path / "schedule.yml"
            path.write_text(block.text)

            assert not schedule.from_file(path).faults


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_link_leads_to_a_file_and_a_heading(page):
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text("utf-8"))

    for target, anchor in links:
        path = page.parent / target if target else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_no_page_installs_pyres_from_pypi_where_the_name_is_still_1_5(page):
    lines = [line for line in commands(page) if re.match(r"pip install '?pyres\b(?!-)", line)]

    assert lines == []


#: Words that the project once used, and the usual term for each.
PRIVATE_WORDS = {
    r"(job|jobs) in hand": "running job",
    r"its hand|in a hand|hands": "in-flight record, slot",
    r"taker": "fetcher",
    r"undertakers?": "crash handler",
    r"sign of life|signs of life": "heartbeat",
    r"lookouts?": "queue watcher",
    r"spare|child in waiting": "standby child",
    r"in force": "active",
    r"put off|lay by": "delay",
    r"is poison|poison element": "malformed payload",
    r"stand-ins?": "placeholder",
    r"what becomes of": "what happens to",
    r"customer": "user",
}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=page_name)
def test_a_page_uses_the_terms_of_the_field(page):
    text = " ".join(page.read_text("utf-8").split())

    used = {word: re.findall(rf"\b(?:{word})\b", text) for word in PRIVATE_WORDS}

    assert {word: PRIVATE_WORDS[word] for word, hits in used.items() if hits} == {}
