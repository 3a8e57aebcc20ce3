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
    Nodes,
    OfCluster,
    OfClusterTLS,
    Sentinels,
    Socket,
    Watched,
    WatchedTLS,
    slot_of,
)
from pyres.store.errors import Address, Moved

#: Seconds in which a server must accept a connection.
CONNECT_TIMEOUT = 3

#: Seconds in which it must answer, or it is taken for gone. Longer than any BLPOP of ours (5 s).
READ_TIMEOUT = 10

#: redis-py 8 stops at 100, and a minion of 200 greenlets has a connection for each.
MOST_CONNECTIONS = 2**31

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379

#: What a URL that begins with rediss may say in its query, handed to redis-py's SSLConnection.
TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")

SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")

_SECRET = re.compile(r"(?<=[/\s=,'\"])([^:/@\s=,'\"]*):[^/\s@]*@|^([^:/@\s]*):[^/\s@]*@")


@dataclass(frozen=True)
class DSN:
    """Where a Redis server is, and how to log in there. Its str() shows no password."""

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
        """The DSN in a text; `password` is used where the text has none. BadDSNError names what is
        wrong.
        """
        if not isinstance(text, str) or not text.strip():
            raise BadDSNError(f"{text!r} is no DSN. {BadDSNError.__doc__}")
        scheme, mark, rest = text.strip().partition("://")
        if not mark:
            scheme, rest = "redis", text.strip()
        if scheme not in _OF_PLACE:
            raise BadDSNError(
                f"{scheme!r} is no scheme of a DSN; it is one of {', '.join(_OF_PLACE)}"
            )
        rest, _, query = rest.partition("?")
        login, at, place = rest.rpartition("@")
        user, _, secret = login.partition(":")
        asked = dict(parse_qsl(query))
        parts = _OF_PLACE[scheme](place, asked)
        return cls(
            scheme=scheme,
            username=unquote(user) or None,
            password=(unquote(secret) or None if at else None) or password,
            options=_options(scheme, asked),
            **parts,
        )

    @property
    def encrypted(self) -> bool:
        return self.scheme.startswith("rediss")

    @property
    def address(self) -> str:
        """`host:port`, the path of a socket, the service that sentinels watch, or nodes."""
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
    return _SECRET.sub(lambda found: f"{found[1] or found[2] or ''}:***@", text)


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
                f"{text!r} is no IPv6 address with a port; it looks like '[::1]:6379'"
            )
        port = port[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    elif ":" in text:
        raise BadDSNError(
            f"{text!r} is no host; an IPv6 address stands in brackets: '[{text}]:6379'"
        )
    if not host:
        raise BadDSNError(
            f"{text!r} has no host; a DSN begins 'host:port', such as 'localhost:6379'"
        )
    return host, _number("port", port, 65535) if port else default


def _number(what: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > most:
        raise BadDSNError(f"{text!r} is no {what}; it is a number from 0 to {most}")
    return int(text)


def _db(text: str) -> int:
    return _number("db", text, 2**31 - 1) if text else 0


def _tcp(place: str, query: dict[str, str]) -> dict[str, Any]:
    where, _, db = place.partition("/")
    host, port = _host_and_port(where or "localhost", DEFAULT_PORT)
    return {"host": host, "port": port, "db": _db(query.pop("db", db))}


def _unix(place: str, query: dict[str, str]) -> dict[str, Any]:
    if not place.startswith("/"):
        raise BadDSNError(
            f"{place!r} is no path of a socket; it begins with a slash: unix:///run/redis.sock"
        )
    return {"path": unquote(place), "db": _db(query.pop("db", ""))}


def _sentinel(place: str, query: dict[str, str]) -> dict[str, Any]:
    nodes, _, rest = place.partition("/")
    service, _, db = rest.partition("/")
    if not service:
        raise BadDSNError(
            f"{place!r} names no service; it looks like redis+sentinel://host1:26379,host2:26379/service"
        )
    return {"sentinels": _addresses(nodes, SENTINEL_PORT), "service": service, "db": _db(db)}


def _cluster(place: str, query: dict[str, str]) -> dict[str, Any]:
    nodes, _, db = place.partition("/")
    if _db(query.pop("db", db)):
        raise BadDSNError(f"{place!r} names a db; a Redis Cluster has only db 0")
    return {"nodes": _addresses(nodes, DEFAULT_PORT)}


def _addresses(text: str, port: int) -> tuple[Address, ...]:
    return tuple(_host_and_port(node.strip(), port) for node in text.split(","))


def _options(scheme: str, query: dict[str, str]) -> tuple[tuple[str, str], ...]:
    known = {*(TLS_OPTIONS if scheme.startswith("rediss") else ())}
    known |= {*(SENTINEL_OPTIONS if scheme.endswith("+sentinel") else ())}
    for option in query:
        if option not in known:
            raise BadDSNError(
                f"{option!r} is no option of a DSN that begins {scheme}://; "
                + (f"it is one of {', '.join(sorted(known))}" if known else "it has none but db")
            )
    return tuple(query.items())


_OF_PLACE = {
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

    In a Redis Cluster it goes to the primary that has all keys which begin with `slot_key`.
    Raises BadDSNError when those would be spread, and for certificates that cannot be read.
    """
    login = {"db": dsn.db, "username": dsn.username, "password": dsn.password, **_pool_settings()}
    if dsn.path:
        return _client(Socket, {"path": dsn.path, **login})
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
    plain, watched = (TLS, WatchedTLS) if dsn.encrypted else (TCP, Watched)
    clients = [_client(plain, {"host": h, "port": p, **asking}) for h, p in dsn.sentinels]
    pool = SentinelConnectionPool(
        dsn.service, Sentinels(clients), connection_class=watched, **settings
    )
    return _over(pool)


def _in_cluster(dsn: DSN, settings: dict[str, Any], slot_key: bytes) -> Any:
    slot = slot_of(slot_key)
    if slot is None:
        name = slot_key.decode("utf-8", "replace")
        raise BadDSNError(
            f"the namespace {name!r} would be spread over the nodes of a Redis Cluster; one with "
            "a part in braces stays together, such as '{resque}' (--namespace '{resque}')"
        )
    plain, found = (TLS, OfClusterTLS) if dsn.encrypted else (TCP, OfCluster)
    asking = {**settings, "socket_timeout": CONNECT_TIMEOUT}
    nodes = Nodes(dsn.nodes, slot, lambda host, port: plain(host=host, port=port, **asking))
    # Where the answer was that our keys have moved, nothing was done, so it is safe to try again.
    again = Retry(NoBackoff(), 1, supported_errors=(Moved,))
    settings = {**settings, "retry": again, "retry_on_error": [Moved], "nodes": nodes}
    return _client(found, settings)


def _tls(dsn: DSN) -> dict[str, Any]:
    tls: dict[str, Any] = {k: v for k, v in dsn.options if k in TLS_OPTIONS}
    wanted = tls.setdefault("ssl_cert_reqs", "required")
    if wanted not in ("none", "optional", "required"):
        raise BadDSNError(f"ssl_cert_reqs is {wanted!r}; it is none, optional or required")
    checked = tls.get("ssl_check_hostname", "true").lower() in ("1", "true", "yes")
    tls["ssl_check_hostname"] = checked and wanted != "none"
    _try_certificates(tls)
    return tls


def _try_certificates(tls: dict[str, Any]) -> None:
    """Read them now: at each connection a wrong file looks like a server that is gone."""
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
    return _over(ConnectionPool(connection_class, MOST_CONNECTIONS, **settings))


def _over(pool: Any) -> Any:
    """A client whose pool is its own, so that the connections are closed when it is collected.

    A worker and its client are parts of a cycle. Python may collect the sockets in it before what
    would close them, and then warns of each.
    """
    client = Redis(connection_pool=pool)
    weakref.finalize(client, pool.disconnect).atexit = False
    return client


def _pool_settings() -> dict[str, Any]:
    """The settings that make a lost reply our decision.

    redis-py 8 repeats a command up to ten times after an error: a pop that is repeated loses what
    the first one popped. Its greeting (CLIENT SETINFO, twice) costs each forked child two round
    trips.
    """
    wanted: dict[str, Any] = {
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
        wanted["driver_info"] = None
    else:
        wanted.update({name: None for name in ("lib_name", "lib_version") if name in known})
    return wanted


def from_client(client: Any, slot_key: bytes = b"") -> tuple[Any, DSN]:
    """A client of ours for the server of somebody's redis.Redis, and the DSN that describes it.

    None of its connections is taken: it may have just one.
    """
    pool = client.connection_pool
    theirs = {k: v for k, v in pool.connection_kwargs.items() if k not in _NOT_COPIED}
    settings = {**theirs, **_pool_settings()}
    dsn = _described(pool, settings)
    settings.pop("nodes", None)
    kind = CONNECTION_CLASSES.get(pool.connection_class, pool.connection_class)
    if dsn.service:
        watched = SentinelConnectionPool(
            pool.service_name, pool.sentinel_manager, connection_class=kind, **settings
        )
        return _over(watched), dsn
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
