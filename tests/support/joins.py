"""A join of events with events by definition: what each event finds when it comes, one record of a stream at a time;
the pairs, and what stays alone, by SQL over everything. And logs to run against it.

It shares nothing with the engine but DuckDB's arithmetic.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
from hypothesis import strategies as st
from tests.support.windows import START, Record, Sent, Ticked, reading

from millstream.clock import SECOND, Micros

_AHEAD: Micros = 300 * SECOND
_DAY: Micros = 86_400 * SECOND
_EVENTS = pa.schema(
    [
        ("stream", pa.string()),
        ("place", pa.int64()),
        ("partition", pa.int64()),
        ("key", pa.string()),
        ("arrival", pa.int64()),
        ("time", pa.int64()),
        ("v", pa.int64()),
        ("kind", pa.string()),
        ("late", pa.bool_()),
        ("begun", pa.int64()),  # when its key began to speak
        ("closed", pa.int64()),  # up to where time is closed from it on
    ]
)


@dataclass(slots=True)
class _Clock:
    high: Micros
    seen: Micros
    begun: Micros


@dataclass(slots=True)
class JoinOracle:
    """`SELECT a.device, a.v, b.v AS w, System.Timestamp() AS t FROM … a [LEFT] JOIN … b ON a.device = b.device AND
    DATEDIFF(second, a, b) BETWEEN low AND high AND a.v <= b.v WHERE a.kind = 'x'`, with `b.kind = 'y'` in ON. Both are
    of one stream, or of two."""

    low: int
    high: int
    grace: Micros
    idle: Micros
    wanted: dict[str, str] = field(default_factory=dict)
    """What kinds of events are of a side, by stream."""

    clocks: dict[tuple[str, int, str], _Clock] = field(default_factory=dict)
    now: dict[tuple[str, int], Micros] = field(default_factory=dict)
    events: list[tuple[Any, ...]] = field(default_factory=list)
    rejected: int = 0
    clamped: int = 0

    @property
    def silence(self) -> Micros:
        return max(self.high, -self.low, 0) * SECOND + self.idle

    def feed(self, log: Sequence[Record], stream: str = "telemetry", kinds: str = "xy") -> None:
        """Process the whole log of a stream."""
        self.wanted[stream] = kinds
        for place, record in enumerate(log):
            self.now[stream, record.partition] = START + round(record.seconds * SECOND)
            if not isinstance(record, Ticked):
                self._event(stream, place, record)

    def _event(self, stream: str, place: int, record: Any) -> None:
        try:
            payload = json.loads(record.payload.decode())
            told = datetime.fromisoformat(payload["ts"])
        except (ValueError, KeyError, TypeError):
            self.rejected += 1
            return
        arrival = START + round(record.seconds * SECOND)
        time = (told - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)
        if time > arrival + _AHEAD:
            time, self.clamped = arrival + _AHEAD, self.clamped + 1
        name = (stream, record.partition, record.key)
        clock = self.clocks.get(name)
        if clock is None or arrival - clock.seen >= _DAY + self.silence:
            clock = self.clocks[name] = _Clock(time, arrival, arrival)
            late = False
        else:
            late = time < clock.high - self.grace
            if arrival - clock.seen >= self.silence:
                clock.begun = arrival
        clock.high, clock.seen = max(clock.high, time), arrival
        kind, v = payload.get("kind"), payload.get("v")
        late = late and kind is not None and kind in self.wanted[stream]
        closed = clock.high - self.grace - 1
        self.events.append(
            (stream, place, record.partition, record.key, arrival, time, v, kind, late, clock.begun, closed)
        )

    def results(self, optional: bool) -> dict[str, list[tuple[int | None, int | None, Micros]]]:
        """What must have come out, for each key in the order in which it does if both sides are of one stream."""
        if not self.events:
            return {}
        rows = list(zip(*self.events, strict=True))
        events = pa.table([pa.array(c, f.type) for c, f in zip(rows, _EVENTS, strict=True)], schema=_EVENTS)
        left, *others = self.wanted
        right = others[0] if others else left
        now = {"partition": [0, 1], "now": [self.now.get((right, partition), 0) for partition in (0, 1)]}
        low, high = self.low * SECOND, self.high * SECOND
        with duckdb.connect() as connection:
            connection.register("events", events)
            connection.register("times", pa.table(now))
            connection.execute(
                f"""
                CREATE VIEW a AS SELECT * FROM events WHERE stream = '{left}' AND kind = 'x' AND NOT late;
                CREATE VIEW b AS SELECT * FROM events WHERE stream = '{right}';
                CREATE VIEW pairs AS
                    SELECT a.key, a.v, b.v AS w, greatest(a.time, b.time) AS t, greatest(a.place, b.place) AS came,
                           1 AS phase, a.place AS one, b.place AS other
                    FROM a JOIN b ON a.key = b.key AND a.partition = b.partition AND b.kind = 'y' AND NOT b.late
                         AND b.time BETWEEN a.time + {low} AND a.time + {high} AND a.v <= b.v
                         AND a.begun - b.arrival < {self.silence} AND b.begun - a.arrival < {self.silence};
                CREATE VIEW ends AS
                    SELECT a.place AS one, b.place AS came, 2 AS phase FROM a JOIN b
                    ON a.key = b.key AND b.closed >= a.time + {high} AND b.arrival > a.arrival - {_DAY}
                    UNION ALL
                    SELECT a.place, b.place, 0 FROM a JOIN b
                    ON a.key = b.key AND b.begun - a.arrival >= {self.silence}
                    UNION ALL
                    SELECT a.place, {1 << 40}, 0 FROM a JOIN times ON times.partition = a.partition
                    WHERE times.now >= greatest(
                        a.arrival, (SELECT coalesce(max(b.arrival), 0) FROM b WHERE b.key = a.key)
                    ) + {self.silence};
                CREATE VIEW alone AS
                    SELECT a.key, a.v, NULL, a.time + {high}, greatest(a.place, e.came),
                           CASE WHEN e.came < a.place THEN 2 ELSE e.phase END, a.place, -1
                    FROM a JOIN (
                        SELECT one, min(came) AS came, arg_min(phase, came) AS phase FROM ends GROUP BY one
                    ) e ON e.one = a.place
                    WHERE NOT EXISTS (SELECT 1 FROM pairs p WHERE p.one = a.place)"""
            )
            text = "SELECT * FROM pairs UNION ALL SELECT * FROM alone" if optional else "SELECT * FROM pairs"
            order = "came, phase, CASE WHEN other < 0 AND came > one THEN t END, one, other"
            found: dict[str, list[tuple[int | None, int | None, Micros]]] = {}
            for key, v, w, t, *_ in connection.execute(f"{text} ORDER BY {order}").fetchall():
                found.setdefault(key, []).append((v, w, t))
        return found

    def counts(self) -> dict[str, int]:
        wanted = [event for event in self.events if event[7] is not None and event[7] in self.wanted[event[0]]]
        late = sum(event[8] for event in self.events)
        return {
            "processed": len(wanted) - late,
            "filtered": len(self.events) - len(wanted),
            "late": late,
            "rejected": self.rejected,
        }


NAMES = {0: "cd", 1: "ab"}
BAD = [b"", b"{", b"[1]", b"\xff", b'{"kind":"x"}', b'{"ts":"soon","kind":"x"}']

gaps = st.sampled_from([0, 0, 0.1, 0.5, 1, 3, 8, 12, 25])
delays = st.sampled_from([0, 0, 0, 0, 0.2, 1, 4, 11, 14, 22, -30, 60])
values = st.one_of(st.none(), st.integers(0, 3))


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    """Two partitions; arrivals and ticks go on; events are delayed and doubled, some payloads are bad."""
    now = {0: 0.0, 1: 0.0}
    log: list[Record] = []
    for kind in draw(st.lists(st.integers(0, 19), min_size=1, max_size=40)):
        partition = draw(st.integers(0, 1))
        now[partition] += draw(gaps)
        key = draw(st.sampled_from(NAMES[partition]))
        if kind <= 3:
            log.append(Ticked(now[partition], partition))
        elif kind == 4:
            log.append(Sent(key, now[partition], draw(st.sampled_from(BAD)), partition))
        else:
            seconds = now[partition] - draw(delays) + (400 if kind == 5 else 0)
            sent = reading(key, seconds, now[partition], v=draw(values), kind=draw(st.sampled_from("xxyyz")))
            record = Sent(sent.key, sent.seconds, sent.payload, partition, sent.topic)
            log += [record] * (2 if kind == 6 else 1)
    return log


@st.composite
def dense(draw: st.DrawFn) -> list[Record]:
    """One device, whose events are near each other and come in order but for some: there are many pairs."""
    now, log = 0.0, list[Record]()
    for kind in draw(st.lists(st.integers(0, 9), min_size=3, max_size=25)):
        now += draw(st.sampled_from([0, 0.5, 1, 2, 12, 30]))
        if kind == 0:
            log.append(Ticked(now))
        else:
            seconds = now - draw(st.sampled_from([0, 0, 0, 1, 3]))
            log.append(reading("c", seconds, now, v=draw(st.integers(0, 1)), kind="x" if kind < 5 else "y"))
    return log
