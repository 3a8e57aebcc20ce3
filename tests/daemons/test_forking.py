"""pyres_worker as its operator meets it: real processes, real signals, what Redis holds
afterwards.
"""

from __future__ import annotations

import base64
import json
import os
import random
import re
import signal
from pathlib import Path

import pytest
from redis import Redis

from pyres import ResQ, failure
from pyres.store import scripts
from pyres.worker import Worker
from tests.daemons.bad_jobs import (
    HandlerJob,
    PrintJob,
    SlowJob,
    StuckJob,
    SwallowingJob,
    UnspeakableJob,
)
from tests.jobs import (
    BEGUN,
    ECHOED,
    GATE,
    EchoJob,
    ExitJob,
    FailJob,
    GateJob,
    NoopJob,
    SegfaultJob,
    SignalJob,
    SleepJob,
    StubbornJob,
    SysExitJob,
)
from tests.servers import Command, Daemon, Daemons, Monitor, Server, alive, until


def echoed(redis: Redis) -> list[list[object]]:
    """The arguments of the EchoJobs that were performed, in order."""
    return [json.loads(args) for args in redis.lrange(ECHOED, 0, -1)]


def begun(redis: Redis) -> int:
    """The pid of the first job that has begun."""
    return int(until(lambda: redis.lindex(BEGUN, 0), what="a job to begin"))


def registered(redis: Redis, daemon: Daemon) -> bool:
    """Whether a worker of this daemon is registered."""
    return any(f":{daemon.pid}:".encode() in member for member in redis.smembers("resque:workers"))


def start(run_daemon: Daemons, redis: Redis, *options: str) -> Daemon:
    """A worker on `basic` that is registered."""
    daemon = run_daemon("pyres_worker", *(options or ("--queues", "basic")))
    until(lambda: registered(redis, daemon), what="the worker to register")
    return daemon


def burst(run_daemon: Daemons, *options: str) -> Daemon:
    """A worker that has emptied `basic` and ended."""
    daemon = run_daemon("pyres_worker", "--queues", "basic", "--burst", *options)
    assert daemon.wait() == 0, daemon.output()
    return daemon


def takes(monitor: Monitor) -> list[Command]:
    """The calls by which a worker looked for a job."""
    return [command for command in monitor.commands if scripts.sha("take") in command.args]


def records(resq: ResQ) -> list[dict[str, object]]:
    """All failure records."""
    return failure.all(resq, 0, 100)


def test_the_most_important_queue_is_first_although_its_jobs_came_last(
    run_daemon: Daemons, resq: ResQ, redis: Redis, server: Server
) -> None:
    queues = [f"p{number}" for number in range(10, 0, -1)]
    for queue in reversed(queues):
        for number in range(2):
            resq.enqueue_to(queue, EchoJob, queue, number)

    with server.monitor() as monitor:
        daemon = start(run_daemon, redis, "--queues", ",".join(queues), "--nonblocking-pop")
        until(lambda: redis.llen(ECHOED) == 20)
        daemon.send(signal.SIGTERM)
        daemon.wait()
        names = monitor.names

    assert echoed(redis) == [[queue, number] for queue in queues for number in range(2)]
    assert not [name for name in names if name.startswith(("BLPOP", "BRPOP", "BLMOVE"))]


def test_a_job_costs_one_round_trip(
    run_daemon: Daemons, resq: ResQ, redis: Redis, server: Server
) -> None:
    """OLD-FAULTS B41, B42: no look every half second, no wait where all is to be drained."""
    resq.enqueue_many([(NoopJob, number) for number in range(30)])

    with server.monitor() as monitor:
        burst(run_daemon, "--nonblocking-pop", "--require", "tests.jobs")
        names = monitor.names

    takes = [index for index, name in enumerate(names) if name == "EVALSHA"]
    steady = names[takes[5] : takes[25] + 1]
    assert steady == ["EVALSHA"] * 21


def pauses(monitor: Monitor) -> list[int]:
    """The whole seconds between two looks; a look is sent twice to a server new to the script."""
    looks = [command.at for command in takes(monitor)]
    seconds = [round(later - earlier) for earlier, later in zip(looks, looks[1:], strict=False)]
    return [pause for pause in seconds if pause]


def test_the_pauses_are_one_two_four_and_eight_seconds_and_a_signal_ends_one(
    run_daemon: Daemons, redis: Redis, server: Server
) -> None:
    with server.monitor() as monitor:
        daemon = start(run_daemon, redis, "--queues", "basic", "--nonblocking-pop")
        until(lambda: len(pauses(monitor)) >= 4, timeout=30, what="four pauses")
        seen = pauses(monitor)

    daemon.send(signal.SIGTERM)
    assert daemon.wait(2) == 0
    assert seen == [1, 2, 4, 8]


def test_term_ends_an_idle_worker_at_once_in_the_middle_of_blpop(
    run_daemon: Daemons, redis: Redis, server: Server
) -> None:
    """OLD-FAULTS B39."""
    with server.monitor() as monitor:
        daemon = start(run_daemon, redis)
        monitor.until("BLPOP")

        daemon.send(signal.SIGTERM)
        assert daemon.wait(2) == 0

    assert redis.scard("resque:workers") == 0
    daemon.assert_no_processes_left()


def test_a_job_that_comes_with_the_signal_is_done_or_still_queued(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """OLD-FAULTS B39: what BLPOP has in flight when the worker is told to stop."""
    for number in range(8):
        redis.delete(ECHOED)
        daemon = start(run_daemon, redis)
        daemon.until_title("Waiting")

        resq.enqueue(EchoJob, number)
        daemon.send(signal.SIGTERM if number % 2 else signal.SIGQUIT)
        daemon.wait()

        assert len(echoed(redis)) + resq.size("basic") + redis.llen("resque:failed") == 1
        resq.remove_queue("basic")


def test_term_gives_the_job_its_grace(run_daemon: Daemons, resq: ResQ, redis: Redis) -> None:
    daemon = start(run_daemon, redis)
    resq.enqueue(GateJob, "g")
    begun(redis)

    daemon.send(signal.SIGTERM)
    redis.rpush(GATE.format("g"), 1)

    assert daemon.wait() == 0
    assert echoed(redis) == [["g"]]
    assert redis.get("resque:stat:processed") == b"1"


def test_a_job_that_outlasts_the_grace_is_killed_and_recorded(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start(run_daemon, redis, "--queues", "basic", "--grace", "0.3")
    resq.enqueue(StubbornJob, 60)
    pid = begun(redis)

    daemon.send(signal.SIGTERM)

    assert daemon.wait() == 0
    assert not alive(pid)
    (record,) = records(resq)
    assert (record["exception"], record["error"]) == (
        "CrashError",
        "the process of the job was killed by SIGKILL",
    )
    assert redis.get("resque:stat:failed") == b"1"
    assert redis.scard("resque:workers") == 0


def test_a_second_int_kills_at_once(run_daemon: Daemons, resq: ResQ, redis: Redis) -> None:
    daemon = start(run_daemon, redis, "--queues", "basic", "--grace", "600")
    resq.enqueue(StubbornJob, 60)
    pid = begun(redis)

    # Two that the kernel has not delivered yet count as one, so there may be more than two.
    until(lambda: not alive(pid) or daemon.send(signal.SIGINT))

    assert daemon.wait() == 0
    assert len(records(resq)) == 1


def test_quit_waits_for_the_job(run_daemon: Daemons, resq: ResQ, redis: Redis) -> None:
    daemon = start(run_daemon, redis, "--queues", "basic", "--grace", "0")
    resq.enqueue(GateJob, "g")
    begun(redis)

    daemon.send(signal.SIGQUIT)
    resq.enqueue(EchoJob, "later")
    redis.rpush(GATE.format("g"), 1)

    assert daemon.wait() == 0
    assert echoed(redis) == [["g"]]
    assert resq.size("basic") == 1


def test_usr1_kills_the_job_and_the_worker_goes_on(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = start(run_daemon, redis)
    resq.enqueue(SleepJob, 60)
    begun(redis)

    daemon.send(signal.SIGUSR1)
    resq.enqueue(EchoJob, "next")

    until(lambda: echoed(redis) == [["next"]])
    assert len(records(resq)) == 1
    assert daemon.returncode is None


def test_usr2_pauses_and_cont_resumes(run_daemon: Daemons, resq: ResQ, redis: Redis) -> None:
    daemon = start(run_daemon, redis)

    daemon.send(signal.SIGUSR2)
    daemon.until_title("Paused")
    resq.enqueue(EchoJob, 1)
    assert resq.size("basic") == 1

    daemon.send(signal.SIGCONT)
    until(lambda: echoed(redis) == [[1]])


def test_the_pause_key_of_ruby_is_heeded(run_daemon: Daemons, resq: ResQ, redis: Redis) -> None:
    redis.set("resque:pause-all-workers", " TRUE ")
    resq.enqueue(EchoJob, 1)

    daemon = start(run_daemon, redis)
    daemon.until_title("Paused")
    assert resq.size("basic") == 1
    redis.delete("resque:pause-all-workers")

    until(lambda: echoed(redis) == [[1]])


def test_wildcards_and_negations_see_queues_that_come_later(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    start(run_daemon, redis, "--queues", "m*,!mute", "--nonblocking-pop")

    resq.enqueue_to("mute", EchoJob, "never")
    resq.enqueue_to("mail", EchoJob, "mail")

    until(lambda: echoed(redis) == [["mail"]])
    assert resq.size("mute") == 1


BAD = {
    "raises": (FailJob, ["why"], "ValueError", "why"),
    "killed": (SignalJob, [int(signal.SIGKILL)], "CrashError", "was killed by SIGKILL"),
    "os._exit": (ExitJob, [3], "CrashError", "exited with status 3"),
    "sys.exit(3)": (SysExitJob, [3], "CrashError", "status 3"),
    "segfault": (SegfaultJob, [], "CrashError", "SIGSEGV"),
    "slow": (SlowJob, [], "TimeoutError", "0.2 s"),
    "stuck in C": (StuckJob, [], "TimeoutError", "0.2 s"),
    "swallows": (SwallowingJob, [], "TimeoutError", "0.2 s"),
    "str raises": (UnspeakableJob, [], "UnspeakableError", "RuntimeError"),
    "no module": ("no.such.Job", [], "ClassNotFoundError", "'no.such.Job'"),
    "import raises": ("tests.daemons.bad_import.Job", [], "ZeroDivisionError", "division"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_job_is_one_failure_and_the_next_one_runs(
    name: str, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """OLD-FAULTS B16, B19, B20, B21, B32, B37, B44."""
    klass, args, exception, error = BAD[name]
    resq.enqueue_to("basic", klass, *args)
    resq.enqueue(EchoJob, "next")

    daemon = burst(run_daemon)

    (record,) = records(resq)
    assert record["exception"] == exception
    assert error in record["error"]
    assert redis.get("resque:stat:failed") == b"1"
    assert redis.get("resque:stat:processed") == b"2"
    assert echoed(redis) == [["next"]]
    assert not redis.keys("resque:worker:*")
    daemon.assert_no_processes_left()


@pytest.mark.parametrize("code", [0, None])
def test_leaving_with_nothing_or_zero_is_success(
    code: int | None, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """OLD-FAULTS B16."""
    resq.enqueue(SysExitJob, code)

    burst(run_daemon)

    assert records(resq) == []
    assert redis.get("resque:stat:processed") == b"1"


def test_the_workers_own_timeout_holds_too(run_daemon: Daemons, resq: ResQ, redis: Redis) -> None:
    """OLD-FAULTS B20: a job over its time, and one that ends in time is none."""
    resq.enqueue(SleepJob, 60)
    resq.enqueue(SleepJob, 0)

    burst(run_daemon, "-t", "0.5")

    assert [record["exception"] for record in records(resq)] == ["TimeoutError"]
    assert echoed(redis) == [[0]]


POISON = {
    "not json": b"not json",
    "empty": b"",
    "bytes": b"\xff\xfe\x00",
    "a list": b"[1]",
    "null": b"null",
    "no class": b'{"args":[1]}',
    "class no string": b'{"class":7,"args":[]}',
    "args no list": b'{"class":"tests.jobs.EchoJob","args":7}',
    "deep": b'{"class":"tests.jobs.EchoJob","args":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("name", POISON)
@pytest.mark.parametrize("pop", ["--nonblocking-pop", "--interval=5"])
def test_poison_stops_no_worker_and_is_not_lost(
    name: str, pop: str, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """OLD-FAULTS B32."""
    raw = POISON[name]
    redis.rpush("resque:queue:basic", raw)
    resq.enqueue(EchoJob, "next")

    burst(run_daemon, pop)

    assert echoed(redis) == [["next"]]
    (record,) = records(resq)
    assert record["exception"] == "UndecodableError"
    if "raw" in record["payload"]:
        assert base64.b64decode(record["payload"]["raw"]) == raw
    assert failure.retry(resq, "basic", record["redis_value"]) == 1
    assert json_or_bytes(redis.lindex("resque:queue:basic", 0)) == json_or_bytes(raw)


def json_or_bytes(raw: bytes) -> object:
    """What the bytes say where they are an object, else themselves."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return raw
    return value if isinstance(value, dict) else raw


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_lost_at_any_kill(
    seed: int, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """OLD-FAULTS B30, B31: of child, parent or both, at any moment."""
    dice = random.Random(seed)
    jobs = 40
    resq.enqueue_many([(EchoJob, number) for number in range(jobs)])
    daemon = start(
        run_daemon, redis, "--queues", "basic", dice.choice(["--nonblocking-pop", "-i=5"])
    )
    until(lambda: redis.llen(ECHOED) >= dice.randrange(jobs // 2))

    victims = dice.choice(["child", "parent", "both"])
    children = daemon.children()
    for pid in {"child": children, "parent": [daemon.pid], "both": [daemon.pid, *children]}[
        victims
    ]:
        with pytest.MonkeyPatch.context():
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
    if victims == "child":
        daemon.send(signal.SIGQUIT)
        daemon.wait()
    else:
        until(lambda: daemon.returncode is not None)
        for pid in children:
            until(lambda pid=pid: not alive(pid), what="the orphan to end its job")
    burst(run_daemon)

    done = {args[0] for args in echoed(redis)}
    failed = {record["payload"]["args"][0] for record in records(resq)}
    assert done | failed == set(range(jobs)), f"lost with seed {seed}"
    assert redis.scard("resque:workers") == 0
    assert not redis.keys("resque:worker:*")


@pytest.mark.parametrize("way", ["idle", "in a job", "failing"])
def test_a_server_that_goes_away_and_comes_back_costs_nothing(
    way: str, run_daemon: Daemons
) -> None:
    """OLD-FAULTS B43, B3."""
    with Server(appendonly=True) as server:
        redis, resq = server.client(), ResQ(server.dsn)
        daemon = run_daemon("pyres_worker", "--queues", "basic", "--dsn", server.dsn)
        until(lambda: registered(redis, daemon))
        if way != "idle":
            name = "SleepLonger" if way == "in a job" else "FailLater"
            resq.enqueue_to("basic", f"tests.daemons.later.{name}", 1)
            begun(redis)

        server.kill()
        if way != "idle":
            daemon.until_output("Redis is gone")
        server.restart()
        redis, resq = server.client(), ResQ(server.dsn)

        resq.enqueue(EchoJob, "after")
        until(lambda: ["after"] in echoed(redis), timeout=40)
        until(lambda: registered(redis, daemon))
        assert echoed(redis) == [["after"]]
        assert len(records(resq)) == (1 if way == "failing" else 0)
        until(lambda: redis.get("resque:stat:processed") == (b"1" if way == "idle" else b"2"))
        daemon.send(signal.SIGTERM)
        daemon.wait()
        resq.close()


def test_a_live_workers_title_is_one_that_ruby_leaves_alone(
    run_daemon: Daemons, redis: Redis
) -> None:
    daemon = start(run_daemon, redis)

    shown = daemon.until_title("Waiting")

    assert re.search(r"resque-\d", shown)
    assert shown.startswith("pyres_worker")
    assert str(daemon.pid) in Worker.worker_pids()


def test_a_password_on_the_command_line_disappears_from_ps(
    run_daemon: Daemons, redis: Redis, server: Server
) -> None:
    daemon = start(
        run_daemon,
        redis,
        "--queues",
        "basic",
        "--dsn",
        f"redis://:@127.0.0.1:{server.port}",
        "--path",
        ".",
    )
    refused = run_daemon("pyres_worker", "-q", "--password", "tops3cret")

    assert "tops3cret" not in daemon.title()
    assert refused.wait() == 2
    other = run_daemon(
        "pyres_worker", "basic", "--host", "127.0.0.1", "--port", "1", "--password", "tops3cret"
    )
    other.until_output("Redis is gone")
    assert "tops3cret" not in other.title() + other.output()
    other.send(signal.SIGTERM)
    assert other.wait() == 0


def test_a_log_file_survives_rotation_and_the_pidfile_goes(
    run_daemon: Daemons, redis: Redis, resq: ResQ, tmp_path: Path
) -> None:
    log, pidfile = tmp_path / "w.log", tmp_path / "run" / "w.pid"
    daemon = start(run_daemon, redis, "basic", "-f", str(log), "-p", str(pidfile))
    resq.enqueue(EchoJob, "one")
    until(lambda: "one" in log.read_text())
    assert pidfile.read_text().strip() == str(daemon.pid)

    log.rename(tmp_path / "w.log.1")
    resq.enqueue(EchoJob, "two")
    until(lambda: log.exists() and "two" in log.read_text())
    second = run_daemon("pyres_worker", "basic", "-p", str(pidfile))
    assert second.wait() == 2
    assert f"belongs to process {daemon.pid}" in second.output()

    daemon.send(signal.SIGTERM)
    daemon.wait()
    assert not pidfile.exists()


def test_queues_come_from_the_environment_and_else_all_are_worked_with_a_warning(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    for queue in ("one", "two", "three"):
        resq.enqueue_to(queue, EchoJob, queue)

    assert run_daemon("pyres_worker", "--burst", env={"QUEUES": "one", "QUEUE": "two"}).wait() == 0
    assert echoed(redis) == [["one"]]
    assert run_daemon("pyres_worker", "--burst", env={"QUEUE": "two"}).wait() == 0
    assert echoed(redis) == [["one"], ["two"]]
    everything = run_daemon("pyres_worker", "--burst")
    assert everything.wait() == 0
    assert "No queues were named" in everything.output()
    assert echoed(redis) == [["one"], ["two"], ["three"]]


def test_only_what_is_allowed_is_performed(run_daemon: Daemons, resq: ResQ, redis: Redis) -> None:
    resq.enqueue(EchoJob, 1)
    resq.enqueue_to("basic", "os.system", "true")

    burst(run_daemon, "--allow", "tests.jobs")

    assert echoed(redis) == [[1]]
    (record,) = records(resq)
    assert (record["exception"], record["payload"]["class"]) == ("NotAllowedError", "os.system")


def test_jobs_are_found_in_the_folder_that_path_names(
    run_daemon: Daemons, resq: ResQ, redis: Redis, tmp_path: Path
) -> None:
    (tmp_path / "shelf.py").write_text(
        "from pyres import job\nfrom tests.jobs import TestJob\n"
        "@job(queue='basic', name='A::Archive')\n"
        "def archive(x): archive.resq.redis.rpush('echoed', '[\"archived\"]')\n"
    )
    redis.rpush("resque:queue:basic", b'{"class":"A::Archive","args":[1]}')

    burst(run_daemon, "--path", str(tmp_path), "--require", "shelf")

    assert echoed(redis) == [["archived"]]


def test_a_log_in_json_is_json(run_daemon: Daemons, resq: ResQ) -> None:
    resq.enqueue(FailJob, "why")

    lines = [json.loads(line) for line in burst(run_daemon, "--json-logs").output().splitlines()]

    assert any("ValueError: why" in line.get("exception", "") for line in lines)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--queues", "!a"], "'!a' names no queue"),
        (["a", "--queues", "b"], "queues are given twice"),
        (["a", "--dsn", "ftp://h"], "'ftp' is no scheme"),
        (["a", "--dsn", "h:x"], "'x' is no port"),
        (["a", "--dsn", "h", "--port", "1"], "the server is given twice"),
        (["a", "--port", "0"], "'0' is not a port"),
        (["a", "-i", "soon"], "'soon' is not a number of seconds"),
        (["a", "-t", "0"], "'0' is not a number of seconds above 0"),
        (["a", "--grace", "-1"], "'-1' is not a number"),
        (["a", "-l", "loud"], "'loud' is no log level"),
        (["a", "-f", "/no/such/x.log"], "cannot be opened"),
        (["a", "-f", "syslog:nowhere"], "no facility 'nowhere'"),
        (["a", "--require", "no_such"], "--require 'no_such' cannot be imported"),
        (["a", "--path", "/no/such"], "is no folder"),
        (["a", "--nonsense"], "--nonsense"),
    ],
)
def test_a_wrong_value_is_one_line_and_exit_code_2(
    options: list[str], complaint: str, run_daemon: Daemons
) -> None:
    daemon = run_daemon("pyres_worker", *options)

    assert daemon.wait() == 2
    (line,) = daemon.output().strip().splitlines()
    assert complaint in line


def test_what_a_job_prints_is_kept(run_daemon: Daemons, resq: ResQ) -> None:
    """OLD-FAULTS B18."""
    resq.enqueue(PrintJob)

    assert "printed by the job" in burst(run_daemon).output()


def test_a_jobs_process_has_default_handlers_and_one_socket_of_its_own(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    """OLD-FAULTS B17; and the parent's socket is not the child's."""
    daemon = start(run_daemon, redis)
    folder = f"/proc/{daemon.pid}/fd"
    parents = {os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)}

    resq.enqueue(HandlerJob)

    until(lambda: redis.llen(ECHOED))
    ((handlers, sockets),) = echoed(redis)
    assert handlers == [True] * 4
    assert not set(sockets) & parents


def test_gevent_works_in_a_forked_worker(run_daemon: Daemons, resq: ResQ, redis: Redis) -> None:
    for options in ([], ["--reinit-gevent"], ["--monkey-patch", "--reinit-gevent"]):
        redis.delete(ECHOED)
        resq.enqueue_to("basic", "tests.daemons.green.GreenJob", 20)

        burst(run_daemon, *options)

        assert echoed(redis) == [[20]], options


def test_without_gevent_one_line_says_which_extra_to_install(
    run_daemon: Daemons, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, importlib.abc\n"
        "class No(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'gevent': sys.modules.pop(name, None); return None\n"
        "real = list(sys.meta_path)\n"
        "class Wrap(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'gevent': return None\n"
        "        for finder in real:\n"
        "            spec = finder.find_spec(name, path, target)\n"
        "            if spec is not None: return spec\n"
        "        return None\n"
        "sys.meta_path[:] = [Wrap()]\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])

    daemon = run_daemon("pyres_worker", "basic", "-r", env={"PYTHONPATH": path})

    assert daemon.wait() == 2
    (line,) = daemon.output().strip().splitlines()
    assert "pip install 'pyres[gevent]'" in line


def test_a_worker_that_stops_waits_no_longer_than_its_grace_for_a_server_that_is_gone(
    run_daemon: Daemons,
) -> None:
    with Server() as server:
        redis, resq = server.client(), ResQ(server.dsn)
        options = ("--queues", "basic", "--dsn", server.dsn, "--grace", "0.5")
        daemon = run_daemon("pyres_worker", *options)
        until(lambda: registered(redis, daemon))
        resq.enqueue(SleepJob, 60)
        begun(redis)
        resq.close()

        server.kill()
        daemon.send(signal.SIGTERM)

        assert daemon.wait() == 0
        assert "what is in hand stays recorded there" in daemon.output()


def test_processing_nothing_is_nothing(resq: ResQ, redis: Redis) -> None:
    """OLD-FAULTS B15."""
    assert Worker("basic", resq).process() is None

    assert redis.get("resque:stat:processed") is None
    assert records(resq) == []


def test_handlers_installed_twice_are_gone_in_a_jobs_process(
    run_daemon: Daemons, resq: ResQ, redis: Redis, dsn: str
) -> None:
    """OLD-FAULTS B17: 1.5's users call startup() themselves, and work() calls it too."""
    resq.enqueue(HandlerJob)
    code = (
        "from pyres.worker import Worker\n"
        f"worker = Worker('basic', {dsn!r})\n"
        "worker.startup()\nworker.work(0)\n"
    )

    assert run_daemon("-c", code).wait() == 0

    ((handlers, _sockets),) = echoed(redis)
    assert handlers == [True] * 4
