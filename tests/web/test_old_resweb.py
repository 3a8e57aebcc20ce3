"""PyPI's `resweb` 0.1.7, the page of pyres 1.5, has the same package name: pyres_web's error."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.servers import ROOT

pytestmark = pytest.mark.slow

OLD = "resweb==0.1.7"

#: The files from which a wheel is built.
SOURCES = ["pyres", "resweb", "pyproject.toml", "setup.py", "README.md", "LICENSE"]

#: pyres_web, with the dependencies of the tests at the end of sys.path.
COMMAND = """
import sys
sys.path.append(sys.argv.pop(1))
from pyres.scripts import pyres_web
raise SystemExit(pyres_web())
"""

STYLE = """
import sys
sys.path.append(sys.argv.pop(1))
from resweb.app import create_app
app = create_app(["127.0.0.1:1"])
print(app.test_client().get("/static/style.css").status_code)
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel of this tree and one of the old page."""
    folder = tmp_path_factory.mktemp("wheels")
    # A copy, since building writes into the tree.
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    old = build(OLD, folder)
    if old.returncode:
        pytest.skip(f"cannot download {OLD}, is the package index reachable? {old.stderr}")
    ours = build(str(source), folder)
    assert ours.returncode == 0, ours.stderr
    return folder


def build(what: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Build a wheel of it into the folder."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), what]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Environment:
    """A virtual environment, with `pip` on its PATH."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        self.wheels = wheels
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.python = folder / "bin/python"
        pip = folder / "bin/pip"
        pip.write_text(f'#!/bin/sh\nexec {sys.executable} -m pip --python {self.python} "$@"\n')
        pip.chmod(0o755)
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.env = {**inherited, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}

    def install(self, name: str) -> None:
        (wheel,) = self.wheels.glob(f"{name}-*.whl")
        self.shell(f"pip install -q --no-deps {wheel}")

    def shell(self, line: str) -> None:
        subprocess.run(line, shell=True, env=self.env, cwd=self.wheels, check=True)

    def run(self, source: str, *args: str) -> subprocess.CompletedProcess[str]:
        command = [self.python, "-c", source, sysconfig.get_path("purelib"), *args]
        return subprocess.run(
            command, capture_output=True, text=True, env=self.env, cwd=self.wheels, check=False
        )


@pytest.mark.parametrize(
    "steps",
    [
        ["install resweb", "install pyres"],
        ["install pyres", "install resweb"],
        ["install resweb", "install pyres", "uninstall resweb"],
        ["install pyres", "install resweb", "uninstall resweb"],
    ],
    ids=", ".join,
)
def test_the_error_names_two_commands_that_repair_the_installation(
    wheels: Path, tmp_path: Path, steps: list[str]
) -> None:
    environment = Environment(tmp_path / "venv", wheels)
    for step in steps:
        what, name = step.split()
        environment.install(name) if what == "install" else environment.shell(
            f"pip uninstall -q -y {name}"
        )

    refused = environment.run(COMMAND, "--port", "1")

    assert refused.returncode == 2, refused.stderr
    (line,) = refused.stderr.splitlines()
    assert line.startswith("pyres_web: error: ")

    environment.shell(line.partition("to repair it, run: ")[2])

    assert environment.run(STYLE).stdout == "200\n"
    assert environment.run(COMMAND, "--hash-password").returncode == 0


def test_pyres_alone_is_not_refused(wheels: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv", wheels)
    environment.install("pyres")

    assert environment.run(COMMAND, "--hash-password").returncode == 0
    assert environment.run(STYLE).stdout == "200\n"
