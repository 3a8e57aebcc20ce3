"""A form's token: bound to the visitor's cookie and to a time."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time

#: Seconds that a page may stay open before its buttons want a reload.
LIFE = 12 * 3600


def visitor() -> str:
    """A new visitor's secret, kept in the session."""
    return secrets.token_urlsafe(24)


def token(secret: str, visitor_id: str, now: float | None = None) -> str:
    """A token for this visitor's forms."""
    stamp = str(int(time.time() if now is None else now))
    return f"{stamp}.{_sign(secret, visitor_id, stamp)}"


def valid(secret: str, visitor_id: str, given: str, now: float | None = None) -> bool:
    """Whether the token is this visitor's and not too old; compared in constant time."""
    stamp, _, signature = given.partition(".")
    if not (visitor_id and stamp.isascii() and stamp.isdigit() and len(stamp) < 12):
        return False
    age = (time.time() if now is None else now) - int(stamp)
    expected = _sign(secret, visitor_id, stamp)
    return hmac.compare_digest(signature.encode(), expected.encode()) and 0 <= age + 1 <= LIFE


def _sign(secret: str, visitor_id: str, stamp: str) -> str:
    return hmac.new(secret.encode(), f"{visitor_id}.{stamp}".encode(), hashlib.sha256).hexdigest()
