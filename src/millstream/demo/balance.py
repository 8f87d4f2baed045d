"""The closing summary: where everything ended, and that the counts balance."""

from __future__ import annotations

from millstream.ledger import Equation, equations
from millstream.ledger.names import COMMITTED, DUPLICATES, GATEWAY
from millstream.log import Accounts


def summary(published: int, acknowledged: int, accounts: Accounts, notified: int) -> list[Equation]:
    """What must hold when everything has come to rest: the ledger's equations, and that it agrees with the devices and
    with the people on duty. `notified` counts the alerts that those have heard of (a group named `…notify` is the
    handler that tells them)."""
    kept = accounts.groups[GATEWAY].status.counts if GATEWAY in accounts.groups else {}
    told = sum(
        group.status.counts.get("processed", 0) for name, group in accounts.groups.items() if name.endswith(".notify")
    )
    return [
        Equation("readings sent by the devices", published, {"acknowledged": acknowledged}),
        Equation("acknowledged", acknowledged, {name: kept.get(name, 0) for name in (COMMITTED, DUPLICATES)}),
        *(row for row in equations(accounts) if row.left or not row.holds),
        Equation("alerts processed", told, {"people told": notified}),
    ]
