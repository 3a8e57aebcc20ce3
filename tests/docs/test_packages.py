"""The wheel and the sdist hold what pyres needs, and work where the source tree is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.docs.blocks import commands
from tests.servers import ROOT

pytestmark = pytest.mark.slow

#: What a clone does not have, and what building leaves behind.
NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv*", "*.egg-info", "build", "dist", "node_modules", "__pycache__", ".*_cache",
    ".hypothesis", "*.rdb",
)  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of the source, so that building leaves nothing in it."""
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("tree") / "pyres", ignore=NOT_SOURCE))


@pytest.fixture(scope="module")
def packages(tree: Path, tmp_path_factory) -> dict[str, Path]:
    """The sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("packages")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(tree))
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def run(*command: str, cwd: Path | None = None, path: str = "") -> str:
    """What the command prints; an AssertionError with it when the command fails."""
    env = {**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"}
    # The dependencies are there already, so pip needs no network.
    env |= {"PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1"}
    env.pop("PYTHONPATH", None)
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    """The bin folder of a new environment: this one's dependencies, but not the source tree.

    A folder that a .pth file names is searched for modules; the .pth files in it are not read, so
    the editable installation of the source tree is left out.
    """
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    # Python 3.11 puts a setuptools into each environment that is too old to build pyres.
    shutil.rmtree(packages / "setuptools", ignore_errors=True)
    return folder / "bin"


def installed_in(clean: Path, cwd: Path) -> bool:
    """Whether `import pyres` outside the tree finds the one of this environment."""
    code = "import pyres; print(pyres.__file__)"
    return run(str(clean / "python"), "-c", code, cwd=cwd).startswith(str(clean.parent))


def tree_files(tree: Path, *folders: str) -> set[str]:
    """The files below these folders, relative to the tree."""
    return {
        str(path.relative_to(tree))
        for folder in folders
        for path in (tree / folder).rglob("*")
        if path.is_file()
    }


def test_the_wheel_holds_every_file_of_both_packages(tree, packages):
    with zipfile.ZipFile(packages["wheel"]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert names == tree_files(tree, "pyres", "resweb")
    assert {"pyres/py.typed", "resweb/py.typed", "pyres/store/lua/fetch.lua"} <= names


def test_the_sdist_holds_every_file_of_the_source(tree, packages):
    with tarfile.open(packages["sdist"]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}

    folders = ("pyres", "resweb", "scripts", "docs", "tests", "benchmarks", ".github")
    assert tree_files(tree, *folders) - names == set()
    assert {"README.md", "LICENSE", "SECURITY.md", "Makefile", "pyproject.toml"} <= names


def test_the_unpacked_sdist_passes_the_tests_of_its_files(packages, tmp_path):
    with tarfile.open(packages["sdist"]) as sdist:
        sdist.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()

    output = run(sys.executable, "-m", "pytest", "-q", "tests/test_floors.py", cwd=folder)

    assert "passed" in output


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_the_demo_runs_from_an_installed_package(kind, packages, clean, tmp_path):
    python = str(clean / "python")
    run(python, "-m", "pip", "install", "--force-reinstall", str(packages[kind]))

    output = run(python, "-m", "pyres.demo", cwd=tmp_path)

    assert "0 workers left" in output
    assert installed_in(clean, tmp_path)


def test_the_install_commands_of_readme_install_this_pyres(tree, clean, tmp_path):
    lines = commands(ROOT / "README.md")
    build = [line for line in lines if line.startswith("pip wheel ")]
    install = [line for line in lines if line.startswith("pip install ")]
    assert (len(build), len(install)) == (1, 4)

    run("sh", "-c", build[0], cwd=tree, path=str(clean))
    for command in install:
        run(str(clean / "pip"), "uninstall", "--yes", "pyres")
        run("sh", "-c", command, cwd=tree, path=str(clean))
        assert installed_in(clean, tmp_path)
