"""Under pytest, a server that ends with the run; under nosetests it ends with the process."""

from __future__ import annotations

import pytest

from tests.compat import base
from tests.servers import Server


@pytest.fixture(scope="session", autouse=True)
def _server_of_the_run(server: Server) -> None:
    base.servers.append(server)
