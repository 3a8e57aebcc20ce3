"""pyres.ResQ, pyres.Stat and the helpers of pyres."""

from __future__ import annotations

import datetime
import logging
import os
import sys
import tempfile

import pyres
from pyres import ResQ, Stat
from pyres.exceptions import PyresError
from pyres.logs import clear_logging
from pyres.worker import Worker
from tests.compat.base import PyResTests, server
from tests.compat.jobs import Basic, NoQueue, Outer

#: A local time that is not ambiguous by daylight saving time.
MOMENT = datetime.datetime(2030, 6, 1, 12, 0, 0)


class ResQTests(PyResTests):
    def test_a_pushed_item_is_last_in_its_queue_and_the_queue_is_watched(self):
        self.resq.push("pushq", {"name": "first"})
        self.resq.push("pushq", {"name": "é"})

        self.assertEqual(self.redis.llen("resque:queue:pushq"), 2)
        self.assertEqual(self.redis.lindex("resque:queue:pushq", 1), '{"name":"é"}'.encode())
        self.assertEqual(self.redis.smembers("resque:queues"), {b"pushq"})
        self.assertIn("pushq", self.resq._watched_queues)

    def test_pop_returns_the_queue_and_the_item_or_two_nones(self):
        self.resq.push("pushq", {"a": 1})
        self.resq.push("pushq", {"a": 2})

        self.assertEqual(self.resq.pop("pushq"), ("pushq", {"a": 1}))
        self.assertEqual(self.resq.pop(["other", "pushq"]), ("pushq", {"a": 2}))
        self.assertEqual(self.resq.pop("pushq", timeout=0), (None, None))

    def test_peek_always_returns_a_list(self):
        self.resq.enqueue(Basic, "one")
        self.resq.enqueue(Basic, "two")

        self.assertEqual([item["args"] for item in self.resq.peek("basic")], [["one"]])
        self.assertEqual([i["args"] for i in self.resq.peek("basic", 0, 20)], [["one"], ["two"]])
        self.assertEqual([item["args"] for item in self.resq.peek("basic", 1, 1)], [["two"]])
        self.assertEqual(self.resq.peek("nothing"), [])
        self.assertEqual(len(self.resq.list_range("queue:basic", 0, 20)), 2)

    def test_size_and_queues_and_watch_queue(self):
        self.resq.enqueue(Basic, "one")
        self.resq.watch_queue("empty")

        self.assertEqual(self.resq.size("basic"), 1)
        self.assertEqual(self.resq.size("nothing"), 0)
        self.assertEqual(sorted(self.resq.queues()), ["basic", "empty"])
        self.assertEqual(self.resq._watched_queues, {"basic", "empty"})

    def test_a_payload_has_class_args_and_enqueue_timestamp_in_this_order(self):
        ResQ._current_time, former = staticmethod(lambda: MOMENT), ResQ._current_time
        self.addCleanup(setattr, ResQ, "_current_time", staticmethod(former))

        self.resq.enqueue(Basic, "test1", 2)

        head = '{"class":"tests.compat.jobs.Basic","args":["test1",2],"enqueue_timestamp":'
        expected = f"{head}{MOMENT.timestamp()}}}"
        self.assertEqual(self.redis.lindex("resque:queue:basic", 0), expected.encode())

    def test_a_class_without_a_queue_logs_a_warning_and_is_not_enqueued(self):
        with self.assertLogs("pyres", logging.WARNING):
            self.resq.enqueue(NoQueue)

        self.assertEqual(self.redis.keys("*"), [])

    def test_enqueue_from_string_accepts_first_attempt(self):
        self.resq.enqueue_from_string("some.where.Else", "else", 1, "two", first_attempt=MOMENT)

        (item,) = self.resq.peek("else")
        self.assertEqual((item["class"], item["args"]), ("some.where.Else", [1, "two"]))
        self.assertEqual(item["first_attempt"], MOMENT)
        self.assertIsInstance(item["enqueue_timestamp"], float)

    def test_the_class_method_enqueues_on_a_default_server(self):
        class Default(ResQ):
            def __init__(self):
                super().__init__(server().dsn)

        Default._enqueue(Basic, "here")

        self.assertEqual(self.resq.peek("basic")[0]["args"], ["here"])

    def test_info_has_the_totals(self):
        self.resq.enqueue(Basic, "one")
        Stat("processed", self.resq).incr(3)
        worker = Worker(["basic"], self.resq)
        worker.register_worker()

        info = self.resq.info()

        self.assertEqual(info["pending"], 1)
        self.assertEqual(info["processed"], 3)
        self.assertEqual(info["queues"], 1)
        self.assertEqual(info["workers"], 1)
        self.assertEqual(info["failed"], 0)
        self.assertEqual(info["servers"], [f"127.0.0.1:{server().port}"])

    def test_keys_are_without_the_prefix(self):
        self.resq.push("resque:odd", {})

        self.assertEqual(sorted(self.resq.keys()), ["queue:resque:odd", "queues"])

    def test_workers_are_ids_and_working_are_workers(self):
        self.resq.enqueue(Basic, "one")
        worker = Worker(["basic"], self.resq)
        worker.register_worker()
        worker.working_on(self.resq.reserve("basic"))

        self.assertEqual(self.resq.workers(), [str(worker)])
        self.assertEqual([str(found) for found in self.resq.working()], [str(worker)])

    def test_reserve_returns_a_job_or_none(self):
        self.resq.enqueue(Basic, "one")

        job = self.resq.reserve(["basic"])

        self.assertEqual(job.perform(), "name:one")
        self.resq.blocking_pop = False
        self.assertIsNone(self.resq.reserve("basic"))

    def test_a_removed_queue_is_not_listed_any_more(self):
        self.resq.enqueue(Basic, "one")

        self.resq.remove_queue("basic")

        self.assertEqual(self.redis.keys("*"), [])
        self.assertEqual(self.resq._watched_queues, set())

    def test_redis_may_be_set_only_to_a_string_or_a_client(self):
        self.resq.redis = self.dsn
        self.assertEqual(self.resq.redis.ping(), True)
        client = server().client()
        self.resq.redis = client
        self.assertIs(self.resq.redis, client)
        self.assertIs(ResQ(client).redis, client)
        for wrong in (42, None, object()):
            with self.assertRaises(PyresError):
                self.resq.redis = wrong
            with self.assertRaises(PyresError):
                ResQ(wrong)

    def test_its_dsn_and_str_have_the_server_and_not_the_password(self):
        resq = ResQ(self.dsn, password=None)

        self.assertEqual((resq.host, resq.port), ("127.0.0.1", server().port))
        self.assertEqual(resq.dsn, f"127.0.0.1:{server().port}")
        self.assertEqual(str(resq), f"PyRes Client connected to {resq.dsn}")
        secret = ResQ("somewhere:1234/5", password="secret")
        self.assertEqual(secret.password, "secret")
        self.assertEqual((secret.host, secret.port), ("somewhere", 1234))
        self.assertNotIn("secret", str(secret) + secret.dsn)

    def test_a_client_with_decode_responses_works_too(self):
        resq = ResQ(server().client(decode_responses=True))

        resq.enqueue(Basic, "é")

        self.assertEqual(resq.queues(), ["basic"])
        self.assertEqual(resq.peek("basic")[0]["args"], ["é"])
        self.assertEqual(resq.reserve("basic").perform(), "name:é")

    def test_a_closed_resq_reconnects(self):
        self.resq.close()

        self.assertEqual(self.resq.queues(), [])

    def test_encode_and_decode_are_class_methods(self):
        self.assertEqual(ResQ.encode({"class": "é", "args": []}), '{"class":"é","args":[]}')
        self.assertEqual(ResQ.decode(b'{"a":1}'), {"a": 1})
        self.assertEqual(ResQ.decode('{"a":1}'), {"a": 1})


class DelayedTests(PyResTests):
    TIMESTAMP = int(MOMENT.timestamp())

    def test_a_delayed_job_is_stored_at_its_second(self):
        self.resq.enqueue_at(MOMENT, Basic, "test1")
        self.resq.enqueue_at(MOMENT + datetime.timedelta(seconds=0.9), Basic, "test2")

        key = f"resque:delayed:{self.TIMESTAMP}"
        self.assertEqual(self.redis.llen(key), 2)
        self.assertEqual(
            self.redis.zrange("resque:delayed_queue_schedule", 0, -1, withscores=True),
            [(str(self.TIMESTAMP).encode(), float(self.TIMESTAMP))],
        )

    def test_peeks_and_sizes_return_exactly_the_requested_range(self):
        for second in (0, 0, 1, 2):
            self.resq.enqueue_at(MOMENT + datetime.timedelta(seconds=second), Basic, second)
        first = self.TIMESTAMP

        self.assertEqual(self.resq.delayed_queue_peek(0, 2), [first, first + 1])
        self.assertEqual(self.resq.delayed_queue_peek(1, 20), [first + 1, first + 2])
        self.assertEqual(self.resq.delayed_queue_schedule_size(), 4)
        self.assertEqual(self.resq.delayed_timestamp_size(first), 2)
        self.assertEqual(len(self.resq.delayed_timestamp_peek(first, 0, 1)), 1)
        (item,) = self.resq.delayed_timestamp_peek(first + 2, 0, 20)
        self.assertEqual(item["class"], "tests.compat.jobs.Basic")
        self.assertEqual((item["queue"], item["args"]), ("basic", [2]))

    def test_a_string_may_name_the_class_and_first_attempt_is_kept(self):
        self.resq.enqueue_at_from_string(MOMENT, "a.B", "queue", 1, first_attempt=MOMENT)

        (item,) = self.resq.delayed_timestamp_peek(self.TIMESTAMP, 0, 1)
        self.assertEqual((item["class"], item["queue"], item["args"]), ("a.B", "queue", [1]))
        self.assertEqual(item["first_attempt"], MOMENT)

    def test_the_next_timestamp_is_text_and_returned_only_when_due(self):
        self.addCleanup(setattr, ResQ, "_current_time", staticmethod(ResQ._current_time))
        self.resq.delayed_push(MOMENT, {"class": "a.B", "queue": "q", "args": []})

        ResQ._current_time = staticmethod(lambda: MOMENT - datetime.timedelta(seconds=1))
        self.assertIsNone(self.resq.next_delayed_timestamp())
        ResQ._current_time = staticmethod(lambda: MOMENT)
        self.assertEqual(self.resq.next_delayed_timestamp(), str(self.TIMESTAMP))

    def test_a_timestamp_is_removed_with_its_last_item(self):
        self.resq.enqueue_at(MOMENT, Basic, "one")
        self.resq.enqueue_at(MOMENT, Basic, "two")

        items = [self.resq.next_item_for_timestamp(self.TIMESTAMP) for _ in range(3)]

        self.assertEqual([item and item["args"] for item in items], [["one"], ["two"], None])
        self.assertEqual(self.redis.keys("*"), [])

    def test_an_aware_datetime_keeps_its_moment(self):
        tokyo = datetime.timezone(datetime.timedelta(hours=9))
        self.resq.enqueue_at(datetime.datetime(2030, 1, 1, 9, tzinfo=tokyo), Basic, 1)

        midnight = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
        self.assertEqual(self.resq.delayed_queue_peek(0, 1), [int(midnight.timestamp())])


class StatTests(PyResTests):
    def test_a_counter_can_be_incremented_decremented_and_cleared(self):
        stat = Stat("test_stat", self.resq)

        self.assertEqual(stat.get(), 0)
        stat.incr()
        stat.incr(4)
        self.assertEqual(self.redis.get("resque:stat:test_stat"), b"5")
        stat.decr()
        stat.decr(2)
        self.assertEqual(stat.get(), 2)
        stat.clear()
        self.assertFalse(self.redis.exists(stat.key))
        self.assertEqual((stat.name, stat.key), ("test_stat", "resque:stat:test_stat"))
        self.assertIs(stat.resq, self.resq)


class HelperTests(PyResTests):
    def test_a_class_is_found_by_its_dotted_name(self):
        name = "tests.compat.jobs.Basic"

        self.assertIs(pyres.safe_str_to_class(name), Basic)
        self.assertIs(pyres.str_to_class(name), Basic)
        self.assertIs(pyres.str_to_class("tests.compat.jobs.Outer.Inner"), Outer.Inner)
        self.assertEqual(pyres.my_import("tests.compat.jobs").__name__, "tests.compat.jobs")

    def test_an_unknown_name_is_an_import_error_or_none(self):
        for name in ("tests.compat.jobs.Nobody", "no.such.module.Nobody", "Nobody"):
            with self.assertRaises(ImportError):
                pyres.safe_str_to_class(name)
            self.assertIsNone(pyres.str_to_class(name))

    def test_a_bare_name_is_a_class_in_the_module_of_that_name(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "BareForCompat.py"), "w") as file:
                file.write("class BareForCompat:\n    queue = 'bare'\n")
            sys.path.insert(0, folder)
            self.addCleanup(sys.path.remove, folder)

            found = pyres.safe_str_to_class("BareForCompat")

        self.assertEqual(found.queue, "bare")

    def test_missing_folders_of_a_pidfile_are_created(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "a", "b", "pid")

            pyres.setup_pidfile(path)

            with open(path) as file:
                self.assertEqual(file.read().strip(), str(os.getpid()))

    def test_the_file_name_selects_the_log_handler(self):
        self.assertTrue(pyres.special_log_file("stderr"))
        self.assertTrue(pyres.special_log_file("syslog:local0"))
        self.assertFalse(pyres.special_log_file("/var/log/pyres.log"))
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "log")
            handler = pyres.get_logging_handler(path, "pyres_worker", "namespace")
            record = logging.LogRecord("x", logging.INFO, "", 0, "it %s", ("works",), None)
            handler.emit(record)
            handler.close()

            with open(path) as file:
                self.assertRegex(
                    file.read(), r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +\d+ INFO     it works\n$"
                )

    def test_setup_logging_accepts_a_level_and_a_file(self):
        self.addCleanup(clear_logging)
        for logger in (logging.getLogger(), logging.getLogger("pyres")):
            self.addCleanup(logger.setLevel, logger.level)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "log")

            pyres.setup_logging("pyres_worker", log_level=logging.DEBUG, filename=path)
            logging.getLogger("pyres.test").debug("seen")

            with open(path) as file:
                self.assertIn("DEBUG    seen", file.read())
