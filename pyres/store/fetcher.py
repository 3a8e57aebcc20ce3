"""The hot path: one connection, one script, one job in hand.

Everything a worker or minion sends for a job that goes well is one EVALSHA that counts the job just
done and takes the next into the hand `worker:<id>`. The reply may be lost with the connection,
never the job: it stands in the hand, and `take` finds it there when it is called again.
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
    """A payload taken from a queue, and the bytes that stand in the hand for it."""

    queue: str
    payload: bytes
    in_flight: bytes


@functools.lru_cache(maxsize=1024)
def queue_json(queue: str) -> bytes:
    """A queue's name as Resque's JSON; bytes that were no UTF-8 stay as they were."""
    return json.dumps(queue, ensure_ascii=False).encode("utf-8", "surrogateescape")


def format_in_flight(queue: str, run_at: str, payload: bytes) -> bytes:
    """What stands in `worker:<id>` while this payload is performed."""
    return b'{"queue":%b,"run_at":"%b","payload":%b}' % (
        queue_json(queue),
        run_at.encode(),
        payload,
    )


def parse_in_flight(in_flight: bytes) -> Fetched:
    """The queue and the payload in a hand, byte for byte, even if the payload is no JSON."""
    # No JSON string can hold this marker, since a quote inside one is escaped.
    head, marker, rest = in_flight.partition(b',"payload":')
    if not marker:
        raise ValueError(f"{in_flight[:80]!r} is no job in a worker's hand")
    name, _, _run_at = head.removeprefix(b'{"queue":').partition(b',"run_at":')
    queue = json.loads(name.decode("utf-8", "surrogateescape"))
    return Fetched(queue, rest[:-1], in_flight)


#: What a call says of the hand: it is empty; its job is finished; its job may be overwritten.
EMPTY, FINISHED, ABANDONED = b"0", b"1", b"2"

#: The script's answer, in place of a queue's index, when the hand or our count is another.
REFUSED = -2

#: The same when the worker is not registered.
UNREGISTERED = -3


class _Request(NamedTuple):
    """A call of the script, packed but for the two words that are new each time."""

    heads: dict[bytes, bytes]
    tail: bytes

    def packed(self, state: bytes, run_at: str, known: bytes) -> bytes:
        parts = (self.heads[state], run_at.encode(), len(known), known, self.tail)
        return b"%b%b\r\n$%d\r\n%b\r\n%b" % parts


class Fetcher(RawConnection):
    """Takes jobs for one worker id over a connection of its own.

    After a failover, or a crash, the server may have an older state: it has forgotten that the last
    job ended, or that it was fetched. That is so where it counts fewer jobs of this worker than
    before, or has lost the record of its running job, while the worker is registered as it was.
    Then the record of the job that ended well last stands for a finished job, and an equal payload
    that is fetched next is that job; each is only counted. Without such a sign equal jobs are two.
    """

    def __init__(self, client: Any, keys: Keys, worker_id: str) -> None:
        super().__init__(client)
        self.keys = keys
        self.worker_id = worker_id
        #: True when the last answer was that all workers are paused.
        self.paused = False
        #: True when somebody else has changed our count, or unregistered us.
        self.changed = False
        #: Whether the job that the next call finishes ended well: only such a one is known again.
        self.ended_well = False
        #: The in-flight record of the last job, if that ended well and was counted.
        self._last_record: bytes | None = None
        #: A job that ended well here, and that the server has forgotten to have given.
        self._forgotten: Fetched | None = None
        #: Whether that job was fetched again, and is to be counted with the next call.
        self._count_again = False
        #: Whether a new connection has found no in-flight record of the running job.
        self._record_is_lost = False
        self._client_id = 0
        self._reply: Any = False
        self._expected: bytes | None = None
        self._expected_number = 0
        self._since: bytes | None = None
        self._reply_lost = False
        self._counted = False
        self._undelivered: bytes | None = None
        self._in_flight: bytes | None = None
        self._popped: Fetched | None = None
        self.queues: tuple[str, ...] | None = None
        self._count_key = keys.stat(f"processed:{worker_id}")
        self._nothing = self._pack(())
        self.set_queues(())

    def set_queues(self, queues: Sequence[str]) -> None:
        """The queues to take from, the most important first."""
        wanted = tuple(queues)
        if wanted == self.queues:
            return
        self.queues = wanted
        # Everything but two of the arguments is the same for each call, so it is packed once: that
        # halves the cost of the call on this side (redis-py packs each argument anew each time).
        self._request = self._pack(wanted)
        self._queue_keys = [self.keys.queue(queue) for queue in wanted]

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
        """Count the job in hand if it is `finished`, and take the next one into the hand.

        `run_at` is the time now as `2026-11-23T16:01:09Z`. None when all queues are empty or the
        workers are paused. Raises NotRegistered, or one of CONNECTION_ERRORS; call it again with
        the same `finished`, and what the server did before is neither done again nor lost.
        """
        while True:
            fetched = self._next_fetched(finished, run_at)
            if not self._is_done(fetched, finished):
                self._counted = False
                return fetched

    def _next_fetched(self, finished: bool, run_at: str) -> Fetched | None:
        """The next job, be it one that a lost reply gave."""
        if self._popped and self._undelivered is None:
            self._finish_before_popped(finished, run_at)
            if recorded := self._record_popped(run_at):
                return recorded
        while self._undelivered is None:
            reply = self._ask(self._to_be_counted(finished), run_at, self._request)
            self._count_again = False
            if reply is not None:
                return self._to_fetched(reply, run_at)
            # Kept until take() returns: the caller says `finished` again when the next call is
            # lost.
            self._counted = finished
        self._in_flight, self._undelivered = self._undelivered, None
        return parse_in_flight(self._in_flight)

    def finish(self, run_at: str) -> None:
        """Count the job in hand and empty the hand, taking nothing; to be called again
        like take.
        """
        self._ask(self._count_again or not self._counted, run_at, self._nothing)
        self._in_flight, self._counted, self._count_again = None, False, False

    def put_back_undelivered(self, run_at: str) -> Fetched | None:
        """Put the job that was given to us, and that no take() returned, back on its queue.

        For a worker that stops, before it forgets its hand. Such a job came with a reply that was
        lost, or could not be written into the hand. Call it again after one of CONNECTION_ERRORS.
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
        """The script's reply; None when a call whose reply was lost has done it already, and what
        that one took, if anything, is in _unseen.

        The script does nothing unless it finds the hand and the count as we know them. So it does
        not matter when what we have sent is carried out, be it after the same was sent again: a
        network that was parted brings it when it is whole.
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
            # Else somebody has removed our count, and the job that is finished is there yet.
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
        """What is to be said after a refusal, of what stands in flight; a job that is not known is
        in _unseen then.
        """
        if state is FINISHED and self._forgotten and record is None:
            # Its fetch is forgotten: it is counted with the next one, here or by another worker.
            self._counted = True
            return EMPTY
        if state is not EMPTY:
            return state
        if record == self._in_flight:
            # Whoever takes again without a word on the job that he was given gets the next.
            return state if record is None else ABANDONED
        if record is not None and record == self._last_record and (went_back or not repeated):
            self._last_record = None
            return FINISHED
        self._undelivered = record
        return state

    def _went_back(self, state: bytes, record: bytes | None) -> bool:
        """Whether the server has an older state; the job whose fetch it has forgotten by that is
        in _undone.
        """
        before, since = self._expected_number, self._since
        self._expected = None
        self._load_expected_count()
        went_back = since is not None and since == self._since and self._expected_number < before
        own = self._last_record if state is EMPTY else self._in_flight if self.ended_well else None
        if went_back and own is not None and own != record:
            self._forgotten = parse_in_flight(own)
        return went_back

    def _to_be_counted(self, finished: bool) -> bool:
        """Whether a finished job is in flight, or was when the server still knew of it."""
        self.connect()
        if finished and self._record_is_lost and self.ended_well and self._in_flight is not None:
            self._forgotten, self._counted = parse_in_flight(self._in_flight), True
            self._in_flight = None
        self._record_is_lost = False
        return self._count_again or (finished and not self._counted)

    def _is_done(self, fetched: Fetched | None, finished: bool) -> bool:
        """Whether this is the job that has ended here and whose fetch was forgotten."""
        undone, self._forgotten = self._forgotten, None
        if undone is None or fetched is None or undone[:2] != fetched[:2]:
            return False
        self._count_again, self._counted = True, finished
        return True

    def _script(self, state: bytes, run_at: str, request: _Request) -> list[Any]:
        """One call; a connection that goes meanwhile leaves us in doubt, and says so."""
        self.connect()
        sent = request.packed(state, run_at, self._load_expected_count())
        in_doubt, self._reply_lost = self._reply_lost, True
        try:
            reply: list[Any] = self.call(sent)
        except NoScriptError:
            # Nothing ran: a server that restarted has forgotten its scripts.
            self.command("SCRIPT", "LOAD", scripts.source("fetch"))
            reply = self._call_again(sent)
        # Who is not registered learns nothing of what was sent before.
        self._reply_lost = in_doubt and reply[1] == UNREGISTERED
        if reply[1] != REFUSED and reply[0]:
            self._expected, self._expected_number = b"%d" % reply[0], reply[0]
        return reply

    def _call_again(self, sent: bytes) -> list[Any]:
        """The same call once the script is loaded; with its text where it is forgotten again."""
        try:
            reply: list[Any] = self.call(sent)
        except NoScriptError:
            by_name = bulk("EVALSHA", scripts.sha("fetch"))
            reply = self.call(sent.replace(by_name, bulk("EVAL", scripts.source("fetch")), 1))
        return reply

    def _load_expected_count(self) -> bytes:
        """What every script compares, so that a copy of a request that comes late does nothing."""
        if self._expected is None:
            # Neither stands there any more when we are unregistered: what we have sent and comes
            # later than that takes nothing into a hand that nobody looks at.
            started = self.keys.started(self.worker_id)
            counted, self._since = self.command("MGET", self._count_key, started)
            self._expected = counted or self._since or b""
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
        """Whether the record of the running job is gone, and nothing else of this worker."""
        keys = (self.keys.worker(self.worker_id), self._count_key)
        record, counted, since = self.command("MGET", *keys, self.keys.started(self.worker_id))
        same = since is not None and since == self._since
        return record is None and same and (counted or since) == self._expected

    def start_pop(self, timeout: float) -> None:
        """Ask for the next payload of any queue, to be waited for on fileno() for `timeout`
        seconds. One that came before, and could not be put into the hand, is the answer at once.
        """
        self.connect()
        if self._popped:
            return
        self._send(packed("BLPOP", *self._queue_keys, str(timeout)))
        self._reply = False

    def answered(self) -> bool:
        """Whether the reply to start_pop is there: a readable socket need not hold all of it."""
        if self._popped:
            return True
        if self._reply is False:
            self._receive_now()
            self._reply = self._next()
        return self._reply is not False

    def unblock(self) -> None:
        """End start_pop's wait from a second connection, so that whatever comes is still read."""
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
        """Count the job that was found in flight when BLPOP had given another."""
        if finished and not self._counted:
            self._ask(True, run_at, self._nothing)
            self._in_flight, self._counted = None, True

    def _record_popped(self, run_at: str) -> Fetched | None:
        """Make what BLPOP gave the in-flight job; None when another job is, now in _unseen.

        It is kept until that has worked, and sent by a script with the check of every fetch: a
        copy that the network brings late does nothing.
        """
        popped = self._popped
        assert popped is not None
        while True:
            self.connect()
            done, *found = self._record(popped.in_flight)
            if done:
                self._popped, self._in_flight, self._counted = None, popped.in_flight, False
                return popped
            went_back = self._went_back(EMPTY, found[0])
            if went_back and found[0] is not None and found[0] == self._last_record:
                self._ask(True, run_at, self._nothing)
            elif found[0] is not None:
                self._undelivered = found[0]
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
