"""The failures of a server, whichever backend wrote them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyres.failure.redis import RedisBackend, push_removed
from pyres.store import Removal

if TYPE_CHECKING:
    from pyres.client import ResQ


class EveryList(RedisBackend):
    """The list `failed` and those of the multi-queue backend, as one."""

    @classmethod
    def lists(cls, resq: ResQ, queue: str | None = None) -> list[str]:
        """Every list that there is; a queue's failures may stand in any of them."""
        return list(dict.fromkeys(["failed", *resq.store.failed.names()]))


def only(name: str) -> type[EveryList]:
    """The same for one of the lists."""

    class OneList(EveryList):
        @classmethod
        def lists(cls, resq: ResQ, queue: str | None = None) -> list[str]:
            return [name]

    return OneList


def delete_row(resq: ResQ, name: str, index: int, raw: bytes) -> int:
    """Remove the record that was seen at an index of a list; 0 when it is gone."""
    return resq.store.failed.remove_at(index, Removal(raw), name)


def retry_row(resq: ResQ, name: str, index: int, raw: bytes, queue: str, encoded: bytes) -> int:
    """Remove the record that was seen at an index of a list and put its payload on a queue: both or
    neither. 0 when it is gone.
    """
    if not resq.overrides_push:
        return resq.store.failed.remove_at(index, Removal(raw, queue, encoded), name)
    # As pyres 1.5, whose push() a subclass overrides: in two steps.
    if not delete_row(resq, name, index, raw):
        return 0
    push_removed(resq, queue, encoded, raw, name)
    return 1
