"""GitHub's workflows and forms are valid, and use only what exists in the repository."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))
FORMS = sorted(set(GITHUB.glob("ISSUE_TEMPLATE/*.yml")) - {GITHUB / "ISSUE_TEMPLATE/config.yml"})
SCHEMAS = {
    **dict.fromkeys(WORKFLOWS, "vendor.github-workflows"),
    GITHUB / "dependabot.yml": "vendor.dependabot",
}

#: A form's elements, as GitHub names them.
ELEMENTS = {"markdown", "textarea", "input", "dropdown", "checkboxes"}


def load(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text("utf-8"))


def runs(path: Path) -> list[str]:
    """The shell text of each step of a workflow."""
    steps = [step for job in load(path)["jobs"].values() for step in job["steps"]]
    return [step["run"] for step in steps if "run" in step]


def make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    return set(re.findall(r"^([a-z][\w-]*):(?!=)", makefile, re.MULTILINE))


def installed(command: str) -> str:
    path = Path(sys.executable).parent / command
    return str(path) if path.exists() else shutil.which(command) or ""


@pytest.mark.parametrize(("path", "schema"), SCHEMAS.items(), ids=lambda value: Path(value).name)
def test_a_file_follows_githubs_schema(path, schema):
    program = installed("check-jsonschema")
    if not program:
        pytest.skip("check-jsonschema is not installed")

    command = [program, "--builtin-schema", schema, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_zizmor_finds_nothing_in_the_workflows():
    program = installed("zizmor")
    if not program:
        pytest.skip("zizmor is not installed; it has no wheel for this system")

    command = [program, "--offline", "--no-progress", str(GITHUB)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_make_target_of_a_workflow_is_in_the_makefile(path):
    used = {target for text in runs(path) for target in re.findall(r"\bmake ([\w-]+)", text)}

    assert used - make_targets() == set()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_to_a_commit_with_its_version_beside_it(path):
    uses = re.findall(r"uses: (.*)", path.read_text("utf-8"))

    assert uses
    assert [use for use in uses if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", use)] == []


def test_the_workflows_pin_each_action_to_one_commit():
    text = "".join(path.read_text("utf-8") for path in WORKFLOWS)

    pins = set(re.findall(r"uses: ([\w./-]+)@(\w+)", text))

    assert len({action for action, _ in pins}) == len(pins)


def test_ci_tests_each_python_that_the_metadata_names_with_each_server():
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = [re.fullmatch(r".* :: (3\.\d+)", text) for text in metadata["classifiers"]]

    matrix = load(GITHUB / "workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]

    assert matrix["python"] == [match[1] for match in named if match]
    assert matrix["server"] == ["redis-6", "redis-7", "valkey"]


def test_only_the_job_that_publishes_can_publish():
    workflow = load(GITHUB / "workflows/release.yml")

    (publishing,) = [
        job
        for job in workflow["jobs"].values()
        if any("gh-action-pypi-publish" in step.get("uses", "") for step in job["steps"])
    ]

    assert workflow["permissions"] == {}
    assert publishing["permissions"] == {"id-token": "write"}
    assert publishing["environment"]["name"] == "pypi"


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_has_a_name_a_description_and_known_elements(path):
    form = load(path)

    assert form["name"]
    assert form["description"]
    assert {element["type"] for element in form["body"]} <= ELEMENTS
    labelled = [element for element in form["body"] if element["type"] != "markdown"]
    assert all(element["attributes"]["label"] and element["id"] for element in labelled)


def test_the_hooks_before_a_commit_use_make_targets_that_exist():
    repositories = load(ROOT / ".pre-commit-config.yaml")["repos"]
    hooks = [hook for repository in repositories for hook in repository["hooks"]]

    entries = [hook["entry"] for hook in hooks if "entry" in hook]

    assert entries
    assert {entry.removeprefix("make ") for entry in entries} <= make_targets()
