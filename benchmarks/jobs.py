"""The jobs that every contestant performs: they do nothing."""

from __future__ import annotations


class Noop:
    """A job of pyres."""

    queue = "bench"

    @staticmethod
    def perform(*args: object) -> None:
        """Nothing."""


def noop(*args: object) -> None:
    """A job of RQ."""
