"""Children at their edges: forks that fail, odd exits, stops, signals in every moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pyres.process import children as module
from pyres.process.children import EXIT_SOFTWARE, Children, Exit, alive
from pyres.process.signals import Signals, wake
from tests.servers import ROOT, state_of, until


@pytest.fixture
def signals() -> Iterator[Signals]:
    """USR1 and CHLD handled by nothing but a wake-up."""
    handled = Signals({signal.SIGUSR1: wake, signal.SIGCHLD: wake})
    handled.install()
    yield handled
    handled.restore()


@pytest.fixture
def children(signals: Signals) -> Iterator[Children]:
    """Children of which none stays."""
    children = Children(signals)
    yield children
    end(children)


def end(children: Children, signum: int = signal.SIGKILL) -> list[Exit]:
    """Send this signal to all; how each of them ended."""
    children.kill(signum)
    # The signal of another child's end also ends a wait.
    return [until(lambda pid=pid: children.wait(pid, 20)) for pid in children.pids[:]]


@pytest.fixture(params=["pidfd", "polling"])
def waiting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to wait: that of Linux, and that of kernels without pidfds."""
    if request.param == "polling":
        monkeypatch.setattr(module, "_pidfd", lambda pid: None)


def end_of(run: Callable[[], Any]) -> Exit:
    """How a lone child ends that does this."""
    children = Children(Signals({}))
    exit = children.wait(children.fork(run))
    assert exit is not None
    return exit


def raising(error: BaseException) -> Callable[[], NoReturn]:
    def run() -> NoReturn:
        raise error

    return run


def deaf_child(children: Children) -> int:
    """A child that ignores TERM, once it has set that up."""
    reader, writer = os.pipe()

    def run() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(writer, b"x")
        while True:
            signal.pause()

    pid = children.fork(run)
    os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    return pid


def sleeping_child(children: Children) -> int:
    return children.fork(lambda: signal.pause())


def run_python(code: str, **more: Any) -> subprocess.CompletedProcess[str]:
    # Buffered, as a daemon's stdout is where it is a file or a pipe.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-c", code],
        text=True,
        cwd=ROOT,
        env=environ,
        timeout=60,
        check=False,
        **more,
    )


def test_a_fork_that_fails_leaves_the_parent_its_ears(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    monkeypatch.setattr(module, "_fork", refuse)

    with pytest.raises(BlockingIOError):
        children.fork(lambda: 0)

    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    assert len(children) == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SystemExit(), 0),
        (SystemExit(0), 0),
        (SystemExit(3), 3),
        (SystemExit("text"), 1),
        (KeyboardInterrupt(), EXIT_SOFTWARE),
        (GeneratorExit(), EXIT_SOFTWARE),
    ],
)
def test_whatever_is_raised_becomes_a_status(error: BaseException, code: int) -> None:
    assert end_of(raising(error)).code == code


def test_a_child_that_returns_nonsense_has_not_ended_cleanly() -> None:
    assert end_of(lambda: "done").code == EXIT_SOFTWARE


@pytest.mark.parametrize(
    "prank",
    [
        "sys.stdout = object()",
        "sys.stdout.close()",
        "sys.stdout = type('Rude', (), {'flush': lambda self: 1 / 0})()",
        "sys.stdout = sys.stderr = None",
    ],
)
def test_a_child_ends_whatever_its_job_did_to_stdout(prank: str) -> None:
    """A child that returned from fork() continued as a second worker."""
    code = f"""
import os, sys
from pyres.process.children import Children
from pyres.process.signals import Signals
parent, children = os.getpid(), Children(Signals({{}}))
def run():
    {prank}
try:
    exit = children.wait(children.fork(run))
finally:
    if os.getpid() != parent:
        os.write(2, b"escaped")
print(exit)
"""
    run = run_python(code, capture_output=True)

    assert "escaped" not in run.stderr
    assert run.stdout == "ended cleanly\n"


def test_a_parent_whose_stdout_has_no_reader_still_forks() -> None:
    code = """
import os
from pyres.process.children import Children
from pyres.process.signals import Signals
children = Children(Signals({}))
print("nobody reads this")
exit = children.wait(children.fork(lambda: 3))
os._exit(exit.code)
"""
    reader, writer = os.pipe()
    os.close(reader)

    run = run_python(code, stdout=writer, stderr=subprocess.PIPE)

    os.close(writer)
    assert (run.returncode, run.stderr) == (3, "")


def test_a_child_that_is_over_is_found_without_any_patience(
    children: Children, waiting: None
) -> None:
    """The last check comes after the last sleep."""
    pid = children.fork(lambda: 0)
    until(lambda: not alive(pid))

    exit = children.wait(pid, 0)
    while exit is None and children.signals.signalled:  # the child's own SIGCHLD
        exit = children.wait(pid, 0)

    assert exit == Exit(pid, 0)


def test_a_child_that_was_waited_for_leaves_no_zombie(children: Children, waiting: None) -> None:
    pid = sleeping_child(children)
    children.kill(signal.SIGKILL, pid)

    exit = until(lambda: children.wait(pid, 20))

    assert exit.signal == "SIGKILL"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_every_signal_ends_the_wait_for_a_child(waiting: None) -> None:
    signals = Signals({signal.SIGALRM: wake})
    signals.install()
    children = Children(signals)
    pid = sleeping_child(children)

    for delay in range(2, 22, 2):
        # At many moments of a pause, as each could be the one at which a signal is overlooked.
        signal.setitimer(signal.ITIMER_REAL, delay / 1000)
        assert children.wait(pid, 3600) is None
        assert signals.signalled

    end(children)
    signals.restore()


def test_a_readable_fd_ends_the_wait_for_a_child(children: Children, waiting: None) -> None:
    pid = sleeping_child(children)
    reader, writer = os.pipe()
    os.write(writer, b"x")

    assert children.wait(pid, 60, (reader,)) is None

    os.close(reader)
    os.close(writer)


def test_killing_a_child_that_has_ended_is_not_an_error(children: Children) -> None:
    pid = children.fork(lambda: 0)
    os.waitpid(pid, 0)

    children.kill(signal.SIGUSR1)
    children.kill(signal.SIGUSR1, pid)

    assert [exit.pid for exit in children.reap()] == [pid]


def test_a_child_knows_none_of_its_siblings(children: Children) -> None:
    """A minion sent signals to its siblings."""
    sleeping_child(children)

    pid = children.fork(lambda: len(children))

    assert until(lambda: children.wait(pid, 20)).clean
    assert len(children) == 1


def test_a_signal_while_children_are_forked_orphans_none() -> None:
    """TERM came while a pool was being forked."""
    code = """
import os, signal, sys
from pyres.process.children import Children
from pyres.process.signals import Signals
received = []
signals = Signals({signal.SIGTERM: lambda signum, frame: received.append(signum)})
children = Children(signals)
def end(signum):
    children.kill(signum)
    return [ended(pid) for pid in children.pids[:]]
def ended(pid):
    while (exit := children.wait(pid)) is None:
        pass
    return exit
signals.install()
print(os.getpid(), flush=True)
while not received:
    children.fork(signal.pause)
    if len(children) > 20:
        end(signal.SIGKILL)
print(all(exit.signal == "SIGTERM" for exit in end(signal.SIGTERM)))
"""
    for _ in range(3):
        parent = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert parent.stdout is not None
        parent.stdout.readline()
        parent.terminate()

        assert parent.stdout.read() == "True\n"
        assert parent.wait() == 0
        parent.stdout.close()


@pytest.mark.parametrize("pid", [0, -1, -12345, 2**40])
def test_an_invalid_pid_is_not_alive(pid: int) -> None:
    assert not alive(pid)


def test_a_stopped_child_is_alive(children: Children) -> None:
    pid = sleeping_child(children)
    children.kill(signal.SIGSTOP)
    until(lambda: state_of(pid) == "T")

    assert alive(pid)


def test_the_output_of_a_child_is_written_once_and_whole(tmp_path: Path) -> None:
    """Where stdout is a file, buffered text was written twice."""
    code = """
from pyres.process.children import Children
from pyres.process.signals import Signals
children = Children(Signals({}))
print("parent", end=" ")
for n in range(3):
    children.wait(children.fork(lambda: print("child", n, end=" ")))
"""
    with (tmp_path / "out").open("w") as out:
        run_python(code, stdout=out)

    assert (tmp_path / "out").read_text() == "parent child 0 child 1 child 2 "
