"""Job: a payload and the class that it names; how it is performed, fails, or is retried."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple, TypeVar

from pyres import active_job, calling, decorators, failure, loading, payload, retrying, unique
from pyres.attempts import Attempts
from pyres.client import ResQ
from pyres.exceptions import (
    ENDING,
    ClassNotFoundError,
    DontPerform,
    NotAJobError,
    UndecodableError,
    UnencodableError,
)
from pyres.former_names import former_names
from pyres.hooks import hookless, hooks
from pyres.overrides import overridden, own_methods
from pyres.process.copies import end_copy
from pyres.shortening import cut, shortened

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: pyres' own ResQ.pop(), to detect an override.
_OWN_POP = own_methods(ResQ, ["pop"])

#: The types of arguments that the job's code could change in place.
_MUTABLE = (list, dict)


class Job:
    """One job from a queue. From pyres 1.5.

    `raw` are the payload's bytes as they were on the queue. `in_flight` is the value of
    `worker:<id>` when the job was fetched: the outcome is written only if it is unchanged.
    """

    #: Finds the class that a payload names; users may replace it.
    safe_str_to_class: Callable[[str], Any] = staticmethod(loading.safe_str_to_class)

    #: Characters of the arguments that str() shows, and so the log.
    max_shown_chars = 200

    #: How a daemon writes about the job; None: at once, and a connection error is raised.
    waiter: Callable[[Callable[[], Any]], Any] | None = None

    #: How the job ended, as the log says it: done, failed, skipped, retried.
    outcome = "done"

    #: Whether fail() has recorded a failure of this job, or a worker is about to.
    failure_handled = False

    _attempts: Attempts | None = None

    #: Whether this process has recorded a failure or retry of the job, or has tried to.
    outcome_written = False

    #: Whether the payload is Rails' wrapper of a job that is performed here, and the keyword
    #: arguments of that job.
    _is_active_job = False
    _keywords: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self,
        queue: str,
        payload: Any,
        resq: ResQ,
        worker: Any = None,
        *,
        raw: bytes | None = None,
        in_flight: bytes | None = None,
    ) -> None:
        self._queue = queue
        self._payload = payload
        self.resq = resq
        self._worker = worker
        self.raw = raw
        self.in_flight = in_flight
        self.enqueue_timestamp = (
            payload.get("enqueue_timestamp") if isinstance(payload, dict) else None
        )
        self._target: Any = None

    @classmethod
    def read(
        cls, queue: str, raw: bytes, resq: ResQ, worker: Any = None, in_flight: bytes | None = None
    ) -> Job:
        """The job of a raw payload; a malformed one becomes a job that fails when performed."""
        # Set, not passed: a subclass may have 1.5's __init__, which has neither parameter.
        job = cls(queue, payload.show(raw), resq, worker)
        job.raw, job.in_flight = payload.original(raw), in_flight
        return job

    @classmethod
    def reserve(
        cls, queues: str | Sequence[str], res: ResQ, worker: Any = None, timeout: float = 10
    ) -> Job | None:
        """Pop the next job, waiting up to `timeout` seconds; None when there is none.

        A plain pop, as in pyres 1.5, that writes no in-flight record.
        """
        names = [queues] if isinstance(queues, str) else list(queues)
        if overridden(res, _OWN_POP):
            queue, item = res.pop(names, timeout=timeout)
            return cls(queue, item, res, worker) if queue is not None and item else None
        popped = res._pop(names, 0 if res.blocking_pop is False else timeout)
        return cls.read(popped[0], popped[1], res, worker) if popped else None

    def __str__(self) -> str:
        fields = self._payload if isinstance(self._payload, dict) else {}
        name, args = fields.get("class"), fields.get("args")
        if data := active_job.job_data(fields):
            name, args = data["job_class"], data.get("arguments")
        return f"(Job{{{self._queue}}} | {name} | {shortened(args, self.max_shown_chars)})"

    def reconnecting(self, write: Callable[[], T]) -> T | None:
        """Run a write about the job. A daemon retries it while it is disconnected, and returns None
        if it has to stop.
        """
        return write() if self.waiter is None else self.waiter(write)

    @property
    def name(self) -> str:
        """The class as the payload names it."""
        name = self._payload.get("class") if isinstance(self._payload, dict) else None
        return name if isinstance(name, str) else "<no class>"

    @property
    def shown_name(self) -> str:
        """The class to display: for Rails' ActiveJob the job's own, not the wrapper's."""
        data = active_job.job_data(self._payload)
        return data["job_class"] if data else self.name

    @property
    def args(self) -> list[Any]:
        """The arguments; an empty list if they are missing or null, as in Ruby."""
        args = self._payload.get("args") if isinstance(self._payload, dict) else None
        return [] if args is None else args

    @property
    def loaded(self) -> bool:
        """Whether load() has found what the payload names."""
        return self._target is not None

    def _own_call(self) -> active_job.Call:
        """The arguments that the job's code is called with."""
        if self._is_active_job:
            return active_job.call(self._payload["args"][0])
        return active_job.Call(self._own_args(), {})

    def _own_args(self) -> list[Any]:
        """A copy of the arguments for the job's code, which may change them: a failure record, a
        retry and the unique lock need them as they were enqueued.
        """
        args = self.args
        if not any(isinstance(arg, _MUTABLE) for arg in args):
            return list(args)
        try:
            return copy.deepcopy(args)
        except RecursionError:
            # Other programs enqueue arguments that are nested too deep for deepcopy().
            if self.raw is None:
                raise
            return list(payload.parse(self.raw).get("args") or [])

    def load(self) -> Any:
        """The class or function that the payload names; imports it if needed.

        Raises UndecodableError for a malformed payload, ClassNotFoundError if the class does not
        exist, and what the import raises.
        """
        if self._target is None:
            self._check()
            self._target = self._find_target()
            if not callable(getattr(self._target, "perform", None)):
                self._target, target = None, self._target
                raise ClassNotFoundError(f"{self.name} is {target!r}, which has no perform()")
        return self._target

    def _find_target(self) -> Any:
        data = active_job.job_data(self._payload)
        if data is None or loading.registered(self.name) is not None:
            return self.safe_str_to_class(self._payload["class"])
        name = data["job_class"]
        if not getattr(loading.registered(name), "active_job", False):
            raise ClassNotFoundError(
                f"no job for Rails' ActiveJob class {name!r}: expected a function with "
                f"@job(name={name!r}, active_job=True) in a module that --require names"
            )
        self._is_active_job = True
        return self.safe_str_to_class(name)

    def _check(self) -> None:
        if not isinstance(self._payload, dict) or self._payload.get("class") == payload.UNDECODABLE:
            if self.raw is not None:
                payload.parse(self.raw)
            raise UndecodableError(
                f"invalid payload {self._payload!r}: expected an object with class and args"
            )
        if not isinstance(self._payload.get("class"), str):
            raise UndecodableError(
                f"the payload's class is {self._payload.get('class')!r}, not a name"
            )
        if not isinstance(self.args, list):
            raise UndecodableError(f"the payload's args are {self.args!r}, not a list")

    def perform(self) -> Any:
        """Run the job with its hooks; returns what its perform() returns, or None.

        Returns None if the job failed and will be retried; else raises what the job raised.
        """
        target = self.load()
        call = self._own_call()
        self._keywords = call.keywords
        metadata: dict[str, Any] = {"args": call.args}
        if not hookless(target):
            self._describe(metadata)
        self._release(target, "start")
        _bind_resq(target, self.resq)
        try:
            return self._perform(target, metadata)
        finally:
            _unbind_resq(target)

    def _describe(self, metadata: dict[str, Any]) -> None:
        """Add what pyres 1.5's hooks get beside the arguments."""
        metadata["failed"] = False
        if self.enqueue_timestamp:
            metadata["enqueue_timestamp"] = self.enqueue_timestamp
        metadata["perform_timestamp"] = self.resq.estimated_time()

    def _perform(self, target: Any, metadata: dict[str, Any]) -> Any:
        try:
            value = self._run(target, metadata)
        except DontPerform:
            self.outcome = "skipped"
            logger.info("%s was skipped: DontPerform was raised", self)
            self._finish(target)
            return None
        except SystemExit as exit_request:
            if exit_request.code in (None, 0):
                self._finish(target)
            raise
        except ENDING:
            raise
        except BaseException as error:
            metadata.update(
                failed=True, exception=error, retried=self.retry(target, self.args, error)
            )
            self._after(target, metadata)
            if not metadata["retried"]:
                raise
            text = cut(failure.base.exception_text(error), failure.base.MAX_ERROR_BYTES)
            logger.info("%s failed and will be retried: %s", self, text)
            return None
        self._after(target, metadata)
        self._finish(target)
        return value

    def _finish(self, target: Any) -> None:
        """Release the unique lock and the record of attempts of a job that has not failed."""
        self._release(target, "done")
        self._end_attempts(self.resq, target)

    def _release(self, target: Any, stage: str) -> None:
        """Release the unique lock, if it is to be released at this stage, "start" or "done"."""
        if getattr(target, "unique_for", None) is None:
            return
        until = unique.stage_of(target, self.name)
        # A lock that only expires must not be deleted because its job is in Redis no more.
        if until == stage or (not until and stage == "start"):
            digest = unique.digest(self.name, self.args)
            self.reconnecting(
                lambda: self.resq.store.unique.release(digest, stage, self._enqueued())
            )

    def _run(self, target: Any, metadata: dict[str, Any]) -> Any:
        args = metadata["args"]
        code = calling.entry_point(target)
        if self._keywords:
            code = functools.partial(code, **self._keywords)
        if hookless(target):
            return self._call(code, *args)
        before = getattr(target, "before_perform", None)
        if before:
            self._call(before, metadata)
        for hook in hooks(target, "before_perform"):
            self._call(hook, *args)
        value = self._wrapped(target, code, args)
        for hook in hooks(target, "after_perform"):
            self._call(hook, *args)
        return value

    def _call(self, code: Callable[..., Any], *args: Any) -> Any:
        """What the job's code returns; if the code has forked, the child process ends here."""
        pid = os.getpid()
        try:
            value = code(*args)
            if value is not None:
                value = calling.completed(value, self.name)
        except BaseException as error:
            if os.getpid() != pid:
                end_copy(error)
            raise
        if os.getpid() != pid:
            end_copy(None)
        return value

    def _wrapped(self, target: Any, code: Callable[..., Any], args: list[Any]) -> Any:
        """perform() within the around_perform hooks, the first by name outermost."""
        wraps = hooks(target, "around_perform")
        if not wraps:
            return self._call(code, *args)
        with contextlib.ExitStack() as around:
            if all(around.enter_context(_around(hook, args)) for hook in wraps):
                return self._call(code, *args)
        return None

    def _after(self, target: Any, metadata: dict[str, Any]) -> None:
        """Call pyres 1.5's after_perform, which gets the outcome and cannot change it."""
        after = getattr(target, "after_perform", None)
        if not after:
            return
        try:
            self._call(after, metadata)
        except ENDING:
            raise
        except BaseException:  # noqa: BLE001 - the job has finished or failed already; its hook changes neither
            logger.exception("after_perform of %s raised; the job's outcome is unchanged", self)

    # Failures and retries

    def fail(self, exception: BaseException | str, resq: ResQ | None = None) -> Any:
        """Record a failure of this job with the current backend; returns the failure."""
        recorded = payload.recordable(self._payload, self.raw)
        failed = failure.create(exception, self._queue, recorded, self._worker)
        failed.raw_payload = payload.own_bytes(self._payload, self.raw)
        failed.retried = self.attempts.retried
        failed.save(resq or self.resq)
        self.failure_handled = True
        self._release_failed(resq or self.resq)
        self._end_attempts(resq or self.resq, self._target)
        return failed

    def _release_failed(self, resq: ResQ) -> None:
        """Release the unique lock at stage "done"; the lock has its stage if there is no class."""
        if self._target is not None and getattr(self._target, "unique_for", None) is None:
            return
        if not isinstance(self.args, list):
            return
        with contextlib.suppress(UnencodableError):  # what cannot be enqueued has no lock
            digest = unique.digest(self.name, self.args)
            resq.store.unique.release(digest, "done", self._enqueued())

    def _enqueued(self) -> float | None:
        stamp = self.enqueue_timestamp
        return float(stamp) if isinstance(stamp, int | float) else None

    def failure_hooks(self, exception: BaseException) -> BaseException:
        """Run the class's on_failure hooks; returns the exception to record, which names the error
        of a hook that raised.
        """
        if self._target is None:
            return exception
        _bind_resq(self._target, self.resq)
        try:
            return self._after_failure_hooks(exception)
        finally:
            _unbind_resq(self._target)

    def _after_failure_hooks(self, exception: BaseException) -> BaseException:
        for hook in hooks(self._target, "on_failure"):
            try:
                self._call(hook, exception, *self._hook_args())
            except ENDING:
                raise
            except BaseException as second:  # noqa: BLE001 - the record names a hook's error, as in Resque
                text = (
                    f"Additional error ({_describe(second)}) occurred in running failure hooks for "
                    f"job {self}\nOriginal error that caused job failure was {_describe(exception)}"
                )
                return RuntimeError(text).with_traceback(exception.__traceback__)
        return exception

    def _hook_args(self) -> Sequence[Any]:
        """The arguments for on_failure hooks."""
        with contextlib.suppress(UndecodableError):  # the hooks get that error itself
            return self._own_call().args if self._is_active_job else self.args
        return self.args

    def retry(
        self, payload_class: Any, args: Sequence[Any], error: BaseException | None = None
    ) -> bool:
        """Retry the job by its class's settings; False if these do not ask for a retry, or no
        longer.
        """
        now = self.reconnecting(self.resq.server_time)
        if now is None:
            return False
        if retrying.is_retried(payload_class) and self.attempts.may_be_retry(payload_class):
            self.reconnecting(lambda: self.attempts.look(self.resq.store, now))
        first = self.attempts.first(now)
        reason = Exception() if error is None else error
        attempt = retrying.Attempt(
            reason, self.attempts.retried, first.timestamp(), now.timestamp()
        )
        wait = retrying.delay(payload_class, attempt)
        if wait is None:
            return False
        item = self._retried_payload(args, first, attempt.retried + 1, waits=wait > 0)
        # In UTC, so that the wait is exact when daylight saving time starts or ends.
        due = int((now.astimezone(UTC) + timedelta(seconds=wait)).timestamp()) if wait > 0 else None
        lock = unique.lock_for(payload_class, self.name, args, self._enqueued() or 0.0, wait)
        next_try = _Retry(payload_class, item, due, first, lock)
        written = self.reconnecting(
            lambda: self.record_outcome(lambda batch: self._write_retry(batch, next_try))
        )
        if written:
            self.outcome = "retried"
        return written is not None

    def _retried_payload(self, args: Sequence[Any], first: Any, number: int, waits: bool) -> bytes:
        """The payload of the retry, with its original bytes; with its queue if it is delayed."""
        retried_args = args if list(args) != self.args else self._payload.get("args", [])
        fields = {"class": self.name, "args": retried_args}
        if waits:
            fields["queue"] = self._queue
        others = {name: value for name, value in self._payload.items() if name != "queue"}
        others |= {"args": retried_args, "first_attempt": first, "retry_attempt": number}
        return payload.encode_like(fields | others, self.raw)

    @property
    def attempts(self) -> Attempts:
        """The earlier attempts of the job."""
        if self._attempts is None:
            self._attempts = Attempts(self._payload, self._worker)
        return self._attempts

    def _end_attempts(self, resq: ResQ, target: Any) -> None:
        """Delete the record of attempts: the job has finished, or has failed for good."""
        if not self.attempts.may_be_retry(target):
            return
        now = self.reconnecting(resq.server_time)
        if now is not None:
            self.reconnecting(lambda: self.attempts.end(resq.store, now))

    def retry_crash(self, error: BaseException) -> bool:
        """retry() after the job's process ended early, if its class has `retry_dirty_exit`."""
        try:
            target = self.load()
        except Exception:  # noqa: BLE001 - a class that cannot be loaded asks for no retry
            return False
        is_retried = getattr(target, "retry_dirty_exit", False)
        return bool(is_retried) and self.retry(target, self.args, error)

    def _write_retry(self, batch: ResQ, next_try: _Retry) -> None:
        # Without unique_until the lock only expires, and a retry does not extend it.
        if next_try.lock and not next_try.lock.text.startswith(":"):
            prolong = next_try.lock.text.startswith("done")
            locked = unique.job(self._queue, next_try.payload, next_try.due)
            batch.store.unique.keep(*next_try.lock, locked, prolong)
        if next_try.due is None:
            self._end_attempts(batch, next_try.target)
            batch.store.queues.push(self._queue, [next_try.payload])
        else:
            self.attempts.keep(batch.store, *next_try[:4])
            batch.store.delayed.delay(next_try.due, next_try.payload)

    def record_outcome(self, write: Callable[[ResQ], Any]) -> bool:
        """Write the outcome and delete the in-flight record, in one transaction.

        False, and nothing written, if the in-flight record is no longer this job's: another
        process, a parent or a pruner, has already recorded the outcome.
        """
        self.outcome_written = True
        while True:
            with self.resq.pipeline(atomic=True) as batch:
                if not self._delete_in_flight(batch):
                    return False
                write(batch)
                if batch.send():
                    return True
            # The key may have been touched with its value unchanged: a restarting server touches
            # each key that it loads. So the record is checked again, or the failure would be lost.

    def _delete_in_flight(self, batch: Any) -> bool:
        """Delete the in-flight record with the batch; False if it is no longer this job's."""
        if self.in_flight is None:
            return True
        worker_id = str(self._worker)
        if not batch.store.watch_for(batch.store.keys.worker(worker_id), self.in_flight):
            batch.store.discard()
            return False
        batch.store.workers.delete_in_flight(worker_id)
        return True


class _Retry(NamedTuple):
    """The next attempt of a job: its class and payload, when it is due (None: now), when the job
    was tried first, and its unique lock.
    """

    target: Any
    payload: bytes
    due: int | None
    first: datetime
    lock: unique.UniqueLock | None


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {failure.base.exception_text(error)}"


#: For each class (by its id()) that has `resq` now: how many of its jobs are running (several in
#: greenlets), and its `resq` from before.
_bindings: dict[int, list[Any]] = {}
_NOTHING = object()


def _bind_resq(target: Any, resq: ResQ) -> None:
    """Set `resq` on the class, until its last job has called _unbind_resq()."""
    binding = _bindings.setdefault(id(target), [0, vars(target).get("resq", _NOTHING)])
    binding[0] += 1
    target.resq = resq


def _unbind_resq(target: Any) -> None:
    """After the last job restore the class's `resq` from before."""
    binding = _bindings[id(target)]
    binding[0] -= 1
    if not binding[0]:
        del _bindings[id(target)]
        if binding[1] is not _NOTHING:
            target.resq = binding[1]
        elif "resq" in vars(target):
            del target.resq


@contextlib.contextmanager
def _around(hook: Callable[..., Any], args: Sequence[Any]) -> Iterator[bool]:
    """An around_perform hook: a generator that yields where the job is to run, or a context
    manager.

    Its value is whether the hook yielded: as in Resque, a hook that does not, skips the job.
    """
    around = hook(*args)
    if inspect.isawaitable(around) or inspect.isasyncgen(around):
        raise NotAJobError(f"invalid hook {hook!r}: expected a generator, not an async function")
    if inspect.isgenerator(around):
        manager = _from_generator(around)
    elif hasattr(around, "__enter__"):
        manager = around
    else:
        yield False
        return
    with manager as entered:
        yield entered is not _SKIPPED


_SKIPPED = object()


@contextlib.contextmanager
def _from_generator(generator: Any) -> Iterator[Any]:
    try:
        next(generator)
    except StopIteration:
        yield _SKIPPED
        return
    try:
        yield None
    except BaseException as error:
        try:
            generator.throw(error)
        except StopIteration:
            # It caught the job's error and ended: like a rescue around a Ruby yield, that swallows
            # the error.
            return
        raise
    next(generator, None)


class _Decorator(ModuleType):
    """This module, `pyres.job`, which can be called as `@job` too: both have the same name."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return decorators.job(*args, **options)


sys.modules[__name__].__class__ = _Decorator


__getattr__ = former_names(
    __name__,
    {
        "RedisBackend": "pyres.failure.redis:RedisBackend",
        "safe_str_to_class": "pyres.loading:safe_str_to_class",
        "string_types": "pyres.former_names:string_types",
    },
)
