"""The command lines: options, environment variables and exit codes."""

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

#: Errors that are one line on stderr at the start: a user's mistake, or the wrong server.
USER_ERRORS: tuple[type[Exception], ...] = (PyresError, *SERVER_ERRORS)

EXIT_OK = 0
#: Exit code for an option or setting that cannot be used; one line on stderr names it.
EXIT_USAGE = 2

#: The oldest server with the commands that pyres needs: TIME in scripts that write, CLIENT ID.
OLDEST_REDIS = "5.0"

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 6379


class _Parser(argparse.ArgumentParser):
    """argparse with one-line errors."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: error: {message}\n")


def _invalid(text: str, expected: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"invalid value {text!r}: expected {expected}")


def _number(text: str, least: float, kind: Callable[[str], Any], expected: str) -> Any:
    try:
        number = kind(text)
    except ValueError:
        number = None
    if number is None or not number >= least:
        raise _invalid(text, expected)
    return number


def _seconds(text: str) -> float:
    return float(_number(text, 0, float, "a number of seconds, 0 or more"))


def _positive_seconds(text: str) -> float:
    seconds = _seconds(text)
    if seconds == 0:
        raise _invalid(text, "a number of seconds above 0")
    return seconds


def _count(text: str) -> int:
    return int(_number(text, 1, int, "a whole number from 1"))


def _count_or_none(text: str) -> int:
    return int(_number(text, 0, int, "a whole number from 0"))


def _pool(text: str) -> str:
    """A pool size: a number, or a range such as 2..16."""
    least, dots, most = text.partition("..")
    if not dots:
        return str(_count(text))
    try:
        ends = _count(least), _count(most)
    except argparse.ArgumentTypeError:
        ends = (1, 0)
    if ends[0] > ends[1]:
        raise _invalid(text, "a range of whole numbers from 1, the smaller one first: 2..16")
    return text


def _port(text: str) -> int:
    port = int(_number(text, 1, int, "a port, 1 to 65535"))
    if port > 65535:
        raise _invalid(text, "a port, 1 to 65535")
    return port


def _level(text: str) -> int:
    try:
        return logs.level_number(int(text) if text.isdigit() else text)
    except BadOptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


#: What each command does.
DESCRIPTIONS = {
    "pyres_worker": "Fetch jobs from queues and fork a process for each.",
    "pyres_manager": "Keep a pool of processes alive that perform jobs without forking for each.",
    "pyres_scheduler": "Push delayed jobs to their queues when they are due, and enqueue recurring "
    "jobs.",
    "pyres_web": "Serve a web page for all the Redis servers.",
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
    group.add_argument("--host", help="instead of --dsn: the host (default: localhost)")
    group.add_argument("--port", type=_port, help="instead of --dsn: the port (default: 6379)")
    group.add_argument(
        "--password", help="the password, if the DSN has none; it is removed from ps"
    )
    group.add_argument(
        "--namespace",
        default="resque",
        help="the prefix of every key; in a Redis Cluster with a part in braces: '{resque}' "
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
        help="stderr, stdout, syslog, syslog:<facility>, or a file, which is reopened after "
        "rotation (default: %(default)s)",
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
        help="comma-separated list, highest priority first; * and ? are wildcards, !name excludes "
        "one (default: $QUEUES, $QUEUE, else *)",
    )
    ways = group.add_mutually_exclusive_group()
    ways.add_argument(
        "-n",
        "--nonblocking-pop",
        action="store_true",
        help="when all queues are empty, pause 1 s, then 2, 4, 8, 8, ... before the next fetch; "
        "like the default, this loses no job",
    )
    ways.add_argument(
        "--blocking-pop",
        action="store_true",
        help="when all queues are empty, wait by BLPOP, as pyres 1.5 did; if an idle host is cut "
        "off from the server, each waiting process may lose one job, for up to 5 s",
    )
    ways.add_argument(
        "-w",
        "--watch-pop",
        action="store_true",
        help="when all queues are empty, wait until the server reports a push, and only then "
        "fetch; the default. Needs Redis 6 or Valkey; elsewhere the queues are polled each second",
    )


def _blocking_pop(options: argparse.Namespace) -> bool | None:
    """The way to wait, as the argument of Worker and Minion."""
    if options.nonblocking_pop:
        return False
    return True if options.blocking_pop else None


def _run_at_exit_hooks(options: argparse.Namespace) -> bool:
    # As in Ruby, any value means yes.
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
        help="import this module before the first job; repeatable",
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
        help="seconds that a running job gets to finish after TERM or INT (default: 10)",
    )
    group.add_argument(
        "--heartbeat-interval",
        type=_positive_seconds,
        help="seconds between two heartbeats (default: 60); use the same for all workers of a "
        "server",
    )
    group.add_argument(
        "--prune-interval",
        type=_positive_seconds,
        help="seconds without a heartbeat after which a worker counts as dead (default: 300)",
    )
    group.add_argument(
        "--log-arguments",
        action="store_true",
        help="log all of a job's arguments, not only the first 200 characters",
    )
    group.add_argument(
        "--run-at-exit-hooks",
        action="store_true",
        help="at the end of a job's or minion's process, run not only the job's own atexit hooks "
        "but also those from before the fork (default: $RUN_AT_EXIT_HOOKS)",
    )
    group.add_argument(
        "-r", "--reinit-gevent", action="store_true", help="call gevent.reinit() after each fork"
    )
    group.add_argument(
        "-m",
        "--monkey-patch",
        action="store_true",
        help="call gevent.monkey.patch_all() before anything else",
    )


WORKER_EPILOG = """\
signals:
  TERM, INT   stop; the running job gets --grace seconds to finish; a second signal kills it at once
  QUIT        finish the running job, however long it takes, and stop
  USR1        kill the running job (it is recorded as a failure) and go on
  USR2, CONT  pause, resume

examples:
  pyres_worker --queues critical,mail,low
  pyres_worker --dsn redis://:secret@db1:6379/2 --queues '*,!low' --nonblocking-pop
  pyres_worker --queues mail --burst        work until all queues are empty, then stop
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
  TERM, INT, QUIT  finish the current batch, release the lock and stop
  USR1             log the active schedule
  USR2             read the schedule again

examples:
  pyres_scheduler --dsn redis://:secret@db1:6379/2
  pyres_scheduler --schedule schedule.yml --catch-up
  pyres_scheduler --require app.jobs --dynamic     entries of @job(cron=...), and those in Redis

Run two or more for safety: one of them works, the others are on standby. With resque-scheduler as
the master, the entries of code and files here still fire; with a pyres_scheduler as the master,
entries that only resque-scheduler knows do not fire: see --take-lock.
"""

#: What resque-scheduler reads as yes in an environment variable.
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
        help="seconds between two checks of the lock; due jobs are checked every second "
        "(default: 5)",
    )
    group.add_argument(
        "--lock-timeout",
        type=_positive_seconds,
        default=LOCK_TIMEOUT,
        help="seconds after which another scheduler takes over from one that was killed (default: "
        "180)",
    )
    group.add_argument(
        "--lock-prefix",
        help="prefix of the lock's key, as for resque-scheduler (default: "
        "$RESQUE_SCHEDULER_MASTER_LOCK_PREFIX)",
    )
    group.add_argument(
        "--schedule", metavar="FILE", help="entries with cron or every, in YAML or JSON"
    )
    group.add_argument(
        "--dynamic",
        action="store_true",
        help="also fire the entries in Redis, as set_schedule writes them (default: "
        "$DYNAMIC_SCHEDULE)",
    )
    group.add_argument(
        "--queue-for",
        metavar="CLASS=QUEUE",
        action="append",
        default=[],
        help="the queue for entries and delayed jobs of this class that have none, where the class "
        "cannot be imported here; repeatable",
    )
    group.add_argument(
        "--take-lock",
        choices=TAKE_LOCK,
        default=ALWAYS,
        help="when to become the master, which promotes delayed jobs and fires the entries in "
        "Redis: always; able: only while it can fire all entries, those in Redis and those that "
        "other schedulers fired; never. Entries of code and files fire in any case (default: "
        "always)",
    )
    group.add_argument(
        "--catch-up",
        action="store_true",
        help="fire late the last moment that an entry missed while no scheduler ran (default: "
        "none, as in Ruby)",
    )
    group.add_argument(
        "--front",
        action="store_true",
        help="push due jobs to the head of their queues (default: to the end, as in Ruby)",
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
  TERM, INT    stop; running jobs get --grace seconds to finish; a second signal kills them at once
  QUIT         finish all running jobs, however long they take, and stop
  USR1, TTOU   remove one minion, after its job       USR2, TTIN   add one
  HUP          replace every minion, one after the other, each after its job

commands, pushed to the Redis list khan:<host>:<pid>:<pool>: ADD, REMOVE, SHUTDOWN

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
        help="the number of minions (default: 1), or a range for autoscaling: 2..16",
    )
    _add_scale(group)
    group.add_argument(
        "--greenlets",
        type=_count,
        default=1,
        help="how many jobs each minion performs at once, on gevent; implies --monkey-patch and "
        "--reinit-gevent (default: 1)",
    )
    group.add_argument(
        "--preload",
        action="store_true",
        help="import the modules of --require once before the minions are forked, not in each: "
        "saves memory and starts faster, but HUP does not load new code",
    )
    group.add_argument(
        "-i",
        "--interval",
        type=_positive_seconds,
        default=2.0,
        help="seconds between two checks for commands (default: 2)",
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
        help="log all minions to minion.log beside the log file, not each to minion-<pid>.log",
    )
    group.add_argument(
        "-j",
        "--process_max_jobs",
        "--max-jobs",
        type=_count_or_none,
        default=0,
        help="replace a minion after this many jobs (default: 0, no limit)",
    )
    group.add_argument(
        "--max-memory",
        type=_seconds,
        default=0,
        metavar="MB",
        help="replace a minion that uses more megabytes (default: 0, no limit)",
    )
    group.add_argument(
        "-t", "--timeout", type=_positive_seconds, help="seconds a job may take (default: no limit)"
    )


def _add_scale(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--scale-up-after",
        "--scale-wait",
        dest="scale_wait",
        type=_positive_seconds,
        default=5.0,
        metavar="SECONDS",
        help="add minions while jobs wait longer than this (--pool with a range); --scale-wait is "
        "the former name (default: 5)",
    )
    group.add_argument(
        "--scale-down-after",
        "--scale-calm",
        dest="scale_calm",
        type=_positive_seconds,
        default=30.0,
        metavar="SECONDS",
        help="remove the minions that were idle all this time while no job waited; --scale-calm is "
        "the former name (default: 30)",
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

The defaults of options can come from a settings file of resweb 0.1, named by $RESWEB_SETTINGS:
RESWEB_HOST, RESWEB_PASSWORD, SERVER_HOST, SERVER_PORT, BASIC_AUTH, AUTH_USERNAME, AUTH_PASSWORD.
"""


def pyres_web(argv: Sequence[str] | None = None) -> int:
    """The command `pyres_web`."""
    parser = _parser("pyres_web", WEB_EPILOG)
    _add_web(parser)
    _add_access(parser)
    _add_logging(parser)
    return _main(parser, argv, _run_web)


def _add_web(parser: _Parser) -> None:
    # No defaults here: options that are not set are looked up in resweb's settings file.
    parser.add_argument("--host", help="listen on this address (default: 127.0.0.1)")
    parser.add_argument("--port", type=_port, help="listen on this port (default: 8080)")
    parser.add_argument(
        "--dsn",
        "--server",
        action="append",
        default=[],
        help="comma-separated list of servers, each as for pyres_worker, with an optional name= "
        "prefix; repeatable (default: $REDIS_URL, else localhost:6379)",
    )
    parser.add_argument("--password", help="the password for DSNs that have none")
    parser.add_argument(
        "--namespace", default="resque", help="the prefix of every key (default: %(default)s)"
    )
    parser.add_argument(
        "--url-prefix", default="", help="the path under which a proxy serves it (default: /)"
    )


def _add_access(parser: _Parser) -> None:
    group = parser.add_argument_group("access")
    group.add_argument("--auth", metavar="USER:HASH", help="require this user and password")
    group.add_argument(
        "--hash-password", action="store_true", help="ask for a password, print its hash and exit"
    )
    group.add_argument(
        "--allowed-host",
        metavar="NAME",
        action="append",
        default=[],
        help="also answer requests for this Host, besides IP addresses, localhost, --host and this "
        "host's names; * allows all; repeatable",
    )
    group.add_argument(
        "--read-only", action="store_true", help="only show, without buttons that change anything"
    )


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
            "\n%s\nAnyone who can reach %s:%s can read all jobs%s: no password is required."
            "\nSet --auth, or leave --host at 127.0.0.1.\n%s",
            "!" * 72,
            options.host,
            options.port,
            "" if options.read_only else " and delete them",
            "!" * 72,
        )
    _serve(app, waitress, options)


def _serve(app: Any, waitress: Any, options: argparse.Namespace) -> None:
    """Serve the page until a signal; once the log says "Listening", clients can connect."""
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
    # Only an exception ends waitress's loop.
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
    """The servers of the command line; a sentinel's or cluster's DSN is not split at commas."""
    lists = options.dsn or [os.environ.get("REDIS_URL") or f"{DEFAULT_HOST}:{DEFAULT_PORT}"]
    dsns: list[str] = []
    for text in lists:
        if "+sentinel://" in text or "+cluster://" in text:
            dsns.append(text)
        else:
            dsns += [part.strip() for part in text.split(",") if part.strip()]
    return dsns


def _main(
    parser: _Parser, argv: Sequence[str] | None, run: Callable[[argparse.Namespace], None]
) -> int:
    """Parse, prepare and run; a user's mistake is one line on stderr and exit code 2."""
    options = parser.parse_args(argv)
    starting.begin()
    # Before anything else: this removes passwords on the command line from `ps`.
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
            # Exit code 2 tells supervisors not to restart, which only a wrong option calls for.
            logger.critical("%s ends: %s", parser.prog, error, exc_info=error)
            return EXIT_SOFTWARE
        parser.error(_start_error(error))
    except KeyboardInterrupt:
        return EXIT_OK
    return EXIT_OK


def _start_error(error: Exception) -> str:
    """The error that prevents the start, in one line."""
    text = str(error)
    if isinstance(error, PyresError | NotTrusted | NotRedis | WrongServer):
        return text
    if "unknown command" in text.lower():
        return (
            f"the Redis server is too old, or this command is renamed or disabled there; pyres "
            f"needs Redis {OLDEST_REDIS} or newer, or Valkey: {text}"
        )
    if isinstance(error, REFUSAL_ERRORS) or "DB index" in text:
        return f"the Redis server refuses us: {text}"
    return described(error)


def _prepare(prog: str, options: argparse.Namespace) -> None:
    """The steps that all commands share before they run."""
    if getattr(options, "forks", False):
        require_fork(prog)
    logs.setup_logging(prog, options.log_level, options.logfile, options.json_logs)
    _import_jobs(options)


@contextlib.contextmanager
def _pidfile(path: str) -> Iterator[None]:
    """Hold the pidfile. Signals are deferred until the handlers are installed, since a reader of
    the pidfile may send one at once.
    """
    with hold_until_installed(), PidFile(path):
        yield


def _monkey_patch(prog: str, options: argparse.Namespace) -> None:
    """Check that gevent is installed if an option needs it; for monkey patching, start this program
    again under gevent.monkey.
    """
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
    """The arguments with which gevent.monkey starts this program again, as a script or a module."""
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
        raise BadOptionError(f"invalid --path {path!r}: expected a folder")
    sys.path.insert(0, os.path.abspath(path))
    preload = getattr(options, "preload", None)
    if preload and not options.require:
        raise BadOptionError("--preload requires --require, which names the modules to import")
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
    """Import in a child process: errors show now, and minions started later load new code."""

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
    """The queues of the command line or of the environment; else all of them, which is logged."""
    positional = ",".join(options.queue_list) if options.queue_list else None
    if options.queues is not None and positional is not None:
        raise BadOptionError("queues are set twice: by --queues and as an argument; set them once")
    for queues in (
        options.queues,
        positional,
        os.environ.get("QUEUES"),
        os.environ.get("QUEUE"),
    ):
        if queues is not None:
            return str(queues)
    logger.warning("No queues were named: fetching from all of them (*), in order of their names")
    return "*"


def _resq(options: argparse.Namespace) -> ResQ:
    return ResQ(_dsn(options), options.password, namespace=options.namespace)


def _dsn(options: argparse.Namespace) -> str:
    """The DSN of the command line, else of $REDIS_URL, else localhost:6379."""
    by_parts = options.host is not None or options.port is not None
    if options.dsn is not None and by_parts:
        raise BadOptionError(
            "the server is set twice: by --dsn and by --host or --port; set it once"
        )
    if by_parts:
        host = DEFAULT_HOST if options.host is None else options.host
        return (
            f"[{host}]:{options.port or DEFAULT_PORT}"
            if ":" in host
            else f"{host}:{options.port or DEFAULT_PORT}"
        )
    if options.dsn is not None:
        # An empty one is an error, not the default: it comes from a variable that was not set.
        return str(options.dsn)
    return os.environ.get("REDIS_URL") or f"{DEFAULT_HOST}:{DEFAULT_PORT}"


__getattr__ = former_names(
    __name__,
    {
        "setup_logging": "pyres.logs:setup_logging",
        "setup_pidfile": "pyres:setup_pidfile",
    },
)
