"""The test helpers work as expected."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.servers import PORTS, ROOT, RUNS, Daemons, Server, alive, free_port, keyspace, until

ORPHAN = "import subprocess, sys; subprocess.Popen(['sleep', '300']); sys.exit({})"


def test_until_reports_the_condition_and_the_last_value():
    with pytest.raises(AssertionError, match=r"not within 0.02 s: pigs that fly; last: \[\]"):
        until(list, timeout=0.02, what="pigs that fly")


def test_until_retries_after_a_failed_assertion():
    values = iter([1, 2, 3])

    def is_three() -> str:
        assert next(values) == 3
        return "three"

    assert until(is_three) == "three"


def test_each_test_gets_an_empty_server(redis):
    assert redis.dbsize() == 0


def test_the_default_port_is_refused():
    with socket.socket() as client, pytest.raises(AssertionError, match="6379"):
        client.connect(("127.0.0.1", 6379))


def test_a_killed_server_restarts_on_its_port_without_its_data(own_server):
    redis, port = own_server.client(), own_server.port
    redis.set("a", 1)

    own_server.kill()
    own_server.restart()

    assert own_server.port == port
    assert redis.get("a") is None


def test_appendonly_data_survive_a_kill():
    with Server(appendonly=True) as server:
        server.client().set("a", 1)

        server.kill()
        server.restart()

        assert server.client().get("a") == b"1"


def test_a_paused_server_answers_when_it_is_resumed(own_server):
    redis = own_server.client(socket_timeout=0.05, retry=None)

    own_server.pause()

    with pytest.raises(RedisTimeoutError):
        redis.ping()
    own_server.resume()
    assert until(lambda: own_server.client().ping())


def test_a_server_that_cannot_start_shows_its_log():
    server = Server("--no-such-option", "1")

    with pytest.raises(AssertionError, match="no-such-option"):
        server.start()
    server.close()


def test_a_port_in_use_is_not_waited_for(own_server):
    other = Server(port=own_server.port)

    with pytest.raises(AssertionError, match="in use"):
        other.start()
    other.close()


def test_a_cluster_of_one_takes_commands():
    with Server(cluster=True) as server:
        assert server.client().set("a", 1)


def test_a_sentinel_knows_its_master(own_server):
    with Server(sentinel_of={"main": own_server}) as sentinel:
        found = sentinel.client().execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")

    assert found == [b"127.0.0.1", str(own_server.port).encode()]


def test_a_server_dies_with_the_process_that_started_it(tmp_path):
    code = (
        "import os; from tests.servers import Server; server = Server().start();"
        "print(server.pid, server.folder, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    pid = int(done.stdout.split()[0])
    assert until(lambda: not alive(pid))


def test_the_monitor_shows_what_clients_send_and_what_scripts_call(server, redis):
    with server.monitor() as monitor:
        redis.rpush("a", 'quote " back \\ é \n', b"\xff\x00")
        redis.eval("return redis.call('LPOP', KEYS[1])", 1, "a")

        assert monitor.commands[0] == ("RPUSH", ["a", 'quote " back \\ é \n', "\udcff\0"])
        assert monitor.names == ["RPUSH", "EVAL"]
        assert monitor.inside_lua == [("LPOP", ["a"])]
        assert abs(monitor.commands[0].at - time.time()) < 60
        assert monitor.until("EVAL")


def test_a_keyspace_has_the_shape_of_the_golden_files(redis):
    redis.set("resque:s", b"\xff")
    redis.set("resque:t", "x", ex=600)
    redis.rpush("resque:l", "b", "a")
    redis.sadd("resque:set", "b", "a")
    redis.hset("resque:h", "f", "é")
    redis.zadd("resque:z", {"m": 4102444800, "n": 0.5})
    redis.set("other", 1)

    found = keyspace(redis)

    assert 0 < found["resque:t"].pop("ttl") <= 600
    assert found == {
        "resque:s": {"type": "string", "value": "\udcff"},
        "resque:t": {"type": "string", "value": "x"},
        "resque:l": {"type": "list", "values": ["b", "a"]},
        "resque:set": {"type": "set", "values": ["a", "b"]},
        "resque:h": {"type": "hash", "fields": {"f": "é"}},
        "resque:z": {"type": "zset", "members": [["n", "0.5"], ["m", "4102444800"]]},
    }


def test_a_daemon_has_title_output_children_and_exit_code(run_daemon):
    code = "import subprocess, sys; print('up'); subprocess.run(['sleep', '300'])"

    daemon = run_daemon("-c", code)

    daemon.until_output("up")
    (child,) = until(daemon.children)
    assert "import subprocess" in daemon.title()
    assert set(daemon.family()) == {daemon.pid, child}
    os.kill(child, signal.SIGTERM)
    assert daemon.wait() == 0
    assert daemon.returncode == 0


def test_a_daemon_gets_the_tests_server_and_can_import_pyres_and_the_jobs(run_daemon, server):
    daemon = run_daemon(
        "-c", "import os, pyres.version, tests.jobs; print(os.environ['REDIS_URL'])"
    )

    assert daemon.wait() == 0
    assert daemon.output() == f"redis://127.0.0.1:{server.port}/0\n"


def test_a_daemon_that_leaves_a_process_running_fails_the_test(tmp_path):
    daemons = Daemons(tmp_path, "redis://127.0.0.1:1")
    daemon = daemons("-c", ORPHAN.format(3))
    daemon.patience = 0.1
    daemon.wait()
    (left,) = daemon.family()

    with pytest.raises(AssertionError, match=r"sleep 300.*ended with 3"):
        daemons.__exit__(None, None, None)
    assert until(lambda: not alive(left))


def test_processes_of_a_daemon_that_the_test_killed_are_killed_too(run_daemon):
    daemon = run_daemon("-c", "import subprocess; subprocess.run(['sleep', '300'])")
    (child,) = until(daemon.children)

    daemon.send(signal.SIGKILL)
    daemon.wait()

    assert alive(child)
    daemon.close()
    assert until(lambda: not alive(child))


def test_two_free_ports_differ():
    assert len({free_port() for _ in range(5)}) > 1


def test_two_runs_at_once_have_no_port_in_common(tmp_path: Path) -> None:
    program = (
        "from tests.servers import reserve_ports, free_port; "
        "lock = reserve_ports(); print(free_port(), flush=True); input()"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(RUNS)
    ]
    parts = {(int(run.stdout.readline()) - PORTS.start) // (len(PORTS) // RUNS) for run in runs}
    for run in runs:
        run.communicate("")

    assert len(parts) == RUNS
