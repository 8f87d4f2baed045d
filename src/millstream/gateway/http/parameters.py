"""The parameters in a request's query: declared, and checked by that. What is misspelt or impossible is refused, never
ignored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection


class Query(NamedTuple):
    """A parameter in the query, with its JSON Schema."""

    name: str
    text: str
    schema: Mapping[str, Any]


def text(name: str, says: str) -> Query:
    """Any text."""
    return Query(name, says, {"type": "string"})


def number(name: str, says: str, default: int, most: int) -> Query:
    """A whole number from 1."""
    return Query(name, says, {"type": "integer", "minimum": 1, "maximum": most, "default": default})


def seconds(name: str, says: str, most: float) -> Query:
    """Seconds from 0, which is the default."""
    return Query(name, says, {"type": "number", "minimum": 0, "maximum": most, "default": 0})


def flag(name: str, says: str) -> Query:
    """`true` or `false`, which is the default."""
    return Query(name, says, {"type": "boolean", "default": False})


FROM = text("from", "Where to begin: an offset or positions, a time, `earliest` or `latest`.")
PARTITION = Query("partition", "Only this one.", {"type": "integer", "minimum": 0})
ATTRIBUTES = flag("attributes", "With all attributes of each event.")


def paging(most: int, default: int = 100) -> tuple[Query, Query]:
    """The usual two."""
    return (
        text("after", "The last one of the page before, as its `next` says."),
        number("limit", "At most so many.", default, most),
    )


class Parameters:
    """Those of a request that were `declared`. Refuses with 400 any other (None: all are let pass)."""

    def __init__(self, connection: HTTPConnection, declared: Sequence[Query] | None) -> None:
        self._given: Mapping[str, str] = connection.query_params
        self._schemas = {each.name: each.schema for each in declared or ()}
        for name in self._given if declared is not None else ():
            if name not in self._schemas:
                there = ", ".join(self._schemas) or "none"
                raise HTTPException(400, f"there is no parameter {name!r} here; there are: {there}")

    def text(self, name: str) -> str | None:
        """As it was given."""
        return self._given.get(name)

    def integer(self, name: str) -> int:
        """A `number`."""
        text, schema = self._given.get(name), self._schemas[name]
        default, most = int(schema["default"]), int(schema["maximum"])
        if text is None:
            return default
        if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= most:
            raise HTTPException(400, f"{name}={text}: give a whole number from 1 to {most}")
        return int(text)

    def seconds(self, name: str) -> float:
        """As many as were given."""
        text, most = self._given.get(name), float(self._schemas[name]["maximum"])
        if text is None:
            return 0.0
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= most:
            raise HTTPException(400, f"{name}={text}: give seconds from 0 to {most:g}; then ask again")
        return seconds

    def flag(self, name: str) -> bool:
        """Whether it was said."""
        text = self._given.get(name, "false")
        if text not in ("true", "false"):
            raise HTTPException(400, f"{name}={text}: say true or false")
        return text == "true"

    def partition(self) -> int | None:
        """The number of a partition, if one is given."""
        text = self._given.get("partition")
        if text is not None and not (text.isascii() and text.isdecimal()):
            raise HTTPException(400, f"partition={text}: give the number of a partition, from 0")
        return None if text is None else int(text)
