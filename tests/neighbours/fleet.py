"""Workers and schedulers of several languages on one Redis, killed at random."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import signal
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from redis import Redis

from tests.chaos.jobs import BEGUN, ENDED
from tests.chaos.ledger import CUT, Ledger
from tests.servers import Daemon, processes, state_of, texts, until

#: The queue of all languages. Each language also has its own queue, so that Ruby's workers do not
#: prune those of node, as they would do with workers of the same queues.
SHARED = "all"

#: Returned instead of a daemon's name when all jobs are done.
DONE = "none, all jobs are done"

#: The percentages of jobs that fail by themselves, and that are delayed.
DOOMED_PERCENT, DELAYED_PERCENT = 3, 20

#: Seconds for the remaining jobs after the last kill.
DRAIN = 180.0

#: The exceptions in records of jobs whose process, or the one to record the outcome, was killed.
CUT_BY_ANYONE = {*CUT, "Resque::DirtyExit", "Resque::PruneDeadWorkerDirtyExit"}

#: A job as `[queue, seconds from now, [number, seconds, whether it fails]]`.
Job = list[Any]

#: Enqueues jobs.
Client = Callable[[list[Job]], None]

#: Starts a daemon.
Starter = Callable[[], Daemon]


class Books(Ledger):
    """The outcomes of the jobs. Ruby and node record an outcome in one step and delete the
    in-flight record in another, so a kill in between leaves two records: one of a job cut off.
    """

    def _was_cut(self, number: int) -> bool:
        cut = [record["exception"] in CUT_BY_ANYONE for record in self.failed.get(number, [])]
        return len(self.ended.get(number, [])) + cut.count(False) <= 1 and cut.count(True) <= 1

    @property
    def languages(self) -> Counter[str]:
        """How many jobs have finished in each language."""
        return Counter(trace.split()[3] for traces in self.ended.values() for trace in traces)


class Fleet:
    """Daemons by name; each is restarted when it has ended.

    A name is a language and a kind of daemon, such as "python worker 1".
    """

    def __init__(self, redis: Redis, starters: dict[str, Starter], seed: int) -> None:
        self._redis = redis
        self._starters = starters
        self._dice = random.Random(seed)
        self._running = {name: start() for name, start in starters.items()}
        self._former: list[Daemon] = []
        self.jobs = 0
        self.kills: Counter[str] = Counter()
        self.log: list[str] = []

    @property
    def languages(self) -> list[str]:
        return sorted({name.split()[0] for name in self._starters})

    # Jobs

    def enqueue(self, client: Client, number: int) -> None:
        """Let a client enqueue this number of jobs."""
        client([self._job() for _ in range(number)])

    def _job(self) -> Job:
        dice = self._dice
        queue = dice.choice([SHARED] * 5 + self.languages)
        later = dice.randint(1, 6) if dice.random() * 100 < DELAYED_PERCENT else 0
        seconds = dice.choice((0.0, 0.0, 0.001, 0.01, 0.05))
        self.jobs += 1
        return [queue, later, [self.jobs - 1, seconds, dice.random() * 100 < DOOMED_PERCENT]]

    def until_few_are_left(self, number: int) -> None:
        """Return when all but `number` jobs have finished or failed."""
        until(lambda: self._restart() >= self.jobs - number, DRAIN, f"all jobs but {number} done")

    def _restart(self) -> int:
        """Restart daemons that have ended; returns how many jobs have an outcome, those with two
        counted twice.
        """
        for name, daemon in self._running.items():
            if daemon.returncode is not None:
                self._former.append(daemon)
                self._running[name] = self._starters[name]()
        return self._redis.scard(ENDED) + self._redis.llen("resque:failed")

    # Kills

    def kill_one(self, kind: str = "") -> None:
        """Kill a random process, or stop a daemon gracefully, unless all jobs are done by then."""
        kinds = [kind for kind in KILLS if kind.split()[0] in self.languages]
        kind = kind or self._dice.choice(kinds)
        done = until(lambda: self._killed(kind) or self._is_done(), what=f"a process for: {kind}")
        self.kills[kind] += done != DONE
        self.log.append(f"{kind}: {done}")

    def _is_done(self) -> str:
        return DONE if self._restart() >= self.jobs else ""

    def _killed(self, kind: str) -> str:
        """Do it to a random daemon; returns its name, or "" if no process was found."""
        self._restart()
        language, daemon_kind, signum, kill = KILLS[kind]
        names = [name for name in self._running if name.startswith(f"{language} {daemon_kind}")]
        name = self._dice.choice(sorted(names))
        return name if kill(self, self._running[name], signum) else ""

    def _end(self, daemon: Daemon, signum: int) -> bool:
        daemon.send(signum)
        daemon.wait()
        return True

    def _kill_child(self, daemon: Daemon, signum: int) -> bool:
        children = daemon.children()
        with contextlib.suppress(ProcessLookupError):
            if children:
                os.kill(self._dice.choice(children), signum)
                return True
        return False

    def _kill_with_record(self, daemon: Daemon, signum: int) -> bool:
        """Kill a worker of Ruby while it has an in-flight record: between its LPOP and the record a
        kill loses the job, as always with Ruby's Resque.
        """
        daemon.send(signal.SIGSTOP)
        until(lambda: daemon.returncode is not None or state_of(daemon.pid) in ("T", ""))
        records = self._redis.keys(f"resque:worker:{platform.node()}:{daemon.pid}:*")
        if any(not key.endswith(b":started") for key in records):
            return self._end(daemon, signum)
        daemon.send(signal.SIGCONT)
        return False

    def send(self, signum: int) -> None:
        """Send all daemons a signal, each as soon as it has installed its handlers."""
        for daemon in self._running.values():
            daemon.until_title(": Waiting")
            daemon.send(signum)

    # The end

    def stop(self, prefix: str) -> None:
        """Stop the daemons whose name has this prefix, gracefully and without a restart."""
        for name in [name for name in self._running if name.startswith(prefix)]:
            daemon = self._running.pop(name)
            daemon.send(signal.SIGTERM)
            daemon.wait(DRAIN)
            self._former.append(daemon)

    def end(self, last: Starter) -> Books:
        """Wait for all jobs, stop all daemons; a last worker records the jobs of dead ones."""
        pending = [f"resque:queue:{queue}" for queue in (SHARED, *self.languages)]
        pending.append("resque:delayed_queue_schedule")
        until(lambda: self._restart() and not self._redis.exists(*pending), DRAIN, "empty queues")
        self.stop("")
        ended = {daemon.pid for daemon in self._former}
        until(
            lambda: not [p for p in processes() if ended & {p.group, p.session}],
            DRAIN,
            what="the end of the jobs whose worker was killed",
        )
        # A worker that has pruned prevents other workers from pruning for a minute.
        self._redis.delete("resque:pruning_dead_workers_in_progress")
        final = last()
        assert final.wait(DRAIN) == 0, final.output()
        return Books.read(self._redis, self.jobs, [SHARED, *self.languages])

    def report(self, books: Books) -> str:
        """The events, to find out why a job was lost."""
        numbers = [*books.lost, *books.unexplained]
        begun = sorted(texts(self._redis.smembers(BEGUN)), key=lambda trace: trace.split()[2])
        return "\n".join([
            *self.log, *(books.known_of(number) for number in numbers),
            *(trace for trace in begun if int(trace.split()[0]) in numbers),
        ])  # fmt: skip


Kill = Callable[[Fleet, Daemon, int], bool]

#: The kinds of kills: language, kind of daemon, signal, and method.
KILLS: dict[str, tuple[str, str, int, Kill]] = {
    "python worker is killed": ("python", "worker", signal.SIGKILL, Fleet._end),
    "python worker is stopped": ("python", "worker", signal.SIGTERM, Fleet._end),
    "python job is killed": ("python", "worker", signal.SIGKILL, Fleet._kill_child),
    "python manager is killed": ("python", "manager", signal.SIGKILL, Fleet._end),
    "python minion is killed": ("python", "manager", signal.SIGKILL, Fleet._kill_child),
    "python scheduler is killed": ("python", "scheduler", signal.SIGKILL, Fleet._end),
    "node worker is killed": ("node", "worker", signal.SIGKILL, Fleet._end),
    "node worker is stopped": ("node", "worker", signal.SIGTERM, Fleet._end),
    "ruby worker is killed": ("ruby", "worker", signal.SIGKILL, Fleet._kill_with_record),
    "ruby worker is stopped": ("ruby", "worker", signal.SIGTERM, Fleet._end),
    "ruby worker is stopped after its job": ("ruby", "worker", signal.SIGQUIT, Fleet._end),
    "ruby job is killed": ("ruby", "worker", signal.SIGKILL, Fleet._kill_child),
}


def cron_at(moment: int) -> str:
    """A cron expression that is due at this moment (epoch seconds), and not again for a year."""
    at = datetime.fromtimestamp(moment, UTC)
    return f"{at.second} {at.minute} {at.hour} {at.day} {at.month} * Etc/UTC"


def fired(redis: Redis, queue: str) -> Counter[str]:
    """How often each job is on a queue without workers, by its only argument."""
    raws: list[bytes] = redis.lrange(f"resque:queue:{queue}", 0, -1)
    return Counter(json.loads(raw)["args"][0] for raw in raws)
