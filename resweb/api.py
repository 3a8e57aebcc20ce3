"""The JSON API of the pages, and its OpenAPI document."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlencode

#: Each path, and the page whose data it returns.
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
START_PATTERNS = {
    "workers": r"^[0-9]{1,9}$",
    "keys": r"^[0-9]{1,9}$",
    "failed": r"^([0-9]{1,9}|[0-9]:failed:[0-9]{1,9})$",
}
NAME_SCHEMA: dict[str, Any] = {"type": "string", "minLength": 1}
PARAMETER_SCHEMAS: dict[str, dict[str, Any]] = {
    "timestamp": {"type": "integer", "minimum": -(10**11), "maximum": 10**11},
    "digest": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}
HANDLE_DESCRIPTION = "The `handle` of its row, or the name if that can be part of a URL."
DESCRIPTIONS = {
    "timestamp": "The `timestamp` of its row.",
    "digest": "The `digest` of its row.",
    "worker_id": "The `handle` of its row; or a host's name, for its workers, or `all`.",
}
PAGE_SCHEMA = {
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
        "paths": {
            _openapi_path(path): {"get": _operation(path, page)} for path, page in PATHS.items()
        },
    }


def _openapi_path(path: str) -> str:
    return re.sub(r"<(?:[^<>]*:)?(\w+)>", r"{\1}", path)


def _operation(path: str, page: str) -> dict[str, Any]:
    parameters = [_query_parameter("server", {"type": "string"}, "Only data of this server.")]
    if page in PAGED:
        pattern = START_PATTERNS.get(page, r"^([0-9]{1,9}|x)(,([0-9]{1,9}|x)){0,9}$")
        start = {"type": "string", "pattern": pattern}
        parameters.append(_query_parameter("start", start, "`following` of the previous page."))
    if page == "failed":
        for name in ("queue", "class", "exception", "text"):
            text = {"type": "string"}
            parameters.append(_query_parameter(name, text, f"Only failures of this {name}."))
    if page == "samples":
        seconds = {"type": "integer", "minimum": 0, "maximum": 86400}
        parameters.append(
            _query_parameter("seconds", seconds, "Only samples of the last N seconds.")
        )
        parameters.append(
            _query_parameter(
                "queue",
                {"type": "string"},
                "The handle of one queue, whose sizes are returned instead of the largest.",
            )
        )
    if page == "failed":
        retried = {"type": "string", "enum": ["yes", "no"]}
        parameters.append(
            _query_parameter("retried", retried, "Whether Resque's requeue has marked the record.")
        )
        order = {"type": "string", "enum": ["asc", "desc"]}
        parameters.append(
            _query_parameter("order", order, "asc: oldest first; desc: newest first.")
        )
    if page == "failure":
        at = {"type": "integer", "minimum": 0, "maximum": 10**9}
        parameters.append(_query_parameter("at", at, "Its row's `index`, to find it faster."))
    for name in re.findall(r"{(\w+)}", _openapi_path(path)):
        schema = PARAMETER_SCHEMAS.get(name, NAME_SCHEMA)
        description = DESCRIPTIONS.get(name, HANDLE_DESCRIPTION)
        parameters.append(_parameter(name, "path", schema, description))
    failed = {"application/json": {"schema": {"type": "object", "required": ["error"]}}}
    return {
        "operationId": f"{page}_of_a_list" if page == "failed" and "<" in path else page,
        "summary": f"The page {page}.",
        "parameters": parameters,
        "responses": {
            "200": {
                "description": "The data of the page.",
                "content": {"application/json": {"schema": PAGE_SCHEMA}},
            },
            "400": {"description": "A parameter is invalid.", "content": failed},
            "401": {"description": "Authentication is required."},
            "404": {"description": "No such server, worker, failure or page.", "content": failed},
        },
    }


def _query_parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return _parameter(name, "query", schema, description)


def _parameter(name: str, place: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    required = place == "path"
    return {
        "name": name,
        "in": place,
        "required": required,
        "schema": schema,
        "description": description,
    }


def error(message: str) -> str:
    """An error as JSON."""
    return json.dumps({"error": message})


def query(values: dict[str, str]) -> str:
    """A query string with its question mark."""
    return f"?{urlencode(values)}" if values else "?"
