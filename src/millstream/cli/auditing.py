"""`millstream audit`: the stream `$audit`, for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from millstream.cli import output
from millstream.cli.lines import text_line
from millstream.cli.output import printable
from millstream.cli.tailing import tail
from millstream.errors import UnknownStreamError
from millstream.event import Event
from millstream.event_json import NO_JSON

_STREAM = "$audit"


def audit(start: str, follow: bool, json: bool, limit: int | None, data: Path | None, config: Path | None) -> None:
    """Print the entries, at most `limit`; with `follow`, for ever."""
    try:
        tail(_STREAM, start, follow, json, limit, data, config, _line)
    except UnknownStreamError:
        output.tell("there is no entry yet")


def _line(event: Event) -> bytes:
    """When, the outcome, who, from where, and what; of who was refused, also why."""
    try:
        its = msgspec.json.decode(event.payload, type=dict[str, Any])
    except NO_JSON:
        return text_line(event)
    who = its.get("by") or "-"
    line = f"{its.get('time')}  {its.get('outcome')}  {who}  {its.get('from') or '-'}  {its.get('action') or '-'}"
    if "reason" in its:
        line += f"  [{its['code']}: {its['reason']}]"
    if "count" in its:
        line += f"  [{its['count']} more]"
    return printable(line).encode()
