"""What Python does when a program ends, for processes that end by os._exit(): it waits for threads
and runs exit hooks.
"""

from __future__ import annotations

import atexit
import logging
import signal
import threading
from types import FrameType
from typing import Any, NoReturn

from pyres.process.alarm import LONGEST_ALARM
from pyres.process.children import leave

logger = logging.getLogger(__name__)

#: Python's own wait for threads, and for those of executors.
_join_threads: Any = threading._shutdown  # type: ignore[attr-defined]


def drop_inherited_hooks() -> None:
    """In a forked child: remove the atexit hooks that were registered before the fork."""
    atexit._clear()


def is_left() -> bool:
    """Whether there is a thread to wait for, or a hook to run."""
    return atexit._ncallbacks() > 0 or any(map(_is_waited_for, threading.enumerate()))


def _is_waited_for(thread: threading.Thread) -> bool:
    return not thread.daemon and thread is not threading.main_thread()


def finish(seconds: float) -> None:
    """Wait for the threads and run the hooks; after N seconds the process exits with 0."""

    def give_up(_signum: int, _frame: FrameType | None) -> NoReturn:
        names = [thread.name for thread in threading.enumerate() if _is_waited_for(thread)]
        logger.warning(
            "Exited after %g s while threads (%s) or atexit hooks of a job were still running",
            seconds,
            ", ".join(names),
        )
        leave(0)

    signal.signal(signal.SIGALRM, give_up)
    # 0 would set no alarm.
    signal.setitimer(signal.ITIMER_REAL, min(max(seconds, 0.001), LONGEST_ALARM))
    _join_threads()
    atexit._run_exitfuncs()
    signal.setitimer(signal.ITIMER_REAL, 0)


def started_threads() -> list[str]:
    """The names of the threads of this process except the calling one."""
    me = threading.current_thread()
    return [thread.name for thread in threading.enumerate() if thread is not me]
