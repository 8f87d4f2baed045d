"""What only the application can tell of an event: whether a handler takes its topic, and which results of queries it
went into. Its windows are computed by the real engine, from this event alone, and
their results are looked for where the queries publish them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from millstream.app import App
from millstream.clock import to_micros
from millstream.event import BATCH_SCHEMA, Batch, Event, Tick, to_columns
from millstream.ledger.names import SKIPPED
from millstream.ledger.scan import batches, ranges, time_of
from millstream.ledger.trace import COMPLETED, Copy, Outcome
from millstream.log import Log, Router
from millstream.topic import filter_matches

if TYPE_CHECKING:
    from millstream.engine import Step, WindowPlan


class Result(msgspec.Struct, frozen=True):
    """What a query made of an event: the result's id and position (None: there is none), and why."""

    query: str
    id: str | None
    position: str | None
    why: str | None


async def results(log: Log, app: App, copies: Sequence[Copy]) -> list[Result]:
    """The results of an application's queries that an event went into."""
    from millstream.engine import processor_of

    found: list[Result] = []
    for plan in app.plan().values():
        for copy in copies:
            state = next((outcome.state for outcome in copy.outcomes if outcome.group == plan.name), None)
            if copy.event.stream != plan.stream or state is None:
                continue
            if state == COMPLETED:
                step = processor_of(replace(plan, having=None)).step([_alone(copy.event)])
                found += await _results_of(log, plan, step, copy.event)
            else:
                found.append(Result(plan.name, None, None, f"it is {state}"))
    return found


def told_by(app: App, copy: Copy) -> Copy:
    """The same, knowing which topics the application's handlers take."""
    passed_by = {
        handler.group
        for handler in app.handlers
        if handler.topics is not None and not filter_matches(handler.topics.mqtt, copy.event.topic)
    }
    outcomes = [
        Outcome(outcome.group, SKIPPED, "its topic is not the handler's")
        if outcome.state == COMPLETED and outcome.group in passed_by
        else outcome
        for outcome in copy.outcomes
    ]
    return Copy(copy.event, outcomes)


async def _results_of(log: Log, plan: WindowPlan, step: Step, event: Event) -> list[Result]:
    if step.counts["filtered"]:
        return [Result(plan.name, None, None, "its WHERE leaves the event out")]
    if step.rejected:
        return [Result(plan.name, None, None, step.rejected[0].reason)]
    if step.outputs is None:
        return []
    windows = zip(step.outputs.column("id").to_pylist(), step.outputs.column("key").to_pylist(), strict=True)
    return [await _find(log, plan, id_, key, event) for id_, key in windows]


async def _find(log: Log, plan: WindowPlan, id_: str, key: str, event: Event) -> Result:
    """The result of a window, among what was published since the event came."""
    targets = Router((await log.streams()).values()).route(plan.into, key)
    for name, partition, _ in sorted(targets, key=lambda target: target.stream != plan.into):
        for piece in await ranges(log, name, to_micros(time_of(event))):
            if piece.partition == partition:
                async for batch in batches(log, piece):
                    hits = pc.index(batch.events.column("id"), id_).as_py()
                    if hits >= 0:
                        offset = batch.events.column("offset")[hits].as_py()
                        return Result(plan.name, id_, f"{name}:{partition}:{offset}", None)
    return Result(plan.name, id_, None, "none was published: the window is open, HAVING left it out, or it is gone")


def _alone(event: Event) -> Batch:
    """An event, and nothing after it for so long that its window closes."""
    from millstream.engine.silence import LONG

    assert event.stream is not None, "it was read from a stream"
    micros = to_micros(time_of(event))
    position = [pa.array([event.offset], pa.int64()), pa.array([micros], pa.timestamp("us", tz="UTC"))]
    columns = pa.RecordBatch.from_arrays([*position, *to_columns([event]).columns], schema=BATCH_SCHEMA)
    after = event.offset + 1
    return Batch(event.stream, event.partition, columns, after + 1, (Tick(after, micros + LONG),))
