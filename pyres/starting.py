"""Whether this process is still starting: only then an error may be due to a wrong option."""

from __future__ import annotations

_BEFORE, _STARTING, _OVER = range(3)

_phase = _BEFORE


def begin() -> None:
    """A command starts: until finish() an invalid option or server ends it with one line."""
    global _phase  # noqa: PLW0603 - a fact of the process
    _phase = _STARTING


def finish() -> None:
    """The daemon of this process has started: it has looked for work once."""
    global _phase  # noqa: PLW0603 - a fact of the process
    _phase = _OVER


def is_on() -> bool:
    """Whether a command is starting now."""
    return _phase == _STARTING


def is_over() -> bool:
    """Whether a command has started."""
    return _phase == _OVER
