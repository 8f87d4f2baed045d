"""`millstream shadow`: queries that run without effect beside the ones in force, and how they differ."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from millstream.cli import output
from millstream.cli.comparing import Comparison
from millstream.cli.moments import parse_since
from millstream.cli.place import load_settings, open_log
from millstream.clock import Micros, SystemClock, to_micros, to_text
from millstream.errors import SettingsError
from millstream.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

    from millstream.app import App, Query
    from millstream.log import Log


def shadow(
    reference: str, name: str | None, since: str | None, limit: int, json: bool, data: Path | None, config: Path | None
) -> None:
    """Compare what shadows have published with what the queries in force have."""
    from millstream.app import load_app

    clock = SystemClock()
    moment = parse_since(since, clock)
    begin = None if moment is None else to_micros(moment)
    pairs = _pairs(load_app(reference), name)
    settings = load_settings(config, data=data)
    tables = asyncio.run(_compare(settings, pairs, begin, clock.now(), limit, json))
    if not json:
        output.show_tables(*tables)


def _pairs(app: App, name: str | None) -> list[tuple[Query, Query]]:
    """The shadows, and what is in force. `SettingsError` if there are none, or none of that name."""
    app.check()
    by_name = {query.name: query for query in app.queries}
    pairs = [(query, by_name[query.shadow]) for query in app.queries if query.shadow is not None]
    if not pairs:
        raise SettingsError("the application has no shadow; declare one with app.query(…, shadow='NAME')")
    chosen = [pair for pair in pairs if name in (None, pair[0].name)]
    if not chosen:
        known = ", ".join(repr(query.name) for query, _ in pairs)
        raise SettingsError(f"the application has no shadow {name!r}; there is {known}")
    return chosen


async def _compare(
    settings: Settings, pairs: Sequence[tuple[Query, Query]], since: Micros | None, now: Micros, limit: int, json: bool
) -> list[Table]:
    tables: list[Table] = []
    async with open_log(settings) as log:
        for query, force in pairs:
            begin = since if since is not None else await _began(log, query)
            if begin is None:
                raise SettingsError(f"query {query.name!r} has not begun: no worker has run it on this data folder")
            comparison = await _compare_one(log, query, force, begin, now, limit, json)
            facts = {
                "shadow": query.name,
                "in force": f"{force.name}, {comparison.words()}",
                "since": to_text(begin),
                "results": comparison.count,
            }
            tables += [output.make_facts(facts), *comparison.tables()]
    return tables


async def _compare_one(
    log: Log, query: Query, force: Query, since: Micros, until: Micros, limit: int, json: bool
) -> Comparison:
    from millstream.ledger.scan import events
    from millstream.worker.in_force import InForce

    in_force = await InForce.read(log, force.into, force.name, since, until)
    comparison = Comparison(query.name, in_force, json=json, limit=limit, different=True)
    async for event in events(log, query.into, since):
        if event.type == query.name and event.id is not None:
            comparison.add(event.key, event.id, event.payload)
    comparison.end()
    return comparison


async def _began(log: Log, query: Query) -> Micros | None:
    """When the first event came that the query has read; None if it has not begun."""
    account = (await log.accounts()).groups.get(query.name)
    if account is None or not account.starts:
        return None
    firsts = []
    for (stream, partition), offset in account.starts.items():
        batch = await log.read(stream, partition, offset, limit_bytes=1)
        firsts += [to_micros(event.time) for event in batch if event.time is not None]
    return min(firsts, default=0)
