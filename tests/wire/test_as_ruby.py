"""pyres does what the Ruby program did, and the whole keyspace is what the Ruby program left."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime, timedelta

import pytest

from pyres import failure
from pyres.failure.redis import RedisBackend
from pyres.failure.redis_multi_queue import RedisMultiQueueBackend
from pyres.registry import Registry
from tests.jobs import BEGUN, ECHOED
from tests.servers import until
from tests.wire.comparing import assert_as_golden, golden, renamed, restore
from tests.wire.conftest import UTC as IN_UTC
from tests.wire.conftest import at, finished, registered
from tests.wire.ruby_jobs import SLOW, ExitJob, FailJob, NoopJob, SlowJob, SuicideJob, TypesJob

#: Far in the future, as in the captures.
T = 4102444800


def moment(timestamp):
    return datetime.fromtimestamp(timestamp, UTC)


def begun(redis):
    """Wait until one more job is under way."""
    assert redis.blpop([BEGUN], timeout=80)


# 01: jobs on queues


def test_arguments_of_every_type_are_written_byte_for_byte_as_ruby_writes_them(ruby_like, redis):
    args = [
        *(None, True, False, 0, -1, 2**53, 2**70, 1.5, 10.0, 0.1, 1e20, 1.0e-7, -0.0, "", "plain"),
        'quote" back\\ slash/ tab\t nl\n nul-ish\u0001 del\u007f',
        "é ☃ 😀 日本",
        "</script>\u2028\u2029",
        *([], {}, [1, [2, [3]]], {"b": 1, "a": {"z": [None, {"k": "v"}]}}),
        *("a_symbol", {"sym_key": "v", 1: 2}),
    ]

    ruby_like.enqueue(TypesJob, *args)

    assert_as_golden(redis, "01_enqueue_all_types")


def test_jobs_are_on_their_queues_as_ruby_writes_them(ruby_like, redis):
    ruby_like.enqueue(NoopJob)
    ruby_like.enqueue_to("other", NoopJob, 1)
    ruby_like.push("raw", {"class": "Raw", "args": [1], "extra": True})

    assert_as_golden(redis, "01b_enqueue_queues")


def test_reading_changes_nothing_and_removing_leaves_what_ruby_leaves(ruby_like, redis):
    restore(redis, golden("01b_enqueue_queues")["redis"])

    assert ruby_like.peek("other") == ruby_like.peek("other", 0, 2)
    assert ruby_like.size("other") == 1
    assert ruby_like.queues() == ["default", "other", "raw"]
    assert ruby_like.queue_sizes() == {"default": 1, "other": 1, "raw": 1}
    assert ruby_like.pop("other", timeout=0) == ("other", {"class": "NoopJob", "args": [1]})
    assert ruby_like.pop("other", timeout=0) == (None, None)
    ruby_like.remove_queue("other")
    assert ruby_like.dequeue(NoopJob) == 1

    assert_as_golden(redis, "01c_peek_pop_remove")


# 02 to 06: the life of a worker


def test_an_idle_worker_is_registered_as_rubys(start_worker, redis):
    worker = start_worker()

    assert_as_golden(redis, "02_worker_idle", [at(worker)])


def test_the_heartbeat_is_rubys(start_worker, redis):
    worker = start_worker()
    redis.delete(*[key for key in redis.keys("*") if key != b"resque:workers:heartbeat"])

    assert_as_golden(redis, "02b_heartbeat", [at(worker)])


def test_a_job_is_in_flight_and_then_counted_as_in_ruby(start_worker, ruby_like, redis):
    worker = start_worker()

    ruby_like.enqueue(SlowJob, 2, "é")

    begun(redis)
    assert_as_golden(redis, "03_worker_working", [at(worker)])
    redis.rpush(SLOW, "go")
    finished(redis, 1)
    assert_as_golden(redis, "04_after_success", [at(worker)])


def test_a_job_fails_and_is_requeued_and_the_worker_quits_as_in_ruby(
    start_worker, ruby_like, redis, utc
):
    worker = start_worker()
    ruby_like.enqueue(NoopJob)
    finished(redis, 1)

    ruby_like.enqueue(FailJob, 1, {"k": "v"})

    finished(redis, 2)
    assert_as_golden(redis, "05_after_failure", [at(worker)])

    RedisBackend.requeue_at(ruby_like, 0, redis.lindex("resque:failed", 0))
    finished(redis, 3)
    worker.send(signal.SIGQUIT)

    assert worker.wait() == 0
    assert_as_golden(redis, "06_worker_quit", [at(worker)])


# 07: failures


def before_the_requeue():
    """07 as it was before: one record without retried_at, and nothing on the queue."""
    dump = golden("07_requeued_failure")["redis"]
    del dump["resque:queue:default"], dump["resque:queues"]
    (record,) = dump["resque:failed"]["values"]
    fields = {name: value for name, value in json.loads(record).items() if name != "retried_at"}
    raw = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
    dump["resque:failed"]["values"] = [raw]
    return dump


def test_a_requeued_record_is_marked_as_ruby_marks_it(ruby_like, redis, utc):
    restore(redis, before_the_requeue())

    assert RedisBackend.requeue_at(ruby_like, 0, redis.lindex("resque:failed", 0))

    assert_as_golden(redis, "07_requeued_failure", ["vm:10156"])


def test_counting_reading_removing_and_clearing_failures_leaves_what_ruby_leaves(ruby_like, redis):
    restore(redis, golden("07_requeued_failure")["redis"])
    redis.rpush("resque:failed", redis.lindex("resque:failed", 0).replace(b"16:01", b"17:01"))

    assert failure.count(ruby_like) == 2
    (first,) = failure.all(ruby_like, 0, 1)
    assert len(failure.all(ruby_like, 0, 2)) == 2
    assert failure.delete(ruby_like, first["redis_value"]) == 1
    failure.clear(ruby_like)

    assert_as_golden(redis, "07b_failure_count_all_remove_clear")


# 08 and 09: children that do not end well


def test_a_killed_child_leaves_what_ruby_leaves(start_worker, ruby_like, redis):
    worker = start_worker()

    ruby_like.enqueue(SuicideJob, "x")

    finished(redis, 1)
    assert_as_golden(redis, "08_dirty_exit_sigkill", [at(worker)])


def test_a_child_that_exits_leaves_what_ruby_leaves(start_worker, ruby_like, redis):
    worker = start_worker()
    ruby_like.enqueue(SuicideJob, "x")
    finished(redis, 1)

    ruby_like.enqueue(ExitJob, 3)

    finished(redis, 2)
    assert_as_golden(redis, "08b_child_exit_nonzero", [at(worker)])


def test_a_worker_without_grace_leaves_at_term_what_ruby_leaves(start_worker, ruby_like, redis):
    worker = start_worker("--grace", "0")
    ruby_like.enqueue(SlowJob, 30)
    begun(redis)

    worker.send(signal.SIGTERM)

    assert worker.wait() == 0
    assert_as_golden(redis, "09_term_no_term_child", [at(worker)])


# 10: workers that are dead


def test_a_killed_worker_leaves_what_ruby_leaves_and_the_next_one_buries_it(
    start_worker, ruby_like, redis
):
    dead = start_worker()
    ruby_like.enqueue(SlowJob, 3)
    begun(redis)

    dead.send(signal.SIGKILL)
    dead.wait()

    redis.rpush(SLOW, "go")
    assert_as_golden(redis, "10_parent_sigkill_leftovers", [at(dead)])


def test_a_worker_whose_pid_does_not_exist_is_pruned_as_by_ruby(start_worker, ruby_like, redis):
    dead = start_worker()
    ruby_like.enqueue(SlowJob, 2)
    begun(redis)
    dead.send(signal.SIGKILL)
    dead.wait()

    worker = start_worker()

    assert_as_golden(redis, "10c_pruned_by_pid", [at(dead), at(worker)])


def test_a_ruby_worker_of_another_host_that_is_silent_is_buried_as_by_ruby(start_worker, redis):
    # Whatever the name of this test's host: on the same host the pid would be enough.
    leftovers = renamed(golden("10_parent_sigkill_leftovers")["redis"], "vm:", "elsewhere:")
    long_ago = datetime.now(UTC) - timedelta(seconds=400)
    leftovers["resque:workers:heartbeat"]["fields"] = {
        "elsewhere:10197:default": long_ago.strftime("%Y-%m-%dT%H:%M:%SZ")
    }
    # A minute after the dead one acquired the prune lock, as in the capture.
    del leftovers["resque:pruning_dead_workers_in_progress"]
    restore(redis, leftovers)

    worker = start_worker()

    assert_as_golden(redis, "10b_pruned_by_heartbeat", ["elsewhere:10197", at(worker)])


# 11 and 12: delayed jobs


def delayed_as_ruby(resq):
    """The five jobs of golden 11."""
    for _ in range(2):
        resq.enqueue_at(moment(T), NoopJob, 1, "é")
    resq.enqueue_at(moment(T), NoopJob, 2)
    resq.enqueue_at(moment(T + 60), NoopJob, 2)
    resq.enqueue_at_from_string(moment(T + 60), "NoopJob", "other", 2)


def test_delayed_jobs_are_stored_as_resque_scheduler_stores_them(ruby_like, redis):
    delayed_as_ruby(ruby_like)

    assert_as_golden(redis, "11_delayed")


def test_reading_delayed_jobs_changes_nothing(ruby_like, redis):
    restore(redis, golden("11_delayed")["redis"])

    assert ruby_like.delayed_queue_peek(0, 10) == [T, T + 60]
    assert ruby_like.delayed_queue_schedule_size() == 5
    assert ruby_like.delayed_timestamp_size(T) == 3
    assert ruby_like.delayed_timestamp_peek(T, 0, 1) == [
        {"class": "NoopJob", "args": [1, "é"], "queue": "default"}
    ]
    assert len(ruby_like.delayed_timestamp_peek(T, 0, 5)) == 3
    assert ruby_like.delayed_at(NoopJob, 2) == [T, T + 60]
    assert ruby_like.delayed_at(NoopJob, 99) == []
    assert ruby_like.next_delayed_timestamp() is None

    assert_as_golden(redis, "11_delayed")


def test_a_delayed_job_that_is_removed_leaves_what_ruby_leaves(ruby_like, redis):
    restore(redis, golden("11_delayed")["redis"])

    assert ruby_like.remove_delayed(NoopJob, 2) == 2

    assert_as_golden(redis, "11c_remove_delayed")


def test_a_timestamp_is_removed_with_its_last_job(ruby_like, redis):
    restore(redis, golden("11c_remove_delayed")["redis"])

    assert ruby_like.remove_delayed(NoopJob, 1, "é") == 2

    assert_as_golden(redis, "11d_remove_delayed_job_from_timestamp")


def test_removing_all_delayed_jobs_leaves_nothing(ruby_like, redis):
    restore(redis, golden("11d_remove_delayed_job_from_timestamp")["redis"])

    assert ruby_like.reset_delayed_queue() == 1

    assert_as_golden(redis, "11e_reset_delayed_queue")


def test_popping_the_due_jobs_leaves_nothing_of_them(ruby_like, redis):
    delayed_as_ruby(ruby_like)

    fetched = [ruby_like.next_item_for_timestamp(T) for _ in range(4)]
    fetched += [ruby_like.next_item_for_timestamp(T + 60) for _ in range(3)]

    assert [item and item["args"] for item in fetched] == [[1, "é"]] * 2 + [
        [2],
        None,
        [2],
        [2],
        None,
    ]
    assert_as_golden(redis, "11e_reset_delayed_queue")


@pytest.fixture
def start_scheduler(run_daemon, redis, dsn):
    """Starts a scheduler that writes no `enqueue_timestamp`; returns when it is the master."""

    def start(**options):
        program = f"""
from pyres import ResQ
from pyres.scheduler import Scheduler
from tests.wire import ruby_jobs
Scheduler.run(ResQ({dsn!r}, enqueue_timestamp=False), **{options!r})
"""
        daemon = run_daemon("-c", program, env=IN_UTC)
        lock = "resque:resque:resque_scheduler_master_lock"
        until(lambda: redis.get(lock) == at(daemon).encode(), what="a master")
        return daemon

    return start


def test_what_is_due_is_promoted_as_by_resque_scheduler(start_scheduler, ruby_like, redis):
    due = datetime.now(UTC) - timedelta(seconds=1)
    ruby_like.enqueue_at(due, NoopJob, 1)
    ruby_like.enqueue_at(due, NoopJob, 2)

    start_scheduler()

    until(lambda: redis.llen("resque:queue:default") == 2, what="two promoted jobs")
    assert_as_golden(redis, "12_promote_delayed")
    # Resque enqueues this at once; here it is the scheduler that does.
    ruby_like.enqueue_at(datetime.now(UTC) - timedelta(seconds=5), NoopJob, 9)
    until(lambda: redis.llen("resque:queue:default") == 3, what="a third one")
    assert_as_golden(redis, "12b_enqueue_at_past")


# 13: what recurs


def test_schedule_entries_are_stored_as_resque_scheduler_stores_them(ruby_like, redis):
    ruby_like.set_schedule(
        "nightly",
        {
            "cron": "0 3 * * *",
            "class": "CronJob",
            "queue": "cron",
            "args": ["é", 1],
            "description": "nightly thing",
            "persist": True,
        },
    )
    often = {"class": "CronJob", "every": ["30s", {"first_in": "1s"}], "args": {"k": "v"}}
    ruby_like.set_schedule("often", {**often, "persist": True})

    assert_as_golden(redis, "13_set_schedule")


def test_the_schedule_of_ruby_is_followed_as_by_resque_scheduler(start_scheduler, ruby_like, redis):
    restore(redis, golden("13_set_schedule")["redis"])

    scheduler = start_scheduler(dynamic=True)

    assert redis.blmove("resque:queue:cron", "resque:queue:cron", timeout=80)
    until(lambda: redis.hlen("resque:delayed:last_enqueued_at"), what="a note that it fired")
    assert_as_golden(redis, "13b_scheduler_running")

    ruby_like.remove_schedule("nightly")
    until(lambda: not redis.exists("resque:schedules_changed"), what="a change taken up")
    scheduler.send(signal.SIGTERM)
    assert scheduler.wait() == 0
    assert_as_golden(redis, "13c_remove_schedule_and_term")


# 14 to 18: other ways to work


def test_the_failures_of_each_queue_are_in_a_list_of_their_own_in_local_time(
    start_worker, ruby_like, redis
):
    # A zone of this name and offset all the year round.
    worker = start_worker("--require", "tests.wire.multi_queue", TZ="EST5")

    ruby_like.enqueue(FailJob, 1)

    finished(redis, 1)
    assert_as_golden(redis, "14_multi_queue_failure_tz", [at(worker)])


def test_a_record_of_one_queue_is_requeued_as_by_ruby(ruby_like, redis, utc):
    dump = golden("14_multi_queue_failure_tz")["redis"]
    gone = ("resque:worker", "resque:stat:processed:", "resque:stat:failed:")
    restore(redis, {key: held for key, held in dump.items() if not key.startswith(gone)})

    assert RedisMultiQueueBackend.lists(ruby_like) == ["default_failed"]
    assert RedisMultiQueueBackend.count(ruby_like) == 1
    assert RedisMultiQueueBackend.count(ruby_like, queue="default") == 1
    assert RedisMultiQueueBackend.count(ruby_like, queue="default", klass="FailJob") == 1
    (record,) = RedisMultiQueueBackend.all(ruby_like, 0, 10)
    RedisMultiQueueBackend.requeue_at(ruby_like, 0, record["redis_value"], "default_failed")

    assert_as_golden(redis, "14b_multi_queue_requeue", ["vm:10409"])


def test_a_job_that_is_performed_without_a_fork_leaves_the_same(run_daemon, ruby_like, redis, dsn):
    ruby_like.enqueue(FailJob, 1)
    program = f"""
import signal
from pyres.worker import Worker
from tests.wire import ruby_jobs
worker = Worker("default", {dsn!r})
worker.startup()
worker.process()
signal.pause()
"""

    worker = run_daemon("-c", program, env=IN_UTC)

    finished(redis, 1)
    assert_as_golden(redis, "15_no_fork_failure", [at(worker)])


def test_a_worker_of_wildcards_is_registered_with_its_patterns_but_the_negated(start_worker, redis):
    worker = start_worker(queues="high,*,!low*")

    assert_as_golden(redis, "16_worker_wildcard", [at(worker)])


def test_a_worker_that_is_buried_in_the_middle_of_a_job_leaves_what_ruby_leaves(
    start_worker, ruby_like, redis, utc
):
    worker = start_worker()
    ruby_like.enqueue(SlowJob, 2)
    begun(redis)

    assert Registry(ruby_like, "the:0:operator").prune_worker(registered(redis, worker))

    assert_as_golden(redis, "17_remove_worker_mid_job", [at(worker)])
    redis.rpush(SLOW, "go")
    assert redis.blpop([ECHOED], timeout=80)
    worker.until_title(": Waiting")
    # Ruby leaves the failure of a job that then ended well.
    assert redis.llen("resque:failed") == 0


def test_each_malformed_payload_leaves_a_record_and_ends_no_worker(start_worker, ruby_like, redis):
    worker = start_worker()
    payloads = ['{"class":"NoSuchClass","args":[1]}', '{"args":[1]}', "not json"]
    redis.sadd("resque:queues", "default")

    redis.rpush("resque:queue:default", *payloads)

    finished(redis, 3)
    worker.send(signal.SIGQUIT)
    assert worker.wait() == 0
    assert_as_golden(redis, "18_poison_payloads", [at(worker)])


# 19: hooks


@pytest.fixture
def hooked(ruby_like, dsn, redis, monkeypatch):
    """Makes a call, and returns its result and what the hooks of HookJob have logged."""
    monkeypatch.setenv("REDIS_URL", f"redis://{dsn}")

    def run(act):
        redis.delete("resque:log")
        returned = act(ruby_like)
        return returned, [line.decode() for line in redis.lrange("resque:log", 0, -1)]

    return run


def test_the_hooks_of_enqueue_and_dequeue_run_in_rubys_order(hooked, ruby_like):
    from tests.wire.ruby_jobs import HookJob

    ruby = golden("19_job_hooks")["results"]

    # None in Ruby is False, or a count of 0, here.
    assert hooked(lambda resq: resq.enqueue(HookJob, "ok")) == tuple(ruby["enqueue ok -> returns"])
    denied = ruby["enqueue denied by before_enqueue_a"]
    assert hooked(lambda resq: resq.enqueue(HookJob, "deny")) == (False, denied[1])
    assert ruby_like.size("hooks") == denied[2]
    kept = ruby["dequeue keep"]
    assert hooked(lambda resq: resq.dequeue(HookJob, "keep")) == (0, kept[1])
    assert hooked(lambda resq: resq.dequeue(HookJob, "ok")) == tuple(ruby["dequeue ok"])


#: The failure of a killed job here: with Python's message, and counted as failed.
KILLED = "CrashError: the process of the job was killed by SIGKILL"


def test_the_hooks_of_perform_run_in_rubys_order_with_rubys_outcomes(
    start_worker, ruby_like, redis
):
    start_worker(queues="hooks")
    ruby = golden("19_job_hooks")["results"]
    ours, theirs = {}, {}

    for number, case in enumerate([name for name in ruby if name.startswith("perform ")], 1):
        args = ["fail", "of"] if case.endswith("raising") else [case.split()[1]]
        redis.delete("resque:log")
        # Not by enqueue: its hooks are not what this is about.
        ruby_like.push("hooks", {"class": "HookJob", "args": args})
        finished(redis, number)
        ours[case] = outcome(redis)
        theirs[case] = as_here(ruby[case], case)

    assert ours == theirs


def outcome(redis):
    last = redis.lindex("resque:failed", -1)
    record = json.loads(last) if last else None
    return {
        "log": [line.decode() for line in redis.lrange("resque:log", 0, -1)],
        "failed": int(redis.get("resque:stat:failed") or 0),
        "records": redis.llen("resque:failed"),
        "last": record and [record["exception"], record["error"]],
    }


def as_here(result, case):
    """Ruby's outcome with the messages and the count of DIFFERS_ON_PURPOSE."""
    processed, failed, records = result.get("st") or result["processed,failed,len(failed)"]
    log, last = result["log"], result["last"]
    if case == "perform kill":
        log = [*log[:-1], f"on_failure_x {KILLED}"]
        last = KILLED.split(": ", 1)
    if case.endswith("raising"):
        # Python shows arguments its own way, and the error's class once.
        text = last[1].replace('["fail", "of"]', "['fail', 'of']")
        last = [last[0], text.replace("RuntimeError: RuntimeError: p", "RuntimeError: p")]
    killed = int(processed) >= 7
    return {"log": log, "failed": int(failed or 0) + killed, "records": records, "last": last}


# 20: signals


#: The options of pyres_worker for the same behaviour as Ruby's, by the name of the golden entry.
AS_RUBY = {
    "QUIT mid job": [],
    "QUIT idle": [],
    "TERM mid job": ["--grace", "0"],
    "INT mid job": ["--grace", "0"],
    "TERM idle": [],
    "TERM mid job GRACEFUL_TERM": [],
    "TERM mid job TERM_CHILD PRE_SHUTDOWN=10 (job needs 4s)": [],
    "USR1 mid job": [],
    "USR1 idle": [],
    "USR2 mid job": [],
    "USR2 idle then CONT": [],
    "USR2 idle": [],
}

#: Entries about what pyres has otherwise, or not, and why.
NOT_AS_RUBY = {
    "TERM mid job TERM_CHILD": "no exception is raised in a job: it gets --grace seconds",
    "TERM mid job TERM_CHILD job rescues TermException": "the same",
    "TERM mid job TERM_CHILD job traps TERM, RESQUE_TERM_TIMEOUT=1.5": "the same",
    "TERM mid job TERM_CHILD PRE_SHUTDOWN=2 (job needs 4s)": "the same",
    "USR1 mid job TERM_CHILD": "USR1 kills, as without TERM_CHILD",
    "HUP mid job": "Ruby does not trap it; a killed worker's job is a record once somebody knows",
    "no fork TERM mid job": "a worker that does not fork is a minion, with rules of its own",
    "no fork TERM mid job TERM_CHILD": "the same",
    "no fork QUIT mid job": "the same",
    "no fork INT idle TERM_CHILD": "the same",
}


def signalled():
    return {entry["name"]: entry for entry in golden("20_signals")["results"]}


def test_each_golden_entry_of_signals_is_compared_or_excluded_for_a_reason():
    assert set(AS_RUBY) | set(NOT_AS_RUBY) == set(signalled())
    assert not set(AS_RUBY) & set(NOT_AS_RUBY)


@pytest.mark.parametrize("name", AS_RUBY)
def test_a_worker_handles_a_signal_as_rubys_does(start_worker, ruby_like, redis, name):
    ruby = signalled()[name]
    worker = start_worker(*AS_RUBY[name])
    cut_short = bool(ruby["failed"])
    if "mid job" in name:
        ruby_like.enqueue(SlowJob, 4)
        begun(redis)

    for word in ruby["sigs"]:
        if isinstance(word, str):
            worker.send(getattr(signal, f"SIG{word}"))
        else:
            worker.until_title("Paused")
    if "mid job" in name and not cut_short:
        redis.rpush(SLOW, "go")

    lives = ruby["parent"].startswith("still alive")
    if not lives:
        assert worker.wait() == 0
    # A killed child counts as failed here.
    failed = len(ruby["failed"]) if cut_short else int(ruby["stats"][1] or 0)
    expected = (len(ruby["failed"]), int(ruby["stats"][0] or 0), failed, ruby["workers_set"])
    assert until(lambda: state(redis) == expected and expected, what=f"{expected}")
    if lives:
        worker.until_title(ruby["title"].split(": ")[1])
        assert worker.returncode is None
    assert (worker.returncode is None) == lives


def state(redis):
    counters = [int(redis.get(f"resque:stat:{name}") or 0) for name in ("processed", "failed")]
    return (redis.llen("resque:failed"), *counters, redis.scard("resque:workers"))


def test_the_title_of_a_worker_is_one_that_ruby_leaves_alone(start_worker):
    worker = start_worker()

    assert "pyres_worker" in worker.title()
    assert any(f"resque-{digit}" in worker.title() for digit in "0123456789")
