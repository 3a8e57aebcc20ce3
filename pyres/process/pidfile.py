"""A file with the pid of a daemon, which prevents a second one."""

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

#: How often the file may be created by another process while this one tries to.
_MAX_TRIES = 10


class PidFile:
    """A file with the pid of this process, while the `with` block lasts.

    Raises BadOptionError if the file names a running process; a stale file is replaced.
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
        """Write the file, and create its folders. Raises BadOptionError also if it cannot be
        written.
        """
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
        """Write this process's pid to a file of its own; that file's path."""
        handle, own = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        with open(handle, "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        os.chmod(own, 0o644)
        return own

    def _acquire(self, own: str) -> None:
        # link() creates the whole file at once or fails: of two that start together one succeeds.
        for _ in range(_MAX_TRIES):
            with contextlib.suppress(FileExistsError):
                os.link(own, self.path)
                return
            with contextlib.suppress(FileNotFoundError):  # its owner removed it in the meantime
                self._remove_stale()
        raise BadOptionError(f"the pidfile {self.path} is created repeatedly by another process")

    def _remove_stale(self) -> None:
        self._refuse_running_owner()
        if fcntl is None:
            # On Windows an open file cannot be removed, so it cannot be locked as below.
            self.path.unlink()
            return
        with open(self.path, "r+b") as file:
            # Of two processes that read the same stale file, the second must not remove the new
            # file of the first: so it is locked and checked again before it is removed.
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(file.fileno()), self.path.stat()):
                self._refuse_running_owner()
                self.path.unlink()

    def _refuse_running_owner(self) -> None:
        owner = self._owner()
        if owner is not None and owner not in self._own_pids() and alive(owner):
            raise BadOptionError(
                f"the pidfile {self.path} belongs to process {owner}, which is running"
            )

    @staticmethod
    def _own_pids() -> set[int]:
        """The pids that mean this process; also 1, if that is its parent."""
        # Then process 1 is the daemon's init, and an earlier daemon was process 1 itself.
        return {os.getpid(), 1} if os.getppid() == 1 else {os.getpid()}

    def _owner(self) -> int | None:
        try:
            return int(self.path.read_text().strip())
        except (OSError, ValueError):
            return None

    def remove(self) -> None:
        """Remove the file, if this process wrote it and it still has its pid."""
        if self._pid == os.getpid() == self._owner():
            self.path.unlink(missing_ok=True)
