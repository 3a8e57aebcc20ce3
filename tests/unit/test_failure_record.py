"""The fields of a failure record that describe an exception."""

from __future__ import annotations

from asyncio import CancelledError
from datetime import UTC, datetime
from typing import Any

import pytest

from pyres.failure.base import BaseBackend


def record(error: BaseException, payload: Any = None) -> dict[str, Any]:
    """The record of an exception, after it was raised."""
    try:
        raise error
    except BaseException as raised:  # noqa: BLE001 - of any kind
        backend = BaseBackend(raised, "q", payload or {"class": "A", "args": []}, "host:1:q")
        return backend.record(datetime.now(UTC))


def caused() -> BaseException:
    error = RuntimeError("could not load")
    error.__cause__ = KeyError("the cause")
    return error


def in_context() -> BaseException:
    error = RuntimeError("could not load")
    error.__context__ = KeyError("the context")
    return error


def grouped() -> BaseException:
    return ExceptionGroup("rows", [ValueError("row 3"), ExceptionGroup("in", [OSError("row 4")])])


def noted() -> BaseException:
    error = ValueError("bad row")
    error.add_note("line 17 of users.csv")
    return error


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (caused, ("the cause", "was the direct cause of", "RuntimeError: could not load")),
        (in_context, ("the context", "another exception occurred")),
        (grouped, ("row 3", "row 4", "2 sub-exceptions")),
        (noted, ("line 17 of users.csv", "ValueError: bad row")),
    ],
)
def test_the_backtrace_is_what_python_prints(make: Any, words: tuple[str, ...]) -> None:
    text = "\n".join(record(make())["backtrace"])

    assert [word for word in words if word not in text] == []


def test_the_backtrace_of_a_plain_exception_has_its_frames_only() -> None:
    assert record(ValueError("plain"))["backtrace"][0].startswith("  File ")


@pytest.mark.parametrize("kind", [ValueError, RecursionError, CancelledError, SystemExit])
def test_a_text_that_cannot_be_had_costs_no_record(kind: type[BaseException]) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise kind("no text")

    assert record(MuteError())["error"] == f"<MuteError, whose str() raised {kind.__name__}>"


@pytest.mark.parametrize("text", ["x" * 10_000, "\N{SNOWMAN}" * 20_000, "begin" + "y" * 10**6])
def test_a_long_error_is_cut_in_the_middle_with_the_number_of_bytes(text: str) -> None:
    error = record(ValueError(text))["error"]

    head, left_out, tail = error.split(" ... ")
    assert len(error.encode()) <= 8000
    assert text.startswith(head)
    assert text.endswith(tail)
    kept = len(head.encode()) + len(tail.encode())
    assert left_out == f"({len(text.encode()) - kept} bytes left out)"


def test_a_long_backtrace_is_cut_in_the_middle_with_the_number_of_bytes() -> None:
    error = ValueError("bad")
    error.add_note("first\n" + "note\n" * 50_000 + "last")

    lines = record(error)["backtrace"]

    assert len("\n".join(lines).encode()) <= 64000
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "last"
    assert "bytes left out" in "\n".join(lines)


def test_a_payload_is_never_cut() -> None:
    payload = {"class": "A", "args": ["z" * 10**6]}

    assert record(ValueError("bad"), payload)["payload"] == payload


def test_the_number_of_attempts_follows_a_cut_error() -> None:
    payload = {"class": "A", "args": [], "retry_attempt": 1}

    assert record(ValueError("x" * 10_000), payload)["error"].endswith("x (tried 2 times)")
