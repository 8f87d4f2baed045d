"""The closing summary agrees with the devices and with the people on duty."""

from __future__ import annotations

import pytest

from millstream.demo.balance import summary
from millstream.ledger.names import GATEWAY
from millstream.log import Accounts, GroupAccount, GroupStatus


def group(name: str, read: int, **counts: int) -> GroupAccount:
    return GroupAccount(GroupStatus(name, 1, {}, {}, counts), {"readings": read}, 0, {})


def accounts(**counts: int) -> Accounts:
    groups = [group(GATEWAY, 0, **counts), group("hourly", 3, processed=3), group("plant.notify", 2, processed=2)]
    return Accounts({}, {one.name: one for one in groups})


def test_everything_agrees() -> None:
    rows = summary(4, 4, accounts(received=4, committed=3, duplicates=1), notified=2)
    assert [str(row) for row in rows] == [
        "readings sent by the devices: 4 = 4 acknowledged",
        "acknowledged: 4 = 3 committed + 1 duplicates",
        "received by the gateway: 4 = 3 committed + 1 duplicates",
        "read by hourly: 3 = 3 processed",
        "read by plant.notify: 2 = 2 processed",
        "alerts processed: 2 = 2 people told",
    ]
    assert all(row.holds for row in rows)


@pytest.mark.parametrize(
    ("published", "acknowledged", "notified", "wrong"),
    [
        (5, 4, 2, "readings sent by the devices: 5 ≠ 4 acknowledged"),
        (3, 3, 2, "acknowledged: 3 ≠ 3 committed + 1 duplicates"),
        (4, 4, 1, "alerts processed: 2 ≠ 1 people told"),
    ],
)
def test_what_does_not_agree_is_said(published: int, acknowledged: int, notified: int, wrong: str) -> None:
    rows = summary(published, acknowledged, accounts(received=4, committed=3, duplicates=1), notified)
    assert [str(row) for row in rows if not row.holds] == [wrong]
