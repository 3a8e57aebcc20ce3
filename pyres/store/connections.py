"""The kinds of connection: redis-py's, with replies and refusals told in pyres' own errors.

A reply by which a server says that it cannot serve now is a lost connection: the next one may be to
the server that can. A connection to a Redis Cluster finds the node that has its namespace's keys.
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

#: Nodes of a Redis Cluster that are asked before giving up for now: each may take its time.
ASKED = 3

#: Seconds in which all sentinels hear of a failover: they notify each other every two.
HEARD_BY_ALL = 5.0

#: Seconds for which a sentinel that did not answer is not asked who is the primary now.
SILENT_FOR = 30.0

#: What a transaction on the wire begins with.
_MULTI = b"*1\r\n$5\r\nMULTI\r\n"

#: What a node of a Redis Cluster says to a client that takes it for a server of its own.
_CLUSTER_WORDS = ("MOVED ", "ASK ", "CROSSSLOT ", "SELECT is not allowed in cluster mode")


class _TranslatesErrors:
    """Mixed into redis-py's connections: a reply that says what the server is or cannot do."""

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
            # Behind one name a failover leaves this connection with what is a replica now.
            self.disconnect()  # type: ignore[attr-defined]
            # A plain ResponseError redis-py would keep until it has read the rest of a transaction,
            # of which there is none any more; and so would tell of a lost connection only.
            raise translated or CannotWriteNow(str(error)) from error

    def _translated(self, error: ResponseError) -> Exception | None:
        """What it means, when that is not what redis-py says."""
        if isinstance(error, AskError | ClusterCrossSlotError) or _begins_with(
            error, *_CLUSTER_WORDS
        ):
            return _no_server_of_its_own(self)
        return _cannot_serve(error)


def _begins_with(error: Exception, *words: str) -> bool:
    return str(error).removeprefix("ERR ").startswith(words)


def _cannot_serve(error: ResponseError) -> Exception | None:
    if _begins_with(error, "EXEC without MULTI"):
        # Of a transaction redis-py reads what EXEC says, not what MULTI said.
        return NoPermissionError("this user has no permissions to run the 'multi' command")
    denied = denial(str(error))
    if denied and not isinstance(error, NoPermissionError):
        return denied
    words = refusal(str(error))
    return None if words is None else CannotWriteNow(words)


def not_redis(connection: Any, error: Exception) -> NotRedis:
    """What answers on a connection is no Redis server, by a reply that could not be read."""
    return NotRedis(
        f"{connection._host_error()} does not speak the protocol of Redis, but perhaps HTTP or "
        f"TLS (rediss://): {error}"
    )


def _no_server_of_its_own(connection: Any) -> WrongServer:
    place = connection._host_error()
    return WrongServer(
        f"{place} is a node of a Redis Cluster; name it redis+cluster://{place}, and take a "
        "namespace in braces, such as '{resque}' (--namespace '{resque}')"
    )


class _TLSErrors:
    """Mixed into TLS connections: that the two sides do not trust each other, waiting mends not."""

    def _connect(self) -> Any:
        try:
            return super()._connect()  # type: ignore[misc]
        except ssl.SSLCertVerificationError as error:
            raise NotTrusted(
                f"the certificate of {self._host_error()} is not trusted: "  # type: ignore[attr-defined]
                f"{error.verify_message}; ssl_ca_certs names whom to trust"
            ) from error
        except ssl.SSLError as error:
            if type(error) is not ssl.SSLError:
                raise  # cut off, or too slow
            raise NotTrusted(
                f"no TLS with {self._host_error()}: {error.reason or error}"  # type: ignore[attr-defined]
            ) from error

    def can_read(self, timeout: float = 0) -> Any:
        parser: Any = self._parser  # type: ignore[attr-defined]
        reader = getattr(parser, "_reader", None)  # hiredis, while there is a connection
        if timeout or reader is None or reader.has_data():
            return super().can_read(timeout)  # type: ignore[misc]
        # Bytes on the socket need not be a reply: TLS 1.3 sends tickets after the handshake, and
        # redis-py 8 gives a connection up that has something to read before it was asked anything.
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
        # In TLS 1.3 a server looks at our certificate when we take us for connected already.
        if not isinstance(cause, ssl.SSLError) or "CERTIFICATE" not in (cause.reason or ""):
            return None
        return NotTrusted(
            f"{self._host_error()} wants another certificate of ours: "  # type: ignore[attr-defined]
            f"{cause.reason}; ssl_certfile and ssl_keyfile name it"
        )


class TCP(_TranslatesErrors, Connection):
    """To a host and port."""

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().read_response(*args, **kwargs)
        except RedisConnectionError as error:
            if starting.is_on() and _speaks_tls(self.host, self.port):
                where = f"{self.host}:{self.port}"
                raise NotRedis(f"{where} speaks TLS: its DSN is rediss://{where}") from error
            raise


@functools.cache
def _speaks_tls(host: str, port: int) -> bool:
    """Whether a port that cut us off wants TLS; each is asked once."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), 1) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as error:
        # In TLS 1.2 a server that wants a certificate of ours says so at once.
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


class TLS(_TLSErrors, _TranslatesErrors, SSLConnection):
    """To a host and port, encrypted."""


class Socket(_TranslatesErrors, UnixDomainSocketConnection):
    """To a Unix socket."""


class Watched(_TranslatesErrors, SentinelManagedConnection):
    """To whom sentinels call the primary."""


class WatchedTLS(_TLSErrors, _TranslatesErrors, SentinelManagedSSLConnection):
    """To whom sentinels call the primary, encrypted."""


class Sentinels(Sentinel):
    """Those who know the primary, each with a client to ask it."""

    def __init__(self, clients: list[Any]) -> None:
        super().__init__([])  # type: ignore[no-untyped-call]
        self.sentinels = clients
        self._ask_again: dict[Any, float] = {}
        self._next: tuple[Address, float] | None = None

    def next_primary(self, service: str, present: Address) -> Address | None:
        """Who has taken the place of the present primary, by the sentinel that knows the latest
        failover; None when nobody has, as far as the sentinels say that answer.
        """
        states = [self._state(sentinel, service) for sentinel in self.sentinels]
        known = [(s["config-epoch"], (s["ip"], s["port"])) for s in states if s]
        address: Address = max(known)[1] if known else present
        if address == present:
            return None
        self._next = (address, time.monotonic() + HEARD_BY_ALL)
        return address

    def _state(self, sentinel: Any, service: str) -> Any:
        if time.monotonic() < self._ask_again.get(sentinel, 0.0):
            return None
        try:
            return sentinel.sentinel_masters().get(service)
        except SERVER_ERRORS:
            # One that does not answer is not waited for each second.
            self._ask_again[sentinel] = time.monotonic() + SILENT_FOR
            return None

    def discover_master(self, service_name: str) -> Any:
        """Its host and port. MasterNotFoundError, unless a sentinel refuses us: that is told."""
        if self._next is not None and time.monotonic() < self._next[1]:
            return self._next[0]
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except MasterNotFoundError:
            why = "; ".join(_why_not(sentinel) for sentinel in self.sentinels)
        raise MasterNotFoundError(f"no sentinel names a primary of {service_name!r}: {why}")


def _why_not(sentinel: Any) -> str:
    place = sentinel.connection_pool.connection_kwargs
    try:
        sentinel.ping()
    except REFUSAL_ERRORS:
        raise
    except CONNECTION_ERRORS as error:
        return str(error)
    return f"{place['host']}:{place['port']} knows none now"


#: Ours for each of redis-py's.
CONNECTION_CLASSES = {
    Connection: TCP,
    SSLConnection: TLS,
    UnixDomainSocketConnection: Socket,
    SentinelManagedConnection: Watched,
    SentinelManagedSSLConnection: WatchedTLS,
}


def slot_of(namespace: bytes) -> int | None:
    """The one slot of all keys that begin so; None when they are spread over many."""
    start = namespace.find(b"{")
    end = namespace.find(b"}", start + 1)
    return None if start < 0 or end <= start + 1 else key_slot(namespace)


class Nodes:
    """Who has a slot of a Redis Cluster. `opener(host, port)` makes a connection to ask over."""

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
        # Those that do not answer go to the end, to be asked last the next time.
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
        """Ask again before the next connection."""
        self._owner = None

    def moved(self, address: Address) -> None:
        """A node said that the slot is there now."""
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
                f"{host}:{port} is no node of a Redis Cluster; name it redis://{host}:{port}"
            ) from error
        finally:
            connection.disconnect()

    def _learn(self, asked: Address, ranges: list[Any]) -> None:
        others: list[Address] = []
        known: list[Address] = []
        for first, last, *nodes in ranges:
            found = [_address(node, asked) for node in nodes]
            if first <= self.slot <= last:
                # Those beside the primary are its replicas: one of them follows it.
                self._owner, known = found[0], [*found[1:], found[0]]
            others += found
        self._known = list(dict.fromkeys([*known, *self.seeds, *others]))


def _address(node: list[Any], asked: Address) -> Address:
    # A node that does not know its own address leaves it empty.
    return (node[0] or b"").decode() or asked[0], int(node[1])


class _OfCluster:
    """Mixed in: goes to the node that has the slot, and on to another when the slot has moved."""

    _sock: Any
    host: str
    port: int

    def __init__(self, *, nodes: Nodes, **settings: Any) -> None:
        self._nodes = nodes
        #: Whether nothing of what was sent last has been carried out, as far as is known.
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
            # What made us give it up may be a failover.
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
            raise CannotWriteNow(f"{moved}, and only part of what was sent was done") from moved
        except CannotWriteNow as error:
            if self._undone:
                raise
            raise CannotWriteNow(f"{error}, and only part of what was sent was done") from error
        self._undone = self._in_multi
        return reply

    def _translated(self, error: ResponseError) -> Exception | None:
        if isinstance(error, MovedError) or _begins_with(error, "MOVED "):
            host, _, port = str(error).rpartition(" ")[2].rpartition(":")
            return Moved((host or self.host, int(port)))
        if isinstance(error, AskError) or _begins_with(error, "ASK "):
            return CannotWriteNow("the slot of the namespace is on its way to another node")
        return _cannot_serve(error)


class OfCluster(_OfCluster, TCP):
    """To the primary that has the namespace's slot."""


class OfClusterTLS(_OfCluster, TLS):
    """To the primary that has the namespace's slot, encrypted."""
