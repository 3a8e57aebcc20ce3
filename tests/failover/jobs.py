"""Jobs that leave their marks in a file: a server that fails over may forget, a file does not."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


class NoteJob:
    """Appends a word to a file."""

    queue = "notes"
    resq: Any

    @staticmethod
    def perform(file: str, word: object) -> None:
        note(file, word)


class SlowNoteJob(NoteJob):
    """Appends the word, sleeps, and appends it once more."""

    @staticmethod
    def perform(file: str, word: object, seconds: float) -> None:
        note(file, f"begun-{word}")
        time.sleep(seconds)
        note(file, word)


class UniqueNoteJob(NoteJob):
    """One of them is enough."""

    unique_for = 600


class BadNoteJob(NoteJob):
    """Appends the word and fails."""

    @staticmethod
    def perform(file: str, word: object) -> None:
        note(file, word)
        raise ValueError(word)


class GatedNoteJob(NoteJob):
    """Appends the word, and waits for another to be appended."""

    @staticmethod
    def perform(file: str, word: object, awaited: str) -> None:
        note(file, word)
        while awaited not in noted(Path(file)):
            time.sleep(0.01)


class GatedBadNoteJob(GatedNoteJob):
    """Appends the word, waits for another to be appended, and fails."""

    @staticmethod
    def perform(file: str, word: object, awaited: str) -> None:
        GatedNoteJob.perform(file, word, awaited)
        raise ValueError(word)


class RetriedNoteJob(NoteJob):
    """Appends the word and fails at first; the second attempt succeeds."""

    retry_limit = 1
    retry_delay = 1

    @staticmethod
    def perform(file: str, word: object) -> None:
        first = str(word) not in noted(Path(file))
        note(file, word)
        if first:
            raise ValueError(word)


class UniqueRetriedNoteJob(RetriedNoteJob):
    """A RetriedNoteJob that is unique until it has finished."""

    unique_for = 600
    unique_until = "done"


class DyingJob(NoteJob):
    """Appends the word and kills its process."""

    @staticmethod
    def perform(file: str, word: object) -> None:
        note(file, word)
        os._exit(3)


def note(file: str, word: object) -> None:
    """One write, so that what several processes append at once does not mix."""
    fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, f"{word}\n".encode())
    finally:
        os.close(fd)


def noted(file: Path) -> list[str]:
    """The words that have been appended until now."""
    return file.read_text("utf-8").splitlines() if file.exists() else []
