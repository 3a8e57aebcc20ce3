"""What mends an installation depends on where pyres was installed from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyres.exceptions import BadOptionError
from pyres.installation import refuse_other_resweb
from pyres.version import __version__

COMMIT = "1a2b3c4d5e6f7a8b9c0d1a2b3c4d5e6f7a8b9c0d"


def installed(folder: Path, name: str, version: str, origin: Any = None) -> None:
    """What pip writes down of a package that it has installed."""
    facts = folder / f"{name}-{version}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if origin is not None:
        (facts / "direct_url.json").write_text(json.dumps(origin))


def test_an_installation_without_the_old_page_is_complete() -> None:
    refuse_other_resweb()


@pytest.mark.parametrize(
    ("origin", "source"),
    [
        (None, f"pyres=={__version__}"),
        ({"url": "file:///w/pyres.whl", "archive_info": {}}, "file:///w/pyres.whl"),
        ({"url": "file:///src", "dir_info": {"editable": True}}, "-e file:///src"),
        ({"url": "file:///src", "dir_info": {}}, "file:///src"),
        (
            {"url": "https://host/pyres", "vcs_info": {"vcs": "git", "commit_id": COMMIT}},
            f"git+https://host/pyres@{COMMIT}",
        ),
    ],
)
def test_the_old_page_is_refused_with_the_place_that_pyres_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: Any, source: str
) -> None:
    installed(tmp_path, "pyres", __version__, origin)
    installed(tmp_path, "resweb", "0.1.7")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(BadOptionError) as refused:
        refuse_other_resweb()

    assert str(refused.value) == (
        "resweb 0.1.7, the page of pyres 1.5, is installed over the package of that name; to "
        "repair it, run: "
        f"pip uninstall -y resweb && pip install --force-reinstall --no-deps {source}"
    )
