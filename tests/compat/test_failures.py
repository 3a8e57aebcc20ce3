"""pyres.failure and its backends."""

from __future__ import annotations

import base64
import json
import sys
from email.mime.text import MIMEText

from pyres import failure
from pyres.failure.base import BaseBackend
from pyres.failure.mail import MailBackend
from pyres.failure.multiple import MultipleBackend
from pyres.failure.redis import RedisBackend
from pyres.job import Job
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

    def test_the_default_is_the_redis_backend(self):
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

    def test_a_record_has_the_job_and_the_error(self):
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

    def test_a_custom_backend_is_used_by_workers_too(self):
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
    def test_a_backend_has_the_class_and_the_text_of_the_exception_as_in_1_5(self):
        def raising():
            raise KeyError("gone")

        try:
            raising()
        except KeyError as caught:
            error = caught

        # Outside of the except block, where 1.5 had no exception.
        failed = BaseBackend(error, "queue", {"class": "A", "args": []}, "worker")

        self.assertIs(failed.exception, error)
        self.assertIs(failed._exception, KeyError)
        self.assertEqual(failed._parse_message(failed._exception), "KeyError: 'gone'")
        text = failed._traceback.split("\n")
        self.assertEqual(text[0], "Traceback (most recent call last):")
        self.assertEqual(text[-2:], ["KeyError: 'gone'", ""])
        self.assertEqual(failed._parse_traceback(failed._traceback), text[:-1])
        self.assertEqual((failed._queue, failed._worker), ("queue", "worker"))
        self.assertEqual(failed._payload, {"class": "A", "args": []})
        self.assertEqual(failed._parse_message(error), "KeyError: 'gone'")
        lines = failed._parse_traceback(error.__traceback__)
        self.assertIsInstance(lines, list)
        self.assertTrue(any("raising" in line for line in lines))

    def test_of_several_backends_all_save_and_the_first_is_read(self):
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

    def test_the_tokens_of_a_mail_are_replaced(self):
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

    def test_a_mail_of_an_overridden_create_message_gets_its_headers(self):
        sent = []

        class Mine(MailBackend):
            recipients = ["ops@example.org"]
            from_user = "pyres@example.org"
            smtp_host = "127.0.0.1"

            def create_message(self):
                return MIMEText(f"{self._exception.__name__}: {self._traceback.splitlines()[-1]}")

            def send_message(self, message):
                sent.append(message)

        class WithSubject(Mine):
            def create_message(self):
                message = super().create_message()
                message["Subject"] = "its own"
                return message

        for kind in (Mine, WithSubject):
            kind(ValueError("it failed"), "basic", {"class": "A", "args": []}).save(self.resq)

        subjects = [mail["Subject"] for mail in sent]
        self.assertEqual(subjects, ["[Pyres Failure] on basic", "its own"])
        self.assertEqual({mail["To"] for mail in sent}, {"ops@example.org"})
        self.assertEqual({mail["From"] for mail in sent}, {"pyres@example.org"})
        self.assertEqual(sent[0].get_payload(), "ValueError: ValueError: it failed")

    def test_a_traceback_or_a_text_stands_for_the_exception_being_handled(self):
        self.resq.push("basic", {"class": "tests.compat.jobs.Failing", "args": []})
        job = self.resq.reserve("basic")
        try:
            job.perform()
        except ValueError:
            for given in (sys.exc_info()[2], "a text"):
                job.fail(given)

        for record in failure.all(self.resq, 0, 10):
            self.assertEqual((record["exception"], record["error"]), ("ValueError", "it failed"))
            self.assertIn("raise ValueError", record["backtrace"][-1])

    def test_outside_of_an_except_clause_a_text_is_the_error(self):
        job = Job("basic", {"class": "tests.compat.jobs.Failing", "args": []}, self.resq)

        failed = job.fail("a text")

        self.assertIsInstance(failed, RedisBackend)
        (record,) = failure.all(self.resq, 0, 10)
        self.assertEqual((record["exception"], record["error"]), ("Exception", "a text"))
        self.assertEqual(record["backtrace"], [])

    def test_a_backend_may_override_the_parsing_of_the_traceback(self):
        class Mine(RedisBackend):
            def _parse_traceback(self, trace):
                return [trace.split("\n")[-2]]

        failure.backend = Mine
        self.resq.enqueue(Failing)
        with self.assertLogs("pyres", "ERROR"):
            Worker(["basic"], self.resq).process()

        (record,) = failure.all(self.resq, 0, 10)
        self.assertEqual(record["backtrace"], ["ValueError: it failed"])

    def test_an_overridden_save_can_use_the_backends_as_objects(self):
        class Own(MultipleBackend):
            classes = [RedisBackend]

            def save(self, resq=None):
                for backend in self.backends:
                    backend.save(resq)

        Own(ValueError("x"), "basic", {"class": "A", "args": []}).save(self.resq)

        self.assertEqual(failure.count(self.resq), 1)

    def test_a_mail_without_recipients_is_not_sent(self):
        MailBackend(ValueError("x"), "basic", {"class": "A", "args": []}).save(self.resq)
