"""The tests' proxy in front of a server passes, cuts and delays exactly as configured."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from redis import Redis

from tests.proxy import Limit, Proxy
from tests.servers import Server, until

SET = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"
ECHO = b"*2\r\n$4\r\nECHO\r\n$5\r\nhello\r\n"
REPLY = b"$5\r\nhello\r\n"


@pytest.fixture
def proxy(server: Server, redis: Redis) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


def replies(proxy: Proxy, *requests: bytes) -> bytes:
    """The replies to these requests until the connection is cut."""
    with socket.create_connection(("127.0.0.1", proxy.port), 20) as client:
        received = b""
        for request in requests:
            client.sendall(request)
            part = client.recv(100)
            if not part:
                return received
            received += part
        while part := client.recv(100):
            received += part
        return received


@pytest.mark.parametrize("passed", range(1, len(REPLY) + 1))
def test_a_connection_is_cut_after_n_bytes_of_replies(proxy: Proxy, passed: int) -> None:
    proxy.limit_each([Limit(of_replies=passed)])

    assert replies(proxy, ECHO) == REPLY[:passed]
    assert proxy.cuts == 1


@pytest.mark.parametrize("passed", [0, 1, len(SET) - 1, len(SET)])
def test_the_server_gets_n_bytes_of_requests(proxy: Proxy, redis: Redis, passed: int) -> None:
    proxy.limit_each([Limit(of_requests=passed)])

    with socket.create_connection(("127.0.0.1", proxy.port), 20) as client:
        client.sendall(SET)
        until(lambda: proxy.cuts == 1)

    if passed == len(SET):
        until(lambda: redis.get("k") == b"v")
    else:
        assert redis.get("k") is None


def test_each_connection_has_the_next_limit_and_later_ones_have_none(proxy: Proxy) -> None:
    proxy.limit_each([Limit(of_replies=2), Limit(of_replies=len(REPLY) + 3)])

    assert [replies(proxy, ECHO), replies(proxy, ECHO, ECHO)] == [b"$5", REPLY + b"$5\r"]
    with Redis(port=proxy.port) as client:
        assert [client.echo("hello") for _ in range(9)] == [b"hello"] * 9


def test_a_delayed_request_is_executed_when_it_is_passed_on(proxy: Proxy, redis: Redis) -> None:
    proxy.delay_request(b"SET")

    with socket.create_connection(("127.0.0.1", proxy.port), 20) as client:
        client.sendall(SET)
        assert client.recv(100) == b""
    assert redis.get("k") is None

    proxy.pass_late()

    assert redis.get("k") == b"v"


def test_a_delayed_request_is_passed_on_after_its_delay(proxy: Proxy, redis: Redis) -> None:
    proxy.delay_request(b"SET", 0.05)

    with socket.create_connection(("127.0.0.1", proxy.port), 20) as client:
        client.sendall(SET)

    until(lambda: redis.get("k") == b"v")


def test_after_forgive_no_request_is_lost(proxy: Proxy) -> None:
    proxy.lose_request(b"ECHO")
    proxy.limit_each([Limit(of_replies=0)])

    proxy.forgive()

    with Redis(port=proxy.port) as client:
        assert client.echo("hello") == b"hello"
    assert proxy.cuts == 0


def test_a_request_that_is_held_reaches_the_server_when_it_is_released(
    proxy: Proxy, redis: Redis
) -> None:
    proxy.hold_request(b"SET")
    with socket.create_connection(("127.0.0.1", proxy.port), 20) as client:
        client.sendall(SET)
        until(lambda: proxy.holds)
        assert redis.get("k") is None

        proxy.release()

        assert client.recv(100) == b"+OK\r\n"
    assert redis.get("k") == b"v"


def test_a_reply_that_is_held_is_that_of_a_command_that_was_executed(
    proxy: Proxy, redis: Redis
) -> None:
    proxy.hold_reply(b"SET")
    with socket.create_connection(("127.0.0.1", proxy.port), 20) as client:
        client.sendall(SET)
        until(lambda: proxy.holds)
        assert redis.get("k") == b"v"

        proxy.release()

        assert client.recv(100) == b"+OK\r\n"


@pytest.mark.parametrize("way", ["by the test", "by the client"])
def test_a_held_message_is_lost_when_its_connection_is_cut(
    proxy: Proxy, redis: Redis, way: str
) -> None:
    proxy.hold_request(b"SET")
    with socket.create_connection(("127.0.0.1", proxy.port), 20) as client:
        client.sendall(SET)
        until(lambda: proxy.holds)
        if way == "by the test":
            proxy.cut_held()
            assert client.recv(100) == b""

    until(lambda: not proxy.holds)
    assert redis.get("k") is None
