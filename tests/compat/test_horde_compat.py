"""pyres.horde: Khan and Minion."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys

from pyres.exceptions import NoQueueError
from pyres.horde import Khan, Minion
from tests.compat.base import PyResTests
from tests.compat.jobs import Failing, Lasting
from tests.servers import PATIENCE, ROOT, until


class MinionTests(PyResTests):
    def test_it_performs_without_a_fork(self):
        self.resq.enqueue(Lasting)
        minion = Minion(["basic"], self.resq)

        minion.process(minion.reserve())

        self.assertEqual(int(self.redis.lindex("lasting", 0)), os.getpid())

    def test_a_failure_is_recorded(self):
        self.resq.enqueue(Failing)
        minion = Minion(["basic"], self.resq)

        with self.assertLogs("pyres", "ERROR"):
            minion.process(minion.reserve())

        self.assertEqual(self.redis.llen("resque:failed"), 1)

    def test_it_is_registered_as_a_minion_and_a_worker(self):
        minion = Minion(["basic"], self.resq)

        minion.register_minion()

        name = f"{platform.node()}:{os.getpid()}:basic".encode()
        self.assertEqual(self.redis.smembers("resque:minions"), {name})
        self.assertEqual(self.redis.smembers("resque:workers"), {name})
        minion.unregister_minion()
        self.assertEqual(self.redis.keys("*"), [])

    def test_it_is_started_and_ended_like_a_process(self):
        self.resq.enqueue(Lasting)
        minion = Minion(["basic"], self.dsn, None, interval=1)

        minion.start()
        self.assertTrue(minion.is_alive())
        until(lambda: self.redis.llen("lasting"), what="a job done")
        self.assertEqual(int(self.redis.lindex("lasting", 0)), minion.pid)
        minion.terminate()
        minion.join(PATIENCE)

        self.assertFalse(minion.is_alive())
        self.assertFalse(self.redis.exists("resque:minions"))


class KhanTests(PyResTests):
    def khan(self, pool_size=2, queues=("basic",)):
        return Khan(pool_size=pool_size, queues=list(queues), server=self.dsn)

    def test_pool_size_must_be_a_number_and_queues_must_not_be_empty(self):
        with self.assertRaises(ValueError):
            Khan("many", ["basic"], self.dsn)
        with self.assertRaises(NoQueueError):
            Khan(1, [], self.dsn)
        self.assertEqual(Khan("3", ["basic"], self.dsn).pool_size, 3)
        self.assertEqual(Khan.SHUTDOWN_MINION_DELAY, 10)

    def test_it_has_a_resq_after_setup_resq(self):
        khan = self.khan()
        self.assertFalse(hasattr(khan, "resq"))

        khan.setup_resq()

        self.assertEqual(khan.resq.queues(), [])

    def test_it_is_registered_by_its_name(self):
        khan = self.khan(3)
        khan.setup_resq()

        khan.register_khan()

        self.assertEqual(str(khan), f"{platform.node()}:{os.getpid()}:3")
        self.assertEqual(self.redis.smembers("resque:khans"), {str(khan).encode()})
        khan.unregister_khan()
        self.assertFalse(self.redis.exists("resque:khans"))

    def test_minions_start_and_end_with_the_pool(self):
        khan = self.khan(1)
        khan.setup_resq()
        khan.register_khan()
        khan.setup_minions()
        self.assertEqual(len(khan._workers), 1)

        khan.add_minion()

        self.assertEqual(len(khan._workers), 2)
        self.assertEqual(khan.pool_size, 2)
        self.assertEqual(self.redis.smembers("resque:khans"), {str(khan).encode()})
        self.assertTrue(khan.are_minions_alive())
        self.assertEqual(list(khan._workers), [minion.pid for minion in khan._workers.values()])
        khan._shutdown_minions()
        self.assertEqual(len(khan._workers), 0)
        self.assertFalse(self.redis.exists("resque:minions"))

    def test_handlers_are_the_public_methods(self):
        khan = self.khan()
        khan.register_signal_handlers()
        found = {
            signum: signal.getsignal(signum)
            for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)
        }
        khan.signals.restore()

        self.assertEqual(found.pop(signal.SIGUSR1), khan.kill_child)
        self.assertEqual(set(found.values()), {khan.schedule_shutdown})

    def test_commands_are_executed(self):
        run = f"Khan.run(1, ['basic'], {self.dsn!r}, interval=0.1)"
        program = f"from pyres.horde import Khan; {run}"
        process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
        here = f"{platform.node()}:{process.pid}"
        try:
            self.until_khan(f"{here}:1", minions=1)
            self.redis.rpush(f"resque:khan:{here}:1", "ADD")
            self.until_khan(f"{here}:2", minions=2)
            self.resq.enqueue(Lasting)
            until(lambda: self.redis.llen("lasting"), what="a job done")
            self.redis.rpush(f"resque:khan:{here}:2", "REMOVE")
            self.until_khan(f"{here}:1", minions=1)
            self.redis.rpush(f"resque:khan:{here}:1", "SHUTDOWN")
            self.assertEqual(process.wait(60), 0)
        finally:
            process.kill()
            process.wait()

        self.assertFalse(self.redis.exists("resque:khans"))
        self.assertFalse(self.redis.exists("resque:minions"))
        self.assertEqual(self.resq.workers(), [])

    def until_khan(self, name, minions):
        until(
            lambda: (
                self.redis.smembers("resque:khans") == {name.encode()}
                and self.redis.scard("resque:minions") == minions
            ),
            what=f"{name} with {minions} minions",
        )
