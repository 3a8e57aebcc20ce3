"""Where the log goes, and how a line looks."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyres import get_logging_handler, setup_logging, special_log_file
from pyres.exceptions import BadOptionError
from pyres.process.children import Children
from pyres.process.signals import Signals


@pytest.fixture(autouse=True)
def former_logging() -> Iterator[None]:
    """The root logger as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in [h for h in root.handlers if h not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


@pytest.mark.parametrize("name", ["stderr", "stdout", "syslog", "syslog:local3"])
def test_special_names_are_no_files(name: str) -> None:
    assert special_log_file(name)
    assert not special_log_file(f"/var/log/{name}")


def test_a_line_looks_as_in_1_5(tmp_path: Path) -> None:
    setup_logging("worker", "info", str(tmp_path / "w.log"))

    logging.getLogger("x").info("hello %s", "é")

    line = (tmp_path / "w.log").read_text()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +\d+ INFO     hello é\n", line)


def test_a_file_that_was_rotated_away_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "w.log"
    setup_logging("worker", logging.INFO, str(path))

    logging.getLogger().info("one")
    path.rename(tmp_path / "w.log.1")
    logging.getLogger().info("two")

    assert "one" in (tmp_path / "w.log.1").read_text()
    assert "two" in path.read_text()


def test_setting_up_twice_doubles_no_line(tmp_path: Path) -> None:
    setup_logging("worker", "INFO", str(tmp_path / "a.log"))
    setup_logging("worker", "INFO", str(tmp_path / "b.log"))

    logging.getLogger().info("once")

    assert (tmp_path / "a.log").read_text() == ""
    assert (tmp_path / "b.log").read_text().count("once") == 1


def test_a_json_line_holds_it_all(tmp_path: Path) -> None:
    setup_logging("worker", "INFO", str(tmp_path / "w.log"), json_logs=True)

    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("some.where").exception("failed")

    line = json.loads((tmp_path / "w.log").read_text())
    assert (line["level"], line["logger"], line["message"]) == ("ERROR", "some.where", "failed")
    assert "ValueError: broken" in line["exception"]
    assert line["time"].endswith("+00:00")


@pytest.mark.parametrize(
    ("where", "complaint"),
    [("syslog:nowhere", "no facility 'nowhere'"), ("/no/such/dir/x.log", "cannot be opened")],
)
def test_a_place_that_is_none_is_named(where: str, complaint: str) -> None:
    with pytest.raises(BadOptionError, match=complaint):
        get_logging_handler(where, "worker")


def test_a_level_that_is_none_is_named() -> None:
    with pytest.raises(BadOptionError, match="'loud' is no log level"):
        setup_logging("worker", "loud")


@pytest.mark.parametrize("json_logs", [False, True])
def test_a_line_with_text_that_is_no_utf_8_is_not_lost(tmp_path: Path, json_logs: bool) -> None:
    path = tmp_path / "w.log"
    setup_logging("worker", "INFO", str(path), json_logs=json_logs)

    logging.getLogger().info("Got %s", "a\udcffb")

    line = path.read_text()
    assert r"Got a\udcffb" in line
    assert not json_logs or json.loads(line)["message"] == "Got a\udcffb"


def test_processes_that_share_a_file_write_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "minion.log"
    setup_logging("minion", "INFO", str(path))
    children = Children(Signals({}))

    def write(letter: str) -> None:
        for _ in range(50):
            logging.getLogger().info(letter * 20_000)

    pids = [children.fork(lambda letter=letter: write(letter)) for letter in "abc"]
    for pid in pids:
        children.wait(pid)

    lines = path.read_text().splitlines()
    assert len(lines) == 150
    assert {line.split()[-1] for line in lines} == {letter * 20_000 for letter in "abc"}


@pytest.mark.parametrize(("level", "number"), [("debug", 10), ("Warning", 30), (25, 25)])
def test_a_level_is_a_name_or_a_number(tmp_path: Path, level: int | str, number: int) -> None:
    setup_logging("worker", level, str(tmp_path / "w.log"))

    assert logging.getLogger().level == number
