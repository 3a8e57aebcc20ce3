"""The queues that a worker was told to look at: names, wildcards and !negations, in order of
priority.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pyres.exceptions import NoQueueError

#: What makes a name a pattern for Resque.
_WILD = re.compile(r"[*?{}\[\]]")

#: `[...]` or `[!...]`, and in it characters and ranges, any of them escaped.
_SET = re.compile(r"\[([!^]?)((?:[^\]\\]|\\.)+)\]", re.DOTALL)
_RANGE = re.compile(r"(\\.|.)(?:-(\\.|.))?", re.DOTALL)


class QueueList:
    """Patterns as Resque reads them. `names` is what a worker's id shows: the negated are left out.

    NoQueueError when nothing is left to look at.
    """

    def __init__(self, queues: str | Iterable[str]) -> None:
        given = queues.split(",") if isinstance(queues, str) else list(queues)
        for queue in given:
            if not isinstance(queue, str):
                raise NoQueueError(f"{queue!r} is no queue; its name is a str")
        stripped = [queue.strip() for queue in given if queue.strip()]
        self.names = [queue for queue in stripped if not queue.startswith("!")]
        self._skipped = [_pattern(queue[1:]) for queue in stripped if queue.startswith("!")]
        if not self.names:
            raise NoQueueError(
                f"{','.join(given)!r} names no queue to look at. {NoQueueError.__doc__}"
            )
        #: Whether the queues depend on which ones are known.
        self.dynamic = bool(self._skipped) or any(_WILD.search(name) for name in self.names)
        self._patterns = [_pattern(name) for name in self.names]

    def among(self, known: Iterable[str]) -> list[str]:
        """The queues to look at, the most important first, if these are known.

        Names without a wildcard are looked at known or not, unless another one is dynamic: then, as
        in Resque, only what is known counts.
        """
        if not self.dynamic:
            return list(dict.fromkeys(self.names))
        by_bytes = sorted(known, key=lambda name: name.encode("utf-8", "surrogateescape"))
        wanted = [name for name in by_bytes if not any(skip.match(name) for skip in self._skipped)]
        found = [name for pattern in self._patterns for name in wanted if pattern.match(name)]
        return list(dict.fromkeys(found))


def _pattern(wild: str) -> re.Pattern[str]:
    """Ruby's File.fnmatch without flags: `*` crosses slashes, and takes no leading dot."""
    dot = r"(?!\.)" if wild[:1] in ("*", "?", "[") else ""
    parts, rest = [], wild
    while rest:
        part, rest = _next_part(rest)
        parts.append(part)
    return re.compile(dot + "".join(parts) + r"\Z", re.DOTALL)


def _next_part(rest: str) -> tuple[str, str]:
    first = rest[0]
    if first == "*":
        return ".*", rest[1:]
    if first == "?":
        return ".", rest[1:]
    if first == "\\" and len(rest) > 1:
        return re.escape(rest[1]), rest[2:]
    if first == "[" and (found := _SET.match(rest)):
        return _one_of(found[2], bool(found[1])), rest[found.end() :]
    return re.escape(first), rest[1:]


def _one_of(inside: str, negated: bool) -> str:
    """A set of characters, written so that nothing in it means more to Python than to Ruby."""
    items = [
        f"{re.escape(low[-1])}-{re.escape((high or low)[-1])}"
        for low, high in _RANGE.findall(inside)
        if low[-1] <= (high or low)[-1]  # a range that runs backwards holds nothing, as in Ruby
    ]
    if not items:
        return "." if negated else r"(?!)"
    return f"[{'^' if negated else ''}{''.join(items)}]"
