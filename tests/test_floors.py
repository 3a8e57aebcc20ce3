"""The picture of the source, held against its imports: who may know whom, and who the world."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import ROOT

#: From the ground up. A unit is a file or a folder of pyres/, or resweb; it imports only from
#: floors below its own, and two units on one floor do not know each other.
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
    "words": [
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
    "meaning": ["job", "inspector", "active_schedule"],
    "liveness": ["liveness", "schedule_gaps"],
    "registry": ["registry", "standby"],
    "one job": ["performer"],
    "many jobs": ["minion"],
    "daemons": ["worker", "horde", "scheduler"],
    "doors": ["scripts", "resweb"],
    "guests": ["demo", "__main__"],
}

#: pyres 1.5 has ResQ.reserve and ResQ.working, so these import upward, inside a function.
LOOK_UPS = {("client", "job"), ("client", "worker")}

#: `python -m pyres.worker` is the command of that name: upward, under `__name__ == "__main__"`.
COMMANDS = {("worker", "scripts"), ("horde", "scripts"), ("scheduler", "scripts")}

#: Upward for the sake of an annotation, under `if TYPE_CHECKING`.
TYPE_LOOK_UPS = {*LOOK_UPS, ("stat", "client")}

#: The front desk, pyres/__init__.py, imports anything; of those inside only a guest imports it.
FRONT_DESK = "__init__"
GUESTS = {"demo"}

#: All that these may know of pyres.
KNOWS_ONLY = {"resweb": {"client", "inspector", "failure", "exceptions"}}

#: The only ones that may know these; a loop must not depend on the reading side.
KNOWN_ONLY_TO = {"inspector": {"scripts", "resweb", "demo"}}

#: A module or name of the outside world, and the modules where it is at home.
KERNEL = ("pyres.process",)
COMMAND_LINE = ("pyres.scripts", "pyres.demo")
HOMES = {
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

#: The names of signals are known everywhere; what is done with them is not.
HOMELESS = re.compile(r"signal\.SIG[A-Z]+[12]?")

#: Where what begins with "resque:" is spelt: the key names, and the titles of Ruby's workers.
KEY_NAMES = {"pyres.store.keys", "pyres.process.title"}

HEIGHT = {unit: floor for floor, units in enumerate(FLOORS.values()) for unit in units}


def faults(root: Path) -> list[str]:
    """What in the pyres/ and resweb/ of this folder is not as in the picture, a line each."""
    files = sorted([*root.glob("pyres/**/*.py"), *root.glob("resweb/**/*.py")])
    return [fault for file in files for fault in _faults_of(file, root)]


def _faults_of(file: Path, root: Path) -> Iterator[str]:
    path = file.relative_to(root)
    module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    unit = _unit(module)
    if unit != FRONT_DESK and unit not in HEIGHT:
        yield f"{path}: {unit} is not in the picture; add it to FLOORS in tests/test_floors.py"
        return
    source = ast.parse(file.read_bytes(), str(path))
    for line, reason in (
        *_upward(source, unit),
        *_away_from_home(source, module),
        *_spelt_keys(source, module),
    ):
        yield f"{path}:{line}: {reason}"


def _unit(module: str) -> str:
    top, _, rest = module.partition(".")
    if top == "resweb":
        return top
    return rest.partition(".")[0] or FRONT_DESK


def _upward(source: ast.Module, unit: str) -> Iterator[tuple[int, str]]:
    typing_only = _inside(source, ast.If, lambda node: "TYPE_CHECKING" in ast.dump(node.test))
    in_function = _inside(source, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
    as_program = _inside(source, ast.If, lambda node: "__main__" in ast.dump(node.test))
    allowed = [
        (typing_only, TYPE_LOOK_UPS),
        (in_function, LOOK_UPS),
        (as_program, COMMANDS),
    ]
    for node in ast.walk(source):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, "a relative import; write it out from pyres on"
        for other in _units_imported(node):
            if any(node in nodes and (unit, other) in pairs for nodes, pairs in allowed):
                continue
            if reason := _why_not(unit, other):
                yield node.lineno, reason
            elif node in in_function:
                yield node.lineno, f"{unit} imports {other} inside a function; import it on top"


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
        # A name that is no unit is one that the front desk gives out.
        return [alias.name if alias.name in HEIGHT else FRONT_DESK for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and not node.level:
        modules = [node.module or ""]
    else:
        return []
    return [_unit(module) for module in modules if module.split(".")[0] in ("pyres", "resweb")]


def _why_not(unit: str, other: str) -> str:
    if unit in (other, FRONT_DESK):
        return ""
    if other == FRONT_DESK:
        return "" if unit in GUESTS else f"{unit} imports pyres itself; import what it gives out"
    if other not in HEIGHT:
        return f"{unit} imports {other}, which is not in the picture"
    if other in KNOWS_ONLY.get(unit, HEIGHT) and unit in KNOWN_ONLY_TO.get(other, HEIGHT):
        return "" if HEIGHT[other] < HEIGHT[unit] else f"{unit} imports {other}, not below it"
    return f"{unit} must not know {other}"


def _away_from_home(source: ast.Module, module: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(source):
        for used in _used_names(node):
            home = next((thing for thing in HOMES if f"{used}.".startswith(f"{thing}.")), None)
            if home is None or HOMELESS.fullmatch(used):
                continue
            if not any(f"{module}.".startswith(f"{place}.") for place in HOMES[home]):
                yield node.lineno, f"{used} is at home in {' and '.join(HOMES[home])} alone"


def _used_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        # `import signal` alone does nothing yet; what is taken from it is looked at by itself.
        return [alias.name for alias in node.names if alias.name != "signal" or alias.asname]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return [f"{node.value.id}.{node.attr}"] if node.value.id in ("os", "signal") else []
    return []


def _spelt_keys(source: ast.Module, module: str) -> Iterator[tuple[int, str]]:
    if module in KEY_NAMES:
        return
    for node in ast.walk(source):
        if isinstance(node, ast.Constant) and _text(node.value).startswith("resque:"):
            yield node.lineno, f"{node.value!r} spells a key; Keys in store/keys.py names it"


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def test_the_source_is_built_as_the_picture_says():
    assert faults(ROOT) == []


def test_every_unit_stands_on_one_floor():
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
    ("pyres/worker.py", "from pyres.inspector import Inspector", "worker must not know inspector"),
    ("pyres/worker.py", "from . import client", "a relative import"),
    ("pyres/worker.py", "from pyres.nowhere import x", "nowhere, which is not in the picture"),
    ("pyres/utils.py", "", "utils is not in the picture; add it to FLOORS"),
    ("resweb/app.py", "from pyres.worker import Worker", "resweb must not know worker"),
    ("pyres/worker.py", "from resweb import app", "worker imports resweb"),
    ("pyres/client.py", "from redis import Redis", "redis.Redis is at home in pyres.store alone"),
    ("pyres/client.py", "def f():\n    import redis.client", "redis.client is at home"),
    ("pyres/worker.py", "import os\nos.kill(1, 9)", "os.kill is at home in pyres.process alone"),
    ("pyres/worker.py", "from os import waitpid", "os.waitpid is at home"),
    ("pyres/worker.py", "import signal\nsignal.signal(15, f)", "signal.signal is at home"),
    ("pyres/worker.py", "import signal as s", "signal is at home"),
    ("pyres/worker.py", "from signal import signal", "signal.signal is at home"),
    ("pyres/logs.py", "import os\nos.environ['A']", "os.environ is at home in pyres.scripts"),
    ("pyres/worker.py", "import argparse", "argparse is at home"),
    ("pyres/failure/redis.py", "import smtplib", "smtplib is at home in pyres.failure.mail alone"),
    ("pyres/scripts.py", "import flask", "flask is at home in resweb alone"),
    ("pyres/payload.py", "import msgspec", "msgspec is at home in pyres.plain_json alone"),
    ("pyres/worker.py", 'x = f"resque:stat:{y}"', "spells a key"),
    ("resweb/app.py", 'x = b"resque:queues"', "spells a key"),
]


@pytest.mark.parametrize(("file", "source", "fault"), BAD)
def test_a_bad_import_is_told_with_its_file(tmp_path, file, source, fault):
    write(tmp_path, file, source)

    (told,) = faults(tmp_path)

    assert told.startswith(f"{file}:")
    assert fault in told


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
def test_what_the_picture_allows_is_no_fault(tmp_path, file, source):
    write(tmp_path, file, source)

    assert faults(tmp_path) == []


def write(folder: Path, file: str, source: str) -> None:
    """A tree of one file."""
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
