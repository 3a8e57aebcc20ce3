"""The failures of a server, whichever backend wrote them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyres.failure.redis import RedisBackend

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
