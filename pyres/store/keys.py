"""Every key name in Redis, its type, and who else uses it.

R: Resque reads or writes it. S: resque-scheduler does. N: node-resque does. P: pyres alone.
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
        #: HASH worker id -> ISO 8601 time of the last sign of life. R
        self.heartbeats = f"{prefix}workers:heartbeat"
        #: STRING id of who prunes now, with a TTL. R
        self.prune_lock = f"{prefix}pruning_dead_workers_in_progress"
        #: STRING; "true" in any case and between blanks: nobody takes a job. R
        self.pause = f"{prefix}pause-all-workers"
        #: LIST of failure records. R
        self.failed = f"{prefix}failed"
        #: SET of names of failure lists a queue. R
        self.failed_queues = f"{prefix}failed_queues"
        #: ZSET timestamp -> timestamp. S
        self.delayed_schedule = f"{prefix}delayed_queue_schedule"
        #: HASH name -> time of the last firing; looks like one of delayed(), is none. S
        self.last_enqueued_at = f"{prefix}delayed:last_enqueued_at"
        #: HASH name -> JSON of a schedule entry. S
        self.persistent_schedules = f"{prefix}persistent_schedules"
        #: SET of names of entries that changed. S
        self.schedules_changed = f"{prefix}schedules_changed"
        #: HASH name -> the latest moment fired (epoch seconds), so that none fires twice. P
        self.schedule_fired = f"{prefix}pyres:schedule_fired"
        #: HASH name -> the ranges of moments fired, `first..last` with blanks between. P
        self.schedule_ranges = f"{prefix}pyres:schedule_ranges"
        #: HASH name -> `<digest> <begun> <count>` of an entry with limits: its timing, since when
        #: it is followed (epoch second), and how often it was fired. P
        self.schedule_runs = f"{prefix}pyres:schedule_runs"
        #: HASH of entry name to JSON: the entries that the master scheduler has in force. P
        self.active_schedule = f"{prefix}pyres:schedule"
        #: HASH of entry name to JSON: why the entry is not followed. P
        self.schedule_faults = f"{prefix}pyres:schedule_faults"
        #: HASH worker or manager id -> which process it is: place and start. P
        self.process_starts = f"{prefix}pyres:process_starts"
        #: HASH `last`: when anybody last gave a heartbeat; `since`: since when without a gap. P
        self.beats = f"{prefix}pyres:beats"
        #: SET of minion ids. P
        self.minions = f"{prefix}minions"
        #: HASH manager id -> ISO 8601 time of the last heartbeat. P
        self.khan_heartbeats = f"{prefix}pyres:khan_heartbeats"
        #: SET of khan ids. P
        self.khans = f"{prefix}khans"

        #: HASH with a TTL: queue -> the queue to which its jobs were moved last. P
        self.moves = f"{prefix}pyres:moves"
        #: STRING with a TTL: somebody pops jobs, each of which stands in no key for a moment. P
        self.pops = f"{prefix}pyres:pops"

    def queue(self, queue: str) -> Key:
        """LIST of payloads, oldest first. R"""
        return spelt(f"{self.prefix}queue:{queue}")

    def worker(self, worker_id: str) -> Key:
        """STRING, the worker's hand: the job it performs now; no key when idle. R"""
        return spelt(f"{self.prefix}worker:{worker_id}")

    def started(self, worker_id: str) -> Key:
        """STRING, when the worker registered. R"""
        return spelt(f"{self.prefix}worker:{worker_id}:started")

    def ping(self, name: str) -> Key:
        """STRING, JSON of the last sign of life of node-resque's worker `host:pid`. N"""
        return spelt(f"{self.prefix}worker:ping:{name}")

    def stat(self, name: str) -> Key:
        """STRING, a counter: `processed`, `failed`, either with `:<worker id>`. R"""
        return spelt(f"{self.prefix}stat:{name}")

    def failed_of(self, queue: str) -> Key:
        """LIST of failure records of one queue (multi-queue backend). R"""
        return spelt(f"{self.prefix}{self.failed_name(queue)}")

    @staticmethod
    def failed_name(queue: str) -> str:
        """The member of `failed_queues` for a queue. R"""
        return f"{queue}_failed"

    def failure_list(self, name: str) -> Key:
        """LIST of failure records by the name that `failed_queues` has for it. R"""
        return spelt(f"{self.prefix}{name}")

    #: The name in `failed_queues` of the list of failures that find `failed` no list. P
    failed_elsewhere = "pyres:failed"

    def delayed(self, timestamp: int) -> str:
        """LIST of payloads due at an epoch second. S"""
        return f"{self.prefix}{self.delayed_name(timestamp)}"

    #: What delayed_name() puts before an epoch second.
    delayed_name_prefix = "delayed:"

    @classmethod
    def delayed_name(cls, timestamp: int) -> str:
        """The member of `timestamps()` for an epoch second; without the namespace. S"""
        return f"{cls.delayed_name_prefix}{timestamp}"

    def timestamps(self, payload: bytes) -> bytes:
        """SET of delayed_name()s under which exactly this payload waits. S"""
        return self.timestamps_prefix + payload

    @property
    def timestamps_prefix(self) -> bytes:
        return f"{self.prefix}timestamps:".encode()

    def scheduler_lock(self, prefix: str = "") -> str:
        """STRING `host:pid` of the master scheduler, with a TTL. S

        resque-scheduler puts the namespace into the name and redis-namespace puts it before that
        once more: the key that stands in Redis has it twice.
        """
        middle = f"{prefix}:" if prefix else ""
        return f"{self.prefix}{self.namespace}:{middle}resque_scheduler_master_lock"

    def static_lock(self, prefix: str = "") -> str:
        """STRING `host:pid` of the scheduler that fires pyres' static entries, with a TTL. P"""
        middle = f"{prefix}:" if prefix else ""
        return f"{self.prefix}pyres:{middle}static_schedule_lock"

    def khan(self, khan_id: str) -> str:
        """LIST of commands to a khan. P"""
        return f"{self.prefix}khan:{khan_id}"

    def unique(self, digest: str) -> str:
        """STRING with a deadline: one job of this class and these arguments is enough. P"""
        return f"{self.prefix}pyres:unique:{digest}"

    def unique_job(self, digest: str) -> str:
        """HASH with the deadline of unique(): the job that has the lock, and where it was put. P"""
        return f"{self.prefix}pyres:unique_job:{digest}"

    def attempts(self, digest: str) -> str:
        """HASH with a deadline: how often the jobs of this class and these arguments that are to be
        tried again were tried. P
        """
        return f"{self.prefix}pyres:attempts:{digest}"

    def watchers(self, pattern: str) -> Key:
        """ZSET worker or khan id -> epoch second: who watches the queues of this name or
        wildcard; with a deadline. P
        """
        return spelt(f"{self.prefix}pyres:watchers:{pattern}")

    def declared_dead(self, worker_id: str) -> Key:
        """HASH for a day, of a worker that was pruned for its silence: its in-flight record
        (`hand`), the failure `record` that was made of it, and the `list` of that. P
        """
        return spelt(f"{self.prefix}pyres:declared_dead:{worker_id}")

    def samples(self) -> str:
        """LIST of the web page's samples of depths and rates, capped. P"""
        return f"{self.prefix}pyres:samples"

    def bare(self, key: str) -> str:
        """A key without the namespace."""
        return key.removeprefix(self.prefix)
