"""The command pyres_web with idle connections, and with bodies that are too large."""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import subprocess
from collections.abc import Iterator

import pytest
from waitress.task import ThreadedTaskDispatcher

from resweb import serving
from resweb.auth import hash_password
from tests.servers import free_port, until
from tests.web.test_command import COMMAND, ENVIRONMENT

#: More than waitress serves by default, and than `LIMIT` allows descriptors.
CONNECTIONS = 300

LIMIT = f"ulimit -Sn {CONNECTIONS // 2}; exec"


@pytest.fixture(scope="module")
def port(tmp_path_factory, second_server) -> Iterator[int]:
    """The port of pyres_web with a password and a low limit on descriptors."""
    port, log = free_port(), tmp_path_factory.mktemp("web") / "log"
    options = ["--port", str(port), "--dsn", second_server.dsn, "-f", str(log)]
    options += ["--auth", f"ops:{hash_password('secret')}"]
    command = ["sh", "-c", f'{LIMIT} "$@"', "sh", *COMMAND, *options]
    with subprocess.Popen(command, env=ENVIRONMENT) as process:
        try:
            until(lambda: log.exists() and "Listening" in log.read_text(), 60)
            yield port
        finally:
            process.terminate()


@pytest.mark.parametrize("sent", [b"", b"POST /failed/retry/ HTTP/1.1\r\nHost: x\r\n", b"G"])
def test_hundreds_of_idle_connections_do_not_block_others(port, sent):
    with contextlib.ExitStack() as stack:
        for _ in range(CONNECTIONS):
            idle = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            idle.sendall(sent)
        visitor = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        stack.enter_context(contextlib.closing(visitor))
        visitor.request("GET", "/overview")

        assert visitor.getresponse().status == 401


@pytest.mark.parametrize("head", [b"Content-Length: 3000000", b"Content-Length: 400000000"])
def test_a_body_that_is_too_large_is_refused_before_it_is_sent(port, head):
    assert _status(port, head, b"") == 413


def test_a_chunked_body_that_is_too_large_is_refused(port):
    chunk = b"%x\r\n%b\r\n" % (2**20, b"x" * 2**20)

    # Data that the server did not read may reset the connection before its answer is read.
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        assert _status(port, b"Transfer-Encoding: chunked", chunk * 2 + b"1\r\nx\r\n") == 413


def test_a_body_below_the_limit_reaches_the_password_check(port):
    assert _status(port, b"Content-Length: 2000000", b"x" * 2_000_000) == 401


@pytest.fixture
def queue_logger() -> Iterator[logging.Logger]:
    """waitress' logger for requests that wait; its level is restored afterwards."""
    logger = logging.getLogger("waitress.queue")
    level = logger.level
    yield logger
    logger.setLevel(level)


def test_a_request_that_waits_for_a_thread_logs_no_warning(queue_logger, caplog):
    serving.log_no_queue_depth()

    ThreadedTaskDispatcher().add_task(object())

    assert caplog.text == ""
    assert not queue_logger.isEnabledFor(logging.WARNING)


def _status(port: int, head: bytes, body: bytes) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sent:
        sent.sendall(b"POST /failed/retry/ HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n" % head)
        sent.sendall(body)
        response = http.client.HTTPResponse(sent)
        response.begin()
        return response.status
