"""The tests that users of pyres 1.5 would run, run as they would run them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.servers import ROOT


def test_the_compat_tests_run_under_nosetests():
    pytest.importorskip("nose", reason="pynose is not installed")

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "nose", "tests/compat"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "\nOK" in done.stderr
