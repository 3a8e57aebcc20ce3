"""The failures of several servers merged into one list, with stable paging."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlencode

from werkzeug.exceptions import BadRequest

from pyres.inspector import (
    FailureKinds,
    FailurePage,
    FailureRow,
    Inspector,
    name_of,
    url_id,
)
from resweb.filters import path, row
from resweb.servers import Server

#: One part of a `start`: a server's position, a failure list, and the index to continue at.
PLACE = re.compile(r"([0-9]{1,4}):([^:,]{1,2000}):([0-9]{1,12})", re.ASCII)

#: Classes and exceptions listed, those most frequent among the newest failures.
MAX_KINDS = 8


class Starts:
    """Where a page starts: `?start=20` skips the newest 20 of each list; a page's `following` has
    an index for each list, so that new failures do not shift the next page.
    """

    def __init__(self, start: str, where: Mapping[int, int], oldest_first: bool) -> None:
        self._where = where
        self._oldest_first = oldest_first
        self._skipped = int(start) if re.fullmatch(r"[0-9]{1,12}", start, re.ASCII) else 0
        self._places: dict[int, dict[str, int]] = {}
        if not start or self._skipped or not start.strip("0"):
            return
        for text in start.split(","):
            match = PLACE.fullmatch(text)
            if not match:
                raise BadRequest(
                    f"invalid start {text[:100]!r}: expected a number from 0, or a page's following"
                )
            place = self._places.setdefault(int(match[1]), {})
            place[name_of(unquote(match[2]))] = int(match[3])

    def of(self, inspector: Inspector, counts: Mapping[str, int]) -> dict[str, int]:
        """The position on one server; a list that is not in it starts with its first record."""
        if self._skipped and self._oldest_first:
            return dict.fromkeys(counts, self._skipped)
        if self._skipped:
            return {name: max(0, count - self._skipped) for name, count in counts.items()}
        return self._places.get(self._where[id(inspector)], {})


def merged(
    pages: Sequence[tuple[Server, FailurePage]], count: int, oldest_first: bool = False
) -> tuple[list[dict[str, Any]], str | None]:
    """The first rows of all pages in order, and where the next page starts.

    If a server has stopped at its scan limit, rows beyond that point are left out: failures that it
    has not read yet may come before them.
    """

    def rank(failed_at: float | None) -> float:
        if failed_at is None or math.isinf(failed_at):
            return math.inf
        return -failed_at if oldest_first else failed_at

    fetched = dict.fromkeys(range(len(pages)), 0)
    rows: list[dict[str, Any]] = []
    while len(rows) < count:
        heads = {
            at: pages[at][1].rows[n] for at, n in fetched.items() if n < len(pages[at][1].rows)
        }
        if not heads:
            break
        first = max(heads, key=lambda at: rank(heads[at].failed_at))
        unread = (
            rank(page.horizon)
            for at, (_, page) in enumerate(pages)
            if at not in heads and not page.complete
        )
        if rank(heads[first].failed_at) < max(unread, default=-math.inf):
            break
        rows.append(with_path(heads[first], pages[first][0]))
        fetched[first] += 1
    if all(page.complete and fetched[at] == len(page.rows) for at, (_, page) in enumerate(pages)):
        return rows, None
    positions = [
        (server.position, page.positions[n] if n < len(page.rows) else page.end)
        for (server, page), n in zip(pages, fetched.values(), strict=True)
    ]
    places = (
        f"{at}:{quote(url_id(name), safe='')}:{index}"
        for at, position in positions
        for name, index in position.items()
    )
    return rows, ",".join(places)


def with_path(failure: FailureRow, server: Server) -> dict[str, Any]:
    """A failure with its permanent path."""
    list_handle = url_id(failure.of)
    list_path = path(list_handle)
    return row(
        failure,
        server,
        list_handle=list_handle,
        list_path=list_path,
        path=f"{list_path}/{failure.digest}",
    )


def kinds(samples: Sequence[FailureKinds]) -> dict[str, Any]:
    """The most frequent classes and exceptions of the newest failures of all servers."""
    classes: Counter[str] = Counter()
    exceptions: Counter[str] = Counter()
    for sample in samples:
        classes.update(sample.classes)
        exceptions.update(sample.exceptions)
    return {
        "classes": _most_common("class", classes),
        "exceptions": _most_common("exception", exceptions),
        "retried": sum(sample.retried for sample in samples),
    }


def _most_common(field: str, counts: Counter[str]) -> list[dict[str, Any]]:
    most = [(kind, count) for kind, count in counts.most_common(MAX_KINDS) if kind]
    return [{"kind": k, "count": n, "query": urlencode({field: k})} for k, n in most]
