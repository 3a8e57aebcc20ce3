"""One connection that its owner reads and writes straight on the socket."""

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
    """Words as RESP bulk strings, ready for the socket."""
    return b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in map(octets, words))


def packed(*words: str | bytes) -> bytes:
    """A whole command, ready for the socket."""
    return b"*%d\r\n" % len(words) + bulk(*words)


def octets(word: str | bytes) -> bytes:
    """A word's bytes; those that were no UTF-8 come out as they were."""
    return word if isinstance(word, bytes) else word.encode("utf-8", "surrogateescape")


def reply_error(text: str) -> Exception:
    """An error reply of the server as redis-py's exception for it."""
    if text.startswith(("NOAUTH", "WRONGPASS")):
        return AuthenticationError(text.partition(" ")[2])
    if text.startswith("NOSCRIPT"):
        return NoScriptError(text)
    return denial(text) or ResponseError(text)


class RawConnection:
    """A connection of `client`'s pool for one owner; opened again after it was lost.

    redis-py makes it and logs in. Replies are then read here: redis-py's way to one goes through a
    dozen functions. In a parent that forks for each job every one of them costs a page to be
    copied, which made half of the price of a take there; and in a minion a third of it.

    Not to be shared: a forked child calls forget() and never uses its parent's.
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
        """What is to be said first on a new connection."""

    def command(self, *words: str | bytes) -> Any:
        """One command and its reply."""
        with self._checked():
            return self.call(packed(*words))

    def call(self, request: bytes) -> Any:
        """The same for a command that is packed already; a connection that goes meanwhile raises
        one of CONNECTION_ERRORS, an error reply a ResponseError.
        """
        self._send(request)
        while (reply := self._next()) is False:
            self._receive()
        return self._translated(reply)

    def _next(self) -> Any:
        """The next whole reply among the bytes that came; False for none yet."""
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
        """Wait for some bytes, and hand them to the parser."""
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
        """Hand over what has come already, and wait for nothing."""
        socket = self._connection._sock
        patience = socket.gettimeout()
        try:
            socket.settimeout(0)
            size = socket.recv_into(self._buffer)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError as error:
            raise self._lost(error) from error
        finally:
            if self._connection._sock is socket:
                socket.settimeout(patience)
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
        """A reply by which the server says that it cannot write now is a lost connection too."""
        try:
            yield
        except CONNECTION_ERRORS:
            self.disconnect()
            raise
        except ResponseError as error:
            if words := refusal(str(error)):
                # Nothing was written, and a failover leaves this connection with a replica.
                self.disconnect()
                raise CannotWriteNow(words) from error
            raise

    def fileno(self) -> int:
        """The socket, to be waited on beside a signal's pipe."""
        return int(self._connection._sock.fileno())

    def disconnect(self) -> None:
        """Close the connection; the next call opens it again, after a failover to the new
        primary.
        """
        if self._connection is not None:
            with contextlib.suppress(RedisError, OSError):
                self._connection.disconnect()

    def close(self) -> None:
        """Give the connection back to its pool, closed."""
        self.disconnect()
        if self._connection is not None:
            self.client.connection_pool.release(self._connection)
            self._connection = None

    def abandon(self) -> None:
        """In a forked child: let go of the parent's connection without a word on it."""
        if self.connected:
            # Closed and not shut down: this takes the child's hand off it and leaves the parent's.
            self._connection._sock.close()
        self._connection = None
