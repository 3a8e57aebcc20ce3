"""`python -m pyres` shows the commands; `python -m pyres worker ...` is pyres_worker."""

from __future__ import annotations

import sys

from pyres import scripts
from pyres.version import __version__


def listing() -> str:
    """The commands, one line each."""
    lines = [f"  {name:<16} {does}" for name, does in scripts.DESCRIPTIONS.items()]
    return "\n".join(
        [
            f"pyres {__version__}: Resque-compatible background jobs on Redis",
            "",
            *lines,
            "",
            "See the --help of each. `python -m pyres worker` is the same as pyres_worker, and so",
            "on; `python -m pyres.demo` runs a demonstration.",
        ]
    )


def main() -> int:
    """Run the command that the first argument names; without one, show them all."""
    word, *arguments = sys.argv[1:] or ["--help"]
    if word in ("-h", "--help"):
        print(listing())
        return scripts.EXIT_OK
    if word == "--version":
        print(f"pyres {__version__}")
        return scripts.EXIT_OK
    name = word if word in scripts.DESCRIPTIONS else f"pyres_{word}"
    if name not in scripts.DESCRIPTIONS:
        words = ", ".join(command.removeprefix("pyres_") for command in scripts.DESCRIPTIONS)
        print(f"pyres: error: invalid command {word!r}: expected one of {words}", file=sys.stderr)
        return scripts.EXIT_USAGE
    sys.argv[1:] = arguments
    run = getattr(scripts, name)
    return int(run())


if __name__ == "__main__":
    raise SystemExit(main())
