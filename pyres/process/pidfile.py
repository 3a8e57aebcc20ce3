"""One process, one file with its pid."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from types import TracebackType

from pyres.exceptions import BadOptionError
from pyres.process.children import alive

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: How often a file may change hands before our eyes.
_TRIES = 10


class PidFile:
    """The pid of this process in a file, while the `with` lasts.

    BadOptionError when the file names a process that lives; a stale file is replaced.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._pid = 0

    def __enter__(self) -> PidFile:
        self.create()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()

    def create(self) -> None:
        """Write the file; its folders are made. BadOptionError also where it cannot be written."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            own = self._write_own()
            try:
                self._acquire(own)
            finally:
                os.unlink(own)
        except OSError as error:
            raise BadOptionError(
                f"the pidfile {self.path} cannot be written: {error.strerror}"
            ) from None
        self._pid = os.getpid()

    def _write_own(self) -> str:
        """Our pid in a file that is nobody else's; its path."""
        handle, own = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        with open(handle, "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        os.chmod(own, 0o644)
        return own

    def _acquire(self, own: str) -> None:
        # link() makes the whole file appear at once or fails: of two that start together one wins.
        for _ in range(_TRIES):
            with contextlib.suppress(FileExistsError):
                os.link(own, self.path)
                return
            with contextlib.suppress(FileNotFoundError):  # its owner removed it in the meantime
                self._remove_stale()
        raise BadOptionError(f"the pidfile {self.path} is taken again and again by another process")

    def _remove_stale(self) -> None:
        self._refuse_a_live_elder()
        if fcntl is None:
            # There an open file cannot be removed, and with that the lock below cannot be had.
            self.path.unlink()
            return
        with open(self.path, "r+b") as file:
            # Of two that find the same stale file, the second must not remove what the first has
            # put in its place meanwhile: so it is locked, looked at again, and only then removed.
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(file.fileno()), self.path.stat()):
                self._refuse_a_live_elder()
                self.path.unlink()

    def _refuse_a_live_elder(self) -> None:
        elder = self._elder()
        if elder is not None and elder not in self._ours() and alive(elder):
            raise BadOptionError(f"the pidfile {self.path} belongs to process {elder}, which lives")

    @staticmethod
    def _ours() -> set[int]:
        """The pids that name us; process 1 is our init, where it is our parent."""
        # A daemon wrote that into the file while it was process 1 itself.
        return {os.getpid(), 1} if os.getppid() == 1 else {os.getpid()}

    def _elder(self) -> int | None:
        try:
            return int(self.path.read_text().strip())
        except (OSError, ValueError):
            return None

    def remove(self) -> None:
        """Remove the file, if this process wrote it and it is still ours."""
        if self._pid == os.getpid() == self._elder():
            self.path.unlink(missing_ok=True)
