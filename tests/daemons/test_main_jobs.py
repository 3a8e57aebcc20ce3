"""Jobs defined in the script that enqueues them: `__main__` there, a module elsewhere."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from pyres import ResQ
from tests.daemons.watching import echoed, records
from tests.servers import ROOT, Daemon, Daemons

#: A script that prints a line each time when its module-level code is executed.
JOBS = """
import os, sys
from redis import Redis
Redis.from_url(os.environ["REDIS_URL"]).rpush("imports", __name__)

from pyres import ResQ, job
resq = ResQ(os.environ["REDIS_URL"])

class Echo:
    queue = "basic"

    @classmethod
    def perform(cls, *args):
        cls.resq.redis.rpush("echoed", '["%s"]' % __name__)

@job(queue="basic")
def echo(*args):
    echo.resq.redis.rpush("echoed", '["%s"]' % __name__)
"""

ENQUEUE = """
if __name__ == "__main__":
    resq.enqueue(Echo, 1)
    resq.enqueue(echo, 1)
    resq.enqueue(Echo, 1)
"""

WORK = """
if __name__ == "__main__":
    from pyres.worker import Worker
    Worker.run(["basic"], resq, interval=0)
"""

#: The name that each way to name or to find a job yields: all must be the same.
NAMES = """
if __name__ == "__main__":
    from datetime import datetime, timedelta
    from pyres import schedule

    class Once(Echo):
        unique_for = 60

    @job(queue="basic", every="1h")
    def often(): ...

    when = datetime.now() + timedelta(hours=1)
    results = [resq.enqueue(Echo, 1), resq.dequeue(Echo, 1)]
    results += [resq.enqueue_at(when, Echo, 1), len(resq.delayed_at(Echo, 1))]
    results += [resq.enqueue_delayed_now(Echo, 1), resq.dequeue_from("basic", Echo)]
    results += [resq.enqueue_in(60, Echo, 1), resq.remove_delayed(Echo, 1)]
    results += [resq.enqueue(Once, 1), resq.enqueue(Once, 1)]
    results += [resq.dequeue(Once), resq.enqueue(Once)]
    results += [entry.klass for entry in schedule.from_code().entries.values()]
    print("results:", *results)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    folder.mkdir()
    return folder


def written(folder: Path, name: str, *parts: str) -> Path:
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(map(textwrap.dedent, parts)))
    return file


def ended(daemon: Daemon) -> str:
    assert daemon.wait() == 0, daemon.output()
    return daemon.output()


def named(redis: Redis) -> list[str]:
    """The classes of the queued jobs."""
    return [json.loads(raw)["class"] for raw in redis.lrange("resque:queue:basic", 0, -1)]


def imports(redis: Redis) -> list[bytes]:
    return redis.lrange("imports", 0, -1)


def test_a_worker_performs_the_jobs_of_the_script_that_enqueued_them(
    run_daemon: Daemons, redis: Redis, resq: ResQ, folder: Path
) -> None:
    written(folder, "shop.py", JOBS, ENQUEUE)

    output = ended(run_daemon("shop.py", cwd=folder))

    assert output == ""
    assert named(redis) == ["shop.Echo", "shop.echo", "shop.Echo"]
    assert imports(redis) == [b"__main__"]
    ended(run_daemon("pyres_worker", "basic", "--burst", cwd=folder))
    assert echoed(redis) == [["shop"]] * 3
    assert records(resq) == []


def test_the_jobs_of_a_module_that_is_run_go_by_the_name_in_its_package(
    run_daemon: Daemons, redis: Redis, folder: Path
) -> None:
    written(folder, "pkg/__init__.py")
    written(folder, "pkg/tasks.py", JOBS, ENQUEUE)
    written(folder, "pkg/__main__.py", JOBS, ENQUEUE)

    ended(run_daemon("-m", "pkg.tasks", cwd=folder))
    ended(run_daemon("-m", "pkg", cwd=folder))

    assert named(redis)[::2] == ["pkg.tasks.Echo", "pkg.tasks.Echo", "pkg.__main__.echo"]
    ended(run_daemon("pyres_worker", "basic", "--burst", cwd=folder))
    assert echoed(redis) == [["pkg.tasks"]] * 3 + [["pkg.__main__"]] * 3


@pytest.mark.parametrize("command", [["shop.py"], ["-m", "shop"]])
def test_a_program_that_performs_its_own_jobs_is_not_imported_again(
    run_daemon: Daemons, redis: Redis, resq: ResQ, folder: Path, command: list[str]
) -> None:
    """As 1.5's one-file programs do; payloads from 1.5 name `__main__.Echo`."""
    written(folder, "shop.py", JOBS, ENQUEUE, WORK)
    redis.rpush("resque:queue:basic", b'{"class":"__main__.Echo","args":[]}')

    ended(run_daemon(*command, cwd=folder))

    assert records(resq) == []
    assert echoed(redis) == [["__main__"]] * 4
    assert imports(redis) == [b"__main__"]


@pytest.mark.parametrize("allowed", ["shop", "__main__", "shop.Echo"])
def test_what_a_program_allows_may_be_spelt_as_script_or_as_main(
    run_daemon: Daemons, redis: Redis, resq: ResQ, folder: Path, allowed: str
) -> None:
    work = WORK.replace("interval=0", f"interval=0, allow=[{allowed!r}]")
    written(folder, "shop.py", JOBS, ENQUEUE.replace("(echo, 1)", "(Echo, 1)"), work)
    redis.rpush("resque:queue:basic", b'{"class":"shop.os.system","args":["true"]}')

    ended(run_daemon("shop.py", cwd=folder))

    assert echoed(redis) == [["__main__"]] * 3
    assert [record["exception"] for record in records(resq)] == ["NotAllowedError"]


def test_every_way_to_refer_to_a_job_of_a_script_yields_the_same_name(
    run_daemon: Daemons, redis: Redis, folder: Path
) -> None:
    written(folder, "shop.py", JOBS, NAMES)

    output = ended(run_daemon("shop.py", cwd=folder))

    assert output.splitlines()[-1] == (
        "results: True 1 True 1 1 1 True 1 True False 1 True shop.often"
    )
    assert named(redis) == ["shop.Once"]


def test_the_children_of_a_spawning_script_use_its_name_too(
    run_daemon: Daemons, redis: Redis, folder: Path
) -> None:
    spawn = """
    def from_child():
        resq.enqueue(Echo, 1)

    if __name__ == "__main__":
        import multiprocessing
        child = multiprocessing.get_context("spawn").Process(target=from_child)
        child.start()
        child.join()
    """
    written(folder, "shop.py", JOBS, spawn)

    ended(run_daemon("shop.py", cwd=folder))

    assert named(redis) == ["shop.Echo"]
    assert imports(redis) == [b"__main__", b"__mp_main__"]


def _of_file(folder: Path, name: str) -> list[str]:
    written(folder, name, JOBS, ENQUEUE, ENQUEUE)
    return [name]


def _of_text(folder: Path) -> list[str]:
    return ["-c", JOBS + ENQUEUE + ENQUEUE]


def _shadowed(folder: Path) -> list[str]:
    """`import shop` finds another file."""
    written(folder, "shop.py", "")
    return ["-P", str(written(folder, "sub/shop.py", JOBS, ENQUEUE, ENQUEUE))]


def _elsewhere(folder: Path) -> list[str]:
    return ["-P", str(written(folder, "sub/shop.py", JOBS, ENQUEUE, ENQUEUE))]


@pytest.mark.parametrize(
    "command",
    [
        lambda folder: _of_file(folder, "my-shop.py"),
        lambda folder: _of_file(folder, "__main__.py"),
        lambda folder: _of_file(folder, "shop"),
        _of_text,
        _shadowed,
        _elsewhere,
    ],
    ids=["no identifier", "__main__.py", "no .py", "-c", "another file", "not on the path"],
)
def test_a_script_that_cannot_be_imported_is_one_warning_for_each_class(
    run_daemon: Daemons, redis: Redis, folder: Path, command: Any
) -> None:
    env = {"PYTHONPATH": f"{folder}:{ROOT}"}

    output = ended(run_daemon(*command(folder), cwd=folder, env=env))

    assert named(redis) == ["__main__.Echo", "__main__.echo", "__main__.Echo"] * 2
    assert output.count("move it into a module that the worker can import") == 2
    assert output.count("__main__.Echo") == output.count("__main__.echo") == 1


def test_a_program_that_cannot_be_imported_performs_its_own_jobs(
    run_daemon: Daemons, redis: Redis, resq: ResQ, folder: Path
) -> None:
    written(folder, "my-shop.py", JOBS, ENQUEUE, WORK)

    ended(run_daemon("my-shop.py", cwd=folder))

    assert echoed(redis) == [["__main__"]] * 3
    assert records(resq) == []
    assert imports(redis) == [b"__main__"]


def test_a_worker_that_is_not_the_script_reports_why_it_lacks_the_job(
    run_daemon: Daemons, redis: Redis, resq: ResQ
) -> None:
    redis.rpush("resque:queue:basic", b'{"class":"__main__.Echo","args":[]}')

    ended(run_daemon("pyres_worker", "basic", "--burst"))

    (record,) = records(resq)
    assert record["exception"] == "ClassNotFoundError"
    assert "defined in the script or session that enqueued it" in record["error"]
