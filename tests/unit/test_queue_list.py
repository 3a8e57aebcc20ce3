"""Queue lists as Resque reads them: order, wildcards by File.fnmatch without flags, negation."""

from __future__ import annotations

import pytest

from pyres.exceptions import NoQueueError
from pyres.queue_list import QueueList

KNOWN = ["low", "mid", "high", "critical", "Archive", "a/b", ".hidden", "a-b", "low:2"]
SORTED = ["Archive", "a-b", "a/b", "critical", "high", "low", "low:2", "mid"]


def test_names_are_fetched_in_their_order_whether_they_exist_or_not():
    assert QueueList(["b", "a", "new"]).among([]) == ["b", "a", "new"]


def test_a_name_listed_twice_is_fetched_once():
    assert QueueList("mid,high,mid").among(KNOWN) == ["mid", "high"]


def test_a_star_means_all_existing_queues_capitals_first_without_hidden_ones():
    assert QueueList("*").among(KNOWN) == SORTED


# The examples of the wire's section on a worker's queues, as real Ruby answered them


def test_names_before_a_star_come_first_and_once():
    rest = [name for name in SORTED if name != "critical"]
    assert QueueList("critical,*").among(KNOWN) == ["critical", *rest]


def test_a_negated_pattern_is_excluded_wherever_it_is():
    wanted = [name for name in SORTED if not name.startswith("low")]
    assert QueueList("*,!low*").among(KNOWN) == wanted
    assert QueueList("!low*,*").among(KNOWN) == wanted


def test_a_pattern_between_equal_names_keeps_the_first_place_of_each():
    assert QueueList("mid,h*,mid").among(KNOWN) == ["mid", "high"]


def test_a_star_that_is_negated_whole_is_valid_and_finds_nothing():
    queues = QueueList("*,!*")

    assert queues.among(KNOWN) == []
    assert queues.names == ["*"]


def test_beside_a_wildcard_plain_names_count_only_if_they_exist():
    assert QueueList("new,mid,h*").among(KNOWN) == ["mid", "high"]
    assert QueueList("new,mid,!low").among(KNOWN) == ["mid"]


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        # A star crosses slashes.
        ("*", "a/b", True),
        ("a*b", "a/x/b", True),
        ("?", "/", True),
        # A leading dot must be written in the pattern.
        ("*", ".a", False),
        ("?a", ".a", False),
        ("[.]a", ".a", False),
        (".*", ".a", True),
        ("a*", "a.b", True),
        # Case counts.
        ("h*", "High", False),
        ("H*", "High", True),
        # Sets.
        ("[abc]x", "bx", True),
        ("[abc]x", "dx", False),
        ("[!abc]x", "dx", True),
        ("[!abc]x", "ax", False),
        ("[^abc]x", "ax", False),
        ("[a-c]x", "bx", True),
        ("[a\\-c]x", "bx", False),
        ("[a\\-c]x", "-x", True),
        ("[\\]]x", "]x", True),
        ("[z-a]x", "mx", False),
        ("[!z-a]x", "mx", True),
        ("[a--]x", "ax", False),
        ("[a&&b]x", "&x", True),
        ("[a~~b]x", "~x", True),
        ("[a||b]x", "|x", True),
        ("[[a]x", "[x", True),
        ("x[", "x[", True),
        # A backslash escapes.
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("a\\?*", "a?b", True),
        ("a\\?*", "axb", False),
        # Braces are letters.
        ("{a}*", "{a}b", True),
        ("{a}*", "ab", False),
        # Nothing of a regular expression means anything.
        ("a.c*", "abc", False),
        ("a+*", "aa", False),
        ("(a)*", "a", False),
        ("a*", "a\nb", True),
        ("a?", "a\n", True),
    ],
)
def test_a_pattern_matches_as_rubys_fnmatch_does(pattern, name, matches):
    assert QueueList([pattern, "*x*y*z*"]).among([name]) == ([name] if matches else [])


def test_names_of_other_bytes_than_utf_8_are_sorted_and_matched_too():
    assert QueueList("b*").among(["b\udcff", "bz", "é"]) == ["bz", "b\udcff"]


# pyres 1.5 polled " Log2" for ever for "Log1, Log2"


def test_blanks_and_empty_names_are_dropped():
    assert QueueList(" Log1, Log2 ,,").names == ["Log1", "Log2"]
    assert QueueList([" a ", ""]).among([]) == ["a"]


def test_a_text_is_a_comma_list():
    assert QueueList("a,b").names == QueueList(["a", "b"]).names


def test_the_id_shows_the_patterns_and_not_what_is_negated():
    assert QueueList("high,!low,*").names == ["high", "*"]


@pytest.mark.parametrize("queues", ["", " , ", [], "!low", ["!a", "!b"]])
def test_a_list_that_excludes_all_queues_is_an_error(queues):
    with pytest.raises(NoQueueError, match="expected the name of a queue"):
        QueueList(queues)


def test_an_invalid_name_is_an_error_that_shows_it():
    with pytest.raises(NoQueueError, match="invalid queue name 7: expected a str"):
        QueueList(["a", 7])
