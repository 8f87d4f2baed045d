"""What the settings say that a client may do."""

from __future__ import annotations

from typing import Any

import pytest

from millstream.errors import NotAuthorizedError, SettingsError
from millstream.gateway.listeners.policy import Policy
from millstream.rights import EVERYTHING, Right, may
from millstream.settings import GivenSettings

HASH = "scrypt$2$1$1$c2FsdA==$Mg+j147YoCdA+qrUwvASXtMPpt7O8kuKFUTqdS+qQGA="


def policy(**given: Any) -> Policy:
    return Policy(GivenSettings.load(**given))


def allows(its: Policy, right: Right, name: str = "", *, user: str | None = "ann", client_id: str = "c-1") -> bool:
    return may(its.rights(user, client_id), right, name)


def test_a_user_without_rights_has_what_bears_its_name() -> None:
    its = policy(users={"ann": HASH})
    for right in (Right.PUBLISH, Right.SUBSCRIBE):
        for name in ("ann", "ann/x", "site/ann", "site/a/ann/telemetry", "1/2/3/ann/5/6"):
            assert allows(its, right, name), name
        for name in ("annie/x", "site/a/bob/telemetry", "1/2/3/4/ann", "$SYS/ann/x", "a"):
            assert not allows(its, right, name), name
    assert allows(its, Right.SUBSCRIBE, "site/+/ann/#")
    for wider in ("#", "+/#", "site/+/+/#", "site/a/#"):
        assert not allows(its, Right.SUBSCRIBE, wider), wider
    for right in (Right.READ, Right.JOIN, Right.OBSERVE):
        assert not allows(its, right, "ann"), right


def test_what_a_user_does_not_say_is_as_for_all_and_what_these_do_not_say_is_as_by_default() -> None:
    its = policy(users={"ann": HASH, "bob": {"password": HASH, "read": ["alerts"]}}, rights={"read": ["#"]})
    assert allows(its, Right.READ, "telemetry") and not allows(its, Right.READ, "telemetry", user="bob")
    assert allows(its, Right.READ, "alerts", user="bob")
    assert allows(its, Right.PUBLISH, "site/bob", user="bob")


def test_a_right_may_be_taken_away() -> None:
    its = policy(users={"ann": {"password": HASH, "publish": []}})
    assert not allows(its, Right.PUBLISH, "ann")
    assert allows(its, Right.SUBSCRIBE, "ann")


def test_each_right_is_its_own() -> None:
    given = {"publish": ["p/#"], "subscribe": ["s/+"], "read": ["r"], "join": ["j/#"], "observe": True}
    its = policy(users={"ann": {"password": HASH, **given}})
    names = {Right.PUBLISH: "p/1", Right.SUBSCRIBE: "s/+", Right.READ: "r", Right.JOIN: "j/1"}
    for right in names:
        assert [name for name in names.values() if allows(its, right, name)] == [names[right]]
    assert allows(its, Right.OBSERVE)


def test_millstreams_own_streams_are_not_among_all() -> None:
    assert not allows(policy(users={"ann": HASH}, rights={"read": ["#"]}), Right.READ, "$rejected")
    assert allows(policy(users={"ann": HASH}, rights={"read": ["$rejected"]}), Right.READ, "$rejected")


def test_names_stand_in_the_place_of_placeholders() -> None:
    its = policy(users={"ann": HASH}, rights={"publish": ["{user}-{client_id}/#", "by-id/{client_id}"]})
    assert allows(its, Right.PUBLISH, "ann-c-1/x")
    assert allows(its, Right.PUBLISH, "by-id/c-2", client_id="c-2")
    assert not allows(its, Right.PUBLISH, "by-id/c-2")


HOSTILE = ["", "+", "#", "a/b", "$SYS", "a+", "x#", "{user}", "{client_id}", "}"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_would_be_more_than_itself_gives_nothing(name: str) -> None:
    users = {name: HASH, "ann": HASH}
    its = policy(users=users, rights={"subscribe": ["by-user/{user}/#", "by-id/{client_id}/#", "{client_id}/#"]})
    for wanted in (f"by-id/{name}", "by-id/+/#", "by-id/#", "by-id/c-1/x", "by-id/ann", f"{name}/x", "$SYS/x"):
        assert not allows(its, Right.SUBSCRIBE, wanted, client_id=name), wanted
    for wanted in (f"by-user/{name}", "by-user/+/#", "by-user/ann/x", "by-user/c-1"):
        assert not allows(its, Right.SUBSCRIBE, wanted, user=name), wanted


def test_anonymous_clients_may_do_everything_until_something_is_said() -> None:
    assert policy().rights(None, "c-1") is EVERYTHING
    its = policy(anonymous={"publish": ["open/#"]})
    assert allows(its, Right.PUBLISH, "open/x", user=None)
    assert not allows(its, Right.PUBLISH, "closed", user=None)
    for right in set(Right) - {Right.PUBLISH}:
        assert not allows(its, right, "open/x", user=None), right


@pytest.mark.parametrize(
    ("user", "place"), [("ann", r"user 'ann' .*\[users\.ann\]"), (None, r"shows no user name .*\[anonymous\]")]
)
def test_who_is_refused_is_told_which_setting_gives_the_right(user: str | None, place: str) -> None:
    its = policy(users={"ann": HASH}, anonymous={}).rights(user, "c-1")
    for right, deed in [
        (Right.PUBLISH, "publish to 'x'"),
        (Right.SUBSCRIBE, "subscribe to 'x'"),
        (Right.READ, "read stream 'x'"),
        (Right.JOIN, "join group 'x'"),
        (Right.OBSERVE, "see status and metrics"),
    ]:
        with pytest.raises(NotAuthorizedError, match=place) as refused:
            its.check(right, "x")
        assert f"may not {deed}" in str(refused.value)
        assert f"{right.value!r} in [" in str(refused.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rights": {"publish": ["a/#/b"]}}, r"'rights\.publish\.0'.*'#' must be the whole last level"),
        ({"rights": {"publish": ["{device}/#"]}}, r"'\{device\}/#'.*\{user\} and \{client_id\}"),
        ({"rights": {"publsh": []}}, r"did you mean 'rights\.publish'"),
        ({"users": {"ann": {"password": HASH, "reads": []}}}, r"'users\.ann\.reads'.*did you mean 'users\.ann\.read'"),
        ({"users": {"ann": {"read": []}}}, r"'users\.ann\.password'"),
        ({"users": {"ann": 5}}, r"'users\.ann'.*millstream password"),
        ({"anonymous": {"observ": True}}, r"did you mean 'anonymous\.observe'"),
    ],
)
def test_wrong_rights_are_named_at_start(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        GivenSettings.load(**given)
