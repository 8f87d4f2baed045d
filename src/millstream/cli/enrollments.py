"""The commands `millstream enrollments …`: see `declarations`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from millstream.cli.devices import Reason, Status, Tags
from millstream.cli.options import Config, Data, Json, Password, Server, User
from millstream.cli.twins import Desired

commands = typer.Typer(
    help="Enrollments: how devices come into the registry by themselves.",
    epilog='Example: millstream enrollments create line-3 --tags \'{"site": "a"}\'',
    context_settings={"help_option_names": ["-h", "--help"]},
)

Enrollment = Annotated[str, typer.Argument(metavar="ENROLLMENT", help="A group's id, or a registration id.")]
Again = Annotated[
    Literal["keep", "reset", "refuse"] | None,
    typer.Option("--again", help="What becomes of a device that registers again.", show_default="keep"),
]


@commands.command("list", epilog="Example: millstream enrollments list")
def list_enrollments(
    json: Json = False,
    http: Server = None,
    data: Data = None,
    user: User = None,
    password: Password = None,
    config: Config = None,
) -> None:
    """List all enrollments."""
    from millstream.cli import enrolling, registry

    enrolling.show_list(json, registry.Place(http, data, user, password, config))


@commands.command(epilog="Example: millstream enrollments show line-3")
def show(
    enrollment: Enrollment,
    http: Server = None,
    data: Data = None,
    user: User = None,
    password: Password = None,
    config: Config = None,
) -> None:
    """Show an enrollment, as JSON."""
    from millstream.cli import enrolling, registry

    enrolling.show(enrollment, registry.Place(http, data, user, password, config))


@commands.command(epilog='Example: millstream enrollments create line-3 --tags \'{"site": "a"}\'')
def create(
    enrollment: Enrollment,
    individual: Annotated[bool, typer.Option("--individual", help="For the device of this registration id.")] = False,
    device: Annotated[str | None, typer.Option("--device", help="That device's id, if it is another.")] = None,
    tags: Tags = None,
    desired: Desired = None,
    again: Again = None,
    http: Server = None,
    data: Data = None,
    user: User = None,
    password: Password = None,
    config: Config = None,
) -> None:
    """Make a group, or an individual enrollment, and show it with its keys."""
    from millstream.cli import enrolling, registry

    said = {"kind": "individual" if individual else "group", "device": device}
    said |= _said(tags, desired, again)
    enrolling.make(enrollment, said, registry.Place(http, data, user, password, config))


@commands.command(epilog="Example: millstream enrollments update line-3 --status disabled --devices")
def update(
    enrollment: Enrollment,
    tags: Tags = None,
    desired: Desired = None,
    again: Again = None,
    status: Status = None,
    reason: Reason = None,
    devices: Annotated[
        bool, typer.Option("--devices", help="With --status disabled: disable its devices too, which cuts them off.")
    ] = False,
    http: Server = None,
    data: Data = None,
    user: User = None,
    password: Password = None,
    config: Config = None,
) -> None:
    """Change what is said of an enrollment. Its devices stay as they are, unless --devices says otherwise."""
    from millstream.cli import enrolling, registry

    said = {"status": status, "status_reason": reason, **_said(tags, desired, again)}
    enrolling.change(enrollment, said, devices, registry.Place(http, data, user, password, config))


@commands.command(epilog="Example: millstream enrollments delete line-3")
def delete(
    enrollment: Enrollment,
    http: Server = None,
    data: Data = None,
    user: User = None,
    password: Password = None,
    config: Config = None,
) -> None:
    """Delete an enrollment. Its devices stay."""
    from millstream.cli import enrolling, registry

    enrolling.delete(enrollment, registry.Place(http, data, user, password, config))


@commands.command(epilog="Example: millstream enrollments keys line-3 --for press-1")
def keys(
    enrollment: Enrollment,
    registration: Annotated[
        str | None, typer.Option("--for", metavar="ID", help="Those that the device of this registration id has.")
    ] = None,
    rotate: Annotated[bool, typer.Option("--rotate", help="Make a new primary key first.")] = False,
    http: Server = None,
    data: Data = None,
    user: User = None,
    password: Password = None,
    config: Config = None,
) -> None:
    """Show an enrollment's keys, or those of one of its devices."""
    from millstream.cli import enrolling, registry

    enrolling.keys(enrollment, registration, rotate, registry.Place(http, data, user, password, config))


def _said(tags: str | None, desired: str | None, again: str | None) -> dict[str, Any]:
    from millstream.cli.lines import json_object

    return {"tags": json_object("--tags", tags), "desired": json_object("--desired", desired), "again": again}
