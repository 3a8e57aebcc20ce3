"""A failure backend that saves to several others."""

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

    One backend's error is logged and does not stop the others. Only if all of them failed is the
    last error raised, so that the caller can record the job's failure in another way.
    """

    classes: list[type[BaseBackend]] = [RedisBackend]

    def save(self, resq: ResQ | None = None) -> None:
        """Save the failure with every backend. Raises the last error if all failed."""
        errors = []
        for backend in self.classes:
            try:
                self._for_backend(backend).save(resq)
            except Exception as error:  # noqa: BLE001 - a failure backend may raise anything
                logger.exception(
                    "%s could not save a failure of queue %s", backend.__name__, self._queue
                )
                errors.append(error)
        if len(errors) == len(self.classes) and errors:
            raise errors[-1]

    @functools.cached_property
    def backends(self) -> list[BaseBackend]:
        """This failure in each backend, for an overridden save(). From pyres 1.5."""
        return [self._for_backend(backend) for backend in self.classes]

    def _for_backend(self, backend: type[BaseBackend]) -> BaseBackend:
        """This failure in one of the backends."""
        failure = backend(self.exception, self._queue, self._payload, self._worker)
        failure.raw_payload, failure.retried = self.raw_payload, self.retried
        return failure

    @classmethod
    def first(cls) -> Any:
        """The backend to read from; RedisBackend if there is none."""
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
        """The backend that retries and deletes."""
        return cls.first()
