"""Subclasses as pyres 1.5's users wrote them: each override is called where 1.5 called it."""

from __future__ import annotations

import collections
import datetime
import json
import os
import signal
import sys

from pyres import ResQ, Stat, failure
from pyres.horde import Minion
from pyres.job import Job
from pyres.scheduler import Scheduler
from pyres.worker import Worker
from tests.compat.base import PyResTests
from tests.compat.jobs import Exiting, Failing, Killed, Lasting, RetryOnce

#: Three of these seven jobs fail, one is retried later.
JOBS = [
    (Lasting, 1),
    (Failing,),
    (Killed,),
    (Lasting, 2),
    (RetryOnce,),
    (Exiting, 3),
    (Lasting, 3),
]


def called(self, name):
    """Record a call in Redis, since it may come from a child process."""
    self.resq.redis.rpush("called", name)


class Reserving(Worker):
    def reserve(self, timeout=10):
        job = super().reserve(timeout)
        if job:
            called(self, "reserve")
        return job


class Popping(Worker):
    """Pops jobs without pyres' own reserve()."""

    def reserve(self, timeout=10):
        queue, item = self.resq.pop(self.queues, timeout)
        if queue is None:
            return None
        called(self, "reserve")
        return Job(queue, item, self.resq, str(self))


class Forking(Worker):
    def fork_worker(self, job):
        called(self, "fork_worker")
        super().fork_worker(job)


class WorkingOn(Worker):
    def working_on(self, job):
        called(self, "working_on")
        super().working_on(job)


class OwnRecord(Worker):
    """Writes the in-flight record itself, with code copied from 1.5."""

    def working_on(self, job):
        called(self, "working_on")
        record = {"queue": job._queue, "run_at": "1764000000", "payload": job._payload}
        self.resq.redis.set(f"resque:worker:{self}", json.dumps(record))


class Processed(Worker):
    def processed(self):
        called(self, "processed")
        super().processed()


class Failed(Worker):
    def failed(self):
        called(self, "failed")
        super().failed()


class Handling(Worker):
    def _handle_job_exception(self, job):
        called(self, f"_handle_job_exception:{type(sys.exc_info()[1]).__name__}")
        super()._handle_job_exception(job)


class Recording(Worker):
    """Records a failure itself, as 1.5's own method does."""

    def _handle_job_exception(self, job):
        called(self, "_handle_job_exception")
        job.fail(sys.exc_info()[2])
        self.failed()


class Done(Worker):
    def done_working(self, job=None):
        called(self, "done_working")
        super().done_working(job)


class BeforeProcess(Worker):
    def before_process(self, job):
        called(self, "before_process")
        return job


class Everything(
    Reserving, Forking, WorkingOn, Processed, Failed, Handling, Done, BeforeProcess, Worker
):
    """All of them at once."""


class OverrideTests(PyResTests):
    def work(self, kind, jobs=JOBS):
        """Let a worker of this class perform these jobs; returns the calls of each override."""
        for klass, *args in jobs:
            self.resq.enqueue(klass, *args)
        worker = kind(["basic"], self.resq)
        with self.assertLogs("pyres", "INFO") as logs:
            worker.work(0)
        self.logs = "\n".join(logs.output)
        names = (name.decode() for name in self.redis.lrange("called", 0, -1))
        return collections.Counter(names)

    def assert_all_is_counted_once(self):
        counted = [Stat(name, self.resq).get() for name in ("processed", "failed")]
        self.assertEqual(counted, [7, 3])
        self.assertEqual(self.redis.llen("lasting"), 3)
        self.assertEqual(self.resq.delayed_queue_schedule_size(), 1)
        failed = [record["exception"] for record in failure.all(self.resq, 0, -1)]
        self.assertEqual(failed, ["ValueError", "CrashError", "CrashError"])
        self.assertEqual(self.redis.keys("resque:worker:*"), [])

    def test_a_worker_that_overrides_nothing_counts_each_job_once(self):
        self.work(Worker)

        self.assert_all_is_counted_once()
        self.assertNotIn("overrides", self.logs)

    def test_reserve_is_called_for_each_job(self):
        for kind in (Reserving, Popping):
            self.redis.flushall()
            self.assertEqual(self.work(kind), {"reserve": 7})
            self.assert_all_is_counted_once()

    def test_fork_worker_is_called_for_each_job(self):
        self.assertEqual(self.work(Forking), {"fork_worker": 7})
        self.assert_all_is_counted_once()

    def test_working_on_is_called_for_each_job(self):
        for kind in (WorkingOn, OwnRecord):
            self.redis.flushall()
            self.assertEqual(self.work(kind), {"working_on": 7})
            self.assert_all_is_counted_once()

    def test_processed_is_called_for_each_job(self):
        self.assertEqual(self.work(Processed), {"processed": 7})
        self.assert_all_is_counted_once()

    def test_failed_is_called_for_each_failure(self):
        self.assertEqual(self.work(Failed), {"failed": 3})
        self.assert_all_is_counted_once()

    def test_handle_job_exception_is_called_while_the_exception_is_handled(self):
        self.assertEqual(
            self.work(Handling),
            {"_handle_job_exception:ValueError": 1, "_handle_job_exception:CrashError": 2},
        )
        self.assert_all_is_counted_once()

    def test_handle_job_exception_may_record_the_failure_itself(self):
        self.assertEqual(self.work(Recording), {"_handle_job_exception": 3})
        self.assert_all_is_counted_once()

    def test_a_handle_job_exception_that_records_nothing_loses_no_failure(self):
        class Mine(Worker):
            def _handle_job_exception(self, job):
                called(self, "_handle_job_exception")

            def failed(self):
                called(self, "failed")
                super().failed()

        self.assertEqual(self.work(Mine), {"_handle_job_exception": 3, "failed": 3})
        self.assert_all_is_counted_once()

    def test_done_working_is_called_for_each_job(self):
        self.assertEqual(self.work(Done), {"done_working": 7})
        self.assert_all_is_counted_once()

    def test_before_process_is_called_for_each_job(self):
        self.assertEqual(self.work(BeforeProcess), {"before_process": 7})
        self.assert_all_is_counted_once()

    def test_all_overrides_together_count_each_job_once(self):
        counts = self.work(Everything)

        for name in ("reserve", "fork_worker", "working_on", "processed", "done_working"):
            self.assertEqual(counts[name], 7, name)
        self.assertEqual(counts["before_process"], 7)
        self.assertEqual(counts["failed"], 3)
        self.assert_all_is_counted_once()

    def test_the_overrides_are_logged_once(self):
        self.work(Everything)

        (line,) = (line for line in self.logs.splitlines() if "Everything overrides" in line)
        for name in ("reserve", "fork_worker", "working_on", "processed", "failed"):
            self.assertIn(name, line)

    def test_an_override_on_the_instance_is_called_too(self):
        self.resq.enqueue(Lasting)
        worker = Worker(["basic"], self.resq)
        own = worker.processed
        worker.processed = lambda: (called(worker, "processed"), own())

        worker.work(0)

        self.assertEqual(self.redis.llen("called"), 1)
        self.assertEqual(Stat("processed", self.resq).get(), 1)

    def test_a_job_of_an_overridden_reserve_is_in_flight_before_its_fork(self):
        seen = []

        class Mine(Popping):
            def before_fork(self, job):
                seen.append(self.redis_record())

            def redis_record(self):
                return json.loads(self.resq.redis.get(f"resque:worker:{self}"))

        self.work(Mine, [(Lasting, 1)])

        (record,) = seen
        self.assertEqual(record["payload"]["args"], [1])

    def test_a_fork_worker_that_does_not_fork_counts_its_job_once(self):
        class Mine(Worker):
            def fork_worker(self, job):
                self.process(job)

        self.work(Mine, [(Lasting, 1), (Failing,)])

        counted = [Stat(name, self.resq).get() for name in ("processed", "failed")]
        self.assertEqual(counted, [2, 1])
        self.assertEqual(self.redis.lrange("lasting", 0, -1), [str(os.getpid()).encode()])

    def test_a_step_without_super_leaves_no_job_in_flight_and_no_failure(self):
        class Mine(Worker):
            def done_working(self, job=None):
                pass

        self.work(Mine, [(Lasting, 1), (Lasting, 2)])

        self.assertEqual(failure.count(self.resq), 0)
        self.assertEqual(Stat("processed", self.resq).get(), 0)
        self.assertEqual(self.redis.keys("resque:worker:*"), [])

    def test_term_calls_schedule_shutdown_and_after_the_grace_kill_child(self):
        noted = []

        class Mine(Worker):
            def schedule_shutdown(self, signum, frame):
                noted.append("schedule_shutdown")
                super().schedule_shutdown(signum, frame)

            def kill_child(self, signum, frame):
                noted.append("kill_child")
                super().kill_child(signum, frame)

            def before_fork(self, job):
                os.kill(os.getpid(), signal.SIGTERM)

        self.resq.push("basic", {"class": "tests.compat.jobs.Sleeping", "args": [600]})
        worker = Mine(["basic"], self.resq, grace=0.1)
        worker.work(0)

        self.assertEqual(noted, ["schedule_shutdown", "kill_child"])
        self.assertEqual(failure.count(self.resq), 1)


class BeforeProcessTests(PyResTests):
    def perform(self, kind, item):
        self.resq.push("basic", item)
        worker = kind(["basic"], self.resq)
        worker.work(0)
        return failure.all(self.resq, 0, 10)

    def test_the_job_it_returns_is_the_one_performed(self):
        class Mine(Worker):
            def before_process(self, job):
                changed = {**job._payload, "class": "tests.compat.jobs.Lasting"}
                return Job(job._queue, changed, job.resq, job._worker)

        self.assertEqual(self.perform(Mine, {"class": "encrypted", "args": ["x"]}), [])
        self.assertEqual(self.redis.llen("lasting"), 1)
        self.assertEqual(Stat("processed", self.resq).get(), 1)

    def test_the_failure_of_the_job_it_returns_is_recorded_once(self):
        class Mine(Worker):
            def before_process(self, job):
                changed = {**job._payload, "class": "tests.compat.jobs.Failing"}
                return Job(job._queue, changed, job.resq, job._worker)

        (record,) = self.perform(Mine, {"class": "encrypted", "args": ["x"]})
        self.assertEqual(record["payload"]["class"], "tests.compat.jobs.Failing")
        self.assertEqual(Stat("failed", self.resq).get(), 1)
        self.assertEqual(self.redis.keys("resque:worker:*"), [])

    def test_its_exception_is_the_failure_and_imports_nothing(self):
        self.refuse("before_process")

    def test_an_exception_of_after_fork_is_the_failure_and_imports_nothing(self):
        self.refuse("after_fork")

    def refuse(self, step):
        class RefusedError(Exception):
            pass

        def raising(self, job):
            raise RefusedError("not this class")

        kind = type("Mine", (Worker,), {step: raising})
        # The module records its import in Redis, and the hook of its class records its call.
        os.environ["PYRES_REFUSED_URL"] = f"redis://{self.dsn}"
        self.addCleanup(os.environ.pop, "PYRES_REFUSED_URL")
        (record,) = self.perform(kind, {"class": "tests.compat.refused.Refused", "args": [1]})

        self.assertEqual((record["exception"], record["error"]), ("RefusedError", "not this class"))
        self.assertEqual(record["backtrace"][-1].strip(), 'raise RefusedError("not this class")')
        self.assertEqual(self.redis.llen("imported"), 0)
        counted = [Stat(name, self.resq).get() for name in ("processed", "failed")]
        self.assertEqual(counted, [1, 1])

    def test_an_exit_in_it_is_a_failure_since_the_job_did_not_run(self):
        class Mine(Worker):
            def before_process(self, job):
                sys.exit(0)

        (record,) = self.perform(Mine, {"class": "tests.compat.jobs.Lasting", "args": []})
        self.assertEqual(record["exception"], "CrashError")
        self.assertEqual(record["error"], "before_process exited with status 0")

    def test_a_failure_that_after_fork_records_by_job_fail_keeps_its_exception(self):
        class Mine(Worker):
            def after_fork(self, job):
                try:
                    raise LookupError("no settings")
                except LookupError:
                    job.fail(sys.exc_info()[2])
                    raise

        records = self.perform(Mine, {"class": "tests.compat.jobs.Lasting", "args": []})
        self.assertEqual({record["exception"] for record in records}, {"LookupError"})
        self.assertEqual(self.redis.llen("lasting"), 0)


class OwnPop(ResQ):
    def pop(self, queues, timeout=10):
        queue, item = super().pop(queues, timeout)
        if queue is not None:
            self.redis.rpush("called", "pop")
        return queue, item


class OwnReserve(Job):
    """A job class with 1.5's signatures."""

    def __init__(self, queue, payload, resq, worker=None):
        super().__init__(queue, payload, resq, worker)

    @classmethod
    def reserve(cls, queues, res, worker=None, timeout=10):
        job = super().reserve(queues, res, worker, timeout)
        if job:
            res.redis.rpush("called", "reserve")
        return job


class OtherOverrideTests(PyResTests):
    def test_pop_of_a_resq_and_reserve_of_a_job_class_are_called(self):
        class Mine(Worker):
            job_class = OwnReserve

        resq = OwnPop(self.dsn)
        self.addCleanup(resq.close)
        resq.enqueue(Lasting, 1)
        resq.enqueue(Failing)
        Mine(["basic"], resq).work(0)

        names = self.redis.lrange("called", 0, -1)
        self.assertEqual(collections.Counter(names), {b"pop": 2, b"reserve": 2})
        counted = [Stat(name, self.resq).get() for name in ("processed", "failed")]
        self.assertEqual(counted, [2, 1])

    def test_a_job_class_with_the_signature_of_1_5_works(self):
        class Redacted(Job):
            def __init__(self, queue, payload, resq, worker=None):
                super().__init__(queue, payload, resq, worker)

            def __str__(self):
                return "redacted"

        class Mine(Worker):
            job_class = Redacted

        self.resq.enqueue(Failing, "secret")
        with self.assertLogs("pyres", "ERROR") as logs:
            Mine(["basic"], self.resq).process()
        self.assertIn("redacted failed", logs.output[0])


class MinionOverrideTests(PyResTests):
    def test_each_step_of_a_minion_is_called_and_each_job_counted_once(self):
        class Mine(Minion):
            def processed(self):
                called(self, "processed")
                super().processed()

            def failed(self):
                called(self, "failed")
                super().failed()

            def working_on(self, job):
                called(self, "working_on")
                super().working_on(job)

            def done_working(self, job=None):
                called(self, "done_working")
                super().done_working(job)

            def process(self, job=None):
                called(self, "process")
                return super().process(job)

        for klass, *args in ((Lasting, 1), (Failing,), (Lasting, 2)):
            self.resq.enqueue(klass, *args)
        minion = Mine(["basic"], self.resq, max_jobs=3)
        minion.work()
        minion.signals.restore()

        names = collections.Counter(self.redis.lrange("called", 0, -1))
        self.assertEqual(
            names,
            {b"process": 3, b"processed": 3, b"working_on": 3, b"done_working": 3, b"failed": 1},
        )
        counted = [Stat(name, self.resq).get() for name in ("processed", "failed")]
        self.assertEqual(counted, [3, 1])
        self.assertEqual(self.redis.keys("resque:worker:*"), [])


class EqualityTests(PyResTests):
    def test_two_workers_are_equal_only_if_they_are_the_same_object(self):
        one, other = Worker(["basic"], self.resq), Worker(["basic"], self.resq)

        self.assertEqual(str(one), str(other))
        self.assertEqual(one, one)
        self.assertNotEqual(one, other)
        one.register_worker()
        self.assertNotEqual(Worker.find(str(one), self.resq), one)
        self.assertEqual(len({one, other}), 2)

    def test_a_worker_returned_by_find_has_its_id(self):
        worker = Worker(["basic"], self.resq)
        worker.register_worker()

        (found,) = Worker.all(self.resq)

        self.assertEqual(found.id, str(worker))
        self.assertEqual(str(found), str(worker))


class OwnPush(ResQ):
    def push(self, queue, item):
        self.redis.rpush("pushed", item["class"])
        super().push(queue, {**item, "tenant": 7})


class PushTests(PyResTests):
    def setUp(self):
        super().setUp()
        self.own = OwnPush(self.dsn)
        self.addCleanup(self.own.close)

    def assert_pushed(self, *args):
        """Assert that push() was called for jobs with these arguments, and its items are queued."""
        self.assertEqual(self.redis.llen("pushed"), len(args))
        items = self.own.peek("basic", 0, -1)
        self.assertEqual([item["args"] for item in items], [[arg] for arg in args])
        self.assertEqual({item["tenant"] for item in items}, {7})

    def test_every_way_to_enqueue_calls_push(self):
        name = "tests.compat.jobs.Lasting"
        self.own.enqueue(Lasting, 1)
        self.own.enqueue_to("basic", Lasting, 2)
        self.own.enqueue_from_string(name, "basic", 3)
        self.own.enqueue_many([(Lasting, 4), (Lasting, 5)])

        self.assert_pushed(1, 2, 3, 4, 5)

    def test_the_scheduler_calls_push_for_due_jobs(self):
        self.own.enqueue_at(datetime.datetime(2026, 1, 1), Lasting, 1)
        self.own.enqueue_at(datetime.datetime(2026, 1, 2), Lasting, 2)

        Scheduler(self.own).handle_delayed_items()

        self.assert_pushed(1, 2)
        self.assertEqual(self.own.delayed_queue_schedule_size(), 0)

    def test_requeueing_a_failure_calls_push(self):
        failed = failure.create(ValueError("x"), "basic", {"class": "A", "args": [1]})

        failure.requeue(self.own, failed)

        self.assert_pushed(1)

    def test_retrying_a_failure_calls_push(self):
        failure.create(ValueError("x"), "basic", {"class": "A", "args": [1]}).save(self.own)
        (record,) = failure.all(self.own, 0, 1)

        self.assertEqual(failure.retry(self.own, "basic", record["redis_value"]), 1)
        self.assertEqual(failure.retry(self.own, "basic", record["redis_value"]), 0)

        self.assert_pushed(1)
        self.assertEqual(failure.count(self.own), 0)
