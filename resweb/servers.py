"""Several Redis servers queried in parallel; one that is down gives an Answer, not an error."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pyres.client import ResQ
from pyres.exceptions import BadOptionError
from pyres.inspector import UNAVAILABLE, Inspector, is_down

#: Seconds after which a server that does not answer counts as down.
TIMEOUT = 2.0

#: Seconds for which such a server is not queried again, or every page would wait for it.
DOWN_FOR = 5.0

#: The errors of a server that is disconnected, refuses, or hangs.
SERVER_ERRORS: tuple[type[Exception], ...] = (*UNAVAILABLE, TimeoutError)


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A server's result of one query, or its error: it is down, or refused this query."""

    server: Server
    value: Any = None
    error: str = ""
    is_down: bool = False


class Server:
    """One Redis server, with its name on the page."""

    def __init__(self, name: str, resq: ResQ, position: int) -> None:
        self.name = name
        self.resq = resq
        self.inspector = Inspector(resq)
        #: Its index in the list of servers; a page's `start` identifies servers by it.
        self.position = position
        self._down_until = 0.0
        self._last_error = ""

    def answer(self, question: Callable[[Inspector], Any]) -> Answer:
        """Run a query on it. If it does not answer in time, it counts as down for DOWN_FOR."""
        begun = time.monotonic()
        if begun < self._down_until:
            return Answer(self, error=self._last_error, is_down=True)
        try:
            # Reads the server's clock for now(); it may differ from this host's.
            self.resq.store.clock.now()
            return Answer(self, question(self.inspector))
        except SERVER_ERRORS as error:
            if not is_down(error):
                return Answer(self, error=_describe(error))
            self._last_error = _describe(error)
            ended = time.monotonic()
            if ended - begun > TIMEOUT / 2:
                self._down_until = ended + DOWN_FOR
            return Answer(self, error=self._last_error, is_down=True)

    def now(self) -> float:
        """The time by its clock, estimated from its last answer without a query."""
        return self.resq.store.clock.estimate()

    @property
    def where(self) -> str:
        """Its DSN, without the password."""
        return self.resq.dsn


class Servers:
    """All servers of the page."""

    def __init__(self, dsns: Sequence[str | ResQ], password: str | None = None, **options: Any):
        self.all: list[Server] = []
        for dsn in dsns:
            name, resq = _name_and_resq(dsn, password, options)
            # The same server twice would be counted twice.
            if any(server.where == resq.dsn for server in self.all):
                continue
            if any(server.name == (name or resq.dsn) for server in self.all):
                raise BadOptionError(f"two servers are named {name!r}; each needs its own name")
            self.all.append(Server(name or resq.dsn, resq, len(self.all)))
        if not self.all:
            raise BadOptionError("no server: expected at least one DSN")
        self._pool = ThreadPoolExecutor(max_workers=4 * len(self.all))

    def close(self) -> None:
        """Wait for the threads to end, and close the connections."""
        self._pool.shutdown()
        for server in self.all:
            server.resq.close()

    def chosen(self, name: str) -> list[Server]:
        """The server of this name, or all for an empty name; none for an unknown one."""
        return [server for server in self.all if name in ("", server.name)]

    def ask(self, question: Callable[[Inspector], Any], name: str = "") -> list[Answer]:
        """Run a query on the chosen servers in parallel."""
        pending = [
            (server, self._pool.submit(server.answer, question)) for server in self.chosen(name)
        ]
        answers = []
        for server, future in pending:
            try:
                answers.append(future.result(TIMEOUT * 3))
            except TimeoutError as error:
                answers.append(Answer(server, error=_describe(error), is_down=True))
        return answers


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def _name_and_resq(
    server: str | ResQ, password: str | None, options: dict[str, Any]
) -> tuple[str, ResQ]:
    if isinstance(server, ResQ):
        resq, name = server, ""
    else:
        head, equals, rest = server.partition("=")
        # An = may also be in a URL's password or query.
        has_name = bool(equals) and not set(head) & set("/:@?[")
        name, dsn = (head.strip(), rest) if has_name else ("", server)
        resq = ResQ(dsn.strip(), password, **options)
    pool = resq.store.client.connection_pool
    pool.connection_kwargs.update(socket_connect_timeout=TIMEOUT, socket_timeout=TIMEOUT)
    return name, resq
