"""One failure to several backends."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any

from pyres.failure.base import BaseBackend
from pyres.failure.redis import RedisBackend

if TYPE_CHECKING:
    from pyres.client import ResQ

logger = logging.getLogger(__name__)


class MultipleBackend(BaseBackend):
    """Saves to every class in `classes` and reads from the first.

    One backend's error is logged and does not stop the others; only when all of them failed is the
    last error raised, so that the job's failure is recorded elsewhere and not lost.
    """

    classes: list[type[BaseBackend]] = [RedisBackend]

    def save(self, resq: ResQ | None = None) -> None:
        """Save the failure everywhere. Raises the last error when no backend could."""
        errors = []
        for backend in self.classes:
            try:
                self._made(backend).save(resq)
            except Exception as error:  # noqa: BLE001 - the border around a failure backend (rule 8)
                logger.exception(
                    "%s could not save a failure of queue %s", backend.__name__, self._queue
                )
                errors.append(error)
        if len(errors) == len(self.classes) and errors:
            raise errors[-1]

    @functools.cached_property
    def backends(self) -> list[BaseBackend]:
        """A backend of each class for this failure, for a save() of one's own. From pyres 1.5."""
        return [self._made(backend) for backend in self.classes]

    def _made(self, backend: type[BaseBackend]) -> BaseBackend:
        """This failure as one of the backends has it."""
        made = backend(self.exception, self._queue, self._payload, self._worker)
        made.raw_payload, made.retried = self.raw_payload, self.retried
        return made

    @classmethod
    def first(cls) -> Any:
        """The backend that is read from; Resque's own when there is none."""
        return cls.classes[0] if cls.classes else RedisBackend

    @classmethod
    def count(cls, resq: ResQ, *args: Any, **kwargs: Any) -> int:
        return cls.first().count(resq, *args, **kwargs)

    @classmethod
    def all(cls, resq: ResQ, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        return cls.first().all(resq, *args, **kwargs)

    @classmethod
    def clear(cls, resq: ResQ, *args: Any, **kwargs: Any) -> int:
        return cls.first().clear(resq, *args, **kwargs)

    @classmethod
    def reader(cls) -> Any:
        """The backend that retry and delete are asked of."""
        return cls.first()
