"""Wrong passwords: their address waits longer each time and is logged; others are not blocked."""

from __future__ import annotations

import base64
import http.client
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import resweb.auth
from resweb import guesses
from resweb.app import create_app
from resweb.auth import BasicAuth, hash_password
from resweb.guesses import FREE_GUESSES, MAX_WAIT_SECONDS, AuthThrottle, Verdict
from tests.servers import until


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"ops:{password}".encode()).decode()


@pytest.fixture
def auth(monkeypatch) -> str:
    # Cheap checks: their cost is not tested here.
    monkeypatch.setattr(resweb.auth, "N", 16)
    return f"ops:{hash_password('right')}"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(auth, clock) -> AuthThrottle:
    return AuthThrottle(BasicAuth(auth), clock)


def guess(throttle: AuthThrottle, address: str = "10.0.0.1", times: int = 1) -> Verdict:
    return [throttle.admit(basic(f"wrong{n}"), address) for n in range(times)][-1]


def test_each_wrong_password_makes_the_wait_longer_up_to_a_minute(throttle, clock):
    assert guess(throttle, times=FREE_GUESSES) == Verdict(False)
    waits = []
    for _ in range(9):
        waits.append(guess(throttle).wait)
        clock.now += waits[-1]
        assert guess(throttle) == Verdict(False)

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, MAX_WAIT_SECONDS]


def test_while_it_waits_an_address_is_refused_even_with_the_right_password(throttle, clock):
    guess(throttle, times=FREE_GUESSES)

    assert throttle.admit(basic("right"), "10.0.0.1") == Verdict(False, 1)
    clock.now += 1
    assert throttle.admit(basic("right"), "10.0.0.1").admitted


@pytest.mark.parametrize(
    ("guesser", "other", "shared"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("fe80::1%eth0", "10.0.0.1", False),
        ("", "10.0.0.1", False),
    ],
)
def test_only_the_address_that_guesses_has_to_wait(throttle, guesser, other, shared):
    guess(throttle, guesser, FREE_GUESSES)

    assert throttle.admit(basic("right"), other).admitted is not shared


def test_a_password_that_was_right_before_never_waits(throttle):
    assert throttle.admit(basic("right"), "10.0.0.9").admitted
    guess(throttle, times=FREE_GUESSES + 3)

    assert throttle.admit(basic("right"), "10.0.0.1").admitted


def test_a_right_password_or_a_quarter_of_an_hour_ends_the_count(throttle, clock):
    guess(throttle, times=FREE_GUESSES - 1)
    throttle.admit(basic("right"), "10.0.0.1")
    assert guess(throttle, times=FREE_GUESSES - 1).wait == 0

    clock.now += guesses.FORGET_SECONDS + 1
    assert guess(throttle, times=FREE_GUESSES - 1).wait == 0


def test_the_number_of_remembered_addresses_is_limited(throttle, monkeypatch):
    monkeypatch.setattr(guesses, "MAX_ADDRESSES", 3)
    guess(throttle, "10.0.0.1", FREE_GUESSES)
    for last in range(2, 5):
        guess(throttle, f"10.0.0.{last}")

    assert throttle.admit(basic("right"), "10.0.0.1").admitted


def test_the_log_names_the_address_of_each_wrong_password_and_no_password(throttle, clock, caplog):
    guess(throttle, times=FREE_GUESSES + 2)
    clock.now += 1
    guess(throttle)

    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == FREE_GUESSES + 1
    assert all("wrong password from 10.0.0.1" in line for line in lines)
    assert "(2 requests were refused unchecked before)" in lines[-1]
    assert not any("wrong0" in line or basic("wrong0") in line for line in lines)


@pytest.mark.parametrize(
    "header", ["Basic", "Basic %%%", "Bearer token", "Basic " + "x" * 5000, "Basic /w=="]
)
def test_a_malformed_header_counts_as_a_wrong_password(throttle, header):
    for _ in range(FREE_GUESSES):
        assert throttle.admit(header, "10.0.0.1") == Verdict(False)

    assert throttle.admit(header, "10.0.0.1").wait == 1


def test_a_request_without_a_password_is_not_counted(throttle, caplog):
    for _ in range(FREE_GUESSES + 1):
        assert throttle.admit("", "10.0.0.1") == Verdict(False)

    assert caplog.records == []


def test_checks_of_many_addresses_block_at_most_two_threads(auth):
    started, proceed = threading.Event(), threading.Event()

    class SlowAuth(BasicAuth):
        def accepts(self, header: str) -> bool:
            started.set()
            proceed.wait(60)
            return super().accepts(header)

    throttle = AuthThrottle(SlowAuth(auth))
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(guess, throttle, "10.0.0.1")
        assert started.wait(60)
        others = [pool.submit(guess, throttle, f"10.0.1.{n}") for n in range(19)]
        # The remaining one waits for its check.
        until(lambda: sum(other.done() for other in others) == 18, 60)
        refused = sum(other.done() and other.result().wait == 1 for other in others)
        proceed.set()

    assert refused == 18
    assert first.result() == Verdict(False)


@pytest.mark.parametrize("path", ["/overview", "/api/stats", "/static/style.css"])
def test_the_page_answers_429_with_the_seconds_to_wait(
    serve, resq, auth, path, caplog, monkeypatch
):
    monkeypatch.setattr(guesses, "_seconds", lambda wrong: 600 * (wrong >= FREE_GUESSES))
    site = serve(create_app([resq.dsn], auth=auth, sample=False))
    host = site.removeprefix("http://")

    def ask(password: str, source: str) -> tuple[int, str | None]:
        connection = http.client.HTTPConnection(host, timeout=60, source_address=(source, 0))
        connection.request("GET", path, headers={"Authorization": basic(password)})
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status, response.headers["Retry-After"]

    with caplog.at_level(logging.WARNING):
        answers = [ask(f"secret{n}", "127.0.0.2") for n in range(FREE_GUESSES + 1)]

    assert [status for status, _ in answers] == [401] * FREE_GUESSES + [429]
    assert 0 < int(answers[-1][1]) <= 600
    assert "127.0.0.2" in caplog.text
    assert "secret0" not in caplog.text
    assert ask("right", "127.0.0.3") == (200, None)
