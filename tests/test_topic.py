"""Topic names and filters: what is allowed, what matches, and that the trie agrees with the plainest way to match."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.errors import TopicError
from millstream.topic import (
    MAX_BYTES,
    MAX_LEVELS,
    Filter,
    Trie,
    check_filter,
    check_topic,
    filter_covers,
    filter_matches,
)

levels = st.sampled_from(["a", "b", "", "$x", "ü"])
topics = st.lists(levels, min_size=1, max_size=5).map("/".join).filter(bool)
filters = (
    st.tuples(st.lists(levels | st.just("+"), max_size=5), st.sampled_from([[], ["#"]]))
    .map(lambda parts: "/".join(parts[0] + parts[1]))
    .filter(bool)
)


def matches(wanted: list[str], found: list[str]) -> bool:
    """MQTT 5.0, 4.7.1, level by level."""
    if wanted == ["#"]:
        return True
    if not wanted or not found:
        return not wanted and not found
    return wanted[0] in ("+", found[0]) and (matches(wanted[1:], found[1:]) or (wanted[1:] == ["#"] and not found[1:]))


def naive(mqtt_filter: str, topic: str) -> bool:
    if topic.startswith("$") and mqtt_filter[0] in "+#":  # 4.7.2
        return False
    return matches(mqtt_filter.split("/"), topic.split("/"))


@given(filters, topics)
def test_a_filter_matches_as_the_specification_says(mqtt_filter: str, topic: str) -> None:
    assert filter_matches(mqtt_filter, topic) == naive(mqtt_filter, topic)


@given(st.lists(st.tuples(filters, st.integers(0, 3))), st.lists(st.tuples(filters, st.integers(0, 3))), topics)
def test_the_trie_finds_what_each_filter_alone_would(
    added: list[tuple[str, int]], removed: list[tuple[str, int]], topic: str
) -> None:
    trie: Trie[int] = Trie()
    kept: set[tuple[str, int]] = set()
    for pair in added:
        trie.add(*pair)
        kept.add(pair)
    for pair in removed + added[::2]:
        trie.remove(*pair)
        kept.discard(pair)
    assert len(trie) == len(kept)
    found = trie.match(topic)
    assert len(found) == len(set(found))
    assert set(found) == {value for mqtt_filter, value in kept if naive(mqtt_filter, topic)}


def test_a_trie_that_was_emptied_keeps_nothing() -> None:
    trie: Trie[int] = Trie()
    texts = ["a/b/c", "a/+/c", "a/#", "#", "a"]
    for number, text in enumerate(texts):
        trie.add(text, number)
    for number, text in enumerate(texts):
        trie.remove(text, number)
    assert not trie._root.children


def test_a_tries_version_tells_of_changes() -> None:
    trie: Trie[str] = Trie()
    versions = [trie.version]
    trie.add("a", "x")
    versions.append(trie.version)
    trie.add("b", "x")
    versions.append(trie.version)
    trie.remove("a", "x")
    versions.append(trie.version)
    assert versions == sorted(set(versions))
    trie.remove("a", "x")
    trie.add("b", "x")
    assert len(trie) == 1


def test_many_wildcards_do_not_make_it_slow() -> None:
    """A walk visits each branch once: 2^30 ways to match one topic would never end."""
    trie: Trie[int] = Trie()
    trie.add("/".join("+" * 60), 1)
    trie.add("/".join(["a"] * 60), 2)
    for number in range(60):
        trie.add("/".join(["a"] * number + ["+"] * (60 - number)), 3 + number)
    assert len(trie.match("/".join(["a"] * 60))) == 62


@pytest.mark.parametrize(
    "topic", ["a", "/", "a//b", "$SYS/x", "ünï/code", "a b", "x" * MAX_BYTES, "/" * (MAX_LEVELS - 1)]
)
def test_these_can_be_published_to(topic: str) -> None:
    check_topic(topic)


@pytest.mark.parametrize(
    ("topic", "text"),
    [
        ("", "at least one character"),
        ("a\0b", "null character"),
        ("a/+", "wildcard"),
        ("#", "wildcard"),
        ("a+b", "wildcard"),
        ("x" * (MAX_BYTES + 1), f"more than {MAX_BYTES} bytes"),
        ("ü" * (MAX_BYTES // 2 + 1), f"more than {MAX_BYTES} bytes"),
        ("a/\udcff", "no valid Unicode"),
        ("/" * MAX_LEVELS, f"more than {MAX_LEVELS} levels"),
    ],
)
def test_these_cannot(topic: str, text: str) -> None:
    with pytest.raises(TopicError, match=text):
        check_topic(topic)


@pytest.mark.parametrize("text", ["#", "+", "a/#", "+/+", "/+", "a/+/b", "$share", "{a}"])
def test_these_are_filters(text: str) -> None:
    check_filter(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [("a#", "whole last level"), ("#/a", "whole last level"), ("a+/b", "whole level"), ("", "one character")],
)
def test_these_are_not(text: str, why: str) -> None:
    with pytest.raises(TopicError, match=why):
        check_filter(text)


def test_a_named_level_tells_what_it_held() -> None:
    parsed = Filter.parse("site/{site}/{device}/#")
    assert (parsed.text, parsed.mqtt, parsed.names) == (
        "site/{site}/{device}/#",
        "site/+/+/#",
        {"site": 1, "device": 2},
    )
    assert parsed.parameters("site/north/press-1/a/b") == {"site": "north", "device": "press-1"}
    assert parsed.parameters("site/north") is None
    assert parsed.matches("site/north/press-1")
    assert Filter.parse("a/+").parameters("a/b") == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a/{b}c", "level '{b}c' is not a name in braces"),
        ("a/{b", "not a name in braces"),
        ("a/{}", "not a name in braces"),
        ("a/{1}", "not a name in braces"),
        ("a/{b c}", "not a name in braces"),
        ("{a}/{a}", "has the name {a} twice"),
        ("{a}/#/b", "whole last level"),
    ],
)
def test_names_stand_for_whole_levels_once(text: str, why: str) -> None:
    with pytest.raises(TopicError, match=why):
        Filter.parse(text)


LEVELS = ["a", "b", "", "$x", "ü", "other"]
ALL_TOPICS = ["/".join(each) for n in range(1, 5) for each in itertools.product(LEVELS, repeat=n)]


@given(filters.filter(lambda text: text.count("/") < 3), filters.filter(lambda text: text.count("/") < 3))
def test_a_filter_covers_another_if_it_matches_whatever_that_one_does(wide: str, narrow: str) -> None:
    every, some = ({topic for topic in ALL_TOPICS if filter_matches(each, topic)} for each in (wide, narrow))
    assert filter_covers(wide, narrow) is (some <= every and (wide, narrow) != ("+/#", "#"))


@given(filters, topics)
def test_a_filter_covers_the_topics_that_it_matches(wide: str, topic: str) -> None:
    assert filter_covers(wide, topic) is filter_matches(wide, topic)
