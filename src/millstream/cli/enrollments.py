"""The commands `millstream enrollments …`: see `declarations`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from millstream.cli.devices import Reason, Status, Tags
from millstream.cli.options import Json, Place, asks_a_server
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

Allocate = Annotated[
    bool | None, typer.Option("--allocate/--no-allocate", help="Let the application decide about each device.")
]
Authority = Annotated[
    Path | None,
    typer.Option("--authority", metavar="FILE", help="PEM: whose certificate one of these has signed comes in by it."),
]


@commands.command("list", epilog="Example: millstream enrollments list")
@asks_a_server
def list_enrollments(place: Place, json: Json = False) -> None:
    """List all enrollments."""
    from millstream.cli import enrolling

    enrolling.show_list(json, place)


@commands.command(epilog="Example: millstream enrollments show line-3")
@asks_a_server
def show(place: Place, enrollment: Enrollment) -> None:
    """Show an enrollment, as JSON."""
    from millstream.cli import enrolling

    enrolling.show(enrollment, place)


@commands.command(epilog='Example: millstream enrollments create line-3 --tags \'{"site": "a"}\'')
@asks_a_server
def create(
    place: Place,
    enrollment: Enrollment,
    individual: Annotated[bool, typer.Option("--individual", help="For the device of this registration id.")] = False,
    thumbprint: Annotated[
        str | None, typer.Option("--thumbprint", help="Of that device's certificate: SHA-256 or SHA-1.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="That device's id, if it is another.")] = None,
    tags: Tags = None,
    desired: Desired = None,
    again: Again = None,
    authority: Authority = None,
    allocate: Allocate = None,
) -> None:
    """Make a group, or an individual enrollment, and show it with its keys."""
    from millstream.cli import enrolling

    thumbprints = None if thumbprint is None else {"primary": thumbprint}
    said = {"kind": "individual" if individual else "group", "device": device, "thumbprints": thumbprints}
    said |= {"allocate": allocate} | _said(tags, desired, again, authority)
    enrolling.make(enrollment, said, place)


@commands.command(epilog="Example: millstream enrollments update line-3 --status disabled --devices")
@asks_a_server
def update(
    place: Place,
    enrollment: Enrollment,
    tags: Tags = None,
    desired: Desired = None,
    again: Again = None,
    authority: Authority = None,
    allocate: Allocate = None,
    status: Status = None,
    reason: Reason = None,
    devices: Annotated[
        bool, typer.Option("--devices", help="With --status disabled: disable its devices too, which cuts them off.")
    ] = False,
) -> None:
    """Change what is said of an enrollment. Its devices stay as they are, unless --devices says otherwise."""
    from millstream.cli import enrolling

    said = {"status": status, "status_reason": reason, "allocate": allocate, **_said(tags, desired, again, authority)}
    enrolling.change(enrollment, said, devices, place)


@commands.command(epilog="Example: millstream enrollments delete line-3")
@asks_a_server
def delete(place: Place, enrollment: Enrollment) -> None:
    """Delete an enrollment. Its devices stay."""
    from millstream.cli import enrolling

    enrolling.delete(enrollment, place)


@commands.command(epilog="Example: millstream enrollments keys line-3 --for press-1")
@asks_a_server
def keys(
    place: Place,
    enrollment: Enrollment,
    registration: Annotated[
        str | None, typer.Option("--for", metavar="ID", help="Those that the device of this registration id has.")
    ] = None,
    rotate: Annotated[bool, typer.Option("--rotate", help="Make a new primary key first.")] = False,
) -> None:
    """Show an enrollment's keys, or those of one of its devices."""
    from millstream.cli import enrolling

    enrolling.keys(enrollment, registration, rotate, place)


def _said(tags: str | None, desired: str | None, again: str | None, authority: Path | None) -> dict[str, Any]:
    from millstream.cli.lines import json_object
    from millstream.errors import SettingsError

    said = {"tags": json_object("--tags", tags), "desired": json_object("--desired", desired), "again": again}
    if authority is not None:
        try:
            said["authority"] = authority.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"--authority {authority}: {error}") from None
    return said
