"""The commands `millstream jobs …`: see `declarations`."""

from __future__ import annotations

import json as json_format
from typing import Annotated, Any

import typer

from millstream.cli.devices import Tags
from millstream.cli.options import Json, Place, asks_a_server
from millstream.cli.twins import Desired

commands = typer.Typer(
    help="Jobs: the same done to all devices that a query selects.",
    epilog="Example: millstream jobs call \"tags.site = 'a'\" reboot --wait",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Query = Annotated[str, typer.Argument(metavar="QUERY", help="Which devices; an empty text is all.")]
Job = Annotated[str, typer.Argument(metavar="JOB", help="Its id.")]
Concurrency = Annotated[int, typer.Option("--concurrency", metavar="N", min=1, max=1_000, help="Devices at a time.")]
Start = Annotated[str | None, typer.Option("--start", metavar="TIME", help="When, in RFC 3339.", show_default="now")]
Wait = Annotated[bool, typer.Option("--wait", help="Show how far it is until it has ended; 1 if any device failed.")]


@commands.command(epilog="Example: millstream jobs call \"tags.site = 'a'\" reboot '{\"delay\": 5}' --attempts 3")
@asks_a_server
def call(
    place: Place,
    query: Query,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="The direct method.")],
    payload: Annotated[str | None, typer.Argument(metavar="JSON", help="What with.", show_default="null")] = None,
    attempts: Annotated[
        int, typer.Option("--attempts", metavar="N", min=1, max=20, help="For devices that are not there.")
    ] = 1,
    retry_seconds: Annotated[float, typer.Option("--retry", metavar="SECONDS", help="Between attempts.")] = 60.0,
    concurrency: Concurrency = 50,
    start: Start = None,
    wait: Wait = False,
) -> int:
    """Call a direct method on all devices of a query."""
    from millstream.cli import jobbing
    from millstream.errors import SettingsError

    try:
        content = None if payload is None else json_format.loads(payload)
    except ValueError as error:
        raise SettingsError(f"the payload {payload} is no JSON: {error}") from None
    said: dict[str, Any] = {"method": {"name": method, "payload": content}, "attempts": attempts}
    said |= {"retry_seconds": retry_seconds, **_common(query, concurrency, start)}
    return jobbing.make(said, wait, place)


@commands.command(
    epilog='Example: millstream jobs twin "reported.firmware < \'2.0\'" --desired \'{"firmware": "2.0"}\''
)
@asks_a_server
def twin(
    place: Place,
    query: Query,
    desired: Desired = None,
    tags: Tags = None,
    concurrency: Concurrency = 50,
    start: Start = None,
    wait: Wait = False,
) -> int:
    """Change the twins of all devices of a query."""
    from millstream.cli import jobbing
    from millstream.cli.lines import json_object

    change = {"desired": json_object("--desired", desired), "tags": json_object("--tags", tags)}
    said = {"twin": {name: its for name, its in change.items() if its is not None}}
    said |= _common(query, concurrency, start)
    return jobbing.make(said, wait, place)


@commands.command("list", epilog="Example: millstream jobs list")
@asks_a_server
def list_jobs(place: Place, json: Json = False) -> None:
    """List the latest jobs."""
    from millstream.cli import jobbing

    jobbing.show_list(json, place)


@commands.command(epilog="Example: millstream jobs show 0a1b2c3d4e5f6071 --devices failed")
@asks_a_server
def show(
    place: Place,
    job: Job,
    devices: Annotated[
        str | None,
        typer.Option("--devices", metavar="OUTCOME", help="Its devices of that outcome instead, a JSON object a line."),
    ] = None,
) -> None:
    """Show how far a job is, or some of its devices."""
    from millstream.cli import jobbing

    jobbing.show(job, devices, place)


@commands.command(epilog="Example: millstream jobs cancel 0a1b2c3d4e5f6071")
@asks_a_server
def cancel(place: Place, job: Job) -> None:
    """Do nothing more for devices that wait, and show what became of the others."""
    from millstream.cli import jobbing

    jobbing.cancel(job, place)


def _common(query: str, concurrency: int, start: str | None) -> dict[str, Any]:
    return {"query": query or None, "concurrency": concurrency, "start": start}
