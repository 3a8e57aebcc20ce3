"""The failures of several servers as one list, the newest first, with a paging that holds still."""

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

#: One place of a `start`: a server's position, a list of it, and the index below which to go on.
PLACE = re.compile(r"([0-9]{1,4}):([^:,]{1,2000}):([0-9]{1,12})", re.ASCII)

#: Kinds that are shown of the newest.
KINDS = 8


class Starts:
    """Where a page starts: `?start=20` leaves out the newest 20 of each list; what a page gives as
    `following` says of each list from where on, so that new failures move nothing.
    """

    def __init__(self, given: str, where: Mapping[int, int], oldest_first: bool) -> None:
        self._where = where
        self._oldest_first = oldest_first
        self._passed = int(given) if re.fullmatch(r"[0-9]{1,12}", given, re.ASCII) else 0
        self._places: dict[int, dict[str, int]] = {}
        if not given or self._passed or not given.strip("0"):
            return
        for text in given.split(","):
            found = PLACE.fullmatch(text)
            if not found:
                raise BadRequest(f"{text[:100]!r} is no place to start at, nor a number from 0")
            place = self._places.setdefault(int(found[1]), {})
            place[name_of(unquote(found[2]))] = int(found[3])

    def of(self, inspector: Inspector, counts: Mapping[str, int]) -> dict[str, int]:
        """The position on one server; a list that is not in it starts with its first."""
        if self._passed and self._oldest_first:
            return dict.fromkeys(counts, self._passed)
        if self._passed:
            return {name: max(0, count - self._passed) for name, count in counts.items()}
        return self._places.get(self._where[id(inspector)], {})


def merged(
    pages: Sequence[tuple[Server, FailurePage]], count: int, oldest_first: bool = False
) -> tuple[list[dict[str, Any]], str | None]:
    """The first rows of all, and where the next page starts.

    Where one server has looked as far as it may and has more, nothing beyond that is shown: its
    next ones may come before it.
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
        waiting = (
            rank(page.horizon)
            for at, (_, page) in enumerate(pages)
            if at not in heads and not page.complete
        )
        if rank(heads[first].failed_at) < max(waiting, default=-math.inf):
            break
        rows.append(shown(heads[first], pages[first][0]))
        fetched[first] += 1
    if all(page.complete and fetched[at] == len(page.rows) for at, (_, page) in enumerate(pages)):
        return rows, None
    left = [
        (server.position, page.positions[n] if n < len(page.rows) else page.end)
        for (server, page), n in zip(pages, fetched.values(), strict=True)
    ]
    places = (
        f"{at}:{quote(url_id(name), safe='')}:{index}"
        for at, position in left
        for name, index in position.items()
    )
    return rows, ",".join(places)


def shown(found: FailureRow, server: Server) -> dict[str, Any]:
    """A failure with the path that names it for good."""
    list_handle = url_id(found.of)
    list_path = path(list_handle)
    return row(
        found,
        server,
        list_handle=list_handle,
        list_path=list_path,
        path=f"{list_path}/{found.digest}",
    )


def kinds(found: Sequence[FailureKinds]) -> dict[str, Any]:
    """The classes and exceptions that are most among the newest."""
    classes: Counter[str] = Counter()
    exceptions: Counter[str] = Counter()
    for one in found:
        classes.update(one.classes)
        exceptions.update(one.exceptions)
    return {
        "classes": _most("class", classes),
        "exceptions": _most("exception", exceptions),
        "retried": sum(one.retried for one in found),
    }


def _most(field: str, counted: Counter[str]) -> list[dict[str, Any]]:
    most = [(kind, count) for kind, count in counted.most_common(KINDS) if kind]
    return [{"kind": k, "count": n, "query": urlencode({field: k})} for k, n in most]
