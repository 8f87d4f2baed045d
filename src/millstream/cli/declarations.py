"""Every command with its arguments, options, help and example. No work is done here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from millstream.cli import certs, dead_letters, device_commands, devices, enrollments, jobs, keys, output, twins
from millstream.cli.options import (
    App,
    Config,
    Data,
    Http,
    Json,
    LogFormat,
    Mqtt,
    Password,
    Place,
    Server,
    Since,
    User,
    asks_a_server,
)

DEBUG = "MILLSTREAM_DEBUG"

commands = typer.Typer(
    help="An event-driven platform for devices: gateway, durable streams, processing and alerts.",
    epilog="Every command has --help, with an example. A setting comes from its option, else from MILLSTREAM_… in the "
    "environment, else from millstream.toml.",
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)
commands.add_typer(dead_letters.commands, name="deadletters")
commands.add_typer(devices.commands, name="devices")
commands.add_typer(enrollments.commands, name="enrollments")
commands.add_typer(twins.commands, name="twins")
commands.add_typer(device_commands.commands, name="commands")
commands.add_typer(jobs.commands, name="jobs")
commands.add_typer(keys.commands, name="keys")
commands.add_typer(certs.commands, name="certs")


@commands.callback()
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help=f"Tracebacks and more logs (also {DEBUG}=1).")] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        output.write_line(f"millstream {version_of('millstream')}")
        raise typer.Exit
    if debug:
        os.environ[DEBUG] = "1"  # the children see it too
    if context.invoked_subcommand is None:
        output.write_line(context.get_help())
        raise typer.Exit


@commands.command(epilog="Example: millstream run plant.py --data data --allow-anonymous")
def run(
    app: Annotated[
        str | None,
        typer.Argument(
            metavar="APP",
            show_default=False,
            help="The application: a file, a module, or either with :name. Without it, a stream 'events' captures "
            "every topic that does not begin with $.",
        ),
    ] = None,
    data: Data = None,
    mqtt: Mqtt = None,
    http: Http = None,
    allow_anonymous: Annotated[bool, typer.Option("--allow-anonymous", help="Let anybody in.")] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", help="Worker processes.", show_default="1", min=0, max=256)
    ] = None,
    log_format: LogFormat = None,
    config: Config = None,
) -> int:
    """Run the gateway, the log and the application's workers, until Ctrl-C or SIGTERM.

    Prints one line that begins with 'ready' when clients may connect; logs go to standard error.
    """
    from millstream.cli import serve

    return serve.run(
        app,
        config,
        data=data,
        mqtt=mqtt,
        http=http,
        allow_anonymous=allow_anonymous or None,
        workers=workers,
        logging=log_format and {"format": log_format},
    )


@commands.command(epilog="Example: millstream dev plant.py")
def dev(
    app: App,
    data: Data = None,
    mqtt: Mqtt = None,
    http: Http = None,
    allow_anonymous: Annotated[
        bool,
        typer.Option("--allow-anonymous", help="Let anybody in; so it is without users on a loopback address anyway."),
    ] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", help="Worker processes.", show_default="1", min=1, max=256)
    ] = None,
    config: Config = None,
) -> int:
    """Run an application while it is written: when a source file changes, workers with the new version take over.

    The server goes on, so clients stay connected, and the data stays. A version with an error in it is told, and the
    one before goes on.
    """
    from millstream.cli import serve

    return serve.dev(
        app, config, data=data, mqtt=mqtt, http=http, allow_anonymous=allow_anonymous or None, workers=workers
    )


@commands.command(epilog="Example: millstream work plant.py --data data")
def work(app: App, data: Data = None, log_format: LogFormat = None, config: Config = None) -> int:
    """Run one more worker beside a running server, on the same machine."""
    from millstream.cli import serve

    return serve.work(app, config, data=data, logging=log_format and {"format": log_format})


@commands.command(epilog="Example: millstream check plant.py")
def check(app: App, json: Json = False) -> int:
    """Find what is wrong in an application, without running it; 0 if nothing is, 1 otherwise.

    Prints everything at once, each with its file and line: wrong filters, signatures and queries, types that do not fit
    each other, handlers that are never called.
    """
    from millstream.cli import checking

    return checking.check(app, json)


@commands.command(epilog="Example: millstream asyncapi plant.py > asyncapi.json")
def asyncapi(
    app: Annotated[
        str | None,
        typer.Argument(metavar="APP", help="The application, as for check.", show_default="what devices say and hear"),
    ] = None,
) -> None:
    """Print an application's AsyncAPI 3.0 document as JSON: its channels, operations, messages and their schemas.
    Without an application, that of the topics of a device."""
    from millstream.cli import checking

    checking.asyncapi(app)


@commands.command(epilog="Example: millstream demo --for 30")
def demo(
    for_seconds: Annotated[
        float | None,
        typer.Option("--for", metavar="SECONDS", min=1, help="How long it takes.", show_default="60"),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(
            "--speed",
            metavar="FACTOR",
            min=0,
            help="How much faster than recorded.",
            show_default="all of it in the time",
        ),
    ] = None,
    log: Annotated[
        str | None,
        typer.Option(
            "--log",
            metavar="URL",
            help="Where the log is: kafka://HOST:PORT, with names of its own that are deleted at the end.",
            show_default="a temporary folder",
        ),
    ] = None,
) -> int:
    """Replay recorded machines, rooms and roads as devices, and watch windows raise alerts."""
    from millstream.cli import serve

    return serve.demo(for_seconds, speed, log)


@commands.command(epilog="Example: millstream simulate --devices 1000 --rate 0.5 --for 60")
def simulate(
    devices: Annotated[int, typer.Option("--devices", metavar="N", min=1, help="How many.")] = 100,
    rate: Annotated[float, typer.Option("--rate", metavar="N", min=0.001, help="Readings a second of each.")] = 1.0,
    profile: Annotated[
        Path | None,
        typer.Option(
            "--profile", metavar="FILE", help="What they measure and how they fail.", show_default="a machine"
        ),
    ] = None,
    prefix: Annotated[str, typer.Option("--prefix", metavar="TEXT", help="How their ids begin.")] = "sim-",
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of what is left to chance.")] = 0,
    for_seconds: Annotated[
        float | None, typer.Option("--for", metavar="SECONDS", min=1, help="How long.", show_default="until Ctrl-C")
    ] = None,
    mqtt: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Where.", show_default="that of the server on the data folder"),
    ] = None,
    data: Data = None,
    config: Config = None,
) -> None:
    """Simulate devices that register themselves with a group's key, in the variable MILLSTREAM_GROUP_KEY."""
    from millstream.cli import simulating

    simulating.simulate(devices, rate, profile, prefix, seed, for_seconds, mqtt, data, config)


@commands.command(epilog="Example: millstream publish site/a/press-1/telemetry '{\"celsius\": 91}'")
@asks_a_server
def publish(
    place: Place,
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Where to publish.")],
    payload: Annotated[
        str,
        typer.Argument(
            metavar="PAYLOAD | -", show_default=False, help="What to publish; - reads one event a line from stdin."
        ),
    ] = "",
    event_id: Annotated[
        str | None, typer.Option("--id", help="The event's id: one that the server has seen is not published again.")
    ] = None,
) -> None:
    """Publish an event, or one a line of standard input; returns when the server has it on disk."""
    from millstream.cli import publishing

    publishing.publish(topic, payload, event_id, place)


@commands.command(epilog="Example: millstream subscribe 'site/+/+/telemetry'")
def subscribe(
    topics: Annotated[str, typer.Argument(metavar="FILTER", help="A topic filter, with + and # as wildcards.")],
    json: Annotated[bool, typer.Option("--json", help="JSON lines: topic, and data or data_base64.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="End after N events.")] = None,
    mqtt: Server = None,
    data: Data = None,
    user: User = None,
    password: Password = None,
    config: Config = None,
) -> None:
    """Print what is published on matching topics from now on."""
    from millstream.cli import subscribing

    subscribing.subscribe(topics, json, limit, mqtt, data, user, password, config)


@commands.command(epilog="Example: millstream tail alerts --from 2026-01-01T00:00:00Z --follow --json")
def tail(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="A stream's name.")],
    start: Annotated[
        str,
        typer.Option("--from", metavar="earliest|latest|OFFSET|TIME", help="Where to begin: an offset, or RFC 3339."),
    ] = "earliest",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="JSON lines: stream, partition, offset, time, topic, key, id, and data, or data_base64 if the "
            "payload is no JSON.",
        ),
    ] = False,
    limit: Annotated[int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="End after N events.")] = None,
    data: Data = None,
    config: Config = None,
) -> None:
    """Print the events of a stream, in the order in which they were committed. Needs no server."""
    from millstream.cli import tailing

    tailing.tail(stream, start, follow, json, limit, data, config)


@commands.command(epilog="Example: millstream openapi > openapi.json")
def openapi() -> None:
    """Print the OpenAPI document of the HTTP API, as JSON. Needs no server."""
    from millstream.cli import describing

    describing.openapi()


@commands.command(epilog="Example: millstream audit --from 2026-01-01T00:00:00Z --follow")
def audit(
    start: Annotated[
        str,
        typer.Option("--from", metavar="earliest|latest|OFFSET|TIME", help="Where to begin: an offset, or RFC 3339."),
    ] = "earliest",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    json: Json = False,
    limit: Annotated[int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="End after N entries.")] = None,
    data: Data = None,
    config: Config = None,
) -> None:
    """Print the audit log: who changed what, who was refused, when and from where. Needs no server."""
    from millstream.cli import auditing

    auditing.audit(start, follow, json, limit, data, config)


@commands.command(epilog="Example: millstream streams --json")
def streams(json: Json = False, data: Data = None, config: Config = None) -> None:
    """Show the streams: what they capture, how much is in them. Needs no server."""
    from millstream.cli import overview

    overview.streams(json, data, config)


@commands.command(epilog="Example: millstream groups --json")
def groups(json: Json = False, data: Data = None, config: Config = None) -> None:
    """Show the consumer groups: members, lag, and what became of the events. Needs no server."""
    from millstream.cli import overview

    overview.groups(json, data, config)


@commands.command(epilog="Example: millstream status --data data")
def status(json: Json = False, data: Data = None, config: Config = None) -> None:
    """Show the server, its streams and its groups. Says so if no server runs."""
    from millstream.cli import overview

    overview.status(json, data, config)


@commands.command(epilog="Example: millstream ledger --since 12h")
def ledger(
    since: Since = None,
    traces: Annotated[
        int, typer.Option("--traces", metavar="N", min=0, help="Show the last N of what was rejected.")
    ] = 10,
    json: Json = False,
    data: Data = None,
    config: Config = None,
) -> int:
    """Show where every event ended, whether the counts balance, and what was set aside. Needs no server.

    Counts are of all time; dead letters, late events and rejected ones are since a moment, if one is given. Exit code
    1 says that counts do not balance.
    """
    from millstream.cli import accounting

    return accounting.ledger(since, traces, json, data, config)


@commands.command(epilog="Example: millstream explain telemetry:3:1042 --app plant.py")
def explain(
    what: Annotated[
        str, typer.Argument(metavar="EVENT_ID|STREAM:PARTITION:OFFSET", help="An event's id, or where it stands.")
    ],
    since: Since = None,
    app: Annotated[
        str | None,
        typer.Option("--app", metavar="APP", help="The application, to find the results of its queries."),
    ] = None,
    json: Json = False,
    data: Data = None,
    config: Config = None,
) -> None:
    """Show what happened to an event: where it stands, and what became of it in each group. Needs no server.

    An id is looked for in all streams, which takes as long as reading them; --since makes it shorter.
    """
    from millstream.cli import explaining

    explaining.explain(what, since, app, json, data, config)


@commands.command(epilog="Example: millstream backtest plant.py --from -30d --query overheating")
def backtest(
    app: App,
    queries: Annotated[
        list[str] | None,
        typer.Option("--query", metavar="NAME", help="Which query (may be repeated).", show_default="all"),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME|AGO", help="Since when: RFC 3339, or -12h, -30d.", show_default="all"),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME|AGO", help="Until when, likewise.", show_default="now")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=0, help="Show the last N results of each.")
    ] = 20,
    json: Annotated[
        bool, typer.Option("--json", help="Every result, and every one that is gone, as JSON lines.")
    ] = False,
    data: Data = None,
    config: Config = None,
) -> None:
    """Run an application's queries over what is stored, and show what they would have raised. Needs no server.

    Nothing is published and no position moves. Results that the version in force has published are compared: the same,
    changed, new, or gone.
    """
    from millstream.cli import backtesting

    backtesting.backtest(app, queries or [], start, end, limit, json, data, config)


@commands.command(epilog="Example: millstream shadow plant.py overheating-2")
def shadow(
    app: App,
    query: Annotated[str | None, typer.Argument(metavar="QUERY", help="Its name.", show_default="all")] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME|AGO", help="Since when.", show_default="it began"),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=0, help="Show the last N differences.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="Every difference as a JSON line.")] = False,
    data: Data = None,
    config: Config = None,
) -> None:
    """Show how queries that run as shadows differ from the ones in force. Needs no server."""
    from millstream.cli import shadowing

    shadowing.shadow(app, query, since, limit, json, data, config)


@commands.command(epilog="Example: millstream state plant.py overheating --key press-1")
def state(
    app: App,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A query's name, or that of a handler that has a State.")],
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help="Only what is kept of one key.")] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="Have the key begin anew: what is kept of it is let go, without a result.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=0, help="Show the first N.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="All of it, as JSON lines.")] = False,
    data: Data = None,
    config: Config = None,
) -> None:
    """Show the windows that a query has open, with their results so far, or what a handler keeps of each key.

    It is what was committed last. Needs no server, except to reset a key, which happens at one place in the stream:
    what came before it is forgotten, what comes behind it counts from there.
    """
    from millstream.cli import opened

    opened.state(app, name, key, reset, limit, json, data, config)


@commands.command("explain-query", epilog="Example: millstream explain-query plant.py overheating")
def explain_query(
    app: App,
    query: Annotated[str | None, typer.Argument(metavar="QUERY", help="Its name.", show_default="all")] = None,
) -> None:
    """Show how queries were understood: what they decode, compute and keep, and when windows close."""
    from millstream.cli import checking

    checking.explain_query(app, query)


@commands.command(epilog="Example: millstream grafana > millstream.json")
def grafana() -> None:
    """Print a Grafana dashboard over the server's metrics, as JSON to import."""
    from importlib.resources import files

    output.write_line(files("millstream.metrics").joinpath("grafana.json").read_text("utf-8").rstrip())


@commands.command(epilog="Example: millstream password >> passwords.txt")
def password() -> None:
    """Ask for a password, or read it from standard input, and print its hash for \\[users] in millstream.toml."""
    from millstream.cli import secret

    secret.password()
