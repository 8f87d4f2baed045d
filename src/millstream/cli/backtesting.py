"""`millstream backtest`: what queries would have raised over what is stored."""

from __future__ import annotations

import asyncio
import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from millstream.cli import output
from millstream.cli.comparing import Comparison
from millstream.cli.moments import parse_since
from millstream.cli.place import load_settings, open_log
from millstream.clock import SystemClock, to_micros, to_text
from millstream.errors import SettingsError
from millstream.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

    from millstream.app import App
    from millstream.engine import WindowPlan
    from millstream.log import Log
    from millstream.worker.backtest import Span
    from millstream.worker.references import Histories


class Report(NamedTuple):
    """What one query came to."""

    plan: WindowPlan
    events: int
    seconds: float
    counts: Counter[str]
    comparison: Comparison


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

    app = load_app(reference)
    plans = chosen(app.plan(), names)
    clock = SystemClock()
    since = None if start == "earliest" else parse_since(start, clock, "--from")
    until = parse_since(end, clock, "--to")
    span = Span(None if since is None else to_micros(since), clock.now() if until is None else to_micros(until))
    if span.since is not None and span.since >= span.until:
        raise SettingsError(f"--from {start} is not before --to {end or 'now'}")
    reports = asyncio.run(_run(load_settings(config, data=data), app, plans, span, limit, json))
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


async def _run(
    settings: Settings, app: App, plans: Sequence[WindowPlan], span: Span, limit: int, json: bool
) -> list[Report]:
    from millstream.worker.references import histories_of

    async with open_log(settings) as log:
        histories = histories_of(log, app.references)
        return [await _run_one(log, plan, span, histories, limit, json) for plan in plans]


async def _run_one(log: Log, plan: WindowPlan, span: Span, histories: Histories, limit: int, json: bool) -> Report:
    from millstream.worker.backtest import Backtest
    from millstream.worker.in_force import InForce

    in_force = await InForce.read(log, plan.into, plan.name, span.since, span.until)
    comparison = Comparison(plan.name, in_force, json=json, limit=limit)
    test = Backtest(log, replace(plan, early=0), span, histories)  # only final results are in force
    began = SystemClock().monotonic()
    with output.progress(plan.name, "records") as progress:
        async for outputs in test.run(progress):
            columns = (outputs.column(name).to_pylist() for name in ("key", "id", "data"))
            for key, id_, payload in zip(*columns, strict=True):
                comparison.add(key, id_, payload)
    seconds = SystemClock().monotonic() - began
    comparison.end()
    return Report(plan, test.events, seconds, test.counts, comparison)


def _tables(report: Report, span: Span) -> list[Table]:
    since = "the first event" if span.since is None else to_text(span.since)
    rate = f", {report.events / report.seconds:,.0f} a second" if report.events and report.seconds else ""
    return [
        output.make_facts(
            {
                "query": report.plan.name,
                "reads": f"{' and '.join(report.plan.streams)}, from {since} to {to_text(span.until)}",
                "events": f"{report.events:,} in {report.seconds:.1f} s{rate}",
                "became": ", ".join(f"{name} {n:,}" for name, n in report.counts.items() if n) or "nothing",
                "results": report.comparison.count,
                "in force": report.comparison.words(),
            }
        ),
        *report.comparison.tables(),
    ]
