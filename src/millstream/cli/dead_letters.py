"""The commands `millstream deadletters …`: see `declarations`."""

from __future__ import annotations

from typing import Annotated

import typer

from millstream.cli.options import Config, Data, Json, Since

commands = typer.Typer(
    help="List, inspect, edit and send again the events that could not be processed.",
    epilog="Example: millstream deadletters list --since 12h",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Letters = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="LETTER…",
        show_default=False,
        help="Dead letters, as the list calls them; or STREAM:PARTITION:OFFSET, all those of an event.",
    ),
]
Letter = Annotated[
    str,
    typer.Argument(
        metavar="LETTER", help="A dead letter, as the list calls it; or STREAM:PARTITION:OFFSET, all those of an event."
    ),
]
OfGroup = Annotated[str | None, typer.Option("--group", "-g", metavar="NAME", help="Those that a group gave up.")]
OfReason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Those whose reason or error has it.")]
OfTopics = Annotated[str | None, typer.Option("--topic", metavar="FILTER", help="Those of matching topics.")]
AllOpen = Annotated[bool, typer.Option("--all", help="All that are open, and that the other options select.")]
To = Annotated[str | None, typer.Option("--to", metavar="GROUP", help="Another group than the one that gave it up.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@commands.command("list", epilog="Example: millstream deadletters list --group plant.check --since 12h")
def list_dead_letters(
    group: OfGroup = None,
    since: Since = None,
    reason: OfReason = None,
    topic: OfTopics = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that something was done about.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="The last N events.")] = 50,
    json: Json = False,
    data: Data = None,
    config: Config = None,
) -> None:
    """Show the dead letters that are open, the last ones last. Needs no server.

    What several groups gave up of an event for the same reason is one line."""
    from millstream.cli import letters

    wanted = letters.wanted(group, since, reason, topic)
    letters.show_list(wanted, every, limit, json, data, config)


@commands.command(epilog="Example: millstream deadletters show 3:17")
def show(letter: Letter, json: Json = False, data: Data = None, config: Config = None) -> None:
    """Show a dead letter: its payload, why it is there, and what was done about it. Needs no server."""
    from millstream.cli import letters

    letters.show(letter, json, data, config)


@commands.command(epilog="Example: millstream deadletters resend --all --group plant.check --since 12h")
def resend(
    named: Letters = None,
    every: AllOpen = False,
    group: OfGroup = None,
    since: Since = None,
    reason: OfReason = None,
    topic: OfTopics = None,
    to: To = None,
    payload: Annotated[
        str | None, typer.Option("--payload", metavar="FILE|-", help="Send this instead; - is standard input.")
    ] = None,
    yes: Yes = False,
    data: Data = None,
    config: Config = None,
) -> int:
    """Send dead letters to their group again, and to no other. Needs a running server."""
    from millstream.cli import letters, resolving

    chosen = resolving.Chosen(named or [], every, letters.wanted(group, since, reason, topic), yes)
    return resolving.resend(chosen, to, payload, data, config)


@commands.command(epilog="Example: EDITOR=nano millstream deadletters edit 3:17")
def edit(letter: Letter, to: To = None, data: Data = None, config: Config = None) -> int:
    """Edit a dead letter's payload in $VISUAL or $EDITOR, and send it to its group again. Needs a running server."""
    from millstream.cli import resolving

    return resolving.edit(letter, to, data, config)


@commands.command(epilog="Example: millstream deadletters drop 3:17 3:18")
def drop(
    named: Letters = None,
    every: AllOpen = False,
    group: OfGroup = None,
    since: Since = None,
    reason: OfReason = None,
    topic: OfTopics = None,
    yes: Yes = False,
    data: Data = None,
    config: Config = None,
) -> int:
    """Give dead letters up: they are not open any more. Needs a running server."""
    from millstream.cli import letters, resolving

    chosen = resolving.Chosen(named or [], every, letters.wanted(group, since, reason, topic), yes)
    return resolving.drop(chosen, data, config)
