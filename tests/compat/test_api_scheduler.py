"""Scheduler: the methods that users of pyres 1.5 call and override."""

from __future__ import annotations

import datetime
import inspect
import logging
import signal

from pyres import ResQ
from pyres.scheduler import Scheduler
from tests.compat.base import PyResTests
from tests.compat.jobs import Basic

NOW = datetime.datetime(2030, 6, 1, 12, 0, 0)


class Once(Scheduler):
    """Stops after the first round of its loop."""

    def _sleep(self, seconds):
        self.schedule_shutdown(signal.SIGTERM, None)


class SchedulerApiTests(PyResTests):
    def setUp(self):
        super().setUp()
        self.addCleanup(setattr, ResQ, "_current_time", staticmethod(ResQ._current_time))
        ResQ._current_time = staticmethod(lambda: NOW)
        for seconds, args in ((-2, "first"), (-1, "second"), (60, "later")):
            self.resq.enqueue_at(NOW + datetime.timedelta(seconds=seconds), Basic, args)

    def waiting(self):
        return [job["args"][0] for job in self.resq.peek("basic", 0, 9)]

    def test_due_items_come_from_generators(self):
        scheduler = Scheduler(self.resq)
        self.assertTrue(inspect.isgenerator(scheduler.next_timestamp()))
        self.assertTrue(inspect.isgenerator(scheduler.next_item(1)))

        items = [
            item["args"][0]
            for timestamp in scheduler.next_timestamp()
            for item in scheduler.next_item(timestamp)
        ]

        self.assertEqual(items, ["first", "second"])
        self.assertEqual(self.resq.delayed_queue_schedule_size(), 1)

    def test_a_call_runs_it_until_it_is_stopped(self):
        Once(self.resq)()

        self.assertEqual(self.waiting(), ["first", "second"])

    def test_the_loop_calls_handle_delayed_items_of_a_subclass(self):
        calls = []

        class Mine(Once):
            def handle_delayed_items(self):
                calls.append(self.waiting_timestamps())
                super().handle_delayed_items()

            def waiting_timestamps(self):
                return len(self.resq.delayed_queue_peek(0, 9))

        Mine(self.resq)()

        self.assertEqual(calls, [3])
        self.assertEqual(self.waiting(), ["first", "second"])

    def test_the_items_of_a_subclasss_generators_are_moved(self):
        class Mine(Once):
            def next_timestamp(self):
                for timestamp in super().next_timestamp():
                    self.resq.redis.rpush("timestamps", timestamp)
                    yield timestamp

            def next_item(self, timestamp):
                for item in super().next_item(timestamp):
                    if item["args"] != ["first"]:
                        yield {**item, "args": [item["args"][0] + "!"], "kept": 1}

        with self.assertLogs("pyres.scheduler", logging.WARNING):
            Mine(self.resq)()

        self.assertEqual(self.waiting(), ["second!"])
        (job,) = self.resq.peek("basic")
        self.assertEqual(list(job), ["class", "args", "kept", "enqueue_timestamp"])
        self.assertEqual(job["enqueue_timestamp"], NOW.timestamp())
        self.assertEqual(self.redis.llen("timestamps"), 2)

    def test_register_signal_handlers_of_a_subclass_is_called(self):
        calls = []

        class Mine(Once):
            def register_signal_handlers(self):
                calls.append("handlers")
                super().register_signal_handlers()

        Mine(self.resq)()

        self.assertEqual(calls, ["handlers"])
