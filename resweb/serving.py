"""How waitress serves the page: what a connection may hold, and for how long."""

from __future__ import annotations

import logging
from typing import Any

from resweb.app import FORM

#: Connections served at once: browsers keep idle ones open, and strangers half-open ones.
MAX_CONNECTIONS = 4000

#: Descriptors left for Redis, logs and the like.
RESERVED_DESCRIPTORS = 100

#: Seconds after which a connection that sends nothing is closed, and how often that is looked at.
IDLE_SECONDS, CLEANUP_SECONDS = 20, 5


def log_no_queue_depth() -> None:
    """Have waitress log no warning of each request that waits for a thread for a moment."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)


def options() -> dict[str, Any]:
    """Keyword arguments for waitress.create_server()."""
    return {
        "threads": 8,
        "ident": None,
        # Waitress stores a body before the application sees the request, so the limit is here too.
        "max_request_body_size": FORM,
        "max_request_header_size": 2**16,
        "connection_limit": _connections(),
        "channel_timeout": IDLE_SECONDS,
        "cleanup_interval": CLEANUP_SECONDS,
        # select() knows no descriptor above 1023.
        "asyncore_use_poll": True,
    }


def _connections() -> int:
    """As many as there are descriptors for; the soft limit is raised to the hard one."""
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
