"""`millstream streams`, `groups` and `status`: what there is, as tables or as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millstream.cli import output
from millstream.cli.place import load_settings, open_log, server_status
from millstream.clock import to_text
from millstream.errors import LogUnavailableError

if TYPE_CHECKING:
    from rich.table import Table

    from millstream.log import GroupStatus, Log, StreamSpec
    from millstream.settings import Settings

Row = dict[str, Any]


def streams(json: bool, data: Path | None, config: Path | None) -> None:
    """Print the streams of a data folder."""
    rows = asyncio.run(_with_log(load_settings(config, data=data), _streams))
    output.write_json(rows) if json else output.show_tables(_streams_table(rows))


def groups(json: bool, data: Path | None, config: Path | None) -> None:
    """Print the consumer groups of a data folder."""
    rows = asyncio.run(_with_log(load_settings(config, data=data), _groups))
    output.write_json(rows) if json else output.show_tables(_groups_table(rows))


def status(json: bool, data: Path | None, config: Path | None) -> None:
    """Print the server of a data folder, if one runs, its streams and groups."""
    settings = load_settings(config, data=data)
    report = asyncio.run(_status(settings))
    if json:
        output.write_json(report)
        return
    output.show_tables(
        _server_table(settings.data, report["server"]),
        _streams_table(report["streams"]),
        _groups_table(report["groups"]),
    )


async def _with_log(settings: Settings, ask: Callable[[Log], Awaitable[list[Row]]]) -> list[Row]:
    async with open_log(settings) as log:
        return await ask(log)


async def _status(settings: Settings) -> Row:
    server = await server_status(settings.data)
    report: Row = {"data": str(settings.data), "server": {"running": server is not None, **(server or {})}}
    try:
        async with open_log(settings) as log:
            kept = report["server"].pop("state_bytes", {})
            groups = [{**group, "state_bytes": kept.get(group["group"])} for group in await _groups(log)]
            return {**report, "streams": await _streams(log), "groups": groups}
    except LogUnavailableError as error:
        if server is None:
            raise
        output.tell(f"streams and groups are not known: {error}")  # and the server tells how it fares
        return {**report, "streams": [], "groups": []}


async def _streams(log: Log) -> list[Row]:
    return [await _stream(log, spec) for _, spec in sorted((await log.streams()).items())]


async def _stream(log: Log, spec: StreamSpec) -> Row:
    bounds = [await log.bounds(spec.name, partition) for partition in range(spec.partitions)]
    firsts = [bound.first_time for bound in bounds if bound.first_time is not None]
    lasts = [bound.last_time for bound in bounds if bound.last_time is not None]
    return {
        "stream": spec.name,
        "topics": list(spec.topics),
        "key": spec.key,
        "partitions": spec.partitions,
        "events": sum(bound.events for bound in bounds),
        "records": sum(bound.next - bound.first for bound in bounds),  # events and ticks
        "first_time": to_text(min(firsts)) if firsts else None,
        "last_time": to_text(max(lasts)) if lasts else None,
    }


async def _groups(log: Log) -> list[Row]:
    return [_group(status) for status in sorted(await log.groups(), key=lambda status: status.name)]


def _group(status: GroupStatus) -> Row:
    return {
        "group": status.name,
        "members": status.members,
        "lag": sum(status.lag.values()),
        "counts": dict(status.counts),
        "partitions": [
            {
                "stream": stream,
                "partition": partition,
                "position": position.low,
                "lag": status.lag.get((stream, partition), 0),
            }
            for (stream, partition), position in sorted(status.positions.items())
        ],
    }


def _streams_table(rows: list[Row]) -> Table:
    return output.make_table(
        "Streams",
        ("stream", "topics", "key", "parts", "events", "first", "last"),
        [
            (
                row["stream"],
                ", ".join(row["topics"]) or None,
                row["key"] or "topic",
                row["partitions"],
                row["events"],
                _to_the_second(row["first_time"]),
                _to_the_second(row["last_time"]),
            )
            for row in rows
        ],
    )


def _to_the_second(time: str | None) -> str | None:
    """A time that can be broken after its date where there is no room for it."""
    return f"{time[:10]} {time[11:19]}Z" if time is not None else None


def _places(kept: Row | None) -> str | None:
    """What a query keeps, by the place."""
    return ", ".join(f"{place} {size / (1 << 20):.1f} MiB" for place, size in kept.items()) if kept else None


def _groups_table(rows: list[Row]) -> Table:
    has_state = any(row.get("state_bytes") for row in rows)
    return output.make_table(
        "Groups",
        ("group", "reads", "members", "lag", "counts", *(["state"] if has_state else [])),
        [
            (
                row["group"],
                ", ".join(dict.fromkeys(part["stream"] for part in row["partitions"])) or None,
                row["members"],
                row["lag"],
                ", ".join(f"{name} {count}" for name, count in sorted(row["counts"].items())) or None,
                *([_places(row["state_bytes"])] if has_state else []),
            )
            for row in rows
            if not row["group"].startswith("$")  # ours
        ],
    )


def _server_table(folder: Path, server: Row) -> Table:
    if not server["running"]:
        return output.make_facts({"server": f"none runs on {folder} (millstream run --data {folder})"})
    facts = {name: str(server.get(name) or "-") for name in ("mqtt", "http", "pid", "version", "started")}
    facts["log"] = ": ".join(server["log"].values())
    counts = {name: _words(value) for name, value in server["statistics"].items()}
    return output.make_facts({**facts, **counts})


def _words(value: object) -> object:
    """A count as it is; counts by reason as one text."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or 0
    return value
