"""The settings file of resweb 0.1: values for options not on pyres_web's command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from flask import Config

from pyres.exceptions import BadOptionError
from resweb.auth import hash_password

#: Where pyres_web listens by default.
HOST, PORT = "127.0.0.1", 8080


def fill_in(options: Any, path: str | None) -> None:
    """Set each missing option of pyres_web to its value in the settings file, else to its default.
    Raises BadOptionError for an invalid file or value.
    """
    settings: Mapping[str, Any] = _read(path) if path else {}
    if options.host is None:
        options.host = settings.get("SERVER_HOST") or HOST
    if options.port is None:
        options.port = _port(settings.get("SERVER_PORT") or PORT)
    if not options.dsn and settings.get("RESWEB_HOST"):
        options.dsn = [settings["RESWEB_HOST"]]
    if options.password is None:
        options.password = settings.get("RESWEB_PASSWORD")
    if options.auth is None and settings.get("BASIC_AUTH"):
        options.auth = _auth(settings)


def _read(path: str) -> Config:
    config = Config(os.getcwd())
    try:
        config.from_pyfile(path)
    except Exception as error:
        raise BadOptionError(
            f"invalid RESWEB_SETTINGS {path!r}: expected a Python file ({error})"
        ) from error
    return config


def _port(value: Any) -> int:
    try:
        port = int(value)
    except (TypeError, ValueError):
        port = 0
    if not 1 <= port <= 65535:
        raise BadOptionError(f"invalid SERVER_PORT {value!r}: expected a port, 1 to 65535")
    return port


def _auth(settings: Mapping[str, Any]) -> str:
    user, password = settings.get("AUTH_USERNAME"), settings.get("AUTH_PASSWORD")
    # Without both it is an error, since otherwise everybody had access.
    if not user or not password:
        raise BadOptionError("invalid BASIC_AUTH: expected AUTH_USERNAME and AUTH_PASSWORD with it")
    return f"{user}:{hash_password(password)}"
