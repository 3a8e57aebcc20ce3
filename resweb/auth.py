"""HTTP basic authentication by a user and a scrypt hash of the password."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

from pyres.exceptions import BadOptionError

#: scrypt's cost parameters: 2**14 blocks of 8 take 16 MB and about 50 ms.
N, R, P = 2**14, 8, 1


def hash_password(password: str) -> str:
    """The hash for --auth: scrypt:<salt>:<hash>, both in hex."""
    salt = secrets.token_bytes(16)
    return f"scrypt:{salt.hex()}:{_scrypt(password, salt).hex()}"


class BasicAuth:
    """Checks Authorization headers against `user:scrypt:<salt>:<hash>`."""

    def __init__(self, auth: str) -> None:
        try:
            self._user, kind, salt, digest = auth.rsplit(":", 3)
            self._salt, self._digest = bytes.fromhex(salt), bytes.fromhex(digest)
        except ValueError:
            kind = ""
        if kind != "scrypt":
            raise BadOptionError(
                "invalid --auth: expected user:HASH, with the HASH of pyres_web --hash-password"
            )
        self._key = secrets.token_bytes(32)
        self._accepted = b""

    def accepts(self, header: str) -> bool:
        """Whether an Authorization header has the right user and password; compared in constant
        time.
        """
        if self.is_cached(header):
            return True
        encoded = _encoded(header)
        if encoded is None or not self._is_valid(encoded):
            return False
        self._accepted = self._digest_of(encoded)
        return True

    def is_cached(self, header: str) -> bool:
        """Whether this header is the last one accepted: fast, while scrypt is slow on purpose."""
        encoded = _encoded(header)
        return encoded is not None and hmac.compare_digest(self._digest_of(encoded), self._accepted)

    def _digest_of(self, encoded: str) -> bytes:
        return hmac.digest(self._key, encoded.encode("utf-8", "replace"), "sha256")

    def _is_valid(self, encoded: str) -> bool:
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return False
        is_right = hmac.compare_digest(_scrypt(password, self._salt), self._digest)
        return hmac.compare_digest(user.encode(), self._user.encode()) and is_right


def _encoded(header: str) -> str | None:
    kind, _, encoded = header.partition(" ")
    return encoded if kind.lower() == "basic" and len(encoded) <= 2000 else None


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=N, r=R, p=P, maxmem=2**26)
