"""How values are shown: times, short text, whole rows for a template."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from resweb.servers import Server

TIMES = (
    "enqueued",
    "started",
    "heartbeat",
    "run_at",
    "failed_at",
    "timestamp",
    "last",
    "next",
    "oldest",
)


def when(moment: float | None, now: float) -> dict[str, str] | None:
    """A time for <time>: exact in UTC, and how long before `now`; the browser makes it local."""
    if moment is None:
        return None
    try:
        exact = datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None
    return {"iso": exact, "ago": ago(now - moment)}


def ago(seconds: float) -> str:
    """A distance in time, in one unit."""
    words = "ago" if seconds >= 0 else "from now"
    left = abs(int(seconds))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if left >= size:
            return f"{left // size} {unit} {words}"
    return f"{left} s {words}"


def row(value: Any, server: Server, **more: Any) -> dict[str, Any]:
    """A row as a template and JSON take it, with the server it is from."""
    shown, now = dataclasses.asdict(value), server.now()
    for field in TIMES:
        if field in shown:
            shown[f"{field}_shown"] = when(shown[field], now)
    if "handle" in shown:
        shown["path"] = path(shown["handle"])
    return {**shown, "server": server.name, "server_url": path(server.name), **more}


def path(text: str) -> str:
    """A value as one piece of a URL's path; slashes survive where the route takes them."""
    return quote(text, safe="")
