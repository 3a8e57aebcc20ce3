"""The command pyres_worker: its options, its output, and its answers to mistakes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from pyres import ResQ
from pyres.worker import Worker
from tests.daemons.bad_jobs import PrintJob
from tests.daemons.watching import begun, burst, counted, echoed, records, registered, start
from tests.jobs import GATE, EchoJob, FailJob, GateJob
from tests.servers import ROOT, Daemon, Daemons, Server, free_port, title_of, until

SECRET = "s3cr3t-of-the-test"

ECHO = b'{"class":"tests.jobs.EchoJob","args":["%s"]}'


@pytest.fixture
def guarded() -> Iterator[Server]:
    """A server that requires a password."""
    with Server("--requirepass", SECRET) as server:
        yield server


def test_its_help_has_examples_signals_and_defaults(run_daemon: Daemons) -> None:
    daemon = run_daemon("pyres_worker", "--help")

    assert daemon.wait() == 0
    shown = daemon.output()
    for word in ("examples:", "signals:", "USR2", "--queues critical,mail,low", "default: 5"):
        assert word in shown


@pytest.mark.parametrize(
    "options",
    [
        ["--host", "127.0.0.1", "--port", "{port}", "--password", SECRET],
        ["--dsn", f"redis://:{SECRET}@127.0.0.1:{{port}}/0"],
        ["--dsn", f"redis://:{SECRET}@127.0.0.1:{{port}}/0", "--monkey-patch"],
    ],
    ids=["--password", "--dsn", "started again by --monkey-patch"],
)
def test_a_password_is_seen_nowhere(
    options: list[str], run_daemon: Daemons, guarded: Server
) -> None:
    """Neither in `ps` of the worker and its job, nor in the log of a lost connection."""
    arguments = [option.format(port=guarded.port) for option in options]
    redis, resq = guarded.client(password=SECRET), ResQ(guarded.dsn, SECRET)
    daemon = run_daemon("pyres_worker", "basic", "-l", "debug", *arguments)
    until(lambda: daemon.title().startswith("pyres_worker"))
    titles = [daemon.title()]
    until(lambda: registered(redis, daemon))
    resq.enqueue(GateJob, "g")
    titles += [title_of(begun(redis)), daemon.title()]
    redis.rpush(GATE.format("g"), 1)
    until(lambda: counted(redis)[0] == 1)
    resq.close()

    guarded.kill()
    daemon.until_output("Redis is unreachable")
    daemon.send(signal.SIGTERM)

    assert daemon.wait() == 0
    assert SECRET not in " ".join(titles)
    assert SECRET not in daemon.output()


def test_a_server_that_refuses_is_a_one_line_error(run_daemon: Daemons, guarded: Server) -> None:
    wrong = [
        run_daemon("pyres_worker", "basic", "--dsn", guarded.dsn),
        run_daemon("pyres_worker", "basic", "--dsn", guarded.dsn, "--password", "not-it"),
        run_daemon("pyres_worker", "basic", "--dsn", f"who:not-it@127.0.0.1:{guarded.port}"),
    ]

    for daemon in wrong:
        assert daemon.wait() == 2
        (line,) = daemon.output().strip().splitlines()
        assert "the Redis server refuses us" in line
        assert "not-it" not in line


def mistakes(folder: Path) -> list[tuple[list[str], dict[str, str | None], str]]:
    """Options, environment, and what the error line contains."""
    return [
        (["a", "-t", "nan"], {}, "invalid value 'nan': expected a number of seconds"),
        (["a", "-i", "-1"], {}, "invalid value '-1': expected a number of seconds"),
        (["a", "--grace", "ten"], {}, "invalid value 'ten': expected a number of seconds"),
        (["a", "--port", "65536"], {}, "invalid value '65536': expected a port"),
        (["a", "-p", str(folder)], {}, "pidfile"),
        (["a", "-p", "/proc/no/x.pid"], {}, "pidfile"),
        (["a", "-f", str(folder)], {}, "cannot be opened"),
        (["a", "--path", __file__], {}, "expected a folder"),
        (["a", "--require", "tests.daemons.bad_import"], {}, "ZeroDivisionError"),
        (["a", "--require", ""], {}, "--require ''"),
        (["a", "--burst", "b"], {}, "unrecognized arguments: b"),
        (["a", "--que", "b"], {}, "unrecognized arguments: --que"),
        (["a", "--dsn", "redis://h/one"], {}, "invalid db 'one'"),
        (["a", "--dsn", ""], {}, "invalid DSN ''"),
        (["a", "--host", ""], {}, "expected 'host:port'"),
        (["a", "--dsn", "redis://h:70000"], {}, "invalid port '70000'"),
        (["a", "--dsn", "unix://run/redis.sock"], {}, "with a leading slash"),
        (["a", "--dsn", "redis://h?ssl=1"], {}, "invalid option 'ssl'"),
        (["a"], {"REDIS_URL": "ftp://h"}, "invalid DSN scheme 'ftp'"),
        (["--queues", ""], {}, "invalid queues"),
        (["--queues", " , "], {}, "invalid queues"),
        ([], {"QUEUES": ""}, "invalid queues"),
        ([], {"QUEUE": "!a"}, "invalid queues '!a'"),
        (["--queues", "!a"], {}, "invalid queues '!a'"),
        (["a", "--queues", "b"], {}, "queues are set twice"),
        (["a", "--dsn", "ftp://h"], {}, "invalid DSN scheme 'ftp'"),
        (["a", "--dsn", "h:x"], {}, "invalid port 'x'"),
        (["a", "--dsn", "h", "--port", "1"], {}, "the server is set twice"),
        (["a", "--port", "0"], {}, "invalid value '0': expected a port"),
        (["a", "-i", "soon"], {}, "invalid value 'soon': expected a number of seconds"),
        (["a", "-t", "0"], {}, "invalid value '0': expected a number of seconds above 0"),
        (["a", "--grace", "-1"], {}, "invalid value '-1': expected a number"),
        (["a", "-l", "loud"], {}, "invalid log level 'loud'"),
        (["a", "-f", "/no/such/x.log"], {}, "cannot be opened"),
        (["a", "-f", "syslog:nowhere"], {}, "invalid syslog facility 'nowhere'"),
        (["a", "--require", "no_such"], {}, "--require 'no_such' cannot be imported"),
        (["a", "--path", "/no/such"], {}, "expected a folder"),
        (["a", "--nonsense"], {}, "--nonsense"),
        (["-x", "--password", SECRET], {}, "unrecognized arguments: -x"),
        (["-q", "--password", SECRET], {}, "-q/--queues: expected one argument"),
    ]


def test_a_wrong_option_is_a_one_line_error_and_exit_code_2(
    run_daemon: Daemons, tmp_path: Path
) -> None:
    """None of them is a traceback, and no value is silently replaced by another."""
    all_of_them = mistakes(tmp_path)
    for at_once in (all_of_them[first::4] for first in range(4)):
        daemons = [run_daemon("pyres_worker", *arguments, env=env) for arguments, env, _ in at_once]
        for daemon, (arguments, _, complaint) in zip(daemons, at_once, strict=True):
            assert daemon.wait() == 2, (arguments, daemon.output())
            (line,) = daemon.output().strip().splitlines()
            assert line.startswith("pyres_worker: error: "), arguments
            assert complaint in line
            assert SECRET not in line


def test_a_database_that_does_not_exist_is_a_one_line_error(
    run_daemon: Daemons, server: Server
) -> None:
    daemon = run_daemon("pyres_worker", "a", "--dsn", f"127.0.0.1:{server.port}/999")

    assert daemon.wait() == 2
    (line,) = daemon.output().strip().splitlines()
    assert "DB index" in line


def test_a_live_workers_title_is_one_that_ruby_leaves_alone(
    run_daemon: Daemons, redis: Redis
) -> None:
    daemon = start(run_daemon, redis)

    shown = daemon.until_title("Waiting")

    assert re.search(r"resque-\d", shown)
    assert shown.startswith("pyres_worker")
    assert str(daemon.pid) in Worker.worker_pids()


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


def test_only_allowed_classes_are_performed(run_daemon: Daemons, resq: ResQ, redis: Redis) -> None:
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


def test_jobs_are_found_in_the_current_folder(
    run_daemon: Daemons, resq: ResQ, redis: Redis, tmp_path: Path
) -> None:
    (tmp_path / "here.py").write_text(
        "class Job:\n"
        "    @classmethod\n"
        "    def perform(cls, name):\n"
        "        cls.resq.redis.rpush('echoed', '[\"%s\"]' % name)\n"
    )
    resq.enqueue_to("basic", "here.Job", "found")

    daemon = run_daemon("pyres_worker", "basic", "--burst", cwd=tmp_path)

    assert daemon.wait() == 0
    assert echoed(redis) == [["found"]]


def test_names_of_queues_are_stripped_and_may_be_any_bytes(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    odd = b"caf\xe9"
    for queue in (b"one", b"two", b"a:b", odd):
        redis.rpush(
            b"resque:queue:" + queue, b'{"class":"tests.jobs.EchoJob","args":["%s"]}' % queue[:3]
        )

    queues = b" one, two ,,a:b," + odd
    daemon = run_daemon(
        "pyres_worker", "--queues", queues.decode(errors="surrogateescape"), "-i", "0"
    )

    assert daemon.wait() == 0
    assert echoed(redis) == [["one"], ["two"], ["a:b"], ["caf"]]
    assert redis.keys("resque:worker*") == []


def test_a_namespace_keeps_two_apart(run_daemon: Daemons, redis: Redis, dsn: str) -> None:
    other = ResQ(dsn, namespace="other")
    for resq, name in ((ResQ(dsn), "not this"), (other, "this")):
        resq.enqueue(EchoJob, name)

    burst(run_daemon, "--namespace", "other")

    assert echoed(redis) == [["this"]]
    assert redis.llen("resque:queue:basic") == 1
    assert redis.get("other:stat:processed") == b"1"
    assert redis.keys("resque:stat*") == []


def test_messages_below_the_log_level_are_not_logged_and_a_jobs_print_is_kept(
    run_daemon: Daemons, resq: ResQ
) -> None:
    """Also where the log goes to stdout, too."""
    resq.enqueue(PrintJob)

    daemon = burst(run_daemon, "-f", "stdout", "-l", "warning")

    assert daemon.output() == "printed by the job\n"


def test_output_into_a_pipe_without_a_reader_ends_no_worker(
    resq: ResQ, redis: Redis, dsn: str
) -> None:
    """As after `pyres_worker | head -1`."""
    resq.enqueue_many([(PrintJob,), (FailJob, 1), (EchoJob, "after")])
    command = [sys.executable, str(ROOT / "scripts/pyres_worker"), "basic", "--burst", "--dsn", dsn]
    worker = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT)},
    )

    worker.stdout.close()
    worker.stderr.close()

    worker.wait()
    assert echoed(redis) == [["after"]]
    assert counted(redis) == (3, 1)
    assert redis.keys("resque:worker*") == []


def test_each_line_of_a_json_log_has_process_time_and_message(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    resq.enqueue(FailJob, 'a "quote"\nand a line')

    daemon = burst(run_daemon, "--json-logs", "--logfile", "stderr")

    lines = [json.loads(line) for line in daemon.output().splitlines()]
    assert all({"time", "pid", "level", "logger", "message"} <= line.keys() for line in lines)
    (failed,) = [line for line in lines if line["level"] == "ERROR"]
    assert 'ValueError: a "quote"\nand a line' in failed["exception"]
    assert failed["pid"] != daemon.pid, "logged by the job's own process"


def test_the_pidfile_of_a_killed_worker_is_replaced(
    run_daemon: Daemons, redis: Redis, tmp_path: Path
) -> None:
    pidfile = tmp_path / "w.pid"
    killed = start(run_daemon, redis, "basic", "-p", str(pidfile))
    killed.send(signal.SIGKILL)
    killed.wait()
    assert pidfile.read_text().strip() == str(killed.pid)

    second = start(run_daemon, redis, "basic", "-p", str(pidfile))
    assert pidfile.read_text().strip() == str(second.pid)
    second.send(signal.SIGINT)

    assert second.wait() == 0
    assert not pidfile.exists()


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


#: A daemon that gets a signal when its pidfile exists but its handlers are not installed yet.
STOPPED_EARLY = """
import os, signal
from unittest import mock
import pyres.scripts

def stopped(original):
    def first(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*args)
    return first

where, name = {where}, {name!r}
with mock.patch.object(where, name, stopped(getattr(where, name))):
    raise SystemExit(pyres.scripts.{command}())
"""


@pytest.mark.parametrize(
    ("command", "where", "name", "options"),
    [
        ("pyres_worker", "pyres.scripts.Worker", "register_signal_handlers", ["basic"]),
        ("pyres_manager", "pyres.scripts.Khan", "register_signal_handlers", ["basic"]),
        ("pyres_scheduler", "pyres.scripts.Scheduler", "register_signal_handlers", []),
        ("pyres_web", "pyres.scripts", "web_title", ["--port", "PORT"]),
    ],
)
def test_a_stop_right_after_the_pidfile_appeared_is_an_orderly_end(
    command: str, where: str, name: str, options: list[str], run_daemon: Daemons, tmp_path: Path
) -> None:
    """The signal must not kill it and leave the pidfile."""
    code = STOPPED_EARLY.format(command=command, where=where, name=name)
    options = [str(free_port()) if option == "PORT" else option for option in options]

    daemon = run_daemon("-c", code, *options, "-p", str(tmp_path / "run" / "pid"))

    assert daemon.wait() == 0, daemon.output()
    assert list((tmp_path / "run").iterdir()) == []


#: As where gevent is not installed.
WITHOUT = """
import sys
sys.modules["gevent"] = None
from pyres.scripts import pyres_worker
raise SystemExit(pyres_worker())
"""


@pytest.mark.parametrize("option", ["--monkey-patch", "--reinit-gevent"])
def test_without_gevent_the_worker_names_the_extra_to_install(
    option: str, run_daemon: Daemons
) -> None:
    daemon = run_daemon("-c", WITHOUT, "basic", option)

    assert daemon.wait() == 2
    (line,) = daemon.output().strip().splitlines()
    assert "pip install 'pyres[gevent]'" in line


def ended(daemon: Daemon) -> bool:
    return daemon.returncode is not None


def test_a_burst_ends_when_all_queues_are_empty_in_each_waiting_mode(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    resq.enqueue_to("one", EchoJob, 1)
    resq.enqueue_to("two", EchoJob, 2)

    daemons = [
        run_daemon("pyres_worker", "--queues", "one", "--burst"),
        run_daemon("pyres_worker", "--queues", "two", "--burst", "--nonblocking-pop"),
        run_daemon("pyres_worker", "--queues", "none", "--interval", "0"),
        run_daemon("pyres_worker", "--queues", "no*", "--burst", "--nonblocking-pop"),
    ]

    assert [daemon.wait() for daemon in daemons] == [0] * 4
    assert sorted(echoed(redis)) == [[1], [2]]
