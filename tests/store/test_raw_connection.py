"""A connection that reads its replies itself: the errors of a server that cannot serve now."""

from __future__ import annotations

import pytest

from pyres import ResQ
from pyres.store import CONNECTION_ERRORS, CannotWriteNow
from tests.servers import Server, until

NOW = "2026-11-23T16:01:09Z"


def test_a_server_that_is_busy_with_a_script_is_waited_for(own_server: Server) -> None:
    redis, busy = own_server.client(), own_server.client()
    redis.config_set("busy-reply-threshold", 10)
    resq = ResQ(own_server.dsn)
    resq.store.workers.register("h:1:notes", "1")
    fetcher = resq.store.fetcher("h:1:notes")
    fetcher.set_queues(["notes"])
    assert fetcher.fetch(False, NOW) is None
    connection = busy.connection_pool.get_connection()
    connection.send_command("EVAL", "while true do end", 0)
    until(lambda: is_busy(resq))

    with pytest.raises(CannotWriteNow, match="BUSY"):
        fetcher.fetch(False, NOW)
    redis.script_kill()
    until(lambda: not is_busy(resq))

    resq.push("notes", {"class": "A", "args": []})
    assert fetcher.fetch(False, NOW)
    fetcher.close()
    resq.close()
    connection.disconnect()


def is_busy(resq: ResQ) -> bool:
    """Whether it is raised as a connection error, for an application as well."""
    try:
        resq.queues()
    except CONNECTION_ERRORS as error:
        return "BUSY" in str(error)
    return False
