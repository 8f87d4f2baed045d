"""What the version of a query that is in force has published, for a comparison with another run of it.

Results of the same window have the same id, whenever and by whom they are computed."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from millstream.clock import Micros, to_micros
from millstream.ledger.scan import events, time_of
from millstream.log import Log

MOST = 200_000  # results that are kept for a comparison

TOLERANCE = 1e-9  # relative: sums of floating numbers depend on the order in which they are added

Standing = Literal["same", "changed", "new"]


class InForce:
    """The results of a query, by id. Those that were not compared are `gone`."""

    def __init__(self) -> None:
        self.gone: dict[str, bytes] = {}
        self.count = 0

    @classmethod
    async def read(cls, log: Log, stream: str, query: str, since: Micros | None, until: Micros) -> InForce | None:
        """What the query has published to a stream in a span of time. None: it is too much to compare."""
        found = cls()
        async for event in events(log, stream, since):
            if event.type == query and event.id is not None and to_micros(time_of(event)) <= until:
                found.gone[event.id] = event.payload
                if len(found.gone) > MOST:
                    return None
        found.count = len(found.gone)
        return found

    def compare(self, id_: str, payload: bytes) -> Standing:
        """How a result stands to the one in force."""
        before = self.gone.pop(id_, None)
        if before is None:
            return "new"
        return "same" if before == payload or _alike(_decoded(before), _decoded(payload)) else "changed"


def _decoded(payload: bytes) -> Any:
    return msgspec.json.decode(payload)


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(value, other[name]) for name, value in one.items())
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=TOLERANCE)
    return type(one) is type(other) and bool(one == other)
