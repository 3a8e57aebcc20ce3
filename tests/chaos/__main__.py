"""python -m tests.chaos: kills, stops and cuts for N seconds, and reports all jobs' outcomes."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.disturbances import DISTURBANCES, JOBS
from tests.chaos.ledger import Ledger
from tests.chaos.monkey import LOSSLESS, WAITS, Monkey
from tests.chaos.plan import FAULTS


def main() -> int:
    """Exit code 1 when a job was lost, or done twice for no known reason."""
    options = _options()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    _say(f"seed {seed}, {options.seconds:g} s of faults, {' and '.join(options.modes)}")
    folder = Path(options.keep or tempfile.mkdtemp(prefix="pyres-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {kind: weight for kind, weight in FAULTS.items() if options.only in kind}
    monkey = Monkey(
        folder,
        options.modes,
        kinds,
        options.pace,
        options.flow,
        options.greenlets,
        options.disturb,
    )
    began = time.monotonic()
    ledger = monkey.run(seed, options.seconds)
    _say(report(monkey, ledger))
    _say(f"{time.monotonic() - began:.0f} s in all")
    if (wrong := ledger.lost + ledger.unexplained) or options.keep:
        (folder / "faults.log").write_text("\n".join(monkey.log) + "\n")
        _say(f"logs in {folder}")
    return 1 if wrong else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, help="default: a random one, which is printed")
    parser.add_argument("--pace", type=float, default=3, help="faults a second (default: 3)")
    parser.add_argument("--flow", type=float, default=100, help="jobs a second (default: 100)")
    parser.add_argument("--modes", type=lambda text: text.split(","), default=LOSSLESS)
    parser.add_argument("--greenlets", type=int, default=1, help="of each minion of one pool")
    parser.add_argument("--only", default="", help="faults with this in their name, as 'kill'")
    every = [*DISTURBANCES, *JOBS]
    parser.add_argument(
        "--disturb",
        type=lambda text: every if text == "all" else text.split(","),
        default=[],
        help=f"also, with commas between, or all: {', '.join(every)}",
    )
    parser.add_argument("--keep", help="a folder for the logs, kept also when all is well")
    options = parser.parse_args()
    if unknown := set(options.modes) - set(WAITS):
        parser.error(f"{', '.join(unknown)} is no mode; they are {', '.join(WAITS)}")
    if unknown := set(options.disturb) - set(every):
        parser.error(f"{', '.join(unknown)} is no disturbance; they are {', '.join(every)}")
    return options


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def report(monkey: Monkey, ledger: Ledger) -> str:
    """The figures of a run, and the records of each job with a wrong outcome."""
    lines = [f"  {count:5} {kind}" for kind, count in sorted(monkey.done.items())]
    twice = ledger.twice
    figures = {
        "faults": sum(monkey.done.values()),
        "jobs": ledger.jobs,
        "done": len(ledger.ended),
        "in resque:failed": len(ledger.failed),
        "done, and cut before the record": len(twice) - len(ledger.unexplained),
        "twice for no known reason": len(ledger.unexplained),
        "still waiting": len(ledger.waiting),
        "lost": len(ledger.lost),
    }
    lines += [f"{name}: {figure}" for name, figure in figures.items()]
    lines += [f"counter {name} is off by {off:+}" for name, off in ledger.miscounted.items()]
    lines += [f"left in Redis: {key}" for key in ledger.left]
    lines += [f"LOST {ledger.known_of(number)}" for number in ledger.lost]
    lines += [f"TWICE {ledger.known_of(number)}" for number in ledger.unexplained]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
