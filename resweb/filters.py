"""Formatting values for display: times, URLs, whole rows for a template."""

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
    """A time for <time>: exact in UTC, and relative to `now`; the browser shows it as local."""
    if moment is None:
        return None
    try:
        exact = datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None
    return {"iso": exact, "ago": ago(now - moment)}


def ago(seconds: float) -> str:
    """A duration in one unit, such as `5 min ago` or `1 h from now`."""
    words = "ago" if seconds >= 0 else "from now"
    distance = abs(int(seconds))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if distance >= size:
            return f"{distance // size} {unit} {words}"
    return f"{distance} s {words}"


def row(value: Any, server: Server, **more: Any) -> dict[str, Any]:
    """A row as data for a template and JSON, with the name of its server."""
    data, now = dataclasses.asdict(value), server.now()
    for field in TIMES:
        if field in data:
            data[f"{field}_shown"] = when(data[field], now)
    if "handle" in data:
        data["path"] = path(data["handle"])
    return {**data, "server": server.name, "server_url": path(server.name), **more}


def path(text: str) -> str:
    """A value quoted as one segment of a URL's path; also its slashes."""
    return quote(text, safe="")
