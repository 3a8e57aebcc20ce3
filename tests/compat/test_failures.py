"""pyres.failure and its backends."""

from __future__ import annotations

import base64
import json

from pyres import failure
from pyres.failure.base import BaseBackend
from pyres.failure.mail import MailBackend
from pyres.failure.multiple import MultipleBackend
from pyres.failure.redis import RedisBackend
from pyres.worker import Worker
from tests.compat.base import PyResTests
from tests.compat.jobs import Failing


class FailureTests(PyResTests):
    def record(self, text="it failed"):
        """A failure as a worker records it."""
        payload = {"class": "tests.compat.jobs.Failing", "args": ["é"], "enqueue_timestamp": 1.5}
        failed = failure.create(ValueError(text), "basic", payload)
        failed.save(self.resq)
        return failed

    def test_it_is_the_redis_backend_unless_told_otherwise(self):
        self.assertIs(failure.backend, RedisBackend)
        self.assertIs(failure.RedisBackend, RedisBackend)

    def test_count_all_and_clear(self):
        self.record("first")
        self.record("second")

        self.assertEqual(failure.count(self.resq), 2)
        self.assertEqual(self.redis.llen("resque:failed"), 2)
        self.assertEqual([r["error"] for r in failure.all(self.resq, 0, 20)], ["first", "second"])
        self.assertEqual([r["error"] for r in failure.all(self.resq, 0, 1)], ["first"])
        self.assertEqual([r["error"] for r in failure.all(self.resq, 1, 20)], ["second"])
        failure.clear(self.resq)
        self.assertFalse(self.redis.exists("resque:failed"))

    def test_a_record_says_what_failed_and_why(self):
        self.resq.enqueue(Failing, "arg")
        worker = Worker(["basic"], self.resq)
        with self.assertLogs("pyres", "ERROR"):
            worker.process()

        (record,) = failure.all(self.resq, 0, 1)

        self.assertEqual(record["payload"]["class"], "tests.compat.jobs.Failing")
        self.assertEqual(record["payload"]["args"], ["arg"])
        self.assertEqual(record["exception"], "ValueError")
        self.assertEqual(record["error"], "it failed")
        self.assertEqual(record["queue"], "basic")
        self.assertEqual(record["worker"], str(worker))
        self.assertIn("raise ValueError", record["backtrace"][-1])
        self.assertRegex(record["failed_at"], r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ")

    def test_redis_value_is_the_raw_record_in_base64_as_text(self):
        self.record()

        (record,) = failure.all(self.resq, 0, 1)

        self.assertIsInstance(record["redis_value"], str)
        raw = self.redis.lindex("resque:failed", 0)
        self.assertEqual(base64.b64decode(record["redis_value"]), raw)
        json.dumps(record)

    def test_requeue_pushes_the_payload_of_a_failure_object(self):
        failed = self.record()

        failure.requeue(self.resq, failed)

        (job,) = self.resq.peek("basic", 0, 10)
        self.assertEqual(job, failed._payload)
        self.assertEqual(failure.count(self.resq), 1)

    def test_retry_moves_the_payload_once(self):
        self.record()
        raw = self.redis.lindex("resque:failed", 0)

        failure.retry(self.resq, "basic", raw)
        failure.retry(self.resq, "basic", raw)

        self.assertEqual(self.resq.size("basic"), 1)
        self.assertEqual(self.resq.peek("basic")[0]["enqueue_timestamp"], 1.5)
        self.assertEqual(failure.count(self.resq), 0)

    def test_delete_removes_one_record(self):
        self.record("first")
        self.record("second")

        failure.delete(self.resq, self.redis.lindex("resque:failed", 0))

        self.assertEqual([r["error"] for r in failure.all(self.resq, 0, 9)], ["second"])

    def test_a_backend_of_ones_own_is_used_by_workers_too(self):
        saved = []

        class Mine(BaseBackend):
            def save(self, resq=None):
                saved.append((self._queue, self._parse_message(self._exception)))

        failure.backend = Mine
        self.resq.enqueue(Failing)
        with self.assertLogs("pyres", "ERROR"):
            Worker(["basic"], self.resq).process()

        self.assertEqual(saved, [("basic", "ValueError: it failed")])
        self.assertEqual(self.redis.llen("resque:failed"), 0)


class BackendTests(PyResTests):
    def test_the_base_knows_what_the_exception_knows(self):
        def raising():
            raise KeyError("gone")

        try:
            raising()
        except KeyError as caught:
            error = caught

        # Outside of the except block, where 1.5 found nothing.
        failed = BaseBackend(error, "queue", {"class": "A", "args": []}, "worker")

        self.assertIs(failed._exception, error)
        self.assertIs(failed._traceback, error.__traceback__)
        self.assertEqual((failed._queue, failed._worker), ("queue", "worker"))
        self.assertEqual(failed._payload, {"class": "A", "args": []})
        self.assertEqual(failed._parse_message(error), "KeyError: 'gone'")
        lines = failed._parse_traceback(error.__traceback__)
        self.assertIsInstance(lines, list)
        self.assertTrue(any("raising" in line for line in lines))

    def test_several_backends_all_save_and_the_first_is_read(self):
        saved = []

        class Other(BaseBackend):
            def save(self, resq=None):
                saved.append(self._payload)

        class Both(MultipleBackend):
            classes = [RedisBackend, Other]

        failure.backend = Both
        failure.create(ValueError("x"), "queue", {"class": "A", "args": []}).save(self.resq)

        self.assertEqual(saved, [{"class": "A", "args": []}])
        self.assertEqual(failure.count(self.resq), 1)
        self.assertEqual(failure.all(self.resq, 0, 1)[0]["error"], "x")
        failure.clear(self.resq)
        self.assertEqual(self.redis.llen("resque:failed"), 0)

    def test_a_mail_has_its_tokens_filled_in(self):
        class Mine(MailBackend):
            subject = "{queue} of {worker}: {exception}"
            recipients = ["one@example.org", "two@example.org"]
            from_user = "pyres@example.org"

        mail = Mine(ValueError("it failed"), "basic", {"class": "A", "args": ["é"]}, "h:1:basic")

        self.assertEqual(mail.format_subject(), "basic of h:1:basic: ValueError")
        message = mail.create_message()
        self.assertEqual(message["Subject"], "basic of h:1:basic: ValueError")
        self.assertEqual(message["To"], "one@example.org, two@example.org")
        self.assertIn("it failed", message.get_content())

    def test_a_mail_that_nobody_is_to_get_is_not_sent(self):
        MailBackend(ValueError("x"), "basic", {"class": "A", "args": []}).save(self.resq)
