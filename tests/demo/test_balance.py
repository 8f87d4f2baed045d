"""The closing summary's equations."""

from __future__ import annotations

from millstream.demo.balance import Equation, equations
from millstream.log import GroupStatus


def group(name: str, **counts: int) -> GroupStatus:
    return GroupStatus(name, 1, {}, {}, counts)


def test_an_equation_says_whether_it_holds() -> None:
    assert str(Equation("sent", 1_003, {"kept": 1_000, "duplicates": 3})) == "sent: 1,003 = 1,000 kept + 3 duplicates"
    unequal = Equation("sent", 7, {"kept": 6})
    assert not unequal.holds
    assert str(unequal) == "sent: 7 ≠ 6 kept"


def test_every_query_must_account_for_every_committed_event() -> None:
    statistics = {"received": 12, "committed": 10, "duplicates": 1, "rejected": {"bad topic": 1}}
    groups = [
        group("hourly", processed=7, late=1, rejected=2, results=3),
        group("lossy", processed=9),
        group("plant.notify", processed=4, skipped=100),
    ]
    rows = {row.what: row.holds for row in equations(12, 12, statistics, groups, notified=4)}
    assert rows == {
        "readings sent by the devices": True,
        "received by the gateway": True,
        "read by query hourly": True,
        "read by query lossy": False,
        "alerts processed": True,
    }
