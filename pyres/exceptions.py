"""Every error that pyres raises itself; the docstring of each is its default message."""

#: Exceptions that end a process or a generator, and so are not caught as the failure of a job.
ENDING = (KeyboardInterrupt, SystemExit, GeneratorExit)


class PyresError(Exception):
    """An error of pyres."""

    def __init__(self, message: object = None, *more: object) -> None:
        super().__init__(self.__doc__ if message is None else message, *more)


class NoQueueError(PyresError):
    """A worker needs at least one queue, and a job class an attribute named 'queue'."""


class BadServerError(PyresError, ValueError):
    """Invalid server: expected 'host:port[/db]', a URL, a redis.Redis or a ResQ."""


class BadDSNError(BadServerError):
    """Invalid DSN: expected 'host:port[/db]' or a URL such as redis://host:port/db."""


class BadScheduleError(PyresError, ValueError):
    """A schedule entry needs 'cron' or 'every', and a class to enqueue."""


class BadOptionError(PyresError, ValueError):
    """An option has a value that cannot be used."""


class NeedsForkError(PyresError):
    """Workers and managers need a system with os.fork."""


class CannotWatchError(PyresError):
    """The server does not report pushes to this user."""


class TooOldError(CannotWatchError):
    """The Redis server is too old for this feature."""


class UnencodableError(PyresError, TypeError, ValueError):
    """Invalid arguments: expected None, bool, int, finite float, str, list, dict or datetime."""


class UndecodableError(PyresError, ValueError):
    """The stored payload is not the JSON of a job."""


class ClassNotFoundError(PyresError, ImportError):
    """The name in a payload is not a class that can be imported here."""


class NotAJobError(ClassNotFoundError, TypeError):
    """Invalid job: expected a class with perform(), a function with @job, or its dotted name."""


class NotAllowedError(PyresError, PermissionError):
    """The name in a payload is not among those this worker may run (--allow)."""


class JobError(PyresError, RuntimeError):
    """A job failed."""


class TimeoutError(JobError):  # noqa: A001 - the name in pyres 1.5
    """A job ran longer than its timeout."""


class CrashError(JobError):
    """The process of a job ended before the job did."""


class DirtyExitError(CrashError):
    """Job still being processed."""


class PruneDeadWorkerDirtyExitError(DirtyExitError):
    """A worker did not gracefully exit while processing its job."""


class DontPerform(PyresError):  # noqa: N818 - Resque's name; it is not an error
    """Raised by a before_perform hook to drop the job, which is not a failure."""
