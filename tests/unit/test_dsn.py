"""DSNs: how they are parsed, the errors for invalid ones, and that no password is shown."""

from __future__ import annotations

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from pyres.exceptions import BadDSNError
from pyres.store import CONNECTION_ERRORS
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
        with pytest.raises(BadDSNError, match="expected 'host:port'"):
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


def test_the_nodes_of_a_cluster_are_read() -> None:
    dsn = DSN.parse("redis+cluster://ada:p%40ss@h1:1,[::1]:2,h3/0")

    assert dsn.nodes == (("h1", 1), ("::1", 2), ("h3", 6379))
    assert (dsn.username, dsn.password, dsn.db) == ("ada", "p@ss", 0)
    assert str(dsn) == "redis+cluster://h1:1,[::1]:2,h3:6379"


@pytest.mark.parametrize(
    ("text", "encrypted"),
    [
        ("rediss://h1?ssl_ca_certs=/ca&ssl_check_hostname=no", True),
        ("rediss+sentinel://h1/main?ssl_cert_reqs=none&sentinel_password=pw", True),
        ("rediss+cluster://h1?ssl_keyfile=/key", True),
        ("redis+sentinel://h1/main?sentinel_username=ada", False),
    ],
)
def test_options_are_read_where_they_mean_something(text: str, encrypted: bool) -> None:
    dsn = DSN.parse(text)

    assert dict(dsn.options) == dict(pair.split("=") for pair in text.split("?")[1].split("&"))
    assert dsn.encrypted == encrypted


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "invalid DSN ''"),
        ("db1:x", "invalid port 'x'"),
        ("db1:70000", "invalid port '70000'"),
        ("db1:1/x", "invalid db 'x'"),
        ("db1:1/-1", "invalid db '-1'"),
        ("ftp://db1", "invalid DSN scheme 'ftp'"),
        ("::1", "expected an IPv6 address in brackets"),
        ("[::1", "invalid IPv6 address"),
        ("redis+sentinel://h1:1", "no service in"),
        ("unix://run", "invalid socket path"),
        ("redis://db1?x=1", "invalid option 'x'"),
        # A certificate is configured, but the scheme has no TLS.
        ("redis://db1?ssl_ca_certs=/ca", "of a redis:// DSN: expected only db"),
        ("redis+cluster://db1?ssl_ca_certs=/ca", "of a redis+cluster:// DSN"),
        ("rediss://db1?sentinel_password=pw", "of a rediss:// DSN: expected one of ssl_"),
        ("redis+cluster://h1,h2/1", "a Redis Cluster has only db 0"),
        ("redis+cluster://h1?db=1", "a Redis Cluster has only db 0"),
        ("redis+cluster://h1,,h2", "expected 'host:port'"),
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
        [
            "{}@h:1/0",
            "redis://u:{}@h:1",
            "redis+sentinel://u:{}@h:1/s",
            "rediss+cluster://u:{}@h:1,i:2",
            "unix://:{}@/s",
        ]
    ),
)
def test_no_text_of_a_dsn_shows_the_password(secret: str, form: str) -> None:
    text = form.format(f":{secret}" if form.startswith("{") else secret)

    dsn = DSN.parse(text)

    assert dsn.password == secret
    assert secret not in f"{dsn} {dsn!r} {dsn.address} {mask(f'pyres --dsn {text} -x')}"


@given(SECRETS)
def test_no_error_shows_the_password(secret: str) -> None:
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
    "text",
    [
        "db1",
        "db1:6380/3",
        "[::1]:6380",
        "rediss://db1:1",
        "unix:///s?db=2",
        "rediss+sentinel://h1:1,h2:2/main/3",
        "redis+cluster://h1:1,h2:2",
    ],
)
def test_what_a_dsn_shows_is_read_as_the_same_server(text: str) -> None:
    dsn = DSN.parse(text)

    assert DSN.parse(str(dsn)) == dsn


def test_a_connection_repeats_nothing_and_waits_longer_than_any_blpop(server: Server) -> None:
    """By default redis-py 8 times out after 5 s and retries ten times."""
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


def test_a_client_passed_by_the_caller_is_not_changed_and_the_new_one_reads_bytes(
    server: Server,
) -> None:
    """Also a client that decodes replies, over a pool of one connection."""
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


@pytest.mark.parametrize("slot_key", [b"{a}", b"resque"])
def test_only_a_cluster_requires_braces(server: Server, slot_key: bytes) -> None:
    client = connect(DSN.parse(server.dsn), slot_key=slot_key)

    assert client.ping()
    client.connection_pool.disconnect()


def test_a_sentinel_that_is_down_is_asked_once() -> None:
    client = connect(DSN.parse("redis+sentinel://127.0.0.1:1,127.0.0.1:2/main"))

    asked = client.connection_pool.sentinel_manager.sentinels

    assert [s.connection_pool.connection_kwargs["retry"].get_retries() for s in asked] == [0, 0]
    with pytest.raises(redis.exceptions.ConnectionError, match="Connection refused") as raised:
        client.ping()
    assert str(raised.value).startswith("no sentinel names a primary of 'main': Error 111")


@pytest.mark.parametrize("option", ["", "ssl_cert_reqs=optional", "ssl_check_hostname=yes"])
def test_a_certificate_must_be_that_of_the_host_unless_it_need_not(option: str) -> None:
    """redis-py 5 checked who signed the certificate, but not for which host."""
    kwargs = connect(DSN.parse(f"rediss://h?{option}")).connection_pool.connection_kwargs

    assert kwargs["ssl_check_hostname"] is True
    assert kwargs["ssl_cert_reqs"] in ("required", "optional")


def test_a_level_of_trust_that_there_is_not_is_named() -> None:
    with pytest.raises(BadDSNError, match="invalid ssl_cert_reqs 'nope'"):
        connect(DSN.parse("rediss://h?ssl_cert_reqs=nope"))


def test_the_dsn_of_a_client_of_sentinels_or_a_cluster_names_its_servers() -> None:
    for text, slot_key in (
        ("rediss+sentinel://h1:1,h2:2/main/3", b""),
        ("rediss+cluster://h1:1,h2:2", b"{a}"),
        ("redis+cluster://h1:1,h2:2", b"{a}"),
    ):
        _, dsn = from_client(connect(DSN.parse(text), slot_key), slot_key=b"{b}")

        assert str(dsn) == text


def test_a_connection_to_what_became_a_replica_is_not_used_again(own_server: Server) -> None:
    """One name, another address: a server was demoted behind it, and the name leads elsewhere."""
    client = connect(DSN.parse(own_server.dsn))
    first = client.client_id()
    own_server.client().replicaof("127.0.0.1", 1)

    with pytest.raises(CONNECTION_ERRORS):
        client.set("k", 1)

    assert client.client_id() != first
    client.connection_pool.disconnect()


@pytest.mark.parametrize("transaction", [True, False])
def test_a_refusal_among_several_commands_is_raised_as_what_it_is(
    own_server: Server, transaction: bool
) -> None:
    own_server.client().config_set("maxmemory", 1)
    client = connect(DSN.parse(own_server.dsn))
    pipe = client.pipeline(transaction=transaction)
    for number in range(3):
        pipe.rpush("k", number)

    with pytest.raises(CONNECTION_ERRORS, match="maxmemory"):
        pipe.execute()

    own_server.client().config_set("maxmemory", 0)
    assert client.exists("k") == 0
    client.connection_pool.disconnect()
