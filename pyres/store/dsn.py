"""A DSN to a client: TCP, TLS, unix socket, Sentinel, Cluster. Passwords are never shown."""

from __future__ import annotations

import inspect
import re
import ssl
import weakref
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from redis import ConnectionPool, Redis, SSLConnection
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from pyres.exceptions import BadDSNError
from pyres.store.connections import (
    CONNECTION_CLASSES,
    TCP,
    TLS,
    ClusterTCP,
    ClusterTLS,
    Nodes,
    Sentinels,
    SentinelTCP,
    SentinelTLS,
    UnixSocket,
    slot_of,
)
from pyres.store.errors import Address, Moved

#: Seconds in which a server must accept a connection.
CONNECT_TIMEOUT = 3

#: Seconds in which it must reply, or it counts as disconnected. Longer than any BLPOP (5 s).
READ_TIMEOUT = 10

#: Connections of a pool; redis-py 8 limits them to 100, and a minion of 200 greenlets has 200.
MAX_CONNECTIONS = 2**31

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379

#: The options in the query of a rediss URL, passed to redis-py's SSLConnection.
TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")

SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")

_SECRET = re.compile(r"(?<=[/\s=,'\"])([^:/@\s=,'\"]*):[^/\s@]*@|^([^:/@\s]*):[^/\s@]*@")


@dataclass(frozen=True)
class DSN:
    """The address of a Redis server, and its login. Its str() shows no password."""

    scheme: str = "redis"
    host: str | None = None
    port: int | None = None
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    path: str | None = None
    sentinels: tuple[Address, ...] = ()
    service: str | None = None
    nodes: tuple[Address, ...] = ()
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str, password: str | None = None) -> DSN:
        """The DSN in a text; `password` is used where the text has none. Raises BadDSNError, which
        names what is wrong.
        """
        if not isinstance(text, str) or not text.strip():
            urls = ", ".join(f"{scheme}://" for scheme in _PARSERS)
            raise BadDSNError(f"invalid DSN {text!r}: expected 'host:port[/db]', or a URL: {urls}")
        scheme, mark, rest = text.strip().partition("://")
        if not mark:
            scheme, rest = "redis", text.strip()
        if scheme not in _PARSERS:
            raise BadDSNError(
                f"invalid DSN scheme {scheme!r}: expected one of {', '.join(_PARSERS)}"
            )
        rest, _, query = rest.partition("?")
        login, at, address = rest.rpartition("@")
        user, _, secret = login.partition(":")
        options = dict(parse_qsl(query))
        parts = _PARSERS[scheme](address, options)
        return cls(
            scheme=scheme,
            username=unquote(user) or None,
            password=(unquote(secret) or None if at else None) or password,
            options=_options(scheme, options),
            **parts,
        )

    @property
    def encrypted(self) -> bool:
        return self.scheme.startswith("rediss")

    @property
    def address(self) -> str:
        """`host:port`, the path of a socket, sentinels and their service, or nodes."""
        if self.path:
            return self.path
        if self.service:
            return f"{_spelt(self.sentinels)}/{self.service}"
        if self.nodes:
            return _spelt(self.nodes)
        return f"{_bracketed(self.host or '')}:{self.port}"

    def __str__(self) -> str:
        prefix = "" if self.scheme == "redis" else f"{self.scheme}://"
        if self.path:
            return f"{prefix}{self.path}" + (f"?db={self.db}" if self.db else "")
        return f"{prefix}{self.address}" + (f"/{self.db}" if self.db else "")


def mask(text: str) -> str:
    """A text without the passwords of the DSNs in it."""
    return _SECRET.sub(lambda match: f"{match[1] or match[2] or ''}:***@", text)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _spelt(addresses: tuple[Address, ...]) -> str:
    return ",".join(f"{_bracketed(host)}:{port}" for host, port in addresses)


def _host_and_port(text: str, default: int) -> tuple[str, int]:
    host, port = text, ""
    if text.startswith("["):
        host, end, port = text[1:].partition("]")
        if not end or (port and not port.startswith(":")):
            raise BadDSNError(
                f"invalid IPv6 address {text!r}: expected a form such as '[::1]:6379'"
            )
        port = port[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    elif ":" in text:
        raise BadDSNError(
            f"invalid host {text!r}: expected an IPv6 address in brackets: '[{text}]:6379'"
        )
    if not host:
        raise BadDSNError(
            f"invalid address {text!r}: expected 'host:port', such as 'localhost:6379'"
        )
    return host, _number("port", port, 65535) if port else default


def _number(what: str, text: str, maximum: int) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > maximum:
        raise BadDSNError(f"invalid {what} {text!r}: expected a number from 0 to {maximum}")
    return int(text)


def _db(text: str) -> int:
    return _number("db", text, 2**31 - 1) if text else 0


def _tcp(address: str, query: dict[str, str]) -> dict[str, Any]:
    host_and_port, _, db = address.partition("/")
    host, port = _host_and_port(host_and_port or "localhost", DEFAULT_PORT)
    return {"host": host, "port": port, "db": _db(query.pop("db", db))}


def _unix(path: str, query: dict[str, str]) -> dict[str, Any]:
    if not path.startswith("/"):
        raise BadDSNError(
            f"invalid socket path {path!r}: expected one with a leading slash, such as "
            "unix:///run/redis.sock"
        )
    return {"path": unquote(path), "db": _db(query.pop("db", ""))}


def _sentinel(address: str, query: dict[str, str]) -> dict[str, Any]:
    nodes, _, rest = address.partition("/")
    service, _, db = rest.partition("/")
    if not service:
        raise BadDSNError(
            f"no service in {address!r}: expected redis+sentinel://host1:26379,host2:26379/service"
        )
    return {"sentinels": _addresses(nodes, SENTINEL_PORT), "service": service, "db": _db(db)}


def _cluster(address: str, query: dict[str, str]) -> dict[str, Any]:
    nodes, _, db = address.partition("/")
    if _db(query.pop("db", db)):
        raise BadDSNError(f"invalid db in {address!r}: a Redis Cluster has only db 0")
    return {"nodes": _addresses(nodes, DEFAULT_PORT)}


def _addresses(text: str, port: int) -> tuple[Address, ...]:
    return tuple(_host_and_port(node.strip(), port) for node in text.split(","))


def _options(scheme: str, query: dict[str, str]) -> tuple[tuple[str, str], ...]:
    known = {*(TLS_OPTIONS if scheme.startswith("rediss") else ())}
    known |= {*(SENTINEL_OPTIONS if scheme.endswith("+sentinel") else ())}
    for option in query:
        if option not in known:
            raise BadDSNError(
                f"invalid option {option!r} of a {scheme}:// DSN: expected "
                + (f"one of {', '.join(sorted(known))}" if known else "only db")
            )
    return tuple(query.items())


#: What parses the address of each scheme.
_PARSERS = {
    "redis": _tcp,
    "rediss": _tcp,
    "unix": _unix,
    "redis+sentinel": _sentinel,
    "rediss+sentinel": _sentinel,
    "redis+cluster": _cluster,
    "rediss+cluster": _cluster,
}


def connect(dsn: DSN, slot_key: bytes = b"") -> Any:
    """A client for a DSN, connected at its first command.

    In a Redis Cluster it connects to the primary that has all keys which begin with `slot_key`.
    Raises BadDSNError if those keys are in several slots, or if a certificate cannot be read.
    """
    login = {"db": dsn.db, "username": dsn.username, "password": dsn.password, **_pool_settings()}
    if dsn.path:
        return _client(UnixSocket, {"path": dsn.path, **login})
    settings = {**login, "socket_keepalive": True, **(_tls(dsn) if dsn.encrypted else {})}
    if dsn.service:
        return _through_sentinel(dsn, settings)
    if dsn.nodes:
        return _in_cluster(dsn, settings, slot_key)
    return _client(TLS if dsn.encrypted else TCP, {"host": dsn.host, "port": dsn.port, **settings})


def _through_sentinel(dsn: DSN, settings: dict[str, Any]) -> Any:
    options = dict(dsn.options)
    asking = {
        **settings,
        "db": 0,
        "username": options.get("sentinel_username"),
        "password": options.get("sentinel_password"),
        "socket_timeout": CONNECT_TIMEOUT,
    }
    to_sentinel, to_primary = (TLS, SentinelTLS) if dsn.encrypted else (TCP, SentinelTCP)
    clients = [_client(to_sentinel, {"host": h, "port": p, **asking}) for h, p in dsn.sentinels]
    pool = SentinelConnectionPool(
        dsn.service, Sentinels(clients), connection_class=to_primary, **settings
    )
    return _over(pool)


def _in_cluster(dsn: DSN, settings: dict[str, Any], slot_key: bytes) -> Any:
    slot = slot_of(slot_key)
    if slot is None:
        name = slot_key.decode("utf-8", "replace")
        raise BadDSNError(
            f"invalid namespace {name!r} for a Redis Cluster: expected one with a part in braces, "
            "such as '{resque}' (--namespace '{resque}'), which keeps all keys on one node"
        )
    to_node, to_slot = (TLS, ClusterTLS) if dsn.encrypted else (TCP, ClusterTCP)
    asking = {**settings, "socket_timeout": CONNECT_TIMEOUT}
    nodes = Nodes(dsn.nodes, slot, lambda host, port: to_node(host=host, port=port, **asking))
    # A reply that the slot has moved means that nothing was executed, so a retry is safe.
    retry = Retry(NoBackoff(), 1, supported_errors=(Moved,))
    settings = {**settings, "retry": retry, "retry_on_error": [Moved], "nodes": nodes}
    return _client(to_slot, settings)


def _tls(dsn: DSN) -> dict[str, Any]:
    tls: dict[str, Any] = {k: v for k, v in dsn.options if k in TLS_OPTIONS}
    required = tls.setdefault("ssl_cert_reqs", "required")
    if required not in ("none", "optional", "required"):
        raise BadDSNError(
            f"invalid ssl_cert_reqs {required!r}: expected none, optional or required"
        )
    checked = tls.get("ssl_check_hostname", "true").lower() in ("1", "true", "yes")
    tls["ssl_check_hostname"] = checked and required != "none"
    _try_certificates(tls)
    return tls


def _try_certificates(tls: dict[str, Any]) -> None:
    """Read the certificates now: at a connection a wrong file looks like an unreachable server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusted, certificate = tls.get("ssl_ca_certs"), tls.get("ssl_certfile")
    try:
        if trusted:
            context.load_verify_locations(trusted)
        if certificate or tls.get("ssl_keyfile"):
            context.load_cert_chain(certificate or "", tls.get("ssl_keyfile"))
    except OSError as error:
        files = ", ".join(f"{k}={v}" for k, v in tls.items() if k.endswith(("certs", "file")))
        raise BadDSNError(f"{files} cannot be used: {error.strerror or error}") from error


def _client(connection_class: Any, settings: dict[str, Any]) -> Any:
    return _over(ConnectionPool(connection_class, MAX_CONNECTIONS, **settings))


def _over(pool: Any) -> Any:
    """A client with its own pool, whose connections are closed when the client is collected.

    A worker and its client are parts of a reference cycle. Python may collect the sockets in it
    before the objects that would close them, and then warns about each.
    """
    client = Redis(connection_pool=pool)
    weakref.finalize(client, pool.disconnect).atexit = False
    return client


def _pool_settings() -> dict[str, Any]:
    """The settings by which pyres, not redis-py, decides what happens after a lost reply.

    redis-py 8 repeats a command up to ten times after an error: a repeated pop loses what the first
    one popped. Its two CLIENT SETINFO per connection cost each forked child two round trips.
    """
    settings: dict[str, Any] = {
        "decode_responses": False,
        "encoding_errors": "surrogateescape",
        "socket_timeout": READ_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "retry_on_error": [],
        "health_check_interval": 0,
        "protocol": 2,
    }
    known = inspect.signature(AbstractConnection.__init__).parameters
    if "driver_info" in known:
        settings["driver_info"] = None
    else:
        settings.update({name: None for name in ("lib_name", "lib_version") if name in known})
    return settings


def from_client(client: Any, slot_key: bytes = b"") -> tuple[Any, DSN]:
    """A new client for the server of a redis.Redis, and the DSN that describes it.

    None of the given client's connections is used: it may have only one.
    """
    pool = client.connection_pool
    copied = {k: v for k, v in pool.connection_kwargs.items() if k not in _NOT_COPIED}
    settings = {**copied, **_pool_settings()}
    dsn = _described(pool, settings)
    settings.pop("nodes", None)
    kind = CONNECTION_CLASSES.get(pool.connection_class, pool.connection_class)
    if dsn.service:
        sentinel_pool = SentinelConnectionPool(
            pool.service_name, pool.sentinel_manager, connection_class=kind, **settings
        )
        return _over(sentinel_pool), dsn
    if dsn.nodes:
        return _in_cluster(dsn, settings, slot_key), dsn
    return _client(kind, settings), dsn


#: Settings of a pool that belong to that pool alone.
_NOT_COPIED = (
    "connection_pool",
    "parser_class",
    "lib_name",
    "lib_version",
    "driver_info",
    "event_dispatcher",
    "maint_notifications_config",
    "maint_notifications_pool_handler",
    "himport_registry",
)


def _described(pool: Any, settings: dict[str, Any]) -> DSN:
    login: dict[str, Any] = {
        "db": int(settings.get("db") or 0),
        "username": settings.get("username"),
        "password": settings.get("password"),
    }
    scheme = "rediss" if issubclass(pool.connection_class, SSLConnection) else "redis"
    if isinstance(pool, SentinelConnectionPool):
        nodes = tuple(
            (
                s.connection_pool.connection_kwargs["host"],
                s.connection_pool.connection_kwargs["port"],
            )
            for s in pool.sentinel_manager.sentinels
        )
        return DSN(f"{scheme}+sentinel", sentinels=nodes, service=pool.service_name, **login)
    if settings.get("path"):
        return DSN("unix", path=settings["path"], **login)
    if isinstance(settings.get("nodes"), Nodes):
        return DSN(f"{scheme}+cluster", nodes=settings["nodes"].seeds, **login)
    return DSN(
        scheme, settings.get("host", "localhost"), int(settings.get("port", DEFAULT_PORT)), **login
    )
