"""The ledger's equations say whether they hold, and find what is missing."""

from __future__ import annotations

import pytest

from millstream.ledger import Equation, equations
from millstream.ledger.names import DEAD_LETTERS, GATEWAY
from millstream.log import Accounts, GroupAccount, GroupStatus, StreamAccount


def group(name: str, read: int = 0, expired: int = 0, **counts: int) -> GroupAccount:
    named = {name.replace("_", "-").replace("rejected-", "rejected:"): n for name, n in counts.items()}
    return GroupAccount(GroupStatus(name, 1, {}, {}, named), {"telemetry": read}, expired, {})


def wrong(groups: list[GroupAccount], streams: list[StreamAccount] | None = None) -> list[str]:
    accounts = Accounts({one.name: one for one in streams or []}, {one.name: one for one in groups})
    return [str(row) for row in equations(accounts) if not row.holds]


def test_an_equation_says_whether_it_holds() -> None:
    assert str(Equation("sent", 1_003, {"kept": 1_000, "duplicates": 3})) == "sent: 1,003 = 1,000 kept + 3 duplicates"
    assert str(Equation("sent", 0, {"kept": 0})) == "sent: 0 = 0"
    unequal = Equation("sent", 7, {"kept": 6})
    assert not unequal.holds
    assert str(unequal) == "sent: 7 ≠ 6 kept"


def test_what_balances() -> None:
    groups = [
        group(GATEWAY, received=12, committed=7, duplicates=2, transient=1, rejected_a=1, rejected_b=1),
        group("hourly", 7, processed=4, filtered=2, late=1, results=100, clamped=3, expired=2),
        group("handler", 5, expired=3, processed=2, skipped=1, dead_lettered=2),
        group("$operators", resent=3),
        group("", anything=1),
    ]
    streams = [StreamAccount("telemetry", 7, 3, {GATEWAY: 5, "": 2}), StreamAccount(DEAD_LETTERS, 2, 0, {"handler": 2})]
    assert wrong(groups, streams) == []


@pytest.mark.parametrize(
    ("account", "told"),
    [
        (group(GATEWAY, received=3, committed=2), "received by the gateway: 3 ≠ 2 committed"),
        (group("g", 3, processed=2, results=1), "read by g: 3 ≠ 2 processed"),
        (group("g", 3, processed=4), "read by g: 3 ≠ 4 processed"),
        (group("g", 3, expired=1, processed=3, skipped=1), "read by g: 4 ≠ 3 processed + 1 skipped + 1 expired"),
    ],
)
def test_a_group_that_does_not_account_for_its_events_is_named(account: GroupAccount, told: str) -> None:
    assert wrong([account]) == [told]


def test_a_stream_with_events_of_nobody_is_named() -> None:
    assert wrong([], [StreamAccount("a", 3, 0, {"g": 2})]) == ["in stream a: 3 ≠ 2 from g"]


def test_a_dead_letter_that_is_not_kept_is_found() -> None:
    letters = StreamAccount(DEAD_LETTERS, 1, 0, {"g": 1})
    assert wrong([group("g", 2, dead_lettered=2)], [letters]) == ["dead-lettered by g: 2 ≠ 1 in stream $deadletters"]
    late = StreamAccount("q.late", 0, 0, {})
    assert wrong([group("q", 1, late=1)], [late]) == ["late by q: 1 ≠ 0"]
