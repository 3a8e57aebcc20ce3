"""One named counter."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyres.client import ResQ


class Stat:
    """A counter of Resque's, at `resque:stat:<name>`; from pyres 1.5."""

    def __init__(self, name: str, resq: ResQ) -> None:
        self.name = name
        self.resq = resq
        self.key = resq.store.keys.stat(name)

    def get(self) -> int:
        """The counter's value; 0 if it does not exist."""
        return self.resq.store.stats.get(self.name)

    def incr(self, n: int = 1) -> None:
        """Add `n` to the counter."""
        self.resq.store.stats.incr(self.name, int(n))

    def decr(self, n: int = 1) -> None:
        """Subtract `n` from the counter."""
        self.resq.store.stats.decr(self.name, int(n))

    def clear(self) -> None:
        """Remove the counter."""
        self.resq.store.stats.clear(self.name)
