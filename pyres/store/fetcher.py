"""The hot path: one connection, one script, one job in flight.

All that a worker or minion sends for a job that succeeds is one EVALSHA: it counts the finished job
and moves the next one into the in-flight record `worker:<id>`. The reply can be lost with the
connection, but not the job: it is in the record, where the next call of `fetch` finds it.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.exceptions import NoScriptError, ResponseError

from pyres.store import scripts
from pyres.store.errors import CONNECTION_ERRORS, NotRegistered
from pyres.store.keys import Keys
from pyres.store.queues import Queues
from pyres.store.raw_connection import RawConnection, bulk, octets, packed
from pyres.store.stats import integer
from pyres.store.text import spelt


class Fetched(NamedTuple):
    """A payload fetched from a queue, and the in-flight record with it."""

    queue: str
    payload: bytes
    in_flight: bytes


@functools.lru_cache(maxsize=1024)
def queue_json(queue: str) -> bytes:
    """A queue's name as Resque's JSON; bytes that are not UTF-8 are kept unchanged."""
    return json.dumps(queue, ensure_ascii=False).encode("utf-8", "surrogateescape")


def format_in_flight(queue: str, run_at: str, payload: bytes) -> bytes:
    """The in-flight record: the value of `worker:<id>` while this payload is performed."""
    return b'{"queue":%b,"run_at":"%b","payload":%b}' % (
        queue_json(queue),
        run_at.encode(),
        payload,
    )


def parse_in_flight(in_flight: bytes) -> Fetched:
    """The queue and the payload of an in-flight record, byte for byte, even if the payload is not
    JSON. ValueError if the record is malformed.
    """
    # No JSON string can contain this marker, since a quote inside one is escaped.
    head, marker, rest = in_flight.partition(b',"payload":')
    if not marker:
        raise ValueError(f"invalid in-flight record {in_flight[:80]!r}: expected a payload")
    name, _, _run_at = head.removeprefix(b'{"queue":').partition(b',"run_at":')
    queue = json.loads(name.decode("utf-8", "surrogateescape"))
    return Fetched(queue, rest[:-1], in_flight)


#: What a call states about the in-flight record: there is none; its job is finished; its job may
#: be overwritten.
EMPTY, FINISHED, ABANDONED = b"0", b"1", b"2"

#: The script's reply in place of a queue's index: the in-flight record or the count differs from
#: the one expected.
REFUSED = -2

#: The same: the worker is not registered.
UNREGISTERED = -3


class _Request(NamedTuple):
    """A call of the script, packed except for the three arguments that differ each time."""

    heads: dict[bytes, bytes]
    tail: bytes

    def packed(self, state: bytes, run_at: str, expected: bytes) -> bytes:
        parts = (self.heads[state], run_at.encode(), len(expected), expected, self.tail)
        return b"%b%b\r\n$%d\r\n%b\r\n%b" % parts


class Fetcher(RawConnection):
    """Fetches jobs for one worker id over a connection of its own.

    After a failover or a crash the server may have an older state, in which the last job has not
    ended, or was not even fetched. It is detected while the worker's registration is unchanged: the
    server counts fewer jobs of this worker than before, or has lost the record of the running job.
    Then an in-flight record equal to that of the last successful job is a finished job, and an
    equal payload fetched next is that job again; either is only counted, not run a second time.
    Unless an older state was detected, equal payloads are different jobs.
    """

    def __init__(self, client: Any, keys: Keys, worker_id: str) -> None:
        super().__init__(client)
        self.keys = keys
        self.worker_id = worker_id
        #: True when the last reply was that all workers are paused.
        self.paused = False
        #: True when another client has changed this worker's count, or unregistered it.
        self.changed = False
        #: Whether the job that the next call finishes succeeded: only such a job is recognised when
        #: it is fetched again.
        self.ended_well = False
        #: The in-flight record of the last job, if that succeeded and was counted.
        self._last_record: bytes | None = None
        #: A job that succeeded here, and whose fetch the server has forgotten.
        self._forgotten: Fetched | None = None
        #: Whether that job was fetched again, and has to be counted by the next call.
        self._count_again = False
        #: Whether a new connection has found no in-flight record of the running job.
        self._record_is_lost = False
        self._client_id = 0
        #: The reply to start_pop; False until it has come.
        self._reply: Any = False
        #: This worker's count in Redis as last known (if none, its start time); None to read it.
        self._expected: bytes | None = None
        self._expected_number = 0
        self._started: bytes | None = None
        #: Whether it is unknown if the last call was executed.
        self._reply_lost = False
        #: Whether the job that is being finished has been counted.
        self._counted = False
        #: The record of a job that the server moved in flight and no call has returned yet.
        self._undelivered: bytes | None = None
        self._in_flight: bytes | None = None
        #: A job that BLPOP returned, until its in-flight record is written.
        self._popped: Fetched | None = None
        self.queues: tuple[str, ...] | None = None
        self._count_key = keys.stat(f"processed:{worker_id}")
        self._nothing = self._pack(())
        self.set_queues(())

    def set_queues(self, queues: Sequence[str]) -> None:
        """Set the queues to fetch from, highest priority first."""
        names = tuple(queues)
        if names == self.queues:
            return
        self.queues = names
        # All but three arguments are the same in each call, so they are packed once: that halves
        # the cost of a call on this side (redis-py packs every argument in every call).
        self._request = self._pack(names)
        self._queue_keys = [self.keys.queue(queue) for queue in names]

    def _pack(self, queues: tuple[str, ...]) -> _Request:
        keys = [
            self.keys.worker(self.worker_id),
            self.keys.stat("processed"),
            self._count_key,
            self.keys.started(self.worker_id),
            self.keys.pause,
            self.keys.workers,
            *[self.keys.queue(queue) for queue in queues],
        ]
        names = [queue_json(queue) for queue in queues]
        start = b"*%d\r\n" % (3 + len(keys) + 4 + len(names))
        start += bulk("EVALSHA", scripts.sha("fetch"), str(len(keys)), *keys)
        heads = {state: start + bulk(state) + b"$20\r\n" for state in (EMPTY, FINISHED, ABANDONED)}
        return _Request(heads, bulk(spelt(self.worker_id), *names))

    def fetch(self, finished: bool, run_at: str) -> Fetched | None:
        """Count the in-flight job if it is `finished`, and fetch the next one.

        `run_at` is the time now as `2026-11-23T16:01:09Z`. None when all queues are empty or the
        workers are paused. Raises NotRegistered, or one of CONNECTION_ERRORS: then call it again
        with the same `finished`; what the server has done by then is neither repeated nor lost.
        """
        while True:
            fetched = self._next_fetched(finished, run_at)
            if not self._is_done(fetched, finished):
                self._counted = False
                return fetched

    def _next_fetched(self, finished: bool, run_at: str) -> Fetched | None:
        """The next job, which may be one whose reply was lost."""
        if self._popped and self._undelivered is None:
            self._finish_before_popped(finished, run_at)
            if recorded := self._record_popped(run_at):
                return recorded
        while self._undelivered is None:
            reply = self._ask(self._to_be_counted(finished), run_at, self._request)
            self._count_again = False
            if reply is not None:
                return self._to_fetched(reply, run_at)
            # Kept until fetch() returns: if the next call is lost, the caller repeats fetch() with
            # the same `finished`.
            self._counted = finished
        self._in_flight, self._undelivered = self._undelivered, None
        return parse_in_flight(self._in_flight)

    def finish(self, run_at: str) -> None:
        """Count the in-flight job and delete its record, fetching nothing. After an error call it
        again, as fetch.
        """
        self._ask(self._count_again or not self._counted, run_at, self._nothing)
        self._in_flight, self._counted, self._count_again = None, False, False

    def put_back_undelivered(self, run_at: str) -> Fetched | None:
        """Put the job that the server delivered, and that no fetch() returned, back on its queue;
        return it, or None.

        For a worker that stops, before it unregisters. The reply with such a job was lost, or its
        in-flight record could not be written. Call it again after one of CONNECTION_ERRORS.
        """
        if self._popped and (recorded := self._record_popped(run_at)):
            self._undelivered = recorded.in_flight
        if self._count_again or self._reply_lost or self._last_record is not None:
            self._ask(self._count_again, run_at, self._nothing)
            self._count_again = False
        if self._undelivered is None:
            return None
        fetched = parse_in_flight(self._undelivered)
        Queues(self.client, self.keys).put_back(
            self.worker_id, fetched.queue, fetched.payload, fetched.in_flight
        )
        self._undelivered = None
        return fetched

    def _ask(self, finished: bool, run_at: str, request: _Request) -> list[Any] | None:
        """The script's reply; None when an earlier call, whose reply was lost, has done it already.
        Then _undelivered is the record of the job it fetched, if any.

        The script does nothing unless the in-flight record and the count are the expected ones. So
        a request may be executed late, even after it was sent again: a network partition can delay
        it.
        """
        state = FINISHED if finished else EMPTY
        while self._undelivered is None:
            repeated = self._reply_lost
            reply = self._script(state, run_at, request)
            if reply[1] == UNREGISTERED:
                raise NotRegistered(self.worker_id)
            if reply[1] != REFUSED:
                self._note_done(state)
                return reply
            record = reply[2]
            self.changed = self.changed or not repeated
            went_back = self._went_back(state, record)
            done = repeated and not went_back and (reply[0] or record != self._in_flight)
            if state is FINISHED and done:
                self._note_done(state)
                self._undelivered = record
                break
            # Else another client has removed the count, and the finished job is still in flight.
            state = self._next_state(state, record, went_back, repeated)
        return None

    def _note_done(self, state: bytes) -> None:
        if state is FINISHED:
            self._last_record = self._in_flight if self.ended_well else None
        if state is not ABANDONED:
            self._in_flight = None

    def _next_state(
        self, state: bytes, record: bytes | None, went_back: bool, repeated: bool
    ) -> bytes:
        """What the next call has to state about the in-flight `record` after a refusal. If the
        record is of an unknown job, _undelivered is set to it.
        """
        if state is FINISHED and self._forgotten and record is None:
            # The server forgot its fetch: it is counted once it is fetched again, here or by
            # another worker.
            self._counted = True
            return EMPTY
        if state is not EMPTY:
            return state
        if record == self._in_flight:
            # A caller that fetches again without finishing its job gets the next one.
            return state if record is None else ABANDONED
        if record is not None and record == self._last_record and (went_back or not repeated):
            self._last_record = None
            return FINISHED
        self._undelivered = record
        return state

    def _went_back(self, state: bytes, record: bytes | None) -> bool:
        """Whether the server has an older state. If that lacks the fetch of a job, _forgotten is
        set to the job.
        """
        before, started = self._expected_number, self._started
        self._expected = None
        self._load_expected_count()
        same_start = started is not None and started == self._started
        went_back = same_start and self._expected_number < before
        last = self._last_record if state is EMPTY else self._in_flight if self.ended_well else None
        if went_back and last is not None and last != record:
            self._forgotten = parse_in_flight(last)
        return went_back

    def _to_be_counted(self, finished: bool) -> bool:
        """Whether a finished job is to be counted: one in flight, or one that is fetched again."""
        self.connect()
        if finished and self._record_is_lost and self.ended_well and self._in_flight is not None:
            self._forgotten, self._counted = parse_in_flight(self._in_flight), True
            self._in_flight = None
        self._record_is_lost = False
        return self._count_again or (finished and not self._counted)

    def _is_done(self, fetched: Fetched | None, finished: bool) -> bool:
        """Whether this is the job that has ended here, and whose fetch the server forgot."""
        forgotten, self._forgotten = self._forgotten, None
        if forgotten is None or fetched is None or forgotten[:2] != fetched[:2]:
            return False
        self._count_again, self._counted = True, finished
        return True

    def _script(self, state: bytes, run_at: str, request: _Request) -> list[Any]:
        """One call. If the connection is lost during it, _reply_lost stays True."""
        self.connect()
        sent = request.packed(state, run_at, self._load_expected_count())
        in_doubt, self._reply_lost = self._reply_lost, True
        try:
            reply: list[Any] = self.call(sent)
        except NoScriptError:
            # Nothing ran: a restarted server has lost its scripts.
            self.command("SCRIPT", "LOAD", scripts.source("fetch"))
            reply = self._call_again(sent)
        # The reply "not registered" does not tell whether an earlier request was executed.
        self._reply_lost = in_doubt and reply[1] == UNREGISTERED
        if reply[1] != REFUSED and reply[0]:
            self._expected, self._expected_number = b"%d" % reply[0], reply[0]
        return reply

    def _call_again(self, sent: bytes) -> list[Any]:
        """The same call once the script is loaded; by EVAL if the server has lost it again."""
        try:
            reply: list[Any] = self.call(sent)
        except NoScriptError:
            by_sha = bulk("EVALSHA", scripts.sha("fetch"))
            reply = self.call(sent.replace(by_sha, bulk("EVAL", scripts.source("fetch")), 1))
        return reply

    def _load_expected_count(self) -> bytes:
        """The count that each script compares, so that a request that is executed late does
        nothing.
        """
        if self._expected is None:
            # Unregistering deletes both keys: a request that is executed after that fetches
            # nothing into an in-flight record that nobody reads.
            started_key = self.keys.started(self.worker_id)
            counted, self._started = self.command("MGET", self._count_key, started_key)
            self._expected = counted or self._started or b""
            self._expected_number = integer(counted)
        return self._expected

    def _to_fetched(self, reply: list[Any], run_at: str) -> Fetched | None:
        index = reply[1]
        self.paused = index < 0
        if index <= 0:
            return None
        assert self.queues is not None
        queue, payload = self.queues[index - 1], reply[2]
        self._in_flight = format_in_flight(queue, run_at, payload)
        return Fetched(queue, payload, self._in_flight)

    def _greet(self) -> None:
        self._client_id = self.command("CLIENT", "ID")
        if self._in_flight is not None and self._expected:
            self._record_is_lost = self._has_lost_record()

    def _has_lost_record(self) -> bool:
        """Whether the record of the running job is missing, and nothing else of this worker."""
        keys = (self.keys.worker(self.worker_id), self._count_key)
        record, counted, started = self.command("MGET", *keys, self.keys.started(self.worker_id))
        same_start = started is not None and started == self._started
        return record is None and same_start and (counted or started) == self._expected

    def start_pop(self, timeout: float) -> None:
        """Send BLPOP for all queues; wait for the reply on fileno(), at most `timeout` seconds. A
        payload popped before, whose in-flight record is not written yet, is the reply at once.
        """
        self.connect()
        if self._popped:
            return
        self._send(packed("BLPOP", *self._queue_keys, str(timeout)))
        self._reply = False

    def answered(self) -> bool:
        """Whether the whole reply to start_pop has come: a readable socket may have part of it."""
        if self._popped:
            return True
        if self._reply is False:
            self._receive_now()
            self._reply = self._next()
        return self._reply is not False

    def unblock(self) -> None:
        """End start_pop's wait from a second connection, so that its reply can still be read."""
        with contextlib.suppress(*CONNECTION_ERRORS, ResponseError):
            self.client.client_unblock(self._client_id)

    def end_pop(self, run_at: str) -> Fetched | None:
        """The reply to start_pop; the payload is in flight when this returns."""
        if self._popped:
            return self.fetch(False, run_at)
        while not self.answered():
            self._receive()
        reply = self._translated(self._reply)
        if reply is None:
            return None
        assert self.queues is not None
        index = [octets(key) for key in self._queue_keys].index(reply[0])
        queue, payload = self.queues[index], reply[1]
        self._popped = Fetched(queue, payload, format_in_flight(queue, run_at, payload))
        return self.fetch(False, run_at)

    def _finish_before_popped(self, finished: bool, run_at: str) -> None:
        """Count the job that was in flight when BLPOP returned another."""
        if finished and not self._counted:
            self._ask(True, run_at, self._nothing)
            self._in_flight, self._counted = None, True

    def _record_popped(self, run_at: str) -> Fetched | None:
        """Write the in-flight record of the job that BLPOP returned. None if another job is in
        flight: then _undelivered is its record.

        The job is kept until that has worked. The script checks the count as every fetch does, so
        a request that is executed late does nothing.
        """
        popped = self._popped
        assert popped is not None
        while True:
            self.connect()
            recorded, *others = self._record(popped.in_flight)
            if recorded:
                self._popped, self._in_flight, self._counted = None, popped.in_flight, False
                return popped
            (other,) = others
            went_back = self._went_back(EMPTY, other)
            if went_back and other is not None and other == self._last_record:
                self._ask(True, run_at, self._nothing)
            elif other is not None:
                self._undelivered = other
                return None

    def _record(self, record: bytes) -> list[Any]:
        keys = (
            self.keys.worker(self.worker_id),
            self._count_key,
            self.keys.started(self.worker_id),
        )
        words = ("3", *keys, self._load_expected_count(), record)
        try:
            reply: list[Any] = self.command("EVALSHA", scripts.sha("record_popped"), *words)
        except NoScriptError:
            reply = self.command("EVAL", scripts.source("record_popped"), *words)
        return reply
