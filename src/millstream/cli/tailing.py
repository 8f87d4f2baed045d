"""`millstream tail`: the events of a stream in the order in which they were committed, over all its partitions."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from millstream.cli import output
from millstream.cli.lines import text_line
from millstream.cli.pipe import until_reader_leaves
from millstream.cli.place import load_settings, open_log
from millstream.errors import LogUnavailableError, PositionError, SettingsError
from millstream.event import Event
from millstream.event_json import event_json
from millstream.log import From, Merge, find_positions, parse_from
from millstream.settings import Settings


def tail(
    stream: str,
    start: str,
    follow: bool,
    json: bool,
    limit: int | None,
    data: Path | None,
    config: Path | None,
    text: Callable[[Event], bytes] = text_line,
) -> None:
    """Print the events of a stream, at most `limit`; with `follow`, for ever. `text` writes one for people."""
    settings = load_settings(config, data=data)
    try:
        from_ = parse_from(start)
    except PositionError as error:
        raise SettingsError(f"--from {error}") from None
    printing = _print(Printer(event_json if json else text, limit), settings, stream, from_, follow)
    asyncio.run(until_reader_leaves(printing))


class Printer:
    """Writes lines to standard output until `limit` of them are written."""

    def __init__(self, form: Callable[[Event], bytes], limit: int | None) -> None:
        self._form = form
        self._left = limit

    @property
    def full(self) -> bool:
        return self._left == 0

    def write(self, event: Event) -> None:
        sys.stdout.buffer.write(self._form(event) + b"\n")
        if self._left is not None:
            self._left -= 1

    def flush(self) -> None:
        sys.stdout.buffer.flush()


async def _print(printer: Printer, settings: Settings, stream: str, start: From, follow: bool) -> None:
    positions: dict[int, int] = {}
    while True:
        try:
            async with open_log(settings) as log:
                if not positions:
                    positions = await find_positions(log, stream, start)
                await _print_from(printer, Merge(log, stream, positions), follow)
                return
        except LogUnavailableError:
            if not follow:
                raise
            output.tell("the server has gone; reading on without it")


async def _print_from(printer: Printer, merge: Merge, follow: bool) -> None:
    while True:
        async for event in merge.round():
            printer.write(event)
            if printer.full:
                break
        printer.flush()
        if printer.full or not follow:
            return
        await merge.wait()
