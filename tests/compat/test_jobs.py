"""pyres.job.Job, and the hooks and settings of a job class."""

from __future__ import annotations

import datetime
import logging

from pyres import ResQ, failure
from pyres.job import Job
from tests.compat.base import PyResTests
from tests.compat.jobs import Basic, BasicMulti, Failing, Hooked, RetryForEver, RetryOnce

NOW = datetime.datetime(2030, 6, 1, 12, 0, 0)


class JobTests(PyResTests):
    def job(self, klass, *args, **more):
        """A job of this class as a worker reserves it."""
        name = f"{klass.__module__}.{klass.__name__}"
        return Job("basic", {"class": name, "args": list(args), **more}, self.resq)

    def at(self, moment):
        ResQ._current_time, former = staticmethod(lambda: moment), ResQ._current_time
        self.addCleanup(setattr, ResQ, "_current_time", staticmethod(former))

    def test_reserve_returns_the_job_with_its_attributes(self):
        self.resq.enqueue(Basic, "test1")

        job = Job.reserve("basic", self.resq)

        self.assertEqual(job._queue, "basic")
        self.assertEqual(job._payload["class"], "tests.compat.jobs.Basic")
        self.assertEqual(job._payload["args"], ["test1"])
        self.assertIs(job.resq, self.resq)
        self.assertIsNone(job._worker)
        self.assertIsInstance(job.enqueue_timestamp, float)

    def test_reserve_of_an_empty_queue_returns_none(self):
        self.assertIsNone(Job.reserve("basic", self.resq, timeout=0))

    def test_perform_returns_the_value(self):
        self.resq.enqueue(BasicMulti, "bob", 23)

        self.assertEqual(Job.reserve(["basic"], self.resq).perform(), "name: bob, age: 23")

    def test_a_job_is_shown_with_its_queue_class_and_args(self):
        job = self.job(Basic, "one", 2)

        self.assertEqual(str(job), "(Job{basic} | tests.compat.jobs.Basic | ['one', 2])")

    def test_the_class_has_resq_while_it_performs_and_not_after(self):
        seen = []

        class Seeing:
            queue = "basic"

            @classmethod
            def perform(cls):
                seen.append(cls.resq)

        job = self.job(Basic)
        job.safe_str_to_class = lambda name: Seeing
        job.perform()

        self.assertEqual(seen, [self.resq])
        self.assertFalse(hasattr(Seeing, "resq"))

    def test_users_replace_how_a_class_is_found(self):
        former = Job.safe_str_to_class
        self.addCleanup(setattr, Job, "safe_str_to_class", staticmethod(former))
        Job.safe_str_to_class = staticmethod(lambda name: Basic)

        self.assertEqual(
            Job("q", {"class": "Whatever", "args": ["x"]}, self.resq).perform(), "name:x"
        )

    def test_fail_records_and_returns_the_failure(self):
        job = self.job(Basic, "one")

        failed = job.fail(ValueError("it failed"))

        self.assertEqual(failed._queue, "basic")
        (record,) = failure.all(self.resq, 0, 10)
        self.assertEqual(record["exception"], "ValueError")
        self.assertEqual(record["error"], "it failed")

    def test_fail_accepts_a_string_too(self):
        self.job(Basic, "one").fail("just a text")

        self.assertEqual(failure.all(self.resq, 0, 1)[0]["error"], "just a text")

    def test_a_job_does_not_change_the_failure_backend(self):
        class Mine(failure.RedisBackend):
            pass

        failure.backend = Mine

        self.assertIsInstance(self.job(Basic).fail("text"), Mine)
        self.assertIs(failure.backend, Mine)

    def test_hooks_get_the_metadata(self):
        self.at(NOW)
        Hooked.noted.clear()

        value = self.job(Hooked, False, enqueue_timestamp=1.5).perform()

        self.assertEqual(value, "value")
        (before, first), (after, second) = Hooked.noted
        self.assertEqual((before, after), ("before", "after"))
        self.assertEqual(first["args"], [False])
        self.assertEqual(first["enqueue_timestamp"], 1.5)
        self.assertEqual(first["perform_timestamp"], NOW.timestamp())
        self.assertFalse(second["failed"])

    def test_after_perform_runs_after_a_failure_too_and_gets_it(self):
        Hooked.noted.clear()

        with self.assertRaises(ValueError):
            self.job(Hooked, True).perform()

        _, (_, metadata) = Hooked.noted
        self.assertTrue(metadata["failed"])
        self.assertIsInstance(metadata["exception"], ValueError)
        self.assertFalse(metadata["retried"])

    def test_an_after_perform_that_raises_does_not_change_the_outcome(self):
        class Broken(Basic):
            @staticmethod
            def after_perform(metadata):
                raise RuntimeError("the hook is broken")

        job = self.job(Basic, "one")
        job.safe_str_to_class = lambda name: Broken

        with self.assertLogs("pyres", logging.ERROR):
            self.assertEqual(job.perform(), "name:one")

    def test_a_failed_job_is_retried_by_its_classs_settings(self):
        self.at(NOW)

        self.assertIsNone(self.job(RetryOnce, "arg", kept="along").perform())

        due = int(NOW.timestamp()) + 5
        self.assertEqual(self.resq.delayed_queue_peek(0, 10), [due])
        (item,) = self.resq.delayed_timestamp_peek(due, 0, 10)
        self.assertEqual((item["queue"], item["args"]), ("basic", ["arg"]))
        self.assertEqual(item["first_attempt"], NOW)
        self.assertEqual(item["kept"], "along")
        self.assertEqual(failure.count(self.resq), 0)

    def test_a_retry_goes_to_the_queue_the_job_came_from(self):
        self.at(NOW)
        payload = {"class": "tests.compat.jobs.RetryOnce", "args": []}

        Job("another", payload, self.resq).perform()

        (item,) = self.resq.delayed_timestamp_peek(int(NOW.timestamp()) + 5, 0, 10)
        self.assertEqual(item["queue"], "another")

    def test_a_job_fails_when_its_time_for_retries_is_over(self):
        self.at(NOW)
        long_ago = NOW - datetime.timedelta(seconds=6)

        with self.assertRaises(ValueError):
            self.job(RetryOnce, first_attempt=long_ago).perform()

        self.assertEqual(self.resq.delayed_queue_schedule_size(), 0)

    def test_no_retry_timeout_means_no_limit(self):
        self.at(NOW)
        years_ago = NOW - datetime.timedelta(days=1000)

        self.assertIsNone(self.job(RetryForEver, first_attempt=years_ago).perform())

        self.assertEqual(self.resq.delayed_queue_schedule_size(), 1)

    def test_retry_returns_whether_the_job_is_retried(self):
        self.assertTrue(self.job(RetryOnce).retry(RetryOnce, []))
        self.assertFalse(self.job(Failing).retry(Failing, []))
