"""The kinds of connection: redis-py's classes, raising pyres' own errors.

A reply that the server cannot serve now counts as a lost connection: the next connection may be to
a server that can. A connection to a Redis Cluster finds the node that has its namespace's keys.
"""

from __future__ import annotations

import functools
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from redis import Connection, SSLConnection, UnixDomainSocketConnection
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    InvalidResponse,
    MovedError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from pyres import starting
from pyres.store.errors import (
    CONNECTION_ERRORS,
    REFUSAL_ERRORS,
    SERVER_ERRORS,
    Address,
    CannotWriteNow,
    Moved,
    NotRedis,
    NotTrusted,
    WrongServer,
    denial,
    refusal,
)

#: Nodes of a Redis Cluster that are asked in one attempt: each may need its whole timeout.
ASKED = 3

#: Seconds until all sentinels know of a failover: they notify each other every two.
FAILOVER_KNOWN_AFTER = 5.0

#: Seconds for which a sentinel that did not reply is not asked for the primary again.
SENTINEL_SKIPPED_FOR = 30.0

#: What a transaction on the wire begins with.
_MULTI = b"*1\r\n$5\r\nMULTI\r\n"

#: How the replies of a Redis Cluster node begin to a client that treats it as a single server.
_CLUSTER_WORDS = ("MOVED ", "ASK ", "CROSSSLOT ", "SELECT is not allowed in cluster mode")


class _TranslatesErrors:
    """Mixed into redis-py's connections: raises pyres' own errors for error replies."""

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().read_response(*args, **kwargs)  # type: ignore[misc]
        except InvalidResponse as error:
            raise not_redis(self, error) from error
        except RedisConnectionError as error:
            if words := refusal(str(error)):
                raise CannotWriteNow(words) from error
            raise
        except ResponseError as error:
            translated = self._translated(error)
            if translated is None and not isinstance(error, CONNECTION_ERRORS):
                raise
            # After a failover behind one host name this connection is to what is a replica now.
            self.disconnect()  # type: ignore[attr-defined]
            # Not a plain ResponseError: redis-py would keep it until it has read the rest of the
            # transaction, which never comes, and so would report only a lost connection.
            raise translated or CannotWriteNow(str(error)) from error

    def _translated(self, error: ResponseError) -> Exception | None:
        """The exception to raise instead; None to keep redis-py's."""
        if isinstance(error, AskError | ClusterCrossSlotError) or _begins_with(
            error, *_CLUSTER_WORDS
        ):
            return _is_cluster_node(self)
        return _cannot_serve(error)


def _begins_with(error: Exception, *words: str) -> bool:
    return str(error).removeprefix("ERR ").startswith(words)


def _cannot_serve(error: ResponseError) -> Exception | None:
    if _begins_with(error, "EXEC without MULTI"):
        # redis-py raises the error reply to a transaction's EXEC, not the one to its MULTI.
        return NoPermissionError("this user has no permissions to run the 'multi' command")
    denied = denial(str(error))
    if denied and not isinstance(error, NoPermissionError):
        return denied
    words = refusal(str(error))
    return None if words is None else CannotWriteNow(words)


def not_redis(connection: Any, error: Exception) -> NotRedis:
    """The exception for a reply that could not be parsed: the peer is not a Redis server."""
    return NotRedis(
        f"{connection._host_error()} does not speak the Redis protocol, but perhaps HTTP or "
        f"TLS (rediss://): {error}"
    )


def _is_cluster_node(connection: Any) -> WrongServer:
    address = connection._host_error()
    return WrongServer(
        f"{address} is a node of a Redis Cluster; use redis+cluster://{address} and a namespace "
        "in braces, such as '{resque}' (--namespace '{resque}')"
    )


class _TLSErrors:
    """Mixed into TLS connections: raises NotTrusted, which waiting does not resolve."""

    def _connect(self) -> Any:
        try:
            return super()._connect()  # type: ignore[misc]
        except ssl.SSLCertVerificationError as error:
            raise NotTrusted(
                f"the certificate of {self._host_error()} is not trusted: "  # type: ignore[attr-defined]
                f"{error.verify_message}; set ssl_ca_certs to the certificates to trust"
            ) from error
        except ssl.SSLError as error:
            if type(error) is not ssl.SSLError:
                raise  # disconnected, or timed out
            raise NotTrusted(
                f"TLS with {self._host_error()} failed: {error.reason or error}"  # type: ignore[attr-defined]
            ) from error

    def can_read(self, timeout: float = 0) -> Any:
        parser: Any = self._parser  # type: ignore[attr-defined]
        reader = getattr(parser, "_reader", None)  # hiredis, while there is a connection
        if timeout or reader is None or reader.has_data():
            return super().can_read(timeout)  # type: ignore[misc]
        # Bytes on the socket need not be a reply: TLS 1.3 sends tickets after the handshake, and
        # redis-py 8 drops a connection that has something to read before a command was sent.
        try:
            return parser.read_from_socket(timeout=0, raise_on_timeout=False)
        except ssl.SSLError as error:
            if refused := self._refused(error):
                raise refused from error
            raise

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().read_response(*args, **kwargs)  # type: ignore[misc]
        except RedisError as error:
            if refused := self._refused(error.__context__):
                raise refused from error
            raise

    def _refused(self, cause: Any) -> NotTrusted | None:
        # In TLS 1.3 the server checks the client's certificate after the client has connected.
        if not isinstance(cause, ssl.SSLError) or "CERTIFICATE" not in (cause.reason or ""):
            return None
        return NotTrusted(
            f"{self._host_error()} requires another client certificate: "  # type: ignore[attr-defined]
            f"{cause.reason}; set it by ssl_certfile and ssl_keyfile"
        )


class TCP(_TranslatesErrors, Connection):
    """A connection to a host and port."""

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().read_response(*args, **kwargs)
        except RedisConnectionError as error:
            if starting.is_on() and _speaks_tls(self.host, self.port):
                address = f"{self.host}:{self.port}"
                raise NotRedis(f"{address} speaks TLS: its DSN is rediss://{address}") from error
            raise


@functools.cache
def _speaks_tls(host: str, port: int) -> bool:
    """Whether a port that closed the connection expects TLS; each is tried once."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), 1) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as error:
        # In TLS 1.2 a server that requires a client certificate says so in the handshake.
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


class TLS(_TLSErrors, _TranslatesErrors, SSLConnection):
    """A connection to a host and port, encrypted."""


class UnixSocket(_TranslatesErrors, UnixDomainSocketConnection):
    """A connection to a Unix socket."""


class SentinelTCP(_TranslatesErrors, SentinelManagedConnection):
    """A connection to the primary that sentinels name."""


class SentinelTLS(_TLSErrors, _TranslatesErrors, SentinelManagedSSLConnection):
    """A connection to the primary that sentinels name, encrypted."""


class Sentinels(Sentinel):
    """The sentinels that name the primary, with a client for each."""

    def __init__(self, clients: list[Any]) -> None:
        super().__init__([])  # type: ignore[no-untyped-call]
        self.sentinels = clients
        self._ask_again: dict[Any, float] = {}
        self._next: tuple[Address, float] | None = None

    def next_primary(self, service: str, present: Address) -> Address | None:
        """The primary that has replaced the present one, from the sentinel that knows the latest
        failover; None if no sentinel that replies names another one.
        """
        states = [self._state(sentinel, service) for sentinel in self.sentinels]
        named = [(s["config-epoch"], (s["ip"], s["port"])) for s in states if s]
        address: Address = max(named)[1] if named else present
        if address == present:
            return None
        self._next = (address, time.monotonic() + FAILOVER_KNOWN_AFTER)
        return address

    def _state(self, sentinel: Any, service: str) -> Any:
        if time.monotonic() < self._ask_again.get(sentinel, 0.0):
            return None
        try:
            return sentinel.sentinel_masters().get(service)
        except SERVER_ERRORS:
            # Not every second: each attempt would wait for its timeout.
            self._ask_again[sentinel] = time.monotonic() + SENTINEL_SKIPPED_FOR
            return None

    def discover_master(self, service_name: str) -> Any:
        """The primary's host and port. Raises MasterNotFoundError if no sentinel names it, one of
        REFUSAL_ERRORS if a sentinel denies access.
        """
        if self._next is not None and time.monotonic() < self._next[1]:
            return self._next[0]
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except MasterNotFoundError:
            reasons = "; ".join(_reason(sentinel) for sentinel in self.sentinels)
        raise MasterNotFoundError(f"no sentinel names a primary of {service_name!r}: {reasons}")


def _reason(sentinel: Any) -> str:
    """Why a sentinel has named no primary."""
    settings = sentinel.connection_pool.connection_kwargs
    try:
        sentinel.ping()
    except REFUSAL_ERRORS:
        raise
    except CONNECTION_ERRORS as error:
        return str(error)
    return f"{settings['host']}:{settings['port']} knows none now"


#: The class to use in place of each of redis-py's.
CONNECTION_CLASSES = {
    Connection: TCP,
    SSLConnection: TLS,
    UnixDomainSocketConnection: UnixSocket,
    SentinelManagedConnection: SentinelTCP,
    SentinelManagedSSLConnection: SentinelTLS,
}


def slot_of(namespace: bytes) -> int | None:
    """The slot of all keys of a namespace; None when they are spread over many slots."""
    start = namespace.find(b"{")
    end = namespace.find(b"}", start + 1)
    return None if start < 0 or end <= start + 1 else key_slot(namespace)


class Nodes:
    """Finds the node of a Redis Cluster that has a slot. `opener(host, port)` makes a connection
    for CLUSTER SLOTS.
    """

    def __init__(
        self, seeds: tuple[Address, ...], slot: int, opener: Callable[[str, int], Any]
    ) -> None:
        self.seeds = seeds
        self.slot = slot
        self._opener = opener
        self._known = list(seeds)
        self._owner: Address | None = None

    def owner(self) -> Address:
        """The primary that has the slot, from the first node that answers. Raises one of
        CONNECTION_ERRORS when none does.
        """
        if self._owner is not None:
            return self._owner
        # Nodes that do not reply go to the end, to be asked last next time.
        for address in self._known[:ASKED]:
            try:
                self._learn(address, self._ask(address))
            except CONNECTION_ERRORS as error:
                lost = error
                self._known.remove(address)
                self._known.append(address)
                continue
            if self._owner is not None:
                return self._owner
            lost = CannotWriteNow(f"no node has slot {self.slot} of the Redis Cluster now")
        raise lost

    def forget(self) -> None:
        """Look up the node again for the next connection."""
        self._owner = None

    def moved(self, address: Address) -> None:
        """Note that a node has replied that the slot is at this address now."""
        self._owner = address

    def _ask(self, address: Address) -> list[Any]:
        connection = self._opener(*address)
        try:
            connection.connect()
            connection.send_command("CLUSTER", "SLOTS")
            return list(connection.read_response())
        except ResponseError as error:
            if not _begins_with(error, "This instance has cluster support disabled"):
                raise
            host, port = address
            raise WrongServer(
                f"{host}:{port} is not a node of a Redis Cluster; use redis://{host}:{port}"
            ) from error
        finally:
            connection.disconnect()

    def _learn(self, asked: Address, ranges: list[Any]) -> None:
        others: list[Address] = []
        with_slot: list[Address] = []
        for first, last, *nodes in ranges:
            addresses = [_address(node, asked) for node in nodes]
            if first <= self.slot <= last:
                # The primary is first; one of its replicas, the others, would replace it.
                self._owner, with_slot = addresses[0], [*addresses[1:], addresses[0]]
            others += addresses
        self._known = list(dict.fromkeys([*with_slot, *self.seeds, *others]))


def _address(node: list[Any], asked: Address) -> Address:
    # A node that does not know its own address leaves it empty.
    return (node[0] or b"").decode() or asked[0], int(node[1])


class _ToSlot:
    """Mixed in: connects to the node that has the slot, and to another when the slot has moved."""

    _sock: Any
    host: str
    port: int

    def __init__(self, *, nodes: Nodes, **settings: Any) -> None:
        self._nodes = nodes
        #: Whether none of the commands sent last was executed, as far as is known.
        self._undone = True
        self._in_multi = False
        super().__init__(**settings)

    def _connect(self) -> Any:
        self.host, self.port = self._nodes.owner()
        try:
            return super()._connect()  # type: ignore[misc]
        except OSError:
            self._nodes.forget()
            raise

    def disconnect(self, *args: Any, **kwargs: Any) -> None:
        if self._sock is not None:
            # The connection may be closed because of a failover.
            self._nodes.forget()
        super().disconnect(*args, **kwargs)  # type: ignore[misc]

    def send_packed_command(self, command: Any, *args: Any, **kwargs: Any) -> None:
        super().send_packed_command(command, *args, **kwargs)  # type: ignore[misc]
        start = command if isinstance(command, bytes) else b"".join(command[:1])
        self._undone, self._in_multi = True, start.startswith(_MULTI)

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            reply = super().read_response(*args, **kwargs)  # type: ignore[misc]
        except Moved as moved:
            self._nodes.moved(moved.address)
            if self._undone:
                raise
            raise CannotWriteNow(f"{moved}; some of the commands sent were executed") from moved
        except CannotWriteNow as error:
            if self._undone:
                raise
            raise CannotWriteNow(f"{error}; some of the commands sent were executed") from error
        self._undone = self._in_multi
        return reply

    def _translated(self, error: ResponseError) -> Exception | None:
        if isinstance(error, MovedError) or _begins_with(error, "MOVED "):
            host, _, port = str(error).rpartition(" ")[2].rpartition(":")
            return Moved((host or self.host, int(port)))
        if isinstance(error, AskError) or _begins_with(error, "ASK "):
            return CannotWriteNow("the slot of the namespace is migrating to another node")
        return _cannot_serve(error)


class ClusterTCP(_ToSlot, TCP):
    """A connection to the primary that has the namespace's slot."""


class ClusterTLS(_ToSlot, TLS):
    """A connection to the primary that has the namespace's slot, encrypted."""
