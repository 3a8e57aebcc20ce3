"""The command lines of pyres 1.5 and of its fork: each option, its default, and its effect."""

from __future__ import annotations

import base64
import contextlib
import io
import logging
import os
import sys
import tempfile
import unittest

import setproctitle

from pyres import logs, scripts
from pyres.horde import Khan
from pyres.process.signals import Signals
from pyres.scheduler import Scheduler
from pyres.worker import Worker


class Recorded:
    """The result of a command line: the daemon, and the interval of its work()."""

    daemon = None
    interval = None
    pidfile = None


def recording(owner):
    """A daemon's class whose work() only records the call."""

    class Recording(owner):
        def work(self, interval=None):
            Recorded.daemon, Recorded.interval = self, interval

        def __call__(self):
            Recorded.daemon = self

    return Recording


class CommandCase(unittest.TestCase):
    def setUp(self):
        for name, owner in (("Worker", Worker), ("Khan", Khan), ("Scheduler", Scheduler)):
            setattr(scripts, name, recording(owner))
            self.addCleanup(setattr, scripts, name, owner)
        self.addCleanup(setproctitle.setproctitle, setproctitle.getproctitle())
        for logger in (logging.getLogger(), logging.getLogger("pyres")):
            self.addCleanup(logger.setLevel, logger.level)
        self.addCleanup(setattr, sys, "path", [*sys.path])
        self.addCleanup(setattr, Recorded, "daemon", None)
        self.addCleanup(logs.clear_logging)
        # --path is inserted at the front of it.
        self.addCleanup(sys.path.__setitem__, slice(None), list(sys.path))
        self.addCleanup(setattr, Recorded, "daemon", None)

    def run_command(self, command, *args):
        """The daemon of this command line."""
        Recorded.daemon = Recorded.interval = None
        self.assertEqual(command(list(args)) or 0, 0)
        return Recorded.daemon

    def level(self):
        return logging.getLogger("pyres").level


class WorkerCommandTests(CommandCase):
    def worker(self, *args):
        return self.run_command(scripts.pyres_worker, *args)

    def test_the_queues_are_a_comma_separated_list(self):
        self.assertEqual(str(self.worker("high,low")).split(":")[2], "high,low")
        self.assertEqual(str(self.worker("--queues", "high,low")).split(":")[2], "high,low")

    def test_the_defaults_are_those_of_1_5(self):
        worker = self.worker("q")

        self.assertEqual((worker.resq.host, worker.resq.port), ("localhost", 6379))
        self.assertIsNone(worker.resq.password)
        self.assertEqual(Recorded.interval, 5)
        self.assertIsNone(worker.timeout)
        self.assertEqual(self.level(), logging.INFO)

    def test_the_server_is_set_by_its_parts_or_by_a_dsn(self):
        worker = self.worker("--host", "db1", "--port", "7000", "--password", "secret", "q")
        self.assertEqual((worker.resq.host, worker.resq.port), ("db1", 7000))
        self.assertEqual(worker.resq.password, "secret")

        worker = self.worker("--dsn", "db2:7001/3", "q")
        self.assertEqual((worker.resq.host, worker.resq.port), ("db2", 7001))
        self.assertIn("/3", worker.resq.dsn)

    def test_the_interval_may_be_a_fraction(self):
        for option in ("-i", "--interval"):
            self.worker(option, "0.5", "q")
            self.assertEqual(Recorded.interval, 0.5)

    def test_the_timeout_reaches_the_worker(self):
        for option in ("-t", "--timeout"):
            self.assertEqual(self.worker(option, "30", "q").timeout, 30)

    def test_the_log_level_is_a_name(self):
        for option, name in (("-l", "debug"), ("--log-level", "WARNING")):
            self.worker(option, name, "q")
            self.assertEqual(self.level(), getattr(logging, name.upper()))

    def test_the_log_file_and_the_pidfile_are_written(self):
        with tempfile.TemporaryDirectory() as folder:
            log, pid = os.path.join(folder, "log"), os.path.join(folder, "run", "pid")
            written = []

            class Writing(Worker):
                def work(self, interval=5):
                    with open(pid) as file:
                        written.append(file.read().strip())
                    logging.getLogger("pyres").info("it works")

            scripts.Worker = Writing
            self.run_command(scripts.pyres_worker, "-f", log, "-p", pid, "q")

            self.assertEqual(written, [str(os.getpid())])
            with open(log) as file:
                self.assertIn("INFO     it works", file.read())

    def test_nonblocking_pop_of_the_fork(self):
        for option in ("-n", "--nonblocking-pop"):
            worker = self.worker(option, "q")
            self.assertFalse(worker.blocking_pop or worker.watch_pop)


class ManagerCommandTests(CommandCase):
    def khan(self, *args):
        return self.run_command(scripts.pyres_manager, *args)

    def test_the_defaults_are_those_of_1_5(self):
        khan = self.khan("q")

        self.assertEqual((khan.server.host, khan.server.port), ("localhost", 6379))
        self.assertEqual((khan.pool_size, khan.max_jobs), (1, 0))
        self.assertEqual((khan.minions_interval, Recorded.interval), (5, 2))
        self.assertFalse(khan.concat_minions_logs)
        self.assertEqual(khan.logging_level, logging.INFO)

    def test_each_option_reaches_the_manager(self):
        khan = self.khan(
            *("--host", "db1", "--port", "7000", "--password", "secret"),
            *("-i", "0.5", "--minions_interval", "1.5", "--pool", "3", "-j", "7"),
            *("--concat_minions_logs", "-l", "debug", "high,low"),
        )

        self.assertEqual((khan.server.host, khan.server.port), ("db1", 7000))
        self.assertEqual(khan.server.password, "secret")
        self.assertEqual((Recorded.interval, khan.minions_interval), (0.5, 1.5))
        self.assertEqual((khan.pool_size, khan.max_jobs), (3, 7))
        self.assertTrue(khan.concat_minions_logs)
        self.assertEqual(khan.logging_level, logging.DEBUG)
        self.assertEqual(khan._queue_list.names, ["high", "low"])

    def test_the_long_names_work_too(self):
        khan = self.khan("--interval", "3", "--process_max_jobs", "4", "--queues", "q")

        self.assertEqual((Recorded.interval, khan.max_jobs), (3, 4))

    def test_the_log_file_and_the_pidfile_are_those_of_the_manager(self):
        with tempfile.TemporaryDirectory() as folder:
            log, pid = os.path.join(folder, "khan.log"), os.path.join(folder, "pid")

            self.assertEqual(self.khan("-f", log, "-p", pid, "q").log_file, log)
            self.assertTrue(os.path.exists(log))

    def test_the_options_of_the_fork_reach_the_minions(self):
        for options in (("-n", "-r", "-m"), ("--nonblocking-pop", "--reinit-gevent")):
            given = self.khan(*options, "q")._minion_options
            self.assertFalse(given["blocking_pop"])
            self.assertTrue(given["reinit_gevent"])
        self.assertTrue(self.khan("--monkey-patch", "q").monkey_patch)


class SchedulerCommandTests(CommandCase):
    def test_its_options_are_those_of_1_5(self):
        scheduler = self.run_command(scripts.pyres_scheduler)
        self.assertEqual((scheduler.resq.host, scheduler.resq.port), ("localhost", 6379))

        with tempfile.TemporaryDirectory() as folder:
            log, pid = os.path.join(folder, "log"), os.path.join(folder, "pid")
            scheduler = self.run_command(
                scripts.pyres_scheduler,
                *("--host", "db1", "--port", "7000", "--password", "secret"),
                *("-l", "error", "-f", log, "-p", pid),
            )
            self.assertTrue(os.path.exists(log))

        self.assertEqual((scheduler.resq.host, scheduler.resq.port), ("db1", 7000))
        self.assertEqual(scheduler.resq.password, "secret")
        self.assertEqual(self.level(), logging.ERROR)


class Listening:
    """A fake server of the page that only records where it would listen."""

    def __init__(self, seen, options):
        seen.update(options)

    def run(self):
        pass


class WebCommandTests(CommandCase):
    def serve(self, *args):
        """The address of the page, and its servers."""
        import waitress

        import resweb.app

        seen = {}
        for module, name, stand_in in (
            (waitress, "create_server", lambda app, **options: Listening(seen, options)),
            (resweb.app, "create_app", lambda dsns, **options: seen.update(dsns=dsns, **options)),
        ):
            self.addCleanup(setattr, module, name, getattr(module, name))
            setattr(module, name, stand_in)
        installed = []
        self.addCleanup(setattr, Signals, "install", Signals.install)
        Signals.install = lambda signals: installed.append(signals)
        self.run_command(scripts.pyres_web, *args)
        return seen

    def test_its_options_are_those_of_1_5_and_its_fork(self):
        seen = self.serve()
        self.assertEqual((seen["port"], seen["dsns"]), (8080, ["localhost:6379"]))

        seen = self.serve("--host", "127.0.0.9", "--port", "8081", "--dsn", "r1:1,r2:2")
        self.assertEqual((seen["host"], seen["port"]), ("127.0.0.9", 8081))
        self.assertEqual(seen["dsns"], ["r1:1", "r2:2"])
        self.assertEqual(self.serve("--server", "r3:3")["dsns"], ["r3:3"])

    def settings(self, text):
        """Write this text to a file and set RESWEB_SETTINGS to it."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "settings.cfg")
        with open(path, "w") as file:
            file.write(text)
        os.environ["RESWEB_SETTINGS"] = path
        self.addCleanup(os.environ.pop, "RESWEB_SETTINGS", None)

    def test_missing_options_come_from_the_settings_file_of_resweb(self):
        self.settings(
            "RESWEB_HOST = 'db1:7000'\nRESWEB_PASSWORD = 'secret'\nSERVER_HOST = '127.0.0.9'\n"
            "SERVER_PORT = '5001'\nBASIC_AUTH = True\nAUTH_USERNAME = 'ops'\n"
            "AUTH_PASSWORD = 'open sesame'\n"
        )
        from resweb.auth import BasicAuth

        seen = self.serve()

        self.assertEqual((seen["dsns"], seen["password"]), (["db1:7000"], "secret"))
        self.assertEqual((seen["host"], seen["port"]), ("127.0.0.9", 5001))
        auth = BasicAuth(seen["auth"])
        for word, opens in (("ops:open sesame", True), ("ops:another", False)):
            header = f"Basic {base64.b64encode(word.encode()).decode()}"
            self.assertEqual(auth.accepts(header), opens)

    def test_the_command_line_overrides_the_settings_file(self):
        self.settings("RESWEB_HOST = 'db1:7000'\nSERVER_HOST = '::1'\nSERVER_PORT = 5001\n")

        seen = self.serve("--host", "127.0.0.1", "--port", "80", "--dsn", "db2:1")

        self.assertEqual((seen["host"], seen["port"]), ("127.0.0.1", 80))
        self.assertEqual((seen["dsns"], seen["auth"]), (["db2:1"], None))

    def test_a_settings_file_without_basic_auth_sets_no_password(self):
        self.settings("BASIC_AUTH = False\nAUTH_USERNAME = 'ops'\nAUTH_PASSWORD = 'x'\n")

        self.assertIsNone(self.serve()["auth"])

    def test_invalid_settings_are_reported_in_one_line(self):
        for text, named in (
            ("SERVER_PORT = 'x'", "invalid SERVER_PORT 'x': expected a port"),
            ("BASIC_AUTH = True", "invalid BASIC_AUTH: expected AUTH_USERNAME"),
            ("SERVER_PORT =", "invalid RESWEB_SETTINGS '"),
        ):
            self.settings(text)
            errors = io.StringIO()
            with contextlib.redirect_stderr(errors), self.assertRaises(SystemExit) as left:
                self.serve()
            self.assertEqual(left.exception.code, 2)
            self.assertIn(named, errors.getvalue())
            self.assertEqual(errors.getvalue().count("\n"), 1)


class MistakeTests(CommandCase):
    def test_an_invalid_command_line_is_reported_and_exits_with_2(self):
        for command, args in (
            (scripts.pyres_worker, ["--port", "x", "q"]),
            (scripts.pyres_manager, ["--pool", "many", "q"]),
            (scripts.pyres_scheduler, ["-l", "loud"]),
        ):
            errors = io.StringIO()
            with contextlib.redirect_stderr(errors), self.assertRaises(SystemExit) as left:
                command(args)
            self.assertEqual(left.exception.code, 2)
            self.assertIn(args[1], errors.getvalue())
