"""`millstream state`: the windows that a query has open."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from millstream.cli import output
from millstream.cli.backtesting import chosen
from millstream.cli.lines import payload_text
from millstream.cli.place import load_settings, open_log
from millstream.clock import SystemClock
from millstream.event_json import payload_member

if TYPE_CHECKING:
    from millstream.engine import WindowPlan
    from millstream.settings import Settings


def state(
    reference: str, name: str, key: str | None, limit: int, json: bool, data: Path | None, config: Path | None
) -> None:
    """Print the open windows of a query."""
    from millstream.app import load_app

    (plan,) = chosen(load_app(reference).plan(), [name])
    asyncio.run(_show(load_settings(config, data=data), plan, key, limit, json))


async def _show(settings: Settings, plan: WindowPlan, key: str | None, limit: int, json: bool) -> None:
    import msgspec

    from millstream.worker.open_windows import open_windows

    rows: list[tuple[int, str, str]] = []
    windows = chunks = size = 0
    async with open_log(settings) as log:
        async for opened in open_windows(log, plan, SystemClock()):
            chunks, size = chunks + opened.chunks, size + opened.size
            if opened.results is None:
                continue
            columns = (opened.results.column(column).to_pylist() for column in ("key", "data"))
            for of, payload in zip(*columns, strict=True):
                if key is not None and of != key:
                    continue
                windows += 1
                if json:
                    row = {"query": plan.name, "partition": opened.partition, "key": of, **payload_member(payload)}
                    output.write_line(msgspec.json.encode(row).decode())
                elif len(rows) < limit:
                    rows.append((opened.partition, of, payload_text(payload)))
    if not json:
        facts = {
            "query": plan.name,
            "open windows": windows if key is None else f"{windows:,} of key {key!r}",
            "saved state": f"{size:,} bytes in {chunks:,} chunks",
        }
        title = f"{len(rows):,} of {windows:,} windows, as they are so far"
        tables = [output.make_table(title, ("partition", "key", "result"), rows)] if rows else []
        output.show_tables(output.make_facts(facts), *tables)
