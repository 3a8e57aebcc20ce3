"""The web page over servers that are hard to reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resweb.app import create_app


@pytest.fixture
def open_page() -> Iterator[Callable[..., Any]]:
    """Gives a test client of the page over these DSNs; its threads end with the test."""
    opened: list[Any] = []

    def open_page(dsns: list[str], **options: Any) -> Any:
        opened.append(create_app(dsns, **options))
        return opened[-1].test_client()

    yield open_page
    for page in opened:
        page.extensions["resweb"].close()
