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

#: Elements of one step at most, and their bytes; a larger element has a step of its own.
PAGE, PAGE_BYTES = 1000, 2**20

#: Values read in one round trip for a user without the right to run scripts.
VALUES_AT_ONCE = 20

#: Bytes of elements that the server compares in one step.
COMPARED_BYTES = 2**19

#: Elements at the head of a list that are searched first.
NEAR_HEAD = 10_000

#: How far an element may have moved towards the head since it was read.
MOVED = 64


class Removal(NamedTuple):
    """An element to remove from its list, and the queue to push `payload` to, if any."""

    element: bytes
    queue: str | None = None
    payload: bytes = b""


class Removed(NamedTuple):
    """How many elements were removed, and the queues that could not be pushed to since their keys
    are not lists, each with the error text.
    """

    number: int
    refused: dict[str, str]


def read_lists(
    client: Any, keys: Sequence[Key], start: int = 0, count: int = PAGE
) -> tuple[int, list[list[bytes]]]:
    """Elements of lists, one list after the other, in one step: how many lists were read to their
    end, and the elements of these lists and of the next one. `start` is an index in the first.
    """
    script = scripts.load(client, "read_lists")
    finished, *elements = script(keys=list(keys), args=[start, count, PAGE_BYTES])
    return int(finished), elements


def read_strings(client: Any, keys: Sequence[Key]) -> list[bytes | None]:
    """The values of strings, in as many steps as needed; None for a key of the wrong type."""
    return _read_many(client, ("GET",), keys)


def read_heads(client: Any, keys: Sequence[Key]) -> list[bytes | None]:
    """The first element of each of these lists, in the same way."""
    return _read_many(client, ("LINDEX", 0), keys)


def _read_many(client: Any, words: tuple[Any, ...], keys: Sequence[Key]) -> list[bytes | None]:
    script, values = scripts.load(client, "read_many"), list[bytes | None]()
    while some := keys[len(values) : len(values) + PAGE]:
        try:
            values += script(keys=list(some), args=[words[0], PAGE_BYTES])
        except NoPermissionError:
            values += _read_without_script(client, words, some[:VALUES_AT_ONCE])
    return values


def _read_without_script(
    client: Any, words: tuple[Any, ...], keys: Sequence[Key]
) -> list[bytes | None]:
    pipe = client.pipeline(transaction=False)
    for key in keys:
        pipe.execute_command(words[0], key, *words[1:])
    replies = pipe.execute(raise_on_error=False)
    return [reply if isinstance(reply, bytes) else None for reply in replies]


def page(client: Any, key: Key, start: int, count: int) -> list[bytes]:
    """Up to `count` elements of a list from an index on, fewer if one step reads fewer; a negative
    count means all. No elements for a key of the wrong type.
    """
    if not count:
        return []
    size = PAGE if count < 0 else min(PAGE, count)
    return read_lists(client, [key], start, size)[1][0]


def pages_down(
    client: Any, key: Key, below: int, count: int = PAGE
) -> Iterator[tuple[int, list[bytes]]]:
    """The elements of a list before an index, up to `count` in a step, the last ones first; each
    step with the index of its first element. Elements that move towards the head meanwhile are not
    missed.
    """
    script = scripts.load(client, "read_down")
    while below > 0:
        args = [below, count, PAGE_BYTES]
        reply: tuple[int, list[bytes]] = or_nothing(
            functools.partial(script, keys=[key], args=args), (0, [])
        )
        below, elements = reply
        if elements:
            yield below, elements[::-1]


def peek(client: Any, key: Key, start: int, count: int) -> list[bytes]:
    """page(), in as many steps as needed; not a snapshot."""
    elements: list[bytes] = []
    while count < 0 or len(elements) < count:
        missing = count if count < 0 else count - len(elements)
        more = page(client, key, start + len(elements), missing)
        if not more:
            break
        elements += more
    return elements


def walk(client: Any, key: Key) -> Iterator[bytes]:
    """Every element that a list has now, step by step; not a snapshot."""
    start, end = 0, or_nothing(lambda: int(client.llen(key)), 0)
    while elements := page(client, key, start, end - start):
        yield from elements
        start += len(elements)


def find(client: Any, key: Key, element: bytes, below: int, lowest: int = 0) -> int | None:
    """The last index before `below` at which a list has an element, or None; the search ends
    shortly after it has passed `lowest`.
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
    """Remove elements between two indexes from their list, and push the payloads of those that have
    a queue: all in one step. An element that is not between the indexes is left.
    """
    queues = list(dict.fromkeys(item.queue for item in removals if item.queue is not None))
    numbers = {queue: number for number, queue in enumerate(queues, 1)}
    args: list[Any] = [first, last, mark(), *map(spelt, queues)]
    for item in removals:
        number = 0 if item.queue is None else numbers[item.queue]
        args += [sha(item.element), number, item.payload]
    names = [key, keys.queues, *map(keys.queue, queues)]
    count, *refused = scripts.load(client, "remove_elements")(keys=names, args=args)
    kinds = {queues[number - 1]: kind for number, kind in pairs(refused)}
    return Removed(count, {queue: not_a_list(keys.queue(queue), kinds[queue]) for queue in kinds})


def remove_all(
    client: Any, keys: Keys, key: Key, first: int, last: int, removals: Sequence[Removal]
) -> int:
    """remove() of elements that are not pushed to a queue; how many were removed."""
    return repeat_removal(
        lambda: remove(client, keys, key, first, last, removals).number, len(removals)
    )


def repeat_removal(step: Callable[[], int], total: int) -> int:
    """How many elements `step` removes, called until it removes none or `total` are removed: a full
    server removes one at a time.
    """
    removed = count = step()
    while count and removed < total:
        count = step()
        removed += count
    return removed


def pairs(reply: Sequence[Any]) -> Iterator[tuple[int, bytes]]:
    """The numbers of the keys that are not lists, each with the key's type."""
    return zip(reply[::2], reply[1::2], strict=True)


def near(index: int) -> Iterator[tuple[int, int]]:
    """The ranges of indexes in which to look for an element that was read at this index."""
    yield index, index
    # Elements popped from the head since then have moved it towards the head.
    if index:
        yield max(0, index - MOVED), index - 1


def remove_at(client: Any, keys: Keys, key: Key, index: int, removal: Removal) -> int:
    """Remove the element that was read at an index of a list; 0 when it is no longer there. Raises
    ResponseError, and removes nothing, if its queue is not a list.
    """
    for first, last in near(index):
        removed = remove(client, keys, key, first, last, [removal])
        for error in removed.refused.values():
            raise ResponseError(error)
        if removed.number:
            return 1
    return 0


def remove_one(client: Any, keys: Keys, key: Key, removal: Removal) -> bool:
    """Remove one copy of an element from a list, one near the head if there is one; False when
    there is none. Raises ResponseError, and removes nothing, if its queue is not a list.
    """
    index = _near_head(client, key, removal.element)
    below = client.llen(key) if index is None else index + 1
    while (index := find(client, key, removal.element, below)) is not None:
        if remove_at(client, keys, key, index, removal):
            return True
        # It can only move towards the head, when elements before it are popped.
        below = index
    return False


def _near_head(client: Any, key: Key, element: bytes) -> int | None:
    """The first index of an element near the head, or None; always None before Redis 6.0.6."""
    try:
        index: int | None = client.lpos(key, element, maxlen=NEAR_HEAD)
    except ResponseError as error:
        if "unknown command" not in str(error).lower():
            raise
        return None
    return index


def places(client: Any, key: Key, element: bytes) -> Iterator[int]:
    """The index of each copy of an element, the last first; a copy may be removed meanwhile."""
    below = int(client.llen(key))
    while (index := find(client, key, element, below)) is not None:
        yield index
        below = index


def mark() -> str:
    """A random text, which is in no list."""
    return f"removed:{secrets.token_hex(16)}"


def sha(element: bytes) -> str:
    """The SHA-1 of an element, by which the scripts identify it."""
    return hashlib.sha1(element, usedforsecurity=False).hexdigest()


def not_a_list(key: Key, kind: bytes) -> str:
    """The error text for a key that is not a list, worded as the server's own WRONGTYPE."""
    name = key if isinstance(key, str) else text(key)
    return f"WRONGTYPE {name} is a {text(kind)}: expected a list"
