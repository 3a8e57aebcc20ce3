"""Signals at their edges: ends of waits, long waits, an ignored SIGCHLD."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from pyres.process.children import Children
from pyres.process.signals import (
    LONGEST_WAIT,
    Signals,
    _came_early,
    hold_until_installed,
    wake,
)
from tests.servers import until


@pytest.fixture
def readable() -> Iterator[int]:
    """A file descriptor that can be read at once."""
    reader, writer = os.pipe()
    os.write(writer, b"x")
    yield reader
    os.close(reader)
    os.close(writer)


@pytest.fixture
def signals() -> Iterator[Signals]:
    """USR1 handled by nothing but a wake-up, once installed."""
    signals = Signals({signal.SIGUSR1: wake})
    yield signals
    signals.restore()


@pytest.fixture
def ignored_children() -> Iterator[None]:
    """SIGCHLD ignored, as some launchers leave it to what they start."""
    former = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, former)


@pytest.mark.parametrize("timeout", [30 * LONGEST_WAIT, float("inf"), -1, 0])
def test_a_wait_may_have_any_timeout(readable: int, timeout: float) -> None:
    assert Signals({}).wait((readable,), timeout) == [readable]


def test_only_a_signal_counts_as_one(signals: Signals, readable: int) -> None:
    signals.install()

    signals.wait((readable,), 60)
    by_fd = signals.signalled
    os.kill(os.getpid(), signal.SIGUSR1)
    signals.wait((), 60)

    assert (by_fd, signals.signalled) == (False, True)


def test_one_byte_ends_one_wait(signals: Signals) -> None:
    signals.install()
    os.kill(os.getpid(), signal.SIGUSR1)

    assert signals.sleep(60)
    assert not signals.sleep(0.01)


@pytest.mark.parametrize("others", [0, 3])
def test_a_signal_before_the_handlers_are_installed_is_held_for_them(others: int) -> None:
    """Also if the kernel sends it to another thread."""
    seen: list[int] = []
    signals = Signals({signal.SIGUSR1: lambda signum, frame: seen.append(signum)})
    former = signal.getsignal(signal.SIGUSR1)
    end = threading.Event()
    threads = [threading.Thread(target=end.wait) for _ in range(others)]
    for thread in threads:
        thread.start()

    with hold_until_installed():
        os.kill(os.getpid(), signal.SIGUSR1)
        until(lambda: _came_early, what="the signal")
        assert seen == []
        signals.install()
        assert seen == [signal.SIGUSR1]
        signals.restore()
    end.set()
    for thread in threads:
        thread.join()

    assert signal.getsignal(signal.SIGUSR1) == former


def test_if_no_handler_is_installed_the_former_ones_are_restored() -> None:
    handled = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
    former = [signal.getsignal(signum) for signum in handled]

    with hold_until_installed():
        assert [signal.getsignal(signum) for signum in handled] != former

    assert [signal.getsignal(signum) for signum in handled] == former


def test_the_former_wakeup_fd_is_restored_and_no_pipe_is_left(signals: Signals) -> None:
    before = sorted(os.listdir("/proc/self/fd"))

    signals.install()
    signals.install()
    signals.restore()
    signals.restore()

    assert sorted(os.listdir("/proc/self/fd")) == before
    assert signal.set_wakeup_fd(-1) == -1
    assert not signals.installed


def test_a_thread_that_cannot_install_leaves_nothing_behind(signals: Signals) -> None:
    raised: list[BaseException] = []

    def install() -> None:
        try:
            signals.install()
        except ValueError as error:
            raised.append(error)

    thread = threading.Thread(target=install)
    thread.start()
    thread.join()

    assert raised and not signals.installed
    assert signal.getsignal(signal.SIGUSR1) is not wake


def test_a_parent_learns_of_its_children_where_sigchld_was_ignored(
    ignored_children: None, signals: Signals
) -> None:
    signals.install()
    children = Children(signals)

    exit = children.wait(children.fork(lambda: 3))

    assert exit is not None and exit.code == 3
    signals.restore()
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN


def test_an_unknown_exit_is_not_clean(ignored_children: None) -> None:
    children = Children(Signals({}))

    exit = children.wait(children.fork(lambda: 0))

    assert exit is not None and not exit.clean
    assert children.pids == []
