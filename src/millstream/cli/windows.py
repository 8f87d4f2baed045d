"""What only the application can tell of an event: whether a handler takes its topic, and which results of queries it
went into. Its windows are computed by the real engine, from this event alone, and their results are looked for where
the queries publish them; those of a join say themselves which events they are of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pyarrow.compute as pc

from millstream.app import App
from millstream.clock import to_micros
from millstream.event import Batch, Event, Tick, placed, to_columns
from millstream.ledger.names import SKIPPED
from millstream.ledger.scan import batches, ranges, time_of
from millstream.ledger.trace import COMPLETED, Copy, Outcome
from millstream.log import Log, Router
from millstream.topic import filter_matches

if TYPE_CHECKING:
    from millstream.engine import Step, WindowPlan
    from millstream.engine.plan import Join


class Result(msgspec.Struct, frozen=True):
    """What a query made of an event: the result's id and position (None: there is none), and why."""

    query: str
    id: str | None
    position: str | None
    why: str | None


async def results(log: Log, app: App, copies: Sequence[Copy]) -> list[Result]:
    """The results of an application's queries that an event went into."""
    from millstream.engine import processor_of
    from millstream.engine.looped import LoopedQuery
    from millstream.worker.references import histories_of, versions_for

    histories = histories_of(log, app.references)
    found: list[Result] = []
    for plan in app.plan().values():
        for copy in copies:
            state = next((outcome.state for outcome in copy.outcomes if outcome.group == plan.name), None)
            if copy.event.stream not in plan.streams or state is None:
                continue
            if state == COMPLETED and plan.join is not None:
                found += await _pairs_with(log, plan, plan.join, copy.event)
            elif state == COMPLETED and plan.counts is not None:
                why = f"if it counts, in which {plan.counts.title} follows from the events before it"
                found.append(Result(plan.name, None, None, why))
            elif state == COMPLETED:
                where = None if plan.lookbacks else plan.where  # which may depend on events before
                alone = replace(plan, having=None, early=0, where=where, sources=1 if plan.regroups else 0)
                processor = LoopedQuery(alone) if plan.regroups else processor_of(alone)
                batches = [replace(_alone(copy.event), partition=0)]
                processor.restore(0, {})
                versions = await versions_for(plan.lookups, histories, batches)
                if versions is not None:
                    processor.refer(versions)
                found += await _results_of(log, plan, processor.step(batches), copy.event)
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
        return [Result(plan.name, None, None, "its WHERE leaves the event out, or a JOIN that finds nothing")]
    if step.rejected:
        return [Result(plan.name, None, None, step.rejected[0].reason)]
    if step.outputs is None:
        return []
    windows = zip(step.outputs.column("id").to_pylist(), step.outputs.column("key").to_pylist(), strict=True)
    return [await _find(log, plan, id_, key, event) for id_, key in windows]


async def _pairs_with(log: Log, plan: WindowPlan, join: Join, event: Event) -> list[Result]:
    """The results of a join that an event is of, on whichever side."""
    one, left = f"{event.stream}:{event.partition}:{event.offset}", f"{plan.name}:{join.left.stream}:{event.partition}"
    found: dict[str, Result] = {}
    async for name, partition, batch in _published(log, plan, event.key, event):
        ids = batch.events.column("id")
        is_left = pc.starts_with(ids, f"{plan.name}:{one}:")
        is_right = pc.and_(pc.starts_with(ids, f"{left}:"), pc.ends_with(ids, f":{join.right.stream}:{event.offset}"))
        is_of_it = pc.or_(is_left, is_right if event.stream == join.right.stream else False)
        mine = batch.events.filter(pc.and_(pc.equal(batch.events.column("type"), plan.name), is_of_it))
        places = zip(mine.column("id").to_pylist(), mine.column("offset").to_pylist(), strict=True)
        for id_, offset in places:
            found.setdefault(id_, Result(plan.name, id_, f"{name}:{partition}:{offset}", None))
    why = "none was published: it waits, it is late or left out, nothing belongs to it, or the result is gone"
    return list(found.values()) or [Result(plan.name, None, None, why)]


async def _published(
    log: Log, plan: WindowPlan, key: str | None, event: Event
) -> AsyncIterator[tuple[str, int, Batch]]:
    """What was published for a key since an event came: in the stream of the results, and wherever else it is."""
    targets = Router((await log.streams()).values()).route(plan.into, key)
    for name, partition, _ in sorted(targets, key=lambda target: target.stream != plan.into):
        for piece in await ranges(log, name, to_micros(time_of(event))):
            if piece.partition == partition:
                async for batch in batches(log, piece):
                    yield name, partition, batch


async def _find(log: Log, plan: WindowPlan, id_: str, key: str, event: Event) -> Result:
    """The result of a window, among what was published since the event came."""
    async for name, partition, batch in _published(log, plan, key, event):
        hits = pc.index(batch.events.column("id"), id_).as_py()
        if hits >= 0:
            offset = batch.events.column("offset")[hits].as_py()
            return Result(plan.name, id_, f"{name}:{partition}:{offset}", None)
    return Result(
        plan.name, id_, None, "none was published: the window is open, a condition left it out, or it is gone"
    )


def _alone(event: Event) -> Batch:
    """An event, and nothing after it for so long that its window closes."""
    from millstream.engine.silence import LONG

    assert event.stream is not None, "it was read from a stream"
    micros = to_micros(time_of(event))
    columns = placed(to_columns([event]), [event.offset], [micros])
    after = event.offset + 1
    return Batch(event.stream, event.partition, columns, after + 1, (Tick(after, micros + LONG),))
