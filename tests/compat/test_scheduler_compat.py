"""pyres.scheduler.Scheduler."""

from __future__ import annotations

import datetime
import signal
import subprocess
import sys

from pyres import ResQ
from pyres.scheduler import Scheduler
from tests.compat.base import PyResTests
from tests.compat.jobs import Basic
from tests.servers import ROOT, until

NOW = datetime.datetime(2030, 6, 1, 12, 0, 0)


class SchedulerTests(PyResTests):
    def setUp(self):
        super().setUp()
        self.addCleanup(setattr, ResQ, "_current_time", staticmethod(ResQ._current_time))
        ResQ._current_time = staticmethod(lambda: NOW)

    def delay(self, seconds, *args):
        self.resq.enqueue_at(NOW + datetime.timedelta(seconds=seconds), Basic, *args)

    def test_its_server_must_be_a_dsn_or_a_resq(self):
        self.assertIsInstance(Scheduler(self.dsn).resq, ResQ)
        self.assertIs(Scheduler(self.resq).resq, self.resq)
        with self.assertRaises(ValueError):
            Scheduler(object())

    def test_due_jobs_are_moved_and_the_others_stay(self):
        self.delay(-2, "first")
        self.delay(-1, "second")
        self.delay(60, "later")

        Scheduler(self.resq).handle_delayed_items()

        jobs = self.resq.peek("basic", 0, 10)
        self.assertEqual([job["args"] for job in jobs], [["first"], ["second"]])
        self.assertEqual(jobs[0]["class"], "tests.compat.jobs.Basic")
        self.assertNotIn("queue", jobs[0])
        self.assertEqual(self.resq.delayed_queue_schedule_size(), 1)
        self.assertEqual(self.resq.reserve("basic").perform(), "name:first")

    def test_the_generators_yield_due_items(self):
        self.delay(-2, "first")
        self.delay(-2, "second")
        scheduler = Scheduler(self.resq)
        due = str(int(NOW.timestamp()) - 2)

        self.assertEqual(next(scheduler.next_timestamp()), due)
        items = [item["args"] for item in scheduler.next_item(due)]

        self.assertEqual(items, [["first"], ["second"]])
        self.assertEqual(list(scheduler.next_timestamp()), [])

    def test_a_signal_stops_it(self):
        scheduler = Scheduler(self.resq)
        former = signal.getsignal(signal.SIGTERM)

        scheduler.register_signal_handlers()
        handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)]
        scheduler.signals.restore()

        self.assertEqual(handlers, [scheduler.schedule_shutdown] * 3)
        self.assertEqual(signal.getsignal(signal.SIGTERM), former)
        scheduler.schedule_shutdown(signal.SIGTERM, None)
        scheduler()
        self.assertEqual(self.redis.keys("*"), [])

    def test_run_runs_until_a_signal(self):
        ResQ(self.dsn).delayed_push(datetime.datetime(2020, 1, 1), payload())
        program = f"from pyres.scheduler import Scheduler; Scheduler.run({self.dsn!r})"
        process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
        try:
            until(lambda: self.resq.size("basic") == 1, what="a job on its queue")
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(60), 0)
        finally:
            process.kill()
            process.wait()


def payload():
    return {"class": "tests.compat.jobs.Basic", "args": ["one"], "queue": "basic"}
