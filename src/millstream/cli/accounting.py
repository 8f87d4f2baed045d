"""`millstream ledger`: where everything ended, whether it balances, and what was set aside."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from millstream.cli import output
from millstream.cli.lines import payload_text
from millstream.cli.moments import parse_since
from millstream.cli.place import load_settings, open_log
from millstream.clock import SystemClock, to_micros, to_text
from millstream.event_json import payload_member

if TYPE_CHECKING:
    from rich.table import Table

    from millstream.ledger.report import Report
    from millstream.settings import Settings

UNBALANCED = 1


def ledger(since: str | None, traces: int, json: bool, data: Path | None, config: Path | None) -> int:
    """Print the ledger of a data folder; the exit code says whether the counts balance."""
    moment = parse_since(since, SystemClock())
    found = asyncio.run(_read(load_settings(config, data=data), moment, traces))
    _write_json(found) if json else _show(found)
    return 0 if found.balanced else UNBALANCED


async def _read(settings: Settings, since: datetime | None, traces: int) -> Report:
    from millstream.ledger.report import report

    async with open_log(settings) as log:
        return await report(log, since, traces)


def _write_json(found: Report) -> None:
    import msgspec

    row = msgspec.to_builtins(found, builtin_types=(datetime, bytes))
    for trace in row["traces"]:
        trace.update(payload_member(trace.pop("payload")))
    output.write_json(row)


def _show(found: Report) -> None:
    when = f" since {_time(found.since)}" if found.since is not None else ""
    tables = [_gateway(found), _streams(found), _groups(found), _balances(found)]
    asides = (_dead_letters(found, when), _late(found, when), _traces(found, when))
    output.show_tables(*tables, *(table for table in asides if table is not None))


def _gateway(found: Report) -> Table:
    its = found.gateway
    columns = ("received", "committed", "duplicates", "pub/sub only", "rejected")
    row = (its.received, its.committed, its.duplicates, its.transient, _words(its.rejected) or 0)
    return output.make_table("Gateway", columns, [row])


def _streams(found: Report) -> Table:
    return output.make_table(
        "Streams",
        ("stream", "events", "there now", "dropped by retention", "from"),
        [(one.stream, one.events, one.held, one.dropped, _words(_named(one.sources))) for one in found.streams],
    )


def _groups(found: Report) -> Table:
    return output.make_table(
        "Groups",
        ("group", "reads", "read", "ended", "lag", "beside it"),
        [
            (one.group, ", ".join(one.streams) or None, one.read, _words(one.outcomes), one.lag, _words(one.notes))
            for one in found.groups
        ],
    )


def _balances(found: Report) -> Table:
    wrong = [(row.text,) for row in found.balances if not row.holds]
    if wrong:
        return output.make_table("These counts do not balance: please report it", ("what",), wrong)
    return output.make_facts({"All counts balance": f"{len(found.balances)} equations hold"})


def _dead_letters(found: Report, when: str) -> Table | None:
    rows = [
        (one.group, one.kind, one.events, one.open, _time(one.first), _time(one.last), one.letter, one.why)
        for one in found.dead_letters
    ]
    columns = ("group", "kind", "letters", "open", "first", "last", "the last one", "why")
    return output.make_table(f"Dead letters{when}", columns, rows) if rows else None


def _late(found: Report, when: str) -> Table | None:
    rows = [(one.group, one.stream, one.events, _time(one.first), _time(one.last)) for one in found.late]
    columns = ("query", "kept in", "events", "first", "last")
    return output.make_table(f"Late events{when}", columns, rows) if rows else None


def _traces(found: Report, when: str) -> Table | None:
    rows = [
        (_time(one.time), one.reason, one.client or None, one.topic or None, one.text, payload_text(one.payload[:40]))
        for one in found.traces
    ]
    columns = ("time", "reason", "client", "topic", "what it was told", "begins")
    return output.make_table(f"Rejected{when}, a sample", columns, rows) if rows else None


def _named(sources: Mapping[str, int]) -> Mapping[str, int]:
    return {name or "directly": n for name, n in sources.items()}


def _words(counts: Mapping[str, int]) -> str | None:
    return ", ".join(f"{name} {n}" for name, n in counts.items()) or None


def _time(moment: datetime) -> str:
    return to_text(to_micros(moment))
