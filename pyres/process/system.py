"""Reads about processes on systems without /proc: by `ps`, or by calls of Windows."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

#: There os.kill(pid, 0) does not check for a process: it sends Ctrl-C.
WINDOWS = os.name == "nt"

#: For OpenProcess of Windows the right to wait; of WaitForSingleObject the reply "still running".
_SYNCHRONIZE = 0x00100000
_WAIT_TIMEOUT = 0x00000102


def has_proc() -> bool:
    """Whether processes can be read in /proc, as on Linux."""
    return os.path.isdir("/proc/self")


def ps(*columns: str, pid: int | None = None) -> str:
    """The output of `ps` for one process or for all; empty if there is no such process or no ps."""
    selection = ["-A"] if pid is None else ["-p", str(pid)]
    # One -o for each column: macOS uses all text after the first "=" as the column's title.
    shown_columns = [word for column in columns for word in ("-o", f"{column}=")]
    # -ww: whole titles, whatever the width of the terminal.
    command = ["ps", "-ww", *shown_columns, *selection]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return ended.stdout.strip()


def state(pid: int) -> str:
    """The state of a process; it begins with Z for a zombie, and is empty if unknown."""
    if not has_proc():
        return ps("stat", pid=pid)
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The name is in parentheses and may contain any character.
            return file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def peak_megabytes() -> float:
    """The peak resident memory of this process in MiB; 0.0 if unknown."""
    if resource is None:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def runs_on_windows(pid: int) -> bool:
    """Whether a process with this pid runs, on Windows."""
    kernel32 = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]
    handle = kernel32.OpenProcess(_SYNCHRONIZE, False, pid)
    if not handle:
        return False
    try:
        return bool(kernel32.WaitForSingleObject(handle, 0) == _WAIT_TIMEOUT)
    finally:
        kernel32.CloseHandle(handle)
