"""A job that works with gevent, on real sockets."""

from __future__ import annotations

import gevent
from gevent import socket
from gevent.server import StreamServer

from tests.jobs import TestJob


def _answer(connection: socket.socket, address: object) -> None:
    gevent.sleep(0.01)
    connection.sendall(b"x")


def _ask(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        return len(connection.recv(1))


class GreenJob(TestJob):
    """Sends N requests to a local server at once."""

    @classmethod
    def perform(cls, count: int) -> None:
        server = StreamServer(("127.0.0.1", 0), _answer)
        server.start()
        asked = [gevent.spawn(_ask, server.server_port) for _ in range(count)]
        gevent.joinall(asked, timeout=60)
        server.stop()
        cls.echo(sum(greenlet.value for greenlet in asked))
