"""Which requests are accepted: those for a known Host, and forms from the page itself."""

from __future__ import annotations

import logging
import socket

import pytest

from resweb.app import create_app
from tests.web.visitor import Visitor

OWN_NAMES = [socket.gethostname(), socket.getfqdn()]


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil",
        "1.2.3",
        "[::1].evil",
        "[::1]evil:80",
        "",
    ],
)
def test_an_unknown_host_is_refused_and_named_in_the_log(serve, resq, caplog, host):
    site = serve(create_app([resq.dsn], sample=False))

    with caplog.at_level(logging.WARNING):
        status, _, text = Visitor(site, {"Host": host}).ask("GET", "/overview")

    assert status == 421
    assert "csrf" not in text
    assert repr(host) in caplog.text
    assert "--allowed-host" in caplog.text


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.:80", "127.0.0.1:9", "10.1.2.3", "[::1]:80", *OWN_NAMES]
)
def test_a_host_that_no_foreign_site_can_use_is_answered(serve, resq, host):
    visitor = Visitor(serve(create_app([resq.dsn], sample=False)), {"Host": host})

    assert "Overview" in visitor.get("/overview")


@pytest.mark.parametrize(
    ("allowed", "host", "status"),
    [
        (["jobs.example"], "jobs.example", 200),
        (["jobs.example"], "Jobs.Example:443", 200),
        (["a.example", "b.example"], "b.example", 200),
        (["jobs.example"], "x.jobs.example", 421),
        (["*"], "anything.example", 200),
        ([""], "", 421),
    ],
)
def test_an_allowed_host_is_answered_and_no_other(serve, resq, allowed, host, status):
    site = serve(create_app([resq.dsn], sample=False, allowed_hosts=allowed))

    assert Visitor(site, {"Host": host}).ask("GET", "/overview")[0] == status


@pytest.mark.parametrize("prefix", ["", "/ops"])
def test_healthz_answers_any_host_and_nothing_else_does(serve, resq, prefix):
    site = serve(create_app([resq.dsn], sample=False, url_prefix=prefix))
    visitor = Visitor(site, {"Host": "pod-17"})
    paths = [f"{prefix}/healthz", f"{prefix}/healthz/x", f"{prefix}/api/overview", "/nothing"]

    assert [visitor.ask("GET", path)[0] for path in paths] == [200, 421, 421, 421]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 303),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://a.example"}, 303),
        ({"Origin": "http://HOST"}, 303),
        ({"Origin": "https://HOST"}, 303),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://HOST"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
    ],
)
def test_a_form_from_another_origin_changes_nothing_even_with_the_right_token(
    site, second, headers, status
):
    visitor = Visitor(site)
    visitor.headers = {k: v.replace("HOST", visitor.host) for k, v in headers.items()}

    assert visitor.press("/workers/pause", server="two")[0] == status
    assert second.store.workers.paused() == (status == 303)
