"""Signals, children, titles and pidfiles, with real processes."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyres.exceptions import BadOptionError
from pyres.process import title
from pyres.process.alarm import alarm
from pyres.process.children import EXIT_SOFTWARE, Children, Exit, alive
from pyres.process.messages import Reports
from pyres.process.pidfile import PidFile
from pyres.process.signals import Signals, wake
from pyres.process.standby_child import StandbyChild
from tests.servers import ROOT, until


@pytest.fixture
def signals() -> Iterator[Signals]:
    """USR1 and CHLD handled by nothing but a wake-up."""
    handled = Signals({signal.SIGUSR1: wake, signal.SIGCHLD: wake})
    handled.install()
    yield handled
    handled.restore()


def ends(code: int) -> Exit:
    """How a child ends that leaves with this code by os._exit."""
    children = Children(Signals({}))
    pid = children.fork(lambda: os._exit(code))
    exit = children.wait(pid)
    assert exit is not None
    return exit


def test_exactly_the_passed_handler_is_installed_and_the_former_one_restored() -> None:
    class Daemon:
        def stop(self, signum: int, frame: object) -> None:
            """A bound method, as pyres 1.5's users compare it."""

    daemon, former = Daemon(), signal.getsignal(signal.SIGUSR2)
    handled = Signals({signal.SIGUSR2: daemon.stop})

    handled.install()
    assert signal.getsignal(signal.SIGUSR2) == daemon.stop
    handled.restore()

    assert signal.getsignal(signal.SIGUSR2) == former


def test_a_signal_that_came_before_the_sleep_ends_it(signals: Signals) -> None:
    os.kill(os.getpid(), signal.SIGUSR1)

    assert signals.sleep(60)


def test_a_sleep_without_a_signal_returns_false(signals: Signals) -> None:
    assert not signals.sleep(0.01)


def test_a_wait_returns_the_readable_descriptors(signals: Signals) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"x")

    assert signals.wait((reader,), 60) == [reader]
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("others", [0, 3])
def test_held_signals_are_delivered_at_the_end(others: int) -> None:
    """Also if the kernel sends them to another thread than the one that holds them."""
    seen: list[int] = []
    signals = Signals({signal.SIGUSR1: lambda signum, frame: seen.append(signum)})
    end = threading.Event()
    threads = [threading.Thread(target=end.wait) for _ in range(others)]
    for thread in threads:
        thread.start()
    signals.install()

    try:
        former = signals.hold()
        os.kill(os.getpid(), signal.SIGUSR1)
        if others:
            assert signals.sleep(60), "no thread got it"
        assert seen == []
        signals.release(former)
    finally:
        signals.restore()
        end.set()
        for thread in threads:
            thread.join()

    assert seen == [signal.SIGUSR1]


def test_an_exit_describes_itself() -> None:
    assert str(ends(9)) == "exited with status 9"
    assert str(ends(0)) == "ended cleanly"
    assert str(Exit(1, -9)) == "was killed by SIGKILL"
    assert str(Exit(1, -63)) == "was killed by signal 63" or "SIG" in str(Exit(1, -63))


def test_a_child_exits_with_the_status_it_returns() -> None:
    children = Children(Signals({}))

    def leave(how: object) -> int:
        if isinstance(how, Exception):
            raise how
        sys.exit(how)  # type: ignore[arg-type]

    codes = []
    for how in (None, 0, 3, ValueError("printed to stderr")):
        exit = children.wait(children.fork(lambda how=how: leave(how)))
        assert exit is not None
        codes.append(exit.code)
    assert codes == [0, 0, 3, EXIT_SOFTWARE]


def test_a_child_has_the_handlers_from_before(signals: Signals) -> None:
    """The process of a job had the worker's handlers."""
    children = Children(signals)
    kept = signal.getsignal(signal.SIGUSR1)

    def look() -> int:
        return int(signal.getsignal(signal.SIGUSR1) == kept or signals.installed)

    exit = None
    pid = children.fork(look)
    while exit is None:
        exit = children.wait(pid, 20)
    assert exit.clean


def test_none_of_the_parents_code_runs_in_a_child_and_prints_are_kept() -> None:
    """Prints were lost, and a child returned from fork_worker()."""
    code = """
import atexit, sys
from pyres.process.children import Children
from pyres.process.signals import Signals
atexit.register(lambda: print("atexit"))
print("parent first")
children = Children(Signals({}))
try:
    pid = children.fork(lambda: print("child") or 1 / 0)
    children.wait(pid)
finally:
    print("finally")
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )

    assert run.stdout.split("\n") == ["parent first", "child", "finally", "atexit", ""]
    assert "ZeroDivisionError" in run.stderr


def test_waiting_ends_with_the_child_a_signal_or_the_timeout(signals: Signals) -> None:
    children = Children(signals)
    pid = children.fork(lambda: signal.pause())

    assert children.wait(pid, 0.01) is None
    os.kill(os.getpid(), signal.SIGUSR1)
    assert children.wait(pid, 60) is None
    children.kill(signal.SIGKILL)
    exit = until(lambda: children.wait(pid, 20))
    assert (exit.pid, exit.signal, len(children)) == (pid, "SIGKILL", 0)


def test_only_own_children_are_reaped(signals: Signals) -> None:
    children = Children(signals)
    stranger = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    pid = children.fork(lambda: 5)

    exits = until(children.reap)

    assert [(exit.pid, exit.code) for exit in exits] == [(pid, 5)]
    assert stranger.wait() == 7


def test_a_zombie_is_not_alive() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)

    until(lambda: not alive(pid), what="the zombie to count as dead")

    os.waitpid(pid, 0)
    assert alive(os.getpid())


def test_a_child_dies_with_its_parent() -> None:
    code = """
import os, signal, sys
from pyres.process.children import Children, die_with_parent
from pyres.process.signals import Signals
parent = os.getpid()
def run():
    die_with_parent(parent, signal.SIGTERM)
    print(os.getpid(), flush=True)
    signal.pause()
Children(Signals({})).fork(run)
signal.pause()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())

    parent.kill()
    parent.wait()

    until(lambda: not alive(child), what="the orphan to end")
    parent.stdout.close()


def test_an_alarm_raises_inside_and_leaves_nothing_behind() -> None:
    # Not signal.pause(): after an alarm just before it, it would wait for ever.
    with pytest.raises(TimeoutError, match="over"), alarm(0.02, TimeoutError("over")):
        until(lambda: False, timeout=60)

    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_report_has_its_pid_slot_and_seconds() -> None:
    reports = Reports()

    reports.send(2.5)

    assert reports.receive() == [(os.getpid(), 0, 2.5)]
    assert reports.receive() == []
    reports.close()


def test_reports_that_were_not_closed_leave_no_descriptor() -> None:
    """A Worker or a Khan that never ran left a pipe open."""
    gc.collect()
    before = sorted(os.listdir("/proc/self/fd"))

    Reports()
    gc.collect()

    assert sorted(os.listdir("/proc/self/fd")) == before


def test_reports_that_are_closed_twice_close_no_other_descriptor() -> None:
    reports = Reports()
    reports.close()
    others = os.pipe()

    reports.close()

    for fd in others:
        os.close(fd)


def test_a_workers_title_is_one_that_ruby_leaves_alone() -> None:
    shown = title.worker_title(["a", "b"], "Waiting")

    assert shown.startswith("pyres_worker-")
    assert "[a,b]: Waiting" in shown
    assert title._RUBY_WORKER.search(shown) and title._RUBY_WORKER.search(
        title.minion_title(1, "x")
    )
    assert not title._RUBY_WORKER.search(title.manager_title("x"))


@pytest.mark.parametrize(
    ("shown", "works"),
    [
        ("pyres_worker-2.0.0 [q]: Waiting (resque-2.0.0)", True),
        ("pyres_minion:1: waiting (resque-2.0.0)", True),
        ("resque-3.0.0: Waiting for q", True),
        ("vim pyres_worker.py", False),
        ("python scripts/pyres_worker q", False),
        ("resque-web-1.0", False),
    ],
)
def test_a_worker_is_recognised_by_its_title(shown: str, works: bool) -> None:
    code = (
        f"import setproctitle, signal; setproctitle.setproctitle({shown!r}); "
        "print(1, flush=True); signal.pause()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()

    assert title.is_worker(process.pid) == works
    assert (process.pid in title.worker_pids()) == works

    process.kill()
    process.wait()
    process.stdout.close()
    assert not title.is_worker(process.pid)


def test_a_pidfile_is_made_with_its_folders_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "worker.pid"

    with PidFile(path):
        assert path.read_text() == f"{os.getpid()}\n"

    assert list(path.parent.iterdir()) == []


def test_a_pidfile_of_a_live_process_is_refused_and_a_stale_one_replaced(tmp_path: Path) -> None:
    path = tmp_path / "worker.pid"
    path.write_text(f"{os.getppid()}\n")

    with pytest.raises(BadOptionError, match=f"belongs to process {os.getppid()}"):
        PidFile(path).create()
    path.write_text("999999999\n")
    with PidFile(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_forked_child_leaves_the_pidfile_alone(tmp_path: Path) -> None:
    pidfile = PidFile(tmp_path / "worker.pid")
    pidfile.create()
    children = Children(Signals({}))

    children.wait(children.fork(lambda: pidfile.remove()))

    assert pidfile.path.exists()
    pidfile.remove()
    assert not pidfile.path.exists()


def test_a_standby_child_does_only_the_job_that_is_assigned_to_it() -> None:
    reader, writer = os.pipe()
    children = Children(Signals({}))
    standby = StandbyChild(children, lambda data: os.write(writer, data) and 0, lambda: None)

    assert standby.assign(b"nobody waits yet") is None
    standby.prepare()
    pid = standby.assign(b"x" * 200_000)
    assert pid is not None
    read = b""
    while len(read) < 65536:
        read += os.read(reader, 65536)

    children.kill(signal.SIGKILL)
    assert children.wait(pid) is not None
    os.close(reader)
    os.close(writer)


def test_a_standby_child_can_be_stopped_and_a_dead_one_is_assigned_nothing() -> None:
    children = Children(Signals({}))
    standby = StandbyChild(children, lambda data: 0, lambda: None)

    standby.prepare()
    (home,) = children.pids
    standby.stop()
    children.collect(block=True)
    assert not alive(home)
    standby.prepare()
    (dead,) = children.pids
    os.kill(dead, signal.SIGKILL)
    until(lambda: not alive(dead))

    assert standby.assign(b"x") is None
    children.collect(block=True)
    assert len(children) == 0
