"""The audit log: one line for each press of a button, with user, target and outcome."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from resweb.posts import Outcome

logger = logging.getLogger(__name__)

#: The form fields that are logged; jobs and records are logged by the outcome.
FORM_FIELDS = (
    "list",
    "queue",
    "target",
    "timestamp",
    "name",
    "khan",
    "command",
    "class",
    "exception",
    "text",
    "retried",
)

MAX_FIELD_CHARS = 200

#: Jobs or failures that one line names.
MAX_NAMED = 20


class Actor(NamedTuple):
    """Who sent a request; `user` is empty without authentication."""

    user: str
    address: str


def note(actor: Actor, button: str, form: Mapping[str, str], outcome: Outcome) -> None:
    """Log one press of a button as JSON; `count` is how many jobs or failures it changed, null if
    it continues in the background.
    """
    jobs = list(outcome.jobs)
    line: dict[str, Any] = {
        "user": actor.user,
        "address": actor.address,
        "button": button,
        "servers": outcome.servers,
        **{name: form[name] for name in FORM_FIELDS if form.get(name)},
        "jobs": [
            *jobs[:MAX_NAMED],
            *([f"{len(jobs) - MAX_NAMED} more"] if jobs[MAX_NAMED:] else []),
        ],
        "count": outcome.done,
        "outcome": outcome.message,
    }
    # JSON keeps it on one line, whatever a name contains.
    logger.info("Audit: %s", json.dumps({k: _cut(v) for k, v in line.items() if v != []}))


def _cut(value: Any) -> Any:
    if isinstance(value, list):
        return [_cut(part) for part in value]
    if isinstance(value, str) and len(value) > MAX_FIELD_CHARS:
        return f"{value[:MAX_FIELD_CHARS]}…"
    return value
