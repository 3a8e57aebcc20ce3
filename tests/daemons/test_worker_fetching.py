"""How a worker fetches jobs: in which order, with how many round trips and which pauses."""

from __future__ import annotations

import signal

from redis import Redis

from pyres import ResQ
from tests.daemons.watching import HASTY, burst, echoed, fetches, pauses, start
from tests.jobs import ECHOED, EchoJob, NoopJob
from tests.servers import Daemons, Server, until


def test_the_queue_with_the_highest_priority_is_first_although_its_jobs_came_last(
    run_daemon: Daemons, resq: ResQ, redis: Redis, server: Server
) -> None:
    queues = [f"p{number}" for number in range(10, 0, -1)]
    for queue in reversed(queues):
        for number in range(2):
            resq.enqueue_to(queue, EchoJob, queue, number)

    with server.monitor() as monitor:
        daemon = start(run_daemon, redis, "--queues", ",".join(queues), "--nonblocking-pop")
        until(lambda: redis.llen(ECHOED) == 20)
        daemon.send(signal.SIGTERM)
        daemon.wait()
        names = monitor.names

    assert echoed(redis) == [[queue, number] for queue in queues for number in range(2)]
    assert not [name for name in names if name.startswith(("BLPOP", "BRPOP", "BLMOVE"))]


def test_a_job_costs_one_round_trip(
    run_daemon: Daemons, resq: ResQ, redis: Redis, server: Server
) -> None:
    """Without polling every half second, and without a wait while there are jobs."""
    resq.enqueue_many([(NoopJob, number) for number in range(30)])

    with server.monitor() as monitor:
        burst(run_daemon, "--nonblocking-pop", "--require", "tests.jobs")
        names = monitor.names

    evals = [index for index, name in enumerate(names) if name == "EVALSHA"]
    steady = names[evals[5] : evals[25] + 1]
    assert steady == ["EVALSHA"] * 21


def test_the_pauses_are_one_two_four_and_eight_seconds(
    run_daemon: Daemons, redis: Redis, server: Server
) -> None:
    """One fetch comes before each pause."""
    # The first fetch is sent twice to a server that does not know the script yet.
    burst(run_daemon, "--nonblocking-pop")

    with server.monitor() as monitor:
        daemon = run_daemon("-c", HASTY, "--queues", "basic", "--nonblocking-pop")
        until(lambda: len(pauses(daemon)) >= 6, what="six pauses")
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 0
        fetched = len(fetches(monitor))

    assert pauses(daemon)[:6] == [1, 2, 4, 8, 8, 8]
    # The last pause may have been cut short by the signal.
    assert fetched - len(pauses(daemon)) in (0, 1)


def test_wildcards_and_negations_see_new_queues(
    run_daemon: Daemons, resq: ResQ, redis: Redis
) -> None:
    start(run_daemon, redis, "--queues", "m*,!mute", "--nonblocking-pop")

    resq.enqueue_to("mute", EchoJob, "never")
    resq.enqueue_to("mail", EchoJob, "mail")

    until(lambda: echoed(redis) == [["mail"]])
    assert resq.size("mute") == 1
