"""`millstream state`: the windows that a query has open, and what it keeps beside them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from millstream.cli import kept, output, resetting
from millstream.cli.backtesting import chosen
from millstream.cli.keyed import Keyed
from millstream.cli.place import load_settings, open_log
from millstream.cli.resetting import Reader
from millstream.clock import SystemClock
from millstream.errors import SettingsError

if TYPE_CHECKING:
    from millstream.engine import WindowPlan
    from millstream.settings import Settings


def state(
    reference: str,
    name: str,
    key: str | None,
    reset: bool,
    limit: int,
    json: bool,
    data: Path | None,
    config: Path | None,
) -> None:
    """Print the open windows of a query, or what a handler keeps; and have a key begin anew if it is to be `reset`."""
    from millstream.app import load_app

    if reset and key is None:
        raise SettingsError("--reset is for one key; name it with --key")
    app, settings = load_app(reference), load_settings(config, data=data)
    if (handler := kept.keeping(app, name)) is not None:
        asyncio.run(kept.show(settings, handler, key, limit, json))
        reader = Reader(handler.group, handler.stream, None if handler.topics is None else handler.topics.mqtt)
    else:
        (plan,) = chosen(app.plan(), [name])
        if reset and plan.regroups:
            raise SettingsError(
                f"the windows of query {plan.name!r} are of groups that lie across the keys of its stream, so none of "
                "them is one key's to reset; they end as others do"
            )
        asyncio.run(_show(settings, plan, key, limit, json))
        reader = Reader(plan.name, plan.stream, None)
    if reset and key is not None:
        asyncio.run(resetting.reset(settings, reader, key))


async def _show(settings: Settings, plan: WindowPlan, key: str | None, limit: int, json: bool) -> None:
    from millstream.worker.open_windows import open_windows

    rows = Keyed({"query": plan.name}, key, limit, json)
    looked_back_to = chunks = size = 0
    async with open_log(settings) as log:
        async for opened in open_windows(log, plan, SystemClock()):
            looked_back_to, chunks, size = looked_back_to + opened.kept, chunks + opened.chunks, size + opened.size
            if opened.results is not None:
                columns = (opened.results.column(column).to_pylist() for column in ("key", "data"))
                for of, payload in zip(*columns, strict=True):
                    rows.add(opened.partition, of, payload)
    if not json:
        noun = "open windows" if plan.join is None else "events that wait"
        facts = {
            "query": plan.name,
            noun: rows.count if key is None else f"{rows.count:,} of key {key!r}",
            **({"events kept to look back to": looked_back_to} if plan.lookbacks else {}),
            "saved state": f"{size:,} bytes in {chunks:,} chunks",
        }
        tables = rows.tables(f"{noun.removeprefix('open ')}, as they are so far", "result")
        output.show_tables(output.make_facts(facts), *tables)
