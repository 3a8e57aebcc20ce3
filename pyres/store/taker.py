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
from pyres.store.errors import ConnectionLost
from pyres.store.keys import Keys
from pyres.store.line import Line, bulk, octets, packed
from pyres.store.queues import Queues


class Taken(NamedTuple):
    """A payload taken from a queue, and the bytes that stand in the hand for it."""

    queue: str
    payload: bytes
    hand: bytes


@functools.lru_cache(maxsize=1024)
def queue_json(queue: str) -> bytes:
    """A queue's name as Resque's JSON; bytes that were no UTF-8 stay as they were."""
    return json.dumps(queue, ensure_ascii=False).encode("utf-8", "surrogateescape")


def hand_of(queue: str, run_at: str, payload: bytes) -> bytes:
    """What stands in `worker:<id>` while this payload is performed."""
    return b'{"queue":%b,"run_at":"%b","payload":%b}' % (
        queue_json(queue),
        run_at.encode(),
        payload,
    )


def open_hand(hand: bytes) -> Taken:
    """The queue and the payload in a hand, byte for byte, even if the payload is no JSON."""
    # No JSON string can hold this marker, since a quote inside one is escaped.
    head, marker, rest = hand.partition(b',"payload":')
    if not marker:
        raise ValueError(f"{hand[:80]!r} is no job in a worker's hand")
    name, _, _run_at = head.removeprefix(b'{"queue":').partition(b',"run_at":')
    queue = json.loads(name.decode("utf-8", "surrogateescape"))
    return Taken(queue, rest[:-1], hand)


class Taker(Line):
    """Takes jobs for one worker id over a connection of its own."""

    def __init__(self, client: Any, keys: Keys, worker_id: str) -> None:
        super().__init__(client)
        self.keys = keys
        self.worker_id = worker_id
        #: True when the last answer was that all workers are paused.
        self.paused = False
        self._client_id = 0
        self._reply: Any = False
        self._processed: int | None = None
        self._in_doubt = False
        self._unseen: bytes | None = None
        self._popped: tuple[str, bytes] | None = None
        self.queues: tuple[str, ...] | None = None
        self._last_finish = self._pack(())[1]
        self.look_at(())

    def look_at(self, queues: Sequence[str]) -> None:
        """The queues to take from, the most important first."""
        wanted = tuple(queues)
        if wanted == self.queues:
            return
        self.queues = wanted
        # Everything but two of the arguments is the same for each call, so it is packed once: that
        # halves the cost of the call on this side (redis-py packs each argument anew each time).
        self._head, self._head_finished, self._tail = self._pack(wanted)
        self._queue_keys = [self.keys.queue(queue) for queue in wanted]

    def _pack(self, queues: tuple[str, ...]) -> tuple[bytes, bytes, bytes]:
        keys = [
            self.keys.worker(self.worker_id),
            self.keys.stat("processed"),
            self.keys.stat(f"processed:{self.worker_id}"),
            self.keys.pause,
            *[self.keys.queue(queue) for queue in queues],
        ]
        names = [queue_json(queue) for queue in queues]
        start = b"*%d\r\n" % (3 + len(keys) + 2 + len(names))
        start += bulk("EVALSHA", scripts.sha("take"), str(len(keys)), *keys)
        return (
            start + bulk("0") + b"$20\r\n",
            start + bulk("1") + b"$20\r\n",
            b"\r\n" + bulk(*names),
        )

    def take(self, finished: bool, run_at: str) -> Taken | None:
        """Count the job in hand if it is `finished`, and take the next one into the hand.

        `run_at` is the time now as `2026-11-23T16:01:09Z`. None when all queues are empty or the
        workers are paused. Raises one of ConnectionLost; call it again with the same `finished`,
        and what the server did before the connection went is neither done again nor lost.
        """
        if self._popped:
            return self._hold_popped(run_at)
        if self._in_doubt:
            finished = not self._resolve(finished) and finished
        if self._unseen:
            hand, self._unseen = self._unseen, None
            return open_hand(hand)
        head = self._head_finished if finished else self._head
        return self._taken(self._script(b"%b%b%b" % (head, run_at.encode(), self._tail)), run_at)

    def finish(self, run_at: str) -> None:
        """Count the job in hand and empty the hand, taking nothing; to be called again
        like take.
        """
        if self._in_doubt and self._resolve(True):
            return
        if self._processed is None:
            # No take has told it yet, and without it a lost reply could not be resolved.
            self.connect()
            self._processed = self._count()
        head, tail = self._last_finish, self._pack(())[2]
        self._taken(self._script(b"%b%b%b" % (head, run_at.encode(), tail)), run_at)

    def lay_back(self, run_at: str) -> Taken | None:
        """Put the job that was given to us, and that no take() returned, back on its queue.

        For a worker that stops, before it forgets its hand. Such a job came with a reply that was
        lost, or could not be written into the hand. Call it again after one of ConnectionLost.
        """
        if self._popped:
            self._unseen = self._hold_popped(run_at).hand
        if self._in_doubt:
            self._resolve(False)
        if self._unseen is None:
            return None
        taken = open_hand(self._unseen)
        Queues(self.client, self.keys).put_back(
            self.worker_id, taken.queue, taken.payload, taken.hand
        )
        self._unseen = None
        return taken

    def _taken(self, reply: list[Any], run_at: str) -> Taken | None:
        self._processed, index = reply[0], reply[1]
        self.paused = index < 0
        if index <= 0:
            return None
        assert self.queues is not None
        queue, payload = self.queues[index - 1], reply[2]
        return Taken(queue, payload, hand_of(queue, run_at, payload))

    def _greet(self) -> None:
        self._client_id = self.command("CLIENT", "ID")

    def _script(self, request: bytes) -> Any:
        """The script's reply; a connection that goes meanwhile leaves us in doubt, and says so."""
        self.connect()
        self._in_doubt = True
        try:
            reply = self.call(request)
        except NoScriptError:
            # Nothing ran: a server that restarted has forgotten its scripts.
            self.command("SCRIPT", "LOAD", scripts.source("take"))
            reply = self.call(request)
        self._in_doubt = False
        return reply

    def _resolve(self, finished: bool) -> bool:
        """Whether the call whose reply was lost was carried out; the job that it took is kept.

        Only this taker counts up its own counter, so another count means that the finish was done,
        and what the hand holds since then is the next job. A smaller count is one that began anew:
        somebody had thought this worker dead.
        """
        self.connect()
        held = self.command("GET", self.keys.worker(self.worker_id))
        count = self._count()
        done = count != (self._processed or 0) if finished else held is not None
        self._in_doubt = False
        if done:
            self._processed, self._unseen = count, held
        return done

    def _count(self) -> int:
        return int(self.command("GET", self.keys.stat(f"processed:{self.worker_id}")) or 0)

    def start_pop(self, timeout: float) -> None:
        """Ask for the next payload of any queue, to be waited for on fileno() for `timeout`
        seconds.
        """
        self.connect()
        self._send(packed("BLPOP", *self._queue_keys, str(timeout)))
        self._reply = False

    def answered(self) -> bool:
        """Whether the reply to start_pop is there: a readable socket need not hold all of it."""
        if self._reply is False:
            self._receive_now()
            self._reply = self._reader.gets()
        return self._reply is not False

    def unblock(self) -> None:
        """End start_pop's wait from a second connection, so that whatever comes is still read."""
        with contextlib.suppress(*ConnectionLost, ResponseError):
            self.client.client_unblock(self._client_id)

    def end_pop(self, run_at: str) -> Taken | None:
        """The reply to start_pop; the payload is in the hand when this returns."""
        while not self.answered():
            self._receive()
        reply = self._judged(self._reply)
        if reply is None:
            return None
        assert self.queues is not None
        index = [octets(key) for key in self._queue_keys].index(reply[0])
        self._popped = (self.queues[index], reply[1])
        return self._hold_popped(run_at)

    def _hold_popped(self, run_at: str) -> Taken:
        """Set the hand for what BLPOP gave; kept until that has worked."""
        assert self._popped is not None
        queue, payload = self._popped
        taken = Taken(queue, payload, hand_of(queue, run_at, payload))
        self.connect()
        self.command("SET", self.keys.worker(self.worker_id), taken.hand)
        self._popped = None
        return taken
