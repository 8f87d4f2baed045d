"""The commands `millstream twins …`: see `declarations`."""

from __future__ import annotations

from typing import Annotated

import typer

from millstream.cli.devices import Device, Tags
from millstream.cli.options import Place, asks_a_server

commands = typer.Typer(
    help="Devices' twins: what they should be (desired), and what they say that they are (reported).",
    epilog="Example: millstream twins update press-1 --desired '{\"speed\": 3}'",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Desired = Annotated[
    str | None, typer.Option("--desired", metavar="JSON", help="What it should be; null takes a member away.")
]


@commands.command(epilog="Example: millstream twins show press-1")
@asks_a_server
def show(place: Place, device: Device) -> None:
    """Show a device's twin, as JSON."""
    from millstream.cli import registry

    registry.show_twin(device, place)


@commands.command(epilog='Example: millstream twins update press-1 --desired \'{"speed": 3, "mode": null}\'')
@asks_a_server
def update(
    place: Place,
    device: Device,
    desired: Desired = None,
    tags: Tags = None,
    replace: Annotated[bool, typer.Option("--replace", help="In place of what there is, and not merged.")] = False,
) -> None:
    """Change what a device should be, and its tags. The device is told at once, or when it comes."""
    from millstream.cli import registry
    from millstream.cli.lines import json_object

    said = {"desired": json_object("--desired", desired), "tags": json_object("--tags", tags)}
    registry.change_twin(device, said, replace, place)
