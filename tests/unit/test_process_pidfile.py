"""Pidfiles: unusual paths, and two processes that use the same file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pyres.exceptions import BadOptionError
from pyres.process.children import Children
from pyres.process.pidfile import PidFile
from pyres.process.signals import Signals

NOBODY = "999999999\n"


def starters(path: Path, count: int) -> list[bool]:
    """The processes that get the file, of N that start at once; all run until all have tried."""
    children = Children(Signals({}))
    go, tried, end = os.pipe(), os.pipe(), os.pipe()

    def start() -> None:
        os.close(go[1])
        os.close(end[1])
        os.read(go[0], 1)
        try:
            PidFile(path).create()
            os.write(tried[1], b"\1")
        except BadOptionError:
            os.write(tried[1], b"\0")
        os.read(end[0], 1)

    pids = [children.fork(start) for _ in range(count)]
    os.close(go[1])
    answers = b""
    while len(answers) < count:
        answers += os.read(tried[0], count)
    os.close(end[1])
    for pid in pids:
        children.wait(pid)
    for fd in (go[0], *tried, end[0]):
        os.close(fd)
    return [bool(answer) for answer in answers]


def test_of_several_that_find_a_stale_file_one_gets_it(tmp_path: Path) -> None:
    path = tmp_path / "worker.pid"

    for _ in range(30):
        path.write_text(NOBODY)
        assert starters(path, 3).count(True) == 1

    assert os.listdir(tmp_path) == ["worker.pid"]


@pytest.mark.parametrize("content", [NOBODY, "", "no pid", "0\n", "-1\n", "\xff\xfe"])
def test_a_file_that_names_no_live_process_is_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "worker.pid"
    path.write_text(content, encoding="latin-1")

    with PidFile(path):
        assert path.read_text() == f"{os.getpid()}\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o644

    assert os.listdir(tmp_path) == []


def test_a_file_that_another_process_has_replaced_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "worker.pid"

    with PidFile(path):
        path.write_text(NOBODY)

    assert path.read_text() == NOBODY


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for path in (tmp_path, tmp_path / "file" / "worker.pid"):
        with pytest.raises(BadOptionError, match=f"the pidfile {path} cannot be written"):
            PidFile(path).create()
    assert os.listdir(tmp_path) == ["file"]
