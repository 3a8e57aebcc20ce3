"""Every key in Redis with its type, and the programs that use it besides pyres.

R: Resque reads or writes it. S: resque-scheduler does. N: node-resque does. P: only pyres.
"""

from __future__ import annotations

from pyres.store.text import spelt

Key = str | bytes


class Keys:
    """The names below one namespace; attributes are single keys, methods are families."""

    def __init__(self, namespace: str = "resque") -> None:
        self.namespace = namespace
        self.prefix = prefix = f"{namespace}:"
        #: SET of queue names. R
        self.queues = f"{prefix}queues"
        #: SET of worker ids. R
        self.workers = f"{prefix}workers"
        #: HASH worker id -> ISO 8601 time of the last heartbeat. R
        self.heartbeats = f"{prefix}workers:heartbeat"
        #: STRING id of the worker that prunes now, with a TTL. R
        self.prune_lock = f"{prefix}pruning_dead_workers_in_progress"
        #: STRING; "true", case and surrounding spaces ignored: no worker fetches a job. R
        self.pause = f"{prefix}pause-all-workers"
        #: LIST of failure records. R
        self.failed = f"{prefix}failed"
        #: SET of the names of the failure lists of single queues. R
        self.failed_queues = f"{prefix}failed_queues"
        #: ZSET timestamp -> timestamp. S
        self.delayed_schedule = f"{prefix}delayed_queue_schedule"
        #: HASH name -> time of the last firing; the name looks like one of delayed(). S
        self.last_enqueued_at = f"{prefix}delayed:last_enqueued_at"
        #: HASH name -> JSON of a schedule entry. S
        self.persistent_schedules = f"{prefix}persistent_schedules"
        #: SET of names of entries that changed. S
        self.schedules_changed = f"{prefix}schedules_changed"
        #: HASH name -> the latest moment fired (epoch seconds), so that none fires twice. P
        self.schedule_fired = f"{prefix}pyres:schedule_fired"
        #: HASH name -> the ranges of moments fired, `first..last` separated by spaces. P
        self.schedule_ranges = f"{prefix}pyres:schedule_ranges"
        #: HASH name -> `<digest> <begun> <count>` of an entry with limits: its timing, since when
        #: it is active (epoch second), and how often it was fired. P
        self.schedule_runs = f"{prefix}pyres:schedule_runs"
        #: HASH of entry name to JSON: the active entries of the master scheduler. P
        self.active_schedule = f"{prefix}pyres:schedule"
        #: HASH of entry name to JSON: why the entry is not active. P
        self.schedule_faults = f"{prefix}pyres:schedule_faults"
        #: HASH worker or manager id -> its process: boot and pid namespace, and start. P
        self.process_starts = f"{prefix}pyres:process_starts"
        #: HASH `last`: time of the last heartbeat of any worker; `since`: since when no gap. P
        self.beats = f"{prefix}pyres:beats"
        #: SET of minion ids. P
        self.minions = f"{prefix}minions"
        #: HASH manager id -> ISO 8601 time of the last heartbeat. P
        self.khan_heartbeats = f"{prefix}pyres:khan_heartbeats"
        #: SET of manager ids. P
        self.khans = f"{prefix}khans"

        #: HASH with a TTL: queue -> the queue to which its jobs were moved last. P
        self.moves = f"{prefix}pyres:moves"
        #: STRING with a TTL: a process pops jobs, each of which is in no key for a moment. P
        self.pops = f"{prefix}pyres:pops"

    def queue(self, queue: str) -> Key:
        """LIST of payloads, oldest first. R"""
        return spelt(f"{self.prefix}queue:{queue}")

    def worker(self, worker_id: str) -> Key:
        """STRING, the worker's in-flight record: the job it runs now; no key when idle. R"""
        return spelt(f"{self.prefix}worker:{worker_id}")

    def started(self, worker_id: str) -> Key:
        """STRING, when the worker registered. R"""
        return spelt(f"{self.prefix}worker:{worker_id}:started")

    def ping(self, name: str) -> Key:
        """STRING, JSON of the last heartbeat of node-resque's worker `host:pid`. N"""
        return spelt(f"{self.prefix}worker:ping:{name}")

    def stat(self, name: str) -> Key:
        """STRING, a counter: `processed` or `failed`, each also with `:<worker id>`. R"""
        return spelt(f"{self.prefix}stat:{name}")

    def failed_of(self, queue: str) -> Key:
        """LIST of failure records of one queue (multi-queue backend). R"""
        return spelt(f"{self.prefix}{self.failed_name(queue)}")

    @staticmethod
    def failed_name(queue: str) -> str:
        """The member of `failed_queues` for a queue. R"""
        return f"{queue}_failed"

    def failure_list(self, name: str) -> Key:
        """LIST of failure records by its name in `failed_queues`. R"""
        return spelt(f"{self.prefix}{name}")

    #: The name in `failed_queues` of the list that is used where `failed` is not a list. P
    failed_elsewhere = "pyres:failed"

    def delayed(self, timestamp: int) -> str:
        """LIST of payloads due at an epoch second. S"""
        return f"{self.prefix}{self.delayed_name(timestamp)}"

    #: The prefix of a delayed_name().
    delayed_name_prefix = "delayed:"

    @classmethod
    def delayed_name(cls, timestamp: int) -> str:
        """The member of `timestamps()` for an epoch second, without the namespace. S"""
        return f"{cls.delayed_name_prefix}{timestamp}"

    def timestamps(self, payload: bytes) -> bytes:
        """SET of the delayed_name()s under which exactly this payload is delayed. S"""
        return self.timestamps_prefix + payload

    @property
    def timestamps_prefix(self) -> bytes:
        return f"{self.prefix}timestamps:".encode()

    def scheduler_lock(self, prefix: str = "") -> str:
        """STRING `host:pid` of the master scheduler, with a TTL. S

        resque-scheduler adds the namespace to the name and redis-namespace adds it once more: the
        key in Redis has it twice.
        """
        middle = f"{prefix}:" if prefix else ""
        return f"{self.prefix}{self.namespace}:{middle}resque_scheduler_master_lock"

    def static_lock(self, prefix: str = "") -> str:
        """STRING `host:pid` of the scheduler that fires pyres' static entries, with a TTL. P"""
        middle = f"{prefix}:" if prefix else ""
        return f"{self.prefix}pyres:{middle}static_schedule_lock"

    def khan(self, khan_id: str) -> str:
        """LIST of commands to a manager. P"""
        return f"{self.prefix}khan:{khan_id}"

    def unique(self, digest: str) -> str:
        """STRING with a TTL: the unique lock of this class and these arguments. P"""
        return f"{self.prefix}pyres:unique:{digest}"

    def unique_job(self, digest: str) -> str:
        """HASH with the TTL of unique(): the job that has the lock, and its queue. P"""
        return f"{self.prefix}pyres:unique_job:{digest}"

    def attempts(self, digest: str) -> str:
        """HASH with a TTL: how often the jobs of this class and these arguments that wait for an
        automatic retry were tried. P
        """
        return f"{self.prefix}pyres:attempts:{digest}"

    def watchers(self, pattern: str) -> Key:
        """ZSET with a TTL, worker or manager id -> epoch second: the watchers of the queues of this
        name or wildcard. P
        """
        return spelt(f"{self.prefix}pyres:watchers:{pattern}")

    def declared_dead(self, worker_id: str) -> Key:
        """HASH for a day, of a worker that was pruned since it sent no heartbeat: its in-flight
        record (`hand`), the failure `record` that was written for it, and the `list` of that. P
        """
        return spelt(f"{self.prefix}pyres:declared_dead:{worker_id}")

    def samples(self) -> str:
        """LIST of the web page's samples of depths and rates, capped. P"""
        return f"{self.prefix}pyres:samples"

    def without_prefix(self, key: str) -> str:
        """A key without the namespace."""
        return key.removeprefix(self.prefix)
