"""`millstream deadletters resend`, `edit` and `drop`: what an operator does about dead letters."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import typer

from millstream.cli import output
from millstream.cli.place import load_settings, open_log
from millstream.errors import DeadLetterError, SettingsError
from millstream.ledger.deadletters import Operator, Wanted, letters, named
from millstream.ledger.letter import Letter
from millstream.ledger.names import DEAD_LETTERS
from millstream.ledger.scan import Range, ranges
from millstream.log import Log
from millstream.settings import Settings

_AT_ONCE = 500  # letters, or so many bytes of payloads, in a transaction
_BYTES_AT_ONCE = 4 << 20


class Chosen(NamedTuple):
    """Which dead letters a command is about: those that are named, or `every` open one that is wanted."""

    names: Sequence[str]
    every: bool
    wanted: Wanted
    yes: bool


class Work(NamedTuple):
    """What to do, and whether it can be done (`DeadLetterError`)."""

    done: str
    act: Callable[[Operator, Sequence[Letter]], Awaitable[None]]
    check: Callable[[Operator, Letter], None] = lambda operator, letter: None


def resend(chosen: Chosen, to: str | None, payload: str | None, data: Path | None, config: Path | None) -> int:
    """Send dead letters again."""
    given = None if payload is None else _read(payload)
    if given is not None and len(chosen.names) != 1:
        raise SettingsError("--payload is for one dead letter, or those of one event; name it")
    resending = Work(
        "sent again",
        lambda operator, some: operator.resend(some, to=to, payload=given),
        lambda operator, letter: operator.check(letter, to),
    )
    return asyncio.run(_resolve(load_settings(config, data=data), chosen, resending))


def edit(name: str, to: str | None, data: Path | None, config: Path | None) -> int:
    """Send a dead letter again with the payload that somebody edits."""
    settings = load_settings(config, data=data)

    async def look() -> bytes:
        async with open_log(settings) as log, Operator.at_work(log) as operator:
            found = await _named(log, operator, name)
            for letter in found:
                operator.check(letter, to)
            return found[0].event.payload

    payload = asyncio.run(look())
    edited = _edit(payload)
    if edited == payload:
        output.tell("nothing was changed, so nothing is sent; to send it as it is: millstream deadletters resend")
        return 0
    resending = Work("sent again", lambda operator, some: operator.resend(some, to=to, payload=edited))
    return asyncio.run(_resolve(settings, Chosen([name], False, Wanted(), True), resending))


def drop(chosen: Chosen, data: Path | None, config: Path | None) -> int:
    """Give dead letters up."""
    dropping = Work("dropped", lambda operator, some: operator.drop(some))
    return asyncio.run(_resolve(load_settings(config, data=data), chosen, dropping))


async def _resolve(settings: Settings, chosen: Chosen, work: Work) -> int:
    if bool(chosen.names) == chosen.every:
        raise SettingsError("name the dead letters (millstream deadletters list shows them), or say --all")
    if chosen.names and chosen.wanted != Wanted():
        raise SettingsError("--group, --since, --reason and --topic select among --all; leave the names out")
    async with open_log(settings) as log, Operator.at_work(log) as operator:
        if chosen.every:
            return await _resolve_all(log, operator, chosen, work)
        found = {one.name: one for name in chosen.names for one in await _named(log, operator, name)}
        await work.act(operator, list(found.values()))
        output.tell(f"{_letters(len(found))} {work.done}")
        return 0


async def _named(log: Log, operator: Operator, name: str) -> Sequence[Letter]:
    """What a name says; of several letters those that are open."""
    found = await named(log, name)
    return found if len(found) == 1 else [letter for letter in found if operator.is_open(letter)] or found[:1]


async def _resolve_all(log: Log, operator: Operator, chosen: Chosen, work: Work) -> int:
    """All that are open now, a transaction after the other; those that cannot be are left and told of."""
    pieces = await ranges(log, DEAD_LETTERS, chosen.wanted.since)
    possible, problem, impossible = 0, "", 0
    async for letter in _open(log, operator, chosen.wanted, pieces):
        try:
            work.check(operator, letter)
            possible += 1
        except DeadLetterError as error:
            problem, impossible = str(error), impossible + 1
    if possible and await _may(f"{_letters(possible)} will be {work.done}. Go on?", chosen.yes):
        with output.progress(work.done, "dead letters") as progress:
            done = 0
            async for some in _portions(_open(log, operator, chosen.wanted, pieces), operator, work):
                await work.act(operator, some)
                done += len(some)
                progress(done, possible)
        output.tell(f"{_letters(done)} {work.done}")
    elif not possible:
        output.tell("there are none that are open")
    if impossible:
        output.tell(f"{_letters(impossible)} cannot be {work.done}, the last one because {problem}")
    return 1 if impossible else 0


async def _open(log: Log, operator: Operator, wanted: Wanted, pieces: Sequence[Range]) -> AsyncIterator[Letter]:
    async for letter in letters(log, wanted, pieces):
        if operator.is_open(letter):
            yield letter


async def _portions(found: AsyncIterator[Letter], operator: Operator, work: Work) -> AsyncIterator[list[Letter]]:
    portion: list[Letter] = []
    size = 0
    async for letter in found:
        try:
            work.check(operator, letter)
        except DeadLetterError:
            continue
        portion.append(letter)
        size += len(letter.event.payload)
        if len(portion) >= _AT_ONCE or size >= _BYTES_AT_ONCE:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


async def _may(question: str, yes: bool) -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        raise SettingsError("nobody is there to be asked; say --yes")
    return await asyncio.to_thread(typer.confirm, question, err=True)


def _letters(count: int) -> str:
    return "1 dead letter" if count == 1 else f"{count} dead letters"


def _read(source: str) -> bytes:
    if source == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise SettingsError(f"--payload {source}: {error.strerror}") from None


def _edit(payload: bytes) -> bytes:
    """What somebody makes of it in an editor."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="millstream-") as folder:
        path = Path(folder) / "payload.json"
        path.write_bytes(payload)
        try:
            code = subprocess.run([*shlex.split(editor), str(path)], check=False).returncode  # noqa: S603 (the user's)
        except OSError as error:
            raise SettingsError(f"the editor {editor!r} cannot be started: {error.strerror}; set EDITOR") from None
        if code != 0:
            raise DeadLetterError(f"the editor {editor!r} ended with code {code}; nothing is sent")
        edited = path.read_bytes()
    return edited if payload.endswith(b"\n") else edited.removesuffix(b"\n")  # editors end the last line
