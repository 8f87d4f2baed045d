"""Where in the user's code something was declared, so that an error can point there."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType


@dataclass(frozen=True, slots=True)
class Place:
    """A line of the user's code; as text `plant.py:12`, relative to the working folder where that is shorter."""

    file: str
    line: int

    def __str__(self) -> str:
        path = Path(self.file)
        if path.is_relative_to(Path.cwd()):
            path = path.relative_to(Path.cwd())
        return f"{path}:{self.line}"


def caller(depth: int) -> FrameType:
    """The frame `depth` calls above the function that asks (1: its caller)."""
    return sys._getframe(depth + 1)


def place_of(frame: FrameType) -> Place:
    """The line that the frame is at."""
    return Place(frame.f_code.co_filename, frame.f_lineno)
