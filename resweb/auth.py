"""The door: a user and a scrypt hash of the password."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

from pyres.exceptions import BadOptionError

#: scrypt's cost: 2**14 blocks of 8 take 16 MB and about 50 ms.
N, R, P = 2**14, 8, 1


def hash_password(password: str) -> str:
    """The text for --auth: scrypt:<salt>:<hash>, both in hex."""
    salt = secrets.token_bytes(16)
    return f"scrypt:{salt.hex()}:{_scrypt(password, salt).hex()}"


class Door:
    """Lets in who knows the password of `user:scrypt:<salt>:<hash>`."""

    def __init__(self, auth: str) -> None:
        try:
            self._user, kind, salt, digest = auth.rsplit(":", 3)
            self._salt, self._digest = bytes.fromhex(salt), bytes.fromhex(digest)
        except ValueError:
            kind = ""
        if kind != "scrypt":
            raise BadOptionError("--auth is user:HASH, with the HASH of pyres_web --hash-password")
        self._key = secrets.token_bytes(32)
        self._known = b""

    def opens(self, header: str) -> bool:
        """Whether an Authorization header lets its sender in; compared in constant time."""
        if self.remembers(header):
            return True
        encoded = _encoded(header)
        if encoded is None or not self._knows(encoded):
            return False
        self._known = self._mark(encoded)
        return True

    def remembers(self, header: str) -> bool:
        """Whether this header was the last to be let in; quick, where scrypt is slow on purpose."""
        encoded = _encoded(header)
        return encoded is not None and hmac.compare_digest(self._mark(encoded), self._known)

    def _mark(self, encoded: str) -> bytes:
        return hmac.digest(self._key, encoded.encode("utf-8", "replace"), "sha256")

    def _knows(self, encoded: str) -> bool:
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return False
        right = hmac.compare_digest(_scrypt(password, self._salt), self._digest)
        return hmac.compare_digest(user.encode(), self._user.encode()) and right


def _encoded(header: str) -> str | None:
    kind, _, encoded = header.partition(" ")
    return encoded if kind.lower() == "basic" and len(encoded) <= 2000 else None


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=N, r=R, p=P, maxmem=2**26)
