"""The guard fails a test that leaks something, names the leak, and fails no other test."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.servers import ROOT

#: Code that leaks something, and the guard's message about it.
PLANTED = {
    "socket": (
        "keep.append(socket.create_server(('127.0.0.1', 0)))",
        r"descriptor \d+: socket:\[\d+\] \(\('127.0.0.1', \d+\) to nobody\)",
    ),
    "file": ("keep.append(open('/proc/self/stat'))", r"descriptor \d+: /proc/\d+/stat"),
    "garbage": (
        "circle = [socket.socket()]; circle.append(circle)",
        "left to the garbage collector: unclosed <socket.socket",
    ),
    "closed": ("os.close(CONNECTED[0].fileno())", r"descriptor \d+ closed, which was not its own"),
    "reused": (
        "os.dup2(keep.append(os.pipe()) or keep[-1][0], CONNECTED[1].fileno())",
        r"descriptor \d+ closed, which was not its own: socket",
    ),
    "thread": (
        "threading.Thread(target=threading.Event().wait, name='idler', daemon=True).start()",
        r"thread \d+: idler",
    ),
    "process": (
        "keep.append(subprocess.Popen(['sleep', '60'])); KILLED.append(keep[-1].pid)",
        r"process \d+: sleep 60",
    ),
    "zombie": (
        "os.fork() or os._exit(0)",
        r"process \d+: ended, but nobody waited for it",
    ),
    "orphan": (
        "with open(tmp_path / 'out', 'wb') as out:"
        "  KILLED.append(int(subprocess.run(['sh', '-c', 'sleep 60 >&2 & echo $!'],"
        "                                   stdout=subprocess.PIPE, stderr=out).stdout))",
        r"process \d+: sleep 60",
    ),
    "server": ("SERVERS.append(Server().start())", r"server \S+ on port \d+"),
    "handler": ("signal.signal(signal.SIGUSR1, lambda *_: 0)", "handler of SIGUSR1: <function"),
    "mask": ("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])", "blocked signals: {"),
    "wakeup": (
        "keep.append(os.pipe2(os.O_NONBLOCK)); signal.set_wakeup_fd(keep[-1][1])",
        r"signal.set_wakeup_fd: \d+, before it was -1",
    ),
    "timer": ("signal.setitimer(signal.ITIMER_REAL, 3600)", "real timer: 'armed'"),
    "environment": ("os.environ['PLANTED'] = '1'", "environment variable PLANTED: '1'"),
    "folder": ("os.chdir('/')", "current folder: '/'"),
    "umask": ("os.umask(0o077)", "umask: '0o77'"),
    "path": ("sys.path.append('/planted')", "sys.path: "),
    "log handler": (
        "logging.getLogger('pyres').addHandler(logging.NullHandler())",
        "handlers of logger pyres: ",
    ),
    "log level": ("logging.getLogger().setLevel(5)", "level of logger root: 'Level 5'"),
    "title": ("setproctitle.setproctitle('planted')", "process title: 'planted'"),
    "backend": ("failure.backend = None", "pyres.failure.backend: "),
    "clock": ("ResQ._current_time = staticmethod(lambda: 0)", "pyres.client.ResQ._current_time: "),
    "job": (
        "job(queue='a', name='Planted')(lambda: 0)",
        r"jobs registered by a test: \['Planted'\]",
    ),
    "schedule": (
        "job(queue='a', name='Nightly', cron='* * * * *')(lambda: 0)",
        "schedule entries registered by a test: ",
    ),
}

#: Each planted test is between two that do nothing; fixtures of a wider scope open things too.
FILE = """
import logging, os, signal, socket, subprocess, sys, threading
import pytest, setproctitle
from pyres import ResQ, failure, job
from tests.servers import Server

keep, CONNECTED, SERVERS, KILLED = [], [], [], []

@pytest.fixture(scope="session", autouse=True)
def everything_ends():
    CONNECTED.extend(socket.socketpair())
    yield
    for server in SERVERS:
        server.close()
    for pid in KILLED:
        os.kill(pid, signal.SIGKILL)

@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    os.environ["WIDE"] = "1"
    with open(tmp_path_factory.mktemp("wide") / "file", "w") as file:
        yield file
    del os.environ["WIDE"]

def test_first(wide):
    pass

def test_a_failure_is_not_judged():
    keep.append(open(os.devnull))
    assert False
"""
TEST = """
def test_{name}(wide, tmp_path):
    {code}

def test_after_{name}():
    pass
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The output of pytest for a file of planted leaks."""
    folder = tmp_path_factory.mktemp("planted")
    tests = [
        TEST.format(name=name.replace(" ", "_"), code=code) for name, (code, _) in PLANTED.items()
    ]
    (folder / "test_planted.py").write_text(FILE + "".join(tests))
    command = [sys.executable, "-m", "pytest", "-p", "tests.guard", "-p", "no:randomly"]
    # Python 3.12 warns of a fork beside another thread, which is another planted test's.
    command += ["-p", "no:cacheprovider", "--leak-patience=0.2", "-rA", "-Wignore"]
    command += ["--rootdir", str(folder)]
    done = subprocess.run(
        [*command, "-c", "/dev/null", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", PLANTED)
def test_a_leak_fails_its_test_and_is_reported(output: str, name: str) -> None:
    test = f"test_planted.py::test_{name.replace(' ', '_')}"

    found = re.search(rf"^\S*{test} leaves behind:\n((?!__|E? *$).+\n)+", output, re.MULTILINE)

    assert found, output
    assert re.search(PLANTED[name][1], found[0]), found[0]


def test_a_leak_fails_no_other_test(output: str) -> None:
    assert f"1 failed, {2 * len(PLANTED) + 1} passed, {len(PLANTED)} errors" in output, output
    assert "test_after" not in "".join(re.findall("^ERROR.*$", output, re.MULTILINE))
