"""A test client that opens pages and presses buttons over HTTP."""

from __future__ import annotations

import http.client
import json
import re
from typing import Any
from urllib.parse import urlencode, urlsplit


class Visitor:
    """Keeps its cookie and follows no redirects."""

    def __init__(self, site: str, headers: dict[str, str] | None = None) -> None:
        self.host = urlsplit(site).netloc
        self.headers = headers or {}
        self.cookie = ""

    def ask(self, method: str, path: str, form: Any = None) -> tuple[int, Any, str]:
        connection = http.client.HTTPConnection(self.host, timeout=60)
        headers = {**self.headers, **({"Cookie": self.cookie} if self.cookie else {})}
        body = None
        if form is not None:
            body = urlencode(form)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        text = response.read().decode()
        for value in response.headers.get_all("Set-Cookie") or []:
            self.cookie = value.partition(";")[0]
        connection.close()
        return response.status, response.headers, text

    def get(self, path: str) -> str:
        status, _, text = self.ask("GET", path)
        assert status == 200, (path, status, text)
        return text

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def token(self) -> str:
        match = re.search(r'name="csrf" value="([^"]+)"', self.get("/failed/"))
        assert match
        return match[1]

    def press(self, path: str, confirmed: bool = True, **form: Any) -> tuple[int, Any, str]:
        """Press a button and confirm."""
        fields = {"csrf": self.token(), **form}
        if confirmed:
            fields["confirmed"] = "yes"
        return self.ask("POST", path, fields)
