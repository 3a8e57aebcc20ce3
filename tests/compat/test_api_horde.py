"""The methods of Khan and Minion that users of pyres 1.5 call and override."""

from __future__ import annotations

import inspect
import io
import json
import logging
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
from unittest import mock

from pyres import Stat, horde, performer
from pyres.exceptions import NoQueueError
from pyres.horde import Khan, Minion
from pyres.job import Job
from tests.compat.base import PyResTests
from tests.compat.jobs import Basic, Failing, Lasting
from tests.servers import PATIENCE, ROOT, alive, until

#: The methods of a manager's life cycle, in the order of their calls.
KHAN_STEPS = [
    "startup",
    "register_signal_handlers",
    "setup_resq",
    "register_khan",
    "setup_minions",
    "_add_minion",
    "_shutdown_minions",
    "unregister_khan",
]
MINION_STEPS = [
    "run",
    "work",
    "startup",
    "register_signal_handlers",
    "prune_dead_workers",
    "register_minion",
    "process",
    "schedule_shutdown",
    "unregister_minion",
]


class KhanCase(PyResTests):
    def khan(self, pool_size=1, kind=Khan, **more):
        """A new Khan, with no method called; its minions end with the test."""
        khan = kind(pool_size=pool_size, queues=["basic"], server=self.dsn, **more)
        self.addCleanup(lambda: khan._shutdown_minions() if khan.children.pids else None)
        return khan

    def khans(self):
        return {member.decode() for member in self.redis.smembers("resque:khans")}

    def until_registered(self, minions):
        until(lambda: self.redis.scard("resque:minions") == minions, what=f"{minions} minions")


class KhanBeforeSetupResqTests(KhanCase):
    """In 1.5 each of these methods could be the first one called."""

    def test_register_khan_sets_up_its_resq(self):
        khan = self.khan(3)

        khan.register_khan()

        self.assertEqual(self.khans(), {f"{platform.node()}:{os.getpid()}:3"})
        self.assertEqual(khan.resq.dsn, f"{self.resq.dsn}")

    def test_unregister_khan_sets_up_its_resq(self):
        khan = self.khan(3)
        self.redis.sadd("resque:khans", str(khan))

        khan.unregister_khan()

        self.assertEqual(self.khans(), set())

    def test_setup_minions_starts_a_pool_that_works(self):
        khan = self.khan(2)

        khan.setup_minions()

        self.assertEqual(len(khan._workers), 2)
        self.resq.enqueue(Lasting)
        until(lambda: self.redis.llen("lasting"), what="a job performed")
        self.assertIn(int(self.redis.lindex("lasting", 0)), khan._workers)

    def test_the_public_add_minion_starts_one_and_renames_the_khan(self):
        khan = self.khan(1)

        khan.add_minion()

        self.assertEqual((len(khan._workers), khan.pool_size), (1, 2))
        self.assertEqual(self.khans(), {f"{platform.node()}:{os.getpid()}:2"})

    def test_a_resq_that_is_set_up_is_kept(self):
        khan = self.khan()
        khan.setup_resq()
        resq = khan.resq

        khan.register_khan()
        khan.schedule_shutdown(None, None)
        khan.work()

        self.assertIs(khan.resq, resq)

    def test_setup_resq_of_a_subclass_is_called(self):
        resq = self.resq

        class Mine(Khan):
            def setup_resq(self):
                self.resq = resq

        khan = self.khan(kind=Mine)
        khan.register_khan()

        self.assertIs(khan.resq, resq)

    def test_commands_are_processed_without_a_loop_as_text_or_bytes(self):
        khan = self.khan(1)

        khan.process_command(b"ADD")
        khan.process_command("ADD")
        self.assertEqual((len(khan._workers), khan.pool_size), (2, 3))
        khan.process_command(b"REMOVE")
        self.assertEqual((len(khan._workers), khan.pool_size), (1, 2))
        with self.assertLogs("pyres", logging.WARNING):
            khan.process_command(b"\xff nonsense")
        self.assertFalse(khan._shutdown)
        khan.process_command(b"SHUTDOWN")
        self.assertTrue(khan._shutdown)

    def test_add_child_and_kill_child_act_at_once_if_called_directly(self):
        khan = self.khan(1)

        khan.add_child(signal.SIGUSR2, None)
        self.assertEqual((len(khan._workers), khan.pool_size), (1, 2))
        khan.kill_child(signal.SIGUSR1, None)
        self.assertEqual((len(khan._workers), khan.pool_size), (0, 1))


class KhanPoolTests(KhanCase):
    def test_removing_from_an_empty_pool_does_not_cancel_the_next_addition(self):
        """Two signals at once: one for an empty pool, and one for one more."""
        khan = self.khan(1)
        khan.setup_minions()
        khan._remove_minion()
        khan.register_signal_handlers()
        self.addCleanup(khan.signals.restore)

        khan.kill_child(signal.SIGUSR1, None)
        khan.kill_child(signal.SIGUSR1, None)
        khan.add_child(signal.SIGUSR2, None)
        khan._change_pool()

        self.assertEqual((khan.pool_size, len(khan._workers)), (1, 1))

    def test_a_removed_minion_leaves_the_pool_at_once_and_ends(self):
        khan = self.khan(2)
        khan.setup_minions()
        oldest, other = khan._workers

        removed = khan._remove_minion()

        self.assertEqual(removed.pid, oldest)
        self.assertEqual((list(khan._workers), khan.pool_size), ([other], 1))
        self.assertEqual(self.khans(), {str(khan)})
        removed.join()
        self.assertFalse(alive(oldest))
        self.assertTrue(alive(other))

    def test_a_minion_is_removed_by_its_pid(self):
        khan = self.khan(2)
        khan.setup_minions()
        first, second = khan._workers

        self.assertEqual(khan._remove_minion(second).pid, second)
        self.assertEqual(list(khan._workers), [first])

    def test_an_unknown_pid_removes_no_minion(self):
        khan = self.khan(1)
        self.assertIsNone(khan._remove_minion())
        khan.setup_minions()

        self.assertIsNone(khan._remove_minion(os.getpid()))

        self.assertEqual((len(khan._workers), khan.pool_size), (1, 1))

    def test_a_minion_is_alive_until_its_process_has_ended(self):
        khan = self.khan(1)
        self.assertFalse(khan.are_minions_alive())
        khan.setup_minions()
        self.assertTrue(khan.are_minions_alive())
        (minion,) = khan._workers.values()

        minion.kill()
        minion.join()

        self.assertFalse(khan.are_minions_alive())

    def test_a_minion_that_the_user_waited_for_is_noted_as_dead(self):
        khan = self.khan(1)
        khan.setup_minions()
        (minion,) = khan._workers.values()
        minion.terminate()
        minion.join()

        khan._shutdown_minions()

        self.assertEqual(khan._workers, {})

    def test_a_minion_that_ignores_term_does_not_hang_a_direct_shutdown_call(self):
        class Stubborn(Minion):
            def schedule_shutdown(self, signum, frame):
                pass

        self.addCleanup(setattr, horde, "Minion", Minion)
        horde.Minion = Stubborn
        khan = self.khan(1, grace=0.1)
        khan.setup_minions()
        self.until_registered(1)

        with self.assertLogs("pyres", logging.ERROR):
            khan._shutdown_minions()

        self.assertEqual(khan._workers, {})
        self.assertEqual(self.resq.workers(), [])

    def test_the_minions_log_to_files_beside_the_managers_each_or_together(self):
        with tempfile.TemporaryDirectory() as folder:
            for together in (False, True):
                khan = self.khan(
                    1, log_file=os.path.join(folder, "khan.log"), concat_minions_logs=together
                )
                khan.setup_minions()
                (pid,) = khan._workers
                path = os.path.join(folder, "minion.log" if together else f"minion-{pid}.log")
                self.until_registered(1)
                khan._shutdown_minions()
                with open(path) as file:
                    self.assertIn(f"Minion {pid} has stopped", file.read())

    def test_the_arguments_of_1_5_have_its_defaults_and_are_attributes(self):
        parameters = inspect.signature(Khan).parameters
        wanted = {
            "pool_size": 5,
            "server": "localhost:6379",
            "password": None,
            "logging_level": logging.INFO,
            "log_file": None,
            "minions_interval": 5,
            "concat_minions_logs": False,
            "max_jobs": 0,
        }
        khan = Khan(queues=["basic"])

        self.assertEqual({name: parameters[name].default for name in wanted}, wanted)
        self.assertEqual({name: getattr(khan, name) for name in wanted}, wanted)
        self.assertEqual(khan.queues, ["basic"])
        self.assertEqual(inspect.signature(Khan.run).parameters["interval"].default, 2)
        self.assertEqual(inspect.signature(Khan.work).parameters["interval"].default, 2)

    def test_the_keywords_of_the_fork_have_its_defaults_and_reach_each_minion(self):
        parameters = inspect.signature(Khan).parameters
        wanted = {"reinit_gevent": False, "monkey_patch": False}
        self.assertEqual({name: parameters[name].default for name in wanted}, wanted)
        khan = self.khan(1, blocking_pop=False, monkey_patch=True)

        minion = khan._add_minion()

        self.assertTrue(khan.monkey_patch)
        self.assertFalse(minion.blocking_pop or minion.watch_pop or minion.reinit_gevent)
        self.assertEqual(minion.interval, khan.minions_interval)

    def test_the_grace_of_the_fork_is_a_class_attribute(self):
        class Patient(Khan):
            SHUTDOWN_MINION_DELAY = 42

        self.assertEqual(self.khan().grace, Khan.SHUTDOWN_MINION_DELAY)
        self.assertEqual(self.khan(kind=Patient).grace, 42)

    def test_a_pool_size_that_is_not_a_number_is_refused(self):
        for wrong in ("many", None, "", [2]):
            with self.assertRaises(ValueError):
                Khan(wrong, ["basic"], self.dsn)

    def test_validate_queues_raises_without_a_queue(self):
        khan = self.khan()
        khan.validate_queues()
        khan.queues = []

        with self.assertRaises(NoQueueError):
            khan.validate_queues()


class KhanSignalTests(KhanCase):
    def handlers(self, khan):
        """The handlers that register_signal_handlers() installs."""
        khan.register_signal_handlers()
        try:
            return {signum: signal.getsignal(signum) for signum in khan.signals.handlers}
        finally:
            khan.signals.restore()

    def test_the_handlers_are_the_public_methods(self):
        khan = self.khan()

        handlers = self.handlers(khan)

        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            self.assertEqual(handlers[signum], khan.schedule_shutdown)
        self.assertEqual(handlers[signal.SIGUSR1], khan.kill_child)
        self.assertEqual(handlers[signal.SIGUSR2], khan.add_child)

    def test_startup_installs_them(self):
        khan = self.khan()

        khan.startup()
        found = signal.getsignal(signal.SIGTERM)
        khan.signals.restore()

        self.assertEqual(found, khan.schedule_shutdown)

    def test_siginfo_logs_the_current_state_on_systems_with_that_signal(self):
        if not hasattr(signal, "SIGINFO"):
            signal.SIGINFO = signal.SIGURG
            self.addCleanup(delattr, signal, "SIGINFO")
        khan = self.khan()

        self.assertEqual(self.handlers(khan)[signal.SIGINFO], khan.current_state)

    def test_current_state_logs_the_pool_and_where_each_thread_is(self):
        khan = self.khan()
        end = threading.Event()
        thread = threading.Thread(target=end.wait, name="another one")
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(end.set)

        with self.assertLogs("pyres.horde", logging.INFO) as logs:
            khan.current_state()

        (line,) = logs.output
        self.assertIn(f"{khan} runs the minions []", line)
        self.assertIn("in test_current_state_logs_the_pool_and_where_each_thread_is", line)
        self.assertIn("another one\n", line)
        self.assertIn("in wait", line)

    def test_as_a_handler_it_logs_only_in_the_loop(self):
        khan = self.khan()
        khan.register_signal_handlers()
        try:
            with self.assertNoLogs("pyres.horde", logging.INFO):
                khan.current_state(signal.SIGURG, sys._getframe())
        finally:
            khan.signals.restore()

        with self.assertLogs("pyres.horde", logging.INFO):
            khan._log_state()
        with self.assertNoLogs("pyres.horde", logging.INFO):
            khan._log_state()


class KhanOverrideTests(KhanCase):
    """A subclass's methods are called where 1.5 called its own."""

    def run_khan(self, body, *, pool=1, more=""):
        """Start a program with a Khan subclass of this body."""
        program = f"""
import signal
from pyres.horde import Khan, Minion
from pyres import ResQ, horde
from tests.compat.jobs import Lasting
{more}
def note(word):
    resq = ResQ({self.dsn!r})
    resq.redis.rpush("noted", word)
    resq.close()

class Mine(Khan):
{body}

Mine.run({pool}, ["basic"], {self.dsn!r}, interval=0.1)
"""
        self.program = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
        self.addCleanup(self.program.wait)
        self.addCleanup(self.program.kill)
        self.until_registered(pool)
        return self.program

    def stop(self):
        self.program.send_signal(signal.SIGTERM)
        self.assertEqual(self.program.wait(PATIENCE), 0)
        self.assertEqual(self.khans(), set())
        self.assertEqual(self.redis.scard("resque:minions"), 0)
        self.assertEqual(self.resq.workers(), [])

    def noted(self):
        return [word.decode() for word in self.redis.lrange("noted", 0, -1)]

    def minions(self):
        return [int(member.split(b":")[1]) for member in self.redis.smembers("resque:minions")]

    def test_each_step_of_its_life_cycle_can_be_overridden(self):
        steps = KHAN_STEPS
        body = "\n".join(
            f"    def {step}(self):\n        note({step!r})\n        return super().{step}()\n"
            for step in steps
        )
        self.run_khan(body)
        self.stop()

        self.assertEqual(self.noted(), steps)

    def test_the_signal_handlers_of_a_subclass_are_called(self):
        program = self.run_khan(
            """
    def kill_child(self, signum, frame):
        note("kill_child")
        super().kill_child(signum, frame)

    def add_child(self, signum, frame):
        note("add_child")
        super().add_child(signum, frame)

    def schedule_shutdown(self, signum, frame):
        note("schedule_shutdown")
        super().schedule_shutdown(signum, frame)
"""
        )
        program.send_signal(signal.SIGUSR2)
        self.until_registered(2)
        program.send_signal(signal.SIGUSR1)
        self.until_registered(1)
        self.stop()

        self.assertEqual(self.noted(), ["add_child", "kill_child", "schedule_shutdown"])

    def test_signals_and_commands_call_the_methods_of_the_subclass(self):
        program = self.run_khan(
            """
    def add_minion(self):
        note("add_minion")
        super().add_minion()

    def _remove_minion(self, pid=None):
        note("_remove_minion")
        return super()._remove_minion(pid)

    def process_command(self, command):
        note(f"process_command {command}")
        super().process_command(command)

    def schedule_shutdown(self, signum, frame):
        note("schedule_shutdown")
        super().schedule_shutdown(signum, frame)
"""
        )
        here = f"resque:khan:{platform.node()}:{program.pid}"
        self.redis.rpush(f"{here}:1", "ADD")
        self.until_registered(2)
        program.send_signal(signal.SIGUSR1)
        self.until_registered(1)
        self.redis.rpush(f"{here}:1", "SHUTDOWN")
        self.assertEqual(program.wait(PATIENCE), 0)

        self.assertEqual(
            self.noted(),
            [
                "process_command ADD",
                "add_minion",
                "_remove_minion",
                "process_command SHUTDOWN",
                "schedule_shutdown",
            ],
        )

    def test_a_command_of_a_subclass_is_executed(self):
        program = self.run_khan(
            """
    _command_map = {**Khan._command_map, "DOUBLE": "double"}

    def double(self):
        for _ in range(self.pool_size):
            self.add_minion()
"""
        )
        self.redis.rpush(f"resque:khan:{platform.node()}:{program.pid}:1", "DOUBLE")
        self.until_registered(2)
        self.stop()

    def test_a_process_that_exits_with_0_has_finished_its_job(self):
        self.run_khan(
            """
    def _add_minion(self):
        minion = MyMinion(self.queues, self.server, self.password)
        minion.start()
        self._workers[minion.pid] = minion
        return minion
""",
            more="""
import os
class MyMinion(Minion):
    def process(self, job):
        self.resq.redis.rpush("processed", str(self.pid))
        os._exit(0)
""",
        )
        for _ in range(3):
            self.resq.enqueue(Lasting)
        until(lambda: self.resq.info()["processed"] == 3, what="three jobs counted")
        self.assertEqual(len(set(self.redis.lrange("processed", 0, -1))), 3)
        self.assertEqual(self.redis.llen("resque:failed"), 0)
        until(lambda: len(self.minions()) == 1, what="another minion")

    def test_minions_started_by_a_subclass_are_replaced_and_ended_like_others(self):
        """Code that users copied from 1.5's _add_minion(), with their own Minion class."""
        self.run_khan(
            """
    def _add_minion(self):
        minion = MyMinion(self.queues, self.server, self.password,
            interval=self.minions_interval, log_level=self.logging_level, max_jobs=self.max_jobs)
        minion.start()
        self._workers[minion.pid] = minion
        return minion
""",
            more="""
class MyMinion(Minion):
    def process(self, job):
        self.resq.redis.rpush("processed", str(self.pid))
        return super().process(job)
""",
        )
        (first,) = self.minions()
        self.resq.enqueue(Lasting)
        until(lambda: self.redis.llen("lasting"), what="a job performed")
        self.assertEqual(self.redis.lrange("processed", 0, -1), [str(first).encode()])

        os.kill(first, signal.SIGUSR1)
        until(lambda: self.minions() not in ([], [first]), what="another minion")
        self.assertFalse(alive(first))
        self.stop()

    def test_a_replacement_of_the_modules_minion_class_is_started(self):
        class Mine(Minion):
            def register_minion(self):
                super().register_minion()
                self.resq.redis.sadd("mine", self.pid)

        self.addCleanup(setattr, horde, "Minion", Minion)
        horde.Minion = Mine
        khan = self.khan(1)

        khan.setup_minions()

        until(lambda: self.redis.scard("mine"), what="a minion of that class")
        self.assertTrue(self.redis.sismember("mine", next(iter(khan._workers))))


class IntervalTests(KhanCase):
    def test_none_is_a_valid_interval_everywhere(self):
        """1.5's command line passed None, and the pool crashed."""
        Quick.run(1, ["basic"], self.dsn, interval=None, minions_interval=None)
        self.khan(1, Quick).work(None)

        self.assertEqual(self.khan(1, minions_interval=None).minions_interval, 5)

    def test_a_minion_without_an_interval_works(self):
        self.resq.enqueue(Basic, "one")
        minion = Stopping(["basic"], self.resq, interval=None)

        minion.run()

        self.assertEqual(self.resq.size("basic"), 0)


class Quick(Khan):
    """Ends after the first round of its loop."""

    def _log_state(self):
        super()._log_state()
        os.kill(os.getpid(), signal.SIGTERM)


class Stopping(Minion):
    """Ends after its first job."""

    def process(self, job):
        try:
            return super().process(job)
        finally:
            self.schedule_shutdown(signal.SIGTERM, None)


class MinionStepTests(PyResTests):
    def test_its_work_calls_the_steps_of_1_5_in_order(self):
        self.resq.enqueue(Basic, "one")
        calls = []

        def noting(name):
            def step(self, *args):
                calls.append(name)
                return getattr(super(noting_class, self), name)(*args)

            return step

        noting_class = type("Noting", (Stopping,), {name: noting(name) for name in MINION_STEPS})

        noting_class(["basic"], self.resq).run()

        self.assertEqual(calls, MINION_STEPS)

    def test_run_passes_its_interval_to_work(self):
        seen = []

        class Mine(Minion):
            def work(self, interval=5):
                seen.append(interval)

        Mine(["basic"], self.dsn, None, interval=7).run()

        self.assertEqual(seen, [7])

    def test_startup_installs_the_handlers_and_registers(self):
        minion = Minion(["basic"], self.resq)

        minion.startup()
        handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)]
        minion.signals.restore()

        self.assertEqual(handlers, [minion.schedule_shutdown] * 3)
        self.assertEqual(self.redis.smembers("resque:minions"), {str(minion).encode()})

    def test_prune_dead_workers_exists_and_leaves_pruning_to_the_manager(self):
        process = subprocess.Popen(["true"])
        process.wait()
        dead = f"{platform.node()}:{process.pid}:basic"
        self.redis.sadd("resque:workers", dead)

        Minion(["basic"], self.resq).prune_dead_workers()

        self.assertEqual(self.resq.workers(), [dead])

    def test_run_works_in_this_process_and_logs_to_its_log_path(self):
        self.resq.enqueue(Failing)
        loggers = (logging.getLogger(), logging.getLogger("pyres"))
        former = [list(logger.handlers) for logger in loggers]
        for logger in loggers:
            self.addCleanup(logger.setLevel, logger.level)
        with tempfile.TemporaryDirectory() as folder:
            minion = Stopping(["basic"], self.dsn, None, log_path=folder)

            minion.run()

            path = os.path.join(folder, f"minion-{os.getpid()}.log")
            self.assertEqual(minion.log_file, path)
            with open(path) as file:
                self.assertIn("ValueError: it failed", file.read())
            minion.clear_logger()
        self.assertEqual([logger.handlers for logger in loggers], former)

    def test_a_special_log_path_is_used_unchanged(self):
        for logger in (logging.getLogger(), logging.getLogger("pyres")):
            self.addCleanup(logger.setLevel, logger.level)
        written, former = io.StringIO(), sys.stdout
        minion = Minion(["basic"], self.dsn, None, log_path="stdout")
        minion.schedule_shutdown(signal.SIGTERM, None)
        sys.stdout = written
        try:
            minion.run()
        finally:
            sys.stdout = former
            minion.clear_logger()

        self.assertEqual(minion.log_file, "stdout")
        self.assertIn("has stopped", written.getvalue())

    def test_its_server_must_be_a_dsn_or_a_resq(self):
        self.assertEqual(Minion(["basic"], self.dsn, None).server, self.dsn)
        self.assertIs(Minion(["basic"], self.resq, None).resq, self.resq)
        with self.assertRaises(ValueError):
            Minion(["basic"], object(), None)

    def test_the_arguments_of_1_5_have_its_defaults_and_are_attributes(self):
        parameters = inspect.signature(Minion).parameters
        wanted = {
            "log_level": logging.INFO,
            "log_path": None,
            "interval": 5,
            "concat_logs": False,
            "max_jobs": 0,
        }
        minion = Minion(["a", "b"], self.resq, None)

        self.assertEqual({name: parameters[name].default for name in wanted}, wanted)
        self.assertEqual({name: getattr(minion, name) for name in wanted}, wanted)
        self.assertEqual(str(minion), f"{platform.node()}:{os.getpid()}:a,b")
        self.assertEqual((minion.hostname, minion.name), (platform.node(), "Minion"))


class MinionOverrideTests(PyResTests):
    """reserve() and done_working() have no parameter in 1.5's Minion."""

    def work(self, kind, jobs=3, **more):
        for number in range(jobs):
            self.resq.enqueue(Lasting, number)
        minion = kind(["basic"], self.resq, None, max_jobs=jobs, **more)
        minion.work()
        self.assertEqual(self.redis.llen("lasting"), jobs)
        self.assertEqual(Stat("processed", self.resq).get(), jobs)
        self.assertEqual(self.redis.keys("resque:worker:*"), [])
        return minion

    def test_reserve_of_a_subclass_returns_each_job_and_each_is_counted_once(self):
        for own in (Minion.reserve, popping):

            class Mine(Minion):
                def reserve(self, own=own):
                    self.resq.redis.rpush("called", "reserve")
                    return own(self)

            self.redis.flushall()
            with self.assertLogs("pyres", logging.INFO) as logs:
                self.work(Mine)
            self.assertEqual(self.redis.llen("called"), 3)
            (overrides,) = (line for line in logs.output if "Mine overrides" in line)
            self.assertIn("reserve", overrides)

    def test_a_job_that_a_subclass_popped_is_in_flight_before_it_is_processed(self):
        seen = []

        class Mine(Minion):
            def reserve(self):
                return popping(self)

            def process(self, job):
                seen.append(json.loads(self.resq.redis.get(f"resque:worker:{self}"))["payload"])
                return super().process(job)

        self.work(Mine, 1)

        self.assertEqual([payload["args"] for payload in seen], [[0]])

    def test_a_reserve_that_returns_none_at_once_is_not_called_in_a_busy_loop(self):
        class Mine(Minion):
            calls = 0

            def reserve(self):
                self.calls += 1
                if self.calls > 2:
                    self.schedule_shutdown(signal.SIGTERM, None)

        # Also if the call takes long on a busy machine.
        self.enterContext(mock.patch.object(performer, "RESERVE_PAUSE", 600.0))
        slept = []
        minion = Mine(["basic"], self.resq, None)
        minion.register_signal_handlers = lambda: None
        minion.signals.sleep = slept.append
        minion.work()

        self.assertEqual(len(slept), 3)
        self.assertTrue(all(seconds > 0 for seconds in slept))

    def test_done_working_of_a_subclass_is_called_without_a_job(self):
        class Mine(Minion):
            def done_working(self):
                self.resq.redis.rpush("called", "done_working")
                super().done_working()

        self.work(Mine)

        self.assertEqual(self.redis.llen("called"), 3)

    def test_all_overridden_steps_together_count_each_job_once(self):
        class Mine(Minion):
            def reserve(self):
                self.resq.redis.incr("reserve")
                return super().reserve()

            def working_on(self, job):
                self.resq.redis.incr("working_on")
                super().working_on(job)

            def processed(self):
                self.resq.redis.incr("processed")
                super().processed()

            def failed(self):
                self.resq.redis.incr("failed")
                super().failed()

            def done_working(self):
                self.resq.redis.incr("done_working")
                super().done_working()

        self.resq.enqueue(Failing)
        for number in range(2):
            self.resq.enqueue(Lasting, number)
        Mine(["basic"], self.resq, None, max_jobs=3).work()

        steps = ("reserve", "working_on", "processed", "done_working", "failed")
        self.assertEqual([int(self.redis.get(step)) for step in steps], [3, 3, 3, 3, 1])
        counted = [Stat(name, self.resq).get() for name in ("processed", "failed")]
        self.assertEqual(counted, [3, 1])
        self.assertEqual(self.redis.keys("resque:worker:*"), [])


def popping(minion):
    """Like 1.5's own reserve(), which writes no in-flight record."""
    return Job.reserve(minion.queues, minion.resq, str(minion))


class MinionProcessTests(PyResTests):
    """The methods of multiprocessing.Process that 1.5's users called."""

    def start(self, kind=Minion):
        minion = kind(["basic"], self.dsn, None, interval=1)
        minion.start()
        self.addCleanup(minion.join)
        self.addCleanup(minion.kill)
        until(lambda: self.redis.scard("resque:minions"), what="a minion")
        return minion

    def test_it_ends_gracefully_on_terminate(self):
        minion = self.start()
        self.assertTrue(minion.is_alive())
        self.assertIsNone(minion.exitcode)
        self.assertEqual(minion.ident, minion.pid)
        self.assertNotEqual(minion.pid, os.getpid())

        minion.terminate()
        minion.join()

        self.assertFalse(minion.is_alive())
        self.assertEqual(minion.exitcode, 0)

    def test_the_exit_code_of_a_killed_minion_has_the_signal(self):
        minion = self.start()

        minion.kill()
        until(lambda: minion.exitcode is not None, what="the end of the minion")

        self.assertEqual(minion.exitcode, -signal.SIGKILL)
        self.assertFalse(minion.is_alive())

    def test_join_returns_after_its_timeout(self):
        minion = self.start()

        minion.join(0)
        minion.join(0.01)

        self.assertTrue(minion.is_alive())

    def test_join_continues_after_a_signal(self):
        minion = self.start()
        handlers = {signal.SIGUSR1: lambda *_: minion.terminate()}
        minion.children.signals = minion.signals.replace(handlers)
        self.addCleanup(minion.children.signals.restore)

        os.kill(os.getpid(), signal.SIGUSR1)
        minion.join()

        self.assertIsNotNone(minion.exit)

    def test_work_in_this_process_restores_its_handlers(self):
        former = signal.getsignal(signal.SIGTERM)
        minion = Minion(["basic"], self.resq)
        minion.schedule_shutdown(signal.SIGTERM, None)

        minion.work()

        self.assertEqual(signal.getsignal(signal.SIGTERM), former)

    def test_a_minion_that_was_not_started_or_has_ended_gets_no_signal(self):
        minion = Minion(["basic"], self.dsn, None)
        self.assertFalse(minion.is_alive())
        self.assertIsNone(minion.exitcode)
        minion.terminate()
        minion.join()
        ended = self.start()
        ended.kill()
        ended.join()
        ended.terminate()
        ended.kill()

    def test_it_may_be_marked_as_a_daemon(self):
        minion = Minion(["basic"], self.dsn, None)
        self.assertFalse(minion.daemon)

        minion.daemon = True

        self.assertTrue(minion.daemon)

    def test_the_process_calls_run_of_a_subclass(self):
        class Mine(Minion):
            def run(self):
                self.resq.redis.rpush("ran", self.pid)

        minion = Mine(["basic"], self.dsn, None)
        minion.start()
        minion.join()

        self.assertEqual(minion.exitcode, 0)
        self.assertEqual(self.redis.lrange("ran", 0, -1), [str(minion.pid).encode()])
