"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

App = Annotated[str, typer.Argument(metavar="APP", help="The application: a file, a module, or either with :name.")]
Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="The data folder.", show_default="data")]
Mqtt = Annotated[
    str | None, typer.Option("--mqtt", metavar="HOST:PORT", help="Where MQTT listens.", show_default="127.0.0.1:1883")
]
Http = Annotated[
    str | None, typer.Option("--http", metavar="HOST:PORT", help="Where HTTP listens.", show_default="127.0.0.1:8080")
]
Server = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT", help="The server's address.", show_default="that of the server on the data folder"
    ),
]
User = Annotated[
    str | None, typer.Option("--user", "-u", metavar="NAME", envvar="MILLSTREAM_USER", help="Who publishes or reads.")
]
Password = Annotated[
    str | None,
    typer.Option("--password", "-P", envvar="MILLSTREAM_PASSWORD", help="Better in the variable: others see options."),
]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The settings.", show_default="millstream.toml")
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME|AGO", help="Since when: RFC 3339, or 30m, 12h, 7d ago.", show_default="all"),
]
LogFormat = Annotated[
    Literal["text", "json"] | None,
    typer.Option("--log-format", help="Logs for people, or a JSON object a line.", show_default="text"),
]
Json = Annotated[bool, typer.Option("--json", help="JSON for scripts.")]
