"""pyres 1.5's names for what differs in Python 2 and 3, for code that still imports them."""

from __future__ import annotations

import pickle
import subprocess as commands
import warnings

__all__ = [
    "PY3",
    "binary_type",
    "class_types",
    "commands",
    "integer_types",
    "long",
    "pickle",
    "string_types",
    "text_type",
]

warnings.warn(
    "pyres.compat is not needed on Python 3 and will be removed; use str, int and bytes",
    DeprecationWarning,
    stacklevel=2,
)

PY3 = True
string_types = (str,)
integer_types = (int,)
class_types = (type,)
text_type = str
binary_type = bytes
long = int
