"""Titles that are odd, and titles for which there is little room."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from pyres.process import title
from tests.servers import ROOT

#: Ruby Resque's own pattern (Resque::Worker#worker_pids).
RUBYS = re.compile(r"resque:work|resque:\sStarting|resque-[0-9]")


def shown(text: str, environ: dict[str, str]) -> str:
    """The title in /proc of a process with this environment."""
    code = (
        "import sys; from pyres.process.title import set_title; set_title(eval(sys.argv[1])); "
        "raw = open('/proc/self/cmdline', 'rb').read(); "
        "sys.stdout.buffer.write(raw.strip(b'\\0 '))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, ascii(text)],
        capture_output=True,
        env={"PYTHONPATH": str(ROOT), **environ},
        check=True,
    )
    return run.stdout.decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pyres_worker-1 [q]: Job\0Name", "pyres_worker-1 [q]: Job?Name"),
        ("pyres_worker-1 [\udcff]: Waiting", "pyres_worker-1 [?]: Waiting"),
        ("pyres_worker-1 [größe]: Waiting", "pyres_worker-1 [größe]: Waiting"),
        ("", ""),
    ],
)
def test_a_title_may_contain_any_text_of_a_payload(text: str, expected: str) -> None:
    assert shown(text, {}) == expected


@pytest.mark.parametrize("queue", ["mail", "größe"])
def test_a_long_title_keeps_the_mark_that_ruby_searches_for(queue: str) -> None:
    """If it was cut off, Ruby considered the worker dead and pruned it."""
    queues = [f"{queue}{n}" for n in range(1000)]

    for text in (title.worker_title(queues, "Waiting"), title.minion_title(1, ",".join(queues))):
        seen = shown(text, {})

        assert len(seen) < len(text)
        assert seen[:12] == text[:12]
        assert RUBYS.search(seen)


def test_a_title_that_fits_is_shown_whole() -> None:
    text = title.worker_title(["a", "b"], "Waiting for a,b")

    assert shown(text, {"ROOM": "x" * 200}) == text


def test_a_manager_is_not_a_worker_for_ruby_however_long_its_title() -> None:
    assert not RUBYS.search(shown(title.manager_title(f"running {list(range(2000))}"), {}))
