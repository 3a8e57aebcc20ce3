"""Log handlers raise nothing, and do not wait for a reader that does not read."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyres import logs
from pyres.logs import JsonFormatter, get_logging_handler
from pyres.process import log_output
from pyres.process.log_output import FileOutput, StreamOutput


@pytest.fixture
def log() -> Iterator[Callable[[logging.Handler, str], None]]:
    """Gives a line to a handler, which is closed at the end."""
    used: set[logging.Handler] = set()

    def log(handler: logging.Handler, text: str) -> None:
        used.add(handler)
        handler.handle(logging.makeLogRecord({"msg": text, "levelno": logging.INFO}))

    yield log
    for handler in used:
        handler.close()


def take_folder(folder: Path) -> Callable[[], object]:
    shutil.move(folder, folder.with_name("away"))
    return folder.mkdir


def take_folder_for_a_file(folder: Path) -> Callable[[], object]:
    shutil.move(folder, folder.with_name("away"))
    folder.touch()

    def give_back() -> None:
        folder.unlink()
        folder.mkdir()

    return give_back


def fill_disk(folder: Path) -> Callable[[], object]:
    (folder / "w.log").unlink()
    (folder / "w.log").symlink_to("/dev/full")
    return (folder / "w.log").unlink


def make_pipe(folder: Path) -> Callable[[], object]:
    """It has no reader: opening such a pipe would wait for ever."""
    (folder / "w.log").unlink()
    os.mkfifo(folder / "w.log")
    return (folder / "w.log").unlink


def make_loop(folder: Path) -> Callable[[], object]:
    (folder / "w.log").unlink()
    (folder / "w.log").symlink_to("w.log")
    return (folder / "w.log").unlink


@pytest.mark.parametrize(
    "take", [take_folder, take_folder_for_a_file, fill_disk, make_pipe, make_loop]
)
def test_lines_go_to_stderr_while_the_file_cannot_be_written_and_then_to_the_file(
    tmp_path: Path, capfd: Any, log: Any, take: Callable[[Path], Callable[[], object]]
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    handler = get_logging_handler(str(folder / "w.log"), "worker")

    log(handler, "first")
    give_back = take(folder)
    for text in ("second", "third"):
        log(handler, text)
    give_back()
    for text in ("fourth", "fifth"):
        log(handler, text)

    output = capfd.readouterr().err
    assert output.count("cannot be written") == 1
    assert output.index("cannot be written") < output.index("second") < output.index("third")
    text = (folder / "w.log").read_text()
    assert text.count("2 lines were written to stderr") == 1
    assert text.index("2 lines were written to stderr") < text.index("fourth") < text.index("fifth")
    assert "second" not in text


def test_an_open_file_is_written_though_its_folder_cannot_be_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Any
) -> None:
    handler = get_logging_handler(str(tmp_path / "w.log"), "worker")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "refused for a test")

    with monkeypatch.context() as patched:
        patched.setattr(log_output.os, "stat", refuse)
        log(handler, "seen")

    assert "seen" in (tmp_path / "w.log").read_text()


def test_the_lines_of_the_handler_itself_are_json_too(tmp_path: Path, capfd: Any, log: Any) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    handler = get_logging_handler(str(folder / "w.log"), "worker", json_logs=True)

    give_back = take_folder(folder)
    log(handler, "elsewhere")
    give_back()
    log(handler, "back")

    for text in (capfd.readouterr().err, (folder / "w.log").read_text()):
        assert [set(json.loads(line)) >= {"message"} for line in text.splitlines()] == [True] * 2


def test_a_file_that_cannot_be_opened_at_first_ends_no_child(
    tmp_path: Path, capfd: Any, log: Any
) -> None:
    handler = logs._handler(str(tmp_path / "no" / "w.log"), "minion", None, False)

    log(handler, "elsewhere")
    (tmp_path / "no").mkdir()
    log(handler, "there")

    assert "elsewhere" in capfd.readouterr().err
    assert "there" in (tmp_path / "no" / "w.log").read_text()


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_lines_that_are_not_read_are_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch, log: Any, kind: str
) -> None:
    monkeypatch.setattr(log_output, "WRITE_TIMEOUT_MS", 1)
    reader, writer = os.pipe() if kind == "pipe" else map(socket.socket.detach, socket.socketpair())
    with os.fdopen(reader, "rb", buffering=0) as end, os.fdopen(writer, "w") as stream:
        handler = StreamOutput(stream)
        # More than either buffers.
        for _ in range(200):
            log(handler, "x" * 10_000)
        while len(end.read(1 << 16)) == 1 << 16:
            pass
        os.set_blocking(end.fileno(), False)
        while end.read(1 << 16):
            pass
        log(handler, "read again")

        output = (end.read(1 << 16) or b"").decode()

    assert "lines were dropped here: not read in time\n" in output
    assert output.endswith("read again\n")


def test_a_reader_that_has_ended_is_not_an_error(log: Any) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        log(StreamOutput(stream), "to nobody")
        # Nothing is buffered that would be written, and refused, at the end of the process.
        stream.flush()


@pytest.mark.parametrize("stream", [None, io.StringIO()], ids=["none", "a substitute"])
def test_a_stream_without_a_descriptor_is_not_an_error(stream: Any, log: Any) -> None:
    handler = StreamOutput(sys.stderr)
    handler.stream = stream

    log(handler, "text")

    assert stream is None or stream.getvalue() == "text\n"


def test_a_syslog_that_does_not_read_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, log: Any
) -> None:
    monkeypatch.setattr(log_output, "SYSLOG_TIMEOUT", 0.001)
    monkeypatch.setattr(logs, "SYSLOG_SOCKETS", (str(tmp_path / "log"),))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(tmp_path / "log"))
        handler = get_logging_handler("syslog", "worker")

        # Linux buffers some ten or some hundred datagrams for a socket that is not read.
        for number in range(600):
            log(handler, f"line {number}")

    assert "line 599" in capfd.readouterr().err


def test_a_record_that_cannot_be_formatted_is_reported_and_no_error(
    tmp_path: Path, capfd: Any
) -> None:
    handler = FileOutput(str(tmp_path / "w.log"))
    handler.setFormatter(JsonFormatter())

    handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
    handler.close()

    assert "no number" in capfd.readouterr().err
