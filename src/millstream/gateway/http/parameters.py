"""The parameters in a request's query, checked: what is misspelt or impossible is refused, never ignored."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection


class Parameters:
    """Those of a request. Refuses with 400 any that is not `known`."""

    def __init__(self, connection: HTTPConnection, *known: str) -> None:
        self._given: Mapping[str, str] = connection.query_params
        for name in self._given:
            if name not in known:
                there = ", ".join(known) or "none"
                raise HTTPException(400, f"there is no parameter {name!r} here; there are: {there}")

    def text(self, name: str) -> str | None:
        """As it was given."""
        return self._given.get(name)

    def integer(self, name: str, default: int, most: int) -> int:
        """A whole number from 1 to `most`."""
        text = self._given.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= most:
            raise HTTPException(400, f"{name}={text}: give a whole number from 1 to {most}")
        return int(text)

    def seconds(self, name: str, most: float) -> float:
        """Seconds from 0, which is the default, to `most`."""
        text = self._given.get(name)
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
        """`true` or `false`, which is the default."""
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
