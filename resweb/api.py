"""The pages as JSON, and the document that describes them."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlencode

#: Path, and the page whose data it gives.
PATHS = {
    "/api/overview": "overview",
    "/api/queues": "queues",
    "/api/queues/<path:name>": "queue",
    "/api/working": "working",
    "/api/workers": "workers",
    "/api/workers/<path:worker_id>": "worker",
    "/api/failed": "failed",
    "/api/failed/<path:name>": "failed",
    "/api/failed/<path:name>/<string(length=32):digest>": "failure",
    "/api/delayed": "delayed",
    "/api/delayed/<int(signed=True):timestamp>": "timestamp",
    "/api/schedule": "schedule",
    "/api/stats": "stats",
    "/api/redis": "redis",
    "/api/keys": "keys",
    "/api/keys/<path:name>": "key",
    "/api/samples": "samples",
    "/api/tasks": "all_tasks",
}

PAGED = {"queue", "workers", "failed", "delayed", "timestamp", "keys", "key"}
STARTS = {
    "workers": r"^[0-9]{1,9}$",
    "keys": r"^[0-9]{1,9}$",
    "failed": r"^([0-9]{1,9}|[0-9]:failed:[0-9]{1,9})$",
}
NAME: dict[str, Any] = {"type": "string", "minLength": 1}
KINDS: dict[str, dict[str, Any]] = {
    "timestamp": {"type": "integer", "minimum": -(10**11), "maximum": 10**11},
    "digest": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}
HANDLE = "The `handle` of its row, or the name where that can stand in a URL."
TOLD = {
    "timestamp": "As the list of all has it.",
    "digest": "The `digest` of its row.",
    "worker_id": "The `handle` of its row; a host's name, or `all`, for all those workers.",
}
SAYS = {
    "type": "object",
    "properties": {
        "down": {"type": "array", "items": {"type": "object"}},
        "unreadable": {"type": "array", "items": {"type": "object"}},
    },
}


def document(base: str) -> dict[str, Any]:
    """The OpenAPI document."""
    return {
        "openapi": "3.0.3",
        "info": {"title": "resweb", "version": "1", "description": "Every page as JSON."},
        "servers": [{"url": base or "/"}],
        "paths": {_spelt(path): {"get": _operation(path, page)} for path, page in PATHS.items()},
    }


def _spelt(path: str) -> str:
    return re.sub(r"<(?:[^<>]*:)?(\w+)>", r"{\1}", path)


def _operation(path: str, page: str) -> dict[str, Any]:
    parameters = [_parameter("server", "query", {"type": "string"}, "Only this server's.")]
    if page in PAGED:
        pattern = STARTS.get(page, r"^([0-9]{1,9}|x)(,([0-9]{1,9}|x)){0,9}$")
        start = {"type": "string", "pattern": pattern}
        parameters.append(_parameter("start", "query", start, "`following` of the page before."))
    if page == "failed":
        for name in ("queue", "class", "exception", "text"):
            parameters.append(_parameter(name, "query", {"type": "string"}, f"Of this {name}."))
    if page == "samples":
        seconds = {"type": "integer", "minimum": 0, "maximum": 86400}
        parameters.append(_parameter("seconds", "query", seconds, "How far back."))
        told = "The handle of the queue whose depth is wanted, in place of the deepest."
        parameters.append(_parameter("queue", "query", {"type": "string"}, told))
    if page == "failed":
        retried = {"type": "string", "enum": ["yes", "no"]}
        parameters.append(_parameter("retried", "query", retried, "Marked by a requeue, or not."))
        order = {"type": "string", "enum": ["asc", "desc"]}
        parameters.append(_parameter("order", "query", order, "asc: the oldest first."))
    if page == "failure":
        at = {"type": "integer", "minimum": 0, "maximum": 10**9}
        parameters.append(_parameter("at", "query", at, "`index` of its row: found sooner."))
    for name in re.findall(r"{(\w+)}", _spelt(path)):
        parameters.append(_parameter(name, "path", KINDS.get(name, NAME), TOLD.get(name, HANDLE)))
    failed = {"application/json": {"schema": {"type": "object", "required": ["error"]}}}
    return {
        "operationId": f"{page}_of_a_list" if page == "failed" and "<" in path else page,
        "summary": f"The page {page}.",
        "parameters": parameters,
        "responses": {
            "200": {
                "description": "The data of the page.",
                "content": {"application/json": {"schema": SAYS}},
            },
            "400": {"description": "A parameter cannot be used.", "content": failed},
            "401": {"description": "Without the password."},
            "404": {"description": "No such server, worker, failure or page.", "content": failed},
        },
    }


def _parameter(name: str, place: str, schema: dict[str, Any], told: str) -> dict[str, Any]:
    required = place == "path"
    return {"name": name, "in": place, "required": required, "schema": schema, "description": told}


def error(said: str) -> str:
    """An error as JSON."""
    return json.dumps({"error": said})


def query(values: dict[str, str]) -> str:
    """A query string with its question mark."""
    return f"?{urlencode(values)}" if values else "?"
