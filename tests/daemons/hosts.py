"""Daemons on a host with limits: as another user, and with a stderr that accepts no writes."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

#: A user without rights: "nobody" on every Linux.
NOBODY = 65534

#: Becomes another user, and then the command whose name follows. It keeps CAP_DAC_READ_SEARCH, the
#: right to read any file: Python itself may be in a folder of root.
AS_NOBODY = (
    "import ctypes, os, struct, sys\n"
    "from pyres import scripts\n"
    "libc = ctypes.CDLL(None)\n"
    "libc.prctl(8, 1, 0, 0, 0)\n"
    f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
    "head, rights = struct.pack('Ii', 0x20080522, 0), struct.pack('6I', 4, 4, 0, 0, 0, 0)\n"
    "assert libc.capset(head, rights) == 0\n"
    "raise SystemExit(getattr(scripts, sys.argv.pop(1))())\n"
)

#: What is wrong with stderr, by name.
STDERR = {
    "closed": "os.close(2)\n",
    "without a reader": "r, w = os.pipe(); os.dup2(w, 2); os.close(r); os.close(w)\n",
    "full": (
        "r, w = os.pipe(); os.dup2(w, 2); os.set_blocking(2, False)\n"
        "try:\n"
        "    while True: os.write(2, b'x' * 4096)\n"
        "except BlockingIOError:\n"
        "    os.set_blocking(2, True)\n"
        "os.set_inheritable(r, True)\n"
    ),
    "on a full disk": "os.dup2(os.open('/dev/full', os.O_WRONLY), 2)\n",
}

#: A limit of processes applies only to another user's daemon. In some containers root must not set
#: it, but that user may: a program does so.
CAN_LIMIT = os.geteuid() == 0 and shutil.which("prlimit") is not None

can_limit = pytest.mark.skipif(not CAN_LIMIT, reason="requires root, and the program prlimit")

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="requires root, to become another user")


def with_stderr(kind: str) -> str:
    """A program with such a stderr, which becomes the Python command that follows."""
    return (
        f"import os, sys\n{STDERR[kind]}os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that belongs to NOBODY, in a place that NOBODY can reach."""
    folder = Path(tempfile.mkdtemp(prefix="pyres-test-", dir="/tmp"))
    try:
        os.chown(folder, NOBODY, NOBODY)
        yield folder
    finally:
        shutil.rmtree(folder)


def limit_processes(pid: int, count: int | None) -> bool:
    """Set how many processes the user of this process may have; None: as many as this one's user.

    The user is NOBODY, or this one where it is not root. False if there is no such process.
    """
    most = resource.getrlimit(resource.RLIMIT_NPROC)[1] if count is None else count
    soft = "unlimited" if most == resource.RLIM_INFINITY else str(most)
    command = ["prlimit", "--pid", str(pid), f"--nproc={soft}:"]
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        # Root in a container may not do that for another user.
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    done = subprocess.run(command, capture_output=True, check=False, **user)
    return done.returncode == 0
