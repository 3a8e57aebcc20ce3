"""Whether this process starts: only then an error may be a mistake of whoever started it."""

from __future__ import annotations

_BEFORE, _STARTING, _OVER = range(3)

_phase = _BEFORE


def begin() -> None:
    """A command starts: what it cannot use ends it with one line."""
    global _phase  # noqa: PLW0603 - a fact of the process
    _phase = _STARTING


def finish() -> None:
    """The daemon of this process is up: it has looked for what there is to do."""
    global _phase  # noqa: PLW0603 - a fact of the process
    _phase = _OVER


def is_on() -> bool:
    """Whether a command starts just now."""
    return _phase == _STARTING


def is_over() -> bool:
    """Whether a command has started, and works."""
    return _phase == _OVER
