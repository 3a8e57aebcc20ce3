"""waitress' options for the page: limits on connections and requests."""

from __future__ import annotations

import logging
from typing import Any

from resweb.app import MAX_FORM_BYTES

#: Connections served at once: browsers keep idle ones open, and attackers half-open ones.
MAX_CONNECTIONS = 4000

#: File descriptors reserved for Redis, logs and so on.
RESERVED_DESCRIPTORS = 100

#: Seconds after which an idle connection is closed, and between two checks for idle ones.
IDLE_SECONDS, CLEANUP_SECONDS = 20, 5


def log_no_queue_depth() -> None:
    """Stop waitress from logging a warning for each request that waits briefly for a thread."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)


def options() -> dict[str, Any]:
    """Keyword arguments for waitress.create_server()."""
    return {
        "threads": 8,
        "ident": None,
        # Waitress stores a body before the application sees the request, so the limit is here too.
        "max_request_body_size": MAX_FORM_BYTES,
        "max_request_header_size": 2**16,
        "connection_limit": _connections(),
        "channel_timeout": IDLE_SECONDS,
        "cleanup_interval": CLEANUP_SECONDS,
        # select() does not support descriptors above 1023.
        "asyncore_use_poll": True,
    }


def _connections() -> int:
    """As many as descriptors allow; raises the soft limit, up to the hard one."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return 400
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + RESERVED_DESCRIPTORS
    limit = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        soft = limit
    usable = wanted if soft == resource.RLIM_INFINITY else min(soft, wanted)
    return max(1, usable - RESERVED_DESCRIPTORS)
