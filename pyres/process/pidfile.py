"""One process, one file with its pid."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType

from pyres.exceptions import BadOptionError
from pyres.process.children import alive


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
        """Write the file; its folders are made."""
        own = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            own.write_text(f"{os.getpid()}\n")
        except OSError as error:
            raise BadOptionError(
                f"the pidfile {self.path} cannot be written: {error.strerror}"
            ) from None
        try:
            self._claim(own)
        finally:
            own.unlink(missing_ok=True)
        self._pid = os.getpid()

    def _claim(self, own: Path) -> None:
        # link() makes the whole file appear at once or fails: of two that start together one wins.
        for _ in range(3):
            with contextlib.suppress(FileExistsError):
                os.link(own, self.path)
                return
            elder = self._elder()
            if elder is not None and elder != os.getpid() and alive(elder):
                raise BadOptionError(
                    f"the pidfile {self.path} belongs to process {elder}, which lives"
                )
            self.path.unlink(missing_ok=True)
        raise BadOptionError(f"the pidfile {self.path} is taken again and again by another process")

    def _elder(self) -> int | None:
        try:
            return int(self.path.read_text().strip())
        except (OSError, ValueError):
            return None

    def remove(self) -> None:
        """Remove the file, if this process wrote it and it is still ours."""
        if self._pid == os.getpid() == self._elder():
            self.path.unlink(missing_ok=True)
