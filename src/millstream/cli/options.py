"""Arguments and options that several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_type_hints

import typer

T = TypeVar("T")

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


class Place(NamedTuple):
    """Which server a command asks, and as whom."""

    http: Server = None
    data: Data = None
    user: User = None
    password: Password = None
    config: Config = None


def asks_a_server(command: Callable[..., T]) -> Callable[..., T]:
    """A command whose first parameter is a `Place`, with the options that say which."""
    signature = inspect.signature(command, eval_str=True)
    kinds = get_type_hints(Place, include_extras=True)
    asked = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kinds[name])
        for name in Place._fields
    ]
    _, *own = signature.parameters.values()

    @functools.wraps(command)
    def with_options(**given: Any) -> T:
        place = Place(*(given.pop(name) for name in Place._fields))
        return command(place, **given)

    parameters = [*own, *asked]
    with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options
