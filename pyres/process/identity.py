"""Identifies a process beyond its pid: pids are reused, and two hosts may have the same name."""

from __future__ import annotations

import functools
import os


@functools.cache
def place() -> str:
    """The boot id of the machine and the pid namespace of this process; "-" if unknown."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return "-"


def uptime() -> float:
    """Seconds since this machine was started; 0.0 if unknown."""
    try:
        with open("/proc/uptime", encoding="ascii") as file:
            return float(file.read().split()[0])
    except OSError:
        return 0.0


def start(pid: int) -> str:
    """When a process was started, in ticks since the boot; "" if unknown, as without /proc."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The name is in parentheses and may contain any character.
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def process_start(pid: int) -> str:
    """The identity that a process registers: place() and start(), as far as they are known."""
    return f"{place()} {start(pid)}"
