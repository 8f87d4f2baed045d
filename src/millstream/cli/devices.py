"""The commands `millstream devices …`: see `declarations`."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

import typer

from millstream.cli.options import Json, Place, asks_a_server

commands = typer.Typer(
    help="The registry of devices: who they are, how they come in, what is known of them. Needs the right 'manage'.",
    epilog='Example: millstream devices create press-1 --keys --tags \'{"site": "a"}\'',
    context_settings={"help_option_names": ["-h", "--help"]},
)

Device = Annotated[str, typer.Argument(metavar="DEVICE", help="A device's id, or DEVICE/MODULE.")]
Named = Annotated[list[str], typer.Argument(metavar="DEVICE…", help="Devices' ids, or DEVICE/MODULE.")]
Query = Annotated[
    str | None,
    typer.Argument(metavar="QUERY", show_default=False, help="Which: \"tags.site = 'a' AND NOT connected\"."),
]
Form = Annotated[
    Literal["ndjson", "csv"] | None,
    typer.Option("--format", help="A JSON object a line, or a table.", show_default="as the name ends, else ndjson"),
]
Tags = Annotated[str | None, typer.Option("--tags", metavar="JSON", help="An object; null takes a member away.")]
Status = Annotated[Literal["enabled", "disabled"] | None, typer.Option("--status", help="Whether it may connect.")]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why it has that status.")]
Secret = Annotated[
    str | None,
    typer.Option(
        "--device-password", metavar="TEXT|-", help="What it shows; - reads the first line of standard input."
    ),
]
Keys = Annotated[bool, typer.Option("--keys", help="Make two symmetric keys for it.")]
Thumbprint = Annotated[str | None, typer.Option("--thumbprint", metavar="HEX", help="Of the certificate it shows.")]


@commands.command("list", epilog="Example: millstream devices list \"tags.site = 'a' AND NOT connected\"")
@asks_a_server
def list_devices(
    place: Place,
    query: Query = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="The first N.")] = None,
    json: Json = False,
) -> None:
    """List the devices that a query selects, by id."""
    from millstream.cli import registry

    registry.show_list(query, limit, json, place)


@commands.command(epilog="Example: millstream devices show press-1")
@asks_a_server
def show(place: Place, device: Device) -> None:
    """Show a device, as JSON."""
    from millstream.cli import registry

    registry.show(device, place)


@commands.command(epilog='Example: millstream devices create press-1 --keys --tags \'{"site": "a"}\'')
@asks_a_server
def create(
    place: Place,
    device: Device,
    tags: Tags = None,
    secret: Secret = None,
    keys: Keys = False,
    thumbprint: Thumbprint = None,
    status: Status = None,
    reason: Reason = None,
) -> None:
    """Make a device, and show it with the keys that were made for it."""
    from millstream.cli import registry

    said = _said(tags, secret, keys, thumbprint, status, reason)
    registry.make(device, said, place)


@commands.command(epilog="Example: millstream devices update press-1 --status disabled --reason stolen")
@asks_a_server
def update(
    place: Place,
    device: Device,
    tags: Tags = None,
    secret: Secret = None,
    keys: Keys = False,
    thumbprint: Thumbprint = None,
    status: Status = None,
    reason: Reason = None,
) -> None:
    """Change what is said of a device; tags are merged. A device that is disabled is cut off at once."""
    from millstream.cli import registry

    said = _said(tags, secret, keys, thumbprint, status, reason)
    registry.change(device, said, place)


@commands.command(epilog="Example: millstream devices delete press-1 press-2")
@asks_a_server
def delete(place: Place, devices: Named) -> None:
    """Delete devices with their modules. They are cut off at once."""
    from millstream.cli import registry

    registry.delete(devices, place)


@commands.command(epilog="Example: millstream devices keys press-1")
@asks_a_server
def keys(place: Place, device: Device) -> None:
    """Show a device's symmetric keys."""
    from millstream.cli import registry

    registry.keys(device, False, place)


@commands.command(epilog="Example: millstream devices rotate press-1")
@asks_a_server
def rotate(place: Place, device: Device) -> None:
    """Make a new primary key for a device; the one before becomes the secondary. Shows both."""
    from millstream.cli import registry

    registry.keys(device, True, place)


@commands.command(epilog='Example: mosquitto_pub -u press-1 -P "$(millstream devices token press-1)" -t press-1/a -m 1')
@asks_a_server
def token(
    place: Place,
    device: Device,
    seconds: Annotated[
        int, typer.Option("--for", metavar="SECONDS", min=1, max=31_536_000, help="How long it is good for.")
    ] = 3_600,
) -> None:
    """Print a token that lets a device in, in the password's place, signed with its primary key."""
    from millstream.cli import registry

    registry.token(device, seconds, place)


@commands.command(epilog="Example: millstream devices call press-1 reboot '{\"delay\": 5}'")
@asks_a_server
def call(
    place: Place,
    device: Device,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="What it shall do.")],
    payload: Annotated[str | None, typer.Argument(metavar="JSON", help="What with.", show_default="nothing")] = None,
    timeout: Annotated[
        int, typer.Option("--timeout", metavar="SECONDS", min=1, max=300, help="How long it may take to answer.")
    ] = 30,
    wait: Annotated[
        int, typer.Option("--wait", metavar="SECONDS", min=0, max=300, help="For a device that is not there.")
    ] = 0,
) -> None:
    """Call a direct method on a device that is connected, and show its answer."""
    from millstream.cli import registry

    registry.call(device, method, payload, timeout, wait, place)


@commands.command("import", epilog="Example: millstream devices import devices.csv")
@asks_a_server
def import_devices(
    place: Place,
    source: Annotated[str, typer.Argument(metavar="FILE | -", help="The devices; - is standard input.")],
    form: Form = None,
) -> int:
    """Make or replace all devices of a file, as PUT does. Wrong lines are told and left out, and end it with 1."""
    from millstream.cli import device_transfer

    return device_transfer.import_devices(source, form, place)


@commands.command("export", epilog="Example: millstream devices export devices.ndjson --query \"tags.site = 'a'\"")
@asks_a_server
def export_devices(
    place: Place,
    target: Annotated[str, typer.Argument(metavar="FILE | -", help="Where to; - is standard output.")] = "-",
    query: Annotated[str | None, typer.Option("--query", metavar="QUERY", help="Which devices.")] = None,
    secrets: Annotated[bool, typer.Option("--secrets", help="With keys and password hashes.")] = False,
    form: Form = None,
) -> None:
    """Write devices and modules to a file, as import takes them."""
    from millstream.cli import device_transfer

    device_transfer.export_devices(target, form, query, secrets, place)


def _said(
    tags: str | None, secret: str | None, keys: bool, thumbprint: str | None, status: str | None, reason: str | None
) -> dict[str, Any]:
    """Options, as HTTP takes them."""
    from millstream.cli.lines import json_object

    credentials: dict[str, Any] = {"keys": {}} if keys else {}
    if secret is not None:
        credentials["password"] = secret if secret != "-" else sys.stdin.readline().rstrip("\r\n")  # noqa: S105
    if thumbprint is not None:
        credentials["thumbprints"] = {"primary": thumbprint}
    said = {
        "status": status,
        "status_reason": reason,
        "tags": json_object("--tags", tags),
        "credentials": credentials or None,
    }
    return {name: value for name, value in said.items() if value is not None}
