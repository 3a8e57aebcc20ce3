"""Several Redis servers asked side by side; one that is down is a row, not an error."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pyres.client import ResQ
from pyres.exceptions import BadOptionError
from pyres.inspector import UNAVAILABLE, Inspector, is_down

#: Seconds until a server that says nothing counts as down for this page.
TIMEOUT = 2.0

#: Seconds for which one that said nothing is not asked again: else every page would wait for it.
QUIET = 5.0

#: How a server does not answer: it is gone, or it hangs.
NO_ANSWER: tuple[type[Exception], ...] = (*UNAVAILABLE, TimeoutError)


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a server said to one question, or why it said nothing: it is down, or refused this."""

    server: Server
    value: Any = None
    error: str = ""
    is_down: bool = False


class Server:
    """One Redis server under the name that the page shows."""

    def __init__(self, name: str, resq: ResQ, position: int) -> None:
        self.name = name
        self.resq = resq
        self.inspector = Inspector(resq)
        #: Its place in the order given; a page's `start` tells servers apart by it.
        self.position = position
        self._quiet_until = 0.0
        self._last_error = ""

    def answer(self, question: Callable[[Inspector], Any]) -> Answer:
        """Put a question to it. One that did not answer in time is taken for down for a while."""
        begun = time.monotonic()
        if begun < self._quiet_until:
            return Answer(self, error=self._last_error, is_down=True)
        try:
            # So that now() knows its clock, which may differ from this host's.
            self.resq.store.clock.now()
            return Answer(self, question(self.inspector))
        except NO_ANSWER as error:
            if not is_down(error):
                return Answer(self, error=_describe(error))
            self._last_error = _describe(error)
            ended = time.monotonic()
            if ended - begun > TIMEOUT / 2:
                self._quiet_until = ended + QUIET
            return Answer(self, error=self._last_error, is_down=True)

    def now(self) -> float:
        """The time by its clock, as it was when it answered last; it is not asked."""
        return self.resq.store.clock.estimate()

    @property
    def where(self) -> str:
        """The DSN without its password."""
        return self.resq.dsn


class Servers:
    """All servers of the page, and how they are asked."""

    def __init__(self, dsns: Sequence[str | ResQ], password: str | None = None, **more: Any):
        self.all: list[Server] = []
        for given in dsns:
            name, resq = _named(given, password, more)
            # The same server twice would count everything twice.
            if any(server.where == resq.dsn for server in self.all):
                continue
            if any(server.name == (name or resq.dsn) for server in self.all):
                raise BadOptionError(f"two servers are named {name!r}; each needs its own name")
            self.all.append(Server(name or resq.dsn, resq, len(self.all)))
        if not self.all:
            raise BadOptionError("no server was named; give at least one DSN")
        self._pool = ThreadPoolExecutor(max_workers=4 * len(self.all))

    def close(self) -> None:
        """End the threads when they are done, and leave the servers."""
        self._pool.shutdown()
        for server in self.all:
            server.resq.close()

    def chosen(self, name: str) -> list[Server]:
        """The server of this name, or all for an empty name; none for an unknown one."""
        return [server for server in self.all if name in ("", server.name)]

    def ask(self, question: Callable[[Inspector], Any], name: str = "") -> list[Answer]:
        """Put a question to the chosen servers at the same time."""
        waiting = [
            (server, self._pool.submit(server.answer, question)) for server in self.chosen(name)
        ]
        answers = []
        for server, future in waiting:
            try:
                answers.append(future.result(TIMEOUT * 3))
            except TimeoutError as error:
                answers.append(Answer(server, error=_describe(error), is_down=True))
        return answers


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def _named(given: str | ResQ, password: str | None, more: dict[str, Any]) -> tuple[str, ResQ]:
    if isinstance(given, ResQ):
        resq, name = given, ""
    else:
        head, equals, rest = given.partition("=")
        # An = may also stand in a URL's password or query.
        named = bool(equals) and not set(head) & set("/:@?[")
        name, dsn = (head.strip(), rest) if named else ("", given)
        resq = ResQ(dsn.strip(), password, **more)
    pool = resq.store.client.connection_pool
    pool.connection_kwargs.update(socket_connect_timeout=TIMEOUT, socket_timeout=TIMEOUT)
    return name, resq
