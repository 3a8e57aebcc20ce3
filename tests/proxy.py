"""A TCP proxy before a server, which loses what a test asks for: a command, or part of a reply."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import re
import selectors
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import hiredis

#: The command TIME as it goes over the wire.
TIME = b"*1\r\n$4\r\nTIME\r\n"


class Loss(NamedTuple):
    """The next request that contains `request` loses its connection.

    After `passed` bytes of the reply; with `of_reply=False` after that many bytes of the request
    itself, of which the server then gets no more. With `late` seconds the client is disconnected at
    once and the server gets all of the request after that time.
    """

    request: bytes
    passed: int
    of_reply: bool = True
    late: float | None = None


class Limit(NamedTuple):
    """The number of bytes after which a connection is cut; None for no limit."""

    of_requests: int | None = None
    of_replies: int | None = None


class _Held:
    """What waits in the proxy: the rest of a request, or the reply to one."""

    def __init__(self, link: _Link, data: bytes, of_reply: bool) -> None:
        self.link = link
        self.data = data
        self.of_reply = of_reply


def _commands(data: bytes) -> int:
    """How many commands were sent together."""
    reader = hiredis.Reader()
    reader.feed(data)
    try:
        return sum(1 for _ in iter(reader.gets, False))
    except hiredis.HiredisError:
        return 1  # not Redis' protocol, as when TLS is tried


class _Link:
    """A client's connection, and the proxy's connection to the server for it."""

    def __init__(self, client: socket.socket, server: socket.socket, limit: Limit) -> None:
        self.client = client
        self.server = server
        #: How many more bytes pass to the server, and to the client.
        self.requests_left = limit.of_requests
        self.replies_left = limit.of_replies
        #: Whether the last request was TIME, and nothing else.
        self.asked_time = False
        #: Whether the next reply is to be held.
        self.holds_reply = False


class Proxy:
    """Forwards 127.0.0.1:port to a server's port; `with Proxy(server.port) as proxy:`.

    It has a thread while it runs, so a test that uses it must not fork.
    """

    def __init__(self, server_port: int, host: str | None = None) -> None:
        self._server_port = server_port
        self._listener = socket.create_server((host or "127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._losses: list[Loss] = []
        self._limits: Iterator[Limit] = iter(())
        self._answers: list[tuple[bytes, bytes]] = []
        self._links: dict[socket.socket, _Link] = {}
        self._late: list[tuple[float, int, socket.socket, bytes]] = []
        self._numbers = itertools.count()
        self._to_hold: tuple[bytes, bool] | None = None
        self._held: _Held | None = None
        self._selector = selectors.DefaultSelector()
        self._wakeups, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._forward, name="proxy", daemon=True)
        #: Seconds by which the server's clock seems to differ: they are added to replies to TIME.
        self.clock_shift = 0
        #: Connections that were cut because the test wanted it.
        self.cuts = 0

    @property
    def dsn(self) -> str:
        return f"127.0.0.1:{self.port}/0"

    def lose_reply(self, request: bytes = b"", passed: int = 0) -> None:
        """Let the server carry out the next command that holds `request`, and cut its reply.

        The client gets `passed` bytes of the reply, and then the end of the connection.
        """
        self._losses.append(Loss(request, passed))

    def lose_request(self, request: bytes = b"", passed: int = 0) -> None:
        """Cut the connection instead of handing on the next command that holds `request`.

        The server gets `passed` bytes of it.
        """
        self._losses.append(Loss(request, passed, of_reply=False))

    def delay_request(self, request: bytes = b"", seconds: float = math.inf) -> None:
        """Disconnect the client that sends the next command with `request` in it; the server gets
        that command later, as after a network partition: after `seconds`, or when pass_late()
        is called.
        """
        self._losses.append(Loss(request, 0, late=seconds))

    def pass_late(self) -> None:
        """Hand on what was delayed; when this returns, the server has carried it out."""
        self._hand_on_late(math.inf)

    def hold_request(self, request: bytes) -> None:
        """Hold the next command that holds `request`, until release() or cut_held()."""
        self._to_hold = (request, False)

    def hold_reply(self, request: bytes) -> None:
        """Let the server carry out the next command that holds `request`, and hold its reply."""
        self._to_hold = (request, True)

    @property
    def holds(self) -> bool:
        """Whether something is held, and its client is still there."""
        return self._held is not None

    def release(self) -> None:
        """Pass on what is held, if anything is."""
        held, self._held = self._held, None
        if held:
            end = held.link.client if held.of_reply else held.link.server
            with contextlib.suppress(OSError):  # its client has just disconnected
                end.sendall(held.data)

    def cut_held(self) -> None:
        """Cut the connection of what is held; it is lost."""
        held = self._held
        if held:
            self._shut(held.link)

    def limit_each(self, limits: Iterable[Limit]) -> None:
        """Give each new connection the next of these limits, until there are no more."""
        self._limits = iter(limits)

    def answer(self, reply: bytes, request: bytes = b"") -> None:
        """Answer each command that is sent with `request` in it by these bytes; the server gets
        nothing of it.
        """
        self._answers.append((request, reply))

    def forgive(self) -> None:
        """Lose and answer nothing more, but on connections that have a limit already."""
        self._losses.clear()
        self._answers.clear()
        self._limits = iter(())

    def cut_all(self) -> None:
        """Cut every open connection."""
        for link in set(self._links.values()):
            self._shut(link)

    def _shut(self, link: _Link) -> None:
        self.cuts += 1
        for end in (link.client, link.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Proxy:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._wakeups.send(b"!")
        self._thread.join(20)
        for link in set(self._links.values()):
            self._close(link)
        for _, _, server, _ in self._late:
            server.close()
        self._selector.close()
        for end in (self._listener, self._wakeups, self._woken):
            end.close()

    def _forward(self) -> None:
        while True:
            for key, _ in self._selector.select(self._seconds_left()):
                if key.fileobj is self._woken:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._links:
                    self._pass_on(key.fileobj)
            self._hand_on_late(time.monotonic())

    def _seconds_left(self) -> float | None:
        """Seconds until a delayed request is due."""
        due = self._late[0][0] if self._late else math.inf
        return None if due == math.inf else max(0.0, due - time.monotonic())

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        limit = next(self._limits, Limit())
        try:
            server = socket.create_connection(("127.0.0.1", self._server_port), 5)
        except OSError:
            client.close()
            return
        link = _Link(client, server, limit)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._links[end] = link
            self._selector.register(end, selectors.EVENT_READ)
        if 0 in limit:
            self._cut(link)

    def _pass_on(self, end: socket.socket) -> None:
        link = self._links[end]
        try:
            data = end.recv(65536)
            if not data:
                self._close(link)
            elif end is link.client:
                self._request(link, data)
            else:
                self._reply(link, data)
        except OSError:
            self._close(link)

    def _request(self, link: _Link, data: bytes) -> None:
        if self._is_answered(link, data) or self._is_kept(link, data, of_reply=False):
            return
        if self._losses and self._losses[0].request in data:
            loss = self._losses.pop(0)
            if loss.late is not None:
                self._put_off(link, data, loss.late)
                return
            if loss.of_reply:
                link.replies_left = loss.passed
            else:
                link.requests_left = loss.passed
        link.asked_time = data == TIME
        link.server.sendall(data[: link.requests_left])
        if link.requests_left is not None:
            link.requests_left -= len(data)
            if link.requests_left <= 0:
                self._cut(link)

    def _is_answered(self, link: _Link, data: bytes) -> bool:
        """Whether the proxy has sent the reply itself."""
        for request, reply in [*self._answers]:
            if request in data:
                link.client.sendall(reply * _commands(data))
                return True
        return False

    def _is_kept(self, link: _Link, data: bytes, of_reply: bool) -> bool:
        """Whether this is held: as the test asks, or since data before it is held."""
        held = self._held
        if held and held.link is link and held.of_reply == of_reply:
            held.data += data
            return True
        if of_reply and link.holds_reply:
            link.holds_reply = False
            self._held = _Held(link, data, of_reply)
            return True
        if of_reply or not self._to_hold or self._to_hold[0] not in data:
            return False
        link.holds_reply, self._to_hold = self._to_hold[1], None
        if not link.holds_reply:
            self._held = _Held(link, data, of_reply)
        return not link.holds_reply

    def _reply(self, link: _Link, data: bytes) -> None:
        if self._is_kept(link, data, of_reply=True):
            return
        if link.asked_time and self.clock_shift:
            data = re.sub(rb"(?<=\*2\r\n\$10\r\n)\d{10}", self._shifted, data)
        link.client.sendall(data[: link.replies_left])
        if link.replies_left is not None:
            link.replies_left -= len(data)
            if link.replies_left <= 0:
                self._cut(link)

    def _shifted(self, seconds: re.Match[bytes]) -> bytes:
        return b"%d" % (int(seconds[0]) + self.clock_shift)

    def _put_off(self, link: _Link, data: bytes, seconds: float) -> None:
        self._let_go(link.server)
        due = time.monotonic() + seconds
        heapq.heappush(self._late, (due, next(self._numbers), link.server, data))
        self._cut(link)

    def _hand_on_late(self, now: float) -> None:
        """Requests whose client has disconnected, and whose time has come."""
        while self._late and self._late[0][0] <= now:
            _, _, server, data = heapq.heappop(self._late)
            # The server may have been replaced, and nothing waits for the reply.
            with contextlib.suppress(OSError), server:
                server.sendall(data)
                # Like a client that disconnects: all that it has sent is read before its end.
                server.shutdown(socket.SHUT_WR)
                server.recv(65536)

    def _cut(self, link: _Link) -> None:
        self.cuts += 1
        self._close(link)

    def _close(self, link: _Link) -> None:
        if self._held and self._held.link is link:
            self._held = None
        for end in (link.client, link.server):
            if self._let_go(end):
                end.close()

    def _let_go(self, end: socket.socket) -> bool:
        """Stop reading one end of a link; whether it was still read."""
        if not self._links.pop(end, None):
            return False
        self._selector.unregister(end)
        return True
