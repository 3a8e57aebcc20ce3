"""The URLs of resweb, as in bookmarks and scripts of its users."""

from __future__ import annotations

import base64
import datetime
import re
import unittest

from pyres import failure
from pyres.worker import Worker
from tests.compat.base import PyResTests
from tests.compat.jobs import Basic

try:
    from resweb.app import create_app
except ModuleNotFoundError as error:
    raise unittest.SkipTest(f"{error.name} is not installed") from error

MOMENT = datetime.datetime(2040, 6, 1, 12, 0, 0)


class PageTests(PyResTests):
    def setUp(self):
        super().setUp()
        self.app = create_app([self.dsn], sample=False)
        self.addCleanup(self.app.extensions["resweb"].close)
        self.client = self.app.test_client()

    def page(self, path):
        """A page's text, after redirects."""
        response = self.client.get(path, follow_redirects=True)
        self.assertEqual(response.status_code, 200, path)
        return response.get_data(as_text=True)

    def press(self, path, **form):
        csrf = re.search(r'name="csrf" value="([^"]+)"', self.page("/failed/"))[1]
        fields = {"csrf": csrf, "confirmed": "yes", **form}
        response = self.client.post(path, data=fields)
        self.assertEqual(response.status_code, 303, response.get_data(as_text=True))

    def fail(self, text="it failed"):
        payload = {"class": "tests.compat.jobs.Basic", "args": [text]}
        failure.create(ValueError(text), "basic", payload).save(self.resq)
        return base64.b64encode(self.redis.lindex("resque:failed", -1)).decode()

    def test_each_address_shows_its_page(self):
        self.resq.enqueue(Basic, "an argument")
        self.resq.enqueue_at(MOMENT, Basic, "later")
        worker = Worker(["basic"], self.resq)
        worker.register_worker()
        timestamp = int(MOMENT.timestamp())

        for path, text in (
            ("/", "basic"),
            ("/working/", "Working"),
            ("/queues/", "basic"),
            ("/queues/basic/", "an argument"),
            ("/failed/", "Failed"),
            ("/workers/", worker.hostname),
            (f"/workers/{worker}/", "basic"),
            ("/stats/", "processed"),
            ("/stats/resque/", "processed"),
            ("/stats/redis/", "redis_version"),
            ("/stats/keys/", "queue:basic"),
            ("/stat/queue:basic/", "an argument"),
            ("/delayed/", str(timestamp)),
            (f"/delayed/{timestamp}/", "later"),
        ):
            with self.subTest(path):
                self.assertIn(text, self.page(path))
                self.assertIn(text, self.page(path.rstrip("/") or "/"))

    def test_a_list_has_20_rows_per_page_from_start(self):
        for number in range(45):
            self.resq.enqueue(Basic, f"number-{number}-")

        for start, shown in ((0, range(20)), (20, range(20, 40)), (40, range(40, 45))):
            page = self.page(f"/queues/basic/?start={start}")
            numbers = [int(number) for number in re.findall(r"number-(\d+)-", page)]
            self.assertEqual(sorted(set(numbers)), list(shown))

    def test_a_failure_is_retried_by_its_record_in_base64(self):
        self.fail("stays")
        record = self.fail("goes")

        self.press("/failed/retry/", failed_job=record)

        self.assertEqual([job["args"] for job in self.resq.peek("basic", 0, 9)], [["goes"]])
        self.assertEqual([r["error"] for r in failure.all(self.resq, 0, 9)], ["stays"])

    def test_a_failure_is_deleted_by_its_record_in_base64(self):
        self.fail("stays")
        record = self.fail("goes")

        self.press("/failed/delete/", failed_job=record)

        self.assertEqual([r["error"] for r in failure.all(self.resq, 0, 9)], ["stays"])
        self.assertEqual(self.resq.size("basic"), 0)

    def test_all_failures_are_retried(self):
        self.fail()
        self.fail()

        self.press("/failed/retry_all")

        self.assertEqual((self.resq.size("basic"), failure.count(self.resq)), (2, 0))

    def test_all_failures_are_deleted(self):
        self.fail()
        self.fail()

        self.press("/failed/delete_all/")

        self.assertEqual((self.resq.size("basic"), failure.count(self.resq)), (0, 0))

    def test_no_link_deletes_or_retries_anything(self):
        self.fail()

        for path in ("/failed/delete_all/", "/failed/retry_all"):
            self.assertEqual(self.client.get(path).status_code, 405)

        self.assertEqual(failure.count(self.resq), 1)

    def test_the_numbers_of_several_servers_are_added(self):
        self.resq.enqueue(Basic, "one")
        other = create_app([f"a={self.dsn}", f"b={self.dsn.partition('/')[0]}/1"], sample=False)
        self.addCleanup(other.extensions["resweb"].close)

        page = other.test_client().get("/stats.txt").get_data(as_text=True)

        self.assertIn("resque.pending=1\n", page)
        self.assertIn("queues.basic=1\n", page)

    def test_the_tabs_are_those_of_resque_web(self):
        page = self.page("/")

        for tab in ("Overview", "Working", "Failed", "Queues", "Workers", "Delayed", "Stats"):
            self.assertRegex(page, rf"<a[^>]*>{tab}</a>")
