"""A daemon as process 1 of a container, in its own PID namespace."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest
from redis import Redis

from pyres import ResQ
from tests.daemons.odd_jobs import StrangerJob
from tests.daemons.pools import minions, nothing_is_left
from tests.daemons.watching import counted, echoed, until_counted
from tests.jobs import BEGUN, GateJob
from tests.servers import ROOT, Daemon, Daemons, free_port, processes, state_of, title_of, until

#: Run by the Python that is started: a Python that is process 1 of a namespace.
_CONTAINED = (
    "import os, sys\n"
    "os.execvp('unshare', ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc',"
    " sys.executable, *sys.argv[1:]])\n"
)
#: A program that runs under the init process, and what it does there.
_UNDER_INIT = "from pyres.process.init import run_under_init\nrun_under_init('test')\n"


def _refusal() -> str:
    """Why this machine cannot make a namespace; empty if it can."""
    if os.geteuid():
        return "a PID namespace needs root"
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "true"]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"a PID namespace needs unshare ({error})"
    return made.stderr and f"no PID namespace can be made here ({made.stderr.strip()})"


REFUSAL = _refusal()
pytestmark = pytest.mark.skipif(bool(REFUSAL), reason=REFUSAL or "-")

SIGNALS = [
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGWINCH,
    signal.SIGABRT,
    signal.SIGRTMIN + 3,
]

COMMANDS = {
    "pyres_worker": ["--queues", "basic"],
    "pyres_manager": ["--queues", "basic", "--pool", "1"],
    "pyres_scheduler": [],
}


def contained(run_daemon: Daemons, *command: str) -> Daemon:
    """A script or other program of Python, started as process 1; the daemon is `unshare`."""
    script = ROOT / "scripts" / command[0]
    first = str(script) if script.exists() else command[0]
    return run_daemon("-c", _CONTAINED, first, *command[1:])


def children_of(parent: int) -> list[int]:
    return [process.pid for process in processes() if process.parent == parent]


def only_child(parent: int) -> int:
    return until(lambda: children_of(parent), what="a child")[0]


def init_and_daemon(daemon: Daemon, title: str) -> tuple[int, int]:
    """The pids, as seen outside the namespace, of its process 1 and of the daemon."""
    init = only_child(daemon.pid)

    def found() -> list[int]:
        return [pid for pid in children_of(init) if title in title_of(pid)]

    return init, until(found, what=f"a process titled {title}")[0]


def leave_orphan(init: int) -> int:
    """A process that process 1 of the namespace has adopted."""
    before = children_of(init)
    command = ["nsenter", "--target", str(init), "--pid", "sh", "-c", "exec sleep 600 &"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return until(lambda: [pid for pid in children_of(init) if pid not in before])[0]


def end(pid: int) -> None:
    """Kill an orphan, and wait until its parent has reaped it."""
    os.kill(pid, signal.SIGKILL)
    until(lambda: state_of(pid) == "", what="an orphan that is reaped")


def ready(name: str, redis: Redis) -> bool:
    """Whether a daemon has installed its handlers."""
    keys = {"pyres_worker": "resque:workers", "pyres_manager": "resque:minions"}
    pattern = keys.get(name, "*scheduler_master_lock")
    return bool(redis.keys(pattern))


@pytest.mark.parametrize("name", [*COMMANDS, "pyres_web"])
def test_orphans_under_any_command_are_reaped(name: str, run_daemon: Daemons) -> None:
    options = COMMANDS.get(name, ["--port", str(free_port())])
    daemon = contained(run_daemon, name, *options)
    init, _ = init_and_daemon(daemon, name)

    for _ in range(3):
        end(leave_orphan(init))


@pytest.mark.parametrize("name", ["pyres_worker", "pyres_manager"])
def test_a_job_gets_the_status_of_its_own_program_and_its_orphans_are_reaped(
    name: str, run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = contained(run_daemon, name, *COMMANDS[name])
    init, pid = init_and_daemon(daemon, name)
    resq.enqueue_many([(StrangerJob, code) for code in (7, 0, 8)])

    until_counted(redis, 3, 0)

    assert echoed(redis) == [[7], [0], [8]]
    orphans = until(lambda: found if len(found := orphans_of(init, pid)) == 3 else [])
    for orphan in orphans:
        end(orphan)


def orphans_of(init: int, daemon: int) -> list[int]:
    return [pid for pid in children_of(init) if pid != daemon]


@pytest.mark.parametrize(
    ("name", "signum"),
    [
        ("pyres_worker", signal.SIGTERM),
        ("pyres_worker", signal.SIGINT),
        ("pyres_manager", signal.SIGQUIT),
        ("pyres_scheduler", signal.SIGTERM),
    ],
)
def test_a_stop_signal_to_process_1_stops_the_daemon_in_order(
    name: str, signum: int, run_daemon: Daemons, redis: Redis
) -> None:
    daemon = contained(run_daemon, name, *COMMANDS[name])
    init, _ = init_and_daemon(daemon, name)
    until(lambda: ready(name, redis))

    os.kill(init, signum)

    assert daemon.wait() == 0, daemon.output()
    assert nothing_is_left(redis)


def test_usr1_usr2_and_cont_to_process_1_mean_the_worker(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    daemon = contained(run_daemon, "pyres_worker", "--queues", "basic")
    init, worker = init_and_daemon(daemon, "pyres_worker")
    resq.enqueue(GateJob, "killed")
    until(lambda: redis.llen(BEGUN) == 1)

    os.kill(init, signal.SIGUSR1)
    until_counted(redis, 1, 1)
    os.kill(init, signal.SIGUSR2)
    until(lambda: "Paused" in title_of(worker))
    os.kill(init, signal.SIGCONT)
    until(lambda: "Waiting" in title_of(worker))


def test_hup_to_process_1_replaces_the_minions(run_daemon: Daemons, redis: Redis) -> None:
    daemon = contained(run_daemon, "pyres_manager", *COMMANDS["pyres_manager"])
    init, _ = init_and_daemon(daemon, "pyres_manager")
    until(lambda: len(minions(redis)) == 1)
    before = minions(redis)

    os.kill(init, signal.SIGHUP)

    until(lambda: len(minions(redis)) == 1 and minions(redis) != before)


def test_a_pool_on_gevent_works_under_process_1(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    pytest.importorskip("gevent")
    options = [*COMMANDS["pyres_manager"], "--greenlets", "2"]
    daemon = contained(run_daemon, "pyres_manager", *options)
    init, _ = init_and_daemon(daemon, "pyres_manager")
    resq.enqueue_many([(StrangerJob, code) for code in (1, 2)])
    until(lambda: counted(redis) == (2, 0))

    os.kill(init, signal.SIGTERM)

    assert daemon.wait() == 0, daemon.output()
    assert sorted(echoed(redis)) == [[1], [2]]


def test_every_signal_to_process_1_reaches_its_child_once(run_daemon: Daemons) -> None:
    waits = (
        "import signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
        "print('ready', flush=True)\n"
        "while (got := signal.sigwait(signal.valid_signals())) != signal.SIGPIPE:\n"
        "    print(int(got), flush=True)\n"
    )
    daemon = contained(run_daemon, "-c", _UNDER_INIT + waits)
    daemon.until_output("ready")
    init = only_child(daemon.pid)

    for signum in SIGNALS:
        os.kill(init, signum)
        daemon.until_output(f"\n{signum:d}\n")
    os.kill(init, signal.SIGPIPE)

    assert daemon.wait() == 0
    assert daemon.output().split() == ["ready", *(f"{signum:d}" for signum in SIGNALS)]


@pytest.mark.parametrize(
    ("last", "status"),
    [
        ("raise SystemExit(7)", 7),
        ("import os; os._exit(0)", 0),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 128 + signal.SIGTERM),
    ],
)
def test_process_1_exits_with_the_status_of_its_child(
    last: str, status: int, run_daemon: Daemons
) -> None:
    assert contained(run_daemon, "-c", _UNDER_INIT + last).wait() == status


def test_a_mistake_of_the_user_is_exit_code_2_of_process_1(run_daemon: Daemons) -> None:
    daemon = contained(run_daemon, "pyres_worker", "--require", "no_such_module")

    assert daemon.wait() == 2
    assert daemon.output().count("\n") == 1


def test_a_daemon_that_is_killed_ends_process_1(run_daemon: Daemons) -> None:
    daemon = contained(run_daemon, "pyres_scheduler")
    _, pid = init_and_daemon(daemon, "pyres_scheduler")

    os.kill(pid, signal.SIGKILL)

    assert daemon.wait() == 128 + signal.SIGKILL


def test_ctrl_c_in_the_terminal_of_process_1_reaches_the_daemon_once(
    run_daemon: Daemons,
) -> None:
    master, slave = pty.openpty()
    # As a container's process 1 is: the leader of its session, in the foreground of its terminal.
    terminal = (
        "import os, sys\n"
        "os.setsid()\n"
        f"terminal = os.open({os.ttyname(slave)!r}, os.O_RDWR)\n"
        "os.dup2(terminal, 0)\n"
    )
    counts = (
        "import signal\n"
        "wanted = {signal.SIGINT, signal.SIGTERM}\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, wanted)\n"
        "print('ready', os.tcgetpgrp(0) == os.getpid(), flush=True)\n"
        "while (got := signal.sigwait(wanted)) != signal.SIGTERM:\n"
        "    print('interrupted', flush=True)\n"
    )
    try:
        daemon = contained(run_daemon, "-c", terminal + _UNDER_INIT + counts)
        daemon.until_output("ready True")

        os.write(master, b"\x03")
        daemon.until_output("interrupted")
        os.kill(only_child(daemon.pid), signal.SIGTERM)

        assert daemon.wait() == 0, daemon.output()
        assert daemon.output().count("interrupted") == 1
    finally:
        os.close(master)
        os.close(slave)


def test_a_pidfile_from_when_the_daemon_was_process_1_itself_is_replaced(
    run_daemon: Daemons, tmp_path: Path, redis: Redis
) -> None:
    pidfile = tmp_path / "pid"
    pidfile.write_text("1\n")

    daemon = contained(run_daemon, "pyres_worker", "--queues", "basic", "--pidfile", str(pidfile))
    init, _ = init_and_daemon(daemon, "pyres_worker")
    until(lambda: ready("pyres_worker", redis))

    assert int(pidfile.read_text()) > 1
    os.kill(init, signal.SIGTERM)
    assert daemon.wait() == 0
    assert not pidfile.exists()
