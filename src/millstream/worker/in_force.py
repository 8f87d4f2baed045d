"""What the version of a query that is in force has published, for a comparison with another run of it.

Results of the same window have the same id but for the query's name, whenever and by whom they are computed."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import msgspec

from millstream.clock import Micros, to_micros
from millstream.ledger.scan import events, time_of
from millstream.log import Log

MOST = 200_000  # results that are kept for a comparison

TOLERANCE = 1e-9  # relative: sums of floating numbers depend on the order in which they are added

Standing = Literal["same", "changed", "new", "gone"]


class Compared(NamedTuple):
    """How a result stands to the one in force, whose payload was `before`."""

    standing: Standing
    before: bytes | None = None


class InForce:
    """The results of the query `name`, by what their ids have behind the name. What was not compared is `gone`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.gone: dict[str, bytes] = {}
        self.count = 0

    @classmethod
    async def read(cls, log: Log, stream: str, name: str, since: Micros | None, until: Micros) -> InForce | None:
        """What the query has published to a stream in a span of time. None: it is too much to compare."""
        found = cls(name)
        async for event in events(log, stream, since):
            if event.type == name and event.id is not None and to_micros(time_of(event)) <= until:
                found.gone[event.id.removeprefix(f"{name}:")] = event.payload
                if len(found.gone) > MOST:
                    return None
        found.count = len(found.gone)
        return found

    def compare(self, name: str, id_: str, payload: bytes) -> Compared:
        """How a result of the query `name` stands to the one in force of the same window."""
        before = self.gone.pop(id_.removeprefix(f"{name}:"), None)
        if before is None:
            return Compared("new")
        alike = before == payload or _alike(msgspec.json.decode(before), msgspec.json.decode(payload))
        return Compared("same" if alike else "changed", before)


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(value, other[name]) for name, value in one.items())
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=TOLERANCE)
    return type(one) is type(other) and bool(one == other)
