"""`millstream deadletters list` and `show`: the events that could not be processed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from millstream.cli import output
from millstream.cli.lines import payload_text
from millstream.cli.moments import parse_since
from millstream.cli.place import load_settings, open_log
from millstream.clock import SystemClock, to_micros, to_text
from millstream.event import Event
from millstream.event_json import payload_member
from millstream.ledger.cases import Case, Cases, placed
from millstream.ledger.deadletters import Resolution, Wanted, letters, named, resolutions
from millstream.ledger.letter import ID, Letter
from millstream.ledger.scan import time_of
from millstream.topic import check_filter

if TYPE_CHECKING:
    from rich.table import Table

    from millstream.settings import Settings

_SHOWN = 60  # characters of a payload in the list
_GROUPS = 3  # that are named
_FACTS = ("letter", "time", "group", "reason", "error", "attempts", "topic", "key", "id", "position")


def wanted(group: str | None, since: str | None, reason: str | None, topics: str | None) -> Wanted:
    """What the options select."""
    if topics is not None:
        check_filter(topics)
    moment = parse_since(since, SystemClock())
    return Wanted(group, reason, topics, None if moment is None else to_micros(moment))


def show_list(wanted: Wanted, every: bool, limit: int, json: bool, data: Path | None, config: Path | None) -> None:
    """Print the last dead letters that are open, or all of them."""
    found = asyncio.run(_look(load_settings(config, data=data), wanted, every, limit))
    shown = sorted((letter for case in found.cases for letter in case.letters), key=placed)
    if json:
        output.write_json([_row(letter, found.done.get(letter.name)) for letter in shown])
        return
    if not shown:
        output.tell("there are none" if every else "none are open")
        return
    output.show_tables(_table(found.cases))
    if found.total > len(shown):
        output.tell(f"these are the last {len(shown)} of {found.total}; --limit N shows more")


def show(name: str, json: bool, data: Path | None, config: Path | None) -> None:
    """Print a dead letter, or all those of an event."""

    async def look() -> tuple[Sequence[Letter], Mapping[str, Resolution]]:
        async with open_log(load_settings(config, data=data)) as log:
            return await named(log, name), await resolutions(log)

    shown, done = asyncio.run(look())
    if json:
        rows = [_row(letter, done.get(letter.name)) for letter in shown]
        output.write_json(rows if len(rows) > 1 else rows[0])
        return
    cases = Cases(len(shown))
    for letter in shown:
        cases.add(letter, done.get(letter.name))
    output.show_tables(*map(_facts, cases.last()))


class _Found(NamedTuple):
    """The last cases that are wanted, how many letters there are, and what was done about dead letters."""

    cases: Sequence[Case]
    total: int
    done: Mapping[str, Resolution]


async def _look(settings: Settings, wanted: Wanted, every: bool, limit: int) -> _Found:
    cases = Cases(limit)
    count = 0
    async with open_log(settings) as log:
        done = await resolutions(log)
        async for letter in letters(log, wanted):
            if every or letter.name not in done:
                count += 1
                cases.add(letter, done.get(letter.name))
    return _Found(cases.last(), count, done)


def _table(cases: Sequence[Case]) -> Table:
    rows = []
    for case in cases:
        letter = case.letters[-1]
        why, payload = letter.error or letter.reason, payload_text(letter.event.payload[:_SHOWN])
        rows.append((case.name, _time(letter.event), _groups(case), letter.topic, why, payload, _said(case.done)))
    return output.make_table("Dead letters", ("letter", "time", "group", "topic", "why", "payload", "state"), rows)


def _facts(case: Case) -> Table:
    letter = case.letters[-1]
    row = {**_row(letter, None), "letter": case.name, "group": _groups(case)}
    facts = {name: row[name] for name in _FACTS if row[name] is not None}
    facts |= {**letter.headers, "state": _said(case.done), "payload": payload_text(letter.event.payload)}
    return output.make_facts(facts)


def _row(letter: Letter, done: Resolution | None) -> dict[str, Any]:
    event = letter.event
    return {
        "letter": letter.name,
        "time": _time(event),
        "group": letter.group,
        "reason": letter.reason,
        "error": letter.error,
        "attempts": letter.attempts,
        "topic": letter.topic,
        "key": event.key,
        "id": event.headers.get(ID),
        "position": letter.origin,
        "content_type": event.content_type,
        "headers": letter.headers,
        "resolution": done,
        **payload_member(event.payload),
    }


def _groups(case: Case) -> str:
    names = case.groups
    return ", ".join(names if len(names) <= _GROUPS else [*names[:_GROUPS], f"{len(names) - _GROUPS} more"])


def _said(done: Resolution | None) -> str:
    if done is None:
        return "open"
    edited = ", edited" if done.edited else ""
    to = f" to {done.group}{edited}" if done.group is not None else ""
    when = f" at {to_text(to_micros(done.time))}" if done.time is not None else ""
    return f"{done.action}{to}{when}"


def _time(event: Event) -> str:
    return to_text(to_micros(time_of(event)))
