"""The commands `millstream keys …`: see `declarations`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from millstream.cli.options import Json, Place, asks_a_server

commands = typer.Typer(
    help="Keys of the HTTP API, each with a role. Needs the right 'administer'.",
    epilog="Example: millstream keys create operator --note 'night shift'",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Key = Annotated[str, typer.Argument(metavar="KEY", help="The key's id, as in msk_ID_….")]


@commands.command("list", epilog="Example: millstream keys list")
@asks_a_server
def list_keys(
    place: Place,
    json: Json = False,
) -> None:
    """List all keys, without their secrets."""
    from millstream.cli import keying

    keying.show_list(json, place)


@commands.command(epilog="Example: millstream keys create device --device press-1")
@asks_a_server
def create(
    place: Place,
    role: Annotated[
        Literal["viewer", "operator", "admin", "device"],
        typer.Argument(help="viewer looks, operator also tells devices what to do, admin does everything."),
    ],
    device: Annotated[
        str | None, typer.Option("--device", help="Of a key with the role device: which one, or DEVICE/MODULE.")
    ] = None,
    note: Annotated[str | None, typer.Option("--note", help="For people.")] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME", help="When it ends, in RFC 3339.", show_default="never")
    ] = None,
) -> None:
    """Make a key, and show it; its secret is shown this once."""
    from millstream.cli import keying

    said = {"role": role, "device": device, "note": note, "expires": expires}
    keying.make(said, place)


@commands.command(epilog="Example: millstream keys revoke 0a1b2c3d4e5f")
@asks_a_server
def revoke(
    place: Place,
    key: Key,
) -> None:
    """Take a key away, at once."""
    from millstream.cli import keying

    keying.revoke(key, place)


@commands.command(epilog="Example: millstream keys rotate 0a1b2c3d4e5f --keep 3600")
@asks_a_server
def rotate(
    place: Place,
    key: Key,
    keep: Annotated[
        int, typer.Option("--keep", metavar="SECONDS", min=0, max=604_800, help="The former secret is good so long.")
    ] = 0,
) -> None:
    """Give a key another secret, and show it this once."""
    from millstream.cli import keying

    keying.rotate(key, keep, place)
