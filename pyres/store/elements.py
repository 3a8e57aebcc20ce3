"""Elements of lists, read and removed in steps that are bounded by number and by bytes."""

from __future__ import annotations

import functools
import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from redis.exceptions import NoPermissionError, ResponseError

from pyres.store import scripts
from pyres.store.errors import or_nothing
from pyres.store.keys import Key, Keys
from pyres.store.text import spelt, text

#: Elements of one step, and how many bytes of them; a larger element has a step of its own.
PAGE, PAGE_BYTES = 1000, 2**20

#: Values that a user who may run no script reads in one round trip.
VALUES_AT_ONCE = 20

#: Bytes of elements that the server compares in one step.
COMPARED_BYTES = 2**19

#: Elements of a list, from its head, among which one is looked for first.
NEAR_HEAD = 10_000

#: How far an element may have moved towards the head since it was found.
MOVED = 64


class Removal(NamedTuple):
    """An element that leaves its list, and where its payload goes, if anywhere."""

    element: bytes
    queue: str | None = None
    payload: bytes = b""


class Removed(NamedTuple):
    """How many elements went, and the queues that got none since their keys are not lists, each
    with the error that says so.
    """

    number: int
    refused: dict[str, str]


def read_lists(
    client: Any, keys: Sequence[Key], start: int = 0, count: int = PAGE
) -> tuple[int, list[list[bytes]]]:
    """Elements of lists, one list after the other, in one step: how many lists were read to their
    end, and the elements of each up to the one that was not. `start` is an index in the first.
    """
    script = scripts.load(client, "read_lists")
    finished, *elements = script(keys=list(keys), args=[start, count, PAGE_BYTES])
    return int(finished), elements


def read_strings(client: Any, keys: Sequence[Key]) -> list[bytes | None]:
    """The values of strings, in as many steps as it takes; None for a key of another type."""
    return _read_many(client, ("GET",), keys)


def read_heads(client: Any, keys: Sequence[Key]) -> list[bytes | None]:
    """The first element of each of these lists, likewise."""
    return _read_many(client, ("LINDEX", 0), keys)


def _read_many(client: Any, words: tuple[Any, ...], keys: Sequence[Key]) -> list[bytes | None]:
    script, found = scripts.load(client, "read_many"), list[bytes | None]()
    while some := keys[len(found) : len(found) + PAGE]:
        try:
            found += script(keys=list(some), args=[words[0], PAGE_BYTES])
        except NoPermissionError:
            found += _read_without_script(client, words, some[:VALUES_AT_ONCE])
    return found


def _read_without_script(
    client: Any, words: tuple[Any, ...], keys: Sequence[Key]
) -> list[bytes | None]:
    pipe = client.pipeline(transaction=False)
    for key in keys:
        pipe.execute_command(words[0], key, *words[1:])
    replies = pipe.execute(raise_on_error=False)
    return [reply if isinstance(reply, bytes) else None for reply in replies]


def page(client: Any, key: Key, start: int, count: int) -> list[bytes]:
    """`count` elements of a list from an index on, or as many of them as one step reads; a negative
    count asks for the rest. Nothing of a key of another type.
    """
    if not count:
        return []
    wanted = PAGE if count < 0 else min(PAGE, count)
    return read_lists(client, [key], start, wanted)[1][0]


def pages_down(
    client: Any, key: Key, below: int, count: int = PAGE
) -> Iterator[tuple[int, list[bytes]]]:
    """The elements of a list before an index, a step of up to `count` at a time, the last ones
    first, each with the index of its first element. What moves towards the head meanwhile is not
    missed.
    """
    script = scripts.load(client, "read_down")
    while below > 0:
        args = [below, count, PAGE_BYTES]
        found: tuple[int, list[bytes]] = or_nothing(
            functools.partial(script, keys=[key], args=args), (0, [])
        )
        below, elements = found
        if elements:
            yield below, elements[::-1]


def peek(client: Any, key: Key, start: int, count: int) -> list[bytes]:
    """page(), in as many steps as it takes; not a snapshot."""
    found: list[bytes] = []
    while count < 0 or len(found) < count:
        wanted = count if count < 0 else count - len(found)
        elements = page(client, key, start + len(found), wanted)
        if not elements:
            break
        found += elements
    return found


def walk(client: Any, key: Key) -> Iterator[bytes]:
    """Every element that a list has now, a step at a time; not a snapshot."""
    start, end = 0, or_nothing(lambda: int(client.llen(key)), 0)
    while elements := page(client, key, start, end - start):
        yield from elements
        start += len(elements)


def find(client: Any, key: Key, element: bytes, below: int, lowest: int = 0) -> int | None:
    """The last index before `below` at which a list has an element, or None; one much before
    `lowest` is not looked for.
    """
    script = scripts.load(client, "find_element")
    while below > lowest:
        index, below = script(keys=[key], args=[element, below, COMPARED_BYTES])
        if index >= 0:
            return int(index)
    return None


def remove(
    client: Any, keys: Keys, key: Key, first: int, last: int, removals: Sequence[Removal]
) -> Removed:
    """Take elements that stand between two indexes out of their list, and put the payloads of those
    that have a queue there: all in one step. One that is no longer there stays.
    """
    queues = list(dict.fromkeys(one.queue for one in removals if one.queue is not None))
    numbers = {queue: number for number, queue in enumerate(queues, 1)}
    args: list[Any] = [first, last, mark(), *map(spelt, queues)]
    for one in removals:
        number = 0 if one.queue is None else numbers[one.queue]
        args += [sha(one.element), number, one.payload]
    names = [key, keys.queues, *map(keys.queue, queues)]
    count, *refused = scripts.load(client, "remove_elements")(keys=names, args=args)
    kinds = {queues[number - 1]: kind for number, kind in pairs(refused)}
    return Removed(count, {queue: no_list(keys.queue(queue), kinds[queue]) for queue in kinds})


def remove_all(
    client: Any, keys: Keys, key: Key, first: int, last: int, removals: Sequence[Removal]
) -> int:
    """remove() of elements that go nowhere; how many went."""
    return until_all_went(
        lambda: remove(client, keys, key, first, last, removals).number, len(removals)
    )


def until_all_went(step: Callable[[], int], wanted: int) -> int:
    """How many elements `step` removes in all, called again while it removes some of those that are
    `wanted` and not all: a full server lets one go at a time.
    """
    removed = count = step()
    while count and removed < wanted:
        count = step()
        removed += count
    return removed


def pairs(reply: Sequence[Any]) -> Iterator[tuple[int, bytes]]:
    """The numbers of keys that are no lists, each with what it is."""
    return zip(reply[::2], reply[1::2], strict=True)


def near(index: int) -> Iterator[tuple[int, int]]:
    """Between which indexes to look for an element that was seen at this one."""
    yield index, index
    # What was taken from the head since has moved it there.
    if index:
        yield max(0, index - MOVED), index - 1


def remove_at(client: Any, keys: Keys, key: Key, index: int, removals: Removal) -> int:
    """Take the element out of a list that was seen at an index; 0 when it is gone. ResponseError,
    and nothing done, where its queue is not a list.
    """
    for first, last in near(index):
        removed = remove(client, keys, key, first, last, [removals])
        for error in removed.refused.values():
            raise ResponseError(error)
        if removed.number:
            return 1
    return 0


def remove_one(client: Any, keys: Keys, key: Key, removals: Removal) -> bool:
    """Take one element out of a list, from near the head if it is there; False when it is
    gone. ResponseError, and nothing done, where its queue is not a list.
    """
    index = _near_head(client, key, removals.element)
    below = client.llen(key) if index is None else index + 1
    while (index := find(client, key, removals.element, below)) is not None:
        if remove_at(client, keys, key, index, removals):
            return True
        # It moves towards the head only, when others are taken from there.
        below = index
    return False


def _near_head(client: Any, key: Key, element: bytes) -> int | None:
    """The first index of an element near the head; None as well before Redis 6.0.6."""
    try:
        index: int | None = client.lpos(key, element, maxlen=NEAR_HEAD)
    except ResponseError as error:
        if "unknown command" not in str(error).lower():
            raise
        return None
    return index


def places(client: Any, key: Key, element: bytes) -> Iterator[int]:
    """The index of each copy of an element, the last one first; it may be removed meanwhile."""
    below = int(client.llen(key))
    while (index := find(client, key, element, below)) is not None:
        yield index
        below = index


def mark() -> str:
    """A text that stands in no list."""
    return f"removed:{secrets.token_hex(16)}"


def sha(element: bytes) -> str:
    """The SHA-1 of an element, by which a script knows it."""
    return hashlib.sha1(element, usedforsecurity=False).hexdigest()


def no_list(key: Key, kind: bytes) -> str:
    """That a key is not a list, in the words of the server's own error."""
    name = key if isinstance(key, str) else text(key)
    return f"WRONGTYPE {name} is a {text(kind)}: expected a list"
