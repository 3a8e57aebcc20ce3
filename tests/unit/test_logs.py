"""Where the log is written, and the format of a line."""

from __future__ import annotations

import json
import logging
import logging.config
import logging.handlers
import re
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyres import get_logging_handler, logs, setup_logging, special_log_file, worker
from pyres.exceptions import BadOptionError
from pyres.logs import PACKAGE_LOGGER, clear_logging
from pyres.process.children import Children
from pyres.process.signals import Signals


@pytest.fixture(autouse=True)
def former_logging() -> Iterator[None]:
    """The loggers as they were."""
    loggers = {logger: logger.level for logger in (logging.getLogger(), PACKAGE_LOGGER)}
    before = {logger: list(logger.handlers) for logger in loggers}
    disabled = {logger: logger.disabled for logger in all_loggers()}
    yield
    clear_logging()
    for logger in all_loggers():
        logger.disabled = disabled.get(logger, False)
    for logger, level in loggers.items():
        for handler in [each for each in logger.handlers if each not in before[logger]]:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(level)


def all_loggers() -> list[logging.Logger]:
    """Every logger that was ever asked for."""
    known = logging.getLogger().manager.loggerDict.values()
    return [logger for logger in known if isinstance(logger, logging.Logger)]


def set_up(*args: Any, **options: Any) -> None:
    """setup_logging() in a program that has no handlers yet; pytest has, and puts them back."""
    logging.getLogger().handlers.clear()
    setup_logging(*args, **options)


@pytest.mark.parametrize("name", ["stderr", "stdout", "syslog", "syslog:local3"])
def test_special_names_are_not_files(name: str) -> None:
    assert special_log_file(name)
    assert not special_log_file(f"/var/log/{name}")


def test_a_line_looks_as_in_1_5(tmp_path: Path) -> None:
    set_up("worker", "info", str(tmp_path / "w.log"))

    logging.getLogger("x").info("hello %s", "é")

    line = (tmp_path / "w.log").read_text()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +\d+ INFO     hello é\n", line)


def test_a_file_that_was_rotated_away_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "w.log"
    set_up("worker", logging.INFO, str(path))

    logging.getLogger().info("one")
    path.rename(tmp_path / "w.log.1")
    logging.getLogger().info("two")

    assert "one" in (tmp_path / "w.log.1").read_text()
    assert "two" in path.read_text()


@pytest.mark.parametrize("present", [True, False])
def test_syslog_is_reached_by_the_first_socket_there_is_else_by_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: bool
) -> None:
    """macOS has its socket at another path than Linux."""
    path = str(tmp_path / "syslog")
    monkeypatch.setattr(logs, "SYSLOG_SOCKETS", ("/no/such/log", path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        if present:
            syslog.bind(path)

        handler = get_logging_handler("syslog", "worker")
        handler.close()

    assert isinstance(handler, logging.handlers.SysLogHandler)
    assert handler.address == (path if present else ("localhost", 514))


def test_setting_up_twice_duplicates_no_line(tmp_path: Path) -> None:
    set_up("worker", "INFO", str(tmp_path / "a.log"))
    setup_logging("worker", "INFO", str(tmp_path / "b.log"))

    logging.getLogger().info("once")

    assert (tmp_path / "a.log").read_text() == ""
    assert (tmp_path / "b.log").read_text().count("once") == 1


def test_a_json_line_has_all_fields(tmp_path: Path) -> None:
    set_up("worker", "INFO", str(tmp_path / "w.log"), json_logs=True)

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
    [
        ("syslog:nowhere", "invalid syslog facility 'nowhere'"),
        ("/no/such/dir/x.log", "cannot be opened"),
    ],
)
def test_an_invalid_log_file_is_named(where: str, complaint: str) -> None:
    with pytest.raises(BadOptionError, match=complaint):
        get_logging_handler(where, "worker")


def test_an_invalid_level_is_named() -> None:
    with pytest.raises(BadOptionError, match="invalid log level 'loud'"):
        setup_logging("worker", "loud")


@pytest.mark.parametrize("json_logs", [False, True])
def test_a_line_with_text_that_is_not_utf_8_is_not_lost(tmp_path: Path, json_logs: bool) -> None:
    path = tmp_path / "w.log"
    set_up("worker", "INFO", str(path), json_logs=json_logs)

    logging.getLogger().info("Got %s", "a\udcffb")

    line = path.read_text()
    assert r"Got a\udcffb" in line
    assert not json_logs or json.loads(line)["message"] == "Got a\udcffb"


def test_processes_that_share_a_file_write_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "minion.log"
    set_up("minion", "INFO", str(path))
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
    set_up("worker", level, str(tmp_path / "w.log"))

    assert logging.getLogger().level == number


@pytest.mark.parametrize("name", ["pyres.worker", "app.jobs", "root"])
def test_a_line_of_pyres_or_of_an_application_without_logging_setup_is_logged_once(
    tmp_path: Path, name: str
) -> None:
    set_up("worker", "info", str(tmp_path / "w.log"))

    logging.getLogger(None if name == "root" else name).info("line of %s", name)
    logging.getLogger(None if name == "root" else name).debug("too much")

    assert (tmp_path / "w.log").read_text().count("line of") == 1
    assert "too much" not in (tmp_path / "w.log").read_text()


def test_a_library_with_a_null_handler_and_captured_warnings_are_in_the_log(
    tmp_path: Path,
) -> None:
    set_up("worker", "info", str(tmp_path / "w.log"))
    library = logging.getLogger("some.library")
    library.addHandler(logging.NullHandler())

    library.info("of the library")
    logging.captureWarnings(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("of somebody", UserWarning, stacklevel=1)
    finally:
        logging.captureWarnings(False)
        logging.getLogger("py.warnings").handlers.clear()  # logging adds one with the first line

    assert "of the library" in (tmp_path / "w.log").read_text()
    assert "UserWarning: of somebody" in (tmp_path / "w.log").read_text()


def test_the_function_logging_info_sets_nothing_up(tmp_path: Path, capfd: Any) -> None:
    set_up("worker", "info", str(tmp_path / "w.log"))

    logging.info("without a logger")  # noqa: LOG015 - what is tried

    assert "INFO     without a logger" in (tmp_path / "w.log").read_text()
    assert capfd.readouterr() == ("", "")


def test_basic_config_of_the_application_gets_its_own_lines_and_those_of_pyres(
    tmp_path: Path,
) -> None:
    """As with 1.5: the level is Python's default, if none is passed to basicConfig()."""
    ours, theirs = tmp_path / "w.log", tmp_path / "app.log"
    set_up("worker", "info", str(ours))

    logging.basicConfig(filename=theirs, format="%(name)s %(message)s")
    logging.getLogger("app").info("quiet")
    logging.getLogger("app").warning("loud")
    logging.getLogger("pyres.worker").info("done")

    assert theirs.read_text() == "app loud\npyres.worker done\n"
    assert [line.split()[-1] for line in ours.read_text().splitlines()] == ["done"]


def test_a_stream_shared_with_the_application_has_no_line_of_pyres_twice(
    capfd: Any,
) -> None:
    set_up("worker", "info", "stderr")

    logging.basicConfig(format="theirs %(message)s", stream=PACKAGE_LOGGER.handlers[0].stream)
    logging.getLogger("pyres.worker").info("of pyres")
    logging.getLogger("app").warning("of the application")

    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("INFO     of pyres")
    assert lines[1] == "theirs of the application"


def test_a_handler_that_the_application_adds_gets_all_lines_and_withholds_none(
    tmp_path: Path,
) -> None:
    set_up("worker", "info", str(tmp_path / "w.log"))

    logging.getLogger().addHandler(added := logging.FileHandler(tmp_path / "more.log"))
    added.setLevel(logging.WARNING)
    for name in ("app", "pyres.job"):
        logging.getLogger(name).info("small")
        logging.getLogger(name).error("big")

    assert (tmp_path / "more.log").read_text() == "big\nbig\n"
    assert [line.split()[-1] for line in (tmp_path / "w.log").read_text().splitlines()] == [
        "small",
        "big",
    ] * 2


def test_a_basic_config_that_fails_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    set_up("worker", "info", str(tmp_path / "w.log"))

    with pytest.raises(ValueError, match="nonsense"):
        logging.basicConfig(nonsense=True)
    logging.getLogger("app").info("still here")

    assert "still here" in (tmp_path / "w.log").read_text()


DICT_CONFIG: dict[str, Any] = {
    "version": 1,
    "handlers": {"file": {"class": "logging.FileHandler", "filename": ""}},
    "root": {"handlers": ["file"], "level": "INFO"},
}


@pytest.mark.parametrize(
    "loggers", [{}, {"pyres": {"level": "INFO"}}, {"pyres": {"handlers": ["file"]}}]
)
def test_a_dict_config_that_disables_other_loggers_does_not_silence_pyres(
    tmp_path: Path, loggers: dict[str, Any]
) -> None:
    """Who names `pyres` gets its lines; otherwise they stay in its log and are passed on."""
    set_up("worker", "info", str(tmp_path / "w.log"))
    logger, theirs = logging.getLogger("pyres.worker"), tmp_path / "app.log"
    application = f"app.{tmp_path.name}"
    file = {"class": "logging.FileHandler", "filename": str(theirs)}

    logging.config.dictConfig({**DICT_CONFIG, "handlers": {"file": file}, "loggers": loggers})
    logger.info("of pyres")
    logging.getLogger(application).info("of the application")

    assert "of pyres" in theirs.read_text()
    assert "of the application" in theirs.read_text()
    assert ("of pyres" in (tmp_path / "w.log").read_text()) == (not loggers)
    assert "of the application" not in (tmp_path / "w.log").read_text()


def test_a_second_set_up_leaves_the_root_to_the_application(tmp_path: Path) -> None:
    """As in a minion, whose manager has imported a module that calls basicConfig()."""
    set_up("manager", "info", str(tmp_path / "khan.log"))
    logging.basicConfig(filename=tmp_path / "app.log", level="INFO", format="%(message)s")

    setup_logging("minion", "info", str(tmp_path / "minion-1.log"))
    logging.getLogger("app").info("of the application")
    logging.getLogger("pyres.minion").info("of pyres")

    assert (tmp_path / "app.log").read_text() == "of the application\nof pyres\n"
    assert (tmp_path / "khan.log").read_text() == ""
    assert (tmp_path / "minion-1.log").read_text().count("of") == 1


def test_a_program_that_has_set_up_its_logging_keeps_its_lines_for_itself(tmp_path: Path) -> None:
    logging.getLogger().handlers[:] = [logging.FileHandler(tmp_path / "app.log")]

    setup_logging("worker", "debug", str(tmp_path / "w.log"))
    logging.getLogger("app").error("of the application")

    assert (tmp_path / "w.log").read_text() == ""
    assert logging.getLogger().level == logging.WARNING


def test_the_logger_pyres_has_handler_and_level_as_in_1_5(tmp_path: Path) -> None:
    set_up("worker", "debug", str(tmp_path / "w.log"))

    assert logging.getLogger("pyres").level == logging.DEBUG
    assert logging.getLogger("pyres").handlers[0].baseFilename == str(tmp_path / "w.log")


def test_the_level_notset_sets_nothing_up_as_in_1_5(tmp_path: Path) -> None:
    set_up("worker", logging.NOTSET, str(tmp_path / "w.log"))

    assert not (tmp_path / "w.log").exists()


def test_a_handler_of_the_application_that_raises_loses_no_line_of_pyres(tmp_path: Path) -> None:
    class Raising(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise OSError("the application's own")

    logging.getLogger().handlers[:] = [Raising()]
    setup_logging("worker", "info", str(tmp_path / "w.log"))

    worker.logger.warning("a line")

    assert "a line" in (tmp_path / "w.log").read_text()
