"""Results of a query beside those of the version in force, as `backtest` and `shadow` show them."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

import msgspec

from millstream.cli import output
from millstream.cli.lines import payload_text
from millstream.event_json import payload_member

if TYPE_CHECKING:
    from rich.table import Table

    from millstream.worker.in_force import InForce, Standing

_ORDER: tuple[Standing, ...] = ("same", "changed", "new", "gone")


class Result(msgspec.Struct, frozen=True):
    """How it stands to the version in force (None: there is nothing to compare), its key, id and payload, and the
    payload in force where that is another one."""

    standing: str | None
    key: str | None
    id: str
    payload: bytes
    before: bytes | None = None


class Comparison:
    """Compares results with those `in_force` (None: they are too many). It writes each as a JSON line if `json`, and
    keeps the last `limit`; with `different` only those that are not the same."""

    def __init__(
        self, query: str, in_force: InForce | None, *, json: bool, limit: int, different: bool = False
    ) -> None:
        self.standings: Counter[str | None] = Counter()
        self._query = query
        self._in_force = in_force
        self._json = json
        self._different = different
        self._last: deque[Result] = deque(maxlen=limit)

    def add(self, key: str | None, id_: str, payload: bytes) -> None:
        """A result of the query."""
        if self._in_force is None:
            self._take(Result(None, key, id_, payload))
            return
        standing, before = self._in_force.compare(self._query, id_, payload)
        self._take(Result(standing, key, id_, payload, before if standing == "changed" else None))

    def end(self) -> None:
        """There are no more: what is in force and was not found is gone."""
        if self._in_force is not None:
            for rest, payload in self._in_force.gone.items():
                self._take(Result("gone", None, f"{self._in_force.name}:{rest}", payload))

    @property
    def count(self) -> int:
        """How many results there were."""
        return self.standings.total() - self.standings["gone"]

    def words(self) -> str:
        """How the results stand to those in force, in a line."""
        if self._in_force is None:
            return "too many results to compare; choose a shorter span of time"
        if not self._in_force.count:
            return "has published nothing in this time"
        parts = (f"{name} {self.standings[name]:,}" for name in _ORDER if self.standings[name])
        return f"published {self._in_force.count:,}: {', '.join(parts)}"

    def tables(self) -> list[Table]:
        """The last results."""
        if not self._last:
            return []
        has_before = any(result.before is not None for result in self._last)
        columns = ("is", "key", "result", *(("was",) if has_before else ()))
        rows = [
            (result.standing, result.key, payload_text(result.payload), _text(result.before))[: len(columns)]
            for result in self._last
        ]
        kind = "differences" if self._different else "results"
        total = self.standings.total() - (self.standings["same"] if self._different else 0)
        return [output.make_table(f"{len(rows)} of {total:,} {kind}", columns, rows)]

    def _take(self, result: Result) -> None:
        self.standings[result.standing] += 1
        if self._different and result.standing == "same":
            return
        if self._json:
            self._write(result)
        self._last.append(result)

    def _write(self, result: Result) -> None:
        row = {"query": self._query, "standing": result.standing, "key": result.key, "id": result.id}
        before = {} if result.before is None else {"before": payload_member(result.before)}
        output.write_line(msgspec.json.encode({**row, **payload_member(result.payload), **before}).decode())


def _text(payload: bytes | None) -> str | None:
    return None if payload is None else payload_text(payload)
