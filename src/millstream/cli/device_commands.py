"""The commands `millstream commands …`: see `declarations`."""

from __future__ import annotations

from typing import Annotated

import typer

from millstream.cli.devices import Device
from millstream.cli.options import Place, asks_a_server

commands = typer.Typer(
    help="Commands that wait for devices: they take them when they come.",
    epilog='Example: millstream commands send press-1 \'{"valve": "close"}\'',
    context_settings={"help_option_names": ["-h", "--help"]},
)


@commands.command(epilog='Example: millstream commands send press-1 \'{"valve": "close"}\' --ttl 86400')
@asks_a_server
def send(
    place: Place,
    device: Device,
    payload: Annotated[
        str | None, typer.Argument(metavar="JSON", help="What it is to do.", show_default="null")
    ] = None,
    ttl: Annotated[
        int, typer.Option("--ttl", metavar="SECONDS", min=1, max=1_209_600, help="How long it may wait.")
    ] = 3_600,
) -> None:
    """Queue a command for a device, and show it."""
    from millstream.cli import registry

    registry.queue(device, payload, ttl, place)


@commands.command("list", epilog="Example: millstream commands list press-1")
@asks_a_server
def list_commands(place: Place, device: Device) -> None:
    """Show the commands that wait for a device, in order, a JSON object a line."""
    from millstream.cli import registry

    registry.show_queue(device, place)


@commands.command(epilog="Example: millstream commands purge press-1")
@asks_a_server
def purge(place: Place, device: Device) -> None:
    """Take all commands back that wait for a device."""
    from millstream.cli import registry

    registry.purge(device, place)
