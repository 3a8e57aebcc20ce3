"""The base class of these tests: unittest, with one private server for the whole run."""

from __future__ import annotations

import atexit
import logging
import unittest

import setproctitle

from pyres import ResQ, failure
from tests.servers import Server

#: The server, once it is started.
servers: list[Server] = []


def server() -> Server:
    """The server; it is started if needed and then runs until this process ends."""
    if not servers:
        servers.append(Server().start())
        atexit.register(servers[0].close)
    return servers[0]


class PyResTests(unittest.TestCase):
    """As in pyres 1.5's own tests: `resq` and `redis`, on an empty server."""

    def setUp(self) -> None:
        self.dsn = server().dsn
        self.resq = ResQ(self.dsn)
        self.addCleanup(self.resq.close)
        self.redis = self.resq.redis
        self.redis.flushall()
        # A worker in this process changes its title, which is restored: otherwise
        # Worker.worker_pids() would find this process as a worker.
        self.addCleanup(setproctitle.setproctitle, setproctitle.getproctitle())
        self.addCleanup(setattr, failure, "backend", failure.backend)
        # setup_logging() replaces logging.basicConfig().
        self.addCleanup(setattr, logging, "basicConfig", logging.basicConfig)
