"""Checking that pyres' package `resweb` is installed, and not that of another distribution."""

from __future__ import annotations

import importlib
import json
from importlib.metadata import PackageNotFoundError, distribution

from pyres.exceptions import BadOptionError
from pyres.version import __version__


def refuse_other_resweb() -> None:
    """Raises BadOptionError, with two commands that repair the installation, where the `resweb` for
    pyres 1.5 is installed, or has removed files of pyres when it was uninstalled.
    """
    other = _version_of("resweb")
    if other is None and _page_is_ours():
        return
    reason = (
        "files of pyres are missing from its package 'resweb'"
        if other is None
        else f"resweb {other}, the page of pyres 1.5, is installed over the package of that name"
    )
    repair = f"pip uninstall -y resweb && pip install --force-reinstall --no-deps {_source()}"
    raise BadOptionError(f"{reason}; to repair it, run: {repair}")


def _version_of(name: str) -> str | None:
    try:
        return distribution(name).version
    except PackageNotFoundError:
        return None


def _page_is_ours() -> bool:
    try:
        page = importlib.import_module("resweb")
    except ModuleNotFoundError:
        return False
    return getattr(page, "DISTRIBUTION", None) == "pyres"


def _source() -> str:
    """What pyres was installed from, as an argument of `pip install`."""
    try:
        raw = distribution("pyres").read_text("direct_url.json")
    except PackageNotFoundError:
        raw = None
    if raw is None:
        return f"pyres=={__version__}"
    origin = json.loads(raw)
    url, vcs = origin["url"], origin.get("vcs_info")
    if vcs:
        return f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    return f"-e {url}" if origin.get("dir_info", {}).get("editable") else str(url)
