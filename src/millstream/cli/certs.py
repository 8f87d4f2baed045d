"""The commands `millstream certs …`: see `declarations`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

commands = typer.Typer(
    help="Certificates for development and small sites: of an authority of your own, of servers and devices.",
    epilog="Example: millstream certs ca && millstream certs server localhost && millstream certs device press-1",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Folder = Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where the files are.")]


@commands.command(epilog="Example: millstream certs ca --name 'Plant 7' --days 3650")
def ca(
    name: Annotated[str, typer.Option("--name", metavar="TEXT", help="What it is called.")] = "Millstream",
    days: Annotated[
        int, typer.Option("--days", metavar="N", min=1, max=36_500, help="How long it is good for.")
    ] = 3_650,
    folder: Folder = Path("certs"),
) -> None:
    """Make an authority: ca.pem, which others trust, and ca.key, which signs. Keep the key secret."""
    from millstream.cli import certificates

    certificates.make_authority(folder, name, days)


@commands.command(epilog="Example: millstream certs server plant.example 192.0.2.7")
def server(
    hosts: Annotated[list[str], typer.Argument(metavar="HOST…", help="Names and addresses that clients dial.")],
    days: Annotated[int, typer.Option("--days", metavar="N", min=1, max=36_500, help="How long it is good for.")] = 397,
    folder: Folder = Path("certs"),
) -> None:
    """Make a server's certificate: server.pem and server.key, for the settings of a listener."""
    from millstream.cli import certificates

    certificates.make_server(folder, hosts, days)


@commands.command(epilog="Example: millstream certs device press-1 press-2")
def device(
    devices: Annotated[list[str], typer.Argument(metavar="DEVICE…", help="Devices' ids, or DEVICE/MODULE.")],
    days: Annotated[int, typer.Option("--days", metavar="N", min=1, max=36_500, help="How long it is good for.")] = 365,
    folder: Folder = Path("certs"),
) -> None:
    """Make devices' certificates: DEVICE.pem and DEVICE.key for each. Prints their thumbprints, a JSON line each."""
    from millstream.cli import certificates

    certificates.make_devices(folder, devices, days)
