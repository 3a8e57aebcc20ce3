"""Every error pyres raises on purpose; the docstring of each is its default message."""

#: What an application ends its process or a generator with: no failure of a job like any other.
ENDING = (KeyboardInterrupt, SystemExit, GeneratorExit)


class PyresError(Exception):
    """Something pyres could not do."""

    def __init__(self, message: object = None, *more: object) -> None:
        super().__init__(self.__doc__ if message is None else message, *more)


class NoQueueError(PyresError):
    """A worker needs at least one queue, and a job class an attribute named 'queue'."""


class BadServerError(PyresError, ValueError):
    """A server is given as 'host:port[/db]', as a URL, as a redis.Redis or as a ResQ."""


class BadDSNError(BadServerError):
    """A DSN is 'host:port[/db]' or a URL: redis, rediss, unix, redis+sentinel, redis+cluster."""


class BadScheduleError(PyresError, ValueError):
    """A schedule entry needs 'cron' or 'every', and a class to enqueue."""


class BadOptionError(PyresError, ValueError):
    """An option has a value that cannot be used."""


class NeedsForkError(PyresError):
    """Workers and managers need a system with os.fork."""


class CannotWatchError(PyresError):
    """The server does not report pushes to this user."""


class TooOldError(CannotWatchError):
    """The server is older than what was asked for needs."""


class UnencodableError(PyresError, TypeError, ValueError):
    """A queue holds JSON: None, bool, int, finite float, str, list, dict and datetime."""


class UndecodableError(PyresError, ValueError):
    """What stands in Redis is not the JSON of a job."""


class ClassNotFoundError(PyresError, ImportError):
    """The name in a payload leads to no class that can be imported here."""


class NotAJobError(ClassNotFoundError, TypeError):
    """A job is a class with perform(), a function with @job, or the dotted name of one."""


class NotAllowedError(PyresError, PermissionError):
    """The name in a payload is not among those this worker may run (--allow)."""


class JobError(PyresError, RuntimeError):
    """A job went wrong."""


class TimeoutError(JobError):  # noqa: A001 - the name pyres 1.5 gave it
    """A job ran longer than its timeout."""


class CrashError(JobError):
    """The process of a job ended before the job did."""


class DirtyExitError(CrashError):
    """Job still being processed."""


class PruneDeadWorkerDirtyExitError(DirtyExitError):
    """A worker did not gracefully exit while processing its job."""


class DontPerform(PyresError):  # noqa: N818 - Resque's word; it is no error but a decision
    """Raised by a before_perform hook: the job is dropped, and that is no failure."""
