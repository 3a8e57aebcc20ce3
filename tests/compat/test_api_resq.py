"""The defaults, the clock and the logs of pyres 1.5, and classes named by a string."""

from __future__ import annotations

import datetime
import importlib
import inspect
import io
import json
import logging
import logging.handlers
import os
import sys
import tempfile

import pyres
from pyres import ResQ, failure
from pyres.job import Job
from pyres.worker import Worker
from tests.compat.base import PyResTests
from tests.compat.jobs import Basic, Failing, Hooked, RetryOnce

NOW = datetime.datetime(2030, 6, 1, 12, 0, 0)

#: Callable -> the defaults of its parameters in pyres 1.5.
DEFAULTS = {
    "pyres.ResQ": {"server": "localhost:6379", "password": None},
    "pyres.ResQ.pop": {"timeout": 10},
    "pyres.ResQ.peek": {"start": 0, "count": 1},
    "pyres.Stat.incr": {"n": 1},
    "pyres.Stat.decr": {"n": 1},
    "pyres.get_logging_handler": {"namespace": None},
    "pyres.setup_logging": {"log_level": logging.INFO, "filename": None},
    "pyres.job.Job": {"worker": None},
    "pyres.job.Job.reserve": {"worker": None, "timeout": 10},
    "pyres.worker.Worker": {
        "queues": (),
        "server": "localhost:6379",
        "password": None,
        "timeout": None,
    },
    "pyres.worker.Worker.work": {"interval": 5},
    "pyres.worker.Worker.process": {"job": None},
    "pyres.worker.Worker.reserve": {"timeout": 10},
    "pyres.worker.Worker.run": {"password": None, "interval": None, "timeout": None},
    "pyres.scheduler.Scheduler": {"server": "localhost:6379", "password": None},
    "pyres.scheduler.Scheduler.run": {"password": None},
    "pyres.failure.create": {"worker": None},
    "pyres.failure.base.BaseBackend": {"worker": None},
    "pyres.failure.base.BaseBackend.save": {"resq": None},
}

#: Callable -> its parameters, which users may pass by name.
NAMES = {
    "pyres.worker.Worker.shutdown_all": ["signum", "frame"],
    "pyres.worker.Worker.schedule_shutdown": ["signum", "frame"],
    "pyres.worker.Worker.kill_child": ["signum", "frame"],
    "pyres.worker.Worker.all": ["host"],
    "pyres.worker.Worker.working": ["host"],
    "pyres.worker.Worker.exists": ["worker_id", "resq"],
    "pyres.horde.Khan._remove_minion": ["pid"],
    "pyres.horde.Khan.process_command": ["command"],
    "pyres.horde.Khan.kill_child": ["signum", "frame"],
    "pyres.horde.Khan.add_child": ["signum", "frame"],
    "pyres.horde.Khan.schedule_shutdown": ["signum", "frame"],
    "pyres.horde.Minion.process": ["job"],
    "pyres.scheduler.Scheduler.schedule_shutdown": ["signal", "frame"],
    "pyres.scheduler.Scheduler.next_item": ["timestamp"],
    "pyres.ResQ.size": ["queue"],
    "pyres.ResQ.delayed_queue_peek": ["start", "count"],
    "pyres.ResQ.delayed_timestamp_size": ["timestamp"],
    "pyres.ResQ.next_item_for_timestamp": ["timestamp"],
    "pyres.ResQ.remove_queue": ["queue"],
    "pyres.ResQ.watch_queue": ["queue"],
    "pyres.ResQ.encode": ["item"],
    "pyres.ResQ.decode": ["item"],
}


def parameters(path):
    """The parameters of the callable at a dotted path, without self."""
    parts = path.split(".")
    modules = next(n for n in range(len(parts), 0, -1) if is_module(".".join(parts[:n])))
    target = importlib.import_module(".".join(parts[:modules]))
    for part in parts[modules:]:
        target = getattr(target, part)
    found = inspect.signature(target).parameters
    return {name: parameter for name, parameter in found.items() if name != "self"}


def is_module(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


class SignatureTests(PyResTests):
    def test_the_defaults_are_those_of_1_5(self):
        for path, wanted in DEFAULTS.items():
            found = {name: parameter.default for name, parameter in parameters(path).items()}
            with self.subTest(path):
                self.assertEqual({name: found.get(name) for name in wanted}, wanted)

    def test_the_parameters_have_the_names_of_1_5(self):
        for path, names in NAMES.items():
            with self.subTest(path):
                self.assertEqual(list(parameters(path))[: len(names)], names)


class ClockTests(PyResTests):
    """Users' tests replace `ResQ._current_time`."""

    def setUp(self):
        super().setUp()
        self.addCleanup(setattr, ResQ, "_current_time", staticmethod(ResQ._current_time))
        ResQ._current_time = staticmethod(lambda: NOW)

    def test_every_time_written_is_that_of_the_replaced_clock(self):
        self.resq.enqueue(RetryOnce)
        self.resq.enqueue(Failing)
        worker = Worker(["basic"], self.resq)
        worker.register_worker()

        retried = worker.reserve()
        in_flight = worker.job()
        worker.process(retried)
        with self.assertLogs("pyres", logging.ERROR):
            worker.process()

        second = int(NOW.timestamp())
        utc = NOW.astimezone(datetime.UTC)
        self.assertEqual(retried.enqueue_timestamp, NOW.timestamp())
        self.assertEqual(in_flight["run_at"], utc.strftime("%Y-%m-%dT%H:%M:%SZ"))
        self.assertEqual(int(worker.started), second)
        self.assertEqual(self.resq.delayed_queue_peek(0, 9), [second + 5])
        (item,) = self.resq.delayed_timestamp_peek(second + 5, 0, 9)
        self.assertEqual(item["first_attempt"], NOW)
        (record,) = failure.all(self.resq, 0, 9)
        self.assertTrue(record["failed_at"].startswith("2030/06/01 12:00:00 "))


class EnqueueTests(PyResTests):
    def test_enqueue_at_accepts_first_attempt(self):
        self.resq.enqueue_at(NOW, Basic, "one", first_attempt=NOW)

        (item,) = self.resq.delayed_timestamp_peek(int(NOW.timestamp()), 0, 9)
        self.assertEqual((item["args"], item["first_attempt"]), (["one"], NOW))

    def test_a_delayed_item_has_class_args_queue_and_no_timestamp(self):
        self.resq.enqueue_at(NOW, Basic, "one")

        raw = self.redis.lindex(f"resque:delayed:{int(NOW.timestamp())}", 0)
        self.assertEqual(list(json.loads(raw)), ["class", "args", "queue"])

    def test_list_range_accepts_the_whole_key_as_in_1_5(self):
        self.resq.enqueue(Basic, "one")
        self.resq.enqueue(Basic, "two")

        items = self.resq.list_range("resque:queue:basic", 1, 5)

        self.assertEqual([item["args"] for item in items], [["two"]])

    def test_the_types_are_those_of_1_5(self):
        self.resq.enqueue(Basic, "one")
        self.resq.enqueue_at(NOW, Basic, "one")
        second = int(NOW.timestamp())

        self.assertIs(type(self.resq.size("basic")), int)
        self.assertIs(type(self.resq.queues()), list)
        self.assertIs(type(self.resq.delayed_queue_peek(0, 1)[0]), int)
        self.assertIs(type(self.resq.delayed_timestamp_size(second)), int)
        self.assertIs(type(self.resq.delayed_queue_schedule_size()), int)
        self.assertIs(type(self.resq.next_item_for_timestamp(second)), dict)
        self.assertIs(type(self.resq._watched_queues), set)
        self.assertIs(type(self.resq.encode({})), str)

    def test_a_timestamp_may_be_text(self):
        self.resq.enqueue_at(NOW, Basic, "one")
        text = str(int(NOW.timestamp()))

        self.assertEqual(self.resq.delayed_timestamp_size(text), 1)
        self.assertEqual(len(self.resq.delayed_timestamp_peek(text, 0, 1)), 1)
        self.assertEqual(self.resq.next_item_for_timestamp(text)["args"], ["one"])
        self.assertIsNone(self.resq.next_item_for_timestamp(text))


class JobTests(PyResTests):
    def test_reserve_sets_the_worker_of_the_job(self):
        self.resq.enqueue(Basic, "one")

        self.assertEqual(Job.reserve("basic", self.resq, "host:1:basic")._worker, "host:1:basic")

    def test_after_perform_knows_that_a_failure_is_retried(self):
        calls = []

        class Retried(RetryOnce):
            @staticmethod
            def after_perform(metadata):
                calls.append(metadata)

        job = Job("basic", {"class": "any", "args": [1]}, self.resq)
        job.safe_str_to_class = lambda name: Retried
        job.perform()

        (metadata,) = calls
        self.assertEqual((metadata["failed"], metadata["retried"]), (True, True))
        self.assertIsInstance(metadata["exception"], ValueError)

    def test_only_the_exact_names_get_the_metadata(self):
        seen = []

        class Styles(Hooked):
            @staticmethod
            def before_perform_log(*args):
                seen.append(args)

            @staticmethod
            def after_perform_log(*args):
                seen.append(args)

        job = Job("basic", {"class": "any", "args": [False]}, self.resq)
        job.safe_str_to_class = lambda name: Styles
        Hooked.noted.clear()
        job.perform()

        self.assertEqual(seen, [(False,), (False,)])
        self.assertEqual([metadata["args"] for _, metadata in Hooked.noted], [[False], [False]])

    def test_a_worker_performs_by_its_own_job_class(self):
        class MyJob(Job):
            def perform(self):
                return "mine"

        class MyWorker(Worker):
            job_class = MyJob

        self.resq.enqueue(Basic, "one")

        self.assertEqual(MyWorker(["basic"], self.resq).process(), "mine")

    def test_a_backend_set_by_the_jobs_module_records_its_failure(self):
        name = f"backend_of_{os.getpid()}"
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, f"{name}.py"), "w") as file:
                file.write(MODULE_WITH_A_BACKEND)
            sys.path.insert(0, folder)
            self.addCleanup(sys.path.remove, folder)
            self.resq.enqueue_from_string(f"{name}.Failing", "basic")
            worker = Worker(["basic"], self.resq)

            worker.fork_worker(worker.reserve())

        self.assertEqual(self.redis.lrange("mine", 0, -1), [b"ValueError: it failed"])
        self.assertEqual(self.redis.llen("resque:failed"), 0)


MODULE_WITH_A_BACKEND = """
from pyres import failure
from pyres.failure.base import BaseBackend

class Mine(BaseBackend):
    def save(self, resq=None):
        resq.redis.rpush("mine", f"{type(ValueError()).__name__}: it failed")

failure.backend = Mine

class Failing:
    queue = "basic"

    @staticmethod
    def perform():
        raise ValueError("it failed")
"""


class LogTests(PyResTests):
    def handler(self, *args):
        handler = pyres.get_logging_handler(*args)
        self.addCleanup(handler.close)
        return handler

    def test_without_a_file_name_the_log_is_stderr(self):
        for name in (None, "", "stderr"):
            self.assertIs(self.handler(name, "pyres_worker").stream, sys.stderr)
        self.assertIs(self.handler("stdout", "pyres_worker").stream, sys.stdout)

    def test_a_facility_of_syslog_may_follow_it(self):
        facilities = logging.handlers.SysLogHandler.facility_names

        for name, facility in (("syslog", "user"), ("syslog:local0", "local0")):
            handler = self.handler(name, "pyres_worker")
            self.assertIsInstance(handler, logging.handlers.SysLogHandler)
            self.assertEqual(handler.facility, facilities[facility])

    def test_a_line_has_the_time_the_pid_the_level_and_the_message(self):
        handler = self.handler("stdout", "pyres_worker")
        handler.stream = io.StringIO()
        handler.emit(logging.LogRecord("x", logging.WARNING, "", 0, "a message", None, None))

        self.assertRegex(
            handler.stream.getvalue(),
            rf"^\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d {os.getpid():5d} WARNING  a message\n$",
        )

    def test_without_a_path_no_pidfile_is_written(self):
        pyres.setup_pidfile(None)
        pyres.setup_pidfile("")
