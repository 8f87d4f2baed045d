"""`millstream backtest`: what queries would have raised over what is stored."""

from __future__ import annotations

import asyncio
import difflib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from millstream.cli import output
from millstream.cli.lines import payload_text
from millstream.cli.moments import parse_since
from millstream.cli.place import load_settings, open_log
from millstream.clock import SystemClock, to_micros, to_text
from millstream.errors import SettingsError
from millstream.event_json import payload_member

if TYPE_CHECKING:
    from rich.table import Table

    from millstream.engine import WindowPlan
    from millstream.log import Log
    from millstream.worker.backtest import Backtest, Span
    from millstream.worker.in_force import InForce


class Result(NamedTuple):
    """A result: how it stands to the version in force (None: there is nothing to compare), its key, id and payload."""

    standing: str | None
    key: str
    id: str
    payload: bytes


class Report(NamedTuple):
    """What one query came to. `in_force` is how many results the version in force has published (None: too many)."""

    plan: WindowPlan
    events: int
    seconds: float
    counts: Counter[str]
    standings: Counter[str | None]
    in_force: int | None
    last: Sequence[Result]


def backtest(
    reference: str,
    names: Sequence[str],
    start: str | None,
    end: str | None,
    limit: int,
    json: bool,
    data: Path | None,
    config: Path | None,
) -> None:
    """Run queries over a span of their streams."""
    from millstream.app import load_app
    from millstream.worker.backtest import Span

    plans = chosen(load_app(reference).plan(), names)
    clock = SystemClock()
    since = None if start == "earliest" else parse_since(start, clock, "--from")
    until = parse_since(end, clock, "--to")
    span = Span(None if since is None else to_micros(since), clock.now() if until is None else to_micros(until))
    if span.since is not None and span.since >= span.until:
        raise SettingsError(f"--from {start} is not before --to {end or 'now'}")
    reports = asyncio.run(_run(load_settings(config, data=data).data, plans, span, limit, json))
    if not json:
        output.show_tables(*(table for report in reports for table in _tables(report, span)))


def chosen(plans: dict[str, WindowPlan], names: Sequence[str]) -> list[WindowPlan]:
    """The plans of these names; without a name, all. `SettingsError` for one that there is not."""
    if not plans:
        raise SettingsError("the application has no query")
    for name in names:
        if name not in plans:
            near = difflib.get_close_matches(name, plans, 1) or sorted(plans)
            raise SettingsError(f"the application has no query {name!r}; did you mean {' or '.join(map(repr, near))}?")
    return [plan for name, plan in plans.items() if not names or name in names]


async def _run(folder: Path, plans: Sequence[WindowPlan], span: Span, limit: int, json: bool) -> list[Report]:
    async with open_log(folder) as log:
        return [await _run_one(log, plan, span, limit, json) for plan in plans]


async def _run_one(log: Log, plan: WindowPlan, span: Span, limit: int, json: bool) -> Report:
    from millstream.worker.backtest import Backtest
    from millstream.worker.in_force import InForce

    in_force = await InForce.read(log, plan.into, plan.name, span.since, span.until)
    test = Backtest(log, plan, span)
    last: deque[Result] = deque(maxlen=limit)
    standings: Counter[str | None] = Counter()
    began = SystemClock().monotonic()
    with output.progress(plan.name, "records") as progress:
        async for result in _results(test, in_force, progress):
            standings[result.standing] += 1
            if json:
                _write(plan, result)
            last.append(result)
    seconds = SystemClock().monotonic() - began
    if in_force is not None:
        for id_, payload in in_force.gone.items():
            standings["gone"] += 1
            if json:
                _write(plan, Result("gone", "", id_, payload))
    published = None if in_force is None else in_force.count
    return Report(plan, test.events, seconds, test.counts, standings, published, list(last))


async def _results(
    test: Backtest, in_force: InForce | None, progress: Callable[[int, int | None], None]
) -> AsyncIterator[Result]:
    async for outputs in test.run(progress):
        columns = (outputs.column(name).to_pylist() for name in ("key", "id", "data"))
        for key, id_, payload in zip(*columns, strict=True):
            yield Result(None if in_force is None else in_force.compare(id_, payload), key, id_, payload)


def _write(plan: WindowPlan, result: Result) -> None:
    import msgspec

    row = {"query": plan.name, "standing": result.standing, "key": result.key or None, "id": result.id}
    output.write_line(msgspec.json.encode({**row, **payload_member(result.payload)}).decode())


def _tables(report: Report, span: Span) -> list[Table]:
    since = "the first event" if span.since is None else to_text(span.since)
    rate = f", {report.events / report.seconds:,.0f} a second" if report.events and report.seconds else ""
    found = sum(n for standing, n in report.standings.items() if standing != "gone")
    facts = {
        "query": report.plan.name,
        "reads": f"{report.plan.stream}, from {since} to {to_text(span.until)}",
        "events": f"{report.events:,} in {report.seconds:.1f} s{rate}",
        "became": ", ".join(f"{name} {n:,}" for name, n in report.counts.items() if n) or "nothing",
        "results": found,
        "in force": _in_force(report),
    }
    rows = [(result.standing, result.key, payload_text(result.payload)) for result in report.last]
    title = "Results" if len(rows) == found else f"The last {len(rows)} results"
    return [output.make_facts(facts), *([output.make_table(title, ("is", "key", "result"), rows)] if rows else [])]


def _in_force(report: Report) -> str:
    if report.in_force is None:
        return "too many results to compare; choose a shorter span with --from and --to"
    if not report.in_force:
        return "has published nothing in this time"
    parts = (
        f"{name} {report.standings[name]:,}" for name in ("same", "changed", "new", "gone") if report.standings[name]
    )
    return f"published {report.in_force:,}: {', '.join(parts)}"
