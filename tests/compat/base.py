"""What these tests stand on: unittest, and one private server for the whole run."""

from __future__ import annotations

import atexit
import logging
import unittest

import setproctitle

from pyres import ResQ, failure
from tests.servers import Server

#: The one server, when there is one.
servers: list[Server] = []


def server() -> Server:
    """A server that is there until this process ends, unless somebody brought one."""
    if not servers:
        servers.append(Server().start())
        atexit.register(servers[0].close)
    return servers[0]


class PyResTests(unittest.TestCase):
    """As in pyres 1.5's own tests: `resq`, and `redis`, on a server that is empty."""

    def setUp(self) -> None:
        self.dsn = server().dsn
        self.resq = ResQ(self.dsn)
        self.addCleanup(self.resq.close)
        self.redis = self.resq.redis
        self.redis.flushall()
        # A worker within this process gives it its title, which must not outlive it: others would
        # take this process for a worker.
        self.addCleanup(setproctitle.setproctitle, setproctitle.getproctitle())
        self.addCleanup(setattr, failure, "backend", failure.backend)
        # setup_logging() puts its own in the place of logging's.
        self.addCleanup(setattr, logging, "basicConfig", logging.basicConfig)
