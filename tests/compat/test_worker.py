"""pyres.worker.Worker."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time

from pyres import ResQ, Stat, failure
from pyres.exceptions import NoQueueError
from pyres.job import Job
from pyres.worker import Worker
from tests.compat.base import PyResTests
from tests.compat.jobs import (
    Basic,
    Exiting,
    Failing,
    Killed,
    Lasting,
    OsExiting,
    RetryOnce,
    ReturnAllArgs,
    Sleeping,
)
from tests.servers import ROOT, until

#: Above the largest pid of Linux, so that no process can have it.
NO_PID = 2**22 + 1


def name(worker):
    return f"{platform.node()}:{os.getpid()}:{','.join(worker.queues)}"


class WorkerTests(PyResTests):
    def worker(self, *queues, **more):
        return Worker(queues or ["basic"], self.resq, **more)

    def forked(self, klass, *args, **more):
        """The worker after it forked for a job of this class."""
        self.resq.enqueue(klass, *args)
        worker = self.worker(**more)
        worker.fork_worker(worker.reserve())
        return worker

    def assert_one_failure(self, worker, exception):
        self.assertEqual(worker.get_failed(), 1)
        self.assertEqual(worker.job(), {})
        (record,) = failure.all(self.resq, 0, 10)
        self.assertEqual(record["exception"], exception)

    # Constructor

    def test_its_server_must_be_a_dsn_or_a_resq(self):
        self.assertIsInstance(Worker(["basic"], self.dsn).resq, ResQ)
        self.assertIs(Worker(["basic"], self.resq).resq, self.resq)
        for wrong in (object(), 5, ["localhost"]):
            with self.assertRaises(ValueError):
                Worker(["basic"], wrong)

    def test_a_worker_without_queues_is_an_error(self):
        for none in ([], (), [""], ""):
            with self.assertRaises(NoQueueError):
                Worker(none, self.resq)

    def test_it_has_the_attributes_of_1_5(self):
        worker = self.worker("high", "low", timeout=3)

        self.assertEqual(worker.queues, ["high", "low"])
        self.assertEqual(worker.pid, os.getpid())
        self.assertEqual(worker.hostname, platform.node())
        self.assertIsNone(worker.child)
        self.assertEqual(worker.timeout, 3)
        self.assertIs(worker.job_class, Job)
        self.assertFalse(worker._shutdown)
        self.assertEqual(str(worker), name(worker))

    # The registry

    def test_registering_and_unregistering(self):
        worker = self.worker()

        worker.register_worker()
        self.assertTrue(self.redis.sismember("resque:workers", name(worker)))
        self.assertTrue(Worker.exists(str(worker), self.resq))
        worker.unregister_worker()

        self.assertFalse(Worker.exists(str(worker), self.resq))
        self.assertEqual(self.redis.keys("resque:worker:*"), [])

    def test_started_is_the_key_and_can_be_set_and_deleted(self):
        worker = self.worker()
        key = f"resque:worker:{name(worker)}:started"
        self.assertIsNone(worker.started)

        worker.started = True

        self.assertLess(abs(int(worker.started) - time.time()), 60)
        self.assertIsInstance(worker.started, bytes)
        self.assertEqual(self.redis.get(key), worker.started)
        worker.started = None
        self.assertFalse(self.redis.exists(key))

    def test_startup_installs_the_public_methods_as_handlers(self):
        signals = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)
        former = [signal.getsignal(signum) for signum in signals]
        worker = self.worker()

        worker.startup()
        handlers = [signal.getsignal(signum) for signum in signals]
        worker.signals.restore()

        self.assertEqual(
            handlers,
            [
                worker.shutdown_all,
                worker.shutdown_all,
                worker.schedule_shutdown,
                worker.kill_child,
            ],
        )
        self.assertEqual([signal.getsignal(signum) for signum in signals], former)
        self.assertTrue(Worker.exists(str(worker), self.resq))

    def test_shutdown_is_a_flag(self):
        worker = self.worker()

        worker.schedule_shutdown(signal.SIGQUIT, None)

        self.assertTrue(worker._shutdown)

    def test_all_working_find_and_exists(self):
        self.resq.enqueue(Basic, "one")
        worker, idle = self.worker(), self.worker("other")
        worker.register_worker()
        idle.register_worker()
        worker.working_on(self.resq.reserve("basic"))

        self.assertEqual({str(w) for w in Worker.all(self.resq)}, {str(worker), str(idle)})
        self.assertEqual({str(w) for w in Worker.all(self.dsn)}, {str(worker), str(idle)})
        self.assertEqual([str(w) for w in Worker.working(self.resq)], [str(worker)])
        found = Worker.find(str(worker), self.resq)
        self.assertEqual(str(found), str(worker))
        self.assertEqual(found.queues, ["basic"])
        self.assertIsNone(Worker.find("no:1:body", self.resq))
        self.assertFalse(Worker.exists("no:1:body", self.resq))

    def test_dead_workers_of_this_host_are_pruned_and_no_others(self):
        here, dead = platform.node(), NO_PID
        for pid in (1, 2, dead):
            self.redis.sadd("resque:workers", f"{here}:{pid}:basic")
        self.redis.sadd("resque:workers", f"elsewhere:{dead}:basic")

        self.worker().prune_dead_workers()

        left = {member.decode() for member in self.redis.smembers("resque:workers")}
        self.assertEqual(left, {f"elsewhere:{dead}:basic"})

    def test_a_worker_in_another_process_is_found_by_its_title(self):
        program = (
            "import sys; from pyres.worker import Worker;"
            f"Worker.run(['basic'], {self.dsn!r}, interval=1)"
        )
        process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
        try:
            until(lambda: str(process.pid) in Worker.worker_pids(), what="a worker in ps")
            until(lambda: self.resq.workers(), what="a worker in Redis")
            self.worker().prune_dead_workers()
            self.assertEqual(len(self.resq.workers()), 1)
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(60), 0)
            self.assertEqual(self.resq.workers(), [])
        finally:
            process.kill()
            process.wait()

    # The in-flight job

    def test_working_on_and_done_working(self):
        self.resq.enqueue(Basic, "one")
        worker = self.worker()
        job = self.resq.reserve("basic")

        worker.working_on(job)

        self.assertEqual(worker.state(), "working")
        self.assertEqual(worker.job()["queue"], "basic")
        self.assertEqual(worker.job()["payload"]["args"], ["one"])
        self.assertEqual(worker.processing(), worker.job())
        worker.done_working(job)
        self.assertEqual(worker.state(), "idle")
        self.assertEqual(worker.job(), {})
        self.assertEqual(worker.get_processed(), 1)

    def test_the_counters(self):
        worker = self.worker()

        worker.processed()
        worker.processed()
        worker.failed()

        self.assertEqual((worker.get_processed(), worker.get_failed()), (2, 1))
        self.assertEqual(self.redis.get(f"resque:stat:processed:{name(worker)}"), b"2")
        self.assertEqual(Stat("processed", self.resq).get(), 2)
        self.assertEqual(Stat("failed", self.resq).get(), 1)

    def test_reserve_checks_the_queues_in_order(self):
        self.resq.push("low", {"class": "tests.compat.jobs.Basic", "args": ["low"]})
        self.resq.push("high", {"class": "tests.compat.jobs.Basic", "args": ["high"]})
        worker = self.worker("high", "low")

        jobs = [worker.reserve(timeout=0) for _ in range(3)]

        self.assertEqual([job and job._queue for job in jobs], ["high", "low", None])

    def test_reserve_returns_no_job_while_all_workers_are_paused(self):
        self.resq.enqueue(Basic, "one")
        self.resq.pause_all()

        for more in ({"blocking_pop": True}, {"watch_pop": True}, {"blocking_pop": False}):
            self.assertIsNone(self.worker(**more).reserve(timeout=0.01))

        self.assertEqual(self.resq.size("basic"), 1)

    # Performing

    def test_process_performs_in_this_process_and_returns_the_value(self):
        self.resq.enqueue(ReturnAllArgs, 1, ["two"])
        worker = self.worker()

        self.assertEqual(worker.process(worker.reserve()), (1, ["two"]))
        self.assertEqual((worker.get_processed(), worker.get_failed()), (1, 0))
        self.assertEqual(worker.job(), {})

    def test_process_reserves_a_job_itself_or_does_nothing(self):
        self.resq.enqueue(Basic, "one")
        worker = self.worker()

        self.assertEqual(worker.process(), "name:one")
        self.assertIsNone(worker.process())
        self.assertEqual(worker.get_processed(), 1)

    def test_process_records_a_failure_and_returns_none(self):
        self.resq.enqueue(Failing)
        worker = self.worker()

        with self.assertLogs("pyres", "ERROR"):
            self.assertIsNone(worker.process())

        self.assert_one_failure(worker, "ValueError")
        self.assertEqual(worker.get_processed(), 1)

    def test_a_retried_failure_is_not_recorded(self):
        self.resq.enqueue(RetryOnce)
        worker = self.worker()

        self.assertIsNone(worker.process())

        self.assertEqual((worker.get_processed(), worker.get_failed()), (1, 0))
        self.assertEqual(self.resq.delayed_queue_schedule_size(), 1)

    def test_fork_worker_works_without_startup(self):
        worker = self.forked(Lasting)

        self.assertEqual(worker.get_processed(), 1)
        self.assertEqual(worker.get_failed(), 0)
        self.assertIsNone(worker.child)
        self.assertNotEqual(int(self.redis.lindex("lasting", 0)), os.getpid())

    def test_the_hooks_of_a_subclass_run_around_the_fork(self):
        redis = self.redis

        class Mine(Worker):
            def before_fork(self, job):
                redis.rpush("hooks", "before_fork")

            def after_fork(self, job):
                ResQ(self.resq.dsn).redis.rpush("hooks", "after_fork")

            def before_process(self, job):
                ResQ(self.resq.dsn).redis.rpush("hooks", "before_process")

            def process(self, job=None):
                ResQ(self.resq.dsn).redis.rpush("hooks", "process")
                return super().process(job)

        self.resq.enqueue(Lasting)
        worker = Mine(["basic"], self.resq)
        worker.fork_worker(worker.reserve())

        self.assertEqual(
            self.redis.lrange("hooks", 0, -1),
            [b"before_fork", b"after_fork", b"process", b"before_process"],
        )

    def test_an_exception_in_the_child_is_one_failure(self):
        worker = self.forked(Failing)

        self.assert_one_failure(worker, "ValueError")
        self.assertEqual(worker.get_processed(), 1)

    def test_a_child_that_is_killed_is_one_failure(self):
        self.assert_one_failure(self.forked(Killed), "CrashError")

    def test_a_child_that_exits_with_a_code_is_one_failure(self):
        self.assert_one_failure(self.forked(Exiting, 1), "CrashError")
        self.redis.flushall()
        self.assert_one_failure(self.forked(OsExiting, 1), "CrashError")

    def test_a_job_that_raises_system_exit_with_code_0_is_a_success(self):
        for args in ([], [0]):
            self.redis.flushall()
            worker = self.forked(Exiting, *args)
            self.assertEqual((worker.get_processed(), worker.get_failed()), (1, 0))

    def test_a_child_that_exits_with_code_0_before_the_job_ended_is_one_failure(self):
        """Unlike pyres 1.5, which counted it as a success."""
        self.assert_one_failure(self.forked(OsExiting, 0), "CrashError")

    def test_a_child_over_its_timeout_is_one_failure(self):
        self.assert_one_failure(self.forked(Sleeping, 30, timeout=0.2), "TimeoutError")

    def test_a_child_within_its_timeout_is_no_failure(self):
        worker = self.forked(Sleeping, 0, timeout=30)

        self.assertEqual((worker.get_processed(), worker.get_failed()), (1, 0))

    def test_kill_child_without_a_child_does_nothing(self):
        self.worker().kill_child(signal.SIGUSR1, None)

    def test_interval_0_works_until_the_queues_are_empty(self):
        for number in range(3):
            self.resq.enqueue(Lasting, number)
        worker = self.worker()

        worker.work(0)

        self.assertEqual(self.redis.llen("lasting"), 3)
        self.assertEqual(Stat("processed", self.resq).get(), 3)
        self.assertFalse(Worker.exists(str(worker), self.resq))
