"""Wrong declarations: raised where they stand, or gathered, for whoever wants to see all of them at once."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from millstream.errors import AppError

_gathered: ContextVar[list[str] | None] = ContextVar("millstream_problems", default=None)

_PLACE = re.compile(r"(?P<file>.+?):(?P<line>\d+): ")  # how every error of a declaration begins


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with an app, and the mend. `file` and `line` are None where it has no place in the user's code."""

    text: str
    file: str | None = None
    line: int | None = None

    @staticmethod
    def parse(told: str) -> Problem:
        """From the text of an `AppError`."""
        place = _PLACE.match(told)
        return Problem(told) if place is None else Problem(told[place.end() :], place["file"], int(place["line"]))


@contextlib.contextmanager
def gathered() -> Iterator[list[str]]:
    """Within it the errors of declarations are put into the list instead of being raised."""
    problems: list[str] = []
    before = _gathered.set(problems)
    try:
        yield problems
    finally:
        _gathered.reset(before)


@contextlib.contextmanager
def declaring(wrong: set[str] | None = None, name: str = "") -> Iterator[None]:
    """Around one declaration, which is left out if it is wrong and that is not raised: `wrong` then gets its name."""
    try:
        yield
    except AppError as error:
        problems = _gathered.get()
        if problems is None:
            raise
        problems.append(str(error))
        if wrong is not None:
            wrong.add(name)
