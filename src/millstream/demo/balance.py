"""The closing summary: where everything ended, and that the counts balance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millstream.log import GroupStatus

OUTCOMES = ("processed", "filtered", "late", "rejected")
"""Where an event that a query has read can end."""


@dataclass(frozen=True, slots=True)
class Equation:
    """Two numbers that must be equal, and how they came about."""

    what: str
    left: int
    terms: Mapping[str, int]

    @property
    def holds(self) -> bool:
        return self.left == sum(self.terms.values())

    def __str__(self) -> str:
        terms = " + ".join(f"{count:,} {name}" for name, count in self.terms.items())
        return f"{self.what}: {self.left:,} {'=' if self.holds else '≠'} {terms}"


def equations(
    published: int, acknowledged: int, statistics: Mapping[str, Any], queries: Sequence[GroupStatus], notified: int
) -> list[Equation]:
    """What must hold when everything has come to rest. `notified` counts the alerts that people on duty have heard of
    (a group named `…notify` is the handler that tells them)."""
    received = {
        "committed": int(statistics["committed"]),
        "duplicates": int(statistics["duplicates"]),
        "rejected": sum(statistics["rejected"].values()),
    }
    rows = [
        Equation("readings sent by the devices", published, {"acknowledged": acknowledged}),
        Equation("received by the gateway", int(statistics["received"]), received),
    ]
    for group in queries:
        if group.name.endswith(".notify"):
            rows.append(Equation("alerts processed", group.counts.get("processed", 0), {"people told": notified}))
        else:
            outcomes = {name: group.counts.get(name, 0) for name in OUTCOMES if group.counts.get(name, 0)}
            rows.append(Equation(f"read by query {group.name}", received["committed"], outcomes))
    return rows
