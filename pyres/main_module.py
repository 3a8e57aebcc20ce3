"""The name by which another process can import the script that this one runs as `__main__`."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from types import ModuleType

#: The second is the script's name in the children of multiprocessing's spawn.
NAMES = ("__main__", "__mp_main__")


def importable_name() -> str | None:
    """`jobs` for a script that `import jobs` would find, `pkg.mod` for `python -m pkg.mod`.

    None for an interactive session, for `-c`, and for a file that is not on the import path.
    """
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    return _importable_name(getattr(main, "__file__", None), spec.name if spec else None)


def module_named(name: str) -> ModuleType | None:
    """The module of this name if it is imported, or runs as `__main__`; nothing is imported."""
    if name == importable_name():
        return sys.modules["__main__"]
    return sys.modules.get(name)


# Cached: a script that changes the import path later keeps one name for its jobs.
@functools.lru_cache(maxsize=16)
def _importable_name(file: str | None, name: str | None) -> str | None:
    if file is None:
        return None
    name = name or os.path.splitext(os.path.basename(file))[0]
    if name in NAMES or not all(part.isidentifier() for part in name.split(".")):
        return None
    return name if _leads_to(name, file) else None


def _leads_to(name: str, file: str) -> bool:
    """Whether an import of this name would find this file."""
    try:
        module = sys.modules.get(name)
        origin = (
            module.__file__ if module else getattr(importlib.util.find_spec(name), "origin", "")
        )
        return bool(origin) and os.path.samefile(str(origin), file)
    except (ImportError, AttributeError, ValueError, OSError):
        return False
