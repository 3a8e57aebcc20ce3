"""A connection whose owner reads and writes the socket itself."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from typing import Any

import hiredis
from redis import exceptions as redis_exceptions
from redis.exceptions import (
    AuthenticationError,
    NoScriptError,
    RedisError,
    ResponseError,
)

from pyres.store.connections import not_redis
from pyres.store.errors import CONNECTION_ERRORS, CannotWriteNow, denial, refusal

#: Bytes read from the socket at a time.
READ_SIZE = 16384


def bulk(*words: str | bytes) -> bytes:
    """Words as RESP bulk strings, ready to be sent."""
    return b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in map(octets, words))


def packed(*words: str | bytes) -> bytes:
    """A whole command, ready to be sent."""
    return b"*%d\r\n" % len(words) + bulk(*words)


def octets(word: str | bytes) -> bytes:
    """A word's bytes; those that are not UTF-8 are kept unchanged."""
    return word if isinstance(word, bytes) else word.encode("utf-8", "surrogateescape")


def reply_error(text: str) -> Exception:
    """The redis-py exception for an error reply of the server."""
    if text.startswith(("NOAUTH", "WRONGPASS")):
        return AuthenticationError(text.partition(" ")[2])
    if text.startswith("NOSCRIPT"):
        return NoScriptError(text)
    return denial(text) or ResponseError(text)


class RawConnection:
    """A connection of `client`'s pool for one owner; opened again after it was lost.

    redis-py opens it and logs in. Replies are then read here: redis-py calls a dozen functions for
    each one. In a parent that forks for each job every call costs a copied page: that was half of
    the time of a fetch there, and a third of it in a minion.

    Not shared: a forked child calls abandon() and never uses its parent's.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self._connection: Any = None
        self._reader = hiredis.Reader()
        self._buffer = bytearray(READ_SIZE)

    @property
    def connected(self) -> bool:
        """Whether the connection is open, as far as is known."""
        return self._connection is not None and self._connection._sock is not None

    def connect(self) -> None:
        """Open the connection if there is none."""
        if self.connected:
            return
        with self._checked():
            if self._connection is None:
                self._connection = self.client.connection_pool.get_connection()
            if self._connection._sock is None:
                self._connection.connect()
        self._reader = hiredis.Reader()
        self._greet()

    def _greet(self) -> None:
        """Send the first commands on a new connection."""

    def command(self, *words: str | bytes) -> Any:
        """One command and its reply."""
        with self._checked():
            return self.call(packed(*words))

    def call(self, request: bytes) -> Any:
        """The same for a packed command. Raises one of CONNECTION_ERRORS if the connection is lost,
        ResponseError for an error reply.
        """
        self._send(request)
        while (reply := self._next()) is False:
            self._receive()
        return self._translated(reply)

    def _next(self) -> Any:
        """The next whole reply in the bytes received; False if there is none yet."""
        try:
            return self._reader.gets()
        except hiredis.HiredisError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> Exception:
        connection = self._connection
        self.disconnect()
        return not_redis(connection, error)

    def _send(self, request: bytes) -> None:
        try:
            self._connection._sock.sendall(request)
        except OSError as error:
            raise self._lost(error) from error

    def _receive(self) -> None:
        """Wait for some bytes, and pass them to the parser."""
        try:
            size = self._connection._sock.recv_into(self._buffer)
            if size == 0:
                raise ConnectionError("the server closed the connection")
            self._reader.feed(self._buffer, 0, size)  # type: ignore[arg-type]
        except hiredis.HiredisError as error:
            raise self._unreadable(error) from error
        except OSError as error:
            raise self._lost(error) from error

    def _receive_now(self) -> None:
        """Pass the bytes that have come to the parser, without waiting."""
        socket = self._connection._sock
        timeout = socket.gettimeout()
        try:
            socket.settimeout(0)
            size = socket.recv_into(self._buffer)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError as error:
            raise self._lost(error) from error
        finally:
            if self._connection._sock is socket:
                socket.settimeout(timeout)
        if size == 0:
            raise self._lost(ConnectionError("the server closed the connection"))
        self._reader.feed(self._buffer, 0, size)  # type: ignore[arg-type]

    def _translated(self, reply: Any) -> Any:
        if isinstance(reply, hiredis.ReplyError):
            with self._checked():
                raise reply_error(str(reply))
        return reply

    def _lost(self, error: Exception) -> Exception:
        self.disconnect()
        return redis_exceptions.ConnectionError(str(error))

    @contextlib.contextmanager
    def _checked(self) -> Iterator[None]:
        """Close the connection after an error; a reply that the server cannot write now counts as
        a lost connection.
        """
        try:
            yield
        except CONNECTION_ERRORS:
            self.disconnect()
            raise
        except ResponseError as error:
            if words := refusal(str(error)):
                # Nothing was written; after a failover this connection may be to a replica.
                self.disconnect()
                raise CannotWriteNow(words) from error
            raise

    def fileno(self) -> int:
        """The socket's descriptor, to wait for together with the signals' wake-up pipe."""
        return int(self._connection._sock.fileno())

    def disconnect(self) -> None:
        """Close the connection. The next call opens it again: to the new primary after a
        failover.
        """
        if self._connection is not None:
            with contextlib.suppress(RedisError, OSError):
                self._connection.disconnect()

    def close(self) -> None:
        """Close the connection and release it to its pool."""
        self.disconnect()
        if self._connection is not None:
            self.client.connection_pool.release(self._connection)
            self._connection = None

    def abandon(self) -> None:
        """In a forked child: drop the inherited socket without closing the TCP connection."""
        if self.connected:
            # close() and not shutdown(): only the child's descriptor is closed.
            self._connection._sock.close()
        self._connection = None
