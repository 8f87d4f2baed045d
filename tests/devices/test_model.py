"""Names, tags and credentials: what they may be, and how they change."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.devices import CredentialsGiven, KeysGiven, Name
from millstream.devices.credentials import NO_CREDENTIALS, check_key, new_key
from millstream.devices.document import MAX_DEPTH, check_tags, merge
from millstream.errors import DeviceError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize("text", ["press-1", "a", "x" * 128, "-._:=@!(),'*?$%", "a/b"])
def test_names_are_text_and_back(text: str) -> None:
    assert str(Name.parse(text)) == text


@pytest.mark.parametrize("text", ["", "a/", "/a", "a/b/c", "x" * 129, "a b", "a+", "#", "ü", "a\0", "..", ".", "a\n"])
def test_hostile_names_are_refused(text: str) -> None:
    with pytest.raises(DeviceError):
        Name.parse(text)


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [  # RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches_are_those_of_the_rfc(before: Any, patch: Any, after: Any) -> None:
    assert merge(before, patch) == after


@given(JSON, JSON)
def test_merging_twice_is_merging_once(before: Any, patch: Any) -> None:
    once = merge(before, patch)
    assert merge(once, patch) == once


def deep(levels: int) -> dict[str, Any]:
    return {"a": deep(levels - 1)} if levels > 1 else {}


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({"a": "x" * 8_200}, "there may be 8192"),
        (deep(MAX_DEPTH + 1), "deeper than 10"),
        ({"a": [deep(MAX_DEPTH)]}, "deeper than 10"),
        ({"a": {"b.c": 1}}, r"tags.a has a member 'b.c'"),
        ({"$a": 1}, "names have no"),
        ({'a"': 1}, "names have no"),
        ({"": 1}, "names have no"),
        ({"a": [1, {"b\n": 1}]}, r"tags.a\[1\]"),
        ({"a": 2**60}, "beyond the integers"),
        ({"a": "\0"}, "null character"),
    ],
)
def test_impossible_tags_are_told(tags: dict[str, Any], told: str) -> None:
    with pytest.raises(DeviceError, match=told):
        check_tags(tags)


def test_tags_may_be_anything_else() -> None:
    tags = {"a": deep(MAX_DEPTH - 1), "é": [1, None, True, {"x": -1.5}], "it's": ""}
    assert check_tags(tags) == tags


def given_as(**said: Any) -> CredentialsGiven:
    return msgspec.convert(said, CredentialsGiven)


def test_missing_keys_are_made() -> None:
    primary = new_key()
    keys = given_as(keys={"primary": primary}).over(NO_CREDENTIALS).keys
    assert keys is not None
    assert keys.primary == primary
    assert check_key(keys.secondary) != primary
    assert keys.swapped().primary == keys.secondary


def test_keys_that_there_are_stay() -> None:
    before = given_as(keys={}).over(NO_CREDENTIALS)
    assert given_as(keys={}).over(before) == before
    other = new_key()
    after = given_as(keys={"secondary": other}).over(before).keys
    assert before.keys is not None
    assert after is not None
    assert (after.primary, after.secondary) == (before.keys.primary, other)


def test_what_is_not_said_stays() -> None:
    first = given_as(keys={}, authority=True, thumbprints={"primary": "AB:" * 19 + "CD"}).over(NO_CREDENTIALS)
    second = given_as(password="secret").hashed().over(first)
    assert second.kinds() == ["keys", "password", "thumbprints", "authority"]
    assert second.thumbprints is not None
    assert second.thumbprints.primary == "ab" * 19 + "cd"
    assert given_as(keys=None, password=None, thumbprints=None, authority=False).over(second) == NO_CREDENTIALS


@pytest.mark.parametrize(
    "said",
    [
        {"password": ""},
        {"password": "a", "password_hash": "b"},
        {"password_hash": "secret"},
        {"keys": {"primary": "####"}},
        {"keys": {"primary": "c2hvcnQ="}},
        {"thumbprints": {"primary": "xy" * 20}},
        {"thumbprints": {"primary": "ab" * 20, "secondary": "ab"}},
    ],
)
def test_impossible_credentials_are_told(said: dict[str, Any]) -> None:
    with pytest.raises(DeviceError):
        given_as(**said).hashed().over(NO_CREDENTIALS)


@given(st.text())
def test_a_wrong_key_is_an_error_that_does_not_show_it(text: str) -> None:
    try:
        check_key(text)
    except DeviceError as error:
        assert len(text) < 4 or text not in str(error)
    else:
        assert KeysGiven(primary=text).over(None).primary == text
