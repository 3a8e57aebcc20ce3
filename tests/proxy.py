"""A TCP proxy before a server, which loses what a test wants: a command, or part of a reply."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import NamedTuple


class Loss(NamedTuple):
    """The next request that holds `request` loses its connection after `passed` bytes of reply.

    None for `passed`: the request itself does not reach the server.
    """

    request: bytes
    passed: int | None


class _Link:
    """One client's connection, and ours to the server for it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.left: int | None = None


class Proxy:
    """Forwards 127.0.0.1:port to a server's port; `with Proxy(server.port) as proxy:`.

    It has a thread while it stands, so a test that uses it must not fork.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._losses: list[Loss] = []
        self._links: dict[socket.socket, _Link] = {}
        self._selector = selectors.DefaultSelector()
        self._waker, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._forward, name="proxy", daemon=True)
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

    def lose_request(self, request: bytes = b"") -> None:
        """Cut the connection instead of handing on the next command that holds `request`."""
        self._losses.append(Loss(request, None))

    def cut_all(self) -> None:
        """Cut every connection that stands."""
        for link in set(self._links.values()):
            for end in (link.client, link.server):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Proxy:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._waker.send(b"!")
        self._thread.join(20)
        for link in set(self._links.values()):
            self._close(link)
        self._selector.close()
        for end in (self._listener, self._waker, self._woken):
            end.close()

    def _forward(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._links:
                    self._pass_on(key.fileobj)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self._server_port), 5)
        except OSError:
            client.close()
            return
        link = _Link(client, server)
        for end in (client, server):
            self._links[end] = link
            self._selector.register(end, selectors.EVENT_READ)

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
        if self._losses and self._losses[0].request in data:
            loss = self._losses.pop(0)
            if loss.passed is None:
                self._cut(link)
                return
            link.left = loss.passed
        link.server.sendall(data)

    def _reply(self, link: _Link, data: bytes) -> None:
        if link.left is None:
            link.client.sendall(data)
            return
        link.client.sendall(data[: link.left])
        link.left -= len(data)
        if link.left <= 0:
            self._cut(link)

    def _cut(self, link: _Link) -> None:
        self.cuts += 1
        self._close(link)

    def _close(self, link: _Link) -> None:
        for end in (link.client, link.server):
            if self._links.pop(end, None):
                self._selector.unregister(end)
            end.close()
