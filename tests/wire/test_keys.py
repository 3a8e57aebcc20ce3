"""Every key that Ruby writes has its name, and its type, in pyres.store.keys."""

from __future__ import annotations

import inspect
import re

import pytest

from pyres.store.keys import Keys
from tests.wire.comparing import golden, names

#: A part that only a family's method can have put into a key.
PART = "part"

#: Families whose keys contain a member of a set or a payload, by method and argument.
ARGUMENTS = {
    "queue": PART,
    "worker": PART,
    "started": PART,
    "stat": PART,
    "failed_of": PART,
    "delayed": PART,
    "timestamps": PART.encode(),
    "scheduler_lock": None,
}


def named():
    """(pattern, type, name) of every key that Keys can spell."""
    keys = Keys()
    source = inspect.getsource(Keys)
    single = re.findall(r"#: (STRING|LIST|SET|ZSET|HASH)\b[^\n]*\n\s+self\.(\w+) =", source)
    found = [(re.escape(getattr(keys, name)), kind.lower(), name) for kind, name in single]
    for name, argument in ARGUMENTS.items():
        method = getattr(keys, name)
        key = method() if argument is None else method(argument)
        text = key.decode() if isinstance(key, bytes) else key
        kind = re.match(r"\w+", inspect.getdoc(method))[0].lower()
        part = r"\d+" if name == "delayed" else ".+"
        found.append((re.escape(text).replace(PART, part), kind, name))
    return found


def golden_keys():
    """{key: types} of every key in any dump or command."""
    found = {}
    for name in names():
        file = golden(name)
        for key, held in file["redis"].items():
            found.setdefault(key, set()).add(held["type"])
        for words in file.get("commands", []):
            for word in words:
                if re.match(r"resque:\S", word):
                    found.setdefault(word, set())
    return found


@pytest.mark.parametrize(("key", "types"), golden_keys().items())
def test_a_key_of_ruby_is_named_with_its_type(key, types):
    kinds = {kind for pattern, kind, _ in named() if re.fullmatch(pattern, key)}

    assert kinds, f"Keys has no name for {key}"
    assert types <= kinds


def test_there_are_keys_to_compare_with_and_most_of_them_are_in_dumps():
    found = golden_keys()

    assert len(found) > 40
    assert sum(bool(types) for types in found.values()) > 40


def test_no_two_single_keys_are_the_same():
    patterns = [pattern for pattern, _, name in named() if name not in ARGUMENTS]

    assert len(patterns) == len(set(patterns)) > 10
