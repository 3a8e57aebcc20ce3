"""A DSN to a connection: TCP, TLS, unix socket, Sentinel. Passwords are never shown."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from redis import Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from pyres.exceptions import BadDSNError

#: Seconds in which a server must accept a connection.
CONNECT_TIMEOUT = 3

#: Seconds in which it must answer, or it is taken for gone. Longer than any BLPOP of ours (5 s).
READ_TIMEOUT = 10

#: redis-py 8 stops at 100, and a minion of 200 greenlets has a connection for each.
MOST_CONNECTIONS = 2**31

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379

#: What a rediss:// URL may say in its query, handed to redis-py's SSLConnection.
TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")

_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel")
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
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str | None = None
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
        if scheme not in _SCHEMES:
            raise BadDSNError(
                f"{scheme!r} is no scheme of a DSN; it is one of {', '.join(_SCHEMES)}"
            )
        rest, _, query = rest.partition("?")
        login, at, place = rest.rpartition("@")
        user, _, secret = login.partition(":")
        parts = _OF_PLACE[scheme](place, dict(parse_qsl(query)))
        return cls(
            scheme=scheme,
            username=unquote(user) or None,
            password=(unquote(secret) or None if at else None) or password,
            **parts,
        )

    @property
    def address(self) -> str:
        """`host:port`, the path of a socket, or the service that sentinels watch."""
        if self.path:
            return self.path
        if self.service:
            nodes = ",".join(f"{_bracketed(host)}:{port}" for host, port in self.sentinels)
            return f"{nodes}/{self.service}"
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
    return {"host": host, "port": port, "db": _db(query.pop("db", db)), "options": _options(query)}


def _unix(place: str, query: dict[str, str]) -> dict[str, Any]:
    if not place.startswith("/"):
        raise BadDSNError(
            f"{place!r} is no path of a socket; it begins with a slash: unix:///run/redis.sock"
        )
    db = _db(query.pop("db", ""))
    return {"path": unquote(place), "db": db, "options": _options(query)}


def _sentinel(place: str, query: dict[str, str]) -> dict[str, Any]:
    nodes, _, rest = place.partition("/")
    service, _, db = rest.partition("/")
    if not service:
        raise BadDSNError(
            f"{place!r} names no service; it looks like redis+sentinel://host1:26379,host2:26379/service"
        )
    sentinels = tuple(_host_and_port(node.strip(), SENTINEL_PORT) for node in nodes.split(","))
    known = {"sentinel_username", "sentinel_password"}
    return {
        "sentinels": sentinels,
        "service": service,
        "db": _db(db),
        "options": _options(query, known),
    }


def _options(query: dict[str, str], more: set[str] = frozenset()) -> tuple[tuple[str, str], ...]:  # type: ignore[assignment]
    known = {*TLS_OPTIONS, *more}
    for option in query:
        if option not in known:
            raise BadDSNError(
                f"{option!r} is no option of a DSN; it is one of {', '.join(sorted(known))}"
            )
    return tuple(query.items())


_OF_PLACE = {"redis": _tcp, "rediss": _tcp, "unix": _unix, "redis+sentinel": _sentinel}


def connect(dsn: DSN, slot_key: bytes = b"") -> Any:
    """A client for a DSN, connected at its first command."""
    login = {"db": dsn.db, "username": dsn.username, "password": dsn.password, **_ours()}
    if dsn.service:
        return _through_sentinel(dsn, login)
    if dsn.path:
        return _client(UnixDomainSocketConnection, {"path": dsn.path, **login})
    place = {"host": dsn.host, "port": dsn.port, **_tcp_only()}
    if dsn.scheme == "rediss":
        return _client(SSLConnection, {**place, **login, **_tls(dsn)})
    return _client(Connection, {**place, **login})


def _through_sentinel(dsn: DSN, login: dict[str, Any]) -> Any:
    options = dict(dsn.options)
    asked = {
        "username": options.pop("sentinel_username", None),
        "password": options.pop("sentinel_password", None),
        "socket_timeout": CONNECT_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
    }
    sentinel = Sentinel(list(dsn.sentinels), sentinel_kwargs=asked)
    return sentinel.master_for(
        dsn.service, **login, **_tcp_only(), **options, max_connections=MOST_CONNECTIONS
    )


def _tls(dsn: DSN) -> dict[str, Any]:
    tls: dict[str, Any] = dict(dsn.options)
    if "ssl_check_hostname" in tls:
        tls["ssl_check_hostname"] = tls["ssl_check_hostname"].lower() in ("1", "true", "yes")
    return tls


def _client(connection_class: Any, settings: dict[str, Any]) -> Any:
    pool = ConnectionPool(connection_class, MOST_CONNECTIONS, **settings)
    return Redis(connection_pool=pool)


def _ours() -> dict[str, Any]:
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


def _tcp_only() -> dict[str, Any]:
    return {"socket_keepalive": True}


def from_client(client: Any) -> tuple[Any, DSN]:
    """A client of ours for the server of somebody's redis.Redis, and the DSN that describes it.

    None of its connections is taken: it may have just one.
    """
    pool = client.connection_pool
    theirs = {k: v for k, v in pool.connection_kwargs.items() if k not in _NOT_THEIRS}
    settings = {**theirs, **_ours()}
    dsn = _described(pool, settings)
    if isinstance(pool, SentinelConnectionPool):
        return Redis(
            connection_pool=SentinelConnectionPool(
                pool.service_name, pool.sentinel_manager, **settings
            )
        ), dsn
    return _client(pool.connection_class, settings), dsn


#: Settings of a pool that belong to that pool alone.
_NOT_THEIRS = (
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
    if isinstance(pool, SentinelConnectionPool):
        nodes = tuple(
            (
                s.connection_pool.connection_kwargs["host"],
                s.connection_pool.connection_kwargs["port"],
            )
            for s in pool.sentinel_manager.sentinels
        )
        return DSN("redis+sentinel", sentinels=nodes, service=pool.service_name, **login)
    if settings.get("path"):
        return DSN("unix", path=settings["path"], **login)
    scheme = "rediss" if issubclass(pool.connection_class, SSLConnection) else "redis"
    return DSN(
        scheme, settings.get("host", "localhost"), int(settings.get("port", DEFAULT_PORT)), **login
    )
