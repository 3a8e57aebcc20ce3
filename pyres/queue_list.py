"""The queues of a worker: names, wildcards and !negations, in order of priority."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pyres.exceptions import NoQueueError

#: The characters that make a name a pattern for Resque.
_WILD = re.compile(r"[*?{}\[\]]")

#: `[...]` or `[!...]` with characters and ranges, which may be escaped.
_SET = re.compile(r"\[([!^]?)((?:[^\]\\]|\\.)+)\]", re.DOTALL)
_RANGE = re.compile(r"(\\.|.)(?:-(\\.|.))?", re.DOTALL)


class QueueList:
    """Queue patterns as Resque reads them. `names` is what a worker's id shows: without negations.

    Raises NoQueueError when no queue remains.
    """

    def __init__(self, queues: str | Iterable[str]) -> None:
        patterns = queues.split(",") if isinstance(queues, str) else list(queues)
        for pattern in patterns:
            if not isinstance(pattern, str):
                raise NoQueueError(f"invalid queue name {pattern!r}: expected a str")
        stripped = [pattern.strip() for pattern in patterns if pattern.strip()]
        self.names = [queue for queue in stripped if not queue.startswith("!")]
        self._skipped = [_pattern(queue[1:]) for queue in stripped if queue.startswith("!")]
        if not self.names:
            raise NoQueueError(
                f"invalid queues {','.join(patterns)!r}: expected the name of a queue to fetch "
                f"from. {NoQueueError.__doc__}"
            )
        #: Whether the queues depend on which ones exist.
        self.dynamic = bool(self._skipped) or any(_WILD.search(name) for name in self.names)
        self._patterns = [_pattern(name) for name in self.names]

    def among(self, known: Iterable[str]) -> list[str]:
        """The queues to fetch from, highest priority first, if the `known` ones exist.

        Names without a wildcard are included whether known or not, unless another pattern is
        dynamic: then, as in Resque, only known queues are.
        """
        if not self.dynamic:
            return list(dict.fromkeys(self.names))
        by_bytes = sorted(known, key=lambda name: name.encode("utf-8", "surrogateescape"))
        kept = [name for name in by_bytes if not any(skip.match(name) for skip in self._skipped)]
        matches = [name for pattern in self._patterns for name in kept if pattern.match(name)]
        return list(dict.fromkeys(matches))


def _pattern(wild: str) -> re.Pattern[str]:
    """Ruby's File.fnmatch without flags: `*` matches slashes, but not a leading dot."""
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
    if first == "[" and (match := _SET.match(rest)):
        return _one_of(match[2], bool(match[1])), rest[match.end() :]
    return re.escape(first), rest[1:]


def _one_of(inside: str, negated: bool) -> str:
    """A set of characters as a Python pattern with the same meaning as in Ruby."""
    items = [
        f"{re.escape(low[-1])}-{re.escape((high or low)[-1])}"
        for low, high in _RANGE.findall(inside)
        if low[-1] <= (high or low)[-1]  # a reversed range matches nothing, as in Ruby
    ]
    if not items:
        return "." if negated else r"(?!)"
    return f"[{'^' if negated else ''}{''.join(items)}]"
