"""The command lines: options and environment to arguments, and the exit codes."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import importlib
import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn

from pyres import logs, starting
from pyres.client import ResQ
from pyres.exceptions import BadOptionError, PyresError
from pyres.former_names import former_names
from pyres.horde import Khan
from pyres.installation import refuse_other_resweb
from pyres.process.children import EXIT_SOFTWARE, Children
from pyres.process.init import run_under_init
from pyres.process.native import require_fork
from pyres.process.pidfile import PidFile
from pyres.process.signals import Signals, hold_until_installed
from pyres.process.title import set_title, web_title
from pyres.schedule_faults import queues_for
from pyres.scheduler import LOCK_TIMEOUT, Scheduler
from pyres.standby import ALWAYS, TAKE_LOCK
from pyres.store import (
    REFUSAL_ERRORS,
    SERVER_ERRORS,
    NotRedis,
    NotTrusted,
    WrongServer,
    described,
    mask,
)
from pyres.version import __version__
from pyres.worker import Worker

logger = logging.getLogger(__name__)

#: What is one line on stderr at the start: a mistake of the user's, or the wrong server.
USER_ERRORS: tuple[type[Exception], ...] = (PyresError, *SERVER_ERRORS)

EXIT_OK = 0
#: Something that the user gave cannot be used; one line on stderr says what.
EXIT_USAGE = 2

#: The oldest server whose commands are enough: scripts that may ask for the time, CLIENT ID.
OLDEST_REDIS = "5.0"

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 6379


class _Parser(argparse.ArgumentParser):
    """argparse, with an error that is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: error: {message}\n")


def _number(text: str, least: float, kind: Callable[[str], Any], what: str) -> Any:
    try:
        number = kind(text)
    except ValueError:
        number = None
    if number is None or not number >= least:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return number


def _seconds(text: str) -> float:
    return float(_number(text, 0, float, "a number of seconds, 0 or more"))


def _positive_seconds(text: str) -> float:
    seconds = _seconds(text)
    if seconds == 0:
        raise argparse.ArgumentTypeError("'0' is not a number of seconds above 0")
    return seconds


def _count(text: str) -> int:
    return int(_number(text, 1, int, "a whole number from 1"))


def _count_or_none(text: str) -> int:
    return int(_number(text, 0, int, "a whole number from 0"))


def _pool(text: str) -> str:
    """A number, or two with dots between them."""
    least, dots, most = text.partition("..")
    if not dots:
        return str(_count(text))
    try:
        ends = _count(least), _count(most)
    except argparse.ArgumentTypeError:
        ends = (1, 0)
    if ends[0] > ends[1]:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a range of whole numbers from 1, the smaller one first: 2..16"
        )
    return text


def _port(text: str) -> int:
    port = int(_number(text, 1, int, "a port, 1 to 65535"))
    if port > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 1 to 65535")
    return port


def _level(text: str) -> int:
    try:
        return logs.level_number(int(text) if text.isdigit() else text)
    except BadOptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


#: What each command does.
DESCRIPTIONS = {
    "pyres_worker": "Take jobs from queues and fork a process for each.",
    "pyres_manager": "Keep a pool of processes alive that perform jobs without forking for each.",
    "pyres_scheduler": "Move delayed jobs to their queues when they are due, and enqueue what "
    "recurs.",
    "pyres_web": "One page over all the Redis servers.",
}


def _parser(prog: str, epilog: str) -> _Parser:
    parser = _Parser(
        prog=prog,
        description=DESCRIPTIONS[prog],
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pyres {__version__}")
    return parser


def _add_server(parser: _Parser) -> None:
    group = parser.add_argument_group("the Redis server")
    group.add_argument(
        "-s",
        "--dsn",
        help="host:port[/db], redis://, rediss:// (TLS), unix://, "
        "redis+sentinel://h1:p1,h2:p2/service[/db] or redis+cluster://h1:p1,h2:p2, each "
        "with user:password@ where needed (default: $REDIS_URL, else localhost:6379)",
    )
    group.add_argument("--host", help="in place of --dsn: the host (default: localhost)")
    group.add_argument("--port", type=_port, help="in place of --dsn: the port (default: 6379)")
    group.add_argument(
        "--password", help="the password, where the DSN has none; it disappears from ps"
    )
    group.add_argument(
        "--namespace",
        default="resque",
        help="what every key begins with; in a Redis Cluster with a part in braces, '{resque}' "
        "(default: %(default)s)",
    )


def _add_logging(parser: _Parser) -> None:
    group = parser.add_argument_group("log and pidfile")
    group.add_argument(
        "-l",
        "--log-level",
        type=_level,
        default="info",
        help="debug, info, warning, error (default: %(default)s)",
    )
    group.add_argument(
        "-f",
        "--logfile",
        default="stderr",
        help="stderr, stdout, syslog, syslog:<facility>, or a file, which is opened again "
        "when it was rotated "
        "(default: %(default)s)",
    )
    group.add_argument("--json-logs", action="store_true", help="log one JSON object a line")
    group.add_argument("-p", "--pidfile", help="write the pid to this file while running")


def _add_queues(parser: _Parser) -> None:
    parser.add_argument(
        "queue_list", nargs="*", metavar="QUEUES", help="the same as --queues, as in pyres 1.5"
    )
    group = parser.add_argument_group("queues")
    group.add_argument(
        "-q",
        "--queues",
        help="comma list, the most important first; * and ? are wildcards, !name leaves one out "
        "(default: $QUEUES, $QUEUE, else *)",
    )
    how = group.add_mutually_exclusive_group()
    how.add_argument(
        "-n",
        "--nonblocking-pop",
        action="store_true",
        help="fetch with LPOP, looking at every queue again after each job; when all are "
        "empty pause 1 s, then 2, 4, 8, 8, ... Loses no job, as the default does",
    )
    how.add_argument(
        "--blocking-pop",
        action="store_true",
        help="when all are empty wait by BLPOP, as pyres 1.5 did; a host that is cut off while "
        "idle loses one job for each process that waits, for up to 5 s",
    )
    how.add_argument(
        "-w",
        "--watch-pop",
        action="store_true",
        help="when all are empty wait until the server reports a push, and fetch only then; the "
        "default. Needs Redis 6 or Valkey, and else looks every second",
    )


def _blocking_pop(options: argparse.Namespace) -> bool | None:
    """The way to wait as Worker and Minion take it."""
    if options.nonblocking_pop:
        return False
    return True if options.blocking_pop else None


def _run_at_exit_hooks(options: argparse.Namespace) -> bool:
    # As for Ruby, any value says yes.
    return options.run_at_exit_hooks or bool(os.environ.get("RUN_AT_EXIT_HOOKS"))


def _add_imports(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--path", default=".", help="a folder to import jobs from (default: the current one)"
    )
    group.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="MODULE",
        help="import this before the first job; repeatable",
    )


def _add_jobs(parser: _Parser) -> None:
    parser.set_defaults(forks=True)
    group = parser.add_argument_group("jobs")
    _add_imports(group)
    group.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="PREFIX",
        help="perform only jobs whose class is under this dotted prefix; repeatable (default: "
        "any that can be imported)",
    )
    group.add_argument(
        "--grace",
        type=_seconds,
        default=10.0,
        help="seconds a job gets to finish after TERM or INT (default: 10)",
    )
    group.add_argument(
        "--heartbeat-interval",
        type=_positive_seconds,
        help="seconds between two heartbeats (default: 60); the same for all workers of a server",
    )
    group.add_argument(
        "--prune-interval",
        type=_positive_seconds,
        help="seconds without a heartbeat after which a worker is dead (default: 300)",
    )
    group.add_argument(
        "--log-arguments",
        action="store_true",
        help="log all of a job's arguments, not 200 characters of them",
    )
    group.add_argument(
        "--run-at-exit-hooks",
        action="store_true",
        help="at the end of a job's process (of a minion's) run the atexit hooks from before the "
        "fork, too, and not only the job's own (default: $RUN_AT_EXIT_HOOKS)",
    )
    group.add_argument(
        "-r", "--reinit-gevent", action="store_true", help="gevent.reinit() after each fork"
    )
    group.add_argument(
        "-m",
        "--monkey-patch",
        action="store_true",
        help="gevent.monkey.patch_all() before all else",
    )


WORKER_EPILOG = """\
signals:
  TERM, INT   stop; the job in hand gets --grace seconds; a second one ends it at once
  QUIT        finish the job in hand, however long it takes, and stop
  USR1        kill the job in hand (it is recorded as a failure) and go on
  USR2, CONT  pause, go on

examples:
  pyres_worker --queues critical,mail,low
  pyres_worker --dsn redis://:secret@db1:6379/2 --queues '*,!low' --nonblocking-pop
  pyres_worker --queues mail --burst        work until all is empty, then end
"""


def pyres_worker(argv: Sequence[str] | None = None) -> int:
    """The command `pyres_worker`."""
    parser = _parser("pyres_worker", WORKER_EPILOG)
    _add_queues(parser)
    group = parser.add_argument_group("working")
    group.add_argument(
        "-i",
        "--interval",
        type=_seconds,
        default=5.0,
        help="seconds of one wait for a job (default: 5)",
    )
    group.add_argument(
        "-t", "--timeout", type=_positive_seconds, help="seconds a job may take (default: no limit)"
    )
    group.add_argument("--burst", action="store_true", help="stop as soon as all queues are empty")
    _add_jobs(parser)
    _add_server(parser)
    _add_logging(parser)
    return _main(parser, argv, _run_worker)


def _run_worker(options: argparse.Namespace) -> None:
    worker = Worker(
        queues=_queues(options),
        server=_resq(options),
        timeout=options.timeout,
        blocking_pop=_blocking_pop(options),
        grace=options.grace,
        reinit_gevent=options.reinit_gevent,
        allow=options.allow,
        log_arguments=options.log_arguments,
        run_at_exit_hooks=_run_at_exit_hooks(options),
        heartbeat_interval=options.heartbeat_interval,
        prune_interval=options.prune_interval,
    )
    worker.work(0 if options.burst else options.interval)


SCHEDULER_EPILOG = """\
signals:
  TERM, INT, QUIT  finish the batch in hand, release the lock and stop
  USR1             log the schedule that is in force
  USR2             read the schedule again

examples:
  pyres_scheduler --dsn redis://:secret@db1:6379/2
  pyres_scheduler --schedule schedule.yml --catch-up
  pyres_scheduler --require app.jobs --dynamic     entries of @job(cron=...), and those in Redis

Run two or more for safety: one of them works, the others stand by. Beside resque-scheduler, which
cannot know the entries of code and files here, these fire all the same; entries that only
resque-scheduler knows stop while a pyres_scheduler is the master: see --take-lock.
"""

#: resque-scheduler's ways to say yes in an environment variable.
YES = {"1", "t", "true", "on", "yes"}


def pyres_scheduler(argv: Sequence[str] | None = None) -> int:
    """The command `pyres_scheduler`."""
    parser = _parser("pyres_scheduler", SCHEDULER_EPILOG)
    _add_scheduling(parser)
    _add_imports(parser.add_argument_group("jobs"))
    _add_server(parser)
    _add_logging(parser)
    return _main(parser, argv, _run_scheduler)


def _add_scheduling(parser: _Parser) -> None:
    group = parser.add_argument_group("scheduling")
    group.add_argument(
        "-i",
        "--interval",
        type=_positive_seconds,
        default=5.0,
        help="seconds between two looks at the lock; what is due is looked for every second "
        "(default: 5)",
    )
    group.add_argument(
        "--lock-timeout",
        type=_positive_seconds,
        default=LOCK_TIMEOUT,
        help="seconds after which another takes over from a scheduler that was killed (default: "
        "180)",
    )
    group.add_argument(
        "--lock-prefix",
        help="what resque-scheduler has as RESQUE_SCHEDULER_MASTER_LOCK_PREFIX (default: that "
        "variable)",
    )
    group.add_argument(
        "--schedule", metavar="FILE", help="entries with cron or every, in YAML or JSON"
    )
    group.add_argument(
        "--dynamic",
        action="store_true",
        help="follow the entries in Redis too, as set_schedule writes them (default: "
        "$DYNAMIC_SCHEDULE)",
    )
    group.add_argument(
        "--queue-for",
        metavar="CLASS=QUEUE",
        action="append",
        default=[],
        help="the queue of entries and delayed jobs of this class that name none, where the class "
        "cannot be imported here; repeatable",
    )
    group.add_argument(
        "--take-lock",
        choices=TAKE_LOCK,
        default=ALWAYS,
        help="when to become the master, which promotes delayed jobs and fires the entries in "
        "Redis: always; able: while it can follow all entries, those in Redis and those that other "
        "schedulers fired; never. Entries of code and files fire all the same (default: always)",
    )
    group.add_argument(
        "--catch-up",
        action="store_true",
        help="make up the last moment that an entry missed while no scheduler ran (default: as "
        "Ruby, none)",
    )
    group.add_argument(
        "--front",
        action="store_true",
        help="put due jobs at the front of their queues (default: as Ruby, at the end)",
    )


def _run_scheduler(options: argparse.Namespace) -> None:
    dynamic = os.environ.get("DYNAMIC_SCHEDULE", "").lower() in YES
    Scheduler.run(
        _resq(options),
        interval=options.interval,
        lock_timeout=options.lock_timeout,
        lock_prefix=options.lock_prefix
        or os.environ.get("RESQUE_SCHEDULER_MASTER_LOCK_PREFIX", ""),
        schedule=options.schedule,
        dynamic=options.dynamic or dynamic,
        catch_up=options.catch_up,
        front=options.front,
        environment=os.environ.get("RAILS_ENV") or os.environ.get("RACK_ENV"),
        queue_for=queues_for(options.queue_for),
        take_lock=options.take_lock,
    )


MANAGER_EPILOG = """\
signals:
  TERM, INT    TERM to all minions; --grace seconds for their jobs, then KILL; a second one: at once
  QUIT         stop when all have finished their jobs, however long that takes
  USR1, TTOU   one minion less, after its job       USR2, TTIN   one more
  HUP          replace every minion, one after the other, each after its job

commands, left in Redis on the list khan:<host>:<pid>:<pool>: ADD, REMOVE, SHUTDOWN

examples:
  pyres_manager --pool 8 --reinit-gevent --queues critical,mail,low
  pyres_manager --pool 2..16 --watch-pop --require app.jobs --preload
  pyres_manager --pool 2 --greenlets 100 --queues webhooks
"""


def pyres_manager(argv: Sequence[str] | None = None) -> int:
    """The command `pyres_manager`."""
    parser = _parser("pyres_manager", MANAGER_EPILOG)
    _add_queues(parser)
    _add_pool(parser)
    _add_jobs(parser)
    _add_server(parser)
    _add_logging(parser)
    return _main(parser, argv, _run_manager)


def _add_pool(parser: _Parser) -> None:
    group = parser.add_argument_group("the pool")
    group.add_argument(
        "--pool",
        type=_pool,
        default=1,
        help="how many minions (default: 1), or from how many to how many: 2..16",
    )
    _add_scale(group)
    group.add_argument(
        "--greenlets",
        type=_count,
        default=1,
        help="how many jobs each minion performs at once, on gevent; includes --monkey-patch and "
        "--reinit-gevent (default: 1)",
    )
    group.add_argument(
        "--preload",
        action="store_true",
        help="import what --require names once, before the minions are forked, not in each of them:"
        " costs less memory and starts faster, but HUP takes no new code of it",
    )
    group.add_argument(
        "-i",
        "--interval",
        type=_positive_seconds,
        default=2.0,
        help="seconds between looks for commands (default: 2)",
    )
    group.add_argument(
        "--minions_interval",
        "--minions-interval",
        type=_positive_seconds,
        default=5.0,
        help="seconds of one wait of a minion for a job (default: 5)",
    )
    group.add_argument(
        "--concat_minions_logs",
        "--concat-minions-logs",
        action="store_true",
        help="all minions log to minion.log beside the log file, not each to minion-<pid>.log",
    )
    group.add_argument(
        "-j",
        "--process_max_jobs",
        "--max-jobs",
        type=_count_or_none,
        default=0,
        help="a minion ends after so many jobs, and a fresh one starts (default: 0, no limit)",
    )
    group.add_argument(
        "--max-memory",
        type=_seconds,
        default=0,
        metavar="MB",
        help="likewise when it uses more megabytes (default: 0, no limit)",
    )
    group.add_argument(
        "-t", "--timeout", type=_positive_seconds, help="seconds a job may take (default: no limit)"
    )


def _add_scale(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--scale-wait",
        type=_positive_seconds,
        default=5.0,
        metavar="SECONDS",
        help="a pool of 2..16 grows while jobs wait longer than this (default: 5)",
    )
    group.add_argument(
        "--scale-calm",
        type=_positive_seconds,
        default=30.0,
        metavar="SECONDS",
        help="and shrinks when no job waited for so long, by the minions that were idle "
        "(default: 30)",
    )


def _run_manager(options: argparse.Namespace) -> None:
    Khan.run(
        pool_size=options.pool,
        queues=_queues(options),
        server=_resq(options),
        interval=options.interval,
        logging_level=options.log_level,
        log_file=options.logfile,
        minions_interval=options.minions_interval,
        concat_minions_logs=options.concat_minions_logs,
        max_jobs=options.process_max_jobs,
        max_memory=options.max_memory,
        timeout=options.timeout,
        blocking_pop=_blocking_pop(options),
        reinit_gevent=options.reinit_gevent,
        monkey_patch=options.monkey_patch,
        greenlets=options.greenlets,
        require=[] if options.preload else options.require,
        scale_wait=options.scale_wait,
        scale_calm=options.scale_calm,
        grace=options.grace,
        allow=options.allow,
        json_logs=options.json_logs,
        log_arguments=options.log_arguments,
        run_at_exit_hooks=_run_at_exit_hooks(options),
        heartbeat_interval=options.heartbeat_interval,
        prune_interval=options.prune_interval,
    )


WEB_EPILOG = """\
examples:
  pyres_web --dsn db1:6379,db2:6379
  pyres_web --dsn mail=redis://:secret@db1:6379/2 --dsn shop=db2:6379
  pyres_web --host 0.0.0.0 --auth ops:$(pyres_web --hash-password)

What is left out comes from the settings file of resweb 0.1 that $RESWEB_SETTINGS names, if there is
one: RESWEB_HOST, RESWEB_PASSWORD, SERVER_HOST, SERVER_PORT, BASIC_AUTH, AUTH_USERNAME,
AUTH_PASSWORD.
"""


def pyres_web(argv: Sequence[str] | None = None) -> int:
    """The command `pyres_web`."""
    parser = _parser("pyres_web", WEB_EPILOG)
    _add_web(parser)
    _add_doors(parser)
    _add_logging(parser)
    return _main(parser, argv, _run_web)


def _add_web(parser: _Parser) -> None:
    # What is left out is looked up in resweb's settings file, so there is no default here.
    parser.add_argument("--host", help="listen here (default: 127.0.0.1)")
    parser.add_argument("--port", type=_port, help="listen on this port (default: 8080)")
    parser.add_argument(
        "--dsn",
        "--server",
        action="append",
        default=[],
        help="a comma list of servers, each as for pyres_worker and with an optional name= before; "
        "repeatable (default: $REDIS_URL, else localhost:6379)",
    )
    parser.add_argument("--password", help="the password of DSNs that have none")
    parser.add_argument(
        "--namespace", default="resque", help="what every key begins with (default: %(default)s)"
    )
    parser.add_argument(
        "--url-prefix", default="", help="the path under which a proxy shows it (default: /)"
    )


def _add_doors(parser: _Parser) -> None:
    group = parser.add_argument_group("doors")
    group.add_argument("--auth", metavar="USER:HASH", help="ask for this user and password")
    group.add_argument(
        "--hash-password", action="store_true", help="ask for a password, print its hash and end"
    )
    group.add_argument(
        "--allowed-host",
        metavar="NAME",
        action="append",
        default=[],
        help="answer requests for this Host besides IP addresses, localhost, --host and this "
        "host's names; * allows all; repeatable",
    )
    group.add_argument("--read-only", action="store_true", help="show, and change nothing")


def _run_web(options: argparse.Namespace) -> None:
    web, auth, settings, waitress = _web_modules()
    if options.hash_password:
        typed = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline()
        print(auth.hash_password(typed.rstrip("\n")))
        return
    settings.fill_in(options, os.environ.get("RESWEB_SETTINGS"))
    app = web.create_app(
        _dsns(options),
        auth=options.auth,
        read_only=options.read_only,
        url_prefix=options.url_prefix,
        allowed_hosts=[options.host, *options.allowed_host],
        password=options.password,
        namespace=options.namespace,
    )
    if not options.auth and options.host not in ("127.0.0.1", "::1", "localhost"):
        logger.warning(
            "\n%s\nAnybody who reaches %s:%s can read all jobs%s: nobody is asked for a password."
            "\nGive --auth, or leave --host at 127.0.0.1.\n%s",
            "!" * 72,
            options.host,
            options.port,
            "" if options.read_only else " and delete them",
            "!" * 72,
        )
    _serve(app, waitress, options)


def _serve(app: Any, waitress: Any, options: argparse.Namespace) -> None:
    """Serve the page until a signal; what the log says is listened on can be connected to."""
    serving = importlib.import_module(SERVING)
    serving.log_no_queue_depth()
    try:
        server = waitress.create_server(
            app, host=options.host, port=options.port, **serving.options()
        )
    except OSError as error:
        raise BadOptionError(
            f"cannot listen on {options.host}:{options.port}: {error.strerror or error}"
        ) from None
    # What waitress waits in ends by an exception, and by nothing else.
    Signals({signal.SIGTERM: _leave}).install()
    where = f"http://{options.host}:{options.port}{options.url_prefix}"
    set_title(web_title(f"listening on {where}"))
    servers = ", ".join(map(mask, _dsns(options)))
    logger.info("Started pyres_web with pyres %s: shows %s", __version__, servers)
    logger.info("Listening on %s", where)
    server.run()


def _leave(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(EXIT_OK)


SERVING = "resweb.serving"

WEB_MODULES = ("resweb.app", "resweb.auth", "resweb.settings", "waitress")


def _web_modules() -> list[Any]:
    refuse_other_resweb()
    try:
        return [importlib.import_module(name) for name in WEB_MODULES]
    except ModuleNotFoundError as error:
        raise BadOptionError(
            f"{error.name} is not installed; it comes with: pip install 'pyres[web]'"
        ) from None


def _dsns(options: argparse.Namespace) -> list[str]:
    """The servers of the command line; a comma within a sentinel's or cluster's DSN parts none."""
    given = options.dsn or [os.environ.get("REDIS_URL") or f"{DEFAULT_HOST}:{DEFAULT_PORT}"]
    found: list[str] = []
    for text in given:
        if "+sentinel://" in text or "+cluster://" in text:
            found.append(text)
        else:
            found += [part.strip() for part in text.split(",") if part.strip()]
    return found


def _main(
    parser: _Parser, argv: Sequence[str] | None, run: Callable[[argparse.Namespace], None]
) -> int:
    """Parse, prepare and run; what the user did wrong is one line and exit code 2."""
    options = parser.parse_args(argv)
    starting.begin()
    # Before anything else: this takes passwords on the command line out of `ps`.
    set_title(f"{parser.prog}: Starting")
    try:
        if argv is None:
            _monkey_patch(parser.prog, options)
        run_under_init(parser.prog)
        _prepare(parser.prog, options)
        with _pidfile(options.pidfile) if options.pidfile else contextlib.nullcontext():
            run(options)
    except USER_ERRORS as error:
        if starting.is_over():
            # Exit code 2 says not to start again, and that is for a mistake in what was given.
            logger.critical("%s ends: %s", parser.prog, error, exc_info=error)
            return EXIT_SOFTWARE
        parser.error(_start_error(error))
    except KeyboardInterrupt:
        return EXIT_OK
    return EXIT_OK


def _start_error(error: Exception) -> str:
    """What hinders the start, in one line."""
    words = str(error)
    if isinstance(error, PyresError | NotTrusted | NotRedis | WrongServer):
        return words
    if "unknown command" in words.lower():
        return (
            f"the Redis server is too old, or this command is renamed or disabled there; pyres "
            f"needs Redis {OLDEST_REDIS} or newer, or Valkey: {words}"
        )
    if isinstance(error, REFUSAL_ERRORS) or "DB index" in words:
        return f"the Redis server refuses us: {words}"
    return described(error)


def _prepare(prog: str, options: argparse.Namespace) -> None:
    """What each command does before its own part."""
    if getattr(options, "forks", False):
        require_fork(prog)
    logs.setup_logging(prog, options.log_level, options.logfile, options.json_logs)
    _import_jobs(options)


@contextlib.contextmanager
def _pidfile(path: str) -> Iterator[None]:
    """The pidfile, while the `with` lasts; whoever finds it may send a signal at once."""
    with hold_until_installed(), PidFile(path):
        yield


def _monkey_patch(prog: str, options: argparse.Namespace) -> None:
    """Look for gevent where it is asked for; start again under gevent.monkey where patching is."""
    patch = getattr(options, "monkey_patch", False) or getattr(options, "greenlets", 1) > 1
    if not (patch or getattr(options, "reinit_gevent", False)):
        return
    if importlib.util.find_spec("gevent") is None:
        raise BadOptionError("gevent is not installed; it comes with: pip install 'pyres[gevent]'")
    monkey = sys.modules.get("gevent.monkey")
    if patch and not (monkey and monkey.is_module_patched("socket")):
        # Only a new interpreter can patch before redis-py and ssl are imported.
        os.execv(sys.executable, [sys.executable, "-m", "gevent.monkey", *_own_command(prog)])


def _own_command(prog: str) -> list[str]:
    """How gevent.monkey starts this program again: a script, or what `python -m` was given."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None:
        return sys.argv
    name = spec.name.removesuffix(".__main__")
    return ["--module", name, *([prog] if name == "pyres" else []), *sys.argv[1:]]


def _import_jobs(options: argparse.Namespace) -> None:
    path = getattr(options, "path", None)
    if path is None:
        return
    if not os.path.isdir(path):
        raise BadOptionError(f"--path {path!r} is no folder")
    sys.path.insert(0, os.path.abspath(path))
    preload = getattr(options, "preload", None)
    if preload and not options.require:
        raise BadOptionError("--preload imports what --require names, and that names nothing")
    if preload is False and options.require:
        _try_imports(options.require)
    else:
        _import_all(options.require)


def _import_all(modules: Sequence[str]) -> None:
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            raise BadOptionError(
                f"--require {module!r} cannot be imported: {type(error).__name__}: {error}"
            ) from error


def _try_imports(modules: Sequence[str]) -> None:
    """Import in a child: a mistake is told now, and the minions still take what is new later."""

    def run() -> int:
        try:
            _import_all(modules)
        except BadOptionError as error:
            print(f"pyres_manager: error: {error}", file=sys.stderr)
            return EXIT_USAGE
        return EXIT_OK

    children = Children(Signals({}))
    exit = children.wait(children.fork(run))
    if exit is not None and exit.code == EXIT_USAGE:
        raise SystemExit(EXIT_USAGE)
    if exit is None or not exit.clean:
        raise BadOptionError(f"--require {','.join(modules)}: the process that imports it {exit}")


def _queues(options: argparse.Namespace) -> str:
    """The queues of the command line, of the environment, or all of them, which is said."""
    positional = ",".join(options.queue_list) if options.queue_list else None
    if options.queues is not None and positional is not None:
        raise BadOptionError(
            "queues are given twice: as --queues and as an argument; give them once"
        )
    for given in (
        options.queues,
        positional,
        os.environ.get("QUEUES"),
        os.environ.get("QUEUE"),
    ):
        if given is not None:
            return str(given)
    logger.warning(
        "No queues were named, so this looks at all of them (*), in order of their names"
    )
    return "*"


def _resq(options: argparse.Namespace) -> ResQ:
    return ResQ(_dsn(options), options.password, namespace=options.namespace)


def _dsn(options: argparse.Namespace) -> str:
    """The DSN of the command line, else of $REDIS_URL, else localhost:6379."""
    by_parts = options.host is not None or options.port is not None
    if options.dsn is not None and by_parts:
        raise BadOptionError(
            "the server is given twice: as --dsn and as --host or --port; give it once"
        )
    if by_parts:
        host = DEFAULT_HOST if options.host is None else options.host
        return (
            f"[{host}]:{options.port or DEFAULT_PORT}"
            if ":" in host
            else f"{host}:{options.port or DEFAULT_PORT}"
        )
    if options.dsn is not None:
        # An empty one is a variable that was not set, and some other server is not meant by it.
        return str(options.dsn)
    return os.environ.get("REDIS_URL") or f"{DEFAULT_HOST}:{DEFAULT_PORT}"


__getattr__ = former_names(
    __name__,
    {
        "setup_logging": "pyres.logs:setup_logging",
        "setup_pidfile": "pyres:setup_pidfile",
    },
)
