"""A DSN: what it says, what is wrong with it, and that nobody sees the password."""

from __future__ import annotations

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from pyres.exceptions import BadDSNError
from pyres.store.dsn import DSN, connect, from_client, mask
from tests.servers import Server


@pytest.mark.parametrize(
    ("text", "host", "port", "db", "username", "password"),
    [
        ("localhost", "localhost", 6379, 0, None, None),
        ("db1:6380", "db1", 6380, 0, None, None),
        ("db1:6380/3", "db1", 6380, 3, None, None),
        (":6380", None, None, 0, None, None),
        ("[::1]:6380", "::1", 6380, 0, None, None),
        (":secret@db1:6380", "db1", 6380, 0, None, "secret"),
        ("redis://ada:p%40ss@db1/2", "db1", 6379, 2, "ada", "p@ss"),
        ("rediss://db1:6380", "db1", 6380, 0, None, None),
    ],
)
def test_a_dsn_is_read(
    text: str,
    host: str | None,
    port: int | None,
    db: int,
    username: str | None,
    password: str | None,
) -> None:
    if host is None:
        with pytest.raises(BadDSNError, match="has no host"):
            DSN.parse(text)
        return

    dsn = DSN.parse(text)

    assert (dsn.host, dsn.port, dsn.db) == (host, port, db)
    assert (dsn.username, dsn.password) == (username, password)


def test_a_socket_and_sentinels_are_read() -> None:
    socket = DSN.parse("unix:///run/redis.sock?db=2")
    sentinels = DSN.parse("redis+sentinel://ada:pw@h1:1,h2/main/3")

    assert (socket.path, socket.db) == ("/run/redis.sock", 2)
    assert sentinels.sentinels == (("h1", 1), ("h2", 26379))
    assert (sentinels.service, sentinels.db, sentinels.password) == ("main", 3, "pw")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "'' is no DSN"),
        ("db1:x", "'x' is no port"),
        ("db1:70000", "'70000' is no port"),
        ("db1:1/x", "'x' is no db"),
        ("db1:1/-1", "'-1' is no db"),
        ("ftp://db1", "'ftp' is no scheme"),
        ("::1", "an IPv6 address stands in brackets"),
        ("[::1", "is no IPv6 address"),
        ("redis+sentinel://h1:1", "names no service"),
        ("unix://run", "is no path of a socket"),
        ("redis://db1?x=1", "'x' is no option"),
    ],
)
def test_a_bad_dsn_is_an_error_that_names_its_part(text: str, complaint: str) -> None:
    with pytest.raises(BadDSNError) as refused:
        DSN.parse(text)

    assert complaint in str(refused.value)


SECRETS = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=12, max_size=20)


@given(
    SECRETS,
    st.sampled_from(
        ["{}@h:1/0", "redis://u:{}@h:1", "redis+sentinel://u:{}@h:1/s", "unix://:{}@/s"]
    ),
)
def test_no_text_of_a_dsn_shows_the_password(secret: str, form: str) -> None:
    text = form.format(f":{secret}" if form.startswith("{") else secret)

    dsn = DSN.parse(text)

    assert dsn.password == secret
    assert secret not in f"{dsn} {dsn!r} {dsn.address} {mask(f'pyres --dsn {text} -x')}"


@given(SECRETS)
def test_no_complaint_shows_the_password(secret: str) -> None:
    with pytest.raises(BadDSNError) as refused:
        DSN.parse(f"redis://u:{secret}@h:notaport/0")

    assert secret not in str(refused.value)


@given(st.text())
def test_any_text_is_a_dsn_or_a_bad_dsn(text: str) -> None:
    try:
        DSN.parse(text)
    except BadDSNError as error:
        assert str(error)


@pytest.mark.parametrize(
    "text", ["db1", "db1:6380/3", "[::1]:6380", "rediss://db1:1", "unix:///s?db=2"]
)
def test_what_a_dsn_shows_is_read_as_the_same_server(text: str) -> None:
    dsn = DSN.parse(text)

    assert DSN.parse(str(dsn)) == dsn


def test_a_connection_repeats_nothing_and_waits_longer_than_any_blpop(server: Server) -> None:
    """OLD-FAULTS B3: redis-py 8 gives up after 5 s and tries ten times more."""
    client = connect(DSN.parse(server.dsn))

    connection = client.connection_pool.get_connection()

    assert connection.retry.get_retries() == 0
    assert connection.socket_timeout > 5
    client.connection_pool.release(connection)
    client.connection_pool.disconnect()


def test_nothing_but_the_command_is_sent_on_a_new_connection(server: Server) -> None:
    with server.monitor() as monitor:
        client = connect(DSN.parse(server.dsn))
        client.get("marker")
        monitor.until("GET")
        sent = {name for command in monitor.everything for name in (command.name,)}

    assert not sent & {"HELLO", "CLIENT"}
    client.connection_pool.disconnect()


def test_somebodys_client_is_not_touched_and_ours_reads_bytes(server: Server) -> None:
    """OLD-FAULTS B55, B57: a client that decodes, over a pool of one connection."""
    pool = redis.BlockingConnectionPool.from_url(
        server.url, max_connections=1, decode_responses=True, timeout=1
    )
    theirs = redis.Redis(connection_pool=pool)

    ours, dsn = from_client(theirs)

    ours.set("k", "é")
    assert ours.get("k") == "é".encode()
    assert theirs.get("k") == "é"
    assert dsn.port == server.port
    for client in (ours, theirs):
        client.connection_pool.disconnect()


def test_a_unix_socket_is_connected(server: Server) -> None:
    client = connect(DSN.parse(f"unix://{server.unix_socket}"))

    assert client.ping()
    client.connection_pool.disconnect()
