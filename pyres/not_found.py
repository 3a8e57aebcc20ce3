"""Error texts for a class name in a payload that cannot be imported."""

from __future__ import annotations

import os
import sys
import sysconfig
from types import ModuleType
from typing import Any

#: Folders of the import path that an error names, besides those of installed packages.
MAX_SHOWN_FOLDERS = 5


def no_module(name: str, module: str) -> str:
    """The text for a name whose module does not exist."""
    text = f"class {name!r} not found: there is no module {module!r} in {_searched()}"
    if "." in name:
        return f"{text}; name its folder with --path, or start the worker there"
    return (
        f"{text}; --require the module that has @job(name={name!r}), "
        "or name the folder of its module with --path"
    )


def no_attribute(name: str, module: ModuleType, owner: Any, missing: str) -> str:
    """The text for a name whose module exists, while `owner`, the module or a class in it, has no
    attribute `missing`.
    """
    if name.startswith("__main__."):
        return (
            f"class {name!r} not found: it was defined in the script or session that enqueued "
            f"it, and what runs as __main__ here has no {missing!r}; move it into a module that "
            "the worker can import"
        )
    shown = getattr(owner, "__name__", repr(owner))
    text = f"class {name!r} not found: {shown} has no {missing!r}"
    file = getattr(module, "__file__", None)
    text += f"; the module is {file}" if file else ""
    if module.__name__.partition(".")[0] in sys.stdlib_module_names:
        text += ", which is part of Python: rename your own module"
    return text


def _searched() -> str:
    folders = [os.path.abspath(folder) for folder in sys.path if not _is_of_python(folder)]
    shown = [*dict.fromkeys(folders)][:MAX_SHOWN_FOLDERS]
    return " or ".join([*shown, "the installed packages"])


def _is_of_python(folder: str) -> bool:
    """Whether a folder is the standard library, or has the installed packages."""
    library = sysconfig.get_path("stdlib")
    zipped = f"python{sys.version_info[0]}{sys.version_info[1]}.zip"
    names = ("site-packages", "dist-packages", zipped)
    return folder.startswith(library) or os.path.basename(folder) in names
