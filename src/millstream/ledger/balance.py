"""Whether the counts balance: everything that came in ended somewhere, and what is counted in two places is equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from millstream.ledger.names import (
    COMMITTED,
    DEAD_LETTERED,
    DEAD_LETTERS,
    DUPLICATES,
    EXPIRED,
    GATEWAY,
    LATE,
    OUTCOMES,
    RECEIVED,
    REJECTED,
    TRANSIENT,
    late_stream,
)
from millstream.log import Accounts, GroupAccount, StreamAccount


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
        terms = " + ".join(f"{count:,} {name}" for name, count in self.terms.items() if count)
        return f"{self.what}: {self.left:,} {'=' if self.holds else '≠'} {terms or 0}"


def equations(accounts: Accounts) -> list[Equation]:
    """Everything that must be equal at every moment, also after a crash."""
    found: list[Equation] = []
    if GATEWAY in accounts.groups:
        found.append(gateway_equation(accounts.groups[GATEWAY].status.counts))
    found += [stream_equation(stream) for stream in accounts.streams.values()]
    for group in accounts.groups.values():
        if is_processor(group):
            found.append(group_equation(group))
            found += _kept(accounts, group)
    return found


def is_processor(group: GroupAccount) -> bool:
    """Whether a group is a handler's or a query's, and not one of Millstream's own."""
    return bool(group.name) and not group.name.startswith("$")


def gateway_equation(counts: Mapping[str, int]) -> Equation:
    """What came in was kept, was there before, was nobody's to keep, or was refused."""
    ends = {name: counts.get(name, 0) for name in (COMMITTED, DUPLICATES, TRANSIENT)}
    return Equation("received by the gateway", counts.get(RECEIVED, 0), {**ends, "rejected": rejected(counts)})


def rejected(counts: Mapping[str, int]) -> int:
    """What the gateway refused, for whatever reason."""
    return sum(rejected_by_reason(counts).values())


def rejected_by_reason(counts: Mapping[str, int]) -> dict[str, int]:
    """The same, reason by reason."""
    return {name.removeprefix(REJECTED): n for name, n in counts.items() if name.startswith(REJECTED)}


def stream_equation(stream: StreamAccount) -> Equation:
    """What is in a stream, or was, came from somebody who counted it."""
    terms = {_source(name): n for name, n in sorted(stream.sources.items())}
    if stream.unknown:
        terms["dropped, and nobody knows from whom"] = stream.unknown
    return Equation(f"in stream {stream.name}", stream.events, terms)


def group_equation(group: GroupAccount) -> Equation:
    """What a group has read ended in one of the named ways. What retention took counts as read."""
    return Equation(f"read by {group.name}", sum(group.read.values()) + group.expired, outcomes(group))


def outcomes(group: GroupAccount) -> dict[str, int]:
    """Where the events ended that a group has read."""
    counts = {name: group.status.counts.get(name, 0) for name in OUTCOMES}
    return {**counts, EXPIRED: counts[EXPIRED] + group.expired}


def _kept(accounts: Accounts, group: GroupAccount) -> Iterator[Equation]:
    """What a group has set aside is where it belongs."""
    for name, where in ((DEAD_LETTERED, DEAD_LETTERS), (LATE, late_stream(group.name))):
        counted, stream = group.status.counts.get(name, 0), accounts.streams.get(where)
        if counted and stream is not None:
            yield Equation(
                f"{name} by {group.name}", counted, {f"in stream {where}": stream.sources.get(group.name, 0)}
            )


def _source(group: str) -> str:
    return "from the gateway" if group == GATEWAY else f"from {group}" if group else "appended directly"
