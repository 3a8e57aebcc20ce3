"""A job's own process: what it inherits from the worker, its timeout, and how it may die."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from redis import Redis

from pyres import ResQ
from pyres.store import scripts
from pyres.worker import Worker
from tests.daemons.bad_jobs import HandlerJob, SlowJob, StuckJob, SwallowingJob, UnspeakableJob
from tests.daemons.odd_jobs import (
    ClosingJob,
    DeepJob,
    DoublingJob,
    EndlessJob,
    FrozenJob,
    InterruptedJob,
    LeavingJob,
    LeisureJob,
    LineJob,
    NoTimeJob,
    ReapingJob,
    SocketsJob,
    ThreadJob,
    UnlimitedJob,
)
from tests.daemons.watching import (
    begun,
    burst,
    counted,
    echoed,
    lines,
    records,
    registered,
    sockets,
    start,
    watches,
    zombies,
)
from tests.jobs import (
    GATE,
    EchoJob,
    ExitJob,
    FailJob,
    GateJob,
    NoopJob,
    SegfaultJob,
    SignalJob,
    SleepJob,
    SysExitJob,
)
from tests.servers import Daemons, Server, until


def test_no_jobs_process_has_an_open_socket_of_its_parent(
    run_daemon: Daemons, resq: ResQ, redis: Redis, tmp_path: Path
) -> None:
    """The first is forked after a wait, the later ones while another job was performed."""
    daemon = start(run_daemon, redis)
    path = tmp_path / "sockets"

    resq.enqueue_many([(SocketsJob, str(path))] * 4)
    until(lambda: counted(redis)[0] == 4)

    # The parent's own: it fetches on one and watches on the other.
    until(lambda: len(sockets(daemon.pid)) == 2)
    seen = [line.split() for line in path.read_text().splitlines()]
    assert [parent for parent, *_ in seen] == [str(daemon.pid)] * 4
    assert [held for _, *held in seen] == [[]] * 4


def test_a_job_that_needs_no_server_makes_no_connection(
    run_daemon: Daemons, resq: ResQ, redis: Redis, tmp_path: Path
) -> None:
    start(run_daemon, redis)
    resq.enqueue(LineJob, str(tmp_path / "lines"), 0)
    until(lambda: counted(redis)[0] == 1 and watches(redis))
    before = redis.info("stats")["total_connections_received"]

    resq.enqueue_many([(LineJob, str(tmp_path / "lines"), number) for number in range(1, 20)])
    until(lambda: counted(redis)[0] == 20)

    assert redis.info("stats")["total_connections_received"] == before
    assert lines(tmp_path / "lines") == list(range(20))


def test_a_job_is_in_flight_before_its_process_does_anything(
    run_daemon: Daemons, resq: ResQ, redis: Redis, server: Server
) -> None:
    """The in-flight record has the payload byte for byte as it was queued."""
    raw = b'{"class": "tests.jobs.GateJob",  "args":["g"],"more":1.50}'
    with server.monitor() as monitor:
        daemon = start(run_daemon, redis, "--queues", "basic", "--blocking-pop")
        record = "resque:worker:" + registered(redis, daemon).decode()
        monitor.until("BLPOP")
        redis.rpush("resque:queue:basic", raw, raw)
        begun(redis)
        held = redis.get(record)
        redis.rpush(GATE.format("g"), 1, 1)
        until(lambda: counted(redis)[0] == 2)
        commands = monitor.commands

    assert held.startswith(b'{"queue":"basic","run_at":"20')
    assert held.endswith(b',"payload":' + raw + b"}")
    assert not redis.exists(record)
    held_at = next(i for i, c in enumerate(commands) if scripts.sha("record_popped") in c.args)
    begun_at = next(i for i, c in enumerate(commands) if c == ("RPUSH", ["begun", *c.args[1:]]))
    assert held_at < begun_at


def test_an_idle_worker_keeps_no_zombie(run_daemon: Daemons, resq: ResQ, redis: Redis) -> None:
    """Neither of a job that exceeded its timeout nor of one that succeeded."""
    daemon = start(run_daemon, redis, "--queues", "basic", "--interval", "0.2")

    resq.enqueue_many([(NoopJob,), (StuckJob,), (NoopJob,), (NoopJob,)])

    until(lambda: counted(redis) == (4, 1))
    until(lambda: zombies(daemon.pid) == [] and daemon.children() == [])
    assert daemon.returncode is None


def test_a_classs_timeout_limits_its_jobs(run_daemon: Daemons, resq: ResQ, redis: Redis) -> None:
    """A shorter timeout, a longer one or none, whatever its worker's is. When neither an alarm nor
    anything else ends a job, the parent kills it 1 s later.
    """
    jobs = {
        "no limit": [(FrozenJob,), (SwallowingJob,), (NoTimeJob,)],
        "0.3 s": [(UnlimitedJob, 1.6)],
        "0.3 s too": [(StuckJob,), (LeisureJob, 0.5), (EndlessJob, 0.5)],
    }
    for queue, ones in jobs.items():
        for klass, *args in ones:
            resq.enqueue_to(queue, klass, *args)

    for queue in jobs:
        limit = [] if queue == "no limit" else ["--timeout", "0.3"]
        # The class's timeout is known once it is imported, which takes time on a busy machine.
        known = ["--require", "tests.daemons.odd_jobs"]
        run_daemon("pyres_worker", "--queues", queue, *limit, *known)
    until(lambda: counted(redis)[0] == 7)

    done = [name for (name,) in echoed(redis)]
    assert sorted(done) == ["EndlessJob", "LeisureJob", "UnlimitedJob"]
    failed = {record["payload"]["class"].rpartition(".")[2]: record for record in records(resq)}
    assert {name: record["exception"] for name, record in failed.items()} == {
        "FrozenJob": "TimeoutError",
        "SwallowingJob": "TimeoutError",
        "StuckJob": "TimeoutError",
        "NoTimeJob": "BadOptionError",
    }
    assert "'soon'" in failed["NoTimeJob"]["error"]
    assert counted(redis)[1] == 4


def test_the_workers_own_timeout_holds_too(run_daemon: Daemons, resq: ResQ, redis: Redis) -> None:
    """A job that exceeds it fails, and one that ends in time does not."""
    resq.enqueue(SleepJob, 60)
    # Needs nothing, not even the server, that a busy machine could keep for longer than its time.
    resq.enqueue(NoopJob)

    burst(run_daemon, "-t", "0.3", "--require", "tests.jobs")

    assert [record["exception"] for record in records(resq)] == ["TimeoutError"]
    assert counted(redis) == (2, 1)


ODD = {
    "raises": (FailJob, ["why"], "ValueError", "why"),
    "killed": (SignalJob, [int(signal.SIGKILL)], "CrashError", "was killed by SIGKILL"),
    "os._exit": (ExitJob, [3], "CrashError", "exited with status 3"),
    "sys.exit(3)": (SysExitJob, [3], "CrashError", "status 3"),
    "sys.exit(0)": (SysExitJob, [0], None, ""),
    "sys.exit()": (SysExitJob, [None], None, ""),
    "segfault": (SegfaultJob, [], "CrashError", "SIGSEGV"),
    "slow": (SlowJob, [], "TimeoutError", "0.2 s"),
    "stuck in C": (StuckJob, [], "TimeoutError", "0.2 s"),
    "swallows": (SwallowingJob, [], "TimeoutError", "0.2 s"),
    "str raises": (UnspeakableJob, [], "UnspeakableError", "RuntimeError"),
    "no module": ("no.such.Job", [], "ClassNotFoundError", "'no.such.Job'"),
    "import raises": ("tests.daemons.bad_import.Job", [], "ZeroDivisionError", "division"),
    "KeyboardInterrupt": (InterruptedJob, [], "KeyboardInterrupt", ""),
    "GeneratorExit": (LeavingJob, [], "GeneratorExit", "left"),
    "RecursionError": (DeepJob, [], "RecursionError", "recursion"),
    "waits for children": (ReapingJob, [], "ChildProcessError", ""),
    "no perform": ("tests.daemons.odd_jobs.NoPerform", [], "ClassNotFoundError", ""),
    "wrong args": (GateJob, [], "TypeError", "argument"),
    "no class in the module": ("tests.jobs.NoSuch", [], "ClassNotFoundError", "NoSuch"),
    "no function": ("os.getcwd", [], "ClassNotFoundError", "getcwd"),
    "closes all files": (ClosingJob, [], None, ""),
    "forks": (DoublingJob, [], None, ""),
    "leaves a thread": (ThreadJob, [], None, ""),
}


def test_a_misbehaving_job_has_exactly_one_outcome(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """One failure record or none, counted once, and the
    worker goes on.
    """
    # The thread that never ends gets the grace.
    daemon = start(run_daemon, redis, "--queues", "basic", "--grace", "0.5")

    for name, (klass, args, *_) in ODD.items():
        resq.enqueue_to("basic", klass, *args)
        resq.enqueue(EchoJob, name)
    until(lambda: counted(redis)[0] == 2 * len(ODD), timeout=60, what="all to be counted")

    failed = [(exception, error) for *_, exception, error in ODD.values() if exception]
    found = records(resq)
    assert [record["exception"] for record in found] == [exception for exception, _ in failed]
    for record, (_, error) in zip(found, failed, strict=True):
        assert error in record["error"]
    assert counted(redis) == (2 * len(ODD), len(failed))
    done = [arg for (arg,) in echoed(redis)]
    assert done.count("doubled") == 1
    assert [arg for arg in done if arg != "doubled"] == list(ODD)
    assert not redis.exists(b"resque:worker:" + registered(redis, daemon))
    until(lambda: daemon.children() == [], what="an end of every job's process")
    assert echoed(redis)[-1] == [list(ODD)[-1]]


def test_the_failure_hooks_of_a_job_that_died_after_its_record_run_once(
    run_daemon: Daemons, resq: ResQ, redis: Redis, tmp_path: Path
) -> None:
    """Its process crashes after the failure was recorded."""
    (tmp_path / "hooked.py").write_text(
        "class Interrupted:\n"
        "    queue = 'basic'\n"
        "    retry_dirty_exit = True\n"
        "    def on_failure_tell(error):\n"
        "        Interrupted.resq.redis.rpush('raised', type(error).__name__)\n"
        "    @staticmethod\n"
        "    def perform():\n"
        "        raise KeyboardInterrupt\n"
    )
    (tmp_path / "lent.py").write_text(
        "import hooked, pyres\n"
        "hooked.Interrupted.resq = pyres.ResQ(__import__('os').environ['REDIS_URL'])\n"
    )
    resq.enqueue_to("basic", "hooked.Interrupted")

    burst(run_daemon, "--path", str(tmp_path), "--require", "lent")

    assert redis.lrange("raised", 0, -1) == [b"KeyboardInterrupt"]
    assert [record["exception"] for record in records(resq)] == ["KeyboardInterrupt"]
    assert counted(redis) == (1, 1)


def script(folder: Path, code: str) -> str:
    """A user's program."""
    path = folder / "program.py"
    path.write_text(code)
    return str(path)


def test_a_failure_that_cannot_be_recorded_starts_no_second_worker(
    run_daemon: Daemons, resq: ResQ, redis: Redis, tmp_path: Path, dsn: str
) -> None:
    """An exception must not leave work() in the child, where it would start another worker."""
    program = script(
        tmp_path,
        "import os\n"
        "from pyres import failure\n"
        "from pyres.worker import Worker\n"
        "class Broken(failure.RedisBackend):\n"
        "    def save(self, resq=None):\n"
        "        raise OSError('no disk')\n"
        "failure.backend = Broken\n"
        "while True:\n"
        "    try:\n"
        f"        Worker.run(['basic'], {dsn!r})\n"
        "    except BaseException as error:\n"
        "        print('left by', repr(error))\n"
        "    else:\n"
        "        break\n",
    )
    daemon = run_daemon(program)
    resq.enqueue_many([(FailJob, 1), (EchoJob, "next")])

    until(lambda: counted(redis)[0] == 2)

    assert echoed(redis) == [["next"]]
    assert [record["exception"] for record in records(resq)] == ["ValueError"]
    assert counted(redis) == (2, 1)
    assert redis.scard("resque:workers") == 1
    until(lambda: daemon.children() == [])
    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0
    assert "left by" not in daemon.output()


def test_a_backend_that_a_module_installs_stays(
    run_daemon: Daemons, resq: ResQ, redis: Redis, tmp_path: Path
) -> None:
    (tmp_path / "setup_failures.py").write_text(
        "from pyres import failure\n"
        "from pyres.failure.redis_multi_queue import RedisMultiQueueBackend\n"
        "failure.backend = RedisMultiQueueBackend\n"
    )
    resq.enqueue_many([(FailJob, 1), (FailJob, 2)])

    burst(run_daemon, "--path", str(tmp_path), "--require", "setup_failures")

    assert redis.llen("resque:basic_failed") == 2
    assert redis.smembers("resque:failed_queues") == {b"basic_failed"}
    assert counted(redis) == (2, 2)


def test_a_subclass_of_worker_works_as_in_1_5(
    run_daemon: Daemons, resq: ResQ, redis: Redis, tmp_path: Path, dsn: str
) -> None:
    """A subclass with process() and both hooks; before_fork runs in the parent, the others not."""
    program = script(
        tmp_path,
        "import os\n"
        "from pyres.worker import Worker\n"
        "class Mine(Worker):\n"
        "    def tell(self, what, job):\n"
        "        print(what, job._payload['args'][0], os.getpid() == int(self.pid), flush=True)\n"
        "    def before_fork(self, job): self.tell('before_fork', job)\n"
        "    def after_fork(self, job): self.tell('after_fork', job)\n"
        "    def before_process(self, job): self.tell('before_process', job)\n"
        "    def process(self, job=None):\n"
        "        self.tell('process', job)\n"
        "        return Worker.process(self, job)\n"
        f"Mine.run('basic', {dsn!r}, interval=0)\n",
    )
    resq.enqueue_many([(EchoJob, "a"), (EchoJob, "b")])

    daemon = run_daemon(program)

    assert daemon.wait() == 0
    expected = [
        f"{what} {job} {what == 'before_fork'}"
        for job in ("a", "b")
        for what in ("before_fork", "after_fork", "process", "before_process")
    ]
    assert daemon.output().splitlines() == expected
    assert echoed(redis) == [["a"], ["b"]]
    assert counted(redis) == (2, 0)


@pytest.mark.usefixtures("own_title")
def test_fork_worker_works_without_startup_and_applies_a_classs_timeout(
    resq: ResQ, redis: Redis
) -> None:
    resq.enqueue_many([(EchoJob, 1), (StuckJob,), (EchoJob, 2)])
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGUSR1)}
    fds = os.listdir("/proc/self/fd")
    worker = Worker("basic", resq)

    for _ in range(3):
        worker.fork_worker(worker.reserve(timeout=0))

    assert echoed(redis) == [[1], [2]]
    assert [record["exception"] for record in records(resq)] == ["TimeoutError"]
    assert counted(redis) == (3, 1)
    assert not redis.exists(f"resque:worker:{worker}")
    assert {signum: signal.getsignal(signum) for signum in before} == before
    worker.fetcher.close()
    del worker
    assert len(os.listdir("/proc/self/fd")) <= len(fds)


def test_process_without_a_job_does_nothing(resq: ResQ, redis: Redis) -> None:
    assert Worker("basic", resq).process() is None

    assert redis.get("resque:stat:processed") is None
    assert records(resq) == []


#: 1.5's users call startup() themselves, and work() calls it too.
TWICE = """
import os
from pyres.worker import Worker
worker = Worker("basic", os.environ["REDIS_URL"])
worker.startup()
worker.work(0)
"""


@pytest.mark.parametrize(
    "command", [["pyres_worker", "basic", "--burst"], ["-c", TWICE]], ids=["pyres_worker", "twice"]
)
def test_a_jobs_process_has_default_handlers(
    command: list[str], run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    resq.enqueue(HandlerJob)

    assert run_daemon(*command).wait() == 0

    assert echoed(redis) == [[[True] * 4]]


def test_a_failure_is_recorded_in_the_form_of_ruby(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """The exception's class, its message, and the backtrace to the line in the job."""
    resq.enqueue(FailJob, "why")

    burst(run_daemon)

    record = json.loads(redis.lindex("resque:failed", 0))
    fields = ["failed_at", "payload", "exception", "error", "backtrace", "worker", "queue"]
    assert list(record) == fields
    assert (record["exception"], record["error"]) == ("ValueError", "why")
    assert any("jobs.py" in line for line in record["backtrace"])
    assert not any("/performer.py" in line for line in record["backtrace"][-2:])


#: A user's program that has used gevent before it starts to work on jobs.
PATCHED = """
from gevent import monkey
monkey.patch_all()
import os
from pyres.worker import Worker
Worker.run("basic", os.environ["REDIS_URL"], interval=0)
"""


@pytest.mark.parametrize(
    "command",
    [
        ["pyres_worker", "basic", "--burst"],
        ["pyres_worker", "basic", "--burst", "--reinit-gevent"],
        ["pyres_worker", "basic", "--burst", "--monkey-patch", "--reinit-gevent"],
        ["pyres_worker", "basic", "--burst", "--monkey-patch"],
        ["pyres_worker", "basic", "--burst", "--nonblocking-pop", "--monkey-patch"],
        ["-c", PATCHED],
        ["pyres_worker", "basic", "--burst", "--require", "tests.daemons.green"],
    ],
    ids=["plain", "-r", "-m -r", "-m", "-m -n", "patched by a program", "imported by the parent"],
)
def test_gevent_in_the_parent_stalls_no_job(
    command: list[str], run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """A child that waited on the hub inherited from the parent would wait for ever."""
    for _ in range(3):
        resq.enqueue_to("basic", "tests.daemons.green.GreenJob", 5)
    resq.enqueue_many([(FailJob, 1), (EchoJob, "last")])

    daemon = run_daemon(*command)

    assert daemon.wait() == 0, daemon.output()
    assert echoed(redis) == [[5], [5], [5], ["last"]]
    assert counted(redis) == (5, 1)
