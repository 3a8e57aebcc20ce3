"""Disturbances of server, network, host and jobs other than kills and cuts; each has a name."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tests.chaos.jobs import DescriptorJob, ForkingJob, HandlerJob, TitleJob
from tests.daemons import hosts
from tests.servers import text

if TYPE_CHECKING:
    from tests.chaos.monkey import Monkey
    from tests.chaos.plan import Fault

#: Kinds of jobs that change their process, by the name of the disturbance.
JOBS = {
    "jobs fork and return": ForkingJob,
    "jobs leak descriptors": DescriptorJob,
    "jobs change handlers": HandlerJob,
    "jobs change titles": TitleJob,
}

#: Enters the network namespace named first, and becomes the Python command that follows.
ENTER = (
    "import ctypes, os, sys; f = os.open(sys.argv[1], 0); "
    "assert ctypes.CDLL(None).setns(f, 0x40000000) == 0; "
    "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
)


def make_replica(monkey: Monkey, fault: Fault) -> bool:
    """The server is a replica without a primary: READONLY."""
    _for_a_while(monkey, fault, ("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"))
    return True


def fill(monkey: Monkey, fault: Fault) -> bool:
    """The server has no memory left: OOM."""
    _for_a_while(
        monkey, fault, ("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")
    )
    return True


def take_rights(monkey: Monkey, fault: Fault) -> bool:
    """The daemons may not run scripts: NOPERM, as where commands were renamed."""
    _for_a_while(
        monkey,
        fault,
        ("ACL", "SETUSER", "default", "-evalsha"),
        ("ACL", "SETUSER", "default", "+evalsha"),
    )
    return True


def load(monkey: Monkey, fault: Fault) -> bool:
    """The server loads its data again, slowly: LOADING."""
    monkey.note(fault.kind)
    monkey.server.kill()
    monkey.server.restart("--key-load-delay", str(int(200 * fault.amount)))
    return True


def unregister(monkey: Monkey, fault: Fault) -> bool:
    """Another program removes a random registration."""
    with monkey.server.client() as redis:
        ids = sorted(redis.smembers("resque:workers"))
        if not ids:
            return False
        worker_id = text(ids[int(fault.choice * len(ids))])
        pipe = redis.pipeline()
        pipe.srem("resque:workers", worker_id)
        pipe.hdel("resque:workers:heartbeat", worker_id)
        pipe.delete(f"resque:worker:{worker_id}:started", f"resque:stat:processed:{worker_id}")
        pipe.execute()
    monkey.note(fault.kind, worker_id)
    return True


def take_log_folder(monkey: Monkey, fault: Fault) -> bool:
    """The folder of the log files is removed, with the files."""
    if not monkey.log_folder.exists():
        return False
    # Moved first: daemons may open more files in it meanwhile.
    away = monkey.log_folder.with_name("logs-taken")
    monkey.log_folder.rename(away)
    shutil.rmtree(away, ignore_errors=True)
    monkey.later(3 * fault.amount, lambda: monkey.log_folder.mkdir(exist_ok=True))
    return True


def limit_descriptors(monkey: Monkey, fault: Fault) -> bool:
    """A daemon of this user may open no more files: EMFILE."""
    daemon = monkey.chosen(fault)
    if daemon is None or daemon in monkey.others():
        return False
    try:
        former = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (3, former[1]))
    except ProcessLookupError:
        return False
    monkey.note(fault.kind, daemon.pid)

    def restore() -> None:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, former)

    monkey.later(0.5 + 3 * fault.amount, restore)
    return True


def limit_processes(monkey: Monkey, fault: Fault) -> bool:
    """A daemon may fork no more: EAGAIN. The limit does not apply to root, who chooses a daemon of
    another user.
    """
    bound = monkey.others() if os.geteuid() == 0 else monkey.daemons()
    if not bound:
        return False
    daemon = bound[int(fault.choice * len(bound))]
    if not hosts.limit_processes(daemon.pid, 0):
        return False
    monkey.note(fault.kind, daemon.pid)
    monkey.later(0.5 + 3 * fault.amount, lambda: hosts.limit_processes(daemon.pid, None))
    return True


def cut_host(monkey: Monkey, fault: Fault) -> bool:
    """The host of one worker has no network."""
    if monkey.namespace is None:
        return False
    link = monkey.namespace.link
    _ip("link", "set", link, "down")
    monkey.later(1 + 8 * fault.amount, lambda: _ip("link", "set", link, "up"))
    return True


#: Each with its weight; `jobs ...` are not faults but kinds of jobs.
DISTURBANCES: dict[str, tuple[int, Callable[[Monkey, Fault], bool]]] = {
    "make the server a replica": (3, make_replica),
    "fill the server": (3, fill),
    "take rights away": (2, take_rights),
    "load slowly": (1, load),
    "remove a registration": (5, unregister),
    "take the log folder": (3, take_log_folder),
    "limit descriptors": (3, limit_descriptors),
    "limit processes": (3, limit_processes),
    "cut a host": (3, cut_host),
}


class Namespace:
    """A network namespace with one link to this host; `address` is this host's address there."""

    def __init__(self) -> None:
        number = os.getpid() % 250
        self.name = f"pyres{os.getpid()}"
        self.link = f"pyresv{os.getpid() % 10**7}"
        self.address = f"10.213.{number}.1"
        inner = f"{self.link}i"
        _ip("netns", "add", self.name)
        _ip("link", "add", self.link, "type", "veth", "peer", "name", inner, "netns", self.name)
        _ip("addr", "add", f"{self.address}/24", "dev", self.link)
        _ip("link", "set", self.link, "up")
        _ip("-n", self.name, "addr", "add", f"10.213.{number}.2/24", "dev", inner)
        for device in (inner, "lo"):
            _ip("-n", self.name, "link", "set", device, "up")

    def close(self) -> None:
        _ip("netns", "del", self.name)


@contextlib.contextmanager
def namespace(wanted: bool) -> Iterator[Namespace | None]:
    """A namespace if one is needed and this user may make it, else None."""
    if not (wanted and os.geteuid() == 0 and shutil.which("ip")):
        yield None
        return
    with contextlib.closing(Namespace()) as made:
        yield made


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _for_a_while(
    monkey: Monkey, fault: Fault, begin: tuple[str, ...], end: tuple[str, ...]
) -> None:
    """Put the server into a state, and back; nothing is enqueued in between."""
    monkey.note(fault.kind, " ".join(begin))
    with monkey.server.client() as redis:
        redis.execute_command(*begin)
        over = time.monotonic() + 2 * fault.amount
        while time.monotonic() < over:
            signal.sigtimedwait([], max(0.0, over - time.monotonic()))
        redis.execute_command(*end)
