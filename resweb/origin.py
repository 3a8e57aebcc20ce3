"""Which requests are accepted: by their Host header, and forms by their origin."""

from __future__ import annotations

import functools
import ipaddress
import logging
import socket
from collections.abc import Collection

logger = logging.getLogger(__name__)

#: Characters of a Host header that are logged.
MAX_HOST_CHARS = 100


class KnownHosts:
    """The Host headers of requests that are answered.

    Known are IP addresses, localhost, this host's name and FQDN, and the `allowed` names; `*`
    allows every Host. This stops DNS rebinding: a foreign name that resolves to this address.
    """

    def __init__(self, allowed: Collection[str] = ()) -> None:
        self._allowed = {_name(host) for host in allowed} - {""}

    def knows(self, host: str) -> bool:
        """Whether a request with this Host header is answered; if not, this logs a warning."""
        name = _name(host)
        is_allowed = "*" in self._allowed or name in self._allowed
        if is_allowed or name == "localhost" or _is_address(name) or name in _own_names():
            return True
        logger.warning(
            "Refused a request for the unknown Host %r: if this page is served there, start "
            "pyres_web with --allowed-host %s",
            host[:MAX_HOST_CHARS],
            ascii(name[:MAX_HOST_CHARS])[1:-1] or "NAME",
        )
        return False


def is_same_origin(site: str | None, origin: str | None, host: str) -> bool:
    """Whether a form was sent from a page of this origin, by its headers Sec-Fetch-Site, Origin
    and Host.

    A client that sends neither of the first two, like curl, is not a browser: the form's token
    decides.
    """
    if site is not None:
        return site == "same-origin"
    if origin is None:
        return True
    sender = origin.partition("://")[2]
    # A proxy that terminates TLS changes the scheme, but not the host.
    return _without_default_port(sender) == _without_default_port(host) != ""


def _without_default_port(host: str) -> str:
    return host.lower().removesuffix(":80").removesuffix(":443")


def _name(host: str) -> str:
    """A Host without its port, in lower case; an IPv6 address without its brackets."""
    host = host.strip().lower()
    name, colon, port = host.rpartition(":")
    is_bracketed = name.startswith("[") and name.endswith("]")
    if colon and (is_bracketed or ":" not in name) and (port.isdigit() or not port):
        host = name
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1]
    return host.removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@functools.cache
def _own_names() -> frozenset[str]:
    # Looked up once, and only for a name that is neither an address nor allowed: DNS may be slow.
    names = {_name(socket.gethostname()), _name(socket.getfqdn())}
    return frozenset(names - {""})
