"""The layers of the source, checked by its imports: which module may import which."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import ROOT

#: From the lowest floor up. A unit is a file or a folder of pyres/, or resweb; it imports only from
#: floors below its own, so two units on one floor do not import each other.
FLOORS = {
    "facts": [
        "version",
        "exceptions",
        "compat",
        "former_names",
        "json_spans",
        "identity_cache",
        "main_module",
        "not_found",
        "plain_json",
        "wrappers",
        "shortening",
        "retirement",
        "starting",
        "times",
    ],
    "cores": [
        "store",
        "process",
        "stat",
        "loading",
        "job_settings",
        "installation",
        "json_parser",
        "nesting",
        "active_job",
        "hooks",
        "overrides",
        "retrying",
        "queue_list",
        "calling",
        "timing",
        "scaling",
        "clock_jumps",
    ],
    "comparison": ["json_equality"],
    "formats": [
        "attempts",
        "logs",
        "payload",
        "in_flight",
        "promotion",
        "schedule",
        "unique",
        "wakeups",
        "reconnecting",
        "mastership",
        "job_names",
    ],
    "client": ["client", "decorators", "schedule_faults"],
    "failure": ["failure"],
    "jobs and queries": ["job", "inspector", "active_schedule"],
    "liveness": ["liveness", "schedule_gaps"],
    "registry": ["registry", "standby"],
    "one job": ["performer"],
    "many jobs": ["minion"],
    "daemons": ["worker", "horde", "scheduler"],
    "commands and page": ["scripts", "resweb"],
    "programs": ["demo", "__main__"],
}

#: Upward imports inside a function, for pyres 1.5's ResQ.reserve and ResQ.working.
UPWARD_IN_FUNCTIONS = {("client", "job"), ("client", "worker")}

#: Upward imports under `__name__ == "__main__"`, so that `python -m pyres.worker` is the command.
UPWARD_IN_MAIN = {("worker", "scripts"), ("horde", "scripts"), ("scheduler", "scripts")}

#: Upward imports for annotations, under `if TYPE_CHECKING`.
UPWARD_FOR_TYPES = {*UPWARD_IN_FUNCTIONS, ("stat", "client")}

#: pyres/__init__.py may import anything; only the units below may import from it.
PACKAGE = "__init__"
PROGRAMS = {"demo"}

#: The only units of pyres that these may import.
MAY_IMPORT_ONLY = {"resweb": {"client", "inspector", "failure", "exceptions"}}

#: The only units that may import these: the daemons must not depend on the inspector.
IMPORTED_ONLY_BY = {"inspector": {"scripts", "resweb", "demo"}}

#: A module or name from outside of pyres, and the only modules that may use it.
KERNEL = ("pyres.process",)
COMMAND_LINE = ("pyres.scripts", "pyres.demo")
ONLY_IN = {
    "redis": ("pyres.store",),
    "select": KERNEL,
    "signal": KERNEL,
    "setproctitle": KERNEL,
    **dict.fromkeys(("os.fork", "os.forkpty", "os.kill", "os.killpg"), KERNEL),
    **dict.fromkeys(("os.wait", "os.wait3", "os.wait4", "os.waitid", "os.waitpid"), KERNEL),
    "argparse": COMMAND_LINE,
    "os.environ": COMMAND_LINE,
    "os.getenv": COMMAND_LINE,
    "smtplib": ("pyres.failure.mail",),
    "flask": ("resweb",),
    "pystache": ("resweb",),
    "msgspec": ("pyres.plain_json",),
}

#: The names of signals may be used everywhere, functions of `signal` may not.
ALLOWED_SIGNAL_NAMES = re.compile(r"signal\.SIG[A-Z]+[12]?")

#: Modules with literals that begin with "resque:": names of keys, and titles of Ruby's workers.
MAY_SPELL_KEYS = {"pyres.store.keys", "pyres.process.title"}

HEIGHT = {unit: floor for floor, units in enumerate(FLOORS.values()) for unit in units}


def faults(root: Path) -> list[str]:
    """What breaks the rules above in the pyres/ and resweb/ of this folder, one line each."""
    files = sorted([*root.glob("pyres/**/*.py"), *root.glob("resweb/**/*.py")])
    return [fault for file in files for fault in _faults_of(file, root)]


def _faults_of(file: Path, root: Path) -> Iterator[str]:
    path = file.relative_to(root)
    module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    unit = _unit(module)
    if unit != PACKAGE and unit not in HEIGHT:
        yield f"{path}: {unit} is not in FLOORS: add it in tests/test_floors.py"
        return
    source = ast.parse(file.read_bytes(), str(path))
    for line, reason in (
        *_upward(source, unit),
        *_misplaced_uses(source, module),
        *_literal_keys(source, module),
    ):
        yield f"{path}:{line}: {reason}"


def _unit(module: str) -> str:
    top, _, rest = module.partition(".")
    if top == "resweb":
        return top
    return rest.partition(".")[0] or PACKAGE


def _upward(source: ast.Module, unit: str) -> Iterator[tuple[int, str]]:
    typing_only = _inside(source, ast.If, lambda node: "TYPE_CHECKING" in ast.dump(node.test))
    in_function = _inside(source, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
    as_program = _inside(source, ast.If, lambda node: "__main__" in ast.dump(node.test))
    allowed = [
        (typing_only, UPWARD_FOR_TYPES),
        (in_function, UPWARD_IN_FUNCTIONS),
        (as_program, UPWARD_IN_MAIN),
    ]
    for node in ast.walk(source):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, "a relative import: write the full name"
        for other in _units_imported(node):
            if any(node in nodes and (unit, other) in pairs for nodes, pairs in allowed):
                continue
            if reason := _refusal(unit, other):
                yield node.lineno, reason
            elif node in in_function:
                yield node.lineno, f"{unit} imports {other} inside a function: import it at the top"


def _inside(source: ast.Module, kind, also=lambda node: True) -> set[ast.AST]:
    return {
        inner
        for outer in ast.walk(source)
        if isinstance(outer, kind) and also(outer)
        for inner in ast.walk(outer)
    }


def _units_imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module == "pyres":
        # A name that is not a unit is a public name of pyres/__init__.py.
        return [alias.name if alias.name in HEIGHT else PACKAGE for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and not node.level:
        modules = [node.module or ""]
    else:
        return []
    return [_unit(module) for module in modules if module.split(".")[0] in ("pyres", "resweb")]


def _refusal(unit: str, other: str) -> str:
    if unit in (other, PACKAGE):
        return ""
    if other == PACKAGE:
        return (
            ""
            if unit in PROGRAMS
            else f"{unit} imports pyres itself: import the module with the name"
        )
    if other not in HEIGHT:
        return f"{unit} imports {other}, which is not in FLOORS"
    if other in MAY_IMPORT_ONLY.get(unit, HEIGHT) and unit in IMPORTED_ONLY_BY.get(other, HEIGHT):
        return "" if HEIGHT[other] < HEIGHT[unit] else f"{unit} imports {other}, not below it"
    return f"{unit} must not import {other}"


def _misplaced_uses(source: ast.Module, module: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(source):
        for used in _used_names(node):
            restricted = next(
                (thing for thing in ONLY_IN if f"{used}.".startswith(f"{thing}.")), None
            )
            if restricted is None or ALLOWED_SIGNAL_NAMES.fullmatch(used):
                continue
            if not any(f"{module}.".startswith(f"{place}.") for place in ONLY_IN[restricted]):
                yield node.lineno, f"{used} may be used only in {' and '.join(ONLY_IN[restricted])}"


def _used_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        # `import signal` alone is allowed; uses of its names are checked one by one.
        return [alias.name for alias in node.names if alias.name != "signal" or alias.asname]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return [f"{node.value.id}.{node.attr}"] if node.value.id in ("os", "signal") else []
    return []


def _literal_keys(source: ast.Module, module: str) -> Iterator[tuple[int, str]]:
    if module in MAY_SPELL_KEYS:
        return
    for node in ast.walk(source):
        if isinstance(node, ast.Constant) and _text(node.value).startswith("resque:"):
            yield node.lineno, f"{node.value!r} is a literal key: use Keys of store/keys.py"


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def test_the_source_follows_the_rules():
    assert faults(ROOT) == []


def test_every_unit_is_on_one_floor():
    units = [unit for floor in FLOORS.values() for unit in floor]

    assert len(units) == len(set(units))


BAD = [
    ("pyres/store/queues.py", "from pyres.process import signals", "store imports process"),
    ("pyres/process/title.py", "import pyres.store.keys", "process imports store"),
    ("pyres/client.py", "from pyres.job import Job", "client imports job, not below it"),
    ("pyres/client.py", "def f():\n    from pyres import horde", "client imports horde"),
    ("pyres/job.py", "def f():\n    from pyres import client", "inside a function"),
    ("pyres/worker.py", "import pyres.horde", "worker imports horde"),
    ("pyres/worker.py", "import pyres.scripts", "worker imports scripts"),
    (
        "pyres/worker.py",
        'if __name__ == "__main__":\n    import pyres.horde',
        "worker imports horde",
    ),
    ("pyres/worker.py", "from pyres import ResQ", "worker imports pyres itself"),
    (
        "pyres/worker.py",
        "from pyres.inspector import Inspector",
        "worker must not import inspector",
    ),
    ("pyres/worker.py", "from . import client", "a relative import"),
    ("pyres/worker.py", "from pyres.nowhere import x", "nowhere, which is not in FLOORS"),
    ("pyres/utils.py", "", "utils is not in FLOORS: add it"),
    ("resweb/app.py", "from pyres.worker import Worker", "resweb must not import worker"),
    ("pyres/worker.py", "from resweb import app", "worker imports resweb"),
    ("pyres/client.py", "from redis import Redis", "redis.Redis may be used only in pyres.store"),
    ("pyres/client.py", "def f():\n    import redis.client", "redis.client may be used only"),
    ("pyres/worker.py", "import os\nos.kill(1, 9)", "os.kill may be used only in pyres.process"),
    ("pyres/worker.py", "from os import waitpid", "os.waitpid may be used only"),
    ("pyres/worker.py", "import signal\nsignal.signal(15, f)", "signal.signal may be used only"),
    ("pyres/worker.py", "import signal as s", "signal may be used only"),
    ("pyres/worker.py", "from signal import signal", "signal.signal may be used only"),
    ("pyres/logs.py", "import os\nos.environ['A']", "os.environ may be used only in pyres.scripts"),
    ("pyres/worker.py", "import argparse", "argparse may be used only"),
    ("pyres/failure/redis.py", "import smtplib", "smtplib may be used only in pyres.failure.mail"),
    ("pyres/scripts.py", "import flask", "flask may be used only in resweb"),
    ("pyres/payload.py", "import msgspec", "msgspec may be used only in pyres.plain_json"),
    ("pyres/worker.py", 'x = f"resque:stat:{y}"', "is a literal key"),
    ("resweb/app.py", 'x = b"resque:queues"', "is a literal key"),
]


@pytest.mark.parametrize(("file", "source", "fault"), BAD)
def test_a_fault_is_reported_with_its_file(tmp_path, file, source, fault):
    write(tmp_path, file, source)

    (reported,) = faults(tmp_path)

    assert reported.startswith(f"{file}:")
    assert fault in reported


GOOD = [
    ("pyres/__init__.py", "from pyres.worker import Worker\nfrom pyres.client import ResQ"),
    ("pyres/client.py", "def f():\n    from pyres.job import Job\n    from pyres.worker import W"),
    ("pyres/worker.py", 'if __name__ == "__main__":\n    from pyres.scripts import pyres_worker'),
    ("pyres/stat.py", "if TYPE_CHECKING:\n    from pyres.client import ResQ"),
    ("pyres/store/dsn.py", "import redis.sentinel\nfrom pyres.store.keys import Keys"),
    ("pyres/worker.py", "import signal, os\nx = {signal.SIGUSR1: os.getpid()}"),
    ("pyres/failure/mail.py", "import smtplib"),
    ("pyres/demo.py", "from pyres import ResQ"),
    ("pyres/client.py", '"""As resque:queues has it."""'),
]


@pytest.mark.parametrize(("file", "source"), GOOD)
def test_allowed_code_has_no_fault(tmp_path, file, source):
    write(tmp_path, file, source)

    assert faults(tmp_path) == []


def write(folder: Path, file: str, source: str) -> None:
    """Make a source tree of one file."""
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
