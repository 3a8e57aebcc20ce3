"""The API answers as its OpenAPI document says, also for invalid requests."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from resweb import api
from resweb.app import create_app


@pytest.fixture
def application(dsn: str):
    application = create_app([dsn], sample=False)
    yield application
    application.extensions["resweb"].close()


@pytest.mark.parametrize("path", api.document("")["paths"])
def test_the_api_is_as_documented(application, path):
    schemathesis = pytest.importorskip("schemathesis")
    document = schemathesis.openapi.from_wsgi("/api/openapi.json", application)

    @given(case=document[path]["GET"].as_strategy())
    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    def ask(case):
        case.call_and_validate()

    ask()


def test_every_page_of_the_api_is_documented():
    assert len(api.document("")["paths"]) == len(api.PATHS)
