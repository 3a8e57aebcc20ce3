"""Whether pip has installed pyres whole, and what mends it if not."""

from __future__ import annotations

import importlib
import json
from importlib.metadata import PackageNotFoundError, distribution

from pyres.exceptions import BadOptionError
from pyres.version import __version__


def refuse_other_resweb() -> None:
    """BadOptionError, with two commands that mend it, where the `resweb` that was written for
    pyres 1.5 is installed, or has taken files of pyres along when it was uninstalled.
    """
    other = _version_of("resweb")
    if other is None and _page_is_ours():
        return
    reason = (
        "files of pyres are missing from its package 'resweb'"
        if other is None
        else f"resweb {other}, the page of pyres 1.5, is installed over the package of that name"
    )
    mend = f"pip uninstall -y resweb && pip install --force-reinstall --no-deps {_source()}"
    raise BadOptionError(f"{reason}; this mends it: {mend}")


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
