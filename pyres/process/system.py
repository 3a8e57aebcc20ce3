"""What systems other than Linux say of their processes: by `ps`, or by Windows' own calls."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

#: os.kill(pid, 0) is no question there: it sends Ctrl-C.
WINDOWS = os.name == "nt"

#: OpenProcess and WaitForSingleObject of Windows: the right to wait, and "it still runs".
_SYNCHRONIZE = 0x00100000
_WAIT_TIMEOUT = 0x00000102


def has_proc() -> bool:
    """Whether /proc tells of processes, as on Linux."""
    return os.path.isdir("/proc/self")


def ps(*columns: str, pid: int | None = None) -> str:
    """What `ps` shows of one process, or of all; empty where there is no such process or no ps."""
    which = ["-A"] if pid is None else ["-p", str(pid)]
    # An -o for each, since macOS takes all that is behind the first "=" for the title of a column.
    shown_columns = [word for column in columns for word in ("-o", f"{column}=")]
    # -ww: whole titles, whatever the width of the terminal that stderr may be.
    command = ["ps", "-ww", *shown_columns, *which]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return shown.stdout.strip()


def state(pid: int) -> str:
    """The state of a process, of which the first letter is Z for a zombie; empty if unknown."""
    if not has_proc():
        return ps("stat", pid=pid)
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The name stands in parentheses and may hold any character.
            return file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def peak_megabytes() -> float:
    """The most resident memory that this process ever had, in MiB; 0.0 where nobody knows."""
    if resource is None:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def runs_on_windows(pid: int) -> bool:
    """Whether a process has this pid, asked as Windows wants it."""
    kernel32 = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]
    handle = kernel32.OpenProcess(_SYNCHRONIZE, False, pid)
    if not handle:
        return False
    try:
        return bool(kernel32.WaitForSingleObject(handle, 0) == _WAIT_TIMEOUT)
    finally:
        kernel32.CloseHandle(handle)
