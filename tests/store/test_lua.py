"""Each script of store/lua on a real server: what it returns and every key afterwards."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from typing import Any, NamedTuple
from unittest.mock import ANY

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from pyres.store import scripts

JSON = b'{"class":"A","args":["\xc3\xa9"]}'
RAW = b'\xff\x00\r\n"}'

#: A placeholder in a case for the payload, which is JSON and then bytes that are not UTF-8.
P = object()


def sha(record: bytes) -> str:
    return hashlib.sha1(record).hexdigest()


class Case(NamedTuple):
    """A script called once: what is in Redis before, the call, and what is there afterwards."""

    script: str
    before: dict[Any, Any]
    keys: list[Any]
    args: list[Any]
    returns: Any
    after: dict[Any, Any]


def at(second: int) -> str:
    return f"delayed:{second}"


TIMES = (b"timestamps:", P)

PROMOTE = [at(7), "zset", "queues", "n:failed", "failed", "q"]
FROM = [7, "timestamps:", at(7), "RPUSH"]

#: Stands in a case for the SHA-1 of the payload.
SHA = object()

#: The job of a unique lock.
UNIQUE = {
    b"lock": b"done:1",
    b"queue": b"q",
    b"payload": P,
    b"class": b"1 2",
    b"args": b"1 3",
    b"due": b"",
}

CASES = [
    Case(
        "push",
        {"q": [b"first"]},
        ["queues", "q", "q2"],
        ["q", 2, P, b"x", "q2", 1, b"y"],
        1,
        {"queues": {b"q", b"q2"}, "q": [b"first", P, b"x"], "q2": [b"y"]},
    ),
    Case(
        "delay",
        {at(7): [b"first"]},
        [at(7), TIMES, "z"],
        [7, at(7), P],
        2,
        {at(7): [b"first", P], TIMES: {b"delayed:7"}, "z": {b"7": 7.0}},
    ),
    Case(
        "push_failure",
        {"failed": [b"first"]},
        ["failed", "lists", "other"],
        [P, "", "other"],
        2,
        {"failed": [b"first", P]},
    ),
    Case(
        "push_failure",
        {"failed": {b"a", b"set"}, "other": b"a string"},
        ["failed", "lists", "other"],
        [P, "", "other"],
        1,
        {"failed": {b"a", b"set"}, "other": b"a string", "other:2": [P], "lists": {b"other:2"}},
    ),
    Case(
        "check_keys",
        {"list": [P], "number": b"-12", "large": b"9223372036854775807", "text": P, "none": b"0"},
        ["list", "list", "number", "large", "none", "text", "missing"],
        ["list", "set", "integer", "integer", "integer", "hash", "zset"],
        [b"", b"a list", b"", b"'9223372036854775807'", b"", b"a string", b""],
        {"list": [P], "number": b"-12", "large": b"9223372036854775807", "text": P, "none": b"0"},
    ),
    Case(
        "fetch",
        {"workers": {b"me"}, "q2": [P, b"next"], "in_flight": b"old", "n": b"4", "n:me": b"0"},
        ["in_flight", "n", "n:me", "since", "pause", "workers", "q1", "q2"],
        ["1", "NOW", "0", "me", '"one"', '"two"'],
        [1, 2, P],
        {
            "workers": {b"me"},
            "q2": [b"next"],
            "n": b"5",
            "n:me": b"1",
            "in_flight": (b'{"queue":"two","run_at":"NOW","payload":', P, b"}"),
        },
    ),
    Case(
        "fetch",
        {"workers": {b"me"}, "q": [P], "pause": b" True ", "in_flight": b"old", "n:me": b"2"},
        ["in_flight", "n", "n:me", "since", "pause", "workers", "q"],
        ["2", "NOW", "2", "me", '"q"'],
        [2, -1],
        {"workers": {b"me"}, "q": [P], "pause": b" True ", "in_flight": b"old", "n:me": b"2"},
    ),
    Case(
        "fetch",
        {"workers": {b"me"}, "n:me": b"3"},
        ["in_flight", "n", "n:me", "since", "p", "workers"],
        ["0", "NOW", "3", "me"],
        [3, 0],
        {"workers": {b"me"}, "n:me": b"3"},
    ),
    Case(
        "fetch",
        {"workers": {b"me"}, "q": [b"next"], "n:me": b"3", "in_flight": P},
        ["in_flight", "n", "n:me", "since", "p", "workers", "q"],
        ["0", "NOW", "3", "me", '"q"'],
        [3, -2, P],
        {"workers": {b"me"}, "q": [b"next"], "n:me": b"3", "in_flight": P},
    ),
    Case(
        "fetch",
        {"workers": {b"me"}, "q": [b"next"]},
        ["in_flight", "n", "n:me", "since", "p", "workers", "q"],
        ["1", "NOW", "3", "me", '"q"'],
        [0, -2, None],
        {"workers": {b"me"}, "q": [b"next"]},
    ),
    Case(
        "fetch",
        {"workers": {b"me"}, "q": [P], "since": b"1763913669"},
        ["in_flight", "n", "n:me", "since", "p", "workers", "q"],
        ["0", "NOW", "1763913669", "me", '"q"'],
        [0, 1, P],
        {
            "workers": {b"me"},
            "since": b"1763913669",
            "in_flight": (b'{"queue":"q","run_at":"NOW","payload":', P, b"}"),
        },
    ),
    Case(
        "fetch",
        {"q": [P], "n:me": b"3", "workers": {b"you"}},
        ["in_flight", "n", "n:me", "since", "p", "workers", "q"],
        ["1", "NOW", "3", "me", '"q"'],
        [0, -3],
        {"q": [P], "n:me": b"3", "workers": {b"you"}},
    ),
    Case(
        "note_heartbeat",
        {"beats": {b"last": b"100", b"since": b"20"}},
        ["beats"],
        [160, 120],
        20,
        {"beats": {b"last": b"160", b"since": b"20"}},
    ),
    Case(
        "note_heartbeat",
        {"beats": {b"last": b"100", b"since": b"20"}},
        ["beats"],
        [230, 120],
        230,
        {"beats": {b"last": b"230", b"since": b"230"}},
    ),
    Case(
        "read_many",
        {"a": b"12345", "b": b"6", "l": [b"7"], "c": b"x"},
        ["a", "b", "none", "l", "c"],
        ["GET", 7],
        [b"12345", b"6", None, None, b"x"],
        {"a": b"12345", "b": b"6", "l": [b"7"], "c": b"x"},
    ),
    Case(
        "read_many",
        {"l": [b"12345", b"0"], "m": [b"6"]},
        ["l", "m"],
        ["LINDEX", 5],
        [b"12345"],
        {"l": [b"12345", b"0"], "m": [b"6"]},
    ),
    Case(
        "apply",
        {"k": b"1", "l": [b"a"]},
        ["k"],
        ["=1", 2, "DEL", "k", 3, "RPUSH", "l", "b", 2, "INCR", "l"],
        [1, 2, ANY],
        {"l": [b"a", b"b"]},
    ),
    Case("apply", {"k": b"1"}, ["k"], ["=2", 2, "DEL", "k"], None, {"k": b"1"}),
    Case("apply", {"k": b"1"}, ["k"], ["", 2, "DEL", "k"], None, {"k": b"1"}),
    Case(
        "take_back",
        {"dead": {b"hand": b"h", b"record": b"R"}, "l": [b"R", P, b"R"], "f": b"2", "n": b"5"},
        ["dead", "l", "f", "n"],
        ["h", 1000, 1, 1],
        1,
        {"l": [b"R", P], "f": b"1", "n": b"4"},
    ),
    Case(
        "take_back",
        {"dead": {b"hand": b"h", b"record": b"R"}, "l": [b"R", P], "f": b"2", "n": b"5"},
        ["dead", "l", "f", "n"],
        ["h", 1, 1, 1],
        0,
        {"l": [b"R", P], "f": b"2", "n": b"4"},
    ),
    Case(
        "take_back",
        {"dead": {b"hand": b"x"}},
        ["dead", "l", "f", "n"],
        ["h", 1, 1, 1],
        -1,
        {"dead": {b"hand": b"x"}},
    ),
    Case("note_heartbeat", {}, ["b"], [5, 120], 0, {"b": {b"last": b"5", b"since": b"0"}}),
    Case(
        "put_back",
        {"in_flight": b"h", "q": [b"next"]},
        ["in_flight", "q", "queues"],
        [P, "q", "h"],
        1,
        {"q": [P, b"next"], "queues": {b"q"}},
    ),
    Case(
        "announce_watcher",
        {"workers": {b"a", b"b", b"c"}, "minions": {b"c"}, "khans": {b"k"}, "w": {b"you": 1.0}},
        ["workers", "minions", "khans", "w", "v"],
        ["me", 150, 3],
        [1, 1],
        {
            "workers": {b"a", b"b", b"c"},
            "minions": {b"c"},
            "khans": {b"k"},
            "w": {b"me": ANY},
            "v": {b"me": ANY},
        },
    ),
    Case(
        "announce_watcher",
        {"workers": {b"a", b"b", b"c"}, "minions": {b"c"}},
        ["workers", "minions", "khans", "w"],
        ["me", 150, 3],
        [],
        {"workers": {b"a", b"b", b"c"}, "minions": {b"c"}},
    ),
    Case(
        "record_popped",
        {"n:me": b"2"},
        ["in_flight", "n:me", "since"],
        ["2", (b'{"queue":"q","payload":', P, b"}")],
        [1],
        {"n:me": b"2", "in_flight": (b'{"queue":"q","payload":', P, b"}")},
    ),
    Case(
        "record_popped",
        {"since": b"1763913669", "in_flight": (b'{"queue":"q","payload":', P, b"}")},
        ["in_flight", "n:me", "since"],
        ["1763913669", (b'{"queue":"q","payload":', P, b"}")],
        [1],
        {"since": b"1763913669", "in_flight": (b'{"queue":"q","payload":', P, b"}")},
    ),
    Case(
        "record_popped",
        {"n:me": b"3"},
        ["in_flight", "n:me", "since"],
        ["2", (b'{"queue":"q","payload":', P, b"}")],
        [0, None],
        {"n:me": b"3"},
    ),
    Case(
        "record_popped",
        {"n:me": b"2", "in_flight": b"another"},
        ["in_flight", "n:me", "since"],
        ["2", (b'{"queue":"q","payload":', P, b"}")],
        [0, b"another"],
        {"n:me": b"2", "in_flight": b"another"},
    ),
    Case(
        "put_back",
        {"in_flight": b"h"},
        ["in_flight", "q", "queues"],
        [P, "q", "x"],
        0,
        {"in_flight": b"h"},
    ),
    Case(
        "remove_elements",
        {"failed": [b"x", b"r", b"y", P, b"z"]},
        ["failed", "queues", "q1", "q2"],
        [1, 3, "TOKEN", "q1", "q2", *(sha(b"r"), 2, P), *(sha(b"y"), 0, b"")]
        + [sha(b"another"), 1, b"j"],
        [2],
        {"failed": [b"x", P, b"z"], "q2": [P], "queues": {b"q2"}},
    ),
    Case(
        "remove_elements",
        {"failed": [b"x"], "q": [b"first"]},
        ["failed", "queues", "q"],
        [1, 9, "TOKEN", "q", sha(b"x"), 1, b"j"],
        [0],
        {"failed": [b"x"], "q": [b"first"]},
    ),
    Case(
        "remove_elements",
        {"failed": [b"x", b"y", b"x"], "q": b"a string"},
        ["failed", "queues", "q", "q2"],
        [0, 2, "TOKEN", "q", "q2", sha(b"x"), 1, b"j", sha(b"y"), 2, P],
        [1, 1, b"string"],
        {"failed": [b"x", b"x"], "q": b"a string", "q2": [P], "queues": {b"q2"}},
    ),
    Case(
        "read_lists",
        {"a": [b"0", b"1", P], "b": b"a string", "c": [P, b"3"], "e": [b"4"]},
        ["a", "b", "c", "d", "e"],
        [1, 3, 1000],
        [2, [b"1", P], [], [P]],
        {"a": [b"0", b"1", P], "b": b"a string", "c": [P, b"3"], "e": [b"4"]},
    ),
    Case(
        "read_lists",
        {"a": [b"12345", b"6"], "b": [b"7"]},
        ["a", "b"],
        [0, 10, 2],
        [0, [b"12345"]],
        {"a": [b"12345", b"6"], "b": [b"7"]},
    ),
    Case("read_lists", {"a": [P]}, ["a", "b"], [0, 9, 99], [2, [P], []], {"a": [P]}),
    Case(
        "read_down",
        {"a": [b"0", b"1", P, b"3"]},
        ["a"],
        [3, 2, 1000],
        [1, [P, b"1"]],
        {"a": [b"0", b"1", P, b"3"]},
    ),
    Case(
        "read_down",
        {"a": [b"0", b"12", b"345"]},
        ["a"],
        [9, 9, 2],
        [2, [b"345"]],
        {"a": [b"0", b"12", b"345"]},
    ),
    Case("read_down", {}, ["a"], [9, 9, 2], [0, []], {}),
    Case(
        "find_element",
        {"a": [P, b"x", P, b"y"]},
        ["a"],
        [P, 9, 9999],
        [2, 2],
        {"a": [P, b"x", P, b"y"]},
    ),
    Case(
        "find_element",
        {"a": [P, b"x"] * 8},
        ["a"],
        [b"y", 16, 1],
        [-1, 8],
        {"a": [P, b"x"] * 8},
    ),
    Case(
        "move",
        {"a": [P, b"x", b"yy"], "b": [b"first"]},
        ["a", "b", "queues"],
        ["b", 2, 99],
        2,
        {"a": [b"yy"], "b": [b"first", P, b"x"], "queues": {b"b"}},
    ),
    Case(
        "move",
        {"a": [P, b"x"]},
        ["a", "b", "queues"],
        ["b", 2, 1],
        1,
        {"a": [b"x"], "b": [P], "queues": {b"b"}},
    ),
    Case(
        "requeue_failed",
        {"failed": [b"x", P]},
        ["failed", "q", "queues"],
        [1, P, b"marked", b"job\xff", "q"],
        1,
        {"failed": [b"x", b"marked"], "q": [b"job\xff"], "queues": {b"q"}},
    ),
    Case(
        "requeue_failed",
        {"failed": [P, b"x"]},
        ["failed", "q", "queues"],
        [1, P, b"marked", b"job", "q"],
        0,
        {"failed": [P, b"x"]},
    ),
    Case(
        "pop_due",
        {at(7): [P, P], "zset": {b"7": 7.0}, TIMES: {b"delayed:7"}},
        [at(7), "zset"],
        [7, "timestamps:", at(7)],
        P,
        {at(7): [P], "zset": {b"7": 7.0}, TIMES: {b"delayed:7"}},
    ),
    Case(
        "pop_due",
        {at(7): [P], "zset": {b"7": 7.0}, TIMES: {b"delayed:7", b"delayed:8"}},
        [at(7), "zset"],
        [7, "timestamps:", at(7)],
        P,
        {TIMES: {b"delayed:8"}},
    ),
    Case("pop_due", {"zset": {b"7": 7.0}}, [at(7), "zset"], [7, "timestamps:", at(7)], None, {}),
    Case(
        "promote",
        {at(7): [P, b"malformed", b"new"], "zset": {b"7": 7.0}, TIMES: {b"delayed:7"}},
        PROMOTE,
        [*FROM, 0, 1, "TOKEN", "q", SHA, 1, b"job\xff", sha(b"malformed"), 0, b"record"],
        [2],
        {
            at(7): [b"new"],
            "zset": {b"7": 7.0},
            "q": [b"job\xff"],
            "queues": {b"q"},
            "failed": [b"record"],
            "n:failed": b"1",
        },
    ),
    Case(
        "promote",
        {at(7): [b"other", b"more", P], "zset": {b"7": 7.0}},
        PROMOTE,
        [*FROM, 0, 1, "TOKEN", "q", SHA, 1, b"job"],
        [0],
        {at(7): [b"other", b"more", P], "zset": {b"7": 7.0}},
    ),
    Case("promote", {"zset": {b"7": 7.0}}, PROMOTE[:5], [*FROM, 0, 0, "TOKEN"], [0], {}),
    Case(
        "promote",
        {at(7): [P, b"second"], "q": [b"old"], "zset": {b"7": 7.0}, TIMES: {b"delayed:7"}},
        PROMOTE,
        [*FROM[:3], "LPUSH", 0, 1, "TOKEN", "q", SHA, 1, P, sha(b"second"), 1, b"second"],
        [2],
        {"q": [P, b"second", b"old"], "queues": {b"q"}},
    ),
    Case(
        "promote",
        {at(7): [b"stuck", P, b"stuck", b"new"], "zset": {b"7": 7.0}},
        PROMOTE,
        [*FROM, 1, 2, "TOKEN", "q", SHA, 1, b"job"],
        [1],
        {at(7): [b"stuck"] * 2 + [b"new"], "zset": {b"7": 7.0}, "q": [b"job"], "queues": {b"q"}},
    ),
    Case(
        "promote",
        {at(7): [b"x", P, b"y"], "q": b"a string", "failed": {b"a", b"set"}},
        [*PROMOTE, "q2"],
        [*FROM, 0, 2, "TOKEN", "q", "q2", sha(b"x"), 1, b"job", SHA, 2, P, sha(b"y"), 0, b"r"],
        [1, 0, b"set", 1, b"string"],
        {
            at(7): [b"x", b"y"],
            "q": b"a string",
            "failed": {b"a", b"set"},
            "q2": [P],
            "queues": {b"q2"},
        },
    ),
    Case(
        "promote",
        {at(7): [b"x", P, P, b"y"], "zset": {b"7": 7.0}, TIMES: {b"delayed:7", b"delayed:8"}},
        PROMOTE[:5],
        [*FROM, 1, 3, "TOKEN", SHA, -1, b"", SHA, -1, b""],
        [2],
        {at(7): [b"x", b"y"], "zset": {b"7": 7.0}, TIMES: {b"delayed:8"}},
    ),
    Case(
        "drop_delayed",
        {at(7): [P, b"x"], "zset": {b"7": 7.0, b"8": 8.0}, TIMES: {b"delayed:7", b"delayed:8"}},
        [at(7), "zset"],
        [7, "timestamps:", at(7), 10, 1000],
        [P, b"x"],
        {"zset": {b"8": 8.0}, TIMES: {b"delayed:8"}},
    ),
    Case(
        "drop_delayed",
        {at(7): [P, b"x"], "zset": {b"7": 7.0}, TIMES: {b"delayed:7"}},
        [at(7), "zset"],
        [7, "timestamps:", at(7), 10, 1],
        [P],
        {at(7): [b"x"], "zset": {b"7": 7.0}},
    ),
    Case(
        "drop_delayed",
        {at(7): b"a string", "zset": {b"7": 7.0}},
        [at(7), "zset"],
        [7, "timestamps:", at(7), 10, 1],
        [],
        {at(7): b"a string"},
    ),
    Case(
        "fire",
        {"runs": {b"e": b"abc 3 1"}},
        ["fired", "last", "queues", "q", "lock", "ranges", "runs"],
        ["e", 10, 9, b"then", "q", P, "", 0, 4, 10, 60, "0", "abc", 2],
        1,
        {
            "fired": {b"e": b"10"},
            "ranges": {b"e": b"10..10"},
            "last": {b"e": b"then"},
            "queues": {b"q"},
            "q": [P],
            "runs": {b"e": b"abc 3 2"},
        },
    ),
    Case(
        "fire",
        {"runs": {b"e": b"abc 3 2"}},
        ["fired", "last", "queues", "q", "lock", "ranges", "runs"],
        ["e", 10, 9, b"then", "q", P, "", 0, 4, 10, 60, "0", "abc", 2],
        3,
        {"runs": {b"e": b"abc 3 2"}},
    ),
    Case(
        "fire",
        {"fired": {b"e": b"5"}},
        ["fired", "last", "queues", "q", "lock", "ranges", "runs"],
        ["e", 10, 5, b"then", "q", P, "", 0, 9, 10, 60, "0", "", 0],
        1,
        {
            "fired": {b"e": b"10"},
            "ranges": {b"e": b"10..10"},
            "last": {b"e": b"then"},
            "queues": {b"q"},
            "q": [P],
        },
    ),
    Case(
        "fire",
        {"fired": {b"e": b"6"}},
        ["fired", "last", "queues", "q", "lock", "ranges", "runs"],
        ["e", 10, 5, b"then", "q", P, "", 0, 9, 10, 60, "0", "", 0],
        0,
        {"fired": {b"e": b"6"}},
    ),
    Case(
        "fire",
        {"lock": b"taken"},
        ["fired", "last", "queues", "q", "lock", "ranges", "runs"],
        ["e", 10, 5, b"then", "q", P, "mine", 999_999, 9, 10, 60, "0", "", 0],
        2,
        {"fired": {b"e": b"10"}, "ranges": {b"e": b"10..10"}, "lock": b"taken"},
    ),
    Case(
        "fire",
        {"ranges": {b"e": b"1..4 8..20?"}},
        ["fired", "last", "queues", "q", "lock", "ranges", "runs"],
        ["e", 10, 9, b"then", "q", P, "", 0, 4, 10, 60, "1", "", 0],
        0,
        {"ranges": {b"e": b"1..4 8..20?"}},
    ),
    Case(
        "fire",
        {"ranges": {b"e": b"1..4 8..20?"}},
        ["fired", "last", "queues", "q", "lock", "ranges", "runs"],
        ["e", 10, 9, b"then", "q", P, "", 0, 4, 10, 60, "0", "", 0],
        1,
        {
            "fired": {b"e": b"10"},
            "ranges": {b"e": b"8..20? 1..10"},
            "last": {b"e": b"then"},
            "queues": {b"q"},
            "q": [P],
        },
    ),
    Case(
        "doubt_ranges",
        {"ranges": {b"e": b"1..4 8..20 30..31?"}},
        ["ranges"],
        [7, "e"],
        1,
        {"ranges": {b"e": b"1..4 8..20? 30..31?"}},
    ),
    Case(
        "push_unique",
        {"j": {b"old": b"1"}},
        ["lock", "j", "queues", "q"],
        [b"mine\xff", 99_999, "q", P, "queue", "q"],
        1,
        {
            "lock": b"mine\xff",
            "queues": {b"q"},
            "q": [P],
            "j": {b"lock": b"mine\xff", b"queue": b"q"},
        },
    ),
    Case(
        "push_unique", {"c": b"x"}, ["c", "j", "qs", "q"], ["mine", 99_999, "q", P], 0, {"c": b"x"}
    ),
    Case(
        "delay_unique",
        {},
        ["lock", "j", at(7), TIMES, "zset"],
        ["mine", 99_999, 7, at(7), P, "queue", "q"],
        1,
        {
            "lock": b"mine",
            at(7): [P],
            TIMES: {b"delayed:7"},
            "zset": {b"7": 7.0},
            "j": {b"lock": b"mine", b"queue": b"q"},
        },
    ),
    Case(
        "delay_unique",
        {"c": b"x"},
        ["c", "j", at(7), "t", "z"],
        ["m", 99_999, 7, at(7), P],
        0,
        {"c": b"x"},
    ),
    Case(
        "check_unique",
        {"c": b"done:1", "j": UNIQUE},
        ["c", "j", "workers", "pops", "moves", "starts"],
        [50, 10, "queue:", "worker:", "timestamps:", ""],
        1,
        {},
    ),
    Case(
        "check_unique",
        {"c": b"done:1", "j": UNIQUE, "queue:q": [b"x", P]},
        ["c", "j", "workers", "pops", "moves", "starts"],
        [50, 10, "queue:", "worker:", "timestamps:", ""],
        0,
        {"c": b"done:1", "j": UNIQUE | {b"checked": b"50"}, "queue:q": [b"x", P]},
    ),
    Case(
        "keep_unique",
        {"c": b"done:1", "j": {b"old": b"1"}},
        ["c", "j"],
        ["done:2", 99_999, "1", "queue", "q"],
        1,
        {"c": b"done:1", "j": {b"lock": b"done:1", b"queue": b"q"}},
    ),
    Case(
        "keep_unique",
        {"c": b"start:3", "j": {b"old": b"1"}},
        ["c", "j"],
        ["start:2", 99_999, "0", "queue", "q"],
        1,
        {"c": b"start:3", "j": {b"old": b"1"}},
    ),
    Case(
        "attempts",
        {"c": {b"a": (b"2 100 7 ", P), b"b": b"1 90 7 ", b"a:by": b"other"}, TIMES: {b"delayed:7"}},
        ["c"],
        ["hold", "me", 50, "", "", "timestamps:", "delayed:", "delayed:"],
        [b"b", b"1", b"90"],
        {
            "c": {b"a": (b"2 100 7 ", P), b"b": b"1 90 7 ", b"a:by": b"other", b"b:by": b"me"},
            TIMES: {b"delayed:7"},
        },
    ),
    Case(
        "attempts",
        {"c": {b"a": (b"2 100 7 ", P)}, at(7): [P], TIMES: {b"delayed:7"}},
        ["c"],
        ["end", "me", 50, "", "", "timestamps:", "delayed:", "delayed:"],
        None,
        {"c": {b"a": (b"2 100 7 ", P)}, at(7): [P], TIMES: {b"delayed:7"}},
    ),
    Case(
        "attempts",
        {"c": {b"a": (b"2 100 7 ", P), b"a:by": b"me", b"b": b"3 100 7 "}},
        ["c"],
        ["end", "me", 50, "", "", "timestamps:", "delayed:", "delayed:"],
        [b"a", b"2", b"100"],
        {"c": {b"b": b"3 100 7 "}},
    ),
    Case("keep_attempt", {}, ["c"], ["t", "1 2 3 ", 60], 1, {"c": {b"t": b"1 2 3 "}}),
    Case("release_unique", {"c": b"done:10.5", "j": P}, ["c", "j"], ["done", "10.5"], 1, {}),
    Case("release_unique", {"c": b"done:11"}, ["c", "j"], ["done", "10.5"], 0, {"c": b"done:11"}),
    Case("release_unique", {"c": b"start:1"}, ["c", "j"], ["done", ""], 0, {"c": b"start:1"}),
    Case("release_unique", {"c": b":1", "j": P}, ["c", "j"], ["start", "2"], 0, {"c": b":1"}),
    Case("release_unique", {"c": b"done:\xff"}, ["c", "j"], ["done", ""], 1, {}),
    Case(
        "register",
        {"w": {b"other"}, "since": b"before", "marks": {b"other": b"1"}},
        ["w", "m", "since", "marks", "beats"],
        [b"me\xff", "1763900000", "1", "boot 7", "now"],
        [],
        {
            "w": {b"other", b"me\xff"},
            "m": {b"me\xff"},
            "since": b"1763900000",
            "marks": {b"other": b"1", b"me\xff": b"boot 7"},
            "beats": {b"me\xff": b"now"},
        },
    ),
    Case(
        "register",
        {},
        ["w", "m", "since", "marks", "beats"],
        ["me", "5", "0", "", ""],
        [],
        {"w": {b"me"}, "since": b"5"},
    ),
    Case(
        "register_khan",
        {"k": {b"a:1:2"}, "starts": {b"a:1:2": b"s", b"w": b"s"}, "beats": {b"a:1:2": b"then"}},
        ["k", "starts", "beats"],
        ["a:1:3", "a:1:2", "s", "now"],
        [],
        {"k": {b"a:1:3"}, "starts": {b"a:1:3": b"s", b"w": b"s"}, "beats": {b"a:1:3": b"now"}},
    ),
    Case(
        "register_khan",
        {"k": {b"a:1:2"}},
        ["k", "starts", "beats"],
        ["a:1:2", "", "", "now"],
        [],
        {"k": {b"a:1:2"}, "beats": {b"a:1:2": b"now"}},
    ),
    Case(
        "heartbeat",
        {"beats": {b"a": b"old", b"c": b"c"}, "w": {b"a"}},
        ["beats", "w"],
        ["now", "a", b"b\xff"],
        [[b"b\xff"], []],
        {"beats": {b"a": b"now", b"b\xff": b"now", b"c": b"c"}, "w": {b"a"}},
    ),
    Case("prune_lock", {}, ["lock"], [b"me\xff", 60, ""], 1, {"lock": b"me\xff"}),
    Case("prune_lock", {"lock": b"she"}, ["lock"], ["me", 60, ""], 0, {"lock": b"she"}),
    Case("prune_lock", {"lock": b"\xff"}, ["lock"], ["me", 60, b"\xff"], 1, {"lock": b"me"}),
    Case(
        "scheduler_lock",
        {},
        ["l"],
        [b"me\xff", 999_999, 9_999_999],
        [1, b"me\xff", 999_999, -2],
        {"l": b"me\xff"},
    ),
    Case(
        "scheduler_lock",
        {"l": b"\xff"},
        ["l"],
        ["me", 999_999, 9_999_999],
        [0, b"\xff", 999_999, -1],
        {"l": b"\xff"},
    ),
    Case(
        "remove_list", {"a": [P, b"x"], "qs": {b"a", b"b"}}, ["a", "qs"], ["a"], 2, {"qs": {b"b"}}
    ),
    Case("remove_list", {"a": [P], "b": [P]}, ["a"], [], 1, {"b": [P]}),
    Case("remove_list", {"a": b"x", "qs": b"y"}, ["a", "qs"], ["a"], 0, {"qs": b"y"}),
    Case("remove_list", {}, ["a", "qs"], ["a"], 0, {}),
    Case("scheduler_unlock", {"l": b"me\xff"}, ["l"], [b"me\xff"], 1, {}),
    Case("scheduler_unlock", {"l": b"\xff"}, ["l"], ["me"], 0, {"l": b"\xff"}),
]


def filled(value: Any, payload: bytes) -> Any:
    """The value with the payload in the place of P; a tuple is bytes put together."""
    if value is P:
        return payload
    if value is SHA:
        return sha(payload)
    if isinstance(value, tuple):
        return b"".join(filled(part, payload) for part in value)
    if isinstance(value, list):
        return [filled(part, payload) for part in value]
    if isinstance(value, dict):
        return {key: filled(part, payload) for key, part in value.items()}
    return value


def put(redis: Redis, key: Any, value: Any) -> None:
    if isinstance(value, list):
        redis.rpush(key, *value)
    elif isinstance(value, set):
        redis.sadd(key, *value)
    elif isinstance(value, dict) and all(isinstance(score, float) for score in value.values()):
        redis.zadd(key, value)
    elif isinstance(value, dict):
        redis.hset(key, mapping=value)
    else:
        redis.set(key, value)


def value_at(redis: Redis, key: bytes) -> Any:
    kind = redis.type(key)
    if kind == b"list":
        return redis.lrange(key, 0, -1)
    if kind == b"set":
        return redis.smembers(key)
    if kind == b"zset":
        return dict(redis.zrange(key, 0, -1, withscores=True))
    return redis.hgetall(key) if kind == b"hash" else redis.get(key)


def octets(key: Any) -> bytes:
    return key if isinstance(key, bytes) else key.encode()


@pytest.mark.parametrize("payload", [JSON, RAW], ids=["json", "raw"])
@pytest.mark.parametrize(
    "case", CASES, ids=[f"{case.script}-{number}" for number, case in enumerate(CASES)]
)
def test_a_script_returns_and_writes_what_its_head_says(redis, case, payload):
    for key, value in case.before.items():
        put(redis, filled(key, payload), filled(value, payload))

    returned = scripts.load(redis, case.script)(
        keys=filled(case.keys, payload), args=filled(case.args, payload)
    )

    assert returned == filled(case.returns, payload)
    assert {key: value_at(redis, key) for key in redis.scan_iter()} == {
        octets(filled(key, payload)): filled(value, payload) for key, value in case.after.items()
    }


#: Each key of each case, to be of another type than its script expects.
EACH_KEY = [
    pytest.param(case, place, id=f"{case.script}-{number}-{place}")
    for number, case in enumerate(CASES)
    for place in range(len(case.keys))
]


#: The scripts that check the types of their keys themselves.
GO_ON = {
    "apply",
    "read_many",
    "fetch",
    "put_back",
    "promote",
    "push_failure",
    "check_keys",
    "take_back",
    "attempts",
    "keep_attempt",
    "record_popped",
    "register",
    "register_khan",
    "heartbeat",
    "read_lists",
    "remove_elements",
    "drop_delayed",
    "remove_list",
    "push_unique",
    "delay_unique",
    "check_unique",
    "keep_unique",
    "release_unique",
}

#: The keys that are hashes.
HASHES = {
    *(("fire", place) for place in (0, 1, 5, 6, 7)),
    ("check_unique", 4),
    ("check_unique", 5),
    *((f"{name}_unique", 1) for name in ("push", "delay", "check", "keep", "release")),
    ("doubt_ranges", 0),
    ("heartbeat", 0),
    ("register_khan", 1),
    ("register_khan", 2),
    ("note_heartbeat", 0),
    ("register", 3),
    ("register", 4),
    ("take_back", 0),
    ("attempts", 0),
    ("keep_attempt", 0),
}


def everything(redis: Redis) -> dict[bytes, Any]:
    return {key: value_at(redis, key) for key in redis.scan_iter()}


@pytest.mark.parametrize(("case", "place"), EACH_KEY)
def test_with_a_key_of_another_type_a_script_does_all_or_nothing(redis, case, place):
    for key, value in case.before.items():
        put(redis, filled(key, JSON), filled(value, JSON))
    wrong = filled(case.keys[place], JSON)
    redis.delete(wrong)
    put(redis, wrong, b"a string" if (case.script, place) in HASHES else {b"a": b"hash"})
    before = everything(redis)

    try:
        scripts.load(redis, case.script)(keys=filled(case.keys, JSON), args=filled(case.args, JSON))
    except ResponseError as error:
        assert re.search(r"WRONGTYPE .* is a (hash|string): expected a ", str(error))
        assert everything(redis) == before
    else:
        # These go on without the key; no payload is lost or doubled by that.
        assert case.script in GO_ON
        if case.script in ("take_back", "remove_elements", "remove_list") or -1 in case.args:
            return  # it removes a record, or what is asked for
        # These two add one; the in-flight record was overwritten by this test.
        added = [case.script in ("push_failure", "put_back")]
        if case.script == "record_popped" or case.script.endswith("_unique"):
            added = [0, 1]  # as it finds its worker there or not, and a lock or none
        assert payloads(everything(redis)) - payloads(before) in added


def payloads(keyspace: dict[bytes, Any]) -> int:
    """How many payloads there are in lists, and in the in-flight record."""
    lists = [value for value in keyspace.values() if isinstance(value, list)]
    return sum(map(len, lists)) + (b'"payload":' in (value_of(keyspace, b"in_flight")))


def value_of(keyspace: dict[bytes, Any], key: bytes) -> bytes:
    value = keyspace.get(key)
    return value if isinstance(value, bytes) else b""


@pytest.mark.parametrize(
    ("script", "keys", "args", "key"),
    [
        ("prune_lock", ["lock"], ["me", 60, ""], "lock"),
        ("scheduler_lock", ["lock"], ["me", 60_000, 90_000], "lock"),
        ("push_unique", ["c", "j", "qs", "q"], ["mine", 60_000, "q", "job"], "c"),
        ("push_unique", ["c", "j", "qs", "q"], ["mine", 60_000, "q", "job"], "j"),
        ("delay_unique", ["c", "j", at(7), "t", "z"], ["mine", 60_000, 7, at(7), "p"], "j"),
        ("delay_unique", ["c", "j", at(7), "t", "z"], ["mine", 60_000, 7, at(7), "p"], "c"),
        (
            "fire",
            ["f", "l", "qs", "q", "c", "r", "runs", "j"],
            ["e", 10, 5, "then", "q", "j", "mine", 60_000, 9, 10, 60, "0", "", 0],
            "c",
        ),
    ],
)
def test_a_lock_expires(redis, script, keys, args, key):
    scripts.load(redis, script)(keys=keys, args=args)

    assert 50_000 < redis.pttl(key) <= 60_000


def test_a_prune_lock_is_renewed_by_its_holder(redis):
    redis.set("lock", "me", ex=1)

    assert scripts.load(redis, "prune_lock")(keys=["lock"], args=["me", 60, ""]) == 1

    assert redis.ttl("lock") > 50


def test_no_script_is_without_its_case():
    folder = files("pyres.store").joinpath("lua")
    there = {file.name.removesuffix(".lua") for file in folder.iterdir()}

    assert there == {case.script for case in CASES}


def test_a_script_that_is_not_there_is_an_error_at_once(redis):
    with pytest.raises(FileNotFoundError):
        scripts.load(redis, "nothing")


def test_each_script_opens_with_its_contract():
    for case in CASES:
        head = files("pyres.store").joinpath("lua", f"{case.script}.lua").read_text("utf-8")
        assert head.startswith(f"-- {case.script}: ")
        assert "-- KEYS[1" in head
        assert "-- returns" in head
