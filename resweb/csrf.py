"""CSRF tokens of forms: bound to the session's cookie and to a time."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time

#: Seconds that a token is valid; after that its page must be reloaded.
MAX_AGE = 12 * 3600


def new_session_id() -> str:
    """A random id for a new session, kept in its cookie."""
    return secrets.token_urlsafe(24)


def token(secret: str, session_id: str, now: float | None = None) -> str:
    """A token for the forms of this session."""
    stamp = str(int(time.time() if now is None else now))
    return f"{stamp}.{_sign(secret, session_id, stamp)}"


def valid(secret: str, session_id: str, candidate: str, now: float | None = None) -> bool:
    """Whether the token is of this session and has not expired; compared in constant time."""
    stamp, _, signature = candidate.partition(".")
    if not (session_id and stamp.isascii() and stamp.isdigit() and len(stamp) < 12):
        return False
    age = (time.time() if now is None else now) - int(stamp)
    expected = _sign(secret, session_id, stamp)
    return hmac.compare_digest(signature.encode(), expected.encode()) and 0 <= age + 1 <= MAX_AGE


def _sign(secret: str, session_id: str, stamp: str) -> str:
    return hmac.new(secret.encode(), f"{session_id}.{stamp}".encode(), hashlib.sha256).hexdigest()
