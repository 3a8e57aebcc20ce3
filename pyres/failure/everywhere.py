"""All failures of a server, whichever backend wrote them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyres.failure.redis import RedisBackend, push_removed
from pyres.store import Removal

if TYPE_CHECKING:
    from pyres.client import ResQ


class EveryList(RedisBackend):
    """The list `failed` and the lists of the multi-queue backend, as one."""

    @classmethod
    def lists(cls, resq: ResQ, queue: str | None = None) -> list[str]:
        """All failure lists; a queue's failures may be in any of them."""
        return list(dict.fromkeys(["failed", *resq.store.failed.names()]))


def single_list(name: str) -> type[EveryList]:
    """The same for one of the lists."""

    class OneList(EveryList):
        @classmethod
        def lists(cls, resq: ResQ, queue: str | None = None) -> list[str]:
            return [name]

    return OneList


def delete_row(resq: ResQ, name: str, index: int, raw: bytes) -> int:
    """Remove the record if it is at this index of a list; else 0."""
    return resq.store.failed.remove_at(index, Removal(raw), name)


def retry_row(resq: ResQ, name: str, index: int, raw: bytes, queue: str, encoded: bytes) -> int:
    """Remove the record and push its payload to a queue, in one step, if it is at this index of a
    list; else 0.
    """
    if not resq.overrides_push:
        return resq.store.failed.remove_at(index, Removal(raw, queue, encoded), name)
    # In two steps, as in pyres 1.5, because a subclass overrides push().
    if not delete_row(resq, name, index, raw):
        return 0
    push_removed(resq, queue, encoded, raw, name)
    return 1
