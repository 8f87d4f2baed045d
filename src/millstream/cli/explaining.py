"""`millstream explain`: what happened to one event."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from millstream.cli import output
from millstream.cli.lines import payload_text
from millstream.cli.moments import parse_since
from millstream.cli.place import load_settings, open_log
from millstream.clock import SystemClock, to_micros, to_text
from millstream.errors import MillstreamError
from millstream.event import Event
from millstream.event_json import payload_member

if TYPE_CHECKING:
    from rich.table import Table

    from millstream.app import App
    from millstream.cli.windows import Result
    from millstream.ledger.trace import Trace
    from millstream.log import Log
    from millstream.settings import Settings

_HANDLERS = "not known: what a handler publishes does not say what it was made of"
_SHOWN = 2_000  # characters of a payload


class Explanation(msgspec.Struct):
    """The way of an event, and the windows that it is in (None: nobody told the application)."""

    trace: Trace
    results: Sequence[Result] | None


def explain(what: str, since: str | None, app: str | None, json: bool, data: Path | None, config: Path | None) -> None:
    """Print the way of the events of an id, or of the one at a position."""
    from millstream.app import load_app

    application = load_app(app) if app is not None else None
    settings = load_settings(config, data=data)
    moment = parse_since(since, SystemClock())
    found = asyncio.run(_explain(settings, what, None if moment is None else to_micros(moment), application))
    if json:
        output.write_json([_row(one) for one in found])
        return
    for one in found:
        output.show_tables(*_tables(one))


async def _explain(settings: Settings, what: str, since: int | None, app: App | None) -> list[Explanation]:
    from millstream.ledger.trace import find, trace

    async with open_log(settings) as log:
        with output.progress("looking at", "records") as progress:
            events = await find(log, what, since, progress)
        if not events:
            raise MillstreamError(await _why_not(log, what, since))
        traces = [await trace(log, event) for event in events]
        if app is None:
            return [Explanation(one, None) for one in traces]
        from millstream.cli.windows import results, told_by

        return [
            Explanation(
                msgspec.structs.replace(one, copies=[told_by(app, copy) for copy in one.copies]),
                await results(log, app, one.copies),
            )
            for one in traces
        ]


async def _why_not(log: Log, what: str, since: int | None) -> str:
    stream, _, rest = what.partition(":")
    partition, _, offset = rest.partition(":")
    spec = (await log.streams()).get(stream)
    if spec is not None and partition.isdecimal() and offset.isdecimal() and int(partition) < spec.partitions:
        bounds = await log.bounds(stream, int(partition))
        if int(offset) < bounds.first:
            return f"{what} is gone: retention has dropped everything before offset {bounds.first}"
        if int(offset) >= bounds.next:
            return f"nothing is at {what} yet: the partition ends at offset {bounds.next}"
        return f"at {what} is no event but a tick, by which the log tells the time"
    where = "any stream" if since is None else f"any stream since {to_text(since)}"
    return f"no event with the id {what!r} is in {where}; a position is written STREAM:PARTITION:OFFSET"


def _row(one: Explanation) -> dict[str, Any]:
    event = one.trace.event
    return {
        "time": event.time,
        "topic": event.topic,
        "key": event.key,
        "id": event.id,
        "type": event.type,
        "content_type": event.content_type,
        "headers": event.headers,
        **payload_member(event.payload),
        "copies": [{"position": copy.event.position, "outcomes": copy.outcomes} for copy in one.trace.copies],
        "made_from": one.trace.made_from,
        "sent_again": one.trace.sent_again,
        "results": one.results,
    }


def _tables(one: Explanation) -> list[Table]:
    rows: list[tuple[str | None, ...]] = [
        (copy.event.position, outcome.group, outcome.state, outcome.why, outcome.kept)
        for copy in one.trace.copies
        for outcome in copy.outcomes
    ]
    alone = [copy.event.position for copy in one.trace.copies if not copy.outcomes]
    rows += [(position, None, "nobody reads it", None, None) for position in alone]
    columns = ("stands at", "group", "became", "why", "kept at")
    return [_arrival(one.trace), output.make_table("What became of it", columns, rows), _results(one)]


def _arrival(trace: Trace) -> Table:
    event = trace.event
    facts = {
        "arrived": to_text(to_micros(event.time)) if event.time is not None else None,
        "topic": event.topic,
        "key": event.key,
        "id": event.id,
        "type": event.type,
        "content type": event.content_type,
        **event.headers,
        "payload": _payload(event),
        "made from": trace.made_from,
        "sent again as": ", ".join(trace.sent_again) or None,
    }
    return output.make_facts({name: value for name, value in facts.items() if value is not None})


def _payload(event: Event) -> str:
    more = len(event.payload) - _SHOWN
    text = payload_text(event.payload[:_SHOWN])
    return text if more <= 0 else f"{text} … and {more} more bytes"


def _results(one: Explanation) -> Table:
    if one.results is None:
        known = "not known without the application: name it with --app"
    elif not one.results:
        known = "no query of the application reads it"
    else:
        rows = [(result.query, result.id, result.position, result.why) for result in one.results]
        return output.make_table("Results of queries", ("query", "result", "stands at", "why"), rows)
    return output.make_facts({"results of queries": known, "results of handlers": _HANDLERS})
